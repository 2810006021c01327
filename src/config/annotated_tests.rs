//! The annotated file that is shipped says what the table says.

use std::fmt::Write as _;
use std::path::Path;

use super::keys::{KEYS, Standard};
use super::*;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sync-agent.toml");

const HEAD: &str = "\
# The configuration of waveflow-sync-agent. It works without this file: every line below that has a key in it is
# commented out and shows the default, or an example where the default is found out. To change one, take the # away.
# Put it at ~/.config/waveflow/sync-agent.toml, and see what is in force with: waveflow-sync-agent check-config
";

fn annotated() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            write!(text, "\n[{section}]\n").unwrap();
        }
        let (default, value) = match key.standard {
            Standard::Is(given) => (String::new(), given.to_string()),
            Standard::Found(words, example) => (format!("# Default: {words}.\n"), example.to_owned()),
        };
        let allowed = key.field.allowed();
        write!(text, "\n# {}\n# Allowed: {allowed}.\n{default}#{} = {value}\n", key.help, key.name).unwrap();
    }
    text
}

/// Takes the `#` from what is a key, and leaves the prose, which has a space behind it.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn load_text(text: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sync-agent.toml");
    std::fs::write(&path, text).unwrap();
    let env = Environment::new(Platform::Linux, Path::new("/"), [("HOME", "/home/me")]);
    load(&Flags { config: Some(path), ..Flags::default() }, &env).unwrap()
}

#[test]
fn the_shipped_file_is_what_the_table_says() {
    if std::env::var_os("UPDATE_SHIPPED").is_some() {
        std::fs::write(SHIPPED, annotated()).unwrap();
    }
    let shipped = std::fs::read_to_string(SHIPPED).unwrap();
    assert_eq!(shipped, annotated(), "run this test with UPDATE_SHIPPED=1 and look at the difference");
}

#[test]
fn the_shipped_file_changes_nothing_and_uncommented_it_names_every_key() {
    let shipped = std::fs::read_to_string(SHIPPED).unwrap();
    let as_it_is = load_text(&shipped);
    assert!(as_it_is.values().all(|(_, _, origin)| *origin == Origin::Default));

    let whole = load_text(&uncommented(&shipped));
    for ((key, plain, _), (_, set, origin)) in as_it_is.values().zip(whole.values()) {
        assert!(matches!(origin, Origin::File { .. }), "{} is not in the file", key.full_name());
        if matches!(key.standard, Standard::Is(_)) {
            assert_eq!(plain, set, "{} is not shown with its default", key.full_name());
        }
    }
}
