//! The service manager, and what it is told: that the agent is ready, how things stand, that it is alive (`sd_notify(3)`).
//!
//! What must always hold: where there is no manager nothing is done for one; one that does not listen, or stands still with
//! its ears full, is no reason to deliver nothing (which is why this is not a library: those wait for it); no line that is
//! as the last one is said again.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::config::Environment;

/// That clients can be answered must be heard, or the start is taken for a failed one; a manager that listens does so in
/// microseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// systemd takes no message over 4096 bytes, not even the READY in it; and who reads a status reads one line.
/// In characters, of four bytes at most.
const STATUS_MAX: usize = 512;

/// Who is told, if anybody.
pub struct Manager {
    ear: Option<Ear>,
    /// How often it wants to hear that we are alive.
    patience: Option<Duration>,
    said: RefCell<String>,
}

impl Manager {
    /// The one this process was started by.
    pub fn of(env: &Environment) -> Self {
        let ear = env.get("NOTIFY_SOCKET").and_then(|name| Ear::at(Path::new(name)).ok());
        let number = |name: &str| env.get(name)?.to_str()?.parse::<u64>().ok();
        let ours = env.get("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
        let patience = number("WATCHDOG_USEC").filter(|patience| ours && ear.is_some() && *patience > 0);
        Self { ear, patience: patience.map(Duration::from_micros), said: RefCell::default() }
    }

    /// Whether there is one.
    pub fn listens(&self) -> bool {
        self.ear.is_some()
    }

    /// The longest time between two signs of life: half of what it waits for one.
    pub fn sign_every(&self) -> Option<Duration> {
        self.patience.map(|patience| patience / 2)
    }

    /// Clients can be answered; at the start, and after a reload.
    pub fn ready(&self, status: &str) {
        self.tell("READY=1\n", Some(status), READY_TIMEOUT);
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // By this it tells the READY that follows from an earlier one.
        let stamp = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={stamp}\n"), None, READY_TIMEOUT);
    }

    /// Nothing new is begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\n", Some("stopping"), Duration::ZERO);
    }

    /// How things stand, if that is news.
    pub fn status(&self, status: &str) {
        if *self.said.borrow() != status {
            self.tell("", Some(status), Duration::ZERO);
        }
    }

    /// A sign of life.
    pub fn alive(&self) {
        if self.patience.is_some() {
            self.tell("WATCHDOG=1\n", None, Duration::ZERO);
        }
    }

    fn tell(&self, what: &str, status: Option<&str>, patience: Duration) {
        let Some(ear) = &self.ear else { return };
        let line = status.map(|status| format!("STATUS={}\n", clipped(status))).unwrap_or_default();
        match ear.tell(&format!("{what}{line}"), patience) {
            Ok(()) => status.iter().for_each(|status| (*status).clone_into(&mut self.said.borrow_mut())),
            // How things stand is told again with the next change.
            Err(error) => tracing::debug!("the service manager does not listen: {error}"),
        }
    }
}

/// What fits, with a sign that there was more.
fn clipped(status: &str) -> Cow<'_, str> {
    if status.chars().nth(STATUS_MAX).is_none() {
        return Cow::Borrowed(status);
    }
    Cow::Owned(status.chars().take(STATUS_MAX).chain(['…']).collect())
}

/// Where it listens.
struct Ear {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Ear {
    fn at(name: &Path) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, address: address(name)? })
    }

    /// Waits so long for room.
    fn tell(&self, message: &str, patience: Duration) -> io::Result<()> {
        self.socket.set_nonblocking(patience.is_zero())?;
        self.socket.set_write_timeout(Some(patience).filter(|patience| !patience.is_zero()))?;
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

/// A path, or on Linux a name that begins with `@` and is in no file system.
#[cfg(target_os = "linux")]
fn address(name: &Path) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    match name.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(name: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Platform;

    fn manager(variables: &[(&str, &str)]) -> Manager {
        Manager::of(&Environment::new(Platform::Linux, Path::new("/"), variables.iter().copied()))
    }

    #[test]
    fn without_a_manager_nothing_is_awaited() {
        let alone = manager(&[("WATCHDOG_USEC", "1000")]);
        assert!(!alone.listens() && alone.sign_every().is_none());
        alone.ready("fine");
    }

    #[test]
    fn a_patience_is_ours_or_nobodys() {
        let every = |pid: &str, usec: &str| {
            manager(&[("NOTIFY_SOCKET", "/nowhere"), ("WATCHDOG_PID", pid), ("WATCHDOG_USEC", usec)]).sign_every()
        };
        let me = std::process::id().to_string();
        assert_eq!(every(&me, "3000000"), Some(Duration::from_millis(1500)));
        assert_eq!(every("", "3000000"), Some(Duration::from_millis(1500)), "unset");
        assert_eq!(every("1", "3000000"), None);
        assert_eq!((every(&me, "0"), every(&me, "soon")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_in_no_file_system_is_told_too_and_nothing_twice() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("waveflow-sync-agent-test-{}", std::process::id());
        let theirs = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
        let heard = || {
            let mut bytes = [0; 4096];
            theirs.recv(&mut bytes).ok().map(|count| String::from_utf8_lossy(&bytes[..count]).into_owned())
        };
        manager.ready("fine");
        assert_eq!(heard().unwrap(), "READY=1\nSTATUS=fine\n");
        manager.status("fine");
        manager.alive();
        assert_eq!(heard(), None);
        manager.status("finer");
        assert_eq!(heard().unwrap(), "STATUS=finer\n");
        // More than systemd takes.
        manager.ready(&"ä".repeat(3000));
        let long = heard().unwrap();
        assert!(long.starts_with("READY=1\nSTATUS=ä") && long.ends_with("ä…\n"), "{long}");
        assert!(long.len() < 4096, "{}", long.len());
    }
}
