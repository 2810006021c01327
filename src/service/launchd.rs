//! launchd's file for the agent, and the socket launchd hands over.
//!
//! What must always hold: what is installed is the shipped file with its placeholders filled in and the order's flags and
//! variables added; it stays a valid property list whatever a path holds.

use std::path::{Path, PathBuf};

use super::mark::{Comment, marked};
use super::order::Order;
use crate::config::Platform;

/// The service's name.
pub const LABEL: &str = "app.waveflow.sync-agent";

const SHIPPED: &str = include_str!("../../config/app.waveflow.sync-agent.plist");
const BINARY: &str = "@BINARY@";
const SOCKET: &str = "@SOCKET@";
const LOG: &str = "@LOG@";
/// Behind it stand more arguments.
const LAST_ARGUMENT: &str = "        <string>run</string>\n";
/// Before it stand more keys.
const END: &str = "</dict>\n</plist>\n";

/// Where a user's own agents are.
pub fn file(home: &Path) -> PathBuf {
    home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"))
}

/// Where launchd writes the agent's log to.
pub fn log(home: &Path) -> PathBuf {
    home.join("Library/Logs/waveflow-sync-agent.log")
}

/// Where launchd listens for the agent, as an installed file has it.
pub fn listens_on(text: &str) -> Option<PathBuf> {
    let (_, behind) = text.split_once("<key>SockPathName</key>")?;
    let (path, _) = behind.trim_start().strip_prefix("<string>")?.split_once("</string>")?;
    Some(path.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").into())
}

/// The file for this order.
///
/// # Errors
/// The socket's path is longer than the system takes.
pub fn plist(order: &Order) -> Result<String, String> {
    let (length, limit) = (order.socket.as_os_str().len(), Platform::MacOs.socket_path_limit());
    if length > limit {
        return Err(format!(
            "the socket's path {} has {length} bytes, and {limit} is the most; choose a shorter one with `control.socket` \
             or --socket",
            order.socket.display()
        ));
    }
    // From here on nothing is looked for in what was put in: a path may hold anything.
    let (head, rest) = SHIPPED.split_once(LAST_ARGUMENT).unwrap_or((SHIPPED, ""));
    let flags: String = order.flags.iter().map(|flag| line(2, "string", &flag.to_string_lossy())).collect();
    let (rest, end) = rest.split_at(rest.rfind(END).unwrap_or(rest.len()));
    let text = [&filled(head, order), LAST_ARGUMENT, &flags, &filled(rest, order), &variables(order), end].concat();
    Ok(marked(&text, Comment::Xml))
}

/// With the paths in the places that are kept for them.
fn filled(text: &str, order: &Order) -> String {
    let log = log(&order.home);
    let places = [(BINARY, order.binary.as_path()), (SOCKET, &order.socket), (LOG, &log)];
    let first =
        places.iter().filter_map(|(place, path)| Some((text.find(place)?, place, path))).min_by_key(|found| found.0);
    let Some((at, place, path)) = first else { return text.to_owned() };
    let behind = &text[at + place.len()..];
    [&text[..at], &escaped(&path.to_string_lossy()), &filled(behind, order)].concat()
}

fn variables(order: &Order) -> String {
    let pairs: String = order
        .variables
        .iter()
        .map(|(name, value)| line(2, "key", name) + &line(2, "string", &value.to_string_lossy()))
        .collect();
    if pairs.is_empty() {
        return pairs;
    }
    format!("\n    <key>EnvironmentVariables</key>\n    <dict>\n{pairs}    </dict>\n")
}

fn line(depth: usize, tag: &str, text: &str) -> String {
    format!("{:indent$}<{tag}>{}</{tag}>\n", "", escaped(text), indent = depth * 4)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The socket that launchd holds for us, if it started us: the one named `Listeners` in the file.
#[cfg(target_os = "macos")]
pub fn socket() -> Option<std::os::unix::net::UnixListener> {
    use service_binding::{Binding, Listener};
    // In its words, a launchd socket by its name.
    let binding: Binding = "fd://Listeners".parse().ok()?;
    match Listener::try_from(binding).ok()? {
        Listener::Unix(listener) => Some(listener),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::tests::order;
    use super::*;
    use crate::config::Flags;

    fn made(flags: &Flags, variables: &[(&str, &str)]) -> Order {
        order(flags, Platform::MacOs, variables).unwrap()
    }

    /// The strings behind a key, one or all of an array.
    fn strings(text: &str, key: &str) -> Vec<String> {
        let behind = text.split_once(&format!("<key>{key}</key>")).unwrap().1;
        let end = if behind.trim_start().starts_with("<array>") { "</array>" } else { "</string>" };
        let part = behind.split_once(end).unwrap().0;
        part.split("<string>").skip(1).map(|part| part.split("</string>").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_installed_file_has_every_path_filled_in() {
        let text = plist(&made(&Flags::default(), &[])).unwrap();
        assert_eq!(strings(&text, "ProgramArguments"), ["/usr/bin/waveflow-sync-agent", "run"]);
        let socket = "/home/zoe/.local/state/waveflow/sync-agent/sync-agent.sock";
        assert_eq!(strings(&text, "SockPathName"), [socket]);
        assert_eq!(strings(&text, "StandardErrorPath"), ["/home/zoe/Library/Logs/waveflow-sync-agent.log"]);
        assert_eq!(strings(&text, "Label"), [LABEL]);
        for placeholder in [BINARY, SOCKET, LOG] {
            assert!(SHIPPED.contains(placeholder) && !text.contains(placeholder), "{placeholder}");
        }
        assert!(!text.contains("EnvironmentVariables") && text.ends_with(END));
        assert!(text.lines().nth(1).unwrap().starts_with("<!-- Written by `waveflow-sync-agent service install`"));
    }

    #[test]
    fn a_path_that_looks_like_a_tag_or_a_placeholder_means_itself() {
        let mut order = made(&Flags::default(), &[]);
        order.binary = "/a <b> & @SOCKET@/run".into();
        order.socket = "/<string>run</string>".into();
        let text = plist(&order).unwrap();
        assert_eq!(strings(&text, "ProgramArguments"), ["/a &lt;b&gt; &amp; @SOCKET@/run", "run"]);
        assert_eq!(strings(&text, "SockPathName"), ["/&lt;string&gt;run&lt;/string&gt;"]);
        assert_eq!(listens_on(&text), Some(order.socket));
    }

    #[test]
    fn flags_and_directories_are_handed_on() {
        let flags = Flags { data_dir: Some("/Volumes/A & B".into()), ..Flags::default() };
        let text = plist(&made(&flags, &[("XDG_STATE_HOME", "/Volumes/state")])).unwrap();
        let arguments = ["/usr/bin/waveflow-sync-agent", "run", "--data-dir", "/Volumes/A &amp; B"];
        assert_eq!(strings(&text, "ProgramArguments"), arguments);
        assert_eq!(strings(&text, "XDG_STATE_HOME"), ["/Volumes/state"]);
        assert_eq!(text.matches("<dict>").count(), text.matches("</dict>").count());
    }

    #[test]
    fn a_home_too_deep_for_a_socket_is_told() {
        let mut order = made(&Flags::default(), &[]);
        order.socket = format!("/Users/{}/s", "x".repeat(100)).into();
        let told = plist(&order).unwrap_err();
        assert!(told.contains("109 bytes, and 103 is the most") && told.contains("--socket"), "{told}");
    }

    #[test]
    fn a_wrong_configuration_is_not_started_again_and_again() {
        let keep_alive = SHIPPED.split_once("<key>KeepAlive</key>").unwrap().1.split_once("</dict>").unwrap().0;
        let words: Vec<_> = keep_alive.split_whitespace().collect();
        assert_eq!(words, ["<dict>", "<key>Crashed</key>", "<true/>"]);
        assert!(SHIPPED.contains("<key>ThrottleInterval</key>") && SHIPPED.contains("<integer>384</integer>"));
    }
}
