//! One value: how it was given, how it is read, how it is shown.
//!
//! What must always hold: what [`Field::read`] takes and what [`Field::allowed`] tells a person come from the same
//! bounds, and what [`Field::show`] prints is read back as the same value (a hidden password excepted).

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use hyper::Uri;

use super::Config;

/// A value as somebody wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given<'a> {
    /// A string in the file, or a flag's or a variable's text.
    Text(&'a str),
    /// A flag's or a variable's path, which need not be UTF-8.
    Path(&'a Path),
    /// A whole number in the file.
    Integer(i64),
    /// `true` or `false` in the file.
    Boolean(bool),
    /// Anything no key takes, by its name.
    Other(&'static str),
}

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Path(path) => write!(f, "\"{}\"", path.display()),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(switch) => write!(f, "{switch}"),
            Self::Other(name) => write!(f, "{name}"),
        }
    }
}

/// A value as it is shown: in TOML by `Display`, in JSON by `Serialize`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// Text, times and paths.
    Text(String),
    /// Whole numbers.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(switch) => write!(f, "{switch}"),
        }
    }
}

/// A value that is one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Each word, and what it stands for.
    const ALL: &'static [(&'static str, Self)];

    /// The word for this one.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// What the word stands for.
    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// What paths are read against.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// What a relative path is relative to.
    pub dir: &'a Path,
    /// What `~` stands for.
    pub home: Option<&'a Path>,
}

/// The place of a `T` in the configuration.
pub type At<T> = fn(&mut Config) -> &mut T;

/// A key's type, its bounds, and where its value goes.
#[derive(Clone, Copy)]
pub enum Field {
    /// A path that always has a value.
    Path(At<PathBuf>),
    /// A path that may be absent.
    OptionalPath(At<Option<PathBuf>>),
    /// The server's base URL.
    Server(At<Option<String>>),
    /// An HTTP proxy.
    Proxy(At<Option<String>>),
    /// On or off.
    Switch(At<bool>),
    /// A time, both ends included.
    Time(Duration, Duration, At<Duration>),
    /// A number of things, both ends included.
    Count(usize, usize, At<usize>),
    /// A number of bytes, both ends included.
    Size(u64, u64, At<usize>),
    /// How commits are noticed.
    Mode(At<super::WatchMode>),
    /// How much is logged.
    Level(At<crate::log::Level>),
    /// How it is logged.
    Format(At<crate::log::Format>),
    /// An address of this machine only.
    Loopback(At<Option<SocketAddr>>),
}

impl Field {
    /// What a person may write.
    pub fn allowed(&self) -> String {
        match self {
            Self::Path(_) | Self::OptionalPath(_) => "a path, absolute, from ~/ or relative to the file".into(),
            Self::Server(_) => "an http:// or https:// address without name, password, query or fragment".into(),
            Self::Proxy(_) => "an http:// address without a path".into(),
            Self::Switch(_) => "true or false".into(),
            Self::Time(min, max, _) => format!("a time from {:?} to {:?}", time(*min), time(*max)),
            Self::Count(min, max, _) => format!("a whole number from {min} to {max}"),
            Self::Size(min, max, _) => format!("a size from {} to {}", size(*min), size(*max)),
            Self::Mode(_) => words::<super::WatchMode>(),
            Self::Level(_) => words::<crate::log::Level>(),
            Self::Format(_) => words::<crate::log::Format>(),
            Self::Loopback(_) => "a loopback address and a port, as in \"127.0.0.1:9464\"".into(),
        }
    }

    /// Whether a wrong value must not be repeated in a message, since it may hold a password.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Proxy(_))
    }

    /// Puts what was given in its place. `None`: it is none of what is allowed, and nothing was changed.
    pub fn read(&self, config: &mut Config, given: Given<'_>, base: Base<'_>) -> Option<()> {
        match self {
            Self::Path(at) => *at(config) = path(given, base)?,
            Self::OptionalPath(at) => *at(config) = Some(path(given, base)?),
            Self::Server(at) => *at(config) = Some(server(given)?),
            Self::Proxy(at) => *at(config) = Some(proxy(given)?),
            Self::Switch(at) => *at(config) = switch(given)?,
            Self::Time(min, max, at) => *at(config) = duration(given).filter(|value| (min..=max).contains(&value))?,
            Self::Count(min, max, at) => *at(config) = count(given, *min, *max)?,
            Self::Size(min, max, at) => *at(config) = bytes(given, *min, *max)?,
            Self::Mode(at) => *at(config) = choice(given)?,
            Self::Level(at) => *at(config) = choice(given)?,
            Self::Format(at) => *at(config) = choice(given)?,
            Self::Loopback(at) => *at(config) = Some(loopback(given)?),
        }
        Some(())
    }

    /// What is in force; `None` where nothing is set. A password in an address is hidden.
    pub fn show(&self, config: &mut Config) -> Option<Shown> {
        let text = |path: &PathBuf| Shown::Text(path.to_string_lossy().into_owned());
        match self {
            Self::Path(at) => Some(text(at(config))),
            Self::OptionalPath(at) => at(config).as_ref().map(text),
            Self::Server(at) | Self::Proxy(at) => at(config).as_deref().map(|url| Shown::Text(without_password(url))),
            Self::Switch(at) => Some(Shown::Boolean(*at(config))),
            Self::Time(_, _, at) => Some(Shown::Text(time(*at(config)))),
            Self::Count(_, _, at) => i64::try_from(*at(config)).ok().map(Shown::Integer),
            Self::Size(_, _, at) => Some(Shown::Text(size(*at(config) as u64))),
            Self::Mode(at) => Some(Shown::Text(at(config).name().into())),
            Self::Level(at) => Some(Shown::Text(at(config).name().into())),
            Self::Format(at) => Some(Shown::Text(at(config).name().into())),
            Self::Loopback(at) => at(config).map(|address| Shown::Text(address.to_string())),
        }
    }
}

fn words<T: Choice>() -> String {
    let names: Vec<_> = T::ALL.iter().map(|(name, _)| format!("{name:?}")).collect();
    names.join(", ")
}

fn time(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// The largest unit that leaves nothing over: what is shown must be what is in force.
fn size(value: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = KIB * KIB;
    match value {
        value if value % MIB == 0 => format!("{}MiB", value / MIB),
        value if value % KIB == 0 => format!("{}KiB", value / KIB),
        value => format!("{value}B"),
    }
}

fn path(given: Given<'_>, base: Base<'_>) -> Option<PathBuf> {
    let path = match given {
        Given::Text(text) => Path::new(text),
        Given::Path(path) => path,
        _ => return None,
    };
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return None;
    }
    match path.strip_prefix("~") {
        Ok(rest) => Some(base.home?.join(rest)),
        // `~somebody` would quietly become a directory of that name.
        Err(_) if bytes.starts_with(b"~") => None,
        Err(_) => Some(base.dir.join(path)),
    }
}

fn switch(given: Given<'_>) -> Option<bool> {
    match given {
        Given::Boolean(switch) => Some(switch),
        _ => None,
    }
}

fn duration(given: Given<'_>) -> Option<Duration> {
    match given {
        Given::Text(text) => humantime::parse_duration(text).ok(),
        _ => None,
    }
}

fn count(given: Given<'_>, min: usize, max: usize) -> Option<usize> {
    match given {
        Given::Integer(number) => usize::try_from(number).ok().filter(|number| (min..=max).contains(number)),
        _ => None,
    }
}

fn bytes(given: Given<'_>, min: u64, max: u64) -> Option<usize> {
    let bytes = match given {
        Given::Text(text) => text.parse::<ByteSize>().ok()?.as_u64(),
        Given::Integer(number) => u64::try_from(number).ok()?,
        _ => return None,
    };
    (min..=max).contains(&bytes).then(|| usize::try_from(bytes).ok())?
}

fn choice<T: Choice>(given: Given<'_>) -> Option<T> {
    match given {
        Given::Text(text) => T::of_name(text),
        _ => None,
    }
}

fn loopback(given: Given<'_>) -> Option<SocketAddr> {
    match given {
        Given::Text(text) => text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback()),
        _ => None,
    }
}

/// Stored as the app stores it: trimmed, without the slashes at the end (contract, section 2).
fn server(given: Given<'_>) -> Option<String> {
    let Given::Text(text) = given else { return None };
    let text = text.trim().trim_end_matches('/');
    let uri = address(text)?;
    let plain = uri.query().is_none() && !uri.authority()?.as_str().contains('@');
    (plain && matches!(uri.scheme_str(), Some("http" | "https"))).then(|| text.to_owned())
}

/// Only plain http to the proxy itself; what goes through it to an https server is a TLS tunnel all the same.
fn proxy(given: Given<'_>) -> Option<String> {
    let Given::Text(text) = given else { return None };
    let text = text.trim().trim_end_matches('/');
    let uri = address(text)?;
    let plain = uri.query().is_none() && matches!(uri.path(), "" | "/");
    (plain && uri.scheme_str() == Some("http")).then(|| text.to_owned())
}

fn address(text: &str) -> Option<Uri> {
    // A fragment is dropped without a word by the parser, and beyond ASCII it takes what is no part of an address.
    let is_wrong = |c: char| c == '#' || c.is_control() || c.is_whitespace();
    let uri: Uri = if text.contains(is_wrong) { return None } else { text.parse().ok()? };
    uri.host().filter(|host| !host.is_empty())?;
    // `host:` and `host:99999` come back without a port.
    let authority = uri.authority()?.as_str();
    let after_host = authority.rsplit(']').next()?.rsplit('@').next()?;
    (uri.port_u16().is_some() || !after_host.contains(':')).then_some(uri)
}

fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        // A path may have one too, and is no secret.
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (_, host) = authority.rsplit_once('@')?;
        Some(format!("{scheme}://…@{host}{path}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base<'static> {
        Base { dir: Path::new("/etc/x"), home: None }
    }

    #[test]
    fn paths_are_read_against_the_files_directory_and_the_home() {
        let base = Base { home: Some(Path::new("/home/me")), ..base() };
        let read = |text| path(Given::Text(text), base);
        assert_eq!(read("/a/b"), Some("/a/b".into()));
        assert_eq!(read("a/b"), Some("/etc/x/a/b".into()));
        assert_eq!(read("~/a"), Some("/home/me/a".into()));
        assert_eq!(read("~"), Some("/home/me".into()));
        for wrong in ["", "~you/a", "a\0b"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(path(Given::Text("~/a"), self::base()), None);
        assert_eq!(path(Given::Integer(1), base), None);
    }

    #[test]
    fn a_server_is_stored_as_the_app_stores_it() {
        assert_eq!(
            server(Given::Text(" https://music.example/waveflow// ")),
            Some("https://music.example/waveflow".into())
        );
        assert_eq!(server(Given::Text("http://[::1]:8080")), Some("http://[::1]:8080".into()));
        for wrong in [
            "",
            "music.example",
            "ftp://music.example",
            "https://",
            "https://u:p@music.example",
            "https://a/?q=1",
            "https://a/#f",
            "https://a:99999",
            "https://a:",
            "https://a b/",
            "https://a/\u{94}",
            "https://a/b\u{a0}c",
            "/path",
            "http://[::1]:x",
        ] {
            assert_eq!(server(Given::Text(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_proxy_may_have_a_password_but_it_is_not_shown() {
        let given = proxy(Given::Text("http://me:secret@proxy:3128/")).unwrap();
        assert_eq!(given, "http://me:secret@proxy:3128");
        assert_eq!(without_password(&given), "http://…@proxy:3128");
        assert_eq!(without_password("http://me:a@b@proxy:1"), "http://…@proxy:1");
        assert_eq!(without_password("https://music.example/@me"), "https://music.example/@me");
        assert_eq!(proxy(Given::Text("https://proxy:3128")), None);
        assert_eq!(proxy(Given::Text("http://proxy/path")), None);
    }

    #[test]
    fn sizes_are_shown_exactly() {
        for bytes in [65_536_u64, 65_537, 1_048_576, 1_000_000, 2_097_152] {
            assert_eq!(size(bytes).parse::<ByteSize>().unwrap().as_u64(), bytes);
        }
        assert_eq!(bytes(Given::Text("1MB"), 1, 1 << 21), Some(1_000_000));
        assert_eq!(bytes(Given::Integer(70_000), 65_536, 1 << 21), Some(70_000));
        assert_eq!(bytes(Given::Integer(-1), 0, 1 << 21), None);
        assert_eq!(bytes(Given::Text("3MiB"), 1, 1 << 21), None);
    }

    #[test]
    fn only_loopback_listens() {
        assert!(loopback(Given::Text("127.0.0.1:9464")).is_some());
        assert!(loopback(Given::Text("[::1]:9464")).is_some());
        for wrong in ["0.0.0.0:9464", "[::]:1", "192.0.2.1:9464", "9464", "localhost:9464"] {
            assert_eq!(loopback(Given::Text(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration(Given::Text("1m 30s")), Some(Duration::from_secs(90)));
        assert_eq!(duration(Given::Text("30")), None);
        assert_eq!(duration(Given::Integer(30)), None);
    }

    #[test]
    fn text_is_shown_as_toml() {
        for text in ["plain", "with \"quotes\" and \\", "line\nbreak", "it's", "\u{7f}"] {
            let table: toml::Table = format!("v = {}", Shown::Text(text.into())).parse().unwrap();
            assert_eq!(table["v"].as_str(), Some(text));
        }
    }
}
