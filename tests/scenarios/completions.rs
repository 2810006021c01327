//! Completions: whole, and working in the shells that are installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::manual::{printed, text, told_by_help};

/// A shell that is there, or a word about why this is skipped.
fn shell(name: &str) -> Option<Command> {
    let there = Command::new(name).arg("-c").arg("exit 0").output().is_ok();
    if !there {
        println!("skipped: {name} is not installed");
    }
    there.then(|| Command::new(name))
}

/// The script, in a file.
fn script(home: &Path, shell: &str) -> PathBuf {
    let path = home.join(format!("completions.{shell}"));
    std::fs::write(&path, printed(&["completions", shell])).unwrap();
    path
}

#[track_caller]
fn candidates(output: &Output) -> BTreeSet<String> {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // fish tells what each is for behind a tab.
    text(&output.stdout).lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}

#[test]
fn every_command_and_flag_is_in_every_completion() {
    let help = told_by_help();
    for name in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", name]);
        let has =
            |word: &str| script.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|found| found == word);
        for (command, flags) in &help {
            assert!(command.split_whitespace().all(has), "{name}: {command}");
            for flag in flags {
                // fish names long flags without their dashes.
                assert!(has(flag) || name == "fish" && has(flag.trim_start_matches('-')), "{name}: {flag}");
            }
        }
        assert!(["trace", "json"].into_iter().all(has), "{name}: values");
        // clap_complete knows values of positionals for the two others alone.
        assert!(has("zsh") || name == "fish", "{name}: shells");
        assert!(!has("manual"), "{name}");
    }
}

/// What is typed, and some of what has to be offered, and something that must not be.
const TYPED: [(&[&str], &[&str], &str); 7] = [
    (&["dr"], &["drain"], "once"),
    (&["drain", ""], &["now"], "once"),
    (&["queue", "re"], &["retry"], "resume"),
    (&["once", "--w"], &["--wait"], "--json"),
    (&["once", "--log-level", ""], &["error", "warn", "info", "debug", "trace"], "text"),
    (&["status", "--log-format", "j"], &["json"], "text"),
    (&["completions", ""], &["bash", "zsh", "fish"], "drain"),
];

#[track_caller]
fn assert_offered(shell: &str, typed: &[&str], found: &BTreeSet<String>) {
    let (_, expected, not) = TYPED.iter().find(|(words, ..)| *words == typed).unwrap();
    assert!(expected.iter().all(|word| found.contains(*word)), "{shell} {typed:?}: {found:?}");
    assert!(!found.contains(*not), "{shell} {typed:?}: {found:?}");
}

#[test]
fn bash_completes() {
    // Calls what `complete -F` named, with what bash hands to it.
    const ASK: &str = r#"
        source "$1"; shift
        COMP_WORDS=(waveflow-sync-agent "$@"); COMP_CWORD=$#
        COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
        how=$(complete -p waveflow-sync-agent); how=${how#*-F }
        "${how%% *}" waveflow-sync-agent "${@: -1}" "${COMP_WORDS[$#-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    if shell("bash").is_none() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let script = script(home.path(), "bash");
    for (typed, ..) in TYPED {
        let asked = Command::new("bash").args(["--norc", "-c", ASK, "bash"]).arg(&script).args(typed).output().unwrap();
        assert_offered("bash", typed, &candidates(&asked));
    }
}

#[test]
fn fish_completes() {
    if shell("fish").is_none() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let script = script(home.path(), "fish");
    // See above.
    for (typed, ..) in TYPED.iter().filter(|(typed, ..)| typed[0] != "completions") {
        let line = format!("waveflow-sync-agent {}", typed.join(" "));
        let ask = "source $argv[1]; complete --do-complete $argv[2]";
        let mut fish = Command::new("fish");
        let asked = fish.args(["--no-config", "-c", ask]).arg(&script).arg(&line).env("HOME", home.path()).output();
        assert_offered("fish", typed, &candidates(&asked.unwrap()));
    }
}

#[test]
fn zsh_completes() {
    // Completion lives in the line editor, and that on a terminal: an inner zsh gets one, completes the line, and writes
    // it to a file instead of running it. It ends by itself if nobody types.
    const ASK: &str = r#"
        zmodload zsh/zpty
        zpty inner zsh -f -i
        zpty -w inner "TMOUT=30; autoload -Uz compinit; compinit -u -D; source ${(q)1}
        show() { print -r -- \$BUFFER >${(q)2}; exit }; zle -N show; bindkey '^X' show; bindkey '^I' complete-word"
        zpty -n -w inner "$3"$'\t\x18'
        while zpty -r inner said; do :; done"#;
    if shell("zsh").is_none() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (script, answer) = (script(home.path(), "zsh"), home.path().join("answer"));
    for (typed, completed) in [
        ("dr", "drain"),
        ("queue ret", "queue retry"),
        ("queue discard --y", "queue discard --yes"),
        ("--log-level tr", "--log-level trace"),
        ("once --log-format j", "once --log-format json"),
        ("completions f", "completions fish"),
    ] {
        let line = format!("waveflow-sync-agent {typed}");
        let mut zsh = Command::new("zsh");
        let asked = zsh.args(["-f", "-c", ASK, "zsh"]).args([&script, &answer]).arg(line).env("HOME", home.path());
        let asked = asked.stdin(Stdio::null()).output().unwrap();
        let found = std::fs::read_to_string(&answer).unwrap_or_default();
        assert_eq!(found.trim_end(), format!("waveflow-sync-agent {completed}"), "{asked:?}");
        std::fs::remove_file(&answer).unwrap();
    }
}
