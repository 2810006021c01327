//! Other users of the machine: threads that have given their rights away, and the agent run as one of them.
//!
//! What must always hold: only the one thread becomes somebody else, and it ends with what it does.

use std::fs;
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::{Stage, command};

pub(crate) const ROOT: u32 = 0;
/// An ordinary user who runs the agent.
pub(crate) const ORDINARY: u32 = 12_345;
/// `nobody`, who has no business here.
pub(crate) const STRANGER: u32 = 65_534;

/// Whether this process can become others; says so where it cannot.
pub(crate) fn can_act_as_others() -> bool {
    let can = geteuid().is_root();
    if !can {
        eprintln!("skipped: needs root to act as another user");
    }
    can
}

/// Does it as this user, in a thread of its own.
pub(crate) fn as_user<R: Send>(user: u32, act: impl FnOnce() -> R + Send) -> R {
    let acting = || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(user)).unwrap();
        set_thread_uid(Uid::from_raw(user)).unwrap();
        assert_eq!(geteuid().as_raw(), user);
        act()
    };
    thread::scope(|scope| scope.spawn(acting).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// The agent as this user, who owns everything in its home from now on.
pub(crate) fn agent_of(user: u32, stage: &Stage) -> Command {
    let usual = command(stage.home());
    if user == ROOT {
        return usual;
    }
    // Where it was built, others may not come. Copied by another process: one that this process has open for writing
    // while another test starts something cannot be run.
    let binary = stage.home().join("agent");
    let copied = Command::new("cp").arg(usual.get_program()).arg(&binary).status().unwrap();
    assert!(copied.success());
    give(stage.home(), user);
    let mut command = Command::new(binary);
    command.env_clear().envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(stage.home()).uid(user).gid(user);
    command
}

/// Makes this user the owner of the path and all below it, as far as root owns it.
pub(crate) fn give(path: &Path, user: u32) {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::symlink_metadata(path).unwrap();
    if found.uid() == ROOT {
        lchown(path, Some(user), Some(user)).unwrap();
    }
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}
