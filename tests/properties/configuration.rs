//! A configuration file, as it is: what is taken is within its bounds and shown as it is, what is refused is refused in a
//! line of words without a password.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waveflow_sync_agent::config::{self, Config, ConfigError, Environment, Flags, Loaded, Platform};

/// Where the file would be.
const FILE: &str = "/home/me/.config/waveflow/sync-agent.toml";
/// A sentence for people, in bytes.
const WORDS_MAX: usize = 1000;
/// A shorter address could stand in a sentence by chance.
const ADDRESS_MIN: usize = 12;

/// See the module.
pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match load(text) {
        Ok(loaded) => {
            let _: toml::Table = toml::from_str(text).expect("what is taken is TOML");
            check_bounds(&loaded.config);
            check_shown(&loaded);
        }
        Err(error) => check_words(&error, text),
    }
}

fn load(text: &str) -> Result<Loaded, ConfigError> {
    let variables = [("HOME", "/home/me"), ("XDG_RUNTIME_DIR", "/run/user/1000")];
    let env = Environment::new(Platform::Linux, Path::new("/"), variables);
    config::load_text(&Flags::default(), &env, Some(PathBuf::from(FILE)), Some(text))
}

/// As `config/sync-agent.toml` tells them.
fn check_bounds(config: &Config) {
    let within = |value: Duration, from_ms: u64, to_s: u64| {
        assert!((Duration::from_millis(from_ms)..=Duration::from_secs(to_s)).contains(&value), "{value:?}");
    };
    within(config.server.connect_timeout, 100, 120);
    within(config.server.request_timeout, 1000, 600);
    within(config.drain.interval, 1000, 3600);
    within(config.retry.initial, 100, 3600);
    within(config.retry.max, 100, 3600);
    within(config.watch.poll_interval, 100, 60);
    assert!(config.retry.initial <= config.retry.max);
    assert!((1..=1024).contains(&config.drain.batch_ops));
    assert!((64 << 10..=2 << 20).contains(&config.drain.batch_bytes));
    assert!(config.metrics.listen.is_none_or(|address| address.ip().is_loopback()));
    let paths = [Some(&config.state_dir), Some(&config.control.socket)];
    let paths = paths.into_iter().chain([config.data_dir.as_ref(), config.server.ca_file.as_ref()]).flatten();
    paths.for_each(|path| assert!(path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0)));
    assert!(config.control.socket.as_os_str().len() <= 107);
    for (url, schemes) in
        [(&config.server.url, ["http://", "https://"].as_slice()), (&config.server.proxy, &["http://"])]
    {
        let Some(url) = url else { continue };
        let lower = url.to_ascii_lowercase();
        assert!(schemes.iter().any(|scheme| lower.starts_with(scheme)) && !url.ends_with('/'), "{url:?}");
        assert!(!url.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#')), "{url:?}");
    }
    let authority = config.server.url.as_ref().and_then(|url| url.split('/').nth(2));
    assert!(!authority.is_some_and(|authority| authority.contains('@')), "{authority:?}");
}

/// What is shown, written into a file, is the same configuration; but for a password, which is not shown.
fn check_shown(loaded: &Loaded) {
    let mut again = String::new();
    let mut section = "";
    for (key, shown, _) in loaded.values() {
        let Some(shown) = shown else { continue };
        if key.section != section {
            section = key.section;
            let _ = writeln!(again, "[{section}]");
        }
        let _ = writeln!(again, "{} = {shown}", key.name);
    }
    if let Some(proxy) = loaded.config.server.proxy.as_ref().filter(|proxy| proxy.contains('@')) {
        check_password(loaded, proxy);
        return;
    }
    let reloaded = load(&again).unwrap_or_else(|error| panic!("{error}\n{again}"));
    let mut config = loaded.config.clone();
    // A second place for the socket is there as long as nobody names the first, or a directory; here everything is named.
    config.control.other = None;
    assert_eq!(reloaded.config, config);
    // `Debug` and `PartialEq` of the server are two matters: what is not printed is compared all the same.
    assert!(reloaded.config.server == loaded.config.server);
}

/// Whoever sees what is shown cannot tell one user and password from another. That the password is nowhere to be found
/// would be too much to ask: the same word may stand in a path, and be shown there.
fn check_password(loaded: &Loaded, proxy: &str) {
    let (scheme, rest) = proxy.split_once("://").expect("an address has a scheme");
    let (_, host) = rest.rsplit_once('@').expect("a user stands before the host");
    let mut other = loaded.clone();
    other.config.server.proxy = Some(format!("{scheme}://somebody:else@{host}"));
    let seen = |loaded: &Loaded| {
        let shown: Vec<_> = loaded.values().map(|(_, shown, _)| shown).collect();
        (shown, format!("{:?}", loaded.config))
    };
    assert_eq!(seen(loaded), seen(&other));
}

fn check_words(error: &ConfigError, text: &str) {
    let words = error.to_string();
    assert!(!words.is_empty() && words.len() <= WORDS_MAX, "{words:?}");
    assert!(!words.contains(|c: char| c.is_control() && c != '\n'), "{words:?}");
    if let Ok(table) = toml::from_str::<toml::Table>(text) {
        assert!(!matches!(error, ConfigError::Syntax { .. }), "{words:?}");
        for key in ["url", "proxy"] {
            let value = table.get("server").and_then(|server| server.get(key)?.as_str());
            let password = value.filter(|value| value.len() >= ADDRESS_MIN && value.contains('@'));
            let told = matches!(error, ConfigError::Value { key: told, .. } if *told == format!("server.{key}"));
            assert!(!told || password.is_none_or(|password| !words.contains(password)), "{words:?}");
        }
    }
    if let ConfigError::UnknownKey { place, .. }
    | ConfigError::Value { place, .. }
    | ConfigError::Syntax { place, .. } = error
    {
        let config::Origin::File { line, .. } = place else { panic!("{words:?}") };
        assert!((1..=text.split('\n').count()).contains(line), "{words:?}");
    }
}
