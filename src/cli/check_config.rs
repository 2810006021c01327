//! `check-config`: what is in force, where each value came from, and where the app's data is.
//!
//! What must always hold: what is printed for people is TOML that means what is in force (a hidden password excepted).
//! A data directory that is not there is told and is no failure: the app may not be installed yet.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::app::directory::{self, Found, NotFound};
use crate::config::keys::{Key, Standard};
use crate::config::values::Shown;
use crate::config::{Environment, Loaded, Origin};
use crate::exit::Exit;

/// Prints it.
pub(super) fn run(loaded: &Loaded, env: &Environment, json: bool) -> Exit {
    let directory = directory::find(loaded.config.data_dir.as_deref(), env, &directory::touched);
    let text = if json { for_programs(loaded, &directory).to_string() } else { for_people(loaded, &directory) };
    super::answer(&text, Exit::Done)
}

fn for_people(loaded: &Loaded, directory: &Result<Found, NotFound>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_for_people(&mut text, loaded, directory);
    text
}

fn write_for_people(text: &mut String, loaded: &Loaded, directory: &Result<Found, NotFound>) -> fmt::Result {
    match &loaded.file {
        Some(path) if loaded.file_read => writeln!(text, "# Read: {}", one_line(&path.display().to_string()))?,
        Some(path) => writeln!(text, "# Not there, which is fine: {}", one_line(&path.display().to_string()))?,
        None => writeln!(text, "# No file: there is no home directory to look in.")?,
    }
    match directory {
        Ok(found) => {
            writeln!(text, "# The app's data: {}", one_line(&found.place.to_string()))?;
            if let Some(other) = &found.passed_over {
                writeln!(text, "# Not taken, since it was in use longer ago: {}", one_line(&other.to_string()))?;
            }
        }
        Err(error) => writeln!(text, "# {}", one_line(&capitalised(&error.to_string())))?,
    }
    writeln!(text)?;
    let mut section = "";
    for (key, value, origin) in loaded.values() {
        if key.section != section {
            section = key.section;
            writeln!(text, "\n[{section}]")?;
        }
        writeln!(text, "{}", line(key, value.as_ref(), origin))?;
    }
    Ok(())
}

/// Wide enough for most values, so that the origins stand in a column.
const VALUE_WIDTH: usize = 40;

fn line(key: &Key, value: Option<&Shown>, origin: &Origin) -> String {
    let (setting, note) = match (value, key.standard) {
        (Some(value), _) => (format!("{} = {value}", key.name), String::new()),
        (None, Standard::Found(words, _)) => (format!("# {} is not set", key.name), format!(": {words}")),
        (None, Standard::Is(_)) => (format!("# {} is not set", key.name), String::new()),
    };
    format!("{setting:VALUE_WIDTH$}  # {}", one_line(&format!("{origin}{note}")))
}

/// A path may hold a line break, and what stands behind it would no longer be a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn for_programs(loaded: &Loaded, directory: &Result<Found, NotFound>) -> Value {
    let values: Map<_, _> = loaded
        .values()
        .map(|(key, value, origin)| (key.full_name(), json!({"value": value, "origin": origin.to_string()})))
        .collect();
    let directory = match directory {
        Ok(found) => json!({"found": found.place, "passed_over": found.passed_over}),
        Err(error) => json!({"found": null, "looked_at": error.looked_at}),
    };
    json!({"file": loaded.file, "file_read": loaded.file_read, "values": values, "directory": directory})
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::app::directory::{Kind, Place};
    use crate::config::{self, Flags, Platform};

    fn load(text: &str, variables: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("given.toml");
        std::fs::write(&path, text).unwrap();
        let env = Environment::new(Platform::Linux, Path::new("/"), variables.iter().copied());
        let loaded = config::load(&Flags { config: Some(path), ..Flags::default() }, &env).unwrap();
        (dir, loaded)
    }

    fn found() -> Found {
        let place = |path: &str, kind| Place { path: path.into(), kind };
        Found { place: place("/a", Kind::Flatpak), passed_over: Some(place("/b", Kind::Linux)) }
    }

    #[test]
    fn each_value_is_shown_with_its_origin() {
        let home = [("HOME", "/h"), ("WAVEFLOW_SYNC_AGENT_LOG", "debug")];
        let (_dir, loaded) = load("[server]\nurl = \"https://x/\"\n[drain]\nbatch_ops = 7\n", &home);
        let text = for_people(&loaded, &Ok(found()));
        let has = |setting: &str, origin: &str| {
            text.lines().any(|line| line.starts_with(setting) && line.ends_with(&format!("  # {origin}")))
        };
        let file = loaded.file.as_ref().unwrap().display().to_string();
        assert!(has("batch_ops = 7 ", &format!("{file}:4")), "{text}");
        assert!(has("url = \"https://x\" ", &format!("{file}:2")), "{text}");
        assert!(has("batch_bytes = \"1MiB\" ", "default"), "{text}");
        assert!(has("level = \"debug\" ", "WAVEFLOW_SYNC_AGENT_LOG"), "{text}");
        assert!(has("# listen is not set ", "default: off"), "{text}");
        assert!(text.contains("# The app's data: /a (Flatpak)\n"), "{text}");
        assert!(text.contains("/b (Linux)\n"), "{text}");
    }

    #[test]
    fn what_is_printed_means_what_is_in_force() {
        let input = "data_dir = \"we\\\"ird\"\n[server]\nrequire_tls = true\n[drain]\nbatch_bytes = 70001\n";
        let (_dir, mut loaded) = load(input, &[("HOME", "/h")]);
        // Where nobody named a socket there is another place; here somebody did, the second time.
        loaded.config.control.other = None;
        let (_other, again) = load(&for_people(&loaded, &Ok(found())), &[("HOME", "/elsewhere")]);
        assert_eq!(again.config, loaded.config);
    }

    #[test]
    fn a_line_break_in_a_path_does_not_end_the_comment() {
        let (_dir, loaded) = load("", &[("HOME", "/h")]);
        let place = Place { path: PathBuf::from("/a\ndata_dir = \"/evil\""), kind: Kind::Named };
        let text = for_people(&loaded, &Err(NotFound { looked_at: vec![place] }));
        assert!(!text.lines().any(|line| line.starts_with("data_dir")), "{text}");
    }

    #[test]
    fn programs_get_the_same_in_one_document() {
        let (_dir, loaded) = load("drain.batch_ops = 7\n", &[("HOME", "/h")]);
        let document = for_programs(&loaded, &Ok(found()));
        let file = loaded.file.as_ref().unwrap().display().to_string();
        assert_eq!(document["file"], file);
        assert_eq!(document["file_read"], true);
        assert_eq!(document["values"]["drain.batch_ops"], json!({"value": 7, "origin": format!("{file}:1")}));
        assert_eq!(document["values"]["server.url"], json!({"value": null, "origin": "default"}));
        assert_eq!(document["directory"]["found"], json!({"path": "/a", "kind": "flatpak"}));
        let absent = for_programs(&loaded, &Err(NotFound { looked_at: Vec::new() }));
        assert_eq!(absent["directory"], json!({"found": null, "looked_at": []}));
    }
}
