//! The bench's own sums: what is counted wrong would be shown in a table and believed.
//!
//! A bench with a `main` of its own has no tests, so its files are taken in here; `cargo test` also runs the bench
//! itself, in a small way.
#![allow(dead_code, reason = "what only measures is not called from here")]

#[path = "../../benches/drain/daemon.rs"]
mod daemon;
#[path = "../../benches/drain/delay.rs"]
mod delay;
#[path = "../../benches/drain/echo.rs"]
mod echo;
#[path = "../../benches/drain/footprint.rs"]
mod footprint;
#[path = "../../benches/drain/ground.rs"]
mod ground;
#[path = "../../benches/drain/loops.rs"]
mod loops;
#[path = "../../benches/drain/machine.rs"]
mod machine;
#[path = "../../benches/drain/neighbour.rs"]
mod neighbour;
#[path = "../../benches/drain/numbers.rs"]
mod numbers;
#[path = "../../benches/drain/options.rs"]
mod options;
#[path = "../../benches/drain/picture.rs"]
mod picture;
#[path = "../../benches/drain/process.rs"]
mod process;
#[path = "../../benches/drain/readme.rs"]
mod readme;
#[path = "../../benches/drain/results.rs"]
mod results;
#[path = "../../benches/drain/scan.rs"]
mod scan;
#[path = "../../benches/drain/tables.rs"]
mod tables;
#[path = "../../benches/drain/thresholds.rs"]
mod thresholds;
#[path = "../../benches/drain/throughput.rs"]
mod throughput;

mod server;
mod shown;
mod sums;
