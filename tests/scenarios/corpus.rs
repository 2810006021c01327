//! Every input of the fuzzer's that is kept, seen once more: on any toolchain, without the fuzzer.

use std::fs;
use std::path::Path;

use crate::properties::{configuration, lines, record, replies, rows};

/// The committed inputs of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

/// A file that fails is named before its panic.
fn all_hold(target: &str, property: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has inputs");
    for (name, bytes) in seeds {
        eprintln!("fuzz/seeds/{target}/{name}");
        property(&bytes);
    }
}

#[test]
fn configurations_are_read_strictly_or_refused_in_words() {
    all_hold("configuration", configuration::check);
}

#[test]
fn lines_are_what_was_written_however_it_came() {
    all_hold("lines", lines::check);
}

#[test]
fn state_that_is_read_is_written_as_it_was() {
    all_hold("record", record::check);
}

#[test]
fn replies_say_what_stands_in_them_and_no_secret() {
    all_hold("replies", replies::check);
}

#[test]
fn rows_become_bodies_that_a_server_takes() {
    all_hold("rows", rows::check);
}
