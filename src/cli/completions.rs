//! `completions`: what a shell needs to complete our command line, out of its definition.
//!
//! What must always hold: every command and flag that `--help` shows is in it, and nothing that it hides.

use clap_complete::{Shell, generate};

use super::told;
use crate::exit::Exit;

/// The shells that are known.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// What they are called on the command line.
pub(super) const NAMES: [&str; 3] = ["bash", "zsh", "fish"];

/// Prints the script.
pub(super) fn run(shell: &str) -> Exit {
    match NAMES.iter().zip(SHELLS).find(|(name, _)| **name == shell) {
        Some((_, shell)) => super::answer(&script(shell), Exit::Done),
        None => Exit::Usage,
    }
}

fn script(shell: Shell) -> String {
    let (name, mut script) = (env!("CARGO_PKG_NAME"), Vec::new());
    if shell != Shell::Bash {
        generate(shell, &mut told(), name, &mut script);
        return String::from_utf8_lossy(&script).into_owned();
    }
    // A hyphen in the name keeps clap_complete's bash from completing anything behind a command (clap-rs/clap#6421); it
    // is made without, and the shell told of the right one, which is the last word of a line.
    let plain = name.replace('-', "_");
    generate(shell, &mut told(), &plain, &mut script);
    String::from_utf8_lossy(&script).replace(&format!(" {plain}\n"), &format!(" {name}\n"))
}
