//! The database thread: whatever blocks on a file runs here, one thing after the other.
//!
//! What must always hold: the reactor never waits for a file; dropping the handle ends the thread once it has done what
//! it was given.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// `SQLite` needs little; what serde needs for the state file is bounded too.
const STACK_BYTES: usize = 512 << 10;

/// A handle on the thread.
#[derive(Debug)]
pub struct DatabaseThread {
    jobs: mpsc::Sender<Job>,
}

impl DatabaseThread {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let (jobs, given) = mpsc::channel::<Job>();
        thread::Builder::new().name("database".into()).stack_size(STACK_BYTES).spawn(move || {
            for job in given {
                job();
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `work` there. `None` where the thread is gone or `work` panicked.
    pub fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + 'static {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody waits any more where the pass was dropped.
            let _ = done.send(work());
        });
        let given = self.jobs.send(job).is_ok();
        async move { if given { result.await.ok() } else { None } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_and_off_the_reactor() {
        let thread = DatabaseThread::start().unwrap();
        let here = std::thread::current().id();
        let first = thread.call(move || std::thread::current().id() != here);
        let second = thread.call(|| 2);
        assert_eq!(second.await, Some(2));
        assert_eq!(first.await, Some(true));
    }

    #[tokio::test]
    async fn work_that_panics_is_not_waited_for() {
        let thread = DatabaseThread::start().unwrap();
        let lost: Option<()> = thread.call(|| panic!("on purpose")).await;
        assert_eq!(lost, None);
    }
}
