//! What README.md repeats of the code says what the code says.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};

use super::manual::{DESCRIPTION, EXAMPLES, FILES, SIGNALS, paragraphs, shown_name};
use super::{Cli, told};
use crate::config::VARIABLES;
use crate::config::keys::{KEYS, Key, Standard};
use crate::control::command::LINES;
use crate::daemon::GRACE;
use crate::exit::Exit;

const README: &str = include_str!("../../README.md");

/// From the line that begins with `from` to the one before the next that begins with `to`.
fn between(from: &str, to: &str) -> Vec<&'static str> {
    let lines: Vec<_> =
        README.lines().skip_while(|line| !line.starts_with(from)).take_while(|line| !line.starts_with(to)).collect();
    assert!(!lines.is_empty(), "README has no {from}");
    lines
}

/// The rows of the table whose head begins with `head`.
fn rows(head: &str) -> Vec<&'static str> {
    let rows = README.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    rows.take_while(|line| line.starts_with("| ")).collect()
}

/// README without its line breaks.
fn unwrapped() -> String {
    README.lines().collect::<Vec<_>>().join(" ")
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

/// A row for every command that can be given: `queue retry [OPERATION_ID]`, and what its `--help` says.
fn leaves(command: &Command, way: &str) -> Vec<String> {
    let named = |child: &Command| format!("{way} {}", child.get_name()).trim().to_owned();
    if command.has_subcommands() {
        return command.get_subcommands().flat_map(|child| leaves(child, &named(child))).collect();
    }
    let words = command.get_positionals().map(|word| {
        let name = shown_name(word);
        if word.is_required_set() { name } else { format!("[{name}]") }
    });
    let all = std::iter::once(way.to_owned()).chain(words).collect::<Vec<_>>().join(" ");
    vec![format!("| `{all}` | {} |", paragraphs(command).join(" ").trim_end_matches('.'))]
}

#[test]
fn the_commands_are_the_built_ones_and_do_what_their_help_says() {
    let built = leaves(&told(), "");
    assert_eq!(rows("| command "), built, "README should say:\n{}", built.join("\n"));
}

#[test]
fn the_manual_says_the_same() {
    let readme = unwrapped();
    for paragraph in DESCRIPTION {
        assert!(readme.contains(paragraph), "{paragraph}");
    }
    let files = FILES.map(|(what, path)| format!("| {what} | {path} |"));
    assert_eq!(rows("| what "), files, "README should say:\n{}", files.join("\n"));
    for (signals, does) in SIGNALS {
        assert!(readme.contains(&format!("{signals}: {does}")), "{signals}: {does}");
    }
    let typed: Vec<_> = between("cargo install --path .", "```").into_iter().skip(1).collect();
    let examples = EXAMPLES.map(|(line, what)| format!("{line:38}# {what}"));
    assert_eq!(typed, examples, "README should say:\n{}", examples.join("\n"));
    for (line, _) in EXAMPLES {
        assert!(Cli::command().try_get_matches_from(line.split(' ')).is_ok(), "{line}");
    }
}

#[test]
fn the_variables_are_the_ones_that_are_heeded() {
    let told: BTreeSet<_> =
        README.split('`').filter(|word| word.starts_with("WAVEFLOW_SYNC_AGENT_") && !word.contains('=')).collect();
    assert_eq!(told, VARIABLES.map(|(variable, _)| variable).into());
}

#[test]
fn the_lines_of_the_socket_are_the_ones_it_answers() {
    let told: Vec<_> =
        between("| line ", "`outcome`").into_iter().skip(2).take_while(|line| !line.is_empty()).collect();
    let expected: Vec<_> = LINES.iter().map(|(line, does)| format!("| `{line}` | {does} |")).collect();
    assert_eq!(told, expected, "README should say:\n{}", expected.join("\n"));
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
    let all = Exit::ALL.map(|exit| format!("| {} | {} |", exit as u8, exit.means()));
    assert_eq!(rows("| exit code "), all, "README should say:\n{}", all.join("\n"));
}

#[test]
fn the_keys_and_their_defaults_are_the_tables() {
    let expected: Vec<_> = KEYS.iter().map(row).collect();
    let told: Vec<_> = between("| key |", "##").into_iter().skip(2).take_while(|line| !line.is_empty()).collect();
    assert_eq!(told, expected, "README should say:\n{}", expected.join("\n"));
}

#[test]
fn a_limit_that_is_repeated_is_the_codes() {
    let needed = format!("needs Rust {}", env!("CARGO_PKG_RUST_VERSION"));
    let grace = format!("waits up to {} s for what is on the wire", GRACE.as_secs_f64());
    for repeated in [needed, grace] {
        assert!(README.contains(&repeated), "{repeated}");
    }
}
