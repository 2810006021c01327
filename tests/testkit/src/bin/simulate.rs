//! Lives many lives of the agent in a made-up world, each decided by its seed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::args::Args;
use testkit::simulation::alike::Pairing;
use testkit::simulation::{Report, defaults, live};
use testkit::{Error, Result};

const USAGE: &str = "simulate --seed N [--trace]   one life, and step by step what happened\n\
                     simulate [--seeds 1000] [--from 0] [--threads 2] [--keep-going]   many lives\n\
                     simulate --alike [--seeds 1000] [--from 0]   the made-up files compared with real ones";

/// In so many lives everything that can happen has to happen.
const ALL_SEEN_AFTER: u64 = 10_000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn run() -> Result<bool> {
    let valued = ["seed", "seeds", "from", "threads"];
    let args = Args::parse(std::env::args().skip(1), &valued, &["trace", "keep-going", "alike"])?;
    if args.text("seed").is_some() {
        return one(args.get("seed", 0)?, args.has("trace"));
    }
    if args.has("alike") {
        return compare(args.get("from", 0)?, args.get("seeds", 1000)?);
    }
    many(args.get("from", 0)?, args.get("seeds", 1000)?, args.get("threads", 2)?, args.has("keep-going"))
}

fn one(seed: u64, trace: bool) -> Result<bool> {
    let config = defaults().ok_or_else(|| Error::other("the agent has no defaults"))?;
    let report = live(seed, &config, trace);
    report.trace.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} steps, {} ops stored", report.steps, report.arrived);
    if let Some(breach) = &report.breach {
        println!("seed {seed}: {breach}");
    }
    Ok(report.breach.is_none())
}

fn compare(from: u64, seeds: u64) -> Result<bool> {
    let directory = std::env::temp_dir().join(format!("waveflow-simulate-{}", std::process::id()));
    let began = Instant::now();
    let pairing = Pairing::new(&directory)?;
    let different = (from..from.saturating_add(seeds)).find_map(|seed| Some((seed, pairing.compare(seed).err()?)));
    drop(pairing);
    std::fs::remove_dir_all(&directory)?;
    match &different {
        Some((seed, error)) => println!("seed {seed}: {error}"),
        None => println!("{seeds} comparisons in {:.1} s, no difference", began.elapsed().as_secs_f64()),
    }
    Ok(different.is_none())
}

/// What many lives came to.
#[derive(Default)]
struct Sum {
    lives: u64,
    steps: u64,
    arrived: u64,
    seen: BTreeMap<&'static str, u64>,
    breaches: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.lives += 1;
        self.steps += report.steps;
        self.arrived += report.arrived as u64;
        for (what, count) in report.seen {
            *self.seen.entry(what).or_default() += count;
        }
        self.breaches.extend(report.breach.map(|breach| (report.seed, breach)));
    }

    fn merge(&mut self, other: Self) {
        (self.lives, self.steps, self.arrived) =
            (self.lives + other.lives, self.steps + other.steps, self.arrived + other.arrived);
        for (what, count) in other.seen {
            *self.seen.entry(what).or_default() += count;
        }
        self.breaches.extend(other.breaches);
    }
}

fn many(from: u64, seeds: u64, threads: usize, keep_going: bool) -> Result<bool> {
    let began = Instant::now();
    let (next, over) = (AtomicU64::new(from), AtomicBool::new(false));
    let work = || -> Result<Sum> {
        let config = defaults().ok_or_else(|| Error::other("the agent has no defaults"))?;
        let mut sum = Sum::default();
        while !over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from.saturating_add(seeds) {
                break;
            }
            sum.add(live(seed, &config, false));
            if !keep_going && !sum.breaches.is_empty() {
                over.store(true, Ordering::Relaxed);
            }
        }
        Ok(sum)
    };
    let sums: Vec<Result<Sum>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::other("a thread ended"))))
            .collect()
    });
    let mut all = Sum::default();
    for sum in sums {
        all.merge(sum?);
    }
    tell(&mut all, began.elapsed());
    let unseen: Vec<&str> = all.seen.iter().filter(|(_, count)| **count == 0).map(|(what, _)| *what).collect();
    if seeds >= ALL_SEEN_AFTER && !unseen.is_empty() {
        println!("never seen: {}", unseen.join(", "));
        return Ok(false);
    }
    Ok(all.breaches.is_empty())
}

fn tell(all: &mut Sum, took: Duration) {
    for (what, count) in &all.seen {
        println!("{count:>14}  {what}");
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = all.steps as f64 / took.as_secs_f64() * 60.0 / 1e6;
    println!(
        "{} lives, {} steps, {} ops stored in {:.1} s: {rate:.1} million steps a minute",
        all.lives,
        all.steps,
        all.arrived,
        took.as_secs_f64()
    );
    all.breaches.sort();
    for (seed, breach) in all.breaches.iter().take(20) {
        println!("seed {seed}: {breach}");
    }
    println!("{} breaches", all.breaches.len());
}
