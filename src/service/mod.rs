//! The agent as a service of its user: systemd's user manager, or launchd.
//!
//! [`order`] is what is to run; [`unit`] and [`launchd`] are the files that say so; [`systemd`] and [`agent`] (launchd's
//! word for a user's service) find out what is there and make a [`plan`] of it, which is performed in one place.
//!
//! What must always hold: twice is as good as once; a file that somebody else wrote or changed is neither replaced nor
//! removed; what an install made, an uninstall takes away, and nothing else.

pub mod agent;
pub mod directories;
pub mod launchd;
pub mod lingering;
pub mod mark;
pub mod order;
pub mod plan;
pub mod programs;
pub mod systemctl;
pub mod systemd;
pub mod unit;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::config::Environment;
use crate::control::client;
use crate::exit::Exit;

/// A `ping` is answered in a millisecond; a service that was started just now may still be opening files.
const PING: Duration = Duration::from_secs(10);

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs.
    pub code: &'static str,
    /// For people, with the mend.
    pub message: String,
    /// How to end.
    pub exit: Exit,
}

impl Refusal {
    fn new(code: &'static str, message: &str, exit: Exit) -> Self {
        Self { code, message: message.to_owned(), exit }
    }
}

/// What was done or seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For people.
    pub lines: Vec<String>,
    /// The same for programs.
    pub document: Value,
    /// How to end.
    pub exit: Exit,
}

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

/// What the agent behind the socket says to a `ping`, and its version; `None`: nobody answers.
fn pinged(socket: &Path) -> Option<Value> {
    client::ask_within(socket, "ping", PING).ok().map(|answer| answer.value).filter(|answer| answer["pong"] == true)
}

#[cfg(test)]
mod tests {
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
