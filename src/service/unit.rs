//! The systemd units: the shipped ones, with this binary's path and what its order needs put in.
//!
//! What must always hold: nothing but the program's path is changed in a shipped line; an order without anything special
//! adds no line; whatever a path holds (spaces, quotes, `%`, `$`) means itself.

use std::path::{Path, PathBuf};

use super::mark::{Comment, marked};
use super::order::Order;

/// The service's unit.
pub const SERVICE: &str = "waveflow-sync-agent.service";
/// The socket's.
pub const SOCKET: &str = "waveflow-sync-agent.socket";
/// Where the shipped units have the program.
const SHIPPED_BINARY: &str = "/usr/bin/waveflow-sync-agent";
/// Before the program in an `Exec…=` line.
const PREFIXES: [char; 5] = ['@', '-', ':', '+', '!'];
/// A service with `PrivateTmp=` has its own; the user's is let in path by path.
const PRIVATE: [&str; 2] = ["/tmp", "/var/tmp"];

const SHIPPED_SERVICE: &str = include_str!("../../systemd/waveflow-sync-agent.service");
const SHIPPED_SOCKET: &str = include_str!("../../systemd/waveflow-sync-agent.socket");
/// What a package's generator takes from the service where users may make no namespaces.
const WITHOUT_NAMESPACES: &str = include_str!("../../systemd/no-user-namespaces.conf");

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its file's name.
    pub name: &'static str,
    /// What is in it.
    pub text: String,
}

/// The service and the socket, as they are installed.
pub fn units(order: &Order) -> [Unit; 2] {
    let text = |text: String| marked(&text, Comment::Hash);
    [Unit { name: SERVICE, text: text(service(order)) }, Unit { name: SOCKET, text: text(socket(order)) }]
}

/// Directories beside the units in which an enabled one has its link: what is in `WantedBy=`.
pub fn wants() -> Vec<String> {
    let lines = SHIPPED_SERVICE.lines().chain(SHIPPED_SOCKET.lines());
    let targets = lines.filter_map(|line| line.strip_prefix("WantedBy=")).flat_map(str::split_whitespace);
    targets.map(|target| format!("{target}.wants")).collect()
}

/// Where a socket's unit listens, if that is a place of its own.
pub fn own_socket(text: &str) -> Option<PathBuf> {
    let listens = text.lines().find_map(|line| line.strip_prefix("ListenStream="))?;
    listens.starts_with('/').then(|| listens.replace("%%", "%").into())
}

/// The line that says what a unit starts.
fn exec_start(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("ExecStart="))
}

fn service(order: &Order) -> String {
    let lines: Vec<_> =
        SHIPPED_SERVICE.lines().map(|line| exec(line, order).unwrap_or_else(|| line.to_owned())).collect();
    let without = WITHOUT_NAMESPACES.lines().filter(|line| !order.namespaces && line.contains('='));
    let added: Vec<_> = added(order).into_iter().chain(without.map(str::to_owned)).collect();
    with_added(&lines, "[Service]", &added)
}

/// The lines that the shipped unit does not have.
fn added(order: &Order) -> Vec<String> {
    let variable = |(name, value): &(&str, PathBuf)| {
        format!("Environment={}", quoted(&format!("{name}={}", value.display()), false))
    };
    order.variables.iter().map(variable).chain(let_through(order)).collect()
}

/// Whether a unit somebody else installed does what this order asks for: it starts the same program, and the order asks
/// for nothing special.
pub fn serves(text: &str, order: &Order) -> bool {
    let plain = order.flags.is_empty() && order.usual_socket && added(order).is_empty();
    plain && exec_start(text).is_some() && exec_start(text) == exec_start(&service(order))
}

/// An `Exec…=` line of our program with its own path and the flags; `None`: some other line.
fn exec(line: &str, order: &Order) -> Option<String> {
    let (key, value) = line.split_once('=').filter(|(key, _)| key.starts_with("Exec"))?;
    let program = value.trim_start_matches(PREFIXES);
    let prefix = &value[..value.len() - program.len()];
    let rest = program.strip_prefix(SHIPPED_BINARY).filter(|rest| rest.is_empty() || rest.starts_with(' '))?;
    let words = rest.split_whitespace().map(str::to_owned);
    let words = words.chain(order.flags.iter().map(|flag| quoted(&flag.to_string_lossy(), true)));
    // The first word is a path and nothing else: `$` means itself in it.
    let program = quoted(&order.binary.to_string_lossy(), false);
    Some(format!("{key}={prefix}{}", std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")))
}

fn socket(order: &Order) -> String {
    let listen = |line: &str| {
        let is_it = line.starts_with("ListenStream=") && !order.usual_socket;
        // No quotes here: the whole line is the path.
        is_it.then(|| format!("ListenStream={}", order.socket.display().to_string().replace('%', "%%")))
    };
    let lines: Vec<_> = SHIPPED_SOCKET.lines().map(|line| listen(line).unwrap_or_else(|| line.to_owned())).collect();
    with_added(&lines, "[Socket]", &[])
}

/// What the hardening of the shipped unit would keep from this order: it lets the agent write below the home directory
/// and to its own place in the runtime directory, and gives it a `/tmp` of its own.
///
/// Of the app's data it is the directory above that is let through, as far as it is there: what is made anew under it, as
/// the app does after a reset, is then writable too, which a mount on the directory itself would not be. `-`: it need not
/// be there, since a service that cannot start says less than one that misses a directory.
fn let_through(order: &Order) -> Vec<String> {
    let runtime = order.runtime.as_ref().map(|dir| dir.join("waveflow"));
    let inside =
        |path: &Path| path.starts_with(&order.home) || runtime.as_ref().is_some_and(|dir| path.starts_with(dir));
    let data = order.data_dir.as_deref().filter(|data| !inside(data));
    let data = data.map(|data| writable(data, order.data_root.as_deref().unwrap_or(data)));
    let written = [Some(order.state_dir.as_path()), data].into_iter().flatten();
    let keys = written.map(|path| (path, "BindPaths", "ReadWritePaths"));
    // systemd makes the socket; `reload` only has to see it.
    let socket = Some(order.socket.as_path()).filter(|path| is_private(path));
    let read = order.reads.iter().map(PathBuf::as_path).chain(socket);
    let keys = keys.chain(read.map(|path| (path, "BindReadOnlyPaths", "ReadOnlyPaths")));
    let mut lines = Vec::new();
    for (path, private, public) in keys.filter(|(path, ..)| !inside(path)) {
        let key = if is_private(path) { private } else { public };
        let line = format!("{key}={}", quoted(&format!("-{}", path.display()), false));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn is_private(path: &Path) -> bool {
    PRIVATE.iter().any(|dir| path.starts_with(dir))
}

/// The directory above, unless that is everything, or everybody's.
fn writable<'a>(directory: &'a Path, above: &'a Path) -> &'a Path {
    let too_much = above.parent().is_none() || PRIVATE.iter().any(|dir| above == Path::new(dir));
    if too_much { directory } else { above }
}

/// `lines` with `added` at the end of a section.
fn with_added(lines: &[String], section: &str, added: &[String]) -> String {
    let begin = lines.iter().position(|line| line == section).map_or(lines.len(), |at| at + 1);
    let next = lines[begin..].iter().position(|line| line.starts_with('[')).map_or(lines.len(), |at| begin + at);
    let end = lines[..next].iter().rposition(|line| !line.is_empty()).map_or(next, |at| at + 1);
    let all: Vec<_> = lines[..end].iter().chain(added).chain(&lines[end..]).map(String::as_str).collect();
    all.join("\n") + "\n"
}

/// A word as systemd reads it back. `%` begins a specifier everywhere, `$` a variable in a command's arguments alone, and
/// `:`, unless it is in quotes, the other end of a `BindPaths=`.
fn quoted(word: &str, dollar: bool) -> String {
    let mut text = word.replace('%', "%%");
    if dollar {
        text = text.replace('$', "$$");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+,=@%-$".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Where a user's own units are.
pub fn directory(config_home: &Path) -> PathBuf {
    config_home.join("systemd/user")
}

#[cfg(test)]
mod tests {
    use super::super::order::tests::order;
    use super::*;
    use crate::config::{Flags, Platform};

    fn linux(flags: &Flags, variables: &[(&str, &str)]) -> Order {
        order(flags, Platform::Linux, variables).unwrap()
    }

    fn exec_lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("Exec")).collect()
    }

    #[test]
    fn an_ordinary_install_is_the_shipped_unit_with_a_mark() {
        let [service, socket] = units(&linux(&Flags::default(), &[]));
        for (unit, shipped) in [(service, SHIPPED_SERVICE), (socket, SHIPPED_SOCKET)] {
            let (mark, rest) = unit.text.split_once('\n').unwrap();
            assert!(mark.starts_with("# Written by `waveflow-sync-agent service install`"), "{mark}");
            assert_eq!(rest, shipped);
        }
        assert!(exec_start(SHIPPED_SERVICE).is_some_and(|line| line.contains(SHIPPED_BINARY)));
    }

    #[test]
    fn the_programs_path_means_itself_whatever_is_in_it() {
        let mut order = linux(&Flags::default(), &[]);
        for (path, written) in [
            ("/home/zoe/.cargo/bin/agent", "/home/zoe/.cargo/bin/agent"),
            ("/a b/100%/agent", r#""/a b/100%%/agent""#),
            ("/cash$/agent", "/cash$/agent"),
            ("/semi;colon", "\"/semi;colon\""),
        ] {
            order.binary = path.into();
            let text = service(&order);
            assert_eq!(exec_start(&text), Some(format!("{written} run").as_str()));
            let lines = exec_lines(&text);
            assert_eq!(lines.len(), exec_lines(SHIPPED_SERVICE).len());
            let ours = exec_lines(SHIPPED_SERVICE).iter().filter(|line| line.contains(SHIPPED_BINARY)).count();
            assert_eq!(lines.iter().filter(|line| line.contains(written)).count(), ours, "{text}");
        }
    }

    #[test]
    fn flags_stand_behind_every_command_of_ours_and_the_socket_listens_where_told() {
        let flags = Flags {
            socket: Some("/home/zoe/my 100% sock".into()),
            log_level: Some("debug".to_owned()),
            config: Some(r#"$x "y"\.toml"#.into()),
            ..Flags::default()
        };
        let order = linux(&flags, &[]);
        let text = service(&order);
        let behind = r#"--config "/here/$$x \"y\"\\.toml" --socket "/home/zoe/my 100%% sock" --log-level debug"#;
        for line in exec_lines(&text).iter().filter(|line| line.contains(SHIPPED_BINARY)) {
            assert!(line.ends_with(behind), "{line}");
        }
        assert!(socket(&order).contains("\nListenStream=/home/zoe/my 100%% sock\n"), "{}", socket(&order));
        assert!(!text.contains("ReadWritePaths=-"), "{text}");
        assert_eq!(own_socket(&socket(&order)), flags.socket);
        assert_eq!(own_socket(SHIPPED_SOCKET), None);
    }

    #[test]
    fn an_exec_line_keeps_its_prefix_and_another_program_its_path() {
        let mut order = linux(&Flags::default(), &[]);
        order.binary = "/x".into();
        let line = format!("ExecStartPre=-+{SHIPPED_BINARY} check-config");
        assert_eq!(exec(&line, &order).as_deref(), Some("ExecStartPre=-+/x check-config"));
        for other in ["ExecReload=/bin/kill -HUP $MAINPID", "ExecStart=/usr/bin/waveflow-sync-agent-2 run", "User=x"] {
            assert_eq!(exec(other, &order), None, "{other}");
        }
    }

    #[test]
    fn what_lies_elsewhere_is_let_through() {
        let flags = Flags { data_dir: Some("/srv/my music/waveflow".into()), ..Flags::default() };
        let mut order = linux(&flags, &[("XDG_STATE_HOME", "/var/tmp/st:ate")]);
        order.data_root = Some("/srv/my music".into());
        order.reads = vec!["/etc/ssl/100%.pem".into(), "/home/zoe/ca.pem".into(), "/tmp/a.toml".into()];
        order.socket = "/tmp/a.sock".into();
        let told = let_through(&order);
        let expected = [
            "BindPaths=\"-/var/tmp/st:ate/waveflow/sync-agent\"",
            "ReadWritePaths=\"-/srv/my music\"",
            "ReadOnlyPaths=-/etc/ssl/100%%.pem",
            "BindReadOnlyPaths=-/tmp/a.toml",
            "BindReadOnlyPaths=-/tmp/a.sock",
        ];
        assert_eq!(told, expected);
        let text = service(&order);
        let begin = text.find("[Service]").unwrap();
        let end = text.find("[Install]").unwrap();
        for line in expected.iter().chain(&["Environment=\"XDG_STATE_HOME=/var/tmp/st:ate\""]) {
            assert!(text[begin..end].contains(&format!("\n{line}\n")), "{line} in {text}");
        }
    }

    #[test]
    fn where_users_may_make_no_namespaces_the_service_asks_for_none() {
        let mut order = linux(&Flags::default(), &[]);
        order.namespaces = false;
        let text = service(&order);
        let last = |key: &str| text.lines().rfind(|line| line.starts_with(key)).unwrap().to_owned();
        assert_eq!(last("PrivateUsers="), "PrivateUsers=no");
        assert_eq!(last("CapabilityBoundingSet="), "CapabilityBoundingSet=~");
        // Each of them takes back what is asked for above, and nothing else.
        for line in WITHOUT_NAMESPACES.lines().filter(|line| line.contains('=')) {
            let (key, _) = line.split_once('=').unwrap();
            let asked = SHIPPED_SERVICE.lines().filter(|shipped| shipped.starts_with(&format!("{key}="))).count();
            assert_eq!(asked, 1, "{key}");
        }
        // A package's unit has its generator for that.
        assert!(serves(SHIPPED_SERVICE, &order));
    }

    #[test]
    fn never_is_everything_let_through() {
        for (directory, above, let_in) in
            [("/data", "/", "/data"), ("/srv/data", "/srv", "/srv"), ("/tmp/data", "/tmp", "/tmp/data")]
        {
            assert_eq!(writable(Path::new(directory), Path::new(above)), Path::new(let_in));
        }
    }

    #[test]
    fn a_packages_unit_serves_who_wants_nothing_special_of_the_same_program() {
        let mut order = linux(&Flags::default(), &[]);
        assert!(serves(SHIPPED_SERVICE, &order));
        assert!(!serves("[Service]\n", &order));
        order.data_dir = Some("/srv/x".into());
        assert!(!serves(SHIPPED_SERVICE, &order));
        order.data_dir = None;
        order.binary = "/home/zoe/.cargo/bin/waveflow-sync-agent".into();
        assert!(!serves(SHIPPED_SERVICE, &order));
    }

    #[test]
    fn the_links_of_enabled_units_are_known() {
        assert_eq!(wants(), ["default.target.wants", "sockets.target.wants"]);
    }
}
