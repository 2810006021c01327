//! `service install`, `uninstall`, `status`, `print`.

use std::fmt::Write as _;

use clap::Subcommand;
use serde_json::json;

use crate::config::{Environment, Flags, Loaded, Platform};
use crate::exit::Exit;
use crate::service::order::{self, Order};
use crate::service::programs::Machine;
use crate::service::report::{Refusal, Report};
use crate::service::systemd::{self, Files, Setting};
use crate::service::user::User;
use crate::service::{agent, launchd, unit};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(super) enum What {
    /// Have systemd (macOS: launchd) start the agent with your session and keep it running, with the flags that are
    /// given here.
    Install,
    /// Stop it, and remove what `service install` made.
    Uninstall,
    /// Show whether it is installed, enabled, running and answering.
    ///
    /// Exit code 69 if it does not run.
    Status,
    /// Print what `service install` would write, and write nothing.
    Print,
}

pub(super) fn run(loaded: &Loaded, flags: &Flags, what: What, json: bool, env: &Environment) -> Exit {
    match report(loaded, flags, what, env) {
        Ok(report) if json => super::answer(&report.document.to_string(), report.exit),
        Ok(report) => super::answer(&report.lines.join("\n"), report.exit),
        Err(refusal) => {
            super::complain(&refusal.message, refusal.code, json);
            refusal.exit
        }
    }
}

fn report(loaded: &Loaded, flags: &Flags, what: What, env: &Environment) -> Result<Report, Refusal> {
    let user = User::of_process(env);
    let setting = Setting { env, user: &user, programs: &Machine };
    let (state_dir, socket) = (&loaded.config.state_dir, &loaded.config.control.socket);
    match (what, env.platform()) {
        (What::Install, Platform::Linux) => systemd::install::install(&ordered(loaded, flags, env)?, setting),
        (What::Install, Platform::MacOs) => agent::install(&ordered(loaded, flags, env)?, setting),
        (What::Uninstall, Platform::Linux) => systemd::uninstall::uninstall(state_dir, socket, setting),
        (What::Uninstall, Platform::MacOs) => agent::uninstall(state_dir, socket, setting),
        (What::Status, Platform::Linux) => systemd::status::status(socket, setting),
        (What::Status, Platform::MacOs) => agent::status(socket, setting),
        (What::Print, _) => print(&ordered(loaded, flags, env)?, env),
    }
}

fn ordered(loaded: &Loaded, flags: &Flags, env: &Environment) -> Result<Order, Refusal> {
    let fails = |message: String, exit| Refusal { code: "unusable", message, exit };
    let running = std::env::current_exe()
        .map_err(|error| fails(format!("this program's own file cannot be found: {error}"), Exit::TryLater))?;
    let binary = order::binary(&running, env.get("PATH"));
    Order::new(&binary, flags, loaded, env).map_err(|message| fails(message, Exit::Config))
}

fn print(order: &Order, env: &Environment) -> Result<Report, Refusal> {
    let mut text = String::new();
    let mut files = Vec::new();
    match env.platform() {
        Platform::Linux => {
            let directory = Files::look(env)?.directory;
            for unit in unit::units(order) {
                let path = directory.join(unit.name);
                // Writing to a String cannot fail.
                let _ = writeln!(text, "# {}\n{}", path.display(), unit.text);
                files.push(json!({"path": path, "text": unit.text}));
            }
        }
        Platform::MacOs => {
            let path = launchd::file(&order.home);
            let plist = launchd::plist(order).map_err(|message| Refusal {
                code: "socket_too_long",
                message,
                exit: Exit::Config,
            })?;
            // Behind it: in front of an XML declaration stands nothing.
            let _ = writeln!(text, "{plist}<!-- {} -->", path.display());
            files.push(json!({"path": path, "text": plist}));
        }
    }
    let lines = text.trim_end().lines().map(str::to_owned).collect();
    Ok(Report { lines, document: json!({"files": files}), exit: Exit::Done })
}
