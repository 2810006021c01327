//! What a unit's hardening forbids, tried from inside a unit: `probe.py` is run in the place of the agent.
//!
//! What must always hold: each directive is tried three times: in the unit as it is shipped; in a unit with nothing but this
//! directive and what it cannot do without; and in the same without it, where everything has to be allowed, so that nothing
//! passes for forbidden that somebody else forbids.

use std::collections::HashMap;

use serde_json::Value;

use super::container::{ADMIN, Container, Unit, User};

/// Where the probe is, inside.
const PROBE: &str = "/usr/local/lib/waveflow-probe.py";
/// Where it writes to, inside: the file is opened by the manager, before any directive is in force.
const RESULTS: &str = "/run/waveflow-probe";

/// A unit under test.
pub(crate) struct Hardened<'a> {
    pub(crate) inside: &'a Container,
    /// The instance that is started.
    pub(crate) unit: Unit<'a>,
    /// Its file, inside.
    pub(crate) file: &'static str,
    /// Who it runs as.
    pub(crate) user: &'static User,
    /// Where its manager looks for others.
    pub(crate) units: &'static str,
    /// What these others have to say so that nothing is forbidden by default.
    pub(crate) bare: &'static str,
    /// Its directives that take effect only beside `PrivateUsers=yes`.
    pub(crate) in_need: &'static [&'static str],
}

/// How the tries went, by directive.
type Results = HashMap<String, Value>;

/// The lines of a unit file's `[Service]` section: key and value.
pub(crate) fn directives(text: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let Some((key, value)) =
            line.split_once('=').filter(|_| section == "[Service]" && !line.starts_with('#'))
        {
            found.push((key.to_owned(), value.to_owned()));
        }
    }
    found
}

impl Hardened<'_> {
    /// Its directives, as shipped.
    pub(crate) fn directives(&self) -> Vec<(String, String)> {
        directives(&std::fs::read_to_string(self.inside.path(self.file)).unwrap())
    }

    /// Puts in place what the probe looks for and, in a bare unit, finds.
    pub(crate) fn prepare(&self) {
        self.inside.write(PROBE, include_str!("probe.py"));
        let user = self.user.name;
        // nspawn has these two read-only for everybody.
        let everybodys = "mount -o remount,rw,bind /proc/sys; mount -o remount,rw /sys; \
            mkdir -p /usr/lib/modules /srv/probe /home/probe /sys/fs/cgroup/probe; \
            touch /tmp/probe /var/tmp/probe /dev/probe /dev/kmsg; chmod 666 /dev/probe /dev/kmsg; \
            cp /usr/bin/id /usr/local/bin/probe-id; chmod 4755 /usr/local/bin/probe-id; \
            python3 -c 'import ctypes; assert ctypes.CDLL(None).shmget(0x7766, 4096, 0o1666) >= 0'";
        self.inside.shell(&ADMIN, everybodys);
        self.inside.shell(&ADMIN, &format!("chown {user} /srv/probe /home/probe /sys/fs/cgroup/probe"));
        self.inside.shell(&ADMIN, &format!("install -d -o {user} {RESULTS}"));
        for secret in [".ssh/id", ".gnupg/id", ".local/share/keyrings/id"] {
            self.inside.write_home(self.user, secret, "secret");
        }
        // What is in the keyring that units share, if they share one.
        self.other("probe-key", "", "--add-key");
        self.manage(&["start", "probe-key.service"]);
    }

    /// A unit that runs the probe with these lines.
    fn other(&self, name: &str, lines: &str, arguments: &str) {
        let bare = self.bare;
        self.inside.write(
            &format!("{}/{name}.service", self.units),
            &format!("[Service]\nType=oneshot\n{bare}\n{}{lines}", runs(name, arguments)),
        );
    }

    fn manage(&self, words: &[&str]) {
        self.unit.manager(&["daemon-reload"]).ended_with(0);
        self.unit.manager(words).ended_with(0);
    }

    fn results(&self, name: &str) -> Results {
        let text = std::fs::read_to_string(self.inside.path(&format!("{RESULTS}/{name}"))).unwrap();
        let line = |line: &str| {
            let result: Value = serde_json::from_str(line).unwrap();
            (result["directive"].as_str().unwrap().to_owned(), result)
        };
        text.lines().map(line).collect()
    }

    /// How it goes in the unit as shipped.
    pub(crate) fn as_shipped(&self) -> Results {
        let lines = runs("shipped", "");
        self.unit
            .drop_in(&format!("[Service]\nType=oneshot\nExecStart=\nExecReload=\nRestart=no\nWatchdogSec=0\n{lines}"));
        self.unit.ctl(&["start"]).ended_with(0);
        self.results("shipped")
    }

    /// How it goes in a unit without any directive.
    pub(crate) fn bare(&self) -> Results {
        self.other("probe-bare", "", "");
        self.manage(&["start", "probe-bare.service"]);
        self.results("probe-bare")
    }

    /// How it goes with each of these directives alone, and without it in the same unit: one answer each.
    pub(crate) fn one_by_one(&self, keys: &[&str]) -> Vec<[Value; 2]> {
        let shipped = self.directives();
        let lines = |key: &str| {
            let of_it = shipped.iter().filter(|(name, _)| name == key);
            of_it.fold(String::new(), |lines, (name, value)| lines + name + "=" + value + "\n")
        };
        let mut units = Vec::new();
        for key in keys {
            let needed = match *key {
                key if self.in_need.contains(&key) => "PrivateUsers=yes\n".to_owned(),
                // It is about what the other refuses.
                "SystemCallErrorNumber" => lines("SystemCallFilter"),
                _ => String::new(),
            };
            self.other(&format!("probe-with-{key}"), &format!("{needed}{}", lines(key)), key);
            self.other(&format!("probe-without-{key}"), &needed, key);
            units.extend(["with", "without"].map(|how| format!("probe-{how}-{key}.service")));
        }
        let mut words = vec!["start"];
        words.extend(units.iter().map(String::as_str));
        self.manage(&words);
        let answer = |how: &str, key: &str| self.results(&format!("probe-{how}-{key}"))[key].clone();
        keys.iter().map(|key| ["with", "without"].map(|how| answer(how, key))).collect()
    }
}

/// The lines that run the probe.
fn runs(name: &str, arguments: &str) -> String {
    format!("ExecStart=/usr/bin/python3 -I {PROBE} {arguments}\nStandardOutput=truncate:{RESULTS}/{name}\n")
}
