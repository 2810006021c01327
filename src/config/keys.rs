//! Every key there is: the one table that reading, checking, showing and the annotated file come from.
//!
//! What must always hold: a key that is not here does not exist, and a default is written here alone.

use std::time::Duration;

use super::values::{Field, Given};

/// What a key is when nobody sets it.
#[derive(Clone, Copy)]
pub enum Standard {
    /// This value.
    Is(Given<'static>),
    /// Found out elsewhere: what to tell a person, and an example for the annotated file.
    Found(&'static str, &'static str),
}

/// One key of the configuration.
pub struct Key {
    /// Its section; empty for the ones above the first section.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// Type, bounds, and where it goes.
    pub field: Field,
    /// What it is when nobody sets it.
    pub standard: Standard,
    /// A sentence for people.
    pub help: &'static str,
}

impl Key {
    /// `section.name`.
    pub fn full_name(&self) -> String {
        full_name(self.section, self.name)
    }
}

/// `section.name`, or the name alone.
pub fn full_name(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Below this, trying again is hammering.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest `Retry-After` that is heeded is an hour; nothing of ours waits longer.
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// Faster than this the timer would be a busy loop; the file watch is there for speed.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Where the watch misses something, ops must not wait longer than this.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Enough for a loopback or a local network.
const CONNECT_MIN: Duration = Duration::from_millis(100);
/// A host that has not answered by then is not there.
const CONNECT_MAX: Duration = Duration::from_secs(2 * 60);
/// Under a second a healthy but loaded server looks dead.
const REQUEST_MIN: Duration = Duration::from_secs(1);
/// The server gives up after 30 s; the rest is for a slow uplink.
const REQUEST_MAX: Duration = Duration::from_secs(10 * 60);
/// Ten looks a second is what a laptop's battery bears.
const POLL_MIN: Duration = Duration::from_millis(100);
/// Longer than this, the timer alone does as well.
const POLL_MAX: Duration = Duration::from_secs(60);
/// The server's own limit (contract, section 3).
const OPS_MAX: usize = crate::op::SERVER_MAX_OPS;
/// Smaller requests cost more in round trips than they save.
const BYTES_MIN: u64 = 64 * 1024;
/// The server's own limit (contract, section 3).
const BYTES_MAX: u64 = crate::op::SERVER_MAX_BYTES as u64;

const fn text(value: &'static str) -> Standard {
    Standard::Is(Given::Text(value))
}

/// In the order they are shown in; the ones of a section stand together.
pub static KEYS: &[Key] = &[
    Key {
        section: "",
        name: "data_dir",
        field: Field::OptionalPath(|c| &mut c.data_dir),
        standard: Standard::Found(
            "where the app keeps it, Flatpak included",
            "\"~/.local/share/app.waveflow/waveflow\"",
        ),
        help: "The desktop app's data directory: the one with app.db in it.",
    },
    Key {
        section: "",
        name: "state_dir",
        field: Field::Path(|c| &mut c.state_dir),
        standard: Standard::Found(
            "$XDG_STATE_HOME/waveflow/sync-agent, or the same under ~/.local/state",
            "\"~/.local/state/waveflow/sync-agent\"",
        ),
        help: "Where the agent keeps its own small state.",
    },
    Key {
        section: "server",
        name: "url",
        field: Field::Server(|c| &mut c.server.url),
        standard: Standard::Found("what the app has in its settings", "\"https://music.example\""),
        help: "The waveflow-server to deliver to.",
    },
    Key {
        section: "server",
        name: "proxy",
        field: Field::Proxy(|c| &mut c.server.proxy),
        standard: Standard::Found("HTTPS_PROXY, HTTP_PROXY and NO_PROXY", "\"http://proxy.example:3128\""),
        help: "The HTTP proxy on the way to the server.",
    },
    Key {
        section: "server",
        name: "ca_file",
        field: Field::OptionalPath(|c| &mut c.server.ca_file),
        standard: Standard::Found("the system's roots alone", "\"my-ca.pem\""),
        help: "Certificates (PEM) to trust besides the system's roots.",
    },
    Key {
        section: "server",
        name: "require_tls",
        field: Field::Switch(|c| &mut c.server.require_tls),
        standard: Standard::Is(Given::Boolean(false)),
        help: "Never send the token over plain http, except to this machine itself.",
    },
    Key {
        section: "server",
        name: "connect_timeout",
        field: Field::Time(CONNECT_MIN, CONNECT_MAX, |c| &mut c.server.connect_timeout),
        standard: text("10s"),
        help: "How long connecting may take, TLS included.",
    },
    Key {
        section: "server",
        name: "request_timeout",
        field: Field::Time(REQUEST_MIN, REQUEST_MAX, |c| &mut c.server.request_timeout),
        standard: text("40s"),
        help: "How long a request may take until its answer is complete.",
    },
    Key {
        section: "drain",
        name: "interval",
        field: Field::Time(INTERVAL_MIN, INTERVAL_MAX, |c| &mut c.drain.interval),
        standard: text("30s"),
        help: "The timer: how often to look for what no wake-up told of.",
    },
    Key {
        section: "drain",
        name: "batch_ops",
        field: Field::Count(1, OPS_MAX, |c| &mut c.drain.batch_ops),
        standard: Standard::Is(Given::Integer(1000)),
        help: "The most operations in one request.",
    },
    Key {
        section: "drain",
        name: "batch_bytes",
        field: Field::Size(BYTES_MIN, BYTES_MAX, |c| &mut c.drain.batch_bytes),
        standard: text("1MiB"),
        help: "The most bytes in one request; a larger operation travels alone.",
    },
    Key {
        section: "retry",
        name: "initial",
        field: Field::Time(RETRY_MIN, RETRY_MAX, |c| &mut c.retry.initial),
        standard: text("1s"),
        help: "How long to wait after the first failure; it doubles from there.",
    },
    Key {
        section: "retry",
        name: "max",
        field: Field::Time(RETRY_MIN, RETRY_MAX, |c| &mut c.retry.max),
        standard: text("5m"),
        help: "The longest wait between two tries.",
    },
    Key {
        section: "watch",
        name: "mode",
        field: Field::Mode(|c| &mut c.watch.mode),
        standard: text("auto"),
        help: "How to notice what the app commits; \"off\" leaves timer, socket and hook.",
    },
    Key {
        section: "watch",
        name: "poll_interval",
        field: Field::Time(POLL_MIN, POLL_MAX, |c| &mut c.watch.poll_interval),
        standard: text("1s"),
        help: "How often to look where looking is the only way.",
    },
    Key {
        section: "control",
        name: "socket",
        field: Field::Path(|c| &mut c.control.socket),
        standard: Standard::Found(
            "$XDG_RUNTIME_DIR/waveflow/sync-agent.sock, or sync-agent.sock under state_dir",
            "\"~/.local/state/waveflow/sync-agent/sync-agent.sock\"",
        ),
        help: "The control socket.",
    },
    Key {
        section: "metrics",
        name: "listen",
        field: Field::Loopback(|c| &mut c.metrics.listen),
        standard: Standard::Found("off", "\"127.0.0.1:9464\""),
        help: "Where Prometheus may ask for metrics.",
    },
    Key {
        section: "notify",
        name: "desktop",
        field: Field::Switch(|c| &mut c.notify.desktop),
        standard: Standard::Is(Given::Boolean(true)),
        help: "Tell the desktop (Linux), once a week at the most, of what needs you and has lasted a day.",
    },
    Key {
        section: "log",
        name: "level",
        field: Field::Level(|c| &mut c.log.level),
        standard: text("info"),
        help: "How much to log.",
    },
    Key {
        section: "log",
        name: "format",
        field: Field::Format(|c| &mut c.log.format),
        standard: text("text"),
        help: "How to log.",
    },
];

/// The key of this section and name, with its place in [`KEYS`].
pub fn find(section: &str, name: &str) -> Option<(usize, &'static Key)> {
    KEYS.iter().enumerate().find(|(_, key)| key.section == section && key.name == name)
}

/// The sections, each once, in order.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let starts = |(at, key): &(usize, &'static Key)| *at == 0 || KEYS[at - 1].section != key.section;
    KEYS.iter().enumerate().filter(starts).map(|(_, key)| key.section).filter(|section| !section.is_empty())
}

/// How much a right section counts beside a right name: enough to decide between two equal names, too little to beat
/// a better one.
const SECTION_WEIGHT: f64 = 0.25;

/// The known key that looks most like this one.
pub fn nearest_key(section: &str, name: &str) -> String {
    let (section, name) = (&section.to_lowercase(), &name.to_lowercase());
    let score = |key: &Key| {
        strsim::normalized_damerau_levenshtein(name, key.name)
            + SECTION_WEIGHT * strsim::normalized_damerau_levenshtein(section, key.section)
    };
    KEYS.iter().max_by(|a, b| score(a).total_cmp(&score(b))).map(Key::full_name).unwrap_or_default()
}

/// The known section that looks most like this one.
pub fn nearest_section(name: &str) -> &'static str {
    let name = &name.to_lowercase();
    let score = |section: &str| strsim::normalized_damerau_levenshtein(name, section);
    sections().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_there_twice_and_sections_stand_together() {
        let mut names: Vec<_> = KEYS.iter().map(Key::full_name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        let all: Vec<_> = sections().collect();
        assert_eq!(all, ["server", "drain", "retry", "watch", "control", "metrics", "notify", "log"]);
    }

    #[test]
    fn the_nearest_key_is_the_one_a_person_meant() {
        for (section, name, meant) in [
            ("drain", "batchops", "drain.batch_ops"),
            ("drain", "batch_size", "drain.batch_bytes"),
            ("retry", "inital", "retry.initial"),
            ("", "interval", "drain.interval"),
            ("", "datadir", "data_dir"),
            ("server", "URL", "server.url"),
            ("drain", "poll_interval", "watch.poll_interval"),
            ("server", "request-timeout", "server.request_timeout"),
            ("log", "fmt", "log.format"),
        ] {
            assert_eq!(nearest_key(section, name), meant, "{section}.{name}");
        }
        assert_eq!(nearest_section("drian"), "drain");
        assert_eq!(nearest_section("logging"), "log");
    }
}
