//! The agent under launchd, which calls a service of a user's an agent: installed, uninstalled, looked at.
//!
//! What must always hold: as for systemd. Nothing here is for macOS alone: the programs are handed in, and so it is tested
//! wherever the tests run.

use std::path::Path;

use serde_json::json;

use super::launchd::{self, LABEL};
use super::mark::{Comment, Standing};
use super::order::Order;
use super::plan::{self, Step};
use super::programs::Programs;
use super::report::{Refusal, Report, exit_of};
use super::systemd::Setting;
use super::user::{User, refuse_sudo};
use super::{PING, memory};
use crate::control::client::ping;
use crate::exit::Exit;

const LAUNCHCTL: &str = "launchctl";

/// What launchd knows of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    /// Its state's word; `None`: launchd does not have it.
    state: Option<String>,
    pid: Option<u32>,
    last_exit: Option<String>,
}

impl Job {
    /// # Errors
    /// There is no launchd.
    fn look(user: &User, programs: &dyn Programs) -> Result<Self, Refusal> {
        let ran = programs.run(LAUNCHCTL, &["print".into(), service(user).into()]).map_err(|error| {
            Refusal::new("no_launchd", &format!("{LAUNCHCTL} cannot be run: {error}"), Exit::NoDaemon)
        })?;
        let text = if ran.success { ran.stdout } else { String::new() };
        // The first of each is the job's own; what is below it is indented further.
        let value = |key: &str| {
            let find = |line: &str| Some(line.trim().strip_prefix(key)?.strip_prefix(" = ")?.to_owned());
            text.lines().find_map(find)
        };
        let state = value("state").or_else(|| ran.success.then(|| "unknown".to_owned()));
        Ok(Self { state, pid: value("pid").and_then(|pid| pid.parse().ok()), last_exit: value("last exit code") })
    }

    fn is_loaded(&self) -> bool {
        self.state.is_some()
    }

    fn runs(&self) -> bool {
        self.state.as_deref() == Some("running")
    }
}

/// The domain of whoever is logged in at the screen.
fn domain(user: &User) -> String {
    format!("gui/{}", user.id)
}

fn service(user: &User) -> String {
    format!("{}/{LABEL}", domain(user))
}

fn standing(path: &Path) -> Result<Standing, Refusal> {
    let standing = Standing::of(path, Comment::Xml)
        .map_err(|error| Refusal::new("unusable", &format!("{}: {error}", path.display()), exit_of(&error)))?;
    standing.objection().map_or(Ok(()), |why| {
        let message = format!("{} {why}, so it is left as it is; remove it, and say this again", path.display());
        Err(Refusal::new("not_ours", &message, Exit::NotPermitted))
    })?;
    Ok(standing)
}

/// Installs what the order says, as far as it is not there yet.
///
/// # Errors
/// It is not done, or does not run.
pub fn install(order: &Order, setting: Setting<'_>) -> Result<Report, Refusal> {
    refuse_sudo(setting.user, setting.env, "install")?;
    let text = launchd::plist(order).map_err(|message| Refusal::new("socket_too_long", &message, Exit::Config))?;
    let path = launchd::file(&order.home);
    let standing = standing(&path)?;
    let job = Job::look(setting.user, setting.programs)?;
    let answer = ping(&order.socket, PING);
    if answer.is_some() && !job.is_loaded() {
        let message = "an agent runs already that is no service; end it, and say this again";
        return Err(Refusal::new("running", message, Exit::TryLater));
    }
    let old = answer.is_some_and(|answer| answer["version"] != env!("CARGO_PKG_VERSION"));
    let steps = steps(order, (&path, &text), &standing, (&job, old), setting.user);
    plan::perform(&steps, setting.programs).map_err(|failure| {
        let why =
            if failure.exit.is_none() { " A service of yours needs you to be logged in at the screen." } else { "" };
        let message =
            format!("{}.{why} `waveflow-sync-agent service uninstall` takes back what is done so far", failure.words);
        Refusal::new("not_started", &message, failure.exit.unwrap_or(Exit::NoDaemon))
    })?;
    if ping(&order.socket, PING).is_none() {
        let log = launchd::log(&order.home);
        let message =
            format!("it is installed and does not answer on {}; see {}", order.socket.display(), log.display());
        return Err(Refusal::new("not_started", &message, Exit::NoDaemon));
    }
    let done = if steps.is_empty() { "Nothing to do, installed and running:" } else { "Installed and started:" };
    let mut lines = vec![format!("{done} {}", path.display())];
    lines.push(format!("It starts {} and answers on {}", order.binary.display(), order.socket.display()));
    lines.push("It runs while you are logged in.".to_owned());
    lines.extend(order.warnings.iter().cloned());
    let document = json!({
        "installed": true, "changed": !steps.is_empty(), "file": path, "binary": order.binary, "socket": order.socket,
        "notes": order.warnings,
    });
    Ok(Report { lines, document, exit: Exit::Done })
}

fn steps(
    order: &Order,
    (path, text): (&Path, &str),
    standing: &Standing,
    (job, old): (&Job, bool),
    user: &User,
) -> Vec<Step> {
    let changed = *standing != Standing::Ours(text.to_owned());
    let mut steps = Vec::new();
    if job.is_loaded() && (changed || old) {
        steps.extend(bootout(user));
    }
    if changed {
        let directories = [path.parent(), launchd::log(&order.home).parent()].map(|dir| dir.map(Path::to_owned));
        steps.extend(directories.into_iter().flatten().map(Step::MakeDirectory));
        // launchd makes the socket, and not what is above it.
        let directories = order.socket.parent().into_iter().chain([order.state_dir.as_path()]);
        steps.extend(directories.map(|dir| Step::MakeState(dir.to_owned())));
        steps.push(Step::Write { path: path.to_owned(), text: text.to_owned() });
    }
    if changed || old || !job.is_loaded() {
        // Somebody may have disabled it, which launchd keeps to itself.
        steps.push(Step::try_to_run(LAUNCHCTL, ["enable", &service(user)]));
        steps.push(Step::run(LAUNCHCTL, ["bootstrap", &domain(user), &path.to_string_lossy()]));
    } else if !job.runs() {
        steps.push(Step::run(LAUNCHCTL, ["kickstart", &service(user)]));
    }
    steps
}

/// launchd answers before the job is gone, and takes no second one of its name until then.
fn bootout(user: &User) -> [Step; 2] {
    let arguments = vec!["print".into(), service(user).into()];
    [Step::run(LAUNCHCTL, ["bootout", &service(user)]), Step::UntilGone { program: LAUNCHCTL, arguments }]
}

/// Takes it away.
///
/// # Errors
/// The file is not ours, or launchd cannot be told.
pub fn uninstall(state_dir: &Path, socket: &Path, setting: Setting<'_>) -> Result<Report, Refusal> {
    refuse_sudo(setting.user, setting.env, "uninstall")?;
    let home = setting.env.home().ok_or_else(|| Refusal::new("no_home", "HOME is not set", Exit::Config))?;
    let path = launchd::file(home);
    let Standing::Ours(text) = standing(&path)? else {
        let lines = vec!["Nothing is installed for this user, so nothing was done.".to_owned()];
        return Ok(Report { lines, document: json!({"installed": false, "changed": false}), exit: Exit::Done });
    };
    let job = Job::look(setting.user, setting.programs)?;
    let log = launchd::log(home);
    let mut steps = Vec::new();
    if job.is_loaded() {
        steps.extend(bootout(setting.user));
    }
    steps.extend([Step::Remove(path.clone()), Step::Remove(log.clone())]);
    let mut directories: Vec<_> = [&path, &log].into_iter().filter_map(|path| path.parent()).collect();
    let listens_on = launchd::listens_on(&text);
    let is_in_use = |socket: &Path| !job.is_loaded() && ping(socket, PING).is_some();
    // An agent that is no service goes on, and needs its socket and what it remembers.
    if !listens_on.as_deref().into_iter().chain([socket]).any(is_in_use) {
        // launchd leaves it behind.
        steps.extend(listens_on.clone().map(Step::Remove));
        steps.push(Step::ForgetState(state_dir.to_owned()));
        directories.extend(listens_on.as_deref().and_then(Path::parent).into_iter().chain([state_dir]));
    }
    steps.extend(plan::take_away(directories));
    plan::perform(&steps, setting.programs)
        .map_err(|failure| Refusal::new("not_removed", &failure.words, failure.exit.unwrap_or(Exit::TryLater)))?;
    let lines = vec![format!("Stopped and removed, with its log: {}", path.display()), memory::left(state_dir)];
    let remembered = state_dir.is_dir().then_some(state_dir);
    let document = json!({"installed": false, "changed": true, "removed": [path, log], "state_dir": remembered});
    Ok(Report { lines, document, exit: Exit::Done })
}

/// Looks, and starts nothing.
///
/// # Errors
/// There is no launchd to ask.
pub fn status(socket: &Path, setting: Setting<'_>) -> Result<Report, Refusal> {
    let home = setting.env.home().ok_or_else(|| Refusal::new("no_home", "HOME is not set", Exit::Config))?;
    let path = launchd::file(home);
    let job = Job::look(setting.user, setting.programs)?;
    let installed = path.is_file();
    let runs = job.runs();
    let answers = if runs || !job.is_loaded() { Some(ping(socket, PING).is_some()) } else { None };
    let lines = vec![
        if installed {
            format!("Installed: {}", path.display())
        } else {
            "Not installed; `waveflow-sync-agent service install` does it.".to_owned()
        },
        match (&job.state, job.pid) {
            (Some(state), Some(pid)) => format!("launchd has it: {state}, process {pid}"),
            (Some(state), None) => {
                format!("launchd has it: {state}, last exit code {}", job.last_exit.as_deref().unwrap_or("none"))
            }
            (None, _) => "launchd does not have it.".to_owned(),
        },
        match answers {
            Some(true) => format!("An agent answers on {}", socket.display()),
            Some(false) => format!("Nobody answers on {}", socket.display()),
            None => format!("The first connection to {} starts it.", socket.display()),
        },
    ];
    let document = json!({
        "installed": installed, "file": path, "loaded": job.is_loaded(), "running": runs, "state": job.state,
        "pid": job.pid, "last_exit": job.last_exit, "socket": {"path": socket, "answers": answers},
    });
    Ok(Report { lines, document, exit: if runs { Exit::Done } else { Exit::NoDaemon } })
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
