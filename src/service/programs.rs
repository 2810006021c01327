//! Other programs (`systemctl`, `loginctl`, `launchctl`), run one at a time.
//!
//! What must always hold: nothing else of this module's neighbours starts a program; each has an end, whatever it does;
//! what it says is read as it comes, in the language its words are known in.

use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The unit itself gives a start one minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// For what a program that has ended said last. It is in the pipe by then; whoever it left behind may keep that open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Whether it ended with 0.
    pub success: bool,
    /// What it answered.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// Its last complaint, in a line.
    pub fn complaint(&self) -> &str {
        self.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it did not say why")
    }
}

/// Whoever runs them: the machine, or a test that plays them.
pub trait Programs {
    /// Runs one to its end.
    ///
    /// # Errors
    /// It is not there, cannot be run, or does not end.
    fn run(&self, program: &str, arguments: &[OsString]) -> io::Result<Ran>;
}

/// The ones of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

/// The same, for whoever only looks and does not wait for long.
#[derive(Debug, Clone, Copy)]
pub struct Hasty(pub Duration);

impl Programs for Machine {
    fn run(&self, program: &str, arguments: &[OsString]) -> io::Result<Ran> {
        Hasty(PATIENCE).run(program, arguments)
    }
}

impl Programs for Hasty {
    fn run(&self, program: &str, arguments: &[OsString]) -> io::Result<Ran> {
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let status = wait(&mut child, self.0)?;
        let until = Instant::now() + LAST_WORDS;
        Ok(Ran { success: status.success(), stdout: said(&stdout, until), stderr: said(&stderr, until) })
    }
}

/// Reads to the end in a thread of its own, so that a full pipe stops nobody.
fn reader(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut bytes = [0; 4096];
        loop {
            match pipe.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count @ 1..) if sender.send(bytes[..count].to_vec()).is_ok() => {}
                // What came until it broke, or until nobody asks any more, is what there is.
                _ => return,
            }
        }
    });
    receiver
}

fn said(pieces: &Receiver<Vec<u8>>, until: Instant) -> String {
    let mut bytes = Vec::new();
    while let Ok(piece) = pieces.recv_timeout(until.saturating_duration_since(Instant::now())) {
        bytes.extend(piece);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
pub(super) mod played {
    //! Programs played by a test: what each is asked is written down, and answered by the first rule that fits.

    use std::cell::RefCell;

    use super::{OsString, Programs, Ran, io};

    type Rule = (String, Box<dyn Fn() -> io::Result<Ran>>);

    #[derive(Default)]
    pub(crate) struct Played {
        rules: Vec<Rule>,
        asked: RefCell<Vec<String>>,
    }

    pub(crate) fn says(stdout: &str) -> Ran {
        Ran { success: true, stdout: stdout.to_owned(), stderr: String::new() }
    }

    pub(crate) fn fails(stderr: &str) -> Ran {
        Ran { success: false, stdout: String::new(), stderr: stderr.to_owned() }
    }

    impl Played {
        /// Answers a command line that begins with `start`.
        pub(crate) fn on(mut self, start: &str, answer: Ran) -> Self {
            self.rules.push((start.to_owned(), Box::new(move || Ok(answer.clone()))));
            self
        }

        pub(crate) fn asked(&self) -> Vec<String> {
            self.asked.borrow().clone()
        }
    }

    impl Programs for Played {
        fn run(&self, program: &str, arguments: &[OsString]) -> io::Result<Ran> {
            let words = std::iter::once(program.to_owned()).chain(arguments.iter().map(|a| a.display().to_string()));
            let line = words.collect::<Vec<_>>().join(" ");
            self.asked.borrow_mut().push(line.clone());
            let answer = self.rules.iter().find(|(start, _)| line.starts_with(start.as_str()));
            answer.map_or_else(|| Err(io::ErrorKind::NotFound.into()), |(_, answer)| answer())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_and_how_it_ends_is_known() {
        let script = "echo out; echo first >&2; echo last >&2; exit 3".into();
        let ran = Machine.run("sh", &["-c".into(), script]).unwrap();
        assert_eq!((ran.success, ran.stdout.as_str(), ran.complaint()), (false, "out\n", "last"));
        let error = Machine.run("there-is-no-such-program", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn whoever_a_program_leaves_behind_is_not_waited_for() {
        let began = Instant::now();
        let left = Machine.run("sh", &["-c".into(), "sleep 60 & echo $!".into()]).unwrap();
        assert!(left.success && began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert!(Machine.run("kill", &[left.stdout.trim().into()]).unwrap().success, "{left:?}");
    }
}
