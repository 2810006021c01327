//! Places where a test stops the process, to look at what is there at that instant, and to kill it; or has one thread hang,
//! to see that somebody notices.
//!
//! What must always hold: no release build can be stopped here; in a debug build nothing happens unless the environment
//! asks for it, and then once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use signal_hook::consts::SIGSTOP;
use signal_hook::low_level::raise;

use crate::seal;

/// In debug builds: the place where to stop, and at which time of coming by (`settle-before:3`; the first without a
/// number).
const STOP_AT: &str = "WAVEFLOW_SYNC_AGENT_STOP_AT";
/// The same, for the place where the thread is to hang.
const HANG_AT: &str = "WAVEFLOW_SYNC_AGENT_HANG_AT";

/// Where it can be stopped: around everything that outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The rows of a batch are in hand.
    RowsRead,
    /// Nothing of a request is on the wire.
    SendBefore,
    /// The answer is in hand, and nobody has acted on it.
    SendAfter,
    /// Accepted ops are about to be deleted.
    SettleBefore,
    /// They are deleted, and not committed.
    SettleInside,
    /// They are gone.
    SettleAfter,
    /// Failed rows are marked, and not committed.
    MarkInside,
    /// A block of stamps is reserved, and not committed.
    ReserveInside,
    /// It is reserved, and no row has a stamp of it.
    ReserveAfter,
    /// Some rows have fresh stamps, not committed.
    AssignInside,
    /// They are committed; the rows before them may be still to come.
    AssignAfter,
    /// An op is in quarantine, and its row does not say so.
    QuarantineNoted,
    /// The device has an id, not committed.
    DeviceInside,
    /// It is committed, and nothing was sent under it.
    DeviceAfter,
    /// The next state file is made, and empty.
    StateMade,
    /// It is on the disk, beside the one in force.
    StateWritten,
    /// It is in force, and the directory is not on the disk.
    StateRenamed,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::RowsRead,
        Self::SendBefore,
        Self::SendAfter,
        Self::SettleBefore,
        Self::SettleInside,
        Self::SettleAfter,
        Self::MarkInside,
        Self::ReserveInside,
        Self::ReserveAfter,
        Self::AssignInside,
        Self::AssignAfter,
        Self::QuarantineNoted,
        Self::DeviceInside,
        Self::DeviceAfter,
        Self::StateMade,
        Self::StateWritten,
        Self::StateRenamed,
    ];

    /// As the environment names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RowsRead => "rows-read",
            Self::SendBefore => "send-before",
            Self::SendAfter => "send-after",
            Self::SettleBefore => "settle-before",
            Self::SettleInside => "settle-inside",
            Self::SettleAfter => "settle-after",
            Self::MarkInside => "mark-inside",
            Self::ReserveInside => "reserve-inside",
            Self::ReserveAfter => "reserve-after",
            Self::AssignInside => "assign-inside",
            Self::AssignAfter => "assign-after",
            Self::QuarantineNoted => "quarantine-noted",
            Self::DeviceInside => "device-inside",
            Self::DeviceAfter => "device-after",
            Self::StateMade => "state-made",
            Self::StateWritten => "state-written",
            Self::StateRenamed => "state-renamed",
        }
    }
}

/// Stops the process if it was asked to stop at this time of coming by (it goes on from here after SIGCONT), or has the
/// thread hang, if that was asked for.
pub fn here(place: Place) {
    if cfg!(debug_assertions) {
        static STOP: OnceLock<Option<Asked>> = OnceLock::new();
        static HANG: OnceLock<Option<Asked>> = OnceLock::new();
        if Asked::of(&STOP, STOP_AT).is_some_and(|asked| asked.is_due(place)) {
            // To this thread, not to the process: it must not come any further while another one takes the signal.
            let _ = raise(SIGSTOP);
        }
        if Asked::of(&HANG, HANG_AT).is_some_and(|asked| asked.is_due(place)) {
            loop {
                std::thread::park();
            }
        }
    }
}

struct Asked {
    place: Place,
    /// Times it comes by until then.
    left: AtomicU32,
}

impl Asked {
    fn of(known: &'static OnceLock<Option<Self>>, variable: &str) -> Option<&'static Self> {
        known.get_or_init(|| seal::asked(variable)?.to_str().and_then(Self::parse)).as_ref()
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, time) = text.split_once(':').unwrap_or((text, "1"));
        let place = Place::ALL.into_iter().find(|place| place.name() == name)?;
        Some(Self { place, left: AtomicU32::new(time.parse().ok()?) })
    }

    fn is_due(&self, place: Place) -> bool {
        let count = |left: u32| left.checked_sub(1);
        place == self.place && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_at_its_place_and_time() {
        for (text, time) in [("settle-inside:3", 3), ("settle-inside", 1)] {
            let asked = Asked::parse(text).unwrap();
            let mut due = Vec::new();
            for number in 1..6 {
                assert!(!asked.is_due(Place::SettleAfter));
                due.extend(asked.is_due(Place::SettleInside).then_some(number));
            }
            assert_eq!(due, [time]);
        }
    }

    #[test]
    fn what_names_no_place_is_no_order() {
        for text in ["", "settle", "settle-inside:", "settle-inside:x", "settle-inside:3:4"] {
            assert!(Asked::parse(text).is_none(), "{text}");
        }
        assert!(Place::ALL.iter().all(|place| Asked::parse(place.name()).is_some_and(|asked| asked.place == *place)));
    }
}
