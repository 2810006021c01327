//! `service status`: whether it is installed, enabled, and runs.

use std::path::Path;

use serde_json::{Value, json};

use super::super::mark::Standing;
use super::super::report::{Refusal, Report};
use super::super::unit::SERVICE;
use super::super::{PING, lingering};
use super::{Found, Setting};
use crate::control::client::ping;
use crate::exit::Exit;

/// Looks, and starts nothing: a connection to a socket of systemd's would.
///
/// # Errors
/// There is no systemd to ask.
pub fn status(socket: &Path, setting: Setting<'_>) -> Result<Report, Refusal> {
    let found = Found::look(setting)?;
    let runs = found.service.is_active();
    let answers = if runs || !found.socket.is_active() { Some(ping(socket, PING).is_some()) } else { None };
    let linger = lingering::is_on(setting.user.id, setting.user.name.as_deref(), setting.programs);
    let document = document(&found, socket, answers, linger);
    let mut lines = vec![installed(&found)];
    lines.push(running(&found));
    lines.push(match answers {
        Some(true) if runs => format!("Its socket answers: {}", socket.display()),
        Some(true) => format!("An agent that is no service answers on {}", socket.display()),
        Some(false) => format!("Nobody answers on {}", socket.display()),
        None => format!("The first connection to {} starts it.", socket.display()),
    });
    lines.push(match linger {
        Some(true) => "Lingering: it runs whether you are logged in or not.".to_owned(),
        Some(false) => lingering::advice(setting.user.id, setting.user.name.as_deref()),
        None => "Whether it runs while you are logged out cannot be found out.".to_owned(),
    });
    lines.extend(found.service.drop_ins().iter().map(|path| format!("With the drop-in {path}")));
    Ok(Report { lines, document, exit: if runs { Exit::Done } else { Exit::NoDaemon } })
}

fn installed(found: &Found) -> String {
    let Some(file) = found.fragment() else {
        return "Not installed; `waveflow-sync-agent service install` does it.".to_owned();
    };
    let enabled = match (found.service.is_enabled(), found.socket.is_enabled()) {
        (true, _) => "enabled",
        (false, true) => "enabled by its socket alone",
        (false, false) => "not enabled",
    };
    let own = found.files.units.iter().find(|unit| unit.path == file);
    let changed = own.is_some_and(|unit| !matches!(unit.standing, Standing::Ours(_)));
    format!(
        "Installed, {enabled}: {}{}",
        file.display(),
        if changed { " (not as `service install` wrote it)" } else { "" }
    )
}

fn running(found: &Found) -> String {
    let service = &found.service;
    let (state, sub, result) = (service.get("ActiveState"), service.get("SubState"), service.get("Result"));
    if service.is_active() {
        return format!(
            "Runs ({sub}) since {}, process {}",
            service.get("ActiveEnterTimestamp"),
            service.get("MainPID")
        );
    }
    let why = if matches!(result, "" | "success") {
        String::new()
    } else {
        format!(", {result}; see `journalctl --user -u {SERVICE}`")
    };
    format!("Does not run: {state} ({sub}){why}")
}

fn document(found: &Found, socket: &Path, answers: Option<bool>, linger: Option<bool>) -> Value {
    let service = &found.service;
    let given = |name: &str| Some(service.get(name)).filter(|value| !value.is_empty()).map(str::to_owned);
    json!({
        "installed": found.fragment().is_some(),
        "file": found.fragment(),
        "enabled": service.is_enabled(),
        "running": service.is_active(),
        "state": given("ActiveState"),
        "sub_state": given("SubState"),
        "result": given("Result"),
        "since": given("ActiveEnterTimestamp"),
        "pid": service.get("MainPID").parse::<u32>().ok().filter(|pid| *pid != 0),
        "drop_ins": service.drop_ins(),
        "lingering": linger,
        "socket": {
            "path": socket, "enabled": found.socket.is_enabled(), "listening": found.socket.is_active(),
            "answers": answers,
        },
    })
}
