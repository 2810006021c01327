//! Whose service it is.
//!
//! What must always hold: nothing is installed for a user who most likely is not meant.

use super::report::Refusal;
use crate::config::Environment;
use crate::exit::Exit;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// By number.
    pub id: u32,
    /// By name, if the environment has it.
    pub name: Option<String>,
}

impl User {
    /// The one this process runs as.
    pub fn of_process(env: &Environment) -> Self {
        let name = ["USER", "LOGNAME"].into_iter().find_map(|variable| env.get(variable)?.to_str().map(str::to_owned));
        Self { id: rustix::process::geteuid().as_raw(), name }
    }
}

/// Root by `sudo` most likely means the user who typed it: root has no app to deliver for.
///
/// # Errors
/// It is so. Exit code 64: it was asked in the wrong way, and nothing else is wrong.
pub fn refuse_sudo(user: &User, env: &Environment, what: &str) -> Result<(), Refusal> {
    let by = env.get("SUDO_USER").filter(|name| user.id == 0 && *name != "root");
    by.map_or(Ok(()), |by| {
        let message = format!(
            "with sudo this would be a service of root's, who has no WaveFlow. As {}, without sudo: \
             `waveflow-sync-agent service {what}`",
            by.to_string_lossy()
        );
        Err(Refusal::new("with_sudo", &message, Exit::Usage))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Platform;

    #[test]
    fn sudo_is_told_whom_to_run_it_as_and_real_root_is_let() {
        let env = |by: &str| Environment::new(Platform::Linux, Path::new("/"), [("SUDO_USER", by)]);
        let user = |id| User { id, name: None };
        let refusal = refuse_sudo(&user(0), &env("zoe"), "install").unwrap_err();
        assert!(refusal.message.contains("As zoe, without sudo: `waveflow-sync-agent service install`"));
        assert_eq!(refusal.exit, Exit::Usage);
        for (id, by) in [(0, ""), (0, "root"), (7, "zoe")] {
            assert_eq!(refuse_sudo(&user(id), &env(by), "install"), Ok(()), "{id} {by}");
        }
    }
}
