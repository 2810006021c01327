//! The agent in a terminal: a pseudo-terminal whose other side is this test.
//!
//! What must always hold: what is written is read at once, so that nobody waits for it; the agent never outlives
//! [`Terminal`]. The terminal is nobody's controlling one, so signals come from us and not from keys.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::daemon::holds_within;
use crate::common::daemon::SOON;

/// Where a picture begins and ends, as `src/screen/terminal.rs` writes it.
const HOME: &str = "\u{1b}[H";
const SHOWN: &str = "\u{1b}[?2026l";

pub(crate) struct Terminal {
    child: Child,
    ours: OwnedFd,
    theirs: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `command` in a terminal of 80 columns and 24 rows. `None`, with a word: there are no terminals here.
    pub(crate) fn start(command: &mut Command) -> Option<Self> {
        Self::start_in(command, 80, 24)
    }

    pub(crate) fn start_in(command: &mut Command, columns: u16, rows: u16) -> Option<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = match openpt(flags) {
            Ok(ours) => ours,
            Err(error) => {
                eprintln!("skipped: there are no pseudo-terminals here: {error}");
                return None;
            }
        };
        grantpt(&ours).and_then(|()| unlockpt(&ours)).unwrap();
        let name = PathBuf::from(std::ffi::OsString::from_vec(ptsname(&ours, Vec::new()).unwrap().into_bytes()));
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let stdio = || Stdio::from(theirs.try_clone().unwrap());
        resize(&ours, columns, rows);
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("the binary can be started");
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut source, into) = (File::from(ours.try_clone().unwrap()), Arc::clone(&written));
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut some) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&some[..count]);
            }
        });
        Some(Self { child, ours, theirs, written })
    }

    /// All that was written to it so far.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written()).into_owned()
    }

    /// The last picture that is whole, its lines without colours.
    pub(crate) fn picture(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind(SHOWN).and_then(|end| text.get(..end)).unwrap_or_default();
        let picture = whole.rsplit_once(HOME).map(|(_, picture)| picture).unwrap_or_default();
        bare(picture).lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
    }

    /// How many pictures were drawn.
    pub(crate) fn pictures(&self) -> usize {
        self.text().matches(SHOWN).count()
    }

    /// Waits until the picture has all of these words.
    #[track_caller]
    pub(crate) fn shows(&self, words: &[&str]) {
        let shown = holds_within(SOON, || {
            let picture = self.picture().join("\n");
            words.iter().all(|word| picture.contains(word))
        });
        assert!(shown, "not {words:?} but\n{}", self.picture().join("\n"));
    }

    /// Another size, and the signal that tells of it.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.ours, columns, rows);
        self.signal(Signal::WINCH);
    }

    /// Whether keys are shown.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.theirs).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits until it has ended, and all is read that it wrote: the exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        let ended = holds_within(SOON, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end: {}", self.text());
        // Written before its end, so it is in the terminal's own memory now: a mark of ours comes behind it.
        rustix::io::write(&self.theirs, b"\x00").unwrap();
        assert!(holds_within(SOON, || self.written().last() == Some(&0)), "its last words are lost");
        self.written.lock().unwrap_or_else(PoisonError::into_inner).pop();
        status.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Gone already, where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Without what steers the terminal: every sequence here ends with a letter.
pub(crate) fn bare(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |bare, part| {
        bare + part.split_once(|c: char| c.is_ascii_alphabetic()).map(|(_, rest)| rest).unwrap_or_default()
    })
}
