//! One line to the agent, and whether it was answered.
//!
//! What must always hold: no call here waits; a descriptor is closed in every child that is executed, and is never one of
//! the three standard ones, which the app may have closed and somebody may still write to.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketType};

/// The first descriptor that means nothing by itself.
const FIRST_PLAIN: i32 = 3;

/// Without a signal to the app where the other end is gone. Apple's sockets have that from their making.
#[cfg(not(target_vendor = "apple"))]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
#[cfg(target_vendor = "apple")]
const QUIETLY: SendFlags = SendFlags::DONTWAIT;

/// A line that was sent.
#[derive(Debug)]
pub(crate) struct Sent(OwnedFd);

impl Sent {
    /// Sends `line` on a connection of its own; `None` where nobody listens, or his backlog is full.
    pub(crate) fn new(address: &SocketAddrUnix, line: &[u8]) -> Option<Self> {
        let socket = plain(socket().ok()?)?;
        // On a Unix socket it succeeds or fails at once.
        net::connect(&socket, address).ok()?;
        let sent = net::send(&socket, line, QUIETLY).ok()?;
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use rustix::fs::OFlags;
    use rustix::io::FdFlags;

    use super::*;

    fn listening() -> (tempfile::TempDir, UnixListener, SocketAddrUnix) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        (place, listener, SocketAddrUnix::new(path).unwrap())
    }

    #[test]
    fn a_line_is_unread_until_there_is_an_answer_or_an_end() {
        let (_place, listener, address) = listening();
        let sent = Sent::new(&address, b"wake\n").unwrap();
        assert!(sent.is_unread());
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "wake\n", "and no more will be said");
        assert!(sent.is_unread());
        stream.write_all(b"{}\n").unwrap();
        assert!(!sent.is_unread());
        let sent = Sent::new(&address, b"wake\n").unwrap();
        drop(listener.accept().unwrap());
        assert!(!sent.is_unread());
    }

    #[test]
    fn a_descriptor_never_waits_and_is_nobodys_child() {
        let (_place, _listener, address) = listening();
        let Sent(descriptor) = Sent::new(&address, b"wake\n").unwrap();
        assert!(rustix::fs::fcntl_getfl(&descriptor).unwrap().contains(OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(&descriptor).unwrap().contains(FdFlags::CLOEXEC));
        assert!(descriptor.as_raw_fd() >= FIRST_PLAIN);
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        let (_place, listener, address) = listening();
        drop(listener);
        assert!(Sent::new(&address, b"wake\n").is_none());
    }
}
