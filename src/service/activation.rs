//! The control socket, where the service manager listened on it before we were started.
//!
//! What must always hold: it is taken once, before there is a second thread (taking it changes the environment); whatever
//! is handed over that is no listening Unix socket is left alone.

use std::os::unix::net::UnixListener;

/// What was handed over; `None` where we make our own socket.
#[cfg(target_os = "linux")]
pub fn socket() -> Option<UnixListener> {
    let mut given = listenfd::ListenFd::from_env();
    (0..given.len()).find_map(|index| given.take_unix_listener(index).ok().flatten())
}

/// What was handed over; `None` where we make our own socket.
#[cfg(target_os = "macos")]
pub fn socket() -> Option<UnixListener> {
    super::launchd::socket()
}

/// What was handed over; `None` where we make our own socket.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn socket() -> Option<UnixListener> {
    None
}
