//! How a person starts an agent that does not run: by the service there is, else by making one.
//!
//! What must always hold: nothing is started or asked for it. Files are looked for, and that is all.

use std::path::{Path, PathBuf};

use super::launchd::{self, LABEL};
use super::unit::{self, SERVICE};
use crate::config::{Environment, Platform};

/// Where packages and administrators put units for all users.
const EVERYBODYS: [&str; 4] =
    ["/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user", "/lib/systemd/user"];

/// The command, in words: to stand behind "start it with".
pub fn advice(env: &Environment) -> String {
    advice_with(env, &EVERYBODYS.map(PathBuf::from))
}

fn advice_with(env: &Environment, everybodys: &[PathBuf]) -> String {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    match env.platform() {
        Platform::Linux => {
            let own = env.base_dir("XDG_CONFIG_HOME", ".config").map(|home| unit::directory(&home));
            if own.iter().chain(everybodys).any(|directory| is_there(&directory.join(SERVICE))) {
                return "`systemctl --user start waveflow-sync-agent`".to_owned();
            }
        }
        Platform::MacOs => {
            if env.home().is_some_and(|home| is_there(&launchd::file(home))) {
                return format!("`launchctl kickstart gui/{}/{LABEL}`", rustix::process::getuid().as_raw());
            }
        }
    }
    "`waveflow-sync-agent service install`, or `waveflow-sync-agent run` in a terminal".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_there_is_started_and_one_that_is_not_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let env = |platform| Environment::new(platform, Path::new("/"), [("HOME", home)]);
        let nowhere = [dir.path().join("lib")];
        for platform in [Platform::Linux, Platform::MacOs] {
            assert!(advice_with(&env(platform), &nowhere).contains("service install"));
        }
        let mac = launchd::file(dir.path());
        for place in [dir.path().join(".config/systemd/user").join(SERVICE), nowhere[0].join(SERVICE), mac] {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(&place, "").unwrap();
            let platform = if place.ends_with(SERVICE) { Platform::Linux } else { Platform::MacOs };
            let told = advice_with(&env(platform), &nowhere);
            let expected = if platform == Platform::Linux { "systemctl --user start" } else { "launchctl kickstart" };
            assert!(told.contains(expected), "{told}");
            std::fs::remove_file(&place).unwrap();
        }
    }
}
