//! What wakes a profile's worker: file watch, polling, timer, waking from sleep, signals. Each can only wake.
//!
//! What must always hold: a wake-up is never lost ([`slot`]): after the last commit there is a pass that started later;
//! a wake-up too many costs a look at the files, never a request.

#[cfg(target_os = "linux")]
pub mod inotify;
pub mod nap;
pub mod signals;
pub mod signature;
pub mod slot;
pub mod watch;
