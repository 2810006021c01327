//! `drain now` on a terminal: how far it is, while it lasts.

use std::time::Duration;

use serde_json::Value;
use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};

use crate::common::daemon::Daemon;
use crate::common::terminal::Terminal;
use crate::common::{Stage, command};

const WIPE: &str = "\r\u{1b}[K";

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        Self { server, stage, profile }
    }

    /// A drain that takes some seconds: batches of ten, and a server that takes its time for each.
    fn slow() -> Self {
        let case = Self::new();
        case.stage.configure_more("[drain]\nbatch_ops = 10\ninterval = \"1h\"\n[watch]\nmode = \"off\"\n");
        case.server.always(Fault::DelayBefore(Duration::from_millis(150)));
        case
    }

    fn terminal(&self, arguments: &[&str]) -> Option<Terminal> {
        Terminal::start(command(self.stage.home()).args(arguments))
    }
}

#[test]
fn a_long_drain_shows_on_a_terminal_how_far_it_is_and_wipes_it() {
    let case = Case::slow();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    let ops = NewOp::renames(200);
    case.profile.enqueue(&ops).unwrap();
    let Some(mut terminal) = case.terminal(&["drain", "now"]) else { return };
    assert_eq!(terminal.ended(), Some(0), "{}", terminal.text());
    let text = terminal.text();
    let (bars, outcome) = text.rsplit_once(WIPE).expect("something is wiped");
    assert_eq!(outcome.replace('\r', ""), "Profile 1: 200 sent, 0 waiting.\nDone: 200 sent.\n");
    assert!(!bars.contains('\n'), "{text:?}");
    let lines: Vec<&str> = bars.split('\r').filter(|line| line.contains('%')).collect();
    assert!(lines.len() >= 3 && lines.iter().all(|line| line.contains(" of 200")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("[#") && line.contains("/s, ") && line.contains(" left")),
        "{lines:?}"
    );
    let percents: Vec<u32> = lines
        .iter()
        .map(|line| line.split(" %").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(percents.is_sorted() && percents[0] > 5, "what was sent in the first second counts: {percents:?}");
}

#[test]
fn a_short_drain_and_one_that_nobody_looks_at_show_nothing_but_the_outcome() {
    let case = Case::new();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    let Some(mut terminal) = case.terminal(&["drain", "now"]) else { return };
    assert_eq!(terminal.ended(), Some(0));
    assert_eq!(terminal.text(), "Profile 1: 0 sent, 0 waiting.\r\nDone: 0 sent.\r\n");
    drop(daemon);
    let case = Case::slow();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    case.profile.enqueue(&NewOp::renames(100)).unwrap();
    let run = case.stage.run(&["drain", "now"]).ended_with(0);
    assert!(run.took > Duration::from_secs(1) && run.stderr.is_empty(), "{run:?}");
    case.profile.enqueue(&NewOp::renames(100)).unwrap();
    let mut terminal = case.terminal(&["--json", "drain", "now"]).unwrap();
    assert_eq!(terminal.ended(), Some(0));
    assert!(serde_json::from_str::<Value>(&terminal.text()).unwrap()["sent"] == 100, "{}", terminal.text());
}

#[test]
fn where_it_is_not_told_how_far_it_is_nothing_is_shown() {
    let case = Case::slow();
    let daemon = Daemon::start(&case.stage);
    daemon.wait_until_quiet();
    // As many as may.
    let watchers: Vec<_> = std::iter::repeat_with(|| {
        let mut client = daemon.client();
        client.ask("watch").filter(|answer| answer["event"] == "watching").map(|_| client)
    })
    .map_while(|client| client)
    .collect();
    assert!(!watchers.is_empty());
    case.profile.enqueue(&NewOp::renames(100)).unwrap();
    let Some(mut terminal) = case.terminal(&["drain", "now"]) else { return };
    assert_eq!(terminal.ended(), Some(0));
    assert_eq!(terminal.text(), "Profile 1: 100 sent, 0 waiting.\r\nDone: 100 sent.\r\n");
}
