//! The block of the README that the bench writes.
//!
//! What must always hold: nothing outside the two marks changes; where the marks are not, nothing is written.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Error, Result};

/// Begins the block.
const BEGIN: &str = "<!-- written by `cargo bench -- --write`, from here -->\n";
/// Ends it.
const END: &str = "<!-- to here -->\n";
/// The picture, from the README's place.
const PICTURE: &str = "benches/figures.svg";

/// Writes tables and picture into the repository.
pub(crate) fn write(report: &str, picture: Option<&str>) -> Result<()> {
    let root: &Path = env!("CARGO_MANIFEST_DIR").as_ref();
    let readme: PathBuf = root.join("README.md");
    let block = match picture {
        Some(_) => format!("![The main figures as bars]({PICTURE})\n\n{report}"),
        None => report.to_owned(),
    };
    let text = replaced(&fs::read_to_string(&readme)?, &block)
        .ok_or_else(|| Error::other("README.md has no place for this"))?;
    if let Some(picture) = picture {
        fs::write(root.join(PICTURE), picture)?;
    }
    Ok(fs::write(&readme, text)?)
}

/// The text with this block between its marks; `None` where they are not there, in this order, once each.
pub(crate) fn replaced(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, behind) = rest.split_once(END)?;
    let once = !behind.contains(BEGIN) && !behind.contains(END) && !before.contains(END);
    once.then(|| format!("{before}{BEGIN}\n{block}\n{END}{behind}"))
}
