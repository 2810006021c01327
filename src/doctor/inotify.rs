//! The file watch: whether the system has watches left for us. Tried, as the limits say little about what others use.

use std::path::Path;

use super::Finding;
use crate::app::registry::Profile;
use crate::config::{Config, WatchMode};

const NAME: &str = "file_watch";

/// Where the kernel has its limits.
#[cfg(target_os = "linux")]
const LIMITS: &str = "/proc/sys/fs/inotify";

/// What there is to know.
#[derive(Debug)]
struct Facts {
    mode: WatchMode,
    /// Directories that are to be watched.
    needed: usize,
    /// Whether they could be; `None` where this system has none.
    tried: Option<Result<(), String>>,
    /// `max_user_instances`, `max_user_watches`.
    limits: [Option<u64>; 2],
}

pub(super) fn look(config: &Config, directory: Option<&Path>, profiles: &[Profile]) -> Finding {
    let profiles = profiles.iter().filter_map(|profile| profile.path.as_deref()?.parent());
    let wanted: Vec<&Path> = directory.into_iter().chain(profiles).collect();
    let tried = (cfg!(target_os = "linux") && config.watch.mode == WatchMode::Auto).then(|| try_it(&wanted));
    judge(&Facts { mode: config.watch.mode, needed: wanted.len() + 1, tried, limits: limits() })
}

/// On a watch of its own, which goes with it.
#[cfg(target_os = "linux")]
fn try_it(wanted: &[&Path]) -> Result<(), String> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let tried = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|watch| {
        // What is not there has nothing to be watched.
        let mut there = wanted.iter().filter(|directory| directory.is_dir());
        there.try_for_each(|directory| add_watch(&watch, *directory, WatchFlags::DELETE_SELF).map(drop))
    });
    tried.map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn try_it(_: &[&Path]) -> Result<(), String> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn limits() -> [Option<u64>; 2] {
    let read = |name: &str| std::fs::read_to_string(format!("{LIMITS}/{name}")).ok()?.trim().parse().ok();
    ["max_user_instances", "max_user_watches"].map(read)
}

#[cfg(not(target_os = "linux"))]
fn limits() -> [Option<u64>; 2] {
    [None, None]
}

fn judge(facts: &Facts) -> Finding {
    let [instances, watches] = facts.limits.map(|limit| limit.map_or("?".to_owned(), |limit| limit.to_string()));
    match (facts.mode, &facts.tried) {
        (WatchMode::Off, _) => Finding::fine(NAME, "off, as configured; timer, socket and hook tell of commits"),
        (WatchMode::Poll, _) | (WatchMode::Auto, None) => {
            Finding::fine(NAME, "the files are looked at again and again")
        }
        (WatchMode::Auto, Some(Ok(()))) => {
            let words = format!(
                "inotify works; watches needed: {}, allowed: {watches}, in {instances} instances",
                facts.needed
            );
            Finding::fine(NAME, &words)
        }
        (WatchMode::Auto, Some(Err(error))) => {
            let words = format!(
                "inotify does not work ({error}), so the files are looked at again and again; a user may have {watches} \
                 watches and {instances} instances"
            );
            let mend = "`sudo sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288`";
            Finding::notice(NAME, &words, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_watch_that_does_not_work_is_good_to_know_with_the_limits() {
        let found = |mode, tried| judge(&Facts { mode, needed: 3, tried, limits: [Some(128), Some(8192)] });
        let failed = found(WatchMode::Auto, Some(Err("Too many open files".to_owned())));
        assert_eq!(failed.level, Level::Notice);
        assert!(failed.words.contains("8192 watches and 128 instances"), "{failed:?}");
        assert!(failed.mend.unwrap().contains("max_user_watches"));
        for (mode, tried) in
            [(WatchMode::Auto, Some(Ok(()))), (WatchMode::Auto, None), (WatchMode::Off, None), (WatchMode::Poll, None)]
        {
            assert_eq!(found(mode, tried).level, Level::Fine);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn directories_that_are_there_can_be_watched_and_others_do_not_matter() {
        let there = tempfile::tempdir().unwrap();
        assert_eq!(try_it(&[there.path(), Path::new("/not/there")]), Ok(()));
    }
}
