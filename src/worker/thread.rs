//! The database thread: whatever blocks on a file runs here, one thing after the other.
//!
//! What must always hold: the reactor never waits for a file; what was given is done, in order; with nothing to do for
//! [`IDLE`] there is no thread at all.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Something that blocks.
pub type Job = Box<dyn FnOnce() + Send>;

/// Who does what blocks: a thread, and in simulations the simulation.
pub trait Hands: Send + Sync {
    /// Does `job` some time, after everything that was given before it. One that is dropped will not be done.
    fn give(self: Arc<Self>, job: Job);
}

/// `SQLite` needs little; what serde needs for the state file is bounded too.
const STACK_BYTES: usize = 512 << 10;
/// With nothing to do for this long the thread ends; making another one costs less than 0.1 ms.
const IDLE: Duration = Duration::from_secs(10);

/// A handle on the thread.
#[derive(Clone)]
pub struct DatabaseThread {
    hands: Arc<dyn Hands>,
}

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    given: Condvar,
}

impl std::fmt::Debug for DatabaseThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseThread")
    }
}

impl Default for DatabaseThread {
    fn default() -> Self {
        Self::of(Arc::<Desk>::default())
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// A thread is there and will look at `jobs` once more before it ends.
    running: bool,
}

impl DatabaseThread {
    /// What is called is done by `hands`.
    pub fn of(hands: Arc<dyn Hands>) -> Self {
        Self { hands }
    }

    /// Runs `work` there. `None` where `work` panicked or no thread could be made.
    pub fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + 'static {
        let (done, result) = oneshot::channel();
        Arc::clone(&self.hands).give(Box::new(move || {
            // Nobody waits any more where the pass was dropped.
            let _ = done.send(work());
        }));
        async move { result.await.ok() }
    }
}

impl Hands for Desk {
    fn give(self: Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.running {
            self.given.notify_one();
            return;
        }
        let desk = Arc::clone(&self);
        let thread = thread::Builder::new().name("database".into()).stack_size(STACK_BYTES);
        match thread.spawn(move || desk.work()) {
            Ok(_) => state.running = true,
            Err(error) => {
                tracing::error!("cannot start a thread: {error}");
                // Whoever waits for it learns that it will not be done.
                state.jobs.clear();
            }
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            // Its caller learns from the dropped sender; the others go on.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a database job panicked: this is a bug");
            }
        }
    }

    /// The next job; `None` after [`IDLE`] without one, and then the thread is already accounted for as gone.
    fn next(&self) -> Option<Job> {
        let state = self.lock();
        let (mut state, _) = self
            .given
            .wait_timeout_while(state, IDLE, |state| state.jobs.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let job = state.jobs.pop_front();
        state.running = job.is_some();
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_and_off_the_reactor() {
        let thread = DatabaseThread::default();
        let here = std::thread::current().id();
        let first = thread.call(move || std::thread::current().id() != here);
        let second = thread.call(|| 2);
        assert_eq!(second.await, Some(2));
        assert_eq!(first.await, Some(true));
    }

    #[tokio::test]
    async fn work_that_panics_is_not_waited_for_and_the_rest_goes_on() {
        let thread = DatabaseThread::default();
        let lost: Option<()> = thread.call(|| panic!("on purpose")).await;
        assert_eq!(lost, None);
        assert_eq!(thread.call(|| 1).await, Some(1));
    }
}
