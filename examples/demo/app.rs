//! The made-up app as a process of its own: commits what it is told to, and tells each commit with its time.
//!
//! ```text
//!   demo ── a line: scatter 20 250, burst 3000, … ──▶ app ──▶ data.db
//!        ◀── op ID MICROSECONDS, for each; done ─────
//! ```
//!
//! What must always hold: an op is told after its commit and never without one, in the order of commits; the app ends
//! when its standard input does, so that it cannot outlive the demo.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::data_dir::{AppDb, DataDir, Generation, Profile};
use testkit::ops::{Mix, NewOp};
use testkit::{Error, Result};
use uuid::Uuid;

/// Be the app of the directory behind this one.
pub(super) const AS_APP: &str = "--as-the-app";
/// Ops in one transaction of a scan.
const BURST: usize = 200;
/// Between two transactions of a scan.
const BETWEEN_BURSTS: Duration = Duration::from_millis(5);
/// Where the export lies, beside `data.db`.
const BACKUP: &str = "backup.db";

/// Microseconds since the epoch: the one clock that two processes share.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The app's whole life.
pub(super) fn live(directory: &Path) -> Result<()> {
    let profile = DataDir::new(directory, Generation::Three)?.profiles()?.into_iter().next();
    let profile = profile.ok_or_else(|| Error::other("there is no profile"))?;
    let mut app = App { db: Some(profile.open()?), profile, mix: Mix::new(fastrand::u64(..)).without_large() };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        app.act(&words)?;
        println!("done");
    }
    Ok(())
}

struct App {
    profile: Profile,
    db: Option<AppDb>,
    mix: Mix,
}

impl App {
    fn act(&mut self, words: &[&str]) -> Result<()> {
        let number = |place: usize| words.get(place).and_then(|word| word.parse().ok()).unwrap_or(1_usize);
        match words.first().copied() {
            Some("scatter") => self.scatter(number(1), Duration::from_millis(number(2) as u64)),
            Some("burst") => self.scan(number(1)),
            Some("poison") => self.poison(),
            Some("backup") => self.profile.export(&self.profile.path.join(BACKUP)),
            Some("restore") => self.restore(),
            _ => Err(Error::other("the app knows no such act")),
        }
    }

    /// Single changes at random moments, up to `most` apart.
    fn scatter(&mut self, ops: usize, most: Duration) -> Result<()> {
        for _ in 0..ops {
            thread::sleep(most.mul_f64(fastrand::f64()));
            self.commit(1)?;
        }
        Ok(())
    }

    fn scan(&mut self, ops: usize) -> Result<()> {
        let (mut left, mut slowest) = (ops, Duration::ZERO);
        while left > 0 {
            let size = left.min(BURST);
            let began = Instant::now();
            self.commit(size)?;
            slowest = slowest.max(began.elapsed());
            left -= size;
            thread::sleep(BETWEEN_BURSTS);
        }
        println!("slowest {}", slowest.as_micros());
        Ok(())
    }

    /// One among healthy ones that no server takes, told as such.
    fn poison(&mut self) -> Result<()> {
        let poison = NewOp::new("playlist", "13", "set").field("name").payload_text(r#"{"value":"Friday\u0000 13"}"#);
        println!("poison {}", poison.operation_id);
        let mut ops: Vec<NewOp> = self.mix.by_ref().take(4).collect();
        ops.insert(2, poison);
        self.write(&ops)
    }

    /// The app closes its file, puts the old one in its place, and opens that.
    fn restore(&mut self) -> Result<()> {
        self.db = None;
        self.profile.replace_by_import(&self.profile.path.join(BACKUP))?;
        self.db = Some(self.profile.open()?);
        Ok(())
    }

    fn commit(&mut self, ops: usize) -> Result<()> {
        let ops: Vec<NewOp> = self.mix.by_ref().take(ops).collect();
        self.write(&ops)
    }

    fn write(&mut self, ops: &[NewOp]) -> Result<()> {
        let db = self.db.as_mut().ok_or_else(|| Error::other("the app has closed its file"))?;
        db.enqueue(ops)?;
        let at = now_us();
        let mut out = io::stdout().lock();
        for op in ops {
            writeln!(out, "op {} {at}", op.operation_id)?;
        }
        Ok(out.flush()?)
    }
}

/// What the app tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Committed, at this time in microseconds.
    Op(Uuid, u64),
    /// No server takes this one.
    Poison(Uuid),
    /// The slowest transaction of a scan, in microseconds.
    Slowest(u64),
    /// What it was told to do is done.
    Done,
}

fn understood(line: &str) -> Option<Told> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["op", id, at] => Some(Told::Op(id.parse().ok()?, at.parse().ok()?)),
        ["poison", id] => Some(Told::Poison(id.parse().ok()?)),
        ["slowest", time] => time.parse().ok().map(Told::Slowest),
        ["done"] => Some(Told::Done),
        _ => None,
    }
}

/// The app, seen from the demo; it ends with this value.
pub(super) struct RunningApp {
    child: Child,
    orders: Option<ChildStdin>,
    told: Receiver<Told>,
}

impl RunningApp {
    /// Starts it on this directory.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(AS_APP)
            .arg(directory)
            .env_clear()
            // Ctrl-C is the demo's, which ends everybody in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let out = child.stdout.take().ok_or_else(|| Error::other("the app has no voice"))?;
        let (sender, told) = channel();
        // Ends with the app's standard output, that is, with the app.
        thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(io::Result::ok);
            lines.filter_map(|line| understood(&line)).try_for_each(|told| sender.send(told))
        });
        Ok(Self { child, orders, told })
    }

    /// Tells it what to do.
    pub(super) fn order(&mut self, line: &str) -> Result<()> {
        let orders = self.orders.as_mut().ok_or_else(|| Error::other("the app has ended"))?;
        Ok(writeln!(orders, "{line}")?)
    }

    /// What it has told since the last look; waits up to `time` for the first.
    pub(super) fn told(&mut self, time: Duration) -> Result<Vec<Told>> {
        let first = self.told.recv_timeout(time).ok();
        if first.is_none() && self.child.try_wait()?.is_some() {
            return Err(Error::other("the made-up app has ended before its time"));
        }
        Ok(first.into_iter().chain(self.told.try_iter()).collect())
    }
}

impl Drop for RunningApp {
    fn drop(&mut self) {
        // Its input ends, and so does it; where it does not, both calls fail only if it has ended.
        self.orders = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_app_tells_is_understood_and_nothing_else() {
        let id = Uuid::from_u128(7);
        assert_eq!(understood(&format!("op {id} 12")), Some(Told::Op(id, 12)));
        assert_eq!(understood(&format!("poison {id}")), Some(Told::Poison(id)));
        assert_eq!(understood("done"), Some(Told::Done));
        for line in ["", "op", "op x 1", "done now", "slowest"] {
            assert_eq!(understood(line), None, "{line}");
        }
    }
}
