//! The manual beside the help: both are made from one definition, and must tell the same.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use waveflow_sync_agent::exit::Exit;

use crate::common::{Agent, command};

/// What every help shows and no command owns.
const HELP: [&str; 2] = ["--help", "--version"];

/// What the binary answers to this.
pub(super) fn printed(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    Agent::start(command(home.path()).args(arguments)).finish().ended_with(0).stdout
}

/// The first words of the lines below `heading`, as far as they are indented.
fn listed(help: &str, heading: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| *line != heading).skip(1);
    let lines = below.take_while(|line| line.is_empty() || line.starts_with(' '));
    // What an option is stands on lines of its own, further in.
    let heads = lines.filter(|line| !line.is_empty() && !line.starts_with("       "));
    heads.map(|line| line.trim().to_owned()).collect()
}

/// `--flag` out of `-f, --flag <VALUE>`.
fn long_flag(line: &str) -> Option<String> {
    line.split([' ', ',']).find(|word| word.starts_with("--")).map(str::to_owned)
}

/// Each command that can be given, with the flags its `--help` shows; those of all stand under the empty name.
pub(super) fn told_by_help() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    gather(&[], &mut found);
    found
}

fn gather(way: &[&str], found: &mut BTreeMap<String, BTreeSet<String>>) {
    let help = printed(&[way, &["--help"]].concat());
    let commands: Vec<_> =
        listed(&help, "Commands:").iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    if commands.is_empty() || way.is_empty() {
        found.insert(way.join(" "), listed(&help, "Options:").iter().filter_map(|line| long_flag(line)).collect());
    }
    for command in &commands {
        gather(&[way, &[command.as_str()]].concat(), found);
    }
}

/// The same out of the manual.
fn told_by_manual(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut section, mut command) = ("", String::new());
    let mut before = "";
    for line in page.lines() {
        if let Some(name) = line.strip_prefix(".SH ") {
            (section, command) = (name, String::new());
        } else if let Some(usage) = line.strip_prefix(".SS ") {
            let usage = usage.trim_matches('"').replace("\\-", "-");
            let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
            command = usage.split(' ').take_while(is_word).collect::<Vec<_>>().join(" ");
            found.insert(command.clone(), BTreeSet::new());
        } else if before == ".TP" && matches!(section, "\"COMMANDS\"" | "\"OPTIONS\"") {
            let plain = line.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
            if let Some(flag) = long_flag(&plain) {
                found.entry(command.clone()).or_default().insert(flag);
            }
        }
        before = line;
    }
    found
}

#[test]
fn the_manual_and_the_help_agree_both_ways() {
    let help = told_by_help();
    let manual = told_by_manual(&printed(&["manual"]));
    let globals = help[""].clone();
    assert!(globals.contains("--json") && HELP.iter().all(|flag| globals.contains(*flag)), "{globals:?}");
    // A command's help repeats the flags of all; the manual has them once.
    let own = help.into_iter().map(|(command, flags)| {
        let own = if command.is_empty() { flags } else { flags.difference(&globals).cloned().collect() };
        (command, own)
    });
    let own: BTreeMap<_, BTreeSet<_>> = own.collect();
    assert!(own.contains_key("queue discard") && own["once"].contains("--wait"), "{own:?}");
    assert_eq!(manual, own);
}

#[test]
fn the_manual_has_every_exit_code_and_no_other() {
    let page = printed(&["manual"]);
    let section = page.split(".SH \"EXIT STATUS\"\n").nth(1).unwrap().split(".SH ").next().unwrap();
    let codes = section.lines().filter_map(|line| line.strip_prefix("\\fB")?.strip_suffix("\\fR"));
    let codes: Vec<u8> = codes.map(|code| code.parse().unwrap()).collect();
    assert_eq!(codes, Exit::ALL.map(|exit| exit as u8));
}

#[test]
fn the_manual_has_the_sections_people_look_for() {
    let page = printed(&["manual"]);
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    let expected = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "COMMANDS",
        "OPTIONS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "SIGNALS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    assert_eq!(sections, expected.map(|name| format!("\"{name}\"")));
}

#[test]
fn what_packagers_need_is_in_no_help_and_asks_for_no_configuration() {
    assert!(!printed(&["--help"]).contains("manual"));
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("wrong.toml"), "[sever]\n").unwrap();
    for arguments in [&["manual"][..], &["completions", "zsh"]] {
        let mut command = command(home.path());
        command.args(["--config", "wrong.toml"]).args(arguments);
        Agent::start(&mut command).finish().ended_with(0);
    }
    let run = Agent::start(command(home.path()).args(["completions", "tcsh"])).finish().ended_with(64);
    assert!(run.stderr.contains("bash"), "{run:?}");
}

#[test]
fn man_shows_the_manual_without_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("page.1");
    std::fs::write(&path, printed(&["manual"])).unwrap();
    let mut formatted = Vec::new();
    for (name, arguments) in [
        ("man", &["--warnings", "-E", "UTF-8", "-l"][..]),
        ("mandoc", &["-T", "lint", "-W", "warning"]),
        ("groff", &["-k", "-man", "-Tutf8", "-ww"]),
    ] {
        let shown =
            Command::new(name).args(arguments).arg(&path).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").output();
        let Ok(shown) = shown else {
            println!("skipped: {name} is not installed");
            continue;
        };
        let complaint = text(if name == "mandoc" { &shown.stdout } else { &shown.stderr });
        // The page has no date on purpose.
        let complaint: Vec<_> = complaint.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(complaint.is_empty(), "{name}: {complaint:?}");
        assert!(shown.status.success() || name == "mandoc", "{name}");
        if name == "man" {
            formatted = shown.stdout;
        }
    }
    let lines: Vec<_> = text(&formatted).lines().map(str::to_owned).collect();
    // Empty where a slim image keeps no pages and its `man` says so with a success.
    let wide: Vec<_> = lines.iter().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:?}");
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
