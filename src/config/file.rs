//! The configuration file: found, read with a limit, and taken apart into keys.
//!
//! What must always hold: nothing in the file is passed over; the first mistake, in the order of the file, is the one
//! that is told.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::keys;
use super::values::Given;

/// A hundred times the annotated file: more is not a configuration, and reading it would only cost memory.
pub(super) const FILE_LIMIT: u64 = 512 * 1024;

/// A value of the file, not judged yet.
pub(super) struct Entry<'a> {
    /// The key's place in [`keys::KEYS`].
    pub key: usize,
    /// The value.
    pub given: Given<'a>,
    /// Its line, from 1.
    pub line: usize,
}

/// The file's text; `None` if it is the default one and not there.
pub(super) fn read(path: &Path, named: Option<&Origin>) -> Result<Option<String>, ConfigError> {
    match read_bounded(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if named.is_none() && is_absence(&error) => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), named: named.cloned(), source }),
    }
}

/// `NotADirectory`: somewhere above it there is a file, so it cannot be there either.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("it is longer than {FILE_LIMIT} bytes")));
    }
    Ok(text)
}

/// Every key of the text with its value, in the order of the file; or what is wrong there.
pub(super) fn entries<'a>(
    path: &'a Path,
    document: &'a Document<'a>,
) -> impl Iterator<Item = Result<Entry<'a>, ConfigError>> + use<'a> {
    let is_section = |name: &str| keys::sections().any(|known| known == name);
    let mut places = Vec::new();
    for (key, value) in document.table.get_ref() {
        match value.get_ref() {
            DeValue::Table(table) if is_section(key.get_ref()) => {
                places.extend(table.iter().map(|(inner, value)| (key.get_ref().as_ref(), inner, value)));
            }
            _ => places.push(("", key, value)),
        }
    }
    // The parser sorts by name; a person reads from the top.
    places.sort_by_key(|(_, key, _)| key.span().start);
    let reader = Reader { path, text: document.text };
    places.into_iter().map(move |(section, key, value)| match value.get_ref() {
        DeValue::Table(_) if section.is_empty() && keys::find("", key.get_ref()).is_none() => {
            Err(reader.unknown_section(key))
        }
        _ if section.is_empty() && is_section(key.get_ref()) => Err(reader.not_a_section(key, value)),
        _ => reader.entry(section, key, value),
    })
}

/// A parsed text, and the text.
pub(super) struct Document<'a> {
    text: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses the text of the file at `path`.
    pub(super) fn parse(path: &Path, text: &'a str) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { text, table }),
            Err(error) => {
                let line = line(text, error.span().map_or(0, |span| span.start));
                let place = Origin::File { path: path.to_owned(), line };
                Err(ConfigError::Syntax { place, message: error.message().to_owned() })
            }
        }
    }
}

type Name<'a> = Spanned<toml::de::DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'r> {
    path: &'r Path,
    text: &'r str,
}

impl Reader<'_> {
    fn entry<'a>(&self, section: &str, key: &Name<'_>, value: &'a Value<'_>) -> Result<Entry<'a>, ConfigError> {
        let name = key.get_ref().as_ref();
        let Some((index, _)) = keys::find(section, name) else {
            let nearest = keys::nearest_key(section, name);
            return Err(ConfigError::UnknownKey { place: self.at(key), key: keys::full_name(section, name), nearest });
        };
        Ok(Entry { key: index, given: given(value.get_ref()), line: line(self.text, key.span().start) })
    }

    fn unknown_section(&self, key: &Name<'_>) -> ConfigError {
        let section = key.get_ref().to_string();
        let nearest = keys::nearest_section(&section);
        ConfigError::UnknownSection { place: self.at(key), section, nearest }
    }

    fn not_a_section(&self, key: &Name<'_>, value: &Value<'_>) -> ConfigError {
        let name = key.get_ref().to_string();
        let allowed = format!("a section, as in [{name}]");
        ConfigError::Value { place: self.at(key), key: name, value: kind(value.get_ref()).to_owned(), allowed }
    }

    fn at(&self, key: &Name<'_>) -> Origin {
        Origin::File { path: self.path.to_owned(), line: line(self.text, key.span().start) }
    }
}

fn given<'a>(value: &'a DeValue<'_>) -> Given<'a> {
    match value {
        DeValue::String(text) => Given::Text(text),
        DeValue::Boolean(switch) => Given::Boolean(*switch),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Given::Integer(number),
            Err(_) => Given::Other("a number of that size"),
        },
        other => Given::Other(kind(other)),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The line, from 1, of a byte offset.
fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Where the file is when nobody names one.
pub(super) fn default_path(config_home: Option<PathBuf>) -> Option<PathBuf> {
    config_home.map(|dir| dir.join("waveflow").join("sync-agent.toml"))
}
