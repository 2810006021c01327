//! What it is measured on, in words that name no machine.

use std::fs;
use std::thread;

use rustix::fs::statfs;
use testkit::{Error, Result};

use super::results::Machine;

/// Kinds of file systems, by what `statfs` has for them.
const FILESYSTEMS: [(u64, &str); 5] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683E, "Btrfs"),
    (0x0102_1994, "tmpfs (nothing reaches a disk)"),
    (0x794C_7630, "overlayfs"),
];

/// Looks at the machine.
pub(crate) fn look() -> Result<Machine> {
    let cores = thread::available_parallelism()?.get();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let directory = tempfile::tempdir()?;
    // Of another size and sign on each system.
    let kind = i128::from(statfs(directory.path()).map_err(|error| Error::other(error.to_string()))?.f_type);
    Ok(Machine { cores, kernel: version(&release), filesystem: filesystem(u64::try_from(kind).unwrap_or_default()) })
}

/// The two numbers that say what a kernel can; what stands behind them may name a machine.
pub(crate) fn version(release: &str) -> String {
    release.trim().split('.').take(2).collect::<Vec<_>>().join(".")
}

/// A file system's name.
pub(crate) fn filesystem(kind: u64) -> String {
    let known = FILESYSTEMS.iter().find(|(number, _)| *number == kind);
    known.map_or_else(|| format!("a file system of the kind {kind:#x}"), |(_, name)| (*name).to_owned())
}
