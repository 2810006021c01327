//! The figures: a line now and then, and tables at the end.
//!
//! What must always hold: a run is clean only if nothing was lost, doubled, out of order, astray or left behind, and the
//! agent did not grow; each number in a table says of which process it is.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::ledger::Tally;
use super::usage::{Course, DESCRIPTORS_GROWTH_MAX, RSS_GROWTH_MAX_KB, Row, THREADS_GROWTH_MAX, Usage};
use super::{Counts, Options, World, agent, locked};
use crate::Result;

/// Rows left behind that are shown.
const LEFT_SHOWN: usize = 10;

/// One of the numbers of a sample.
type Number = fn(&Usage) -> Option<u64>;

/// How it came out.
#[derive(Debug)]
pub struct Outcome {
    /// The books at the end.
    pub tally: Tally,
    /// How often the agent was killed.
    pub kills: u64,
    /// How many faults of the server's met somebody.
    pub faults: u64,
    /// The agent's exit code after SIGTERM.
    pub exit: Option<i32>,
    seed: u64,
    time: Duration,
    faults_by_name: Counts,
    counts: Counts,
    course: Course,
    lives: usize,
    /// What still waits, and what was noted about it.
    left: Vec<String>,
    log: (PathBuf, u64),
}

pub(super) fn heading(options: &Options, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "soak: seed {}, {} of {} ops a second with a fault each {:?}; the agent is {}; in {}",
        options.seed,
        clock(options.time),
        options.rate,
        options.fault_every,
        options.agent.display(),
        options.home.display()
    )?;
    let names =
        ["time", "committed", "stored", "pending", "lost", "doubled", "kills", "faults", "RSS kB", "fds", "threads"];
    let [time, rest @ ..] = names;
    let mut line = format!("{time:>8}");
    for name in rest {
        let _ = write!(line, " {name:>9}");
    }
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A line; without a sample where there is none.
pub(super) fn line(world: &World<'_>, tally: &Tally, usage: Option<Usage>, out: &mut dyn Write) -> Result<()> {
    let kills = *world.counts.lock().get(super::KILLS).unwrap_or(&0);
    let numbers = [tally.committed, tally.stored, tally.pending, tally.lost, tally.doubled];
    let mut line = format!("{:>8}", clock(world.began.elapsed()));
    for number in numbers {
        let _ = write!(line, " {number:>9}");
    }
    for number in [Some(kills), Some(world.met.total())].into_iter().chain([
        usage.map(|usage| usage.rss_kb),
        usage.and_then(|usage| usage.descriptors),
        usage.map(|usage| usage.threads),
    ]) {
        let _ = write!(line, " {:>9}", shown(number));
    }
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

impl Outcome {
    pub(super) fn new(world: &World<'_>, tally: Tally, course: Course, exit: Option<i32>) -> Result<Self> {
        let mut left = Vec::new();
        for lane in &world.lanes {
            for row in lane.profile.pending()?.into_iter().take(LEFT_SHOWN) {
                let words = row.last_error.unwrap_or_default();
                left.push(format!("profile {}: {} {words}", lane.profile.id, row.operation_id));
            }
        }
        let agent = locked(&world.agent);
        let counts = world.counts.lock().clone();
        Ok(Self {
            tally,
            kills: *counts.get(super::KILLS).unwrap_or(&0),
            faults: world.met.total(),
            exit,
            seed: world.options.seed,
            time: world.options.time,
            faults_by_name: world.met.by_name(),
            counts,
            course,
            lives: agent.lives(),
            left,
            log: (agent.log_path(), agent::log_bytes(&agent)),
        })
    }

    /// What is wrong, in words; empty where all is well.
    pub fn complaints(&self) -> Vec<String> {
        let tally = &self.tally;
        let mut all: Vec<String> = [
            (tally.lost, "lost"),
            (tally.doubled, "doubled"),
            (tally.out_of_order, "out of order"),
            (tally.astray, "under another account"),
            (tally.pending, "left in the queue"),
            (tally.committed.saturating_sub(tally.stored), "committed and not stored"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
        if self.exit != Some(0) {
            all.push(format!("the agent ended with {:?} after SIGTERM", self.exit));
        }
        let grown = self.course.growth().unwrap_or_default();
        all.extend(grown.into_iter().map(|what| format!("{what} grew in the last process")));
        all
    }

    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.complaints().is_empty()
    }

    pub(super) fn tell(&self, out: &mut dyn Write) -> Result<()> {
        self.tell_usage(out)?;
        writeln!(out, "\nthe server's faults that met somebody: {}", self.faults)?;
        tell_counts(&self.faults_by_name, out)?;
        writeln!(out, "\nwhat else happened")?;
        tell_counts(&self.counts, out)?;
        let (log, bytes) = &self.log;
        writeln!(out, "\nthe agent's log: {} kB in {}", bytes / 1024, log.display())?;
        for row in &self.left {
            writeln!(out, "left: {row}")?;
        }
        for [first, second] in &self.tally.disorder {
            writeln!(out, "stored one behind the other, as (place, stamp): {first:?}, {second:?}")?;
        }
        let complaints = self.complaints();
        if complaints.is_empty() {
            let Tally { committed, lost, doubled, .. } = self.tally;
            let (kills, faults) = (self.kills, self.faults);
            writeln!(out, "clean: {committed} ops, {kills} kills, {faults} faults, {lost} lost, {doubled} doubled")?;
        } else {
            writeln!(out, "NOT CLEAN, seed {}: {}", self.seed, complaints.join(", "))?;
        }
        Ok(out.flush()?)
    }

    fn tell_usage(&self, out: &mut dyn Write) -> Result<()> {
        let course = &self.course;
        writeln!(
            out,
            "\nwhat the agent took; a process by itself: the last of {}, seen {} times, a second apart, kill-free for the last {}",
            self.lives,
            course.last_len(),
            clock(self.time / 2)
        )?;
        writeln!(out, "  {:<12} {:>9} {:>9} {:>9} {:>9}   {:>14}", "", "start", "middle", "end", "max", "max before")?;
        let rows: [(_, Number); 3] = [
            ("RSS, kB", |usage| Some(usage.rss_kb)),
            ("descriptors", |usage| usage.descriptors),
            ("threads", |usage| Some(usage.threads)),
        ];
        for (name, number) in rows {
            let row = course.row(number);
            let column = |pick: fn(&Row) -> u64| shown(row.as_ref().map(pick));
            writeln!(
                out,
                "  {name:<12} {:>9} {:>9} {:>9} {:>9}   {:>14}",
                column(|row| row.start),
                column(|row| row.middle),
                column(|row| row.end),
                column(|row| row.max),
                shown(course.peak_before(number))
            )?;
        }
        let verdict = match course.growth() {
            None => "too short to say whether it grows".to_owned(),
            Some(grown) if grown.is_empty() => "flat".to_owned(),
            Some(grown) => format!("growing: {}", grown.join(", ")),
        };
        writeln!(
            out,
            "  start, middle and end are medians of the second, fourth and last sixth of its life; {verdict} \
             (allowed: {RSS_GROWTH_MAX_KB} kB, {DESCRIPTORS_GROWTH_MAX} descriptors, {THREADS_GROWTH_MAX} threads)"
        )?;
        Ok(())
    }
}

fn tell_counts(counts: &Counts, out: &mut dyn Write) -> Result<()> {
    for (name, count) in counts {
        writeln!(out, "  {count:>6}  {name}")?;
    }
    Ok(())
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn clock(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
