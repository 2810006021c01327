//! A small file system of a test's own.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, which goes with it.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts it at `at`, with room for `size` bytes (`4m`). Says so, and is `None`, where nobody may mount here.
    pub(crate) fn new(at: &Path, size: &str) -> Option<Self> {
        let mount = Self(at.to_owned());
        // Its owner's alone: a directory where everybody may make things is none the agent keeps its state in.
        let mounted = mount.run(&["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"]);
        if !mounted {
            println!("skipped: mounting takes root and the right to mount");
        }
        mounted.then_some(mount)
    }

    /// Runs `mount` with these arguments on it.
    pub(crate) fn run(&self, arguments: &[&str]) -> bool {
        let done = Command::new("mount").args(arguments).arg(&self.0).output();
        done.is_ok_and(|output| output.status.success())
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.filling()).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// Takes away what filled it.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filling()).unwrap();
    }

    fn filling(&self) -> PathBuf {
        self.0.join("filling")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
