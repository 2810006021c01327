//! The binary: arguments, logging, run, exit code.

fn main() {}
