//! Percentiles, `/proc`, and what counts in a span.

use std::time::{Duration, Instant};

use super::delay::{between, spread};
use super::echo::Ledger;
use super::footprint::switches_in;
use super::machine::{filesystem, version};
use super::neighbour::{Act, End, sum_up};
use super::numbers::{bytes, median, memory, percentile, rate, short, thousands};
use super::process::{number_in, processor_in};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_percentile_is_a_value_that_was_measured() {
    let hundred: Vec<u32> = (1..=100).rev().collect();
    assert_eq!([1, 500, 990, 995, 1000].map(|of| percentile(&hundred, of).unwrap()), [1, 50, 99, 100, 100]);
    assert_eq!((median(&[3, 1, 2]), median(&[7]), median::<u8>(&[])), (Some(2), Some(7), None));
    assert_eq!(percentile(&[5, 9], 990), Some(9));
}

#[test]
fn numbers_are_written_with_as_many_digits_as_they_are_good_for() {
    assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([58_712.0, 585_499.0, 3_942.0, 712.4].map(rate), ["58,700", "585,000", "3,940", "712"]);
    assert_eq!([23.4, 7.84, 0.427, 0.0].map(short), ["23", "7.8", "0.43", "0.00"]);
    assert_eq!([0, 512, 61_768_089_600].map(bytes), ["0 B", "512 B", "62 GB"]);
    assert_eq!(memory(7372), "7.2 MiB");
}

#[test]
fn proc_is_read_by_its_keys() {
    let status = "Name:\twave\nVmHWM:\t   11108 kB\nVmRSS:\t   9000 kB\nThreads:\t2\n\
                  voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t5\n";
    assert_eq!(number_in(status, "VmHWM"), Some(11108));
    assert_eq!((number_in(status, "Threads"), number_in(status, "Vm")), (Some(2), None));
    assert_eq!(switches_in(status), 12);
    let io = "rchar: 1\nwrite_bytes: 838963200\ncancelled_write_bytes: 4096\n";
    assert_eq!(number_in(io, "write_bytes"), Some(838_963_200));
}

#[test]
fn processor_time_is_user_and_system_with_the_childrens_whatever_the_name_is() {
    let stat = "77 (a) b (c) Z 1 77 77 0 -1 4228364 1 2 3 4 50 7 200 9 20 0 2 0 100";
    assert_eq!(processor_in(stat), Some(Duration::from_millis(2660)));
    assert_eq!(processor_in("77 (a) Z 1"), Some(Duration::ZERO));
    assert_eq!(processor_in(""), None);
}

#[test]
fn an_op_took_from_its_commit_to_the_request_that_had_it() {
    let start = Instant::now();
    let at = |ms| start + MS * ms;
    let committed = [at(0), at(1), at(10), at(30)];
    // Two in one request; one that was read before the app had looked at its clock.
    let ledger = Ledger { ids: vec![1, 2, 3, 4], requests: vec![(at(5), 2), (at(12), 3), (at(29), 4)] };
    assert_eq!(between(&committed, &ledger), [MS * 5, MS * 4, MS * 2, Duration::ZERO]);
    let spread = spread(&[MS * 4, MS, MS * 9]);
    assert!([spread.p50 - 4.0, spread.p99 - 9.0, spread.max - 9.0].iter().all(|off| off.abs() < 1e-9));
}

#[test]
fn only_what_the_app_did_in_the_span_counts() {
    let start = Instant::now();
    let act = |ms: u32, took: u32, deferred, end| Act { began: start + MS * ms, took: MS * took, deferred, end, id: 0 };
    let acts = vec![
        act(0, 90, false, End::Committed),
        act(10, 3, false, End::Committed),
        act(11, 70, true, End::Committed),
        act(12, 80, true, End::BusySnapshot),
        act(13, 80, true, End::Busy),
        act(14, 80, false, End::Busy),
        act(19, 5, false, End::Committed),
        act(40, 7, false, End::Committed),
        act(41, 99, true, End::BusySnapshot),
    ];
    let sum = sum_up("me", &[(acts, (start + MS * 10, start + MS * 20)), (Vec::new(), (start, start + MS * 10))]);
    assert_eq!((sum.drains, sum.commits, sum.deferred), (2, 2, 3));
    assert_eq!((sum.busy_snapshot, sum.busy, sum.timed_out), (1, 1, 1));
    let figures = [sum.seconds - 0.02, sum.spread.max - 5.0, sum.max_behind_ms - 7.0, sum.failed() - 1.5];
    assert!(figures.iter().all(|off| off.abs() < 1e-9), "{sum:?}");
}

#[test]
fn the_machine_is_not_named() {
    assert_eq!(version("6.18.44-at-home-of-zoe\n"), "6.18");
    assert_eq!((filesystem(0xEF53).as_str(), filesystem(7).as_str()), ("ext4", "a file system of the kind 0x7"));
}
