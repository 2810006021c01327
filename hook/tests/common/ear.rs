//! Something in the agent's place that only listens.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::eventually;

/// Ends it.
const END: &str = "end";

pub(crate) struct Ear {
    place: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Listens and answers.
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(place.path().join("s")).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&heard);
        let thread = thread::spawn(move || listen(&listener, &theirs));
        Self { place, heard, thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.place.path().join("s")
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard these lines and no other.
    #[track_caller]
    pub(crate) fn hears(&self, lines: &[&str]) {
        eventually(&format!("{lines:?}, heard was {:?}", self.heard()), || self.heard().len() >= lines.len());
        assert_eq!(self.heard(), lines);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        say(&self.socket(), END);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn say(socket: &Path, line: &str) {
    if let Ok(mut stream) = UnixStream::connect(socket) {
        let _ = writeln!(stream, "{line}");
    }
}

fn listen(listener: &UnixListener, heard: &Mutex<Vec<String>>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        if line.trim_end() == END {
            return;
        }
        // First: whoever sees that it was heard may say more.
        let _ = (&stream).write_all(b"{\"woken\":true}\n");
        heard.lock().unwrap().push(line.trim_end().to_owned());
    }
}
