//! `service uninstall`: what an install made is gone, and nothing else.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::mark::Standing;
use super::super::plan::{self, Step};
use super::super::report::{Refusal, Report};
use super::super::systemctl::{self, SYSTEMCTL, Seen};
use super::super::unit::{self, SERVICE, SOCKET};
use super::super::user::refuse_sudo;
use super::super::{PING, memory};
use super::{Files, Setting};
use crate::control::client::ping;
use crate::exit::Exit;

/// Takes it away.
///
/// # Errors
/// Something there is not ours, or systemd cannot be told.
pub fn uninstall(state_dir: &Path, socket: &Path, setting: Setting<'_>) -> Result<Report, Refusal> {
    refuse_sudo(setting.user, setting.env, "uninstall")?;
    let files = Files::look(setting.env)?;
    if !files.is_installed() {
        let lines = vec!["Nothing is installed for this user, so nothing was done.".to_owned()];
        return Ok(Report { lines, document: json!({"installed": false, "changed": false}), exit: Exit::Done });
    }
    files.refuse_others()?;
    systemctl::unit_path(setting.programs)?;
    let seen = [systemctl::show(SERVICE, setting.programs)?, systemctl::show(SOCKET, setting.programs)?];
    // Asked only where it starts nothing. An agent that is no service goes on, and needs what it remembers.
    let in_use = !seen.iter().any(is_at_work) && ping(socket, PING).is_some();
    let forgotten = (!in_use).then_some(state_dir);
    plan::perform(&steps(&files, &seen, forgotten), setting.programs)
        .map_err(|failure| Refusal::new("not_removed", &failure.words, failure.exit.unwrap_or(Exit::TryLater)))?;
    Ok(report(&files, state_dir))
}

fn is_at_work(unit: &Seen) -> bool {
    !matches!(unit.get("ActiveState"), "" | "inactive" | "failed")
}

fn steps(files: &Files, seen: &[Seen; 2], state_dir: Option<&Path>) -> Vec<Step> {
    let mut steps = Vec::new();
    if seen.iter().any(is_at_work) {
        steps.push(Step::run(SYSTEMCTL, ["--user", "stop", SOCKET, SERVICE]));
    }
    // It also knows of links that somebody asked for in a drop-in; where it cannot, the links are removed all the same.
    steps.push(Step::try_to_run(SYSTEMCTL, ["--user", "disable", SOCKET, SERVICE]));
    steps.extend(files.links.iter().cloned().map(Step::Remove));
    let ours = files.units.iter().filter(|unit| unit.standing != Standing::Absent);
    steps.extend(ours.map(|unit| Step::Remove(unit.path.clone())));
    // systemctl tidies away what it finds empty, whoever made it.
    steps.extend(files.kept.iter().map(|(path, mode)| Step::Restore(path.clone(), *mode)));
    steps.extend(state_dir.map(|directory| Step::ForgetState(directory.to_owned())));
    let wants: Vec<_> = unit::wants().iter().map(|name| files.directory.join(name)).collect();
    let socket = files.own_socket();
    let directories =
        wants.iter().map(PathBuf::as_path).chain(state_dir).chain(socket.as_deref().and_then(Path::parent));
    steps.extend(plan::take_away(directories));
    // Before the manager forgets them.
    steps.push(Step::try_to_run(SYSTEMCTL, ["--user", "reset-failed", SOCKET, SERVICE]));
    steps.push(Step::run(SYSTEMCTL, ["--user", "daemon-reload"]));
    steps
}

fn report(files: &Files, state_dir: &Path) -> Report {
    let removed: Vec<_> =
        files.units.iter().filter(|unit| unit.standing != Standing::Absent).map(|unit| &unit.path).collect();
    let mut lines = vec![match removed.as_slice() {
        [] => "Stopped and disabled; the unit itself is a package's.".to_owned(),
        some => format!(
            "Stopped, disabled and removed: {}",
            some.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ),
    }];
    lines.extend(files.drop_ins.iter().map(|path| format!("Left, since it is yours: {}", path.display())));
    let remembered = state_dir.is_dir();
    lines.push(memory::left(state_dir));
    let document = json!({
        "installed": false, "changed": true, "removed": removed, "left": files.drop_ins,
        "state_dir": remembered.then_some(state_dir),
    });
    Report { lines, document, exit: Exit::Done }
}
