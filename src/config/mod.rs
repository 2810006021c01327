//! The configuration: what can be set, by whom, and what is in force.
//!
//! A value comes from a flag, else from the environment, else from the file, else from the table in [`keys`]. What must
//! always hold: whatever nobody understands is an error, never passed over; every value in a [`Config`] is within its
//! bounds; and [`load`] reads nothing but its arguments and the one file.

mod environment;
mod error;
mod file;
pub mod keys;
pub mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use environment::{Environment, Platform};
pub use error::{ConfigError, Origin};
use keys::{KEYS, Key, Standard};
use values::{Base, Choice, Given, Shown};

use crate::log;

/// Names the configuration file.
const CONFIG_VARIABLE: &str = "WAVEFLOW_SYNC_AGENT_CONFIG";
const DATA_DIR_VARIABLE: &str = "WAVEFLOW_SYNC_AGENT_DATA_DIR";
const SOCKET_VARIABLE: &str = "WAVEFLOW_SYNC_AGENT_SOCKET";
const LEVEL_VARIABLE: &str = "WAVEFLOW_SYNC_AGENT_LOG";

/// Our own variables, and the flag that overrules each.
pub const VARIABLES: [(&str, &str); 4] = [
    (CONFIG_VARIABLE, "--config"),
    (DATA_DIR_VARIABLE, "--data-dir"),
    (SOCKET_VARIABLE, "--socket"),
    (LEVEL_VARIABLE, "--log-level"),
];

/// What is in force. Each field is described in [`keys::KEYS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The app's data directory, absolute; `None`: look for it ([`crate::app::directory`]).
    pub data_dir: Option<PathBuf>,
    /// Our own state, absolute.
    pub state_dir: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[drain]`
    pub drain: Drain,
    /// `[retry]`
    pub retry: Retry,
    /// `[watch]`
    pub watch: Watch,
    /// `[control]`
    pub control: Control,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[notify]`
    pub notify: Notify,
    /// `[log]`
    pub log: Log,
}

/// `[server]`
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Base URL without slashes at the end; `None`: what the app has.
    pub url: Option<String>,
    /// `http://…`, possibly with a password in it; `None`: what the environment says.
    pub proxy: Option<String>,
    /// PEM file, absolute; not looked into yet.
    pub ca_file: Option<PathBuf>,
    /// Refuse plain http except to loopback.
    pub require_tls: bool,
    /// For connecting, TLS included.
    pub connect_timeout: Duration,
    /// For a whole request.
    pub request_timeout: Duration,
}

/// Without the proxy, which may hold a password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url).field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// The timer.
    pub interval: Duration,
    /// Ops in a request, `1..=1024`.
    pub batch_ops: usize,
    /// Bytes in a request, 64 KiB to 2 MiB.
    pub batch_bytes: usize,
}

/// `[retry]`; `initial` is never longer than `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// After the first failure.
    pub initial: Duration,
    /// At the most.
    pub max: Duration,
}

/// `[watch]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// How commits are noticed.
    pub mode: WatchMode,
    /// How often to look, where looking is the way.
    pub poll_interval: Duration,
}

/// How commits are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// The best way this system has.
    Auto,
    /// Look every `poll_interval`.
    Poll,
    /// Not at all: timer, socket and hook only.
    Off,
}

impl Choice for WatchMode {
    const ALL: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("poll", Self::Poll), ("off", Self::Off)];
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Absolute, and short enough for a socket's address.
    pub socket: PathBuf,
    /// Where nobody named one: the place of an agent that was started with the user's runtime directory where we have none
    /// (`su`, cron), or without where we have one (a system service). Commands look there too.
    pub other: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// A loopback address; `None`: off.
    pub listen: Option<SocketAddr>,
}

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// A message on the desktop for what has been wrong for a day.
    pub desktop: bool,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much.
    pub level: log::Level,
    /// How.
    pub format: log::Format,
}

/// What the command line sets. Relative paths are relative to the working directory.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// A configuration, and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// The file, if there is a place for one.
    pub file: Option<PathBuf>,
    /// Whether it was there.
    pub file_read: bool,
    /// Of each key in [`KEYS`], in that order.
    origins: Vec<Origin>,
}

impl Loaded {
    /// Each key with what is in force (`None` where nothing is set) and where that came from.
    pub fn values(&self) -> impl Iterator<Item = (&'static Key, Option<Shown>, &Origin)> {
        // Reading a field goes through the same function as setting it, which wants a `&mut`.
        let mut config = self.config.clone();
        KEYS.iter().zip(&self.origins).map(move |(key, origin)| (key, key.field.show(&mut config), origin))
    }
}

/// Finds out what is in force.
pub fn load(flags: &Flags, env: &Environment) -> Result<Loaded, ConfigError> {
    let (path, named) = config_file(flags, env);
    let text = match &path {
        Some(path) => file::read(path, named.as_ref())?,
        None => None,
    };
    load_text(flags, env, path, text.as_deref())
}

/// What would be in force if `text` stood in the file at `file`; `None`: it is not there. Reads no file.
pub fn load_text(
    flags: &Flags,
    env: &Environment,
    file: Option<PathBuf>,
    text: Option<&str>,
) -> Result<Loaded, ConfigError> {
    let mut loading = Loading { env, config: blank(env), origins: vec![Origin::Default; KEYS.len()] };
    loading.apply_standards()?;
    if let Some((path, text)) = file.as_ref().zip(text) {
        loading.apply_file(path, text)?;
    }
    loading.apply_given(flags)?;
    loading.finish()?;
    Ok(Loaded { config: loading.config, file, file_read: text.is_some(), origins: loading.origins })
}

fn config_file(flags: &Flags, env: &Environment) -> (Option<PathBuf>, Option<Origin>) {
    if let Some(path) = &flags.config {
        return (Some(env.current_dir().join(path)), Some(Origin::Flag("--config")));
    }
    if let Some(path) = env.get(CONFIG_VARIABLE) {
        return (Some(env.current_dir().join(path)), Some(Origin::Variable(CONFIG_VARIABLE)));
    }
    (file::default_path(env.base_dir("XDG_CONFIG_HOME", ".config")), None)
}

/// Nothing set. What the table has a standard for is overwritten at once, the rest in [`Loading::finish`].
fn blank(env: &Environment) -> Config {
    let state_home = env.base_dir("XDG_STATE_HOME", ".local/state");
    Config {
        data_dir: None,
        state_dir: state_home.map(|dir| dir.join("waveflow").join("sync-agent")).unwrap_or_default(),
        server: Server {
            url: None,
            proxy: None,
            ca_file: None,
            require_tls: false,
            connect_timeout: Duration::ZERO,
            request_timeout: Duration::ZERO,
        },
        drain: Drain { interval: Duration::ZERO, batch_ops: 0, batch_bytes: 0 },
        retry: Retry { initial: Duration::ZERO, max: Duration::ZERO },
        watch: Watch { mode: WatchMode::Auto, poll_interval: Duration::ZERO },
        control: Control { socket: PathBuf::new(), other: None },
        metrics: Metrics { listen: None },
        notify: Notify { desktop: false },
        log: Log { level: log::Level::Info, format: log::Format::Text },
    }
}

struct Loading<'a> {
    env: &'a Environment,
    config: Config,
    origins: Vec<Origin>,
}

impl Loading<'_> {
    fn apply_standards(&mut self) -> Result<(), ConfigError> {
        for (index, key) in KEYS.iter().enumerate() {
            if let Standard::Is(given) = key.standard {
                self.set(index, given, Origin::Default, Path::new("/"))?;
            }
        }
        Ok(())
    }

    fn apply_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let document = file::Document::parse(path, text)?;
        for entry in file::entries(path, &document) {
            let entry = entry?;
            self.set(entry.key, entry.given, Origin::File { path: path.to_owned(), line: entry.line }, dir)?;
        }
        Ok(())
    }

    /// Flags, and the variables that no flag overrules.
    fn apply_given(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        let data_dir = flags.data_dir.as_deref().map(Given::Path);
        self.set_given("", "data_dir", data_dir, "--data-dir", Some(DATA_DIR_VARIABLE))?;
        let socket = flags.socket.as_deref().map(Given::Path);
        self.set_given("control", "socket", socket, "--socket", Some(SOCKET_VARIABLE))?;
        let level = flags.log_level.as_deref().map(Given::Text);
        self.set_given("log", "level", level, "--log-level", Some(LEVEL_VARIABLE))?;
        let format = flags.log_format.as_deref().map(Given::Text);
        self.set_given("log", "format", format, "--log-format", None)
    }

    fn set_given(
        &mut self,
        section: &str,
        name: &str,
        flag: Option<Given<'_>>,
        flag_name: &'static str,
        variable: Option<&'static str>,
    ) -> Result<(), ConfigError> {
        let Some((index, _)) = keys::find(section, name) else { return Ok(()) };
        let env = self.env;
        if let Some(given) = flag {
            return self.set(index, given, Origin::Flag(flag_name), env.current_dir());
        }
        let Some(variable) = variable else { return Ok(()) };
        let Some(value) = env.get(variable) else { return Ok(()) };
        // Only paths may be something other than UTF-8, and those take either.
        let given = value.to_str().map_or(Given::Path(Path::new(value)), Given::Text);
        self.set(index, given, Origin::Variable(variable), env.current_dir())
    }

    fn set(&mut self, index: usize, given: Given<'_>, place: Origin, dir: &Path) -> Result<(), ConfigError> {
        let key = &KEYS[index];
        let base = Base { dir, home: self.env.home() };
        if key.field.read(&mut self.config, given, base).is_none() {
            let value = if key.field.is_secret() { "this".to_owned() } else { given.to_string() };
            return Err(ConfigError::Value { place, key: key.full_name(), value, allowed: key.field.allowed() });
        }
        self.origins[index] = place;
        Ok(())
    }

    /// What depends on more than one key.
    fn finish(&mut self) -> Result<(), ConfigError> {
        let config = &mut self.config;
        if config.state_dir.as_os_str().is_empty() {
            return Err(ConfigError::NoHome);
        }
        if config.control.socket.as_os_str().is_empty() {
            config.control = default_sockets(&config.state_dir, self.env);
            // Who names a directory means one certain agent, and no other may answer for it.
            if ["state_dir", "data_dir"].iter().any(|name| self.origin("", name) != Origin::Default) {
                self.config.control.other = None;
            }
        }
        self.check_socket()?;
        self.check_retry()
    }

    fn check_socket(&self) -> Result<(), ConfigError> {
        let path = &self.config.control.socket;
        let (length, limit) = (path.as_os_str().len(), self.env.platform().socket_path_limit());
        if length > limit {
            let place = self.origin("control", "socket");
            return Err(ConfigError::SocketTooLong { place, path: path.clone(), length, limit });
        }
        Ok(())
    }

    fn check_retry(&self) -> Result<(), ConfigError> {
        let retry = &self.config.retry;
        if retry.initial <= retry.max {
            return Ok(());
        }
        let place = match self.origin("retry", "initial") {
            Origin::Default => self.origin("retry", "max"),
            place => place,
        };
        Err(ConfigError::RetryOrder { place, max: humantime::format_duration(retry.max).to_string() })
    }

    fn origin(&self, section: &str, name: &str) -> Origin {
        keys::find(section, name).map_or(Origin::Default, |(index, _)| self.origins[index].clone())
    }
}

/// Where only this user can reach it, and where it is gone after a restart if the system has such a place.
pub fn default_sockets(state_dir: &Path, env: &Environment) -> Control {
    let (below, beside) =
        (|dir: PathBuf| dir.join("waveflow").join("sync-agent.sock"), state_dir.join("sync-agent.sock"));
    match (env.platform(), env.runtime_dir()) {
        (Platform::MacOs, _) => Control { socket: beside, other: None },
        (Platform::Linux, Some(dir)) => Control { socket: below(dir.to_owned()), other: Some(beside) },
        (Platform::Linux, None) => {
            // systemd's choice for it; elsewhere nothing is there.
            let usual = format!("/run/user/{}", rustix::process::geteuid().as_raw());
            Control { socket: beside, other: Some(below(usual.into())) }
        }
    }
}

#[cfg(test)]
mod annotated_tests;
#[cfg(test)]
mod tests;
