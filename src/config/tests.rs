//! Precedence, messages, and what depends on more than one key.

use std::path::Path;

use super::*;

struct Home {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
    flags: Flags,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let variables = vec![("HOME", dir.path().to_str().unwrap().to_owned())];
        Self { dir, variables, flags: Flags::default() }
    }

    fn file(self, text: &str) -> Self {
        std::fs::create_dir_all(self.config_dir()).unwrap();
        std::fs::write(self.config_dir().join("sync-agent.toml"), text).unwrap();
        self
    }

    fn config_dir(&self) -> PathBuf {
        self.dir.path().join(".config/waveflow")
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        let variables = self.variables.iter().map(|(name, value)| (*name, value.as_str()));
        load(&self.flags, &Environment::new(Platform::Linux, Path::new("/some/dir"), variables))
    }

    fn config(&self) -> Config {
        self.load().unwrap().config
    }

    /// The message, with the file's directory taken out.
    fn message(&self) -> String {
        self.load().unwrap_err().to_string().replace(&format!("{}/", self.config_dir().display()), "")
    }
}

fn message(text: &str) -> String {
    Home::new().file(text).message()
}

fn origin<'a>(loaded: &'a Loaded, name: &str) -> &'a Origin {
    loaded.values().find(|(key, ..)| key.full_name() == name).unwrap().2
}

#[test]
fn without_anything_there_are_the_interfaces_defaults() {
    let home = Home::new().variable("XDG_RUNTIME_DIR", "/run/user/1000");
    let loaded = home.load().unwrap();
    let config = &loaded.config;
    assert_eq!(config.data_dir, None);
    assert_eq!(config.state_dir, home.dir.path().join(".local/state/waveflow/sync-agent"));
    assert_eq!((&config.server.url, &config.server.proxy, &config.server.ca_file), (&None, &None, &None));
    assert!(!config.server.require_tls);
    assert_eq!(config.server.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.server.request_timeout, Duration::from_secs(40));
    assert_eq!(config.drain, Drain { interval: Duration::from_secs(30), batch_ops: 1000, batch_bytes: 1024 * 1024 });
    assert_eq!(config.retry, Retry { initial: Duration::from_secs(1), max: Duration::from_secs(300) });
    assert_eq!(config.watch, Watch { mode: WatchMode::Auto, poll_interval: Duration::from_secs(1) });
    assert_eq!(config.control.socket, Path::new("/run/user/1000/waveflow/sync-agent.sock"));
    assert_eq!(config.metrics.listen, None);
    assert_eq!(config.log, Log { level: log::Level::Info, format: log::Format::Text });
    assert!(!loaded.file_read);
    assert!(loaded.values().all(|(_, _, origin)| *origin == Origin::Default));
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let mut home = Home::new().file("data_dir = \"/file\"\n[log]\nlevel = \"warn\"\n");
    let loaded = home.load().unwrap();
    assert_eq!(loaded.config.data_dir.as_deref(), Some(Path::new("/file")));
    assert_eq!(loaded.config.log.level, log::Level::Warn);
    let at_line = |line| Origin::File { path: home.config_dir().join("sync-agent.toml"), line };
    assert_eq!(origin(&loaded, "data_dir"), &at_line(1));
    assert_eq!(origin(&loaded, "log.level"), &at_line(3));

    home = home.variable("WAVEFLOW_SYNC_AGENT_DATA_DIR", "env").variable("WAVEFLOW_SYNC_AGENT_LOG", "debug");
    let loaded = home.load().unwrap();
    assert_eq!(loaded.config.data_dir.as_deref(), Some(Path::new("/some/dir/env")));
    assert_eq!(loaded.config.log.level, log::Level::Debug);
    assert_eq!(origin(&loaded, "log.level"), &Origin::Variable("WAVEFLOW_SYNC_AGENT_LOG"));

    home.flags.data_dir = Some("flag".into());
    home.flags.log_level = Some("trace".into());
    let loaded = home.load().unwrap();
    assert_eq!(loaded.config.data_dir.as_deref(), Some(Path::new("/some/dir/flag")));
    assert_eq!(loaded.config.log.level, log::Level::Trace);
    assert_eq!(origin(&loaded, "data_dir"), &Origin::Flag("--data-dir"));
}

#[test]
fn an_absent_file_is_an_error_only_where_somebody_named_it() {
    let mut home = Home::new();
    assert!(home.load().is_ok());
    home = home.variable("WAVEFLOW_SYNC_AGENT_CONFIG", "absent.toml");
    assert_eq!(
        home.message(),
        "/some/dir/absent.toml: cannot read the configuration: No such file or directory (os error 2) \
         (named by WAVEFLOW_SYNC_AGENT_CONFIG)"
    );
    home.flags.config = Some("/absent/flag.toml".into());
    assert!(home.message().contains("/absent/flag.toml: ") && home.message().ends_with("(named by --config)"));
}

#[test]
fn a_file_that_is_there_but_unusable_is_an_error() {
    let home = Home::new().file("");
    let path = home.config_dir().join("sync-agent.toml");
    std::fs::write(&path, [0xff]).unwrap();
    assert!(home.message().contains("UTF-8"), "{}", home.message());
    std::fs::write(&path, vec![b'\n'; usize::try_from(file::FILE_LIMIT).unwrap() + 1]).unwrap();
    assert!(home.message().contains("longer than"), "{}", home.message());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(home.message().contains("cannot read"), "{}", home.message());
}

#[test]
fn what_nobody_knows_is_named_with_line_and_the_nearest_known() {
    assert_eq!(
        message("[drain]\n\nbatchops = 5\n"),
        "sync-agent.toml:3: unknown key `drain.batchops`; did you mean `drain.batch_ops`?"
    );
    assert_eq!(message("datadir = \"/\""), "sync-agent.toml:1: unknown key `datadir`; did you mean `data_dir`?");
    assert_eq!(
        message("# a comment\n[drian]\ninterval = \"5s\"\n"),
        "sync-agent.toml:2: unknown section `[drian]`; did you mean `[drain]`?"
    );
    assert!(message("[drain.more]\ninterval = \"5s\"\n").starts_with("sync-agent.toml:1: unknown key `drain.more`;"));
    assert_eq!(
        message("log.file = \"x\"\nzzz = 1"),
        "sync-agent.toml:1: unknown key `log.file`; did you mean `server.ca_file`?"
    );
    for steering in ["\"\\u001b[31m\" = 1", "[\"\\u001b[31m\"]\na = 1", "control.socket = \"/\\u001b{long}\""] {
        let message = message(&steering.replace("{long}", &"x".repeat(120)));
        assert!(message.contains("\\u{1b}") && !message.contains('\u{1b}'), "{message:?}");
    }
}

#[test]
fn a_wrong_value_is_named_with_line_and_what_is_allowed() {
    for (text, expected) in [
        ("[drain]\nbatch_ops = 1025", "2: `drain.batch_ops` cannot be 1025; allowed: a whole number from 1 to 1024"),
        ("[drain]\nbatch_ops = 0", "2: `drain.batch_ops` cannot be 0; allowed: a whole number from 1 to 1024"),
        (
            "[drain]\nbatch_ops = 99999999999999999999",
            "2: `drain.batch_ops` cannot be a number of that size; allowed: a whole number from 1 to 1024",
        ),
        (
            "[drain]\nbatch_bytes = \"3MiB\"",
            "2: `drain.batch_bytes` cannot be \"3MiB\"; allowed: a size from 64KiB to 2MiB",
        ),
        ("[drain]\ninterval = 30", "2: `drain.interval` cannot be 30; allowed: a time from \"1s\" to \"1h\""),
        ("[drain]\ninterval = \"2h\"", "2: `drain.interval` cannot be \"2h\"; allowed: a time from \"1s\" to \"1h\""),
        (
            "server.connect_timeout = \"0s\"",
            "1: `server.connect_timeout` cannot be \"0s\"; allowed: a time from \"100ms\" to \"2m\"",
        ),
        ("[watch]\nmode = \"inotify\"", "2: `watch.mode` cannot be \"inotify\"; allowed: \"auto\", \"poll\", \"off\""),
        ("server.require_tls = \"yes\"", "1: `server.require_tls` cannot be \"yes\"; allowed: true or false"),
        ("data_dir = []", "1: `data_dir` cannot be a list; allowed: a path, absolute, from ~/ or relative to the file"),
        (
            "[data_dir]\nx = 1",
            "1: `data_dir` cannot be a section; allowed: a path, absolute, from ~/ or relative to the file",
        ),
        ("drain = 5", "1: `drain` cannot be a whole number; allowed: a section, as in [drain]"),
        ("[[drain]]\ninterval = \"5s\"", "1: `drain` cannot be a list; allowed: a section, as in [drain]"),
        (
            "[metrics]\nlisten = \"0.0.0.0:9464\"",
            "2: `metrics.listen` cannot be \"0.0.0.0:9464\"; allowed: a loopback address and a port, as in \"127.0.0.1:9464\"",
        ),
    ] {
        assert_eq!(message(text), format!("sync-agent.toml:{expected}"));
    }
    let home = Home::new().variable("WAVEFLOW_SYNC_AGENT_LOG", "loud");
    assert_eq!(
        home.message(),
        "WAVEFLOW_SYNC_AGENT_LOG: `log.level` cannot be \"loud\"; \
         allowed: \"error\", \"warn\", \"info\", \"debug\", \"trace\""
    );
}

#[test]
fn the_first_mistake_in_the_file_is_told() {
    assert!(message("[watch]\nmode = 1\n[drain]\nx = 1").contains(":2:"));
    assert!(message("log.level = 1\ndrain.x = 1\nlog.format = 1").contains(":1:"));
    assert!(message("log.level = \"info\"\ndrain.x = 1\nlog.format = 1").contains(":2:"));
    assert!(message("[watch]\nx = 1\n[drain]\ny = 1").contains(":2:"));
    assert!(message("[watch]\npoll_interval = 1\nmode = 1").contains(":2:"));
}

#[test]
fn broken_toml_is_named_with_its_line() {
    let text = message("[drain]\ninterval = 30s\n");
    assert!(text.starts_with("sync-agent.toml:2: "), "{text}");
    let text = message("[drain]\ninterval = \"5s\"\ninterval = \"6s\"\n");
    assert!(text.starts_with("sync-agent.toml:3: "), "{text}");
}

#[test]
fn a_password_is_in_no_message_and_no_debug_output() {
    let text = message("server.proxy = \"https://me:hunter2@proxy:1\"");
    assert!(text.contains("server.proxy") && !text.contains("hunter2"), "{text}");
    let loaded = Home::new().file("server.proxy = \"http://me:hunter2@proxy:1\"").load().unwrap();
    assert_eq!(loaded.config.server.proxy.as_deref(), Some("http://me:hunter2@proxy:1"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert!(loaded.values().all(|(_, shown, _)| !format!("{shown:?}").contains("hunter2")));
}

#[test]
fn paths_of_the_file_are_relative_to_it() {
    let home = Home::new().file("state_dir = \"~/state\"\n[server]\nca_file = \"ca.pem\"\n");
    let config = home.config();
    assert_eq!(config.server.ca_file, Some(home.config_dir().join("ca.pem")));
    assert_eq!(config.state_dir, home.dir.path().join("state"));
    assert_eq!(config.control.socket, home.dir.path().join("state/sync-agent.sock"));
}

#[test]
fn the_first_wait_is_not_longer_than_the_longest() {
    assert_eq!(
        message("[retry]\ninitial = \"10m\""),
        "sync-agent.toml:2: `retry.initial` is longer than `retry.max`; allowed: at most 5m"
    );
    assert!(message("[retry]\nmax = \"500ms\"").starts_with("sync-agent.toml:2: "));
    assert!(Home::new().file("[retry]\ninitial = \"5m\"").load().is_ok());
}

#[test]
fn a_socket_that_does_not_fit_its_address_is_refused() {
    let path = |length: usize| format!("/{}", "s".repeat(length - 1));
    let load_with = |platform, length| {
        let flags = Flags { socket: Some(path(length).into()), ..Flags::default() };
        load(&flags, &Environment::new(platform, Path::new("/"), [("HOME", "/h")]))
    };
    assert!(load_with(Platform::Linux, 107).is_ok());
    assert!(load_with(Platform::MacOs, 103).is_ok());
    assert!(load_with(Platform::MacOs, 104).is_err());
    let text = load_with(Platform::Linux, 108).unwrap_err().to_string();
    assert!(text.starts_with("--socket: `control.socket` is 108 bytes long"), "{text}");
}

#[test]
fn without_a_home_the_state_needs_a_place() {
    let env = Environment::new(Platform::Linux, Path::new("/"), []);
    assert!(matches!(load(&Flags::default(), &env), Err(ConfigError::NoHome)));
    let env = Environment::new(Platform::Linux, Path::new("/"), [("XDG_STATE_HOME", "/s")]);
    assert_eq!(
        load(&Flags::default(), &env).unwrap().config.control.socket,
        Path::new("/s/waveflow/sync-agent/sync-agent.sock")
    );
}

#[test]
fn another_agents_socket_is_no_stand_in_for_one_of_a_named_directory() {
    let other = |flags: &Flags| {
        let env = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        load(flags, &Environment::new(Platform::Linux, Path::new("/"), env)).unwrap().config.control.other
    };
    assert_eq!(other(&Flags::default()), Some("/h/.local/state/waveflow/sync-agent/sync-agent.sock".into()));
    assert_eq!(other(&Flags { data_dir: Some("/srv/x".into()), ..Flags::default() }), None);
    assert_eq!(other(&Flags { socket: Some("/srv/x.sock".into()), ..Flags::default() }), None);
}
