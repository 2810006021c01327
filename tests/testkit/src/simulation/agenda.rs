//! Virtual time: what is to come, in order, and the futures that wait for it.
//!
//! What must always hold: two things due at one moment happen in the order in which they were put down, so that a seed
//! decides everything; nothing here asks the system for a time.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use waveflow_sync_agent::worker::thread::{Hands, Job};

/// Microseconds since the life began.
pub type Micros = u64;

/// A millisecond.
pub const MS: Micros = 1_000;
/// A second.
pub const SECOND: Micros = 1_000_000;

/// What is to come.
pub struct Agenda<E> {
    now: Micros,
    put_down: u64,
    entries: BinaryHeap<Reverse<Entry<E>>>,
}

struct Entry<E> {
    at: Micros,
    number: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { now: 0, put_down: 0, entries: BinaryHeap::new() }
    }
}

impl<E> Agenda<E> {
    /// The time it is.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Puts `event` down for `wait` from now.
    pub fn put(&mut self, wait: Micros, event: E) {
        let (at, number) = (self.now.saturating_add(wait), self.put_down);
        self.put_down += 1;
        self.entries.push(Reverse(Entry { at, number, event }));
    }

    /// The next event; it is its time now.
    pub fn take(&mut self) -> Option<E> {
        let Reverse(entry) = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

/// Rings once, and brings something.
pub struct Bell<T> {
    state: RefCell<(Option<T>, Option<Waker>)>,
}

impl<T> Default for Bell<T> {
    fn default() -> Self {
        Self { state: RefCell::new((None, None)) }
    }
}

impl<T> Bell<T> {
    /// Rings it.
    pub fn ring(&self, value: T) {
        let waker = {
            let mut state = self.state.borrow_mut();
            state.0 = Some(value);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for a bell.
pub struct Hearing<T>(pub Rc<Bell<T>>);

impl<T> Future for Hearing<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.state.borrow_mut();
        if let Some(value) = state.0.take() {
            return Poll::Ready(value);
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What runs side by side: polled in the order in which it was spawned.
#[derive(Default)]
pub struct Tasks {
    all: Vec<Task>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Tasks {
    /// One more.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.all.push(Task { future: Box::pin(future), woken: Arc::new(Woken(AtomicBool::new(true))) });
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Polls who was woken, until nobody is; at most `limit` times, for a task that never rests is a bug. Whether all rest.
    pub fn settle(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            let mut polled = false;
            self.all.retain_mut(|task| {
                if !task.woken.0.swap(false, Ordering::Relaxed) {
                    return true;
                }
                polled = true;
                let waker = Waker::from(Arc::clone(&task.woken));
                task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            if !polled {
                return true;
            }
        }
        false
    }
}

/// The database thread's place: jobs wait here until the agenda says that one is done.
#[derive(Default)]
pub struct Desk {
    jobs: Mutex<VecDeque<Job>>,
}

impl Hands for Desk {
    fn give(self: Arc<Self>, job: Job) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
    }
}

impl Desk {
    /// The next job.
    pub fn take(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
