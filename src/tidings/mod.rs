//! What happens while the agent works, told as it happens: to clients that watch, and to the counters.
//!
//! What must always hold: who tells never waits for who listens; a listener that is too slow loses what is oldest, and is
//! told how much; a tiding holds no payload and no token. Where nobody watches, nothing is written.
//!
//! Reading order: [`happening`] (what is told), [`observer`] (what a pass is seen to do), [`Tidings`] (to whom).

pub mod happening;
pub mod observer;

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use self::happening::Happening;
use crate::clock;
use crate::metrics::{Gauges, Metrics, Trigger};
use crate::status::timestamp;

/// Lines kept for the slowest listener: a few seconds of a busy drain, 60 kB.
const KEPT: usize = 256;

/// Who listens may stay for ever; the other half of the seats at the socket is for those who ask something.
pub const LISTENERS_MAX: usize = 16;

/// Tells everybody who listens.
#[derive(Debug)]
pub struct Tidings {
    lines: broadcast::Sender<Arc<str>>,
    /// `None`: a bug of ours, which a test would see; without counters everything goes on.
    metrics: Option<Metrics>,
}

impl Default for Tidings {
    fn default() -> Self {
        Self { lines: broadcast::Sender::new(KEPT), metrics: Metrics::new().ok() }
    }
}

impl Tidings {
    /// This happened to a profile.
    pub fn tell(&self, profile: i64, happening: &Happening) {
        self.metrics.iter().for_each(|metrics| metrics.note(profile, happening));
        if self.lines.receiver_count() > 0 {
            let line = happening.line(profile, &timestamp(clock::now_ms()));
            // They may all have left this moment.
            let _ = self.lines.send(line.into());
        }
    }

    /// Somebody said that there may be something to do.
    pub fn woke(&self, trigger: Trigger) {
        self.metrics.iter().for_each(|metrics| metrics.woke(trigger));
    }

    /// The counters, with the profiles as they stand now.
    pub fn metrics(&self, profiles: &[Gauges]) -> String {
        self.metrics.as_ref().map(|metrics| metrics.text(profiles)).unwrap_or_default()
    }

    /// Listens from now on; `None`: so many do already.
    pub fn listen(&self) -> Option<Listener> {
        (self.lines.receiver_count() < LISTENERS_MAX).then(|| Listener(self.lines.subscribe()))
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Arc<str>>);

impl Listener {
    /// The next line; `None` when nobody is left who could tell.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        match self.0.recv().await {
            Ok(line) => Some(line),
            Err(RecvError::Lagged(count)) => Some(happening::dropped(count).into()),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Tells of one profile.
#[derive(Debug, Clone)]
pub struct Teller {
    profile: i64,
    tidings: Rc<Tidings>,
}

impl Teller {
    /// For this profile.
    pub fn new(profile: i64, tidings: Rc<Tidings>) -> Self {
        Self { profile, tidings }
    }

    /// This happened to it.
    pub fn tell(&self, happening: &Happening) {
        self.tidings.tell(self.profile, happening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::OperationId;

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_much_is_lost_and_keeps_nobody_waiting() {
        let tidings = Tidings::default();
        tidings.tell(1, &Happening::PassStarted);
        let mut slow = tidings.listen().unwrap();
        for _ in 0..KEPT + 5 {
            tidings.tell(1, &Happening::PassStarted);
        }
        let op = OperationId::new("x");
        tidings.tell(2, &Happening::Quarantined { operation_id: op.to_string(), message: "no".into() });
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let first = value(&slow.next().await.unwrap());
        assert_eq!(first, serde_json::json!({"event": "dropped", "count": 6}));
        for _ in 0..KEPT - 1 {
            assert_eq!(value(&slow.next().await.unwrap())["event"], "pass_started");
        }
        let last = value(&slow.next().await.unwrap());
        assert_eq!((&last["event"], &last["profile"]), (&"quarantined".into(), &2.into()));
        drop(tidings);
        assert_eq!(slow.next().await, None);
    }
}
