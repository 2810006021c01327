//! The cgroups of one container.
//!
//! What must always hold: two containers share none, or each one's systemd would put its services into the other's; they
//! are removed with the container.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::daemon::{PROMPT, holds_within};

/// Where the hierarchies that a systemd keeps its services in may be: beside those of the first version, or alone.
const HIERARCHIES: [&str; 3] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

pub(crate) struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Makes them. Where a systemd runs this machine, there is nothing to be made: it has a scope for each container.
    pub(crate) fn new(name: &str) -> Self {
        if Path::new("/run/systemd/system").exists() {
            return Self(Vec::new());
        }
        let hierarchies = HIERARCHIES.iter().map(Path::new).filter(|at| at.join("cgroup.procs").exists());
        let groups: Vec<PathBuf> = hierarchies.map(|at| at.join(name)).collect();
        for group in &groups {
            fs::create_dir(group).unwrap();
        }
        Self(groups)
    }

    /// What tells `systemd-nspawn` to stay in them.
    pub(crate) fn arguments(&self) -> &'static [&'static str] {
        if self.0.is_empty() { &[] } else { &["--keep-unit"] }
    }

    /// Their paths, as words.
    pub(crate) fn to_join(&self) -> String {
        self.0.iter().map(|group| group.display().to_string()).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for group in &self.0 {
            // Killed processes are in it until they are reaped.
            let gone = holds_within(PROMPT, || remove(group));
            if !gone {
                eprintln!("{} stays behind", group.display());
            }
        }
    }
}

/// Removes a cgroup and those in it; whether it is gone.
fn remove(group: &Path) -> bool {
    let Ok(entries) = fs::read_dir(group) else { return true };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    fs::remove_dir(group).is_ok()
}
