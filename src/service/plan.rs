//! What is to be done, as a value; and the one place that does it.
//!
//! What must always hold: an empty plan touches nothing; a file is there whole or not at all; a step that fails ends the
//! plan, and what it said is told.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::programs::Programs;
use super::report::exit_of;
use super::{directories, memory};
use crate::exit::Exit;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a directory, with all above it, to be taken away again.
    MakeDirectory(PathBuf),
    /// Make a directory that is its owner's alone, such as the one the agent keeps its state in; likewise.
    MakeState(PathBuf),
    /// Take away the agent's state, if its directory is ours and nothing in it is a person's decision.
    ForgetState(PathBuf),
    /// Write a file that everybody may read, as units are.
    Write {
        /// Where.
        path: PathBuf,
        /// What.
        text: String,
    },
    /// Remove a file, if it is there.
    Remove(PathBuf),
    /// Make a directory again that somebody else tidied away.
    Restore(PathBuf, u32),
    /// Take away a directory, if it is ours and empty.
    TakeAway(PathBuf),
    /// Run a program.
    Run {
        /// Which.
        program: &'static str,
        /// What it is told.
        arguments: Vec<OsString>,
        /// Whether the plan goes on if it fails.
        may_fail: bool,
    },
    /// Run a program again and again until it fails, because what it asks for is gone.
    UntilGone {
        /// Which.
        program: &'static str,
        /// What it is told.
        arguments: Vec<OsString>,
    },
}

/// Why a plan ended before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, and why.
    pub words: String,
    /// How to end, where it was a file; where it was a program, whoever made the plan knows.
    pub exit: Option<Exit>,
}

/// A service that is told to stop has ten seconds.
const GONE_BY: Duration = Duration::from_secs(15);
/// Between two questions whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Step {
    /// A program that has to succeed.
    pub fn run<'a>(program: &'static str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Run { program, arguments: arguments.into_iter().map(OsString::from).collect(), may_fail: false }
    }

    /// A program that may fail.
    pub fn try_to_run<'a>(program: &'static str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Run { program, arguments: arguments.into_iter().map(OsString::from).collect(), may_fail: true }
    }
}

/// Takes away these directories and all above them, each as far as it is ours. The deepest first: one that holds something
/// else is its owner's from then on.
pub fn take_away<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Vec<Step> {
    let mut all: Vec<_> = directories.into_iter().flat_map(Path::ancestors).collect();
    all.sort_by_key(|path| (Reverse(path.components().count()), *path));
    all.dedup();
    all.into_iter().map(|path| Step::TakeAway(path.to_owned())).collect()
}

/// Does all of it, in order.
///
/// # Errors
/// What failed, and why.
pub fn perform(plan: &[Step], programs: &dyn Programs) -> Result<(), Failure> {
    plan.iter().try_for_each(|step| one(step, programs))
}

fn one(step: &Step, programs: &dyn Programs) -> Result<(), Failure> {
    let at = |path: &Path, done: io::Result<()>| {
        let failed =
            |error: io::Error| Failure { words: format!("{}: {error}", path.display()), exit: Some(exit_of(&error)) };
        done.map_err(failed)
    };
    let failed = |words| Err(Failure { words, exit: None });
    match step {
        Step::MakeDirectory(path) => at(path, directories::make(path, 0o755)),
        Step::MakeState(path) => at(path, directories::make(path, 0o700)),
        Step::ForgetState(path) => at(path, memory::forget(path)),
        Step::Write { path, text } => at(path, write(path, text)),
        Step::Remove(path) => at(path, remove(path)),
        Step::Restore(path, mode) => at(path, directories::restore(path, *mode)),
        Step::TakeAway(path) => at(path, directories::take_away(path)),
        Step::Run { program, arguments, may_fail } => match programs.run(program, arguments) {
            _ if *may_fail => Ok(()),
            Ok(ran) if ran.success => Ok(()),
            Ok(ran) => failed(format!("{}: {}", line(program, arguments), ran.complaint())),
            Err(error) => failed(format!("{}: {error}", line(program, arguments))),
        },
        Step::UntilGone { program, arguments } => until_gone(program, arguments, programs).or_else(failed),
    }
}

fn until_gone(program: &str, arguments: &[OsString], programs: &dyn Programs) -> Result<(), String> {
    let deadline = Instant::now() + GONE_BY;
    while programs.run(program, arguments).is_ok_and(|ran| ran.success) {
        if Instant::now() >= deadline {
            return Err(format!("{}: it is still there", line(program, arguments)));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn line(program: &str, arguments: &[OsString]) -> String {
    let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Beside it and renamed, so that no service manager reads a half of it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    remove(&beside)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = remove(&beside);
    }
    written
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::programs::played::{Played, fails, says};
    use super::*;

    #[test]
    fn a_step_that_fails_ends_the_plan_unless_it_may_fail() {
        let played = Played::default().on("a", says("")).on("b", fails("no\nbecause\n")).on("c", says(""));
        let told = perform(&[Step::run("a", ["x"]), Step::run("b", ["--y"]), Step::run("c", [])], &played);
        assert_eq!(told.unwrap_err(), Failure { words: "b --y: because".into(), exit: None });
        assert_eq!(played.asked(), ["a x", "b --y"]);
        perform(&[Step::try_to_run("b", []), Step::try_to_run("absent", []), Step::run("c", [])], &played).unwrap();
    }

    #[test]
    fn files_come_and_go_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit");
        let write = |text: &str| Step::Write { path: path.clone(), text: text.to_owned() };
        perform(&[write("one"), write("two")], &Played::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        perform(&[Step::Remove(path.clone()), Step::Remove(path.clone())], &Played::default()).unwrap();
        assert!(!path.exists());
    }
}
