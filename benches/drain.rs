//! draft
#[path = "drain/echo.rs"]
mod echo;
#[path = "drain/ground.rs"]
mod ground;
#[path = "drain/loops.rs"]
mod loops;
#[path = "drain/process.rs"]
mod process;
#[path = "drain/scan.rs"]
mod scan;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::Result;

fn main() -> ExitCode {
    let r = match loops::run_as_loop() {
        Some(r) => r,
        None => bench(),
    };
    match r {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let n: usize = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(100_000);
    let echo = echo::Echo::start(Duration::ZERO)?;
    let began = Instant::now();
    let original = ground::Original::new(n)?;
    println!("made in {:?}", began.elapsed());
    let all = n <= 200_000;
    for round in 0..if all { 2 } else { 1 } {
        println!("round {round}");
        let run = |name: &str, make: &dyn Fn(&ground::Install) -> Result<std::process::Command>| -> Result<()> {
            let began = Instant::now();
            let install = original.copy(&echo)?;
            let copied = began.elapsed();
            let cost = process::measure(&mut make(&install)?)?;
            let ledger = echo.take();
            install.verify(&original.ids, &ledger.ids)?;
            println!(
                "{name:50} {:>9.0} ops/s {:?} requests {} copied {copied:?}",
                n as f64 / cost.took.as_secs_f64(),
                cost,
                ledger.requests.len()
            );
            Ok(())
        };
        run("agent", &|i| Ok(i.agent(&["once", "--wait", "600s"])))?;
        for l in loops::LOOPS {
            if all || l == loops::REFERENCE {
                run(l.name, &|i| l.command(i.data()))?;
            }
        }
    }
    Ok(())
}
