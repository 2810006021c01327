//! The gates before a pass: cheap, without HTTP, and each with the reason a person is told. Pure.

use super::action::Snapshot;
use crate::op::Reason;

/// The first gate that is shut; `None` where the pass may go on.
pub fn shut(snapshot: &Snapshot) -> Option<Reason> {
    let gates = [
        (snapshot.paused, Reason::Paused),
        (!snapshot.queue, Reason::NoQueue),
        (!snapshot.url, Reason::NotConfigured),
        (!snapshot.token, Reason::SignedOut),
        (snapshot.local_mode, Reason::LocalMode),
        (snapshot.canonical_missing, Reason::ProfileNotReady),
    ];
    gates.into_iter().find_map(|(is_shut, reason)| is_shut.then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Snapshot {
        Snapshot { queue: true, url: true, token: true, ..Snapshot::default() }
    }

    #[test]
    fn each_gate_has_its_reason() {
        assert_eq!(shut(&open()), None);
        assert_eq!(shut(&Snapshot { paused: true, ..open() }), Some(Reason::Paused));
        assert_eq!(shut(&Snapshot { queue: false, ..open() }), Some(Reason::NoQueue));
        assert_eq!(shut(&Snapshot { url: false, ..open() }), Some(Reason::NotConfigured));
        assert_eq!(shut(&Snapshot { token: false, ..open() }), Some(Reason::SignedOut));
        assert_eq!(shut(&Snapshot { local_mode: true, ..open() }), Some(Reason::LocalMode));
        assert_eq!(shut(&Snapshot { canonical_missing: true, ..open() }), Some(Reason::ProfileNotReady));
    }
}
