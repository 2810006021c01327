//! From commit to stored: how long an op takes that the app commits while the daemon has nothing to do.
//!
//! What must always hold: the clock starts when the app's COMMIT has returned and ends when the server has read the
//! request with that op; nobody tells the daemon, it sees the app's file being written to.

use std::thread;
use std::time::{Duration, Instant};

use testkit::Result;
use testkit::data_dir::AppDb;
use testkit::ops::Mix;

use super::daemon::Daemon;
use super::echo::{Echo, Ledger};
use super::ground::{Install, verify_order};
use super::numbers::{milliseconds, percentile};
use super::results::{Delay, Spread};

/// An op that takes longer does not come.
const LIMIT: Duration = Duration::from_secs(30);
/// Commits before the ones that count: the daemon's files are open then, as they are when somebody works.
const WARM_UP: usize = 3;

/// Commits at each of these rates, so many times.
pub(crate) fn delays(rates: &[(u32, usize)]) -> Result<Vec<Delay>> {
    let server = Echo::start(Duration::ZERO)?;
    let install = Install::new()?;
    install.deliver_to(&server)?;
    let daemon = Daemon::start(&install)?;
    let mut app = install.profile.open()?;
    let mut mix = Mix::new(1).without_large();
    let mut delays = Vec::new();
    for &(per_second, commits) in rates {
        commit(&mut app, &mut mix, Duration::from_millis(10), WARM_UP)?;
        server.wait_for(WARM_UP, LIMIT)?;
        server.take();
        let (ids, committed) = commit(&mut app, &mut mix, Duration::from_secs(1) / per_second, commits)?;
        server.wait_for(commits, LIMIT)?;
        let ledger = server.take();
        verify_order(&ids, &ledger.ids)?;
        delays.push(Delay { per_second, commits, spread: spread(&between(&committed, &ledger)) });
    }
    drop(app);
    daemon.stop()?;
    install.verify(&[], &[])?;
    Ok(delays)
}

/// Commits one op every `pace`; their ids, and when each COMMIT had returned.
fn commit(app: &mut AppDb, mix: &mut Mix, pace: Duration, times: usize) -> Result<(Vec<u128>, Vec<Instant>)> {
    let (mut ids, mut committed) = (Vec::new(), Vec::new());
    let mut next = Instant::now();
    for op in mix.by_ref().take(times) {
        let due = next.saturating_duration_since(Instant::now());
        thread::sleep(due);
        next += pace;
        ids.push(op.operation_id.as_u128());
        app.enqueue(&[op])?;
        committed.push(Instant::now());
    }
    Ok((ids, committed))
}

/// How long each op took, where the ledger has them in the order of their commits. An op that is read before the app
/// has looked at its clock took no time.
pub(crate) fn between(committed: &[Instant], ledger: &Ledger) -> Vec<Duration> {
    let mut requests = ledger.requests.iter().peekable();
    let mut delays = Vec::new();
    for (place, committed) in committed.iter().enumerate() {
        while requests.next_if(|(_, count)| *count <= place).is_some() {}
        if let Some((read, _)) = requests.peek() {
            delays.push(read.saturating_duration_since(*committed));
        }
    }
    delays
}

/// Median, 99th percentile and the worst.
pub(crate) fn spread(times: &[Duration]) -> Spread {
    let of = |of_1000| milliseconds(percentile(times, of_1000).unwrap_or_default());
    Spread { p50: of(500), p99: of(990), max: of(1000) }
}
