//! A profile: whether it is signed in and to be synced, what waits in its queue, and its clock.

use super::finding::ops;
use super::{Finding, Ticket};
use std::path::Path;

use crate::app::registry::Profile;
use crate::drain::action::{Counts, Snapshot, StoreError};
use crate::op::STAMP_LIMIT;
use crate::queue::Database;
use crate::queue::database::look;
use crate::queue::stamp;
use crate::record::Record;
use crate::survey;
use crate::token::Token;
use crate::worker::Perform as _;

pub(super) const NAME: &str = "profile";
/// Fewer stamps than this are left only where something has raised the clock that should not have.
const STAMPS_LEFT: i64 = 1 << 24;

/// What there is to know.
#[derive(Debug)]
pub(super) struct Facts {
    profile: i64,
    /// For people.
    label: String,
    /// What is in its files, or why that cannot be read.
    seen: Result<Seen, String>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    snapshot: Snapshot,
    counts: Counts,
    /// As it stands there.
    clock: Option<i64>,
    token: Option<Token>,
}

impl Facts {
    /// Ops that wait to be sent. Those of a profile that is kept local wait for nobody.
    pub(super) fn waiting(&self) -> u64 {
        self.seen.as_ref().ok().filter(|seen| !seen.snapshot.local_mode).map_or(0, |seen| seen.counts.remaining)
    }

    /// What to ask the server with. The token of a profile that is kept local goes nowhere.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        let seen = self.seen.as_ref().ok().filter(|seen| !seen.snapshot.local_mode)?;
        Some(Ticket { profile: self.profile, label: self.label.clone(), token: seen.token.clone()? })
    }
}

pub(super) fn look_at(directory: &Path, profile: &Profile, url: Option<&str>, record: &Record) -> Facts {
    let label = format!("profile {} “{}”", profile.id, profile.name);
    let Some(path) = &profile.path else {
        return Facts {
            profile: profile.id,
            label,
            seen: Err("its data_dir is no path within WaveFlow's directory".to_owned()),
        };
    };
    let seen = look(path, || see(directory, profile, path, url, record));
    Facts { profile: profile.id, label, seen: seen.map_err(|error| error.message) }
}

fn see(
    directory: &Path,
    profile: &Profile,
    path: &Path,
    url: Option<&str>,
    record: &Record,
) -> Result<Seen, StoreError> {
    let mut store = survey::store(directory, profile, url.map(str::to_owned), record).looking();
    let survey = store.survey()?;
    let token = store.way().map(|way| way.token);
    // One connection to a file at a time: closing one gives back what the process has locked in it.
    drop(store);
    let clock = Database::open_to_look(path)?.read(stamp::lamport_as_it_is)?;
    Ok(Seen { snapshot: survey.snapshot, counts: survey.counts, clock, token })
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let label = &facts.label;
    let seen = match &facts.seen {
        Ok(seen) => seen,
        Err(message) => {
            let mend =
                "see what is said about its database; a profile that WaveFlow itself cannot open has to be restored";
            return vec![Finding::wrong(NAME, &format!("{label}: its files cannot be used: {message}"), mend)];
        }
    };
    let Counts { remaining, quarantined, held, .. } = seen.counts;
    let mut found = vec![gate(label, &seen.snapshot, remaining)];
    if held > 0 {
        let words =
            format!("{label}: {} held back, queued under another account, or before this one signed in", ops(held));
        let mend = "sign in to the other account again; or, if they are yours, `waveflow-sync-agent queue list` and \
                    `queue retry OPERATION_ID`";
        found.push(Finding::wrong(NAME, &words, mend));
    }
    if quarantined > 0 {
        let words = format!("{label}: {} refused by the server and set aside (quarantined)", ops(quarantined));
        let mend = "`waveflow-sync-agent queue list` has the server's words; `queue retry` tries again, `queue discard \
                    OPERATION_ID` gives it up";
        found.push(Finding::wrong(NAME, &words, mend));
    }
    found.extend(seen.clock.and_then(|clock| judge_clock(label, clock)));
    found
}

/// The first thing that keeps it from being sent.
fn gate(label: &str, snapshot: &Snapshot, remaining: u64) -> Finding {
    let waits = if remaining > 0 { format!(", {remaining} waiting") } else { String::new() };
    let stopped = |words: &str, mend| Finding::wrong_if(remaining > 0, NAME, &format!("{label}: {words}{waits}"), mend);
    if !snapshot.queue {
        stopped("no queue in its database yet", "start WaveFlow once with this profile")
    } else if snapshot.local_mode {
        Finding::fine(NAME, &format!("{label}: kept local, as set in WaveFlow{waits}"))
    } else if !snapshot.token {
        stopped("signed out", "sign in from WaveFlow's settings")
    } else if snapshot.canonical_missing {
        stopped("not ready (no canonical id yet)", "start WaveFlow once with this profile")
    } else {
        Finding::fine(NAME, &format!("{label}: signed in{waits}"))
    }
}

fn judge_clock(label: &str, clock: i64) -> Option<Finding> {
    const CLOCK: &str = "stamps";
    if !(0..STAMP_LIMIT).contains(&clock) {
        let words = format!("{label}: its clock stands at {clock}, outside of what a server takes");
        return Some(Finding::notice(CLOCK, &words, "nothing; the agent counts it as absent, and stamps anew"));
    }
    (STAMP_LIMIT - clock < STAMPS_LEFT).then(|| {
        let words = format!("{label}: its clock stands at {clock}, and servers take no stamp from {STAMP_LIMIT} on");
        let mend =
            "report it with the output of `waveflow-sync-agent doctor --json`; a profile made anew starts from 1";
        Finding::wrong(CLOCK, &words, mend)
    })
}

/// There is no profile at all.
pub(super) fn none() -> Finding {
    Finding::notice(NAME, "there is none", "make one in WaveFlow")
}

pub(super) fn judge_device(device: Option<&str>) -> Finding {
    match device {
        Some(device) if uuid::Uuid::try_parse(device).is_ok() => Finding::fine("device", device),
        Some(_) => {
            let mend = "report it; WaveFlow makes one at its first delivery where `sync.device_id` is empty";
            Finding::notice("device", "the device id is no UUID", mend)
        }
        None => Finding::fine("device", "no id yet; the first delivery makes one"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn open() -> Snapshot {
        Snapshot { queue: true, url: true, token: true, ..Snapshot::default() }
    }

    fn found(snapshot: Snapshot, counts: Counts, clock: Option<i64>) -> Vec<Finding> {
        let seen = Seen { snapshot, counts, clock, token: None };
        judge(&Facts { profile: 1, label: "profile 1 “Zoë”".into(), seen: Ok(seen) })
    }

    #[test]
    fn what_stops_a_profile_is_wrong_only_where_something_waits() {
        for snapshot in [
            Snapshot { token: false, ..open() },
            Snapshot { canonical_missing: true, ..open() },
            Snapshot { queue: false, ..open() },
        ] {
            assert_eq!(found(snapshot.clone(), Counts::default(), None)[0].level, Level::Notice);
            assert_eq!(found(snapshot, Counts { remaining: 2, ..Counts::default() }, None)[0].level, Level::Wrong);
        }
        for snapshot in [open(), Snapshot { local_mode: true, ..open() }] {
            assert_eq!(found(snapshot, Counts { remaining: 2, ..Counts::default() }, None)[0].level, Level::Fine);
        }
    }

    #[test]
    fn what_needs_a_person_is_wrong_and_says_how_many() {
        let counts = Counts { held: 2, quarantined: 1, ..Counts::default() };
        let found = found(open(), counts, Some(5));
        assert!(found[1].words.contains("2 ops held back") && found[1].mend.as_ref().unwrap().contains("sign in"));
        assert!(found[2].words.contains("1 op refused") && found[2].mend.as_ref().unwrap().contains("queue discard"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_clock_is_within_its_bounds_or_told_of() {
        let level = |clock| found(open(), Counts::default(), Some(clock)).get(1).map(|found| found.level);
        for (clock, expected) in [
            (0, None),
            (1, None),
            (STAMP_LIMIT - STAMPS_LEFT, None),
            (STAMP_LIMIT - 1, Some(Level::Wrong)),
            (STAMP_LIMIT, Some(Level::Notice)),
            (-1, Some(Level::Notice)),
            (i64::MAX, Some(Level::Notice)),
        ] {
            assert_eq!(level(clock), expected, "{clock}");
        }
    }

    #[test]
    fn the_token_of_a_profile_that_is_kept_local_goes_nowhere() {
        let ticket = |local_mode| {
            let seen = Seen { snapshot: Snapshot { local_mode, ..open() }, token: Token::new("t"), ..Seen::default() };
            Facts { profile: 1, label: String::new(), seen: Ok(seen) }.ticket().is_some()
        };
        assert!(ticket(false) && !ticket(true));
    }

    #[test]
    fn what_is_kept_local_waits_for_nobody() {
        let waiting = |local_mode| {
            let counts = Counts { remaining: 3, ..Counts::default() };
            let seen = Seen { snapshot: Snapshot { local_mode, ..open() }, counts, ..Seen::default() };
            Facts { profile: 1, label: String::new(), seen: Ok(seen) }.waiting()
        };
        assert_eq!((waiting(false), waiting(true)), (3, 0));
    }

    #[test]
    fn files_that_cannot_be_used_are_told_with_the_reason() {
        let found = judge(&Facts { profile: 1, label: "profile 1".into(), seen: Err("is damaged".into()) });
        assert!(found[0].level == Level::Wrong && found[0].words.contains("is damaged"));
        assert_eq!(judge_device(Some("x")).level, Level::Notice);
        assert_eq!(judge_device(None).level, Level::Fine);
    }
}
