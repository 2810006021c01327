//! Who drains a queue how fast, and what the app and the machine feel of it: `cargo bench`.
//!
//! Everything is measured side by side, in one run: the agent, bare loops that send and delete and do nothing else, and
//! what a user would write instead. The server only echoes. The figures end as tables on the terminal, as JSON below
//! `target/`, and with `--write` in the README, with a picture. `benches/README.md` tells what each figure is.
//!
//! What must always hold: a drain that went wrong has no figure and ends the bench with 1, while a figure that is worse
//! than hoped for does not; traffic goes to loopback only; nothing outside temporary directories, `target/` and, if
//! asked, the README is touched; every process that is started here is ended here.
//!
//! Reading order: [`measure`] here; `echo.rs` and `scan.rs`, the server; `ground.rs`, the queues; `loops.rs`, the bare
//! loops; `process.rs`, a process and what it cost. Then the parts: `throughput.rs`, `delay.rs`, `neighbour.rs` and
//! `footprint.rs`, the last three with `daemon.rs`. What is made of it: `results.rs`, `numbers.rs`, `thresholds.rs`,
//! `tables.rs`, `picture.rs`, `readme.rs`. The sums are tested in `tests/benches`, since a bench with a `main` of its
//! own has no tests; run by `cargo test` it measures everything once, in a small way, and shows no figure.

#[path = "drain/daemon.rs"]
mod daemon;
#[path = "drain/delay.rs"]
mod delay;
#[path = "drain/echo.rs"]
mod echo;
#[path = "drain/footprint.rs"]
mod footprint;
#[path = "drain/ground.rs"]
mod ground;
#[path = "drain/loops.rs"]
mod loops;
#[path = "drain/machine.rs"]
mod machine;
#[path = "drain/neighbour.rs"]
mod neighbour;
#[path = "drain/numbers.rs"]
mod numbers;
#[path = "drain/options.rs"]
mod options;
#[path = "drain/picture.rs"]
mod picture;
#[path = "drain/process.rs"]
mod process;
#[path = "drain/readme.rs"]
mod readme;
#[path = "drain/results.rs"]
mod results;
#[path = "drain/scan.rs"]
mod scan;
#[path = "drain/tables.rs"]
mod tables;
#[path = "drain/thresholds.rs"]
mod thresholds;
#[path = "drain/throughput.rs"]
mod throughput;

use std::process::ExitCode;
use std::time::Instant;

use ground::Original;
use loops::REFERENCE;
use options::{Options, Scale};
use results::{Results, Setting};
use testkit::Result;
use throughput::{Contestant, contestants};

fn main() -> ExitCode {
    match loops::run_as_loop().unwrap_or_else(bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what is asked for, and tells.
fn bench() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::of(&arguments)?;
    if !cfg!(target_os = "linux") {
        println!("skipped: what a process costs is read from /proc, which only Linux has");
        return Ok(());
    }
    let results = if options.again { Results::load()? } else { measure(&options)? };
    let (report, picture) = (tables::report(&results), picture::picture(&results));
    if options.is_smoke() {
        println!("Every part of the bench works. The figures would be those of a few ops and of a debug build.");
        return Ok(());
    }
    println!("\n{report}");
    if options.write {
        readme::write(&report, picture.as_deref())?;
        println!("Written into README.md and benches/figures.svg.");
    }
    Ok(())
}

/// Part for part, in the order of the tables.
fn measure(options: &Options) -> Result<Results> {
    let (scale, began) = (&options.scale, Instant::now());
    let mut results = Results { machine: machine::look()?, complete: options.is_complete(), ..Results::default() };
    let step = |part: &str| {
        let wanted = options.wants(part);
        if wanted {
            println!("{:4} s  {part}", began.elapsed().as_secs());
        }
        wanted
    };
    // Made at the first use: not every part needs one.
    let queue = std::cell::OnceCell::new();
    let full = || match queue.get() {
        Some(queue) => Ok(queue),
        None => Original::new(scale.ops).map(|made| queue.get_or_init(|| made)),
    };
    if step("throughput-100k") {
        near(&mut results, full()?, scale)?;
    }
    if step("throughput-1m") {
        let many = Original::new(scale.many)?;
        let both = contestants(Setting::Many);
        results.contests.extend(throughput::contest(Setting::Many, &both, &many, None, scale.rounds)?);
    }
    if step("throughput-20ms") {
        let far = contestants(Setting::Far);
        results.contests.extend(throughput::contest(Setting::Far, &far, full()?, None, scale.rounds)?);
    }
    if step("delay") {
        results.delays = delay::delays(&scale.rates)?;
    }
    if step("neighbour") {
        results.neighbours = vec![
            neighbour::alone(full()?, scale.alone)?,
            neighbour::beside(Contestant::Agent, full()?, scale.drains)?,
            neighbour::beside(Contestant::Bare(REFERENCE), full()?, scale.reference_drains)?,
        ];
    }
    if step("footprint") {
        results.footprint = Some(footprint::weigh(full()?, scale.rest, scale.settle, scale.starts)?);
    }
    println!("{:4} s  in all; kept in {}", began.elapsed().as_secs(), results.save()?.display());
    Ok(results)
}

/// The setting in which everybody takes part who can.
fn near(results: &mut Results, queue: &Original, scale: &Scale) -> Result<()> {
    let mut able = Vec::new();
    for contestant in contestants(Setting::Near) {
        match contestant.missing() {
            None => able.push(contestant),
            Some(words) => results.skipped.push(words),
        }
    }
    let short = Original::new(scale.short)?;
    results.contests.extend(throughput::contest(Setting::Near, &able, queue, Some(&short), scale.rounds)?);
    Ok(())
}
