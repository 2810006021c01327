//! The service: installed, enabled, running; and whether it runs while its user is logged out.
//!
//! What must always hold: it is what `service status` says; the manager is asked, never told.

use std::time::Duration;

use serde_json::Value;

use super::Finding;
use crate::config::{Config, Environment, Platform};
use crate::exit::Exit;
use crate::service::programs::Hasty;
use crate::service::systemd::{self, Setting};
use crate::service::unit::SERVICE;
use crate::service::user::User;
use crate::service::{agent, lingering};

/// For each program that is asked.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "service";

/// What there is to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    /// `service status --json`; null where there is no service manager.
    document: Value,
    /// Why there is none.
    why: String,
    /// The command that turns lingering on.
    linger: String,
}

impl Service {
    /// The manager listens in its place.
    pub(super) fn is_asleep(&self) -> bool {
        let socket = &self.document["socket"];
        self.document.is_object() && socket["answers"].is_null()
    }

    fn is(&self, key: &str) -> bool {
        self.document[key] == true
    }
}

pub(super) fn look(config: &Config, env: &Environment) -> Service {
    let (user, hasty) = (User::of_process(env), Hasty(PATIENCE));
    let (setting, socket) = (Setting { env, user: &user, programs: &hasty }, &config.control.socket);
    let linger = lingering::mend(user.id, user.name.as_deref());
    let asked = match env.platform() {
        Platform::Linux => systemd::status::status(socket, setting),
        Platform::MacOs => agent::status(socket, setting),
    };
    match asked {
        Ok(report) => Service { document: report.document, why: String::new(), linger },
        Err(refusal) => {
            // What to do without it is told where an agent is missed.
            let why =
                if refusal.code == "no_systemd" { "systemd does not run here".to_owned() } else { refusal.message };
            Service { document: Value::Null, why, linger }
        }
    }
}

pub(super) fn judge(service: &Service) -> Vec<Finding> {
    const LOG: &str = "journalctl --user -u waveflow-sync-agent";
    if service.document.is_null() {
        return vec![Finding::fine(NAME, &format!("none: {}", service.why))];
    }
    if !service.is("installed") {
        return vec![Finding::fine(NAME, "not installed; `waveflow-sync-agent service install` does it")];
    }
    let text = |key: &str| service.document[key].as_str().unwrap_or_default().to_owned();
    let (state, result) = (text("state"), text("result"));
    let listens = service.document["socket"]["listening"] == true || service.is("loaded");
    let is_enabled = service.is("enabled") || service.document["socket"]["enabled"] == true || service.is("loaded");
    let standing = if state == "failed" {
        let mend = format!("`{LOG}` says why; then `systemctl --user restart {SERVICE}`");
        Finding::wrong(NAME, &format!("it failed ({result})"), &mend).ends_with(Exit::NoDaemon)
    } else if !service.is("running") && !listens {
        let mend = "`waveflow-sync-agent service install` starts it, and has it start with your session";
        let words = format!("installed, and it does not run ({state})");
        Finding::wrong_if(is_enabled, NAME, &words, mend).ends_with(Exit::NoDaemon)
    } else if !is_enabled {
        let mend = "`waveflow-sync-agent service install` enables it";
        Finding::notice(NAME, "installed, and not started with your session", mend)
    } else {
        let running = if service.is("running") { "runs" } else { "is started by its first client" };
        Finding::fine(NAME, &format!("installed, enabled, {running}"))
    };
    let lingers = match &service.document["lingering"] {
        Value::Bool(false) => {
            Some(Finding::notice("lingering", "the agent runs only while you are logged in", &service.linger))
        }
        Value::Bool(true) => Some(Finding::fine("lingering", "the agent runs whether you are logged in or not")),
        _ => None,
    };
    std::iter::once(standing).chain(lingers).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Level;
    use super::*;

    fn found(document: Value) -> Vec<Finding> {
        judge(&Service { document, why: "no systemd".into(), linger: "loginctl enable-linger".into() })
    }

    fn document(running: bool, enabled: bool, listening: bool, state: &str) -> Value {
        json!({"installed": true, "enabled": enabled, "running": running, "state": state, "result": "exit-code",
               "socket": {"listening": listening, "enabled": false, "answers": running}})
    }

    #[test]
    fn a_service_that_failed_or_does_not_run_is_wrong() {
        let failed = &found(document(false, true, true, "failed"))[0];
        assert!(failed.exit == Exit::NoDaemon && failed.words.contains("exit-code"));
        assert!(failed.mend.as_ref().unwrap().contains("journalctl"));
        assert_eq!(found(document(false, true, false, "inactive"))[0].exit, Exit::NoDaemon);
        assert_eq!(found(document(false, false, false, "inactive"))[0].level, Level::Notice);
        assert_eq!(found(document(true, false, false, "active"))[0].level, Level::Notice);
        for listening in [true, false] {
            assert_eq!(found(document(true, true, listening, "active"))[0].level, Level::Fine);
        }
        assert_eq!(found(document(false, true, true, "inactive"))[0].level, Level::Fine);
    }

    #[test]
    fn none_at_all_is_fine() {
        assert_eq!(found(Value::Null)[0].level, Level::Fine);
        assert_eq!(found(json!({"installed": false}))[0].level, Level::Fine);
    }

    #[test]
    fn that_it_ends_with_the_session_is_good_to_know() {
        let linger = |linger| {
            let mut document = document(true, true, true, "active");
            document["lingering"] = linger;
            found(document).get(1).map(|found| (found.level, found.mend.clone()))
        };
        assert_eq!(linger(json!(false)), Some((Level::Notice, Some("loginctl enable-linger".into()))));
        assert_eq!(linger(json!(true)), Some((Level::Fine, None)));
        assert_eq!(linger(Value::Null), None);
    }

    #[test]
    fn where_the_manager_listens_nobody_connects() {
        let asleep = |document: Value| Service { document, ..Service::default() }.is_asleep();
        assert!(asleep(json!({"socket": {"answers": null}})));
        assert!(!asleep(json!({"socket": {"answers": false}})) && !asleep(Value::Null));
    }
}
