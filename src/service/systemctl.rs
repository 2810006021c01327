//! What `systemctl --user` knows of our units.
//!
//! What must always hold: it only asks. That there is no systemd, or none for this user, is told as what to do instead.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::programs::Programs;
use super::report::Refusal;
use crate::exit::Exit;

/// The program.
pub const SYSTEMCTL: &str = "systemctl";
/// There where systemd is what the machine was started with.
const BOOTED: &str = "/run/systemd/system";
/// What is asked of a unit.
const PROPERTIES: &str = "--property=LoadState,UnitFileState,ActiveState,SubState,Result,FragmentPath,DropInPaths,\
                          ActiveEnterTimestamp,MainPID,NeedDaemonReload";

/// One unit, as the manager has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, String>);

impl Seen {
    pub(super) fn of(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Self(lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// A property, empty where it has none.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Started with its target.
    pub fn is_enabled(&self) -> bool {
        self.get("UnitFileState").starts_with("enabled")
    }

    /// It runs, or listens.
    pub fn is_active(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading" | "refreshing")
    }

    /// What its user has added.
    pub fn drop_ins(&self) -> Vec<String> {
        words(self.get("DropInPaths"))
    }
}

/// Where the manager of this user looks for units, the first first.
///
/// # Errors
/// There is none.
pub fn unit_path(programs: &dyn Programs) -> Result<Vec<PathBuf>, Refusal> {
    let asked = programs.run(SYSTEMCTL, &["--user", "show", "--property=UnitPath"].map(Into::into));
    match asked {
        Ok(ran) if ran.success => {
            Ok(words(ran.stdout.trim().trim_start_matches("UnitPath=")).into_iter().map(PathBuf::from).collect())
        }
        Ok(ran) if Path::new(BOOTED).is_dir() => Err(without_manager(ran.complaint())),
        Ok(_) => Err(without_systemd()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(without_systemd()),
        Err(error) => Err(without_manager(&format!("{SYSTEMCTL}: {error}"))),
    }
}

/// The unit of this name, as the manager has it.
///
/// # Errors
/// The manager does not answer.
pub fn show(unit: &str, programs: &dyn Programs) -> Result<Seen, Refusal> {
    match programs.run(SYSTEMCTL, &["--user", "show", PROPERTIES, unit].map(Into::into)) {
        Ok(ran) if ran.success => Ok(Seen::of(&ran.stdout)),
        Ok(ran) => Err(without_manager(ran.complaint())),
        Err(error) => Err(without_manager(&format!("{SYSTEMCTL}: {error}"))),
    }
}

/// Where a unit of this name lies besides in `own`, as a package brings it.
pub fn packaged(unit: &str, unit_path: &[PathBuf], own: &Path) -> Option<PathBuf> {
    let elsewhere = unit_path.iter().filter(|directory| *directory != own);
    elsewhere.map(|directory| directory.join(unit)).find(|path| path.is_file())
}

/// The words of a list as `systemctl show` writes it: one with a blank, a quote, a `$` or a backslash in it is in quotes,
/// as a shell reads them.
fn words(list: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            blank if blank.is_whitespace() && !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// Exit code 69: what is missing is a running service, here the one all others hang on.
fn without_systemd() -> Refusal {
    let message = "this machine does not run systemd, so there is nothing to install a service into. Instead: have your \
                   session start `waveflow-sync-agent run`, or your init system as your user; from cron, \
                   `waveflow-sync-agent once`; in a container, `waveflow-sync-agent run` as its program";
    Refusal::new("no_systemd", message, Exit::NoDaemon)
}

fn without_manager(said: &str) -> Refusal {
    let message = format!(
        "systemd has no manager running for this user that can be reached ({said}). Log in as the user the agent is for, \
         not with su or sudo (`machinectl shell USER@` does, as ssh does); or `loginctl enable-linger` and, if \
         XDG_RUNTIME_DIR is not set, `export XDG_RUNTIME_DIR=/run/user/$(id -u)`. Without any of these: \
         `waveflow-sync-agent run`, or `once` from cron"
    );
    Refusal::new("no_user_manager", &message, Exit::NoDaemon)
}

#[cfg(test)]
mod tests {
    use super::super::programs::played::{Played, fails, says};
    use super::*;

    #[test]
    fn the_managers_answers_are_read() {
        let answer = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nDropInPaths=/a.conf /b.conf\n";
        let seen = show("x", &Played::default().on("systemctl --user show", says(answer))).unwrap();
        assert!(seen.is_enabled() && seen.is_active());
        assert_eq!((seen.get("LoadState"), seen.get("absent")), ("loaded", ""));
        assert_eq!(seen.drop_ins(), ["/a.conf", "/b.conf"]);
        let seen = Seen::of("UnitFileState=disabled\nActiveState=activating\nDropInPaths=\n");
        assert!(!seen.is_enabled() && !seen.is_active() && seen.drop_ins().is_empty());
    }

    #[test]
    fn a_path_means_itself_whatever_is_in_it() {
        let told = r#"UnitPath="/home/a b/user.control" /run/x "/home/100%\$ é\"q\\/user" /lib"#.to_owned() + "\n";
        let path = unit_path(&Played::default().on("systemctl --user show", says(&told))).unwrap();
        assert_eq!(path, ["/home/a b/user.control", "/run/x", r#"/home/100%$ é"q\/user"#, "/lib"].map(PathBuf::from));
        assert!(words("").is_empty() && words(" ").is_empty());
    }

    #[test]
    fn without_systemd_it_is_told_what_to_do_instead() {
        let refusal = unit_path(&Played::default()).unwrap_err();
        assert!(refusal.message.contains("`waveflow-sync-agent once`"), "{}", refusal.message);
        let refused = Played::default().on("systemctl", fails("Failed to connect to bus: No medium found\n"));
        let refusal = unit_path(&refused).unwrap_err();
        assert_eq!(refusal.exit, Exit::NoDaemon);
        let manager = without_manager("Failed to connect to bus");
        assert!(manager.message.contains("enable-linger") && manager.message.contains("XDG_RUNTIME_DIR"));
    }

    #[test]
    fn a_package_unit_is_found_where_the_manager_looks() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for place in [&own, &other] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("u"), "").unwrap();
        }
        let path = [own.clone(), "/nowhere".into(), other.clone()];
        assert_eq!(packaged("u", &path, &own), Some(other.join("u")));
        assert_eq!(packaged("v", &path, &own), None);
    }
}
