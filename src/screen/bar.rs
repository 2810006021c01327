//! How far a drain has come, from what `watch` tells and one look at `status`. Pure: events and times in, a line out.
//!
//! What must always hold: done is never more than all of it, and never falls; a line is never wider than it may be, and is
//! ASCII, so that every terminal gives it the same width (a line that is broken into two cannot be wiped).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::words::{grouped, left};

/// The rate is that of the last seconds: what was before a server's pause says nothing of what comes.
const WINDOW: Duration = Duration::from_secs(5);
/// Of the bar itself.
const BAR_MIN: usize = 10;
const BAR_MAX: usize = 40;
/// Nobody plans further ahead.
const LEFT_MAX: u64 = 100 * 60 * 60;

/// States in which a pass sends, or tries to.
const SENDING: [&str; 4] = ["idle", "draining", "backing_off", "unauthorized"];

/// What is known of a profile's part.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    /// Named by the server since we listen, or set aside.
    done: u64,
    /// Of these, what has left the queue's waiting rows.
    gone: u64,
    /// Waiting when `status` was asked, and what had left by then.
    all: u64,
}

/// The model.
#[derive(Debug, Default)]
pub struct Progress {
    /// This profile alone.
    only: Option<i64>,
    parts: BTreeMap<i64, Part>,
    counted: bool,
    /// Done by when, for the rate.
    seen: VecDeque<(Duration, u64)>,
}

impl Progress {
    /// Of one profile or of all.
    pub fn new(only: Option<i64>) -> Self {
        Self { only, ..Self::default() }
    }

    /// A line of `watch`.
    pub fn note(&mut self, event: &Value) {
        let number = |key: &str| event[key].as_u64().unwrap_or(0);
        let Some(profile) = event["profile"].as_i64().filter(|profile| self.only.is_none_or(|only| only == *profile))
        else {
            return;
        };
        let part = self.parts.entry(profile).or_default();
        match event["event"].as_str() {
            Some("batch_sent") => part.done += number("accepted"),
            Some("settled") => part.gone += number("ops"),
            Some("quarantined") => {
                part.done += 1;
                part.gone += 1;
            }
            // What the app committed meanwhile comes into it here, and what we were not told of (`dropped`, or sent before
            // we listened) leaves it.
            Some("pass_ended") if event["outcome"] == "skipped" => part.all = part.done,
            Some("pass_ended") => part.all = part.done + number("remaining"),
            _ => {}
        }
        part.all = part.all.max(part.done);
    }

    /// The answer to `status`: what waits now.
    pub fn count(&mut self, status: &Value) {
        for profile in status["profiles"].as_array().into_iter().flatten() {
            let Some(number) = profile["profile"].as_i64() else { continue };
            let wanted = self.only.is_none_or(|only| only == number);
            // Behind a gate that is shut nothing is sent.
            let sends = SENDING.iter().any(|state| profile["state"] == *state);
            if wanted && sends {
                let part = self.parts.entry(number).or_default();
                // Rows that were accepted wait until they are settled.
                part.all = (part.gone + profile["pending"].as_u64().unwrap_or(0)).max(part.done);
            }
        }
        self.counted = true;
    }

    fn sum(&self, of: fn(&Part) -> u64) -> u64 {
        self.parts.values().map(of).sum()
    }

    /// The line, `columns` wide at the most.
    pub fn line(&mut self, now: Duration, columns: usize) -> String {
        let (done, all) = (self.sum(|part| part.done), self.sum(|part| part.all));
        self.seen.push_back((now, done));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(at, _)| *at + WINDOW < now) {
            self.seen.pop_front();
        }
        if !self.counted || all == 0 {
            let words = if done == 0 { "waiting for the pass".to_owned() } else { format!("{} sent", grouped(done)) };
            return clipped(&words, columns);
        }
        let percent = format!("{:3} %", u128::from(done) * 100 / u128::from(all));
        let mut words = vec![percent, format!("{} of {}", grouped(done), grouped(all))];
        if let Some(rate) = self.rate(now).filter(|_| done < all) {
            words.push(format!("{}/s", grouped(rate)));
            let seconds = (all - done).div_ceil(rate.max(1));
            if rate > 0 && seconds <= LEFT_MAX {
                words.push(format!("{} left", left(seconds)));
            }
        }
        // The least important is last.
        while words.len() > 1 && words.join(", ").len() > columns {
            words.pop();
        }
        let text = words.join(", ");
        let room = columns.saturating_sub(text.len() + 3).min(BAR_MAX);
        if room < BAR_MIN {
            return clipped(text.trim_start(), columns);
        }
        let full = usize::try_from(u128::from(done) * room as u128 / u128::from(all)).unwrap_or(0).min(room);
        format!("[{}{}] {text}", "#".repeat(full), ".".repeat(room - full))
    }

    /// Ops a second; `None` before there is anything to say.
    fn rate(&self, now: Duration) -> Option<u64> {
        let (since, before) = *self.seen.front()?;
        let (_, done) = *self.seen.back()?;
        let ms = now.saturating_sub(since).as_millis();
        (ms >= 500).then(|| u64::try_from(u128::from(done - before) * 1000 / ms).unwrap_or(u64::MAX))
    }
}

fn clipped(ascii: &str, columns: usize) -> String {
    ascii.chars().take(columns).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sent(profile: i64, accepted: u64) -> Value {
        json!({"event": "batch_sent", "profile": profile, "ops": accepted, "accepted": accepted, "answer": 200})
    }

    fn settled(profile: i64, ops: u64) -> Value {
        json!({"event": "settled", "profile": profile, "ops": ops})
    }

    fn pending(all: &[(i64, u64)]) -> Value {
        let profiles: Vec<_> = all
            .iter()
            .map(|(profile, pending)| json!({"profile": profile, "pending": pending, "state": "draining"}))
            .collect();
        json!({ "profiles": profiles })
    }

    fn counted(all: &[(i64, u64)]) -> Progress {
        let mut progress = Progress::new(None);
        progress.count(&pending(all));
        progress
    }

    #[test]
    fn a_drain_from_its_begin_to_its_end() {
        let mut progress = Progress::new(None);
        assert_eq!(progress.line(ms(0), 79), "waiting for the pass");
        // Before anybody counted, 2,000 were accepted, and 1,000 of them settled.
        progress.note(&sent(1, 2000));
        progress.note(&settled(1, 1000));
        assert_eq!(progress.line(ms(500), 79), "2,000 sent");
        progress.count(&pending(&[(1, 9000)]));
        assert_eq!(
            progress.line(ms(1000), 79),
            "[#######............................]  20 %, 2,000 of 10,000, 2,000/s, 4 s left"
        );
        progress.note(&sent(1, 7990));
        assert_eq!(progress.line(ms(2000), 60), "[###############.]  99 %, 9,990 of 10,000, 4,995/s, 1 s left");
        progress.note(&sent(1, 10));
        assert_eq!(progress.line(ms(2200), 120), "[########################################] 100 %, 10,000 of 10,000");
    }

    #[test]
    fn where_it_is_narrow_the_most_important_stays() {
        let mut progress = counted(&[(1, 100_000)]);
        progress.line(ms(0), 80);
        progress.note(&sent(1, 45_000));
        let mut at = |columns| progress.line(ms(3000), columns);
        assert_eq!(at(45), "45 %, 45,000 of 100,000, 15,000/s, 4 s left");
        assert_eq!(at(30), "45 %, 45,000 of 100,000");
        assert_eq!(at(20), "[#####.......]  45 %");
        assert_eq!(at(10), "45 %");
        assert_eq!(at(3), "45 ");
        assert_eq!(at(0), "");
    }

    #[test]
    fn no_width_is_exceeded() {
        let mut progress = counted(&[(1, u64::MAX / 2), (2, 7)]);
        progress.line(ms(0), 80);
        progress.note(&sent(1, 12_345_678_901_234));
        for columns in 0..200 {
            assert!(progress.line(ms(1000), columns).len() <= columns, "{columns}");
        }
    }

    #[test]
    fn several_profiles_are_one_sum_and_one_that_was_asked_for_is_alone() {
        let mut all = counted(&[(1, 100), (2, 300)]);
        let mut second = Progress::new(Some(2));
        second.count(&pending(&[(1, 100), (2, 300)]));
        for progress in [&mut all, &mut second] {
            progress.note(&sent(1, 100));
            progress.note(&sent(2, 60));
        }
        assert_eq!(all.line(ms(0), 30), "[####......]  40 %, 160 of 400");
        assert_eq!(second.line(ms(0), 24), "20 %, 60 of 300");
    }

    #[test]
    fn what_waits_behind_a_gate_is_no_part_of_it() {
        let mut progress = Progress::new(None);
        let signed_out = json!({"profile": 2, "pending": 7, "state": "signed_out"});
        progress.count(&json!({"profiles": [{"profile": 1, "pending": 10, "state": "idle"}, signed_out]}));
        progress.note(&sent(1, 5));
        assert_eq!(progress.line(ms(0), 20), "50 %, 5 of 10");
        let skipped =
            json!({"event": "pass_ended", "profile": 2, "outcome": "skipped", "reason": "signed_out", "remaining": 7});
        progress.note(&skipped);
        progress.note(&sent(1, 5));
        assert_eq!(progress.line(ms(0), 20), "100 %, 10 of 10");
    }

    #[test]
    fn what_the_app_adds_meanwhile_is_added_and_never_more_than_all_is_done() {
        let mut progress = counted(&[(1, 10)]);
        progress.note(&sent(1, 12));
        assert_eq!(progress.line(ms(0), 20), "100 %, 12 of 12");
        // The pass ends at what was there when it began; the next one takes the rest.
        progress.note(&json!({"event": "pass_ended", "profile": 1, "sent": 12, "remaining": 12}));
        assert_eq!(progress.line(ms(0), 20), "50 %, 12 of 24");
    }

    #[test]
    fn a_pass_that_fails_stands_still_and_promises_nothing() {
        let mut progress = counted(&[(1, 1000)]);
        progress.note(&sent(1, 500));
        progress.line(ms(0), 60);
        progress.note(&json!({"event": "batch_sent", "profile": 1, "ops": 500, "accepted": 0, "answer": 503}));
        let error = json!({"kind": "server", "message": "down"});
        progress.note(&json!({"event": "pass_ended", "profile": 1, "sent": 500, "remaining": 500, "error": error}));
        progress.note(&json!({"event": "backing_off", "profile": 1, "wait_s": 1.0}));
        assert_eq!(progress.line(ms(9000), 60), "[################.................]  50 %, 500 of 1,000, 0/s");
    }

    #[test]
    fn what_is_set_aside_is_done_with() {
        let mut progress = counted(&[(1, 4)]);
        progress.note(&sent(1, 3));
        progress.note(&json!({"event": "quarantined", "profile": 1, "operation_id": "x", "message": "no"}));
        assert_eq!(progress.line(ms(0), 20), "100 %, 4 of 4");
    }

    #[test]
    fn nothing_to_do_and_what_is_no_event_of_ours_are_no_trouble() {
        let mut progress = counted(&[(1, 0)]);
        assert_eq!(progress.line(ms(0), 80), "waiting for the pass");
        assert_eq!(progress.line(ms(0), 10), "waiting fo");
        for odd in [json!(null), json!({"event": "dropped", "count": 3}), json!({"event": 7, "profile": 1}), json!([])]
        {
            progress.note(&odd);
        }
        assert_eq!(progress.line(ms(0), 80), "waiting for the pass");
        Progress::new(None).count(&json!({"error": {"code": "internal"}}));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut progress = counted(&[(1, 1_000_000)]);
        for second in 0..10 {
            progress.line(ms(second * 1000), 80);
            progress.note(&sent(1, if second < 3 { 100_000 } else { 1000 }));
        }
        let line = progress.line(ms(10_000), 80);
        assert!(line.contains(" 1,000/s, 11 min 33 s left"), "{line}");
    }
}
