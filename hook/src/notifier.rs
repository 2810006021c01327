//! What is to be told to the agent, and when. For programs with hooks of their own; the hooks of this crate use nothing else.
//!
//! What must always hold: after [`Notifier::committed`] the agent, if it runs, will begin a pass that sees that commit; no
//! call waits, fails or allocates; at most one descriptor is held.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

use crate::place;
use crate::wire::Sent;

/// The queue's table.
pub const TABLE: &str = "sync_pending_op";

/// Longer than `wake`, a blank and any number.
const LINE_MAX: usize = 32;

/// Whose queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This profile's.
    Profile(i64),
    /// Not known, or several.
    Anybody,
}

impl Whose {
    fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Anybody }
    }

    /// Whether a pass for these covers `other`.
    fn covers(self, other: Self) -> bool {
        self == Self::Anybody || self == other
    }
}

/// Tells the agent of commits to the queue, on behalf of one connection.
///
/// Feed it from the hooks a program has of its own: [`note`](Self::note) for each row inserted into [`TABLE`],
/// [`committed`](Self::committed) when the transaction is over and visible to others (not from the commit hook, which comes
/// before that), [`rolled_back`](Self::rolled_back) when it is undone.
///
/// ```
/// use std::path::Path;
/// use waveflow_sync_hook::Notifier;
///
/// let mut notifier = Notifier::new();
/// notifier.note(Some(Path::new("/home/zoe/.local/share/app.waveflow/waveflow/profiles/7/data.db")));
/// notifier.committed();
/// ```
#[derive(Debug)]
pub struct Notifier {
    place: PathBuf,
    /// `None` where the path is too long for a socket's address.
    address: Option<SocketAddrUnix>,
    noted: Option<Whose>,
    /// The last line, while it may be unread.
    last: Option<(Sent, Whose)>,
}

impl Notifier {
    /// For the agent whose socket is where the environment says, as it is now.
    pub fn new() -> Self {
        // An empty path is the address of nobody.
        Self::at(&place::of_process().unwrap_or_default())
    }

    /// For the agent behind this socket.
    pub fn at(socket: &Path) -> Self {
        let address = (!socket.as_os_str().is_empty()).then(|| SocketAddrUnix::new(socket).ok()).flatten();
        Self { place: socket.to_owned(), address, noted: None, last: None }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.place
    }

    /// A row was inserted into the queue in `database`, which is the file's path where it is known.
    pub fn note(&mut self, database: Option<&Path>) {
        self.note_bytes(database.map(|path| path.as_os_str().as_encoded_bytes()));
    }

    pub(crate) fn note_bytes(&mut self, database: Option<&[u8]>) {
        let whose = database.and_then(profile).map_or(Whose::Anybody, Whose::Profile);
        self.noted = Some(self.noted.map_or(whose, |noted| noted.and(whose)));
    }

    /// What was noted is undone.
    pub fn rolled_back(&mut self) {
        self.noted = None;
    }

    /// Whether something was noted that was neither told nor undone.
    pub fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// What was noted is committed, and others can see it: the agent is told, if it does not know.
    pub fn committed(&mut self) {
        if let Some(whose) = self.noted.take() {
            self.tell(whose);
        }
    }

    /// What was noted is about to be committed, perhaps without a word: the agent is told, and looks again for a moment where
    /// it finds nothing.
    pub(crate) fn foretell(&mut self) {
        if let Some(whose) = self.noted {
            self.tell(whose);
        }
    }

    fn tell(&mut self, whose: Whose) {
        if let Some((sent, told)) = &self.last
            && told.covers(whose)
            && sent.is_unread()
        {
            // A hung agent costs this much and no more.
            return;
        }
        // Closed first: there is never more than one.
        self.last = None;
        let Some(address) = &self.address else { return };
        let mut room = [0; LINE_MAX];
        let mut rest = room.as_mut_slice();
        let written = match whose {
            Whose::Profile(number) => writeln!(rest, "wake {number}"),
            Whose::Anybody => writeln!(rest, "wake"),
        };
        let left = rest.len();
        let line = room.get(..LINE_MAX.saturating_sub(left)).unwrap_or_default();
        if written.is_ok() {
            self.last = Sent::new(address, line).map(|sent| (sent, whose));
        }
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

/// The number in `…/profiles/NUMBER/data.db`.
fn profile(database: &[u8]) -> Option<i64> {
    let mut parts = database.rsplit(|byte| *byte == b'/');
    let (file, number, parent) = (parts.next()?, parts.next()?, parts.next()?);
    if file != b"data.db" || parent != b"profiles" || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_its_number_in_its_path() {
        assert_eq!(profile(b"/a/profiles/7/data.db"), Some(7));
        assert_eq!(profile(b"profiles/12/data.db"), Some(12));
        for path in
            ["/a/profiles/7/other.db", "/a/7/data.db", "/a/profiles/x/data.db", "/profiles//data.db", "data.db", ""]
        {
            assert_eq!(profile(path.as_bytes()), None, "{path}");
        }
        assert_eq!(profile(b"/profiles/99999999999999999999/data.db"), None);
        assert_eq!(profile(b"/profiles/-1/data.db"), None);
    }

    #[test]
    fn several_profiles_are_everybody() {
        let mut notifier = Notifier::at(Path::new(""));
        notifier.note(Some(Path::new("/profiles/1/data.db")));
        assert_eq!(notifier.noted, Some(Whose::Profile(1)));
        notifier.note(Some(Path::new("/profiles/2/data.db")));
        assert_eq!(notifier.noted, Some(Whose::Anybody));
        assert!(Whose::Anybody.covers(Whose::Profile(1)) && !Whose::Profile(1).covers(Whose::Anybody));
        notifier.rolled_back();
        assert!(!notifier.has_noted());
    }
}
