//! The door of the control socket: who is let in, and how many at a time.
//!
//! What must always hold: strangers are hung up on; whoever only wakes takes no seat from anybody, and nobody's seats keep
//! him out; whoever stays needs one; every wait and every number has a limit.

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::command::Command;
use super::lines::Lines;
use super::reception::Reception;
use super::server::{WRITE_TIMEOUT, answer, converse, error, next_line, write};
use super::socket;
use crate::exit::Exit;

/// Clients at a time; a person has one or two, a settings page one.
const CLIENTS_MAX: usize = 32;
/// Clients that have said nothing yet, or only `wake`; the next wait in the kernel until there is room.
const NEWCOMERS_MAX: usize = 64;
/// After this a client needs a seat. The app's hook is gone by then: it says `wake` and no more.
const NEWCOMER: Duration = Duration::from_millis(100);
/// A client that was told that there is no room is listened to for this long.
const REFUSAL: Duration = Duration::from_secs(1);
/// After a failed accept (out of descriptors, most likely) others may give some back.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(200);
/// That it fails is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// The socket that is listened on.
#[derive(Debug)]
pub struct Listener {
    socket: Option<UnixListener>,
    path: PathBuf,
    /// Where we made it.
    inode: Option<(u64, u64)>,
}

impl Listener {
    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub fn bind(path: &Path) -> Result<Self, (String, Exit)> {
        Self::over(socket::bind(path)?, path.to_owned(), socket::inode(path))
    }

    /// Takes over one that the service manager made, and keeps.
    ///
    /// # Errors
    /// For people, and how to end with it.
    pub fn inherit(socket: StdListener) -> Result<Self, (String, Exit)> {
        let address = socket.local_addr().ok();
        let path = address.and_then(|address| Some(address.as_pathname()?.to_owned())).unwrap_or_default();
        Self::over(socket, path, None)
    }

    fn over(socket: StdListener, path: PathBuf, inode: Option<(u64, u64)>) -> Result<Self, (String, Exit)> {
        let listener = socket.set_nonblocking(true).and_then(|()| UnixListener::from_std(socket));
        let listener =
            listener.map_err(|error| (format!("control socket {}: {error}", path.display()), Exit::TryLater))?;
        Ok(Self { socket: Some(listener), path, inode })
    }

    /// What to accept on; once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.socket.take()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket, if we made it and it is still ours.
    pub fn remove(&self) {
        if self.inode.is_some() && socket::inode(&self.path) == self.inode {
            // A stale socket is replaced at the next start anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts and answers for ever; its clients end with it.
pub async fn serve(listener: UnixListener, reception: Rc<Reception>) {
    let (seats, newcomers) = (Seats::default(), Arc::new(Semaphore::new(NEWCOMERS_MAX)));
    let mut tasks = JoinSet::new();
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! {
            (accepted, room) = accept(&listener, &newcomers) => match accepted {
                // Before there is a seat for him: strangers fill none, however many come.
                Ok(stream) if !is_owner(&stream) => drop(stream),
                Ok(stream) => drop(tasks.spawn_local(newcomer(stream, Rc::clone(&reception), seats.clone(), room))),
                Err(error) => {
                    if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
                        said = Some(Instant::now());
                        tracing::warn!("control socket: {error}");
                    }
                    tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// The next client, when there is room for one.
async fn accept(
    listener: &UnixListener,
    newcomers: &Arc<Semaphore>,
) -> (io::Result<UnixStream>, Option<OwnedSemaphorePermit>) {
    // Never closed, so there always is one.
    let room = Arc::clone(newcomers).acquire_owned().await.ok();
    (listener.accept().await.map(|(stream, _)| stream), room)
}

/// For clients that stay, and for those that are told that there is no room.
#[derive(Clone, Default)]
struct Seats {
    clients: Rc<Cell<usize>>,
    refused: Rc<Cell<usize>>,
}

/// One of the [`CLIENTS_MAX`].
struct Seat(Rc<Cell<usize>>);

impl Seat {
    fn take(clients: &Rc<Cell<usize>>) -> Option<Self> {
        (clients.get() < CLIENTS_MAX).then(|| {
            clients.set(clients.get() + 1);
            Self(Rc::clone(clients))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Listens to a client that has no seat yet, and finds him one if he is more than a waker.
async fn newcomer(mut stream: UnixStream, reception: Rc<Reception>, seats: Seats, room: Option<OwnedSemaphorePermit>) {
    let deadline = tokio::time::Instant::now() + NEWCOMER;
    let mut lines = Lines::default();
    let first = loop {
        let Ok(line) = timeout_at(deadline, next_line(&mut lines, &mut stream)).await else { break None };
        let Some(line) = line else { return };
        let Ok(words) = &line else { break Some(line) };
        if !matches!(Command::parse(words), Ok(Command::Wake(_))) {
            break Some(line);
        }
        if !answer(words, &reception, &mut stream, NEWCOMER).await {
            return;
        }
        // Looked at here too, as one who always has another line is never waited for; and not before the first line: what
        // was said in time is heard, however late we come to it.
        if tokio::time::Instant::now() >= deadline {
            break None;
        }
    };
    if let Some(_seat) = Seat::take(&seats.clients) {
        drop(room);
        converse(stream, lines, first, reception).await;
    } else if let Some(_seat) = Seat::take(&seats.refused) {
        drop(room);
        refuse(stream).await;
    }
    // Else it is a flood; politeness has its limits too.
}

/// Tells a client that there is no room, and listens until it has heard it: hung up on in mid-sentence it would not.
async fn refuse(mut stream: UnixStream) {
    let words = format!("{CLIENTS_MAX} clients are here already; try again");
    if write(&mut stream, &error("busy", &words), WRITE_TIMEOUT).await && stream.shutdown().await.is_ok() {
        let heard = async { while matches!(stream.read(&mut [0; 1024]).await, Ok(count) if count > 0) {} };
        let _ = tokio::time::timeout(REFUSAL, heard).await;
    }
}

/// The owner, or root. As the kernel noted it when the peer connected, on Linux and on macOS alike; a peer nobody can
/// name is a stranger.
fn is_owner(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}
