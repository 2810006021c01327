//! Memory does not grow with the queue.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use testkit::data_dir::Generation;
use testkit::ops::Mix;
use testkit::server::{Fault, Server, Version};

use crate::common::Stage;

/// A queue of a few batches.
const SHORT: usize = 4_000;
/// Ten times as long, some 16 MB of payloads.
const LONG: usize = 40_000;
/// What the long one may cost more, in kB: what is acknowledged and not settled, and what the allocator keeps.
const MORE_KB: u64 = 6_000;

/// The most memory the agent had, in kB, when it sent the last batch of `ops` ops.
fn peak(ops: usize) -> u64 {
    let server = Server::start(Version::Later).unwrap();
    let stage = Stage::with(Generation::Three, &server);
    let profile = stage.profile("Zoë", "alice");
    let all: Vec<_> = Mix::new(2).without_large().take(ops).collect();
    profile.enqueue(&all).unwrap();
    let last = all.last().unwrap().operation_id.to_string();
    server.when(Some(1), Fault::HoldAfterStore, move |seen| seen.operation_ids.contains(&last));
    let agent = stage.start(&["--json", "once", "--wait", "60s"]);
    assert!(server.wait_until_held(Duration::from_secs(60)));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    server.release();
    agent.finish().ended_with(0);
    assert_eq!(server.stored().len(), ops);
    peak
}

#[test]
fn a_queue_ten_times_as_long_takes_no_more_memory() {
    let (short, long) = (peak(SHORT), peak(LONG));
    assert!(long < short + MORE_KB, "{short} kB for {SHORT} rows, {long} kB for {LONG}");
    eprintln!("{short} kB, {long} kB");
}
