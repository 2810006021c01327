//! One test binary: every scenario is a test here, named as a sentence, seen on the real binary.
//!
//! What must always hold: each has a directory, a server and an environment of its own, so that they run side by side;
//! nothing outlives its test; traffic goes to loopback only.

#[cfg(test)]
#[cfg(target_os = "linux")]
mod benches;
#[cfg(test)]
mod common;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
