//! What is secret stays inside the process, also when it goes wrong: no core dump, and a panic that keeps its words.
//!
//! What must always hold: it is in force before anything is read; no release build can be talked out of it.

use std::io::{self, Write as _};
use std::panic::{self, Location};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::token::Token;

/// In debug builds: the process may be looked into (`/proc/PID/fd`), as our tests do without being root.
const OPEN: &str = "WAVEFLOW_SYNC_AGENT_TRACEABLE";
/// In debug builds: the place of [`panic_if_asked`] that is to panic.
const PANIC_IN: &str = "WAVEFLOW_SYNC_AGENT_PANIC_IN";

/// Forbids core dumps and other processes of the user to look inside, and takes the words out of panics. A system that
/// refuses is told about on stderr, and is no reason to deliver nothing.
pub fn seal() {
    if let Err(error) = try_to_seal() {
        // Nowhere is left to tell that stderr is gone.
        let _ = writeln!(io::stderr(), "waveflow-sync-agent: core dumps cannot be forbidden: {error}");
    }
}

fn try_to_seal() -> Result<(), Errno> {
    panic::set_hook(Box::new(|info| tell(info.location())));
    // Raised again by nobody: the hard limit goes down with it.
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if asked(OPEN).is_none() {
        // Either helps without the other.
        close()?;
    }
    limited
}

/// A core pattern that is a pipe is no matter of limits; and whoever may trace us may read the token.
#[cfg(target_os = "linux")]
fn close() -> Result<(), Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn close() -> Result<(), Errno> {
    Ok(())
}

/// Where it happened, never what was said: a slice out of bounds quotes the text it was cut from.
fn tell(place: Option<&Location<'_>>) {
    let (file, line) = place.map_or(("an unknown place", 0), |place| (place.file(), place.line()));
    if tracing::dispatcher::has_been_set() {
        tracing::error!("panicked at {file}:{line}: this is a bug; its words are kept back, they may quote an op");
    } else {
        // Nowhere is left to tell that stderr is gone.
        let _ = writeln!(io::stderr(), "waveflow-sync-agent: panicked at {file}:{line}: this is a bug");
    }
}

/// For the test that no panic tells a secret.
///
/// # Panics
/// With these secrets in its words if it was asked for at this `place` through the environment. Never in a release build.
#[track_caller]
pub fn panic_if_asked(place: &str, token: &Token, body: &[u8]) {
    let is_asked = asked(PANIC_IN).is_some_and(|asked| asked == place);
    assert!(!is_asked, "{} {}", token.expose(), String::from_utf8_lossy(body));
}

/// What the environment asks of a debug build, under this name.
pub(crate) fn asked(name: &str) -> Option<std::ffi::OsString> {
    if cfg!(debug_assertions) { std::env::var_os(name) } else { None }
}
