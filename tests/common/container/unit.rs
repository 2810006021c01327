//! One unit in a container, as `systemctl` shows and steers it.

use super::{ADA, ADMIN, Container, User};
use crate::common::Run;
use crate::common::daemon::{SOON, holds_within};

/// The agent's service, as the package installs it.
pub(crate) const SERVICE: &str = "waveflow-sync-agent.service";
/// Its socket.
pub(crate) const SOCKET: &str = "waveflow-sync-agent.socket";

pub(crate) struct Unit<'a> {
    inside: &'a Container,
    /// Whose manager it is in.
    of: &'static User,
    name: &'a str,
}

impl Container {
    /// A unit of [`ADA`]'s manager.
    pub(crate) fn user_unit<'a>(&'a self, name: &'a str) -> Unit<'a> {
        Unit { inside: self, of: &ADA, name }
    }

    /// A unit of the machine's.
    pub(crate) fn system_unit<'a>(&'a self, name: &'a str) -> Unit<'a> {
        Unit { inside: self, of: &ADMIN, name }
    }
}

impl Unit<'_> {
    /// `systemctl` with these words behind the unit's manager, and without the unit's name.
    pub(crate) fn manager(&self, words: &[&str]) -> Run {
        let mut arguments = vec!["systemctl", "--no-pager", "--full"];
        if *self.of != ADMIN {
            arguments.push("--user");
        }
        arguments.extend(words);
        self.inside.run(self.of, &arguments)
    }

    /// `systemctl WORDS… UNIT`.
    pub(crate) fn ctl(&self, words: &[&str]) -> Run {
        self.manager(&[words, &[self.name]].concat())
    }

    /// One of its properties.
    #[track_caller]
    pub(crate) fn show(&self, property: &str) -> String {
        let said = self.ctl(&["show", "--value", "--property", property]).ended_with(0);
        said.stdout.trim().to_owned()
    }

    /// Waits until a property is this.
    #[track_caller]
    pub(crate) fn wait_for(&self, property: &str, value: &str) {
        let mut last = String::new();
        let reached = holds_within(SOON, || {
            last = self.show(property);
            last == value
        });
        assert!(reached, "{property} is {last:?} and not {value:?}:\n{}", self.ctl(&["status"]).stdout);
    }

    /// `ActiveState` and `SubState`.
    #[track_caller]
    pub(crate) fn state(&self) -> String {
        format!("{} {}", self.show("ActiveState"), self.show("SubState"))
    }

    /// Its main process, by the number it has inside; 0: none.
    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        self.show("MainPID").parse().unwrap()
    }

    /// Signals its main process: `TERM`, `KILL`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        self.inside.shell(&ADMIN, &format!("kill -s {name} {}", self.pid()));
    }

    /// Lays a file beside the unit's own that changes it.
    #[track_caller]
    pub(crate) fn drop_in(&self, content: &str) {
        let kind = if *self.of == ADMIN { "system" } else { "user" };
        self.inside.write(&format!("/etc/systemd/{kind}/{}.d/test.conf", self.name), content);
        self.manager(&["daemon-reload"]).ended_with(0);
    }
}
