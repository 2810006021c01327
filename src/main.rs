//! The binary: arguments, logging, run, exit code.

use std::process::ExitCode;

use waveflow_sync_agent::cli;
use waveflow_sync_agent::config::Environment;
use waveflow_sync_agent::exit::Exit;
use waveflow_sync_agent::seal;

fn main() -> ExitCode {
    seal::seal();
    // A panic is our bug and has its own code; where it was is on stderr by then.
    let exit = std::panic::catch_unwind(|| cli::run(std::env::args_os(), &Environment::of_process()));
    exit.unwrap_or(Exit::Bug).into()
}
