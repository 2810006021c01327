//! What is to run as a service: this binary, told what this command line was told.
//!
//! What must always hold: a service manager knows nothing of the shell `service install` was given in. So whatever of it
//! leads the agent to other places than the defaults (flags, our variables, XDG directories) is part of the order, and
//! nothing is that could be a secret.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::namespaces;
use crate::app::directory;
use crate::config::{Environment, Flags, Loaded, Platform, default_sockets};

/// As it is called on `PATH`.
const NAME: &str = "waveflow-sync-agent";
/// The directories the agent's places depend on, with what they are where nobody sets them.
const BASES: [(&str, &str); 3] =
    [("XDG_CONFIG_HOME", ".config"), ("XDG_DATA_HOME", ".local/share"), ("XDG_STATE_HOME", ".local/state")];
/// Variables of ours, and the flags that say the same.
const VARIABLES: [(&str, &str, bool); 4] = [
    ("WAVEFLOW_SYNC_AGENT_CONFIG", "--config", true),
    ("WAVEFLOW_SYNC_AGENT_DATA_DIR", "--data-dir", true),
    ("WAVEFLOW_SYNC_AGENT_SOCKET", "--socket", true),
    ("WAVEFLOW_SYNC_AGENT_LOG", "--log-level", false),
];
/// However they are written, systemd calls a program's path with one of them unsafe.
const UNSAFE: [char; 3] = ['"', '\'', '\\'];
/// Proxies come from the environment, and may hold a password.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The program.
    pub binary: PathBuf,
    /// What stands behind its command.
    pub flags: Vec<OsString>,
    /// What its environment needs besides the manager's own.
    pub variables: Vec<(&'static str, PathBuf)>,
    /// The socket people will ask on.
    pub socket: PathBuf,
    /// Whether that is where every agent of this user has it.
    pub usual_socket: bool,
    /// The user's home directory.
    pub home: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// The agent's own state.
    pub state_dir: PathBuf,
    /// The app's data, where it is or is to be.
    pub data_dir: Option<PathBuf>,
    /// The directory above the app's data, or the first one above that is there.
    pub data_root: Option<PathBuf>,
    /// What it only reads.
    pub reads: Vec<PathBuf>,
    /// Whether a user's service manager can lay the whole sandbox around a service.
    pub namespaces: bool,
    /// What a person should know before it is installed.
    pub warnings: Vec<String>,
}

impl Order {
    /// Puts it together.
    ///
    /// # Errors
    /// A path that no service manager's file can hold, or no home directory, in words.
    pub fn new(binary: &Path, flags: &Flags, loaded: &Loaded, env: &Environment) -> Result<Self, String> {
        let home = env.home().ok_or("HOME is not set, so there is no place for a service of yours")?.to_owned();
        let config = &loaded.config;
        let flags = words(flags, env);
        let variables = bases(env, &home);
        let data_dir = data_dir(loaded, env);
        let above = data_dir.iter().flat_map(|dir| dir.ancestors().skip(1));
        let data_root = above.into_iter().find(|dir| dir.is_dir()).map(Path::to_owned);
        let file = loaded.file.clone().filter(|_| loaded.file_read);
        let order = Self {
            binary: binary.to_owned(),
            variables,
            socket: config.control.socket.clone(),
            usual_socket: config.control.socket == default_sockets(&config.state_dir, env).socket,
            runtime: env.runtime_dir().map(Path::to_owned),
            state_dir: config.state_dir.clone(),
            data_dir,
            data_root,
            reads: file.into_iter().chain(config.server.ca_file.clone()).collect(),
            namespaces: namespaces::are_allowed_here(),
            warnings: warnings(binary, env),
            home,
            flags,
        };
        order.check()?;
        if env.platform() == Platform::Linux
            && !order.usual_socket
            && order.socket.to_string_lossy().ends_with([' ', '\\'])
        {
            let shown = order.socket.display();
            return Err(format!("systemd listens on no path with a blank or a backslash at its end: {shown}"));
        }
        if env.platform() == Platform::Linux && order.binary.to_string_lossy().contains(UNSAFE) {
            let shown = order.binary.display();
            return Err(format!("systemd starts no program with a quote or a backslash in its path: {shown}"));
        }
        Ok(order)
    }

    /// Unit files and plists are UTF-8, a line each.
    fn check(&self) -> Result<(), String> {
        let paths = [&self.binary, &self.socket, &self.state_dir, &self.home].into_iter().chain(&self.data_dir);
        let paths = paths.chain(self.reads.iter()).map(|path| path.as_os_str());
        let others = self.flags.iter().map(OsString::as_os_str);
        let variables = self.variables.iter().map(|(_, path)| path.as_os_str());
        for text in paths.chain(others).chain(variables) {
            if text.to_str().is_none_or(|text| text.contains(char::is_control)) {
                return Err(format!(
                    "a service manager's file cannot hold this: {}",
                    text.to_string_lossy().escape_debug()
                ));
            }
        }
        Ok(())
    }
}

/// The flags in force, made absolute. `--json` has no meaning for a daemon.
fn words(flags: &Flags, env: &Environment) -> Vec<OsString> {
    let given = [
        flags.config.as_deref().map(Path::as_os_str),
        flags.data_dir.as_deref().map(Path::as_os_str),
        flags.socket.as_deref().map(Path::as_os_str),
        flags.log_level.as_deref().map(OsStr::new),
    ];
    let mut words = Vec::new();
    for ((variable, flag, path), given) in VARIABLES.into_iter().zip(given) {
        if let Some(value) = given.or_else(|| env.get(variable)) {
            words.push(flag.into());
            words.push(if path { env.current_dir().join(value).into() } else { value.to_owned() });
        }
    }
    if let Some(format) = &flags.log_format {
        words.extend(["--log-format".into(), format.into()]);
    }
    words
}

fn bases(env: &Environment, home: &Path) -> Vec<(&'static str, PathBuf)> {
    let set = BASES.into_iter().filter_map(|(name, usual)| Some((name, env.base_dir(name, usual)?, home.join(usual))));
    set.filter(|(_, is, usual)| is != usual).map(|(name, is, _)| (name, is)).collect()
}

/// Where the app's data is; where it is not there yet, the first place it may come to.
fn data_dir(loaded: &Loaded, env: &Environment) -> Option<PathBuf> {
    match directory::find(loaded.config.data_dir.as_deref(), env, &directory::touched) {
        Ok(found) => Some(found.place.path),
        Err(error) => error.looked_at.into_iter().next().map(|place| place.path),
    }
}

fn warnings(binary: &Path, env: &Environment) -> Vec<String> {
    let shown = binary.display();
    let mut warnings = Vec::new();
    if is_temporary(binary, env) {
        warnings.push(format!(
            "{shown} is in a temporary directory: the service ends when it is cleared away, and may not even see it; \
             put the program elsewhere (`cargo install`) and run `service install` from there"
        ));
    } else if is_build(binary) {
        warnings.push(format!(
            "{shown} is a build of cargo's: the service ends with the next `cargo clean`; `cargo install --path .` puts \
             the program where it stays"
        ));
    }
    if let Some(name) = PROXIES.into_iter().find(|name| env.get(name).is_some()) {
        warnings.push(format!(
            "{name} of this shell is not handed on to the service, since it may hold a password; if it is needed, set \
             `server.proxy` in the configuration file"
        ));
    }
    warnings
}

fn is_temporary(binary: &Path, env: &Environment) -> bool {
    let named = env.get("TMPDIR").map(Path::new).filter(|path| path.is_absolute());
    let usual = ["/tmp", "/var/tmp", "/dev/shm", "/private/tmp", "/private/var/folders"].map(Path::new);
    usual.into_iter().chain(named).any(|directory| binary.starts_with(directory))
}

/// `…/target/debug/…`, `…/target/TRIPLE/release/…`.
fn is_build(binary: &Path) -> bool {
    let mut steps = binary.iter().skip_while(|step| *step != "target").skip(1).take(2);
    steps.any(|step| step == "debug" || step == "release")
}

/// The program to start: `running`, or a link to it on `PATH`, which is what stays when a package manager puts a new
/// version beside the old one.
pub fn binary(running: &Path, path: Option<&OsStr>) -> PathBuf {
    let leads_here = |link: &PathBuf| {
        link.is_symlink() && link.is_absolute() && link.canonicalize().is_ok_and(|real| real == running)
    };
    let links = path.into_iter().flat_map(std::env::split_paths).map(|directory| directory.join(NAME));
    links.into_iter().find(leads_here).unwrap_or_else(|| running.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config;

    pub(crate) fn order(flags: &Flags, platform: Platform, variables: &[(&str, &str)]) -> Result<Order, String> {
        order_of("/usr/bin/waveflow-sync-agent", flags, platform, variables)
    }

    fn order_of(binary: &str, flags: &Flags, platform: Platform, variables: &[(&str, &str)]) -> Result<Order, String> {
        let usual = [("HOME", "/home/zoe"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let all = usual.iter().chain(variables).copied();
        let env = Environment::new(platform, Path::new("/here"), all);
        let loaded = config::load_text(flags, &env, None, None).unwrap();
        // Whatever the machine that tests this lets its users do.
        Order::new(Path::new(binary), flags, &loaded, &env).map(|order| Order { namespaces: true, ..order })
    }

    #[test]
    fn an_install_without_flags_orders_nothing_special() {
        let plain = order(&Flags::default(), Platform::Linux, &[("XDG_CONFIG_HOME", "/home/zoe/.config")]).unwrap();
        assert!(
            plain.flags.is_empty() && plain.variables.is_empty() && plain.usual_socket && plain.warnings.is_empty(),
            "{plain:?}"
        );
        assert_eq!(plain.data_dir, Some("/home/zoe/.local/share/app.waveflow/waveflow".into()));
    }

    #[test]
    fn flags_and_variables_are_handed_on_and_a_flag_wins() {
        let flags = Flags { data_dir: Some("d".into()), log_format: Some("json".to_owned()), ..Flags::default() };
        let given = [
            ("WAVEFLOW_SYNC_AGENT_DATA_DIR", "/other"),
            ("WAVEFLOW_SYNC_AGENT_LOG", "debug"),
            ("XDG_STATE_HOME", "/srv/state"),
            ("HTTPS_PROXY", "http://me:secret@proxy"),
        ];
        let order = order(&flags, Platform::Linux, &given).unwrap();
        let expected = ["--data-dir", "/here/d", "--log-level", "debug", "--log-format", "json"];
        assert_eq!(order.flags, expected.map(OsString::from));
        assert_eq!(order.variables, [("XDG_STATE_HOME", PathBuf::from("/srv/state"))]);
        assert!(order.warnings[0].contains("HTTPS_PROXY") && !format!("{order:?}").contains("secret"));
    }

    #[test]
    fn a_path_that_no_unit_can_hold_is_refused() {
        let flags = Flags { data_dir: Some("/a\nExecStart=/evil".into()), ..Flags::default() };
        assert!(order(&flags, Platform::Linux, &[]).unwrap_err().contains("cannot hold"));
        for binary in ["/a\"b", "/it's", "/a\\b"] {
            let refused = order_of(binary, &Flags::default(), Platform::Linux, &[]).unwrap_err();
            assert!(refused.contains("systemd starts no program"), "{refused}");
            order_of(binary, &Flags::default(), Platform::MacOs, &[]).unwrap();
        }
    }

    #[test]
    fn a_socket_whose_end_systemd_would_not_see_is_refused() {
        for socket in ["/run/x ", "/run/x\\"] {
            let flags = Flags { socket: Some(socket.into()), ..Flags::default() };
            let refused = order(&flags, Platform::Linux, &[]).unwrap_err();
            assert!(refused.contains("systemd listens on no path") && refused.ends_with(socket), "{refused}");
            order(&flags, Platform::MacOs, &[]).unwrap();
        }
    }

    #[test]
    fn a_program_that_will_not_stay_is_told_of() {
        let env = Environment::new(Platform::Linux, Path::new("/"), [("TMPDIR", "/scratch")]);
        for (path, word) in [
            ("/scratch/x/agent", "temporary"),
            ("/tmp/agent", "temporary"),
            ("/home/zoe/src/target/debug/agent", "cargo clean"),
            ("/src/target/x86_64-unknown-linux-musl/release/agent", "cargo clean"),
        ] {
            assert!(warnings(Path::new(path), &env)[0].contains(word), "{path}");
        }
        for fine in ["/usr/bin/agent", "/home/zoe/.cargo/bin/agent", "/opt/target/agent", "/home/tmp/agent"] {
            assert!(warnings(Path::new(fine), &env).is_empty(), "{fine}");
        }
    }

    #[test]
    fn a_link_on_the_path_stands_for_the_program_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["opt-1.2", "bin", "other"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let real = root.join("opt-1.2").join(NAME);
        std::fs::write(&real, "").unwrap();
        std::fs::write(root.join("other").join(NAME), "").unwrap();
        let link = root.join("bin").join(NAME);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let path = std::env::join_paths([root.join("other"), root.join("bin")]).unwrap();
        assert_eq!(binary(&real, Some(&path)), link);
        assert_eq!(binary(&real, Some(root.join("other").as_os_str())), real);
        assert_eq!(binary(&real, None), real);
        // As /bin is on most machines: the directory is another name, and the program in it no link.
        std::os::unix::fs::symlink("opt-1.2", root.join("alias")).unwrap();
        assert_eq!(binary(&real, Some(root.join("alias").as_os_str())), real);
    }
}
