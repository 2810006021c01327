//! Sums over measurements, and how they are written down.
//!
//! What must always hold: a percentile is a value that was measured, never one in between; what is not known is written
//! as a dash.

use std::time::Duration;

/// What stands where nothing was measured.
pub(crate) const UNKNOWN: &str = "–";

/// A count as a number to divide; counts here are far below what an `f64` holds.
#[expect(clippy::cast_precision_loss, reason = "nothing that is counted here comes near 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The value that so many of 1000 do not exceed, by the nearest rank; `None` where there is none at all.
pub(crate) fn percentile<T: Ord + Copy>(values: &[T], of_1000: usize) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * of_1000).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The value in the middle.
pub(crate) fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    percentile(values, 500)
}

/// In milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// `58,712`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate, to three digits: `58,700`.
pub(crate) fn rate(per_second: f64) -> String {
    let step = [1000.0, 100.0, 10.0].into_iter().find(|step| per_second >= step * 100.0).unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is neither negative nor huge")]
    let rounded = ((per_second / step).round() * step).max(0.0) as u64;
    thousands(rounded)
}

/// A number of which two or three digits say enough: `0.43`, `7.8`, `23`.
pub(crate) fn short(value: f64) -> String {
    match value {
        _ if value >= 10.0 => format!("{value:.0}"),
        _ if value >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `3.1 GB`.
pub(crate) fn bytes(count: u64) -> String {
    let (divisor, unit) = match count {
        1_000_000_000.. => (1e9, "GB"),
        1_000_000.. => (1e6, "MB"),
        1_000.. => (1e3, "kB"),
        _ => return format!("{count} B"),
    };
    format!("{} {unit}", short(float(count) / divisor))
}

/// Memory, from kB: `7.2 MiB`.
pub(crate) fn memory(kilobytes: u64) -> String {
    format!("{:.1} MiB", float(kilobytes) / 1024.0)
}

/// As `write` has it, or a dash.
pub(crate) fn or_unknown<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), write)
}
