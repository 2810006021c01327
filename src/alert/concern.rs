//! When to tell: something that a person has to mend has been wrong with a profile for a day, and nothing was told for a week.
//!
//! What must always hold: pure, no clock and no file; a wall clock that jumps tells nothing by itself, and makes nobody
//! wait longer than a day and a week; what is remembered changes only where something began, ended, or was told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::{self, Message};

/// What lasts this long, in ms, a person does not know of.
pub const DAY_MS: i64 = 86_400_000;
/// Who was told and did nothing is not to be told more often than this, in ms: it would be switched off.
pub const WEEK_MS: i64 = 7 * DAY_MS;
/// Profiles that are looked at: every list has an end, and nobody has as many.
const PROFILES_MAX: usize = 256;

/// What is remembered of it, restarts included: since when, by profile, each kind by itself, as what began an hour ago
/// has not lasted for as long as something else. Wall clock, ms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Concern {
    /// Since when the server has refused the token.
    pub refused: BTreeMap<i64, i64>,
    /// Since when there have been rows of another or an unknown account.
    pub held: BTreeMap<i64, i64>,
    /// Since when there have been rows that a server refused.
    pub quarantined: BTreeMap<i64, i64>,
    /// When somebody was told last.
    pub told: Option<i64>,
}

/// How a profile stands. `None`: nobody can say at the moment, as a pass is under way, or there is no network; what was, is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// Ops that wait while the server refuses the token.
    pub refused: Option<u64>,
    /// Rows of another or an unknown account.
    pub held: Option<u64>,
    /// Rows that a server refused.
    pub quarantined: Option<u64>,
}

/// What needs a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wrong {
    /// The server refuses the token, and ops wait.
    pub refused: bool,
    /// Rows of another or an unknown account.
    pub held: u64,
    /// Rows that a server refused.
    pub quarantined: u64,
}

/// A profile, and how it stands.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its number.
    pub profile: i64,
    /// As the app lists it: anything.
    pub name: &'a str,
    /// How it stands.
    pub stand: Stand,
}

impl Concern {
    /// What is to be remembered from `now` (wall clock, ms) on, and what to tell, if anything. `jumped`: by how much the wall
    /// clock was set since the last look, in ms.
    pub fn look(&self, now: i64, jumped: i64, seen: &[Seen<'_>]) -> (Self, Option<Message>) {
        // A time that is still to come is from a clock that was set back while nobody looked: it counts from now.
        let moved = |at: i64| at.saturating_add(jumped).min(now);
        let mut next = Self { told: self.told.map(moved), ..Self::default() };
        let mut lasting = Vec::new();
        for Seen { profile, name, stand } in seen.iter().take(PROFILES_MAX) {
            let known = |since: &BTreeMap<i64, i64>| since.get(profile).copied().map(moved);
            let goes_on = |since: &BTreeMap<i64, i64>, next: &mut BTreeMap<i64, i64>, count: Option<u64>| {
                let began = match count {
                    Some(0) => None,
                    None => known(since),
                    Some(_) => known(since).or(Some(now)),
                }?;
                next.insert(*profile, began);
                let lasted = now.saturating_sub(began);
                count.filter(|_| lasted >= DAY_MS).map(|count| (count, lasted / DAY_MS))
            };
            let refused = goes_on(&self.refused, &mut next.refused, stand.refused);
            let held = goes_on(&self.held, &mut next.held, stand.held);
            let quarantined = goes_on(&self.quarantined, &mut next.quarantined, stand.quarantined);
            let count = |kind: Option<(u64, i64)>| kind.map_or(0, |(count, _)| count);
            let wrong = Wrong { refused: refused.is_some(), held: count(held), quarantined: count(quarantined) };
            // Of a refused token nothing else is told; of the other two, what is true of both.
            let days = refused.or_else(|| [held, quarantined].into_iter().flatten().min_by_key(|(_, days)| *days));
            lasting.extend(days.map(|(_, days)| (*name, wrong, days)));
        }
        let is_silent = next.told.is_some_and(|told| now.saturating_sub(told) < WEEK_MS);
        let message = if is_silent { None } else { words::message(&lasting) };
        (next, message)
    }

    /// What is left of it where nobody wants to be told: a day begins when somebody does again.
    #[must_use]
    pub fn unwanted(&self) -> Self {
        Self { told: self.told, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = DAY_MS / 24;
    const YEAR_MS: i64 = 31_557_600_000;
    /// Some time in 2026.
    const T0: i64 = 1_764_000_000_000;
    const UNKNOWN: Stand = Stand { refused: None, held: None, quarantined: None };
    const FINE: Stand = Stand { refused: Some(0), held: Some(0), quarantined: Some(0) };
    const REFUSED: Stand = Stand { refused: Some(1), ..FINE };

    /// Looks as the daemon does, and tells as it does where the message arrives.
    struct Life {
        concern: Concern,
        now: i64,
        told: Vec<i64>,
        writes: u32,
    }

    impl Life {
        fn new() -> Self {
            Self { concern: Concern::default(), now: T0, told: Vec::new(), writes: 0 }
        }

        fn look_after(&mut self, passed: i64, jumped: i64, stand: Stand) -> Option<Message> {
            self.now += passed + jumped;
            let seen = [Seen { profile: 1, name: "Zoë", stand }];
            let (next, message) = self.concern.look(self.now, jumped, &seen);
            self.writes += u32::from(next != self.concern);
            self.concern = next;
            if message.is_some() {
                self.told.push(self.now - T0);
                self.concern.told = Some(self.now);
            }
            message
        }

        /// An hour at a time, so many hours.
        fn hours(&mut self, hours: i64, stand: Stand) -> usize {
            let before = self.told.len();
            (0..hours).for_each(|_| {
                self.look_after(HOUR_MS, 0, stand);
            });
            self.told.len() - before
        }
    }

    #[test]
    fn a_day_is_told_once_and_again_after_a_week() {
        let mut life = Life::new();
        life.look_after(0, 0, REFUSED);
        assert_eq!(life.hours(24 * 30, REFUSED), 5);
        assert_eq!(life.told, [1, 8, 15, 22, 29].map(|day| day * DAY_MS));
        assert_eq!(life.writes, 1, "only the beginning");
    }

    #[test]
    fn what_is_over_within_a_day_is_not_told_and_begins_anew() {
        let mut life = Life::new();
        for _ in 0..10 {
            assert_eq!(life.hours(23, REFUSED), 0);
            assert_eq!(life.hours(1, FINE), 0);
            assert_eq!(life.concern, Concern::default());
        }
        assert_eq!(life.hours(25, REFUSED), 1, "begun by the first look of 25");
        assert_eq!((life.hours(30, FINE), life.hours(26, REFUSED)), (0, 0), "within a week of the last time");
        assert_eq!(life.hours(24 * 7, REFUSED), 1);
    }

    #[test]
    fn what_nobody_can_say_at_the_moment_ends_nothing_and_tells_nothing() {
        let mut life = Life::new();
        life.look_after(0, 0, REFUSED);
        assert_eq!(life.hours(48, UNKNOWN), 0);
        assert_eq!(life.hours(1, REFUSED), 1);
        let mut life = Life::new();
        assert_eq!(life.hours(48, UNKNOWN), 0);
        assert_eq!((life.writes, life.hours(1, REFUSED)), (0, 0), "it begins here");
    }

    #[test]
    fn a_clock_that_is_set_tells_nothing_and_keeps_nobody_waiting() {
        for offset in [75 * YEAR_MS, -55 * YEAR_MS, 8 * DAY_MS, -8 * DAY_MS] {
            let mut life = Life::new();
            life.look_after(0, 0, REFUSED);
            assert_eq!(life.hours(12, REFUSED), 0);
            for _ in 0..4 {
                assert!(life.look_after(0, offset, REFUSED).is_none(), "{offset}");
                assert!(life.look_after(0, -offset, REFUSED).is_none(), "{offset}");
            }
            life.look_after(0, offset, REFUSED);
            assert_eq!(life.hours(12, REFUSED), 1, "a day is over, whatever the clock says");
            life.look_after(0, offset, REFUSED);
            assert_eq!(life.hours(24 * 7 - 1, REFUSED), 0, "{offset}");
            assert_eq!(life.hours(1, REFUSED), 1, "{offset}");
        }
    }

    #[test]
    fn a_clock_set_while_nobody_looked_is_no_wait_for_years_and_no_storm() {
        let concern = Concern { refused: BTreeMap::from([(1, T0)]), told: Some(T0 + DAY_MS), ..Concern::default() };
        let mut life = Life { concern: concern.clone(), now: T0 - 55 * YEAR_MS, told: Vec::new(), writes: 0 };
        assert_eq!(life.hours(24 * 7, REFUSED), 0);
        assert_eq!(life.hours(24 * 7, REFUSED), 1, "what was remembered is from a time to come, and counts from now");
        let mut life = Life { concern, now: T0 + 75 * YEAR_MS, told: Vec::new(), writes: 0 };
        assert_eq!(life.hours(24 * 7, REFUSED), 1, "nothing tells this from 75 years");
        let mut life = Life { now: T0, ..life };
        assert_eq!(life.hours(24 * 7, REFUSED), 0);
    }

    #[test]
    fn extreme_times_are_taken_as_they_come() {
        for at in [i64::MIN, -1, 0, i64::MAX] {
            for now in [i64::MIN, 0, T0, i64::MAX] {
                for jumped in [i64::MIN, 0, i64::MAX] {
                    let since = BTreeMap::from([(1, at)]);
                    let concern =
                        Concern { refused: since.clone(), held: since.clone(), quarantined: since, told: Some(at) };
                    let (next, _) = concern.look(now, jumped, &[Seen { profile: 1, name: "", stand: REFUSED }]);
                    assert!(next.refused[&1] <= now && next.told.is_some_and(|told| told <= now));
                }
            }
        }
    }

    #[test]
    fn each_profile_has_its_own_day_and_one_that_is_gone_is_forgotten() {
        let held = Stand { held: Some(2), ..FINE };
        let both = [Seen { profile: 1, name: "Zoë", stand: REFUSED }, Seen { profile: 2, name: "Max", stand: held }];
        let concern = Concern {
            refused: BTreeMap::from([(1, T0), (3, T0)]),
            held: BTreeMap::from([(2, T0 + DAY_MS), (3, T0)]),
            ..Concern::default()
        };
        let (next, message) = concern.look(T0 + DAY_MS, 0, &both);
        let body = message.unwrap().body;
        assert!(body.contains("Zoë") && !body.contains("Max"), "{body}");
        assert_eq!((&next.refused, &next.held), (&BTreeMap::from([(1, T0)]), &BTreeMap::from([(2, T0 + DAY_MS)])));
        let (_, message) = next.look(T0 + 2 * DAY_MS, 0, &both);
        assert!(message.is_some_and(|message| message.body.contains("Max") && message.body.contains("for 2 days")));
        assert_eq!(next.unwanted(), Concern::default());
    }

    #[test]
    fn each_kind_has_its_own_day_and_what_has_not_lasted_is_not_told() {
        let mut life = Life::new();
        let quarantined = Stand { quarantined: Some(1), ..FINE };
        assert_eq!(life.hours(24 * 8, quarantined), 1);
        let refused = Stand { refused: Some(2), ..quarantined };
        life.now += HOUR_MS;
        let message = life.look_after(0, 0, refused).unwrap();
        assert!(message.body.contains("1 operation of “Zoë” refused by the server for 8 days"), "{message:?}");
        assert_eq!(life.hours(24 * 7 - 1, refused), 0);
        let message = life.look_after(HOUR_MS, 0, refused).unwrap();
        assert!(message.body.contains("sign-in of “Zoë” for 7 days"), "{message:?}");
        // Signed out for a month, then in again as somebody else: that is no month of ops held back.
        let mut life = Life::new();
        life.look_after(0, 0, REFUSED);
        life.hours(24 * 30, UNKNOWN);
        let held = Stand { held: Some(3), ..FINE };
        assert_eq!((life.hours(24, held), life.hours(1, held)), (0, 1));
        // Two kinds together have lasted as long as the younger one.
        life.hours(24 * 2, Stand { quarantined: Some(1), ..held });
        life.concern.told = None;
        let both = life.look_after(HOUR_MS, 0, Stand { quarantined: Some(1), ..held }).unwrap().body;
        assert!(both.contains("3 operations of “Zoë” held back and 1 refused by the server for 2 days"), "{both}");
    }

    #[test]
    fn what_is_remembered_is_read_back_and_an_older_file_has_nothing() {
        let since = |profile| BTreeMap::from([(profile, T0)]);
        let concern = Concern { refused: since(7), held: since(8), quarantined: since(9), told: Some(T0) };
        let text = serde_json::to_string(&concern).unwrap();
        assert_eq!(serde_json::from_str::<Concern>(&text).unwrap(), concern);
        assert_eq!(serde_json::from_str::<Concern>("{}").unwrap(), Concern::default());
        let before = format!("{{\"since\":{{\"7\":{T0}}},\"told\":{T0}}}");
        assert_eq!(
            serde_json::from_str::<Concern>(&before).unwrap(),
            concern.unwanted(),
            "when it was one for all kinds"
        );
    }
}
