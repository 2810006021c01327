//! What was set out to be reached, in one place.
//!
//! What must always hold: each is judged by figures of one run; what was not measured is neither reached nor missed.

use super::loops::REFERENCE;
use super::numbers::{float, memory, or_unknown, short, thousands};
use super::results::{AGENT, Neighbour, Results, Setting};

/// Whether a figure has to be large or small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    AtLeast,
    AtMost,
}

/// One thing to be reached.
pub(crate) struct Threshold {
    what: &'static str,
    bound: Bound,
    limit: f64,
    /// What was measured; `None`: nothing.
    figure: Option<f64>,
    write: fn(f64) -> String,
}

impl Threshold {
    fn is_reached(&self) -> Option<bool> {
        self.figure.map(|figure| match self.bound {
            Bound::AtLeast => figure >= self.limit,
            Bound::AtMost => figure <= self.limit,
        })
    }

    /// For a table: what, the limit, the figure, how it came out.
    pub(crate) fn cells(&self) -> [String; 4] {
        let bound = if self.bound == Bound::AtLeast { "at least" } else { "at most" };
        let verdict = match self.is_reached() {
            Some(true) => "reached",
            Some(false) => "**not reached**",
            None => "not measured",
        };
        let figure = or_unknown(self.figure, self.write);
        [self.what.to_owned(), format!("{bound} {}", (self.write)(self.limit)), figure, verdict.to_owned()]
    }
}

/// All of them, held against what was measured.
pub(crate) fn thresholds(results: &Results) -> Vec<Threshold> {
    let mut all = speed(results);
    all.extend(size(results));
    all.extend(neighbourliness(results));
    all
}

fn times(figure: f64) -> String {
    format!("{} times", short(figure))
}

fn speed(results: &Results) -> Vec<Threshold> {
    let ratio = |setting| results.contest(setting, AGENT).and_then(|contest| results.ratio(contest));
    let at_least = |what, setting, limit| {
        let (bound, figure) = (Bound::AtLeast, ratio(setting));
        Threshold { what, bound, limit, figure, write: times }
    };
    let written = |contestant| results.contest(Setting::Many, contestant).and_then(|contest| contest.written);
    let share = written(AGENT).zip(written(REFERENCE.name)).map(|(ours, theirs)| float(ours) / float(theirs.max(1)));
    vec![
        at_least("100,000 ops, as fast as the reference", Setting::Near, 6.0),
        at_least("a million ops, as fast as the reference", Setting::Many, 5.0),
        at_least("20 ms away, as fast as the reference", Setting::Far, 10.0),
        Threshold {
            what: "a million ops, bytes written, as a share of the reference's",
            bound: Bound::AtMost,
            limit: 0.1,
            figure: share,
            write: |figure| format!("{figure:.3}"),
        },
    ]
}

fn size(results: &Results) -> Vec<Threshold> {
    let at_most = |what, limit, figure: Option<u64>, write| Threshold {
        what,
        bound: Bound::AtMost,
        limit,
        figure: figure.map(float),
        write,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "kB of one process")]
    let kilobytes: fn(f64) -> String = |figure| memory(figure.max(0.0) as u64);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of few things")]
    let count: fn(f64) -> String = |figure| thousands(figure.max(0.0) as u64);
    let peak = results.contest(Setting::Many, AGENT).and_then(|contest| contest.peak_kb);
    let footprint = results.footprint.as_ref();
    let idle = footprint.map(|footprint| &footprint.idle);
    vec![
        at_most("a million ops, peak RSS", 12.0 * 1024.0, peak, kilobytes),
        at_most("idle, RSS", 8.0 * 1024.0, idle.and_then(|idle| idle.rss_kb), kilobytes),
        at_most("idle, threads", 2.0, idle.and_then(|idle| idle.threads), count),
        at_most("idle, context switches in 30 s", 4.0, idle.and_then(|idle| idle.switches), count),
        Threshold {
            what: "ready after exec",
            bound: Bound::AtMost,
            limit: 50.0,
            figure: footprint.map(|footprint| footprint.ready_ms),
            write: milliseconds,
        },
    ]
}

fn milliseconds(figure: f64) -> String {
    format!("{} ms", short(figure))
}

fn neighbourliness(results: &Results) -> Vec<Threshold> {
    let at_most = |what, limit, figure, write| Threshold { what, bound: Bound::AtMost, limit, figure, write };
    let delay = results.delays.iter().find(|delay| delay.per_second == 10).map(|delay| delay.spread);
    let agent = results.neighbour(AGENT);
    let failed = |who| results.neighbour(who).map(Neighbour::failed);
    let share = failed(AGENT).zip(failed(REFERENCE.name)).filter(|(_, theirs)| *theirs > 0.0);
    vec![
        at_most("commit to stored at 10 commits a second, p50", 1.0, delay.map(|delay| delay.p50), milliseconds),
        at_most("commit to stored at 10 commits a second, p99", 5.0, delay.map(|delay| delay.p99), milliseconds),
        at_most("the app's commits during a drain, p99", 30.0, agent.map(|agent| agent.spread.p99), milliseconds),
        at_most(
            "the app's failed actions in a drain, as a share of those under the reference",
            0.2,
            share.map(|(ours, theirs)| ours / theirs),
            |figure| format!("{figure:.3}"),
        ),
    ]
}

/// One line about how they came out.
pub(crate) fn summary(all: &[Threshold]) -> String {
    let count = |wanted| all.iter().filter(|threshold| threshold.is_reached() == wanted).count();
    let (reached, missed, unknown) = (count(Some(true)), count(Some(false)), count(None));
    format!("Of {} things to be reached {reached} are, {missed} are not, {unknown} were not measured.", all.len())
}
