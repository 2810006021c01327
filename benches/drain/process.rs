//! A process that is measured: how long it ran, and what the kernel has in its books about it.
//!
//! What must always hold: the peak of its memory is `VmHWM`, read while it runs (`ru_maxrss` begins with the peak of
//! whoever started it); what it wrote and computed is read when it has ended and before it is reaped, so that nothing is
//! missed, its own reaped children included; no process outlives [`LIMIT`].

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use testkit::{Error, Result};

/// How often its memory is looked at. A look takes some 20 µs.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longer than any run; who takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);
/// What `/proc` counts processor time in, wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

/// What a run cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// From exec to exit.
    pub(crate) took: Duration,
    /// The most memory it had at once, in kB.
    pub(crate) peak_kb: Option<u64>,
    /// Bytes it made the kernel write.
    pub(crate) written: Option<u64>,
    /// Processor time, user and system.
    pub(crate) processor: Option<Duration>,
}

/// Runs it to its end and measures it. Fails with its words where its exit code is not 0.
pub(crate) fn measure(command: &mut Command) -> Result<Cost> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let words = child.stderr.take().map(|mut pipe| {
        thread::spawn(move || {
            let mut words = String::new();
            let _ = pipe.read_to_string(&mut words);
            words
        })
    });
    let over = AtomicBool::new(false);
    let (ended, peak_kb) = thread::scope(|scope| {
        let sampler = scope.spawn(|| watch(child.id(), began, &over));
        let ended = wait_unreaped(&child).map(|()| began.elapsed());
        over.store(true, Ordering::Relaxed);
        (ended, sampler.join().unwrap_or_default())
    });
    let cost = Cost {
        took: ended?,
        peak_kb,
        written: number(child.id(), "io", "write_bytes"),
        processor: processor(child.id()),
    };
    let status = child.wait()?;
    let words = words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    if status.success() { Ok(cost) } else { Err(Error::other(format!("{status}: {}", words.trim()))) }
}

/// The process's number as the system calls want it.
fn pid(child: &Child) -> Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| Error::other("a process without a number"))
}

/// Waits for its end and leaves it to be reaped by whoever wants to know more.
fn wait_unreaped(child: &Child) -> Result<()> {
    loop {
        match waitid(WaitId::Pid(pid(child)?), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::other(format!("waiting for a process: {error}"))),
        }
    }
}

/// A process that ends with this value, whatever else happens.
pub(crate) struct Owned(Child);

impl Owned {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn()?))
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) -> Result<()> {
        kill_process(pid(&self.0)?, Signal::TERM).map_err(|error| Error::other(error.to_string()))
    }

    /// Waits for its end, at most so long; fails where its exit code is not 0.
    pub(crate) fn end_within(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Error::other(status.to_string())),
                None if Instant::now() > deadline => {
                    return Err(Error::other(format!("a process did not end within {limit:?}")));
                }
                None => {}
            }
            let due = LOOK_EVERY;
            thread::sleep(due);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks at its memory until it is over, and ends it when its time is.
fn watch(process: u32, began: Instant, over: &AtomicBool) -> Option<u64> {
    let mut peak = None;
    let mut next = began;
    while !over.load(Ordering::Relaxed) {
        // One that has ended has no memory any more. The kernel moves its own mark only when memory is given back, and
        // tells whoever asks what is more, so that what it tells may fall.
        peak = peak.max(number(process, "status", "VmHWM"));
        if began.elapsed() > LIMIT {
            if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            return peak;
        }
        next += LOOK_EVERY;
        let due = next.saturating_duration_since(Instant::now());
        thread::sleep(due.max(LOOK_EVERY / 2));
    }
    peak
}

/// One of the numbers of `/proc/PID/FILE`.
pub(crate) fn number(process: u32, file: &str, key: &str) -> Option<u64> {
    number_in(&fs::read_to_string(format!("/proc/{process}/{file}")).ok()?, key)
}

/// The number that stands behind `key:` in one of `/proc`'s texts.
pub(crate) fn number_in(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn processor(process: u32) -> Option<Duration> {
    processor_in(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The processor time in the text of `/proc/PID/stat`: user and system, its own and its reaped children's.
pub(crate) fn processor_in(text: &str) -> Option<Duration> {
    // Behind the name, which is in brackets and may hold anything: the state is the third field, times are 14 to 17.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut ticks = 0;
    for field in fields.split(' ').skip(11).take(4) {
        ticks += field.parse::<u32>().ok()?;
    }
    Some(TICK * ticks)
}
