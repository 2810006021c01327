//! `service install`: the units are there, enabled, and the agent runs.

use std::path::Path;

use serde_json::{Value, json};

use super::super::mark::Standing;
use super::super::order::Order;
use super::super::plan::{self, Step};
use super::super::report::{Refusal, Report};
use super::super::systemctl::{self, SYSTEMCTL};
use super::super::unit::{self, SERVICE, SOCKET, Unit};
use super::super::user::refuse_sudo;
use super::super::{PING, lingering};
use super::{Found, Setting};
use crate::control::client::ping;
use crate::exit::Exit;

/// Where a service says why it did not start.
const WHY: &str = " Why: `journalctl --user -u waveflow-sync-agent -n 20`.";
/// Both, the socket first: it is the one that has to be ready.
const BOTH: [&str; 2] = [SOCKET, SERVICE];

/// Installs what the order says, as far as it is not there yet.
///
/// # Errors
/// It is not done, or does not run.
pub fn install(order: &Order, setting: Setting<'_>) -> Result<Report, Refusal> {
    refuse_sudo(setting.user, setting.env, "install")?;
    let found = Found::look(setting)?;
    found.files.refuse_others()?;
    let answer = pinged_if_safe(order, &found);
    if let Some(answer) = answer.as_ref().filter(|_| !found.service.is_active()) {
        let message = format!(
            "an agent runs already that is no service (process {}); end it, and say this again",
            answer["pid"].as_u64().unwrap_or_default()
        );
        return Err(Refusal::new("running", &message, Exit::TryLater));
    }
    let old = answer.is_some_and(|answer| answer["version"] != env!("CARGO_PKG_VERSION"));
    let steps = steps(order, &found, old);
    plan::perform(&steps, setting.programs)
        .map_err(|failure| stopped_short(&failure.words, failure.exit.unwrap_or(Exit::NoDaemon)))?;
    confirm(order, setting)?;
    Ok(report(order, &found, &steps, setting))
}

/// A connection to a socket of systemd's would start the service.
fn pinged_if_safe(order: &Order, found: &Found) -> Option<Value> {
    let waits = found.socket.is_active() && !found.service.is_active();
    if waits { None } else { ping(&order.socket, PING) }
}

/// What there is to do. `old`: another version of the program is running.
fn steps(order: &Order, found: &Found, old: bool) -> Vec<Step> {
    let by_package = is_by_package(order, found);
    let units = unit::units(order);
    let files: Vec<_> = if by_package { removals(found) } else { writes(&units, found) };
    let moves = found.service.is_enabled() && found.fragment() != Some(expected(by_package, found));
    let mut steps = Vec::new();
    if (!files.is_empty() || old) && (found.service.is_active() || found.socket.is_active()) {
        // Both: a socket cannot listen elsewhere while its service runs.
        steps.push(systemctl("stop", &BOTH));
    }
    if moves {
        // The links lead to the other file.
        steps.push(systemctl("disable", &BOTH));
    }
    let old_socket = found.files.own_socket().filter(|old| !files.is_empty() && *old != order.socket);
    steps.extend(old_socket.iter().flat_map(|old| needless(old, order, found)));
    let enables = moves || !found.service.is_enabled() || !found.socket.is_enabled();
    if enables || !files.is_empty() {
        steps.extend(found.files.kept.iter().map(|(path, mode)| Step::Restore(path.clone(), *mode)));
        let wants = unit::wants().into_iter().map(|name| found.files.directory.join(name));
        steps.extend(wants.map(Step::MakeDirectory));
    }
    // systemd would make it too, and nobody would know whose it is.
    let own_socket = !order.usual_socket && (enables || !files.is_empty());
    steps.extend(order.socket.parent().filter(|_| own_socket).map(|above| Step::MakeState(above.to_owned())));
    // The unit lets one elsewhere through as far as it is there.
    let elsewhere = !order.state_dir.starts_with(&order.home);
    if (elsewhere || enables || !files.is_empty()) && !order.state_dir.is_dir() {
        steps.push(Step::MakeState(order.state_dir.clone()));
    }
    let reload =
        !files.is_empty() || [&found.service, &found.socket].iter().any(|unit| unit.get("NeedDaemonReload") == "yes");
    steps.extend(files);
    if reload {
        steps.push(systemctl("daemon-reload", &[]));
    }
    if found.service.get("ActiveState") == "failed" || found.socket.get("ActiveState") == "failed" {
        steps.push(Step::try_to_run(SYSTEMCTL, ["--user", "reset-failed"].into_iter().chain(BOTH)));
    }
    let stopped = steps.iter().any(|step| *step == systemctl("stop", &BOTH));
    if enables || stopped || !found.service.is_active() || !found.socket.is_active() {
        steps.push(systemctl("enable --now", &BOTH));
    }
    steps
}

/// Takes away what was made for a socket, and for nothing that stays.
fn needless(socket: &Path, order: &Order, found: &Found) -> Vec<Step> {
    let stays = [&found.files.directory, &order.state_dir, &order.socket];
    let above = socket.ancestors().skip(1).filter(|above| !stays.iter().any(|path| path.starts_with(above)));
    above.map(|above| Step::TakeAway(above.to_owned())).collect()
}

fn expected(by_package: bool, found: &Found) -> &Path {
    match &found.packaged {
        Some((path, _)) if by_package => path,
        _ => &found.files.units[0].path,
    }
}

/// Whether a package's unit does all that is asked for; a copy would only keep its next version from taking effect.
fn is_by_package(order: &Order, found: &Found) -> bool {
    found.packaged.as_ref().is_some_and(|(_, text)| unit::serves(text, order))
}

fn writes(units: &[Unit; 2], found: &Found) -> Vec<Step> {
    let changed = units
        .iter()
        .zip(&found.files.units)
        .filter(|(unit, place)| place.standing != Standing::Ours(unit.text.clone()));
    changed.map(|(unit, place)| Step::Write { path: place.path.clone(), text: unit.text.clone() }).collect()
}

fn removals(found: &Found) -> Vec<Step> {
    let ours = found.files.units.iter().filter(|place| place.standing != Standing::Absent);
    ours.map(|place| Step::Remove(place.path.clone())).collect()
}

fn systemctl(verb: &'static str, units: &[&'static str]) -> Step {
    Step::run(SYSTEMCTL, std::iter::once("--user").chain(verb.split(' ')).chain(units.iter().copied()))
}

fn stopped_short(error: &str, exit: Exit) -> Refusal {
    let why = if error.starts_with(SYSTEMCTL) { WHY } else { "" };
    let message = format!("{error}.{why} `waveflow-sync-agent service uninstall` takes back what is done so far");
    Refusal::new("not_started", &message, exit)
}

/// It runs, and it answers.
fn confirm(order: &Order, setting: Setting<'_>) -> Result<(), Refusal> {
    let service = systemctl::show(SERVICE, setting.programs)?;
    if !service.is_active() {
        let (state, result) = (service.get("ActiveState"), service.get("Result"));
        let why = format!("{SYSTEMCTL} has started it, and it does not run: {state}, {result}");
        return Err(stopped_short(&why, Exit::NoDaemon));
    }
    ping(&order.socket, PING).map(drop).ok_or_else(|| {
        let socket = order.socket.display();
        let why = format!("{SYSTEMCTL} has started it, and it does not answer on its socket {socket}");
        stopped_short(&why, Exit::NoDaemon)
    })
}

fn report(order: &Order, found: &Found, steps: &[Step], setting: Setting<'_>) -> Report {
    let by_package = is_by_package(order, found);
    let file = expected(by_package, found).display().to_string();
    let mut lines = vec![match (steps.is_empty(), by_package) {
        (true, _) => format!("Nothing to do: {file} is installed, enabled and running."),
        (false, true) => format!("Enabled and started, as the package has it: {file}"),
        (false, false) => format!("Installed, enabled and started: {file}"),
    }];
    lines.push(format!("It starts {} and answers on {}", order.binary.display(), order.socket.display()));
    let mut notes = order.warnings.clone();
    if !order.namespaces {
        notes.push(
            "This system lets its users make no namespaces, so it runs with a part of its sandbox alone.".to_owned(),
        );
    }
    if let Some((packaged, _)) = found.packaged.as_ref().filter(|_| !by_package) {
        notes.push(format!("It goes before the one of a package, {}, until `service uninstall`.", packaged.display()));
    }
    for drop_in in &found.files.drop_ins {
        notes.push(format!("What you added stays in force: {}", drop_in.display()));
    }
    let name = setting.user.name.as_deref();
    let linger = lingering::is_on(setting.user.id, name, setting.programs);
    if linger == Some(false) {
        notes.push(lingering::advice(setting.user.id, name));
    }
    let document = json!({
        "installed": true, "changed": !steps.is_empty(), "file": file, "by_package": by_package,
        "binary": order.binary, "socket": order.socket, "lingering": linger, "notes": notes,
    });
    lines.extend(notes);
    Report { lines, document, exit: Exit::Done }
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
