//! Command lines of the kit's two programs: `--name value`, `--name`, and words.
//!
//! What must always hold: what is not understood is an error, never ignored.

use std::collections::HashMap;
use std::str::FromStr;

use crate::{Error, Result};

/// A command line, taken apart.
#[derive(Debug, Default)]
pub struct Args {
    values: HashMap<String, String>,
    switches: Vec<String>,
    /// What does not begin with `--`.
    pub words: Vec<String>,
}

impl Args {
    /// Takes a command line apart: `valued` names take the next argument, `switches` none.
    pub fn parse(arguments: impl IntoIterator<Item = String>, valued: &[&str], switches: &[&str]) -> Result<Self> {
        let mut args = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                None => args.words.push(argument),
                Some(name) if switches.contains(&name) => args.switches.push(name.to_owned()),
                Some(name) if valued.contains(&name) => {
                    let value = arguments.next().ok_or_else(|| Error::other(format!("--{name} wants a value")))?;
                    args.values.insert(name.to_owned(), value);
                }
                Some(name) => return Err(Error::other(format!("--{name} is not known"))),
            }
        }
        Ok(args)
    }

    /// Whether a switch was given.
    pub fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|given| given == switch)
    }

    /// A value, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A value, or what it is without.
    pub fn get<T: FromStr>(&self, name: &str, otherwise: T) -> Result<T> {
        match self.text(name) {
            Some(text) => text.parse().map_err(|_| Error::other(format!("--{name} {text} makes no sense"))),
            None => Ok(otherwise),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        Args::parse(line.split_whitespace().map(str::to_owned), &["rate"], &["tls"])
    }

    #[test]
    fn values_switches_and_words_are_told_apart() {
        let args = parse("dir --rate 5 --tls").unwrap();
        assert_eq!((args.words.as_slice(), args.get("rate", 1).unwrap()), (["dir".to_owned()].as_slice(), 5));
        assert!(args.has("tls") && !parse("dir").unwrap().has("tls"));
        assert_eq!(parse("dir").unwrap().get("rate", 1).unwrap(), 1);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(parse("--what").is_err() && parse("--rate").is_err());
        assert!(parse("--rate fast").unwrap().get("rate", 1).is_err());
    }
}
