//! How things stand, in the one line that `systemctl status` has room for.
//!
//! What must always hold: it is made of what is known already, without a look into a file; it is one line, and steers no
//! terminal.

use std::fmt::Write as _;

/// What the line is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headline {
    /// Nothing can be served, or not as it should be: why.
    pub trouble: Option<String>,
    /// `pause` is in force.
    pub paused: bool,
    /// Profiles that are served.
    pub profiles: usize,
    /// Rows that the last passes left to be sent.
    pub pending: u64,
    /// When a pass last ended with nothing left to send, ms since the epoch.
    pub last_success: Option<i64>,
    /// What stops the first profile that is stopped.
    pub stopped: Option<String>,
}

impl Headline {
    /// The line; `time` writes a time of day, `last_success`, as people on this machine read it.
    pub fn words(&self, time: impl Fn(i64) -> String) -> String {
        let mut words = String::new();
        if let Some(trouble) = &self.trouble {
            let _ = write!(words, "{trouble}; ");
        }
        if self.paused {
            words.push_str("paused, ");
        }
        let s = if self.profiles == 1 { "" } else { "s" };
        let _ = write!(words, "{} profile{s}, {} pending", self.profiles, self.pending);
        if let Some(at) = self.last_success {
            let _ = write!(words, ", last success {}", time(at));
        }
        if let Some(stopped) = &self.stopped {
            let _ = write!(words, "; {stopped}");
        }
        words.replace(char::is_control, " ")
    }
}

/// The time of day where the machine is, with the date where it is not today.
pub fn local_time(ms: i64) -> String {
    use chrono::{DateTime, Local};
    let Some(at) = DateTime::from_timestamp_millis(ms).map(|at| at.with_timezone(&Local)) else { return String::new() };
    let today = at.date_naive() == Local::now().date_naive();
    at.format(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(headline: &Headline) -> String {
        headline.words(|ms| format!("at {ms}"))
    }

    #[test]
    fn all_is_well_in_a_few_words() {
        let well = Headline { profiles: 3, pending: 12, last_success: Some(7), ..Headline::default() };
        assert_eq!(words(&well), "3 profiles, 12 pending, last success at 7");
        let fresh = Headline { profiles: 1, ..Headline::default() };
        assert_eq!(words(&fresh), "1 profile, 0 pending");
    }

    #[test]
    fn what_is_wrong_is_said_on_the_same_line() {
        let wrong = Headline {
            trouble: Some("no\napp".into()),
            paused: true,
            stopped: Some("trying again: refused\u{1b}[2J".into()),
            ..Headline::default()
        };
        assert_eq!(words(&wrong), "no app; paused, 0 profiles, 0 pending; trying again: refused [2J");
    }

    #[test]
    fn a_time_has_its_date_unless_it_is_today() {
        let now = chrono::Utc::now().timestamp_millis();
        // Between the two looks it may become tomorrow.
        let (earlier, later) = (local_time(now), local_time(now + 60_000));
        assert!(earlier.len() == 5 || later.len() == 5, "{earlier} {later}");
        assert_eq!(local_time(0).len(), "1970-01-01 00:00".len());
        assert_eq!(local_time(i64::MAX), "");
    }
}
