//! The counters, in the words of Prometheus.
//!
//! What must always hold: every number comes from what was told ([`crate::tidings`]) or is known already; a scrape opens no
//! file and asks no server; labels are numbers and fixed words, so that nobody's text gets in. What a profile that is gone
//! has counted stays, since a sum must not fall; its levels go.

pub mod exporter;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use crate::tidings::happening::{AnswerKind, ClockKind, Happening};

/// The outcome of a pass that met trouble.
const FAILED: &str = "failed";

/// What began a look or a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The file watch.
    Watch,
    /// The timer.
    Timer,
    /// `wake` on the socket: the app's hook.
    Hook,
    /// `drain now`, `pause`, `resume`, `queue retry`, a reload.
    Asked,
}

impl Trigger {
    /// All of them.
    const ALL: [Self; 4] = [Self::Watch, Self::Timer, Self::Hook, Self::Asked];

    const fn name(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Timer => "timer",
            Self::Hook => "hook",
            Self::Asked => "asked",
        }
    }
}

/// How a profile stands at the time of a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// Its number.
    pub profile: i64,
    /// Whether anybody has counted its rows; where not, no number is better than a wrong one.
    pub counted: bool,
    /// Rows waiting.
    pub pending: u64,
    /// Rows refused.
    pub quarantined: u64,
    /// Rows held back.
    pub held: u64,
    /// The age of the oldest waiting row, seconds.
    pub oldest_s: f64,
    /// Until the next try, seconds; 0 where nothing waits.
    pub backoff_s: f64,
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    counts: Counts,
    levels: Levels,
    times: Times,
}

/// What only grows.
#[derive(Debug)]
struct Counts {
    accepted: IntCounterVec,
    settled: IntCounterVec,
    quarantined: IntCounterVec,
    passes: IntCounterVec,
    requests: IntCounterVec,
    conflicts: IntCounterVec,
    restamps: IntCounterVec,
    wakeups: IntCounterVec,
}

/// What goes up and down.
#[derive(Debug)]
struct Levels {
    pending: IntGaugeVec,
    quarantined: IntGaugeVec,
    held: IntGaugeVec,
    oldest: GaugeVec,
    backoff: GaugeVec,
}

/// How long things take.
#[derive(Debug)]
struct Times {
    push: Histogram,
    settle: Histogram,
    acknowledged: Histogram,
}

/// Makes metrics and puts them into a registry; a name that is no name is a bug, which the tests would see.
struct Maker(Registry);

impl Maker {
    fn put<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> prometheus::Result<M> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.put(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
        self.put(IntGaugeVec::new(Opts::new(name, help), &["profile"]))
    }

    fn seconds(&self, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
        self.put(GaugeVec::new(Opts::new(name, help), &["profile"]))
    }

    /// `start` is the first bucket; each is `factor` times the one before.
    fn histogram(
        &self,
        name: &str,
        help: &str,
        start: f64,
        factor: f64,
        count: usize,
    ) -> prometheus::Result<Histogram> {
        let buckets = exponential_buckets(start, factor, count)?;
        self.put(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }
}

impl Counts {
    fn made(make: &Maker) -> prometheus::Result<Self> {
        let of_profile = |name, help| make.counter(name, help, &["profile"]);
        Ok(Self {
            accepted: of_profile("waveflow_sync_ops_accepted_total", "Ops that the server named as accepted.")?,
            settled: of_profile("waveflow_sync_ops_settled_total", "Accepted ops that left the queue.")?,
            quarantined: of_profile(
                "waveflow_sync_ops_quarantined_total",
                "Ops that were put into quarantine, each time.",
            )?,
            conflicts: of_profile("waveflow_sync_conflicts_total", "Batches answered by 409: a stamp was taken.")?,
            passes: make.counter(
                "waveflow_sync_passes_total",
                "Passes over a queue: drained, skipped or failed.",
                &["profile", "outcome"],
            )?,
            requests: make.counter(
                "waveflow_sync_requests_total",
                "Batches sent, by HTTP status or by what came instead of an answer.",
                &["answer"],
            )?,
            restamps: make.counter(
                "waveflow_sync_restamps_total",
                "Blocks of fresh stamps that were reserved, by clock.",
                &["profile", "clock"],
            )?,
            wakeups: make.counter(
                "waveflow_sync_wakeups_total",
                "Times that somebody said there may be something to do.",
                &["trigger"],
            )?,
        })
    }
}

impl Counts {
    /// Has everything that is counted of a profile be there from its first scrape, at zero: a series that begins with its
    /// first event shows no increase, and the first op in quarantine would go unnoticed.
    fn begin(&self, profile: &str) {
        for counter in [&self.accepted, &self.settled, &self.quarantined, &self.conflicts] {
            counter.with_label_values(&[profile]);
        }
        for outcome in ["drained", "skipped", FAILED] {
            self.passes.with_label_values(&[profile, outcome]);
        }
        for clock in [ClockKind::Lamport, ClockKind::Hybrid] {
            self.restamps.with_label_values(&[profile, name_of(clock)]);
        }
    }
}

const fn name_of(clock: ClockKind) -> &'static str {
    match clock {
        ClockKind::Lamport => "lamport",
        ClockKind::Hybrid => "hybrid",
    }
}

impl Levels {
    fn made(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            pending: make.gauge("waveflow_sync_pending_ops", "Ops that wait, as the last pass left them.")?,
            quarantined: make.gauge("waveflow_sync_quarantined_ops", "Ops that a server refused.")?,
            held: make.gauge("waveflow_sync_held_ops", "Ops of another or an unknown account.")?,
            oldest: make.seconds("waveflow_sync_oldest_pending_seconds", "The age of the oldest op that waits.")?,
            backoff: make.seconds("waveflow_sync_backoff_seconds", "The time until the next try after a failure.")?,
        })
    }
}

impl Times {
    fn made(make: &Maker) -> prometheus::Result<Self> {
        let (push, push_help) = ("waveflow_sync_push_duration_seconds", "From sending a batch to its answer.");
        let (settle, settle_help) =
            ("waveflow_sync_settle_duration_seconds", "One transaction that takes ops off the queue.");
        let acknowledged = "waveflow_sync_commit_to_acknowledged_seconds";
        Ok(Self {
            // 1 ms to 24 s.
            push: make.histogram(push, push_help, 0.001, 2.5, 12)?,
            // 0.5 ms to 1.9 s.
            settle: make.histogram(settle, settle_help, 0.000_5, 2.5, 10)?,
            // 1 ms to 1.2 hours.
            acknowledged: make.histogram(
                acknowledged,
                "From an op's commit to the answer, where that is less than a year.",
                0.001,
                4.0,
                12,
            )?,
        })
    }
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A name that is no name: a bug.
    pub fn new() -> prometheus::Result<Self> {
        let make = Maker(Registry::new());
        let version = Opts::new("waveflow_sync_agent_build_info", "The agent's version; always 1.");
        make.put(IntGaugeVec::new(version, &["version"]))?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let (counts, levels, times) = (Counts::made(&make)?, Levels::made(&make)?, Times::made(&make)?);
        // A series that is there from the start has a rate from the start.
        Trigger::ALL.iter().for_each(|trigger| counts.wakeups.with_label_values(&[trigger.name()]).reset());
        Ok(Self { registry: make.0, counts, levels, times })
    }

    /// This happened to a profile.
    pub fn note(&self, profile: i64, happening: &Happening) {
        let profile = profile.to_string();
        let of = |counter: &IntCounterVec| counter.with_label_values(&[&profile]);
        match happening {
            Happening::BatchSent { answer, accepted, took_s, waited_s, .. } => {
                of(&self.counts.accepted).inc_by(*accepted as u64);
                self.counts.requests.with_label_values(&[&answer.to_string()]).inc();
                if *answer == AnswerKind::Status(409) {
                    of(&self.counts.conflicts).inc();
                }
                self.times.push.observe(*took_s);
                // Gathered, and added at once: a thousand ops in a batch are four atomic steps each otherwise.
                let acknowledged = self.times.acknowledged.local();
                waited_s.iter().for_each(|waited| acknowledged.observe(*waited));
                acknowledged.flush();
            }
            Happening::Settled { ops, took_s } => {
                of(&self.counts.settled).inc_by(*ops as u64);
                self.times.settle.observe(*took_s);
            }
            Happening::Restamped { clock } => {
                self.counts.restamps.with_label_values(&[profile.as_str(), name_of(*clock)]).inc();
            }
            Happening::Quarantined { .. } => of(&self.counts.quarantined).inc(),
            Happening::PassEnded { outcome, error, .. } => {
                let outcome = if error.is_some() { FAILED } else { outcome };
                self.counts.passes.with_label_values(&[profile.as_str(), outcome]).inc();
            }
            // What is still refused was counted when it went into quarantine.
            Happening::PassStarted
            | Happening::StillRefused { .. }
            | Happening::BackingOff { .. }
            | Happening::StateChanged { .. } => {}
        }
    }

    /// Somebody said that there may be something to do.
    pub fn woke(&self, trigger: Trigger) {
        self.counts.wakeups.with_label_values(&[trigger.name()]).inc();
    }

    /// As Prometheus reads it, with the profiles as they stand now.
    pub fn text(&self, profiles: &[Gauges]) -> String {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for gauge in [&self.levels.pending, &self.levels.quarantined, &self.levels.held] {
            gauge.reset();
        }
        self.levels.oldest.reset();
        self.levels.backoff.reset();
        for gauges in profiles {
            let label = gauges.profile.to_string();
            self.counts.begin(&label);
            let label = &[label.as_str()];
            self.levels.backoff.with_label_values(label).set(gauges.backoff_s);
            if !gauges.counted {
                continue;
            }
            self.levels.pending.with_label_values(label).set(whole(gauges.pending));
            self.levels.quarantined.with_label_values(label).set(whole(gauges.quarantined));
            self.levels.held.with_label_values(label).set(whole(gauges.held));
            self.levels.oldest.with_label_values(label).set(gauges.oldest_s);
        }
        // It fails for a family without a name or a metric; there is none.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Outcome, Reason};

    #[test]
    fn every_name_is_one_and_a_profile_that_is_gone_is_shown_no_more() {
        let metrics = Metrics::new().unwrap();
        let gauges = Gauges { profile: 2, counted: true, pending: 3, oldest_s: 1.5, ..Gauges::default() };
        let text = metrics.text(&[gauges]);
        assert!(text.contains("waveflow_sync_pending_ops{profile=\"2\"} 3\n"), "{text}");
        assert!(text.contains("waveflow_sync_oldest_pending_seconds{profile=\"2\"} 1.5\n"), "{text}");
        assert!(text.contains("waveflow_sync_wakeups_total{trigger=\"timer\"} 0\n"), "{text}");
        let uncounted = metrics.text(&[Gauges { profile: 2, ..Gauges::default() }]);
        assert!(!uncounted.contains("waveflow_sync_pending_ops{"), "{uncounted}");
        let gone = metrics.text(&[]);
        assert!(!gone.contains("_ops{") && !gone.contains("_seconds{"), "{gone}");
        assert!(gone.contains("waveflow_sync_ops_accepted_total{profile=\"2\"} 0\n"), "{gone}");
    }

    /// Names in `text` that are ours, without what a histogram's series add.
    fn names(text: &str) -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let ours = words.filter(|word| word.starts_with("waveflow_sync_"));
        ours.map(|name| {
            ["_bucket", "_sum", "_count"].iter().fold(name, |name, end| name.trim_end_matches(end)).to_owned()
        })
        .collect()
    }

    #[test]
    fn the_dashboard_shows_every_metric_and_none_that_does_not_exist() {
        let metrics = Metrics::new().unwrap();
        metrics.counts.requests.with_label_values(&["200"]);
        let dashboard = include_str!("../../config/grafana-dashboard.json");
        let value: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        assert!(value["panels"].as_array().is_some_and(|panels| panels.len() > 5));
        assert_eq!(names(dashboard), names(&metrics.text(&[Gauges { counted: true, ..Gauges::default() }])));
    }

    #[test]
    fn what_is_counted_of_a_profile_is_there_from_its_first_scrape_and_adds_no_series_later() {
        let metrics = Metrics::new().unwrap();
        let profiles = [Gauges { profile: 1, counted: true, ..Gauges::default() }];
        let names = |text: &str| -> Vec<String> {
            let series = text.lines().filter(|line| line.contains("profile="));
            series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
        };
        let first = names(&metrics.text(&profiles));
        let (answer, waited_s) = (AnswerKind::Status(409), Vec::new());
        let refused = Happening::Quarantined { operation_id: "x".into(), message: "no".into() };
        let sent = Happening::BatchSent { ops: 2, bytes: 9, answer, accepted: 0, took_s: 0.1, waited_s };
        let error = Some(crate::op::Failure::new(crate::op::ErrorKind::Server, "down"));
        let failed = Outcome { skipped: None, error, ..Outcome::skipped(Reason::Held) };
        let drained = Outcome { skipped: None, ..Outcome::skipped(Reason::Held) };
        for outcome in [&failed, &drained, &Outcome::skipped(Reason::Held)] {
            metrics.note(1, &Happening::ended(outcome, std::time::Duration::ZERO));
        }
        for clock in [ClockKind::Lamport, ClockKind::Hybrid] {
            metrics.note(1, &Happening::Restamped { clock });
        }
        for happening in [sent, refused, Happening::Settled { ops: 1, took_s: 0.1 }] {
            metrics.note(1, &happening);
        }
        assert_eq!(names(&metrics.text(&profiles)), first);
        let text = metrics.text(&profiles);
        assert!(text.contains("waveflow_sync_ops_quarantined_total{profile=\"1\"} 1\n"), "the first one: {text}");
    }

    #[test]
    fn a_conflict_counts_as_a_request_and_as_one() {
        let metrics = Metrics::new().unwrap();
        let (answer, waited_s) = (AnswerKind::Status(409), Vec::new());
        metrics.note(1, &Happening::BatchSent { ops: 2, bytes: 9, answer, accepted: 0, took_s: 0.1, waited_s });
        metrics.note(1, &Happening::Restamped { clock: ClockKind::Lamport });
        let text = metrics.text(&[]);
        for line in [
            "waveflow_sync_conflicts_total{profile=\"1\"} 1",
            "waveflow_sync_requests_total{answer=\"409\"} 1",
            "waveflow_sync_restamps_total{clock=\"lamport\",profile=\"1\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
