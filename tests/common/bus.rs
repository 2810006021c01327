//! A session bus of a test's own, and a made-up desktop on it that writes down what it is asked to show.
//!
//! What must always hold: the bus is a socket in the stage's directory, where nobody else is; it ends with [`Bus`].

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use futures_util::StreamExt as _;
use zbus::message::Type;
use zbus::{MessageStream, OwnedVariant, connection};

use super::daemon::SOON;

const DESKTOP: &str = "org.freedesktop.Notifications";

/// A session bus.
pub(crate) struct Bus {
    daemon: Child,
    address: String,
    desktop: Option<JoinHandle<()>>,
    shown: Arc<Mutex<Vec<Shown>>>,
}

/// What the desktop was asked to show.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) title: String,
    pub(crate) body: String,
    /// All of it.
    pub(crate) whole: String,
}

/// How the desktop answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It shows what it is asked to show.
    Shows,
    /// It says that it cannot.
    Refuses,
}

impl Bus {
    /// Starts a bus with nobody on it, its socket in `directory`. Says so, and is `None`, where there is no `dbus-daemon`.
    pub(crate) fn start(directory: &Path) -> Option<Self> {
        let (config, socket) = (directory.join("bus.conf"), socket(directory));
        fs::write(&config, configuration(&socket)).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
        let Ok(mut daemon) = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            println!("skipped: no dbus-daemon here");
            return None;
        };
        let mut address = String::new();
        // It says its address when it listens.
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("unix:"), "no bus: {address:?}");
        Some(Self { daemon, address: address.trim().to_owned(), desktop: None, shown: Arc::default() })
    }

    /// [`Bus::start`], with a desktop on it.
    pub(crate) fn with_desktop(directory: &Path, manner: Manner) -> Option<Self> {
        let mut bus = Self::start(directory)?;
        bus.come(manner);
        Some(bus)
    }

    /// A desktop comes, and is there.
    pub(crate) fn come(&mut self, manner: Manner) {
        let (there, comes) = mpsc::channel();
        let (address, shown) = (self.address.clone(), Arc::clone(&self.shown));
        let life = async move {
            let built = connection::Builder::address(address.as_str()).name(DESKTOP).build().await.unwrap();
            let messages = MessageStream::from(&built);
            there.send(()).unwrap();
            show(&built, messages, manner, &shown).await;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.desktop = Some(thread::spawn(move || runtime.block_on(life)));
        comes.recv_timeout(SOON).expect("the desktop comes to the bus");
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it was asked to show so far.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // Without its bus it ends.
        if let Some(desktop) = self.desktop.take() {
            let _ = desktop.join();
        }
    }
}

/// Where the bus listens.
pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join("bus.socket")
}

/// One socket, everybody of this user may do anything, nobody is started.
fn configuration(socket: &Path) -> String {
    format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
          \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
         <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
        socket.display()
    )
}

/// `Notify` as the specification has it.
type Notify = (String, u32, String, String, String, Vec<String>, HashMap<String, OwnedVariant>, i32);

async fn show(bus: &zbus::Connection, mut messages: MessageStream, manner: Manner, shown: &Mutex<Vec<Shown>>) {
    while let Some(Ok(message)) = messages.next().await {
        let header = message.header();
        if header.message_type() != Type::MethodCall || header.interface().is_none_or(|name| name != DESKTOP) {
            continue;
        }
        assert_eq!(header.member().map(|name| name.as_str().to_owned()).as_deref(), Some("Notify"));
        let asked: Notify = message.body().deserialize().unwrap();
        let whole = format!("{asked:?}");
        shown.lock().unwrap().push(Shown { title: asked.3, body: asked.4, whole });
        let answered = match manner {
            Manner::Shows => bus.reply(&header, &7_u32).await,
            Manner::Refuses => bus.reply_error(&header, "org.freedesktop.DBus.Error.Failed", &"no screen").await,
        };
        answered.unwrap();
    }
}
