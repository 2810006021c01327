//! One line to the agent, and whether it was answered.
//!
//! What must always hold: no call here waits; a descriptor is closed in every child that is executed, and is never one of
//! the three standard ones, which the app may have closed and somebody may still write to.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketType};

/// The first descriptor that means nothing by itself.
const FIRST_PLAIN: i32 = 3;

/// A line that was sent.
#[derive(Debug)]
pub(crate) struct Sent(OwnedFd);

impl Sent {
    /// Sends `line` on a connection of its own; `None` where nobody listens, or his backlog is full.
    pub(crate) fn new(address: &SocketAddrUnix, line: &[u8]) -> Option<Self> {
        let socket = plain(socket().ok()?)?;
        // On a Unix socket it succeeds or fails at once.
        net::connect(&socket, address).ok()?;
        let sent = net::send(&socket, line, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).ok()?;
        // No more will be said: the agent need not wait for it, and nobody's seat is taken.
        let _ = net::shutdown(&socket, Shutdown::Write);
        (sent == line.len()).then_some(Self(socket))
    }

    /// Whether the agent has yet to read it. It answers before it begins to act on it, so that what was committed before
    /// the answer is seen by the pass that the line brings about.
    pub(crate) fn is_unread(&self) -> bool {
        // The whole answer: what is left unread when a socket is closed looks like a fault to the other end.
        let mut some = [0_u8; 64];
        matches!(net::recv(&self.0, &mut some[..], RecvFlags::DONTWAIT), Err(Errno::AGAIN))
    }
}

#[cfg(not(target_vendor = "apple"))]
fn socket() -> rustix::io::Result<OwnedFd> {
    use rustix::net::SocketFlags;
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

#[cfg(target_vendor = "apple")]
fn socket() -> rustix::io::Result<OwnedFd> {
    let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    net::sockopt::set_socket_nosigpipe(&socket, true)?;
    Ok(socket)
}

fn plain(socket: OwnedFd) -> Option<OwnedFd> {
    if socket.as_raw_fd() >= FIRST_PLAIN {
        return Some(socket);
    }
    rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), FIRST_PLAIN).ok()
}
