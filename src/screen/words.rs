//! Times and numbers as people say them. Pure.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `1 op`, `2 ops`.
pub fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { more })
}

/// `1,204,117`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long something has lasted, in its largest unit: `3 hours`. Two of a unit are told before one of the next: `90
/// seconds` says more than `1 minute`.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        0..=119 => counted(seconds, "second", "seconds"),
        120..=7199 => counted(seconds / MINUTE, "minute", "minutes"),
        7200..=172_799 => counted(seconds / HOUR, "hour", "hours"),
        _ => counted(seconds / DAY, "day", "days"),
    }
}

/// How long something takes yet, for one who waits: `4 s`, `2 min 5 s`, `3 h 4 min`.
pub fn left(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=3599 => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        _ => format!("{} h {} min", grouped(seconds / HOUR), seconds % HOUR / MINUTE),
    }
}

/// How long ago, `now` in ms since the epoch; `None` where that is no time. What is yet to come (a clock was set back) was
/// just now.
pub fn since(rfc3339: &str, now: i64) -> Option<u64> {
    let then = humantime::parse_rfc3339(rfc3339).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Duration::from_millis(u64::try_from(now).ok()?).saturating_sub(then).as_secs())
}

/// `1`, `1 and 2`, `1, 2 and 3`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let told = [0, 1, 119, 120, 3600, 7199, 7200, 172_799, 172_800, 864_000].map(lasting);
        let expected = [
            "0 seconds",
            "1 second",
            "119 seconds",
            "2 minutes",
            "60 minutes",
            "119 minutes",
            "2 hours",
            "47 hours",
            "2 days",
            "10 days",
        ];
        assert_eq!(told, expected);
        assert_eq!([4, 125, 11_045].map(left), ["4 s", "2 min 5 s", "3 h 4 min"]);
    }

    #[test]
    fn numbers_are_told_in_groups_of_three() {
        assert_eq!(
            [0, 999, 1000, 1_204_117, u64::MAX].map(grouped),
            ["0", "999", "1,000", "1,204,117", "18,446,744,073,709,551,615"]
        );
    }

    #[test]
    fn a_time_to_come_was_just_now_and_no_time_is_none() {
        assert_eq!(since("1970-01-01T00:00:10Z", 15_900), Some(5));
        assert_eq!(since("1970-01-01T00:00:10Z", 0), Some(0));
        assert_eq!(since("yesterday", 0), None);
        assert_eq!(since("1970-01-01T00:00:10Z", -1), None);
    }

    #[test]
    fn lists_are_read_aloud() {
        let items = ["1", "2", "3"].map(str::to_owned);
        assert_eq!([1, 2, 3].map(|count| listed(&items[..count])), ["1", "1 and 2", "1, 2 and 3"]);
    }
}
