//! The figures as tables, in Markdown: the same on a terminal, in the README, and wherever they are quoted.
//!
//! What must always hold: every cell comes from [`Results`]; in a terminal the columns stand below each other.

use super::numbers::{bytes, float, memory, or_unknown, rate, short, thousands};
use super::results::{Contest, Footprint, Neighbour, Occupied, Results, Setting, Spread};
use super::thresholds::{Threshold, summary, thresholds};

/// A table of Markdown, its columns as wide as their widest cell; numbers to the right.
fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count(), 3]).max().unwrap_or_default()
    };
    let line = |cells: [String; N]| format!("| {} |\n", cells.join(" | "));
    let pad = |column: usize, text: &str| {
        let space = " ".repeat(width(column).saturating_sub(text.chars().count()));
        if column == 0 { format!("{text}{space}") } else { format!("{space}{text}") }
    };
    let rule = |column: usize| {
        let dashes = "-".repeat(width(column) - 1);
        if column == 0 { format!(":{dashes}") } else { format!("{dashes}:") }
    };
    let mut text = line(std::array::from_fn(|column| pad(column, heads[column])));
    text.push_str(&line(std::array::from_fn(rule)));
    for row in rows {
        text.push_str(&line(std::array::from_fn(|column| pad(column, &row[column]))));
    }
    text
}

/// Everything that was measured, one table behind the other.
pub(crate) fn report(results: &Results) -> String {
    let mut parts = vec![machine(results)];
    for setting in [Setting::Near, Setting::Many, Setting::Far] {
        parts.extend(contests(results, setting));
    }
    parts.extend(delays(results));
    parts.extend(neighbours(results));
    parts.extend(results.footprint.as_ref().map(footprint));
    parts.push(reached(results));
    if !results.skipped.is_empty() {
        parts.push(format!("Skipped: {}.\n", results.skipped.join("; ")));
    }
    parts.join("\n")
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let (cores, kernel, filesystem) = (machine.cores, &machine.kernel, &machine.filesystem);
    format!(
        "Measured in one run on {cores} cores, Linux {kernel}, {filesystem}; server, app and contestant share the cores.\n"
    )
}

/// What a contest is about, in words.
pub(crate) fn title(setting: Setting, ops: usize) -> String {
    let ops = thousands(ops as u64);
    match setting {
        Setting::Near | Setting::Many => format!("{ops} ops, a server that answers at once"),
        Setting::Far => format!("{ops} ops, a server that takes 20 ms for each answer"),
    }
}

fn contests(results: &Results, setting: Setting) -> Option<String> {
    let of: Vec<&Contest> = results.contests.iter().filter(|contest| contest.setting == setting).collect();
    let ops = of.first()?.ops;
    let title = title(setting, ops);
    let row = |contest: &&Contest| {
        let shorter =
            if contest.ops == ops { String::new() } else { format!(" ({} ops)", thousands(contest.ops as u64)) };
        [
            format!("{}{shorter}", contest.contestant),
            rate(contest.rate()),
            or_unknown(results.ratio(contest), short),
            or_unknown(contest.peak_kb, memory),
            or_unknown(contest.written, bytes),
            or_unknown(contest.processor_s, |seconds| format!("{} s", short(seconds))),
            thousands(contest.requests as u64),
        ]
    };
    let heads = [title.as_str(), "ops/s", "ratio", "peak RSS", "written", "processor", "requests"];
    Some(table(heads, &of.iter().map(row).collect::<Vec<_>>()))
}

fn milliseconds(value: f64) -> String {
    format!("{} ms", short(value))
}

fn spread(spread: Spread) -> [String; 3] {
    [spread.p50, spread.p99, spread.max].map(milliseconds)
}

fn delays(results: &Results) -> Option<String> {
    results.delays.first()?;
    let rows = results.delays.iter().map(|delay| {
        let [p50, p99, max] = spread(delay.spread);
        [format!("{} a second", delay.per_second), thousands(delay.commits as u64), p50, p99, max]
    });
    Some(table(["from commit to stored", "commits", "p50", "p99", "max"], &rows.collect::<Vec<_>>()))
}

fn neighbours(results: &Results) -> Option<String> {
    results.neighbours.first()?;
    let commits = |neighbour: &Neighbour| {
        let [p50, p99, max] = spread(neighbour.spread);
        let behind = milliseconds(neighbour.max_behind_ms);
        [neighbour.contestant.clone(), drains(neighbour), thousands(neighbour.commits as u64), p50, p99, max, behind]
    };
    let failures = |neighbour: &Neighbour| {
        let per_drain = |count| short(neighbour.each(count));
        [
            neighbour.contestant.clone(),
            drains(neighbour),
            per_drain(neighbour.deferred),
            per_drain(neighbour.busy_snapshot),
            per_drain(neighbour.busy),
            format!("{} %", short(100.0 * neighbour.failed() / neighbour.each(neighbour.deferred).max(1.0))),
            neighbour.timed_out.to_string(),
        ]
    };
    let rows = |row: &dyn Fn(&Neighbour) -> [String; 7]| results.neighbours.iter().map(row).collect::<Vec<_>>();
    let felt =
        ["the app's commits while its queue is drained by", "drains", "commits", "p50", "p99", "max", "max behind"];
    let failed = [
        "its actions that read first, in one drain by",
        "drains",
        "actions",
        "`BUSY_SNAPSHOT`",
        "`BUSY` at once",
        "failed",
        "`BUSY` after 5 s, in all",
    ];
    Some(format!("{}\n{}", table(felt, &rows(&commits)), table(failed, &rows(&failures))))
}

/// How many, and how long each took.
fn drains(neighbour: &Neighbour) -> String {
    let each = short(neighbour.seconds / float(neighbour.drains.max(1) as u64));
    format!("{} × {each} s", neighbour.drains)
}

fn footprint(footprint: &Footprint) -> String {
    let row = |name: &str, occupied: &Occupied| {
        [
            name.to_owned(),
            format!("{} s", short(occupied.seconds)),
            or_unknown(occupied.rss_kb, memory),
            or_unknown(occupied.peak_kb, memory),
            or_unknown(occupied.threads, thousands),
            or_unknown(occupied.descriptors, thousands),
            or_unknown(occupied.switches, thousands),
            or_unknown(occupied.written, bytes),
        ]
    };
    let heads = ["the daemon", "for", "RSS", "peak RSS", "threads", "descriptors", "context switches", "written"];
    let rows = [row("draining", &footprint.draining), row("idle, behind that", &footprint.idle)];
    let size = bytes(footprint.binary_bytes);
    let ready = milliseconds(footprint.ready_ms);
    let starts = footprint.starts;
    format!(
        "{}\nThe binary has {size}; its socket answers {ready} after exec (the median of {starts} starts).\n",
        table(heads, &rows)
    )
}

fn reached(results: &Results) -> String {
    let all = thresholds(results);
    let rows: Vec<_> = all.iter().map(Threshold::cells).collect();
    format!("{}\n{}\n", table(["to be reached", "limit", "figure", "result"], &rows), summary(&all))
}
