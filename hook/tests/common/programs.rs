//! Programs that write the queue with the hook: each runs the lines of its input as SQL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use super::{Stage, agent};

/// A program in another language, in a few lines.
const PYTHON: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute('PRAGMA synchronous = NORMAL')
connection.enable_load_extension(True)
connection.load_extension(sys.argv[2])
for line in sys.stdin:
    connection.executescript(line)
    print('ok', flush=True)
";

/// The extension, which cargo built for these tests.
fn extension() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let file = format!("{}waveflow_sync_hook{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = program.parent().unwrap().join(file);
    assert!(path.exists(), "{} is not there", path.display());
    path
}

/// Debian's valgrind and the like; `None` where it is not there.
pub(crate) fn valgrind() -> Option<PathBuf> {
    found("valgrind", &["--version"])
}

fn found(name: &str, arguments: &[&str]) -> Option<PathBuf> {
    let ran = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    ran.is_ok_and(|output| output.status.success()).then(|| PathBuf::from(name))
}

/// The sqlite3 shell, on the profile's queue; `None` where there is none that loads extensions.
pub(crate) fn shell(stage: &Stage) -> Option<Command> {
    let path = found("sqlite3", &["--version"])?;
    let load = format!(".load {}", extension().display());
    let mut command = Command::new(path);
    stage.environment(&mut command);
    command.arg("-bail").arg(stage.profile.db_path());
    // As the app has it: no flush for each commit.
    for line in [".timeout 30000", "PRAGMA synchronous = NORMAL;", &load] {
        command.args(["-cmd", line]);
    }
    Some(command)
}

/// Python, on the profile's queue; `None` where there is none that loads extensions.
pub(crate) fn python(stage: &Stage) -> Option<Command> {
    let probe = ["-c", "import sqlite3; sqlite3.Connection.enable_load_extension"];
    let path = ["python3", "/usr/bin/python3"].iter().find_map(|name| found(name, &probe))?;
    let mut command = Command::new(path);
    stage.environment(&mut command);
    command.args(["-c", PYTHON]).arg(stage.profile.db_path()).arg(extension());
    Some(command)
}

/// The program with sqlx, on the profile's queue.
pub(crate) fn with_sqlx(stage: &Stage) -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let path = BINARY.get_or_init(|| {
        let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("sqlx");
        agent::built(&["--manifest-path", "sqlx/Cargo.toml", "--target-dir", target.to_str().unwrap()])
    });
    let mut command = Command::new(path);
    stage.environment(&mut command);
    command.arg(stage.profile.db_path());
    command
}

/// One of them, running.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("the program can be started");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("stdout is piped"));
        Self { child, input, output: BufReader::new(output) }
    }

    /// Has it run a line; returns before it has.
    pub(crate) fn run(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(format!("{line}\n").as_bytes()).expect("the program reads");
    }

    /// A line it says.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the program writes");
        line.trim_end().to_owned()
    }

    /// Ends its input, and waits for it; whether it went well.
    pub(crate) fn ends_well(mut self) -> bool {
        self.input = None;
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already, where it ended well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
