//! What README.md repeats of the code says what the code says.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::Cli;
use crate::config::keys::{KEYS, Key, Standard};
use crate::exit::Exit;

const README: &str = include_str!("../../README.md");

/// Keys that only a daemon would use. README names them as not in use.
const UNUSED: [&str; 5] = ["drain.interval", "watch.mode", "watch.poll_interval", "control.socket", "metrics.listen"];

/// From the line that begins with `from` to the one before the next that begins with `to`.
fn between(from: &str, to: &str) -> Vec<&'static str> {
    let lines: Vec<_> =
        README.lines().skip_while(|line| !line.starts_with(from)).take_while(|line| !line.starts_with(to)).collect();
    assert!(!lines.is_empty(), "README has no {from}");
    lines
}

/// The first cell of each row in the table whose head begins with `head`.
fn first_cells(head: &str) -> Vec<&'static str> {
    let rows = README.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    rows.map_while(|line| line.strip_prefix("| ")?.split(" | ").next()).collect()
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// What a row of the table of keys says.
fn row(key: &Key) -> String {
    let default = match key.standard {
        Standard::Is(given) => quoted(&given.to_string()),
        Standard::Found(words, _) => words.to_owned(),
    };
    format!("| `{}` | {default} | {} |", key.full_name(), key.help)
}

#[test]
fn the_commands_are_the_built_ones() {
    let definition = Cli::command();
    let built: Vec<_> = definition.get_subcommands().map(|command| quoted(command.get_name())).collect();
    assert_eq!(first_cells("| command "), built);
}

#[test]
fn the_flags_are_the_ones_there_are() {
    let definition = Cli::command();
    let globals = definition.get_arguments().filter(|flag| flag.is_global_set());
    let built: BTreeSet<_> = globals.filter_map(|flag| flag.get_long()).map(|flag| format!("--{flag}")).collect();
    let sentence = between("Every command takes", "|").join(" ");
    let told: BTreeSet<_> = sentence.split('`').filter(|word| word.starts_with("--")).map(str::to_owned).collect();
    // `--json` is named twice, which a set does not mind.
    assert_eq!(told, built);
}

#[test]
fn once_waits_as_long_as_told() {
    let definition = Cli::command();
    let once = definition.find_subcommand("once").unwrap();
    let wait = once.get_arguments().find(|flag| flag.get_long() == Some("wait")).unwrap();
    let default = wait.get_default_values()[0].to_str().unwrap();
    assert!(README.contains(&format!("`--wait` (default `{default}`")), "{default}");
}

#[test]
fn the_exit_codes_are_the_ones_that_can_occur() {
    // Nothing that is built asks a daemon, so nothing ends with `Exit::NoDaemon`.
    let built = [Exit::Done, Exit::Usage, Exit::Bug, Exit::TryLater, Exit::NotPermitted, Exit::Config];
    assert_eq!(first_cells("| exit code "), built.map(|exit| (exit as u8).to_string()));
}

#[test]
fn the_keys_and_their_defaults_are_the_tables() {
    let unused = |key: &&Key| UNUSED.contains(&key.full_name().as_str());
    let expected: Vec<_> = KEYS.iter().filter(|key| !unused(key)).map(row).collect();
    let told: Vec<_> =
        between("| key |", "The remaining keys").into_iter().skip(2).take_while(|line| !line.is_empty()).collect();
    assert_eq!(told, expected, "README should say:\n{}", expected.join("\n"));
    let sentence = between("The remaining keys", "##").join(" ");
    let named: BTreeSet<_> = sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(named, KEYS.iter().filter(unused).map(Key::full_name).collect());
    assert_eq!(named.len(), UNUSED.len(), "one of these is no key any more");
}

#[test]
fn a_limit_that_is_repeated_is_the_codes() {
    let needed = format!("needs Rust {}", env!("CARGO_PKG_RUST_VERSION"));
    assert!(README.contains(&needed), "{needed}");
}
