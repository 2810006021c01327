//! What a commit costs with the hook, beside one without, whatever the agent does.
//!
//! What must always hold: the cases take turns, so that whatever else the machine does hits all of them alike; no commit
//! fails; what was measured is printed.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use testkit::data_dir::AppDb;

use crate::common::{Agent, OP, Stage, install, percentile};

/// The promise: what the median and the 99th percentile may cost more.
const MEDIAN: Duration = Duration::from_micros(20);
/// In quarters of a commit without the hook: on a slower machine everything takes longer, the hook too. It is 20 µs where
/// a commit takes 27; one that waited for anybody would cost many times as much anywhere.
const MEDIAN_QUARTERS: u32 = 3;
const LATE: Duration = Duration::from_millis(1);

const TURNS: usize = 1000;
/// In a turn: few, so that all have the same weather.
const COMMITS: usize = 5;

/// One way to commit.
struct Way {
    name: &'static str,
    stage: Stage,
    app: AppDb,
    agent: Option<Agent>,
    ops: usize,
    taken: Vec<Duration>,
}

impl Way {
    fn new(name: &'static str, stage: Stage, agent: Option<Agent>, socket: Option<&Path>) -> Self {
        let app = stage.profile.open().unwrap();
        if let Some(socket) = socket {
            install(app.connection(), socket);
        }
        Self { name, stage, app, agent, ops: 0, taken: Vec::new() }
    }

    fn run(&mut self, commits: usize) {
        for number in 0..=commits {
            let began = Instant::now();
            self.app.connection().execute_batch(OP).expect("no commit fails");
            self.ops += 1;
            // The first one of a turn is slow, with whatever the turn before left in the caches.
            if number > 0 {
                self.taken.push(began.elapsed());
            }
        }
        if self.agent.is_some() {
            // Not in anybody else's turn.
            assert!(self.stage.stores(self.ops), "{}", self.name);
        }
    }

    fn figures(&self) -> (Duration, Duration) {
        (percentile(&self.taken, 50), percentile(&self.taken, 99))
    }

    /// For people.
    fn line(&self) -> String {
        let (median, late) = self.figures();
        let most = percentile(&self.taken, 100);
        format!("{:40} median {median:>9.1?}, p99 {late:>9.1?}, most {most:>9.1?}", self.name)
    }

    /// Fails where it costs more than promised beside `without`.
    fn costs_little(&self, without: &Self) {
        let ((median, late), (median_without, late_without)) = (self.figures(), without.figures());
        let more = MEDIAN.max(median_without * MEDIAN_QUARTERS / 4);
        assert!(median <= median_without + more, "{}: median {median:?}, without {median_without:?}", self.name);
        // Twice: what else a machine does is not shared out evenly, where it does much.
        assert!(late <= 2 * late_without + LATE, "{}: p99 {late:?}, without {late_without:?}", self.name);
    }
}

/// Connects until nobody more fits.
fn fill_backlog(socket: &Path) -> usize {
    let address = SocketAddrUnix::new(socket).unwrap();
    for count in 0.. {
        let client = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::io::ioctl_fionbio(&client, true).unwrap();
        match rustix::net::connect(&client, &address) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    0
}

/// An agent that hangs, with room for clients or without.
fn hung(full: bool) -> (Stage, Agent) {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    agent.hang();
    if full {
        println!("{} clients fit into the backlog", fill_backlog(agent.socket()));
    }
    (stage, agent)
}

fn left_behind(stage: &Stage) {
    Agent::start(stage).kill();
    assert!(stage.socket().exists(), "its socket stays behind");
}

#[test]
fn a_commit_costs_next_to_nothing_more_whatever_the_agent_does() {
    let ((hanging, _hangs), (crowded, _crowd)) = (hung(false), hung(true));
    let (absent, dead, watched, served) = (Stage::new(), Stage::new(), Stage::watched(), Stage::new());
    left_behind(&dead);
    // Another directory's agent, which has nothing to do in this one: what the hook costs, without who else writes the file.
    let other = Stage::new();
    let _others = Agent::start(&other);
    let (watching, serving) = (Agent::start(&watched), Agent::start(&served));
    let hooked = |name, stage: Stage, agent| {
        let socket = stage.socket();
        Way::new(name, stage, agent, Some(&socket))
    };
    let mut ways = [
        Way::new("no hook", Stage::new(), None, None),
        hooked("hook, no agent", absent, None),
        hooked("hook, its agent was killed", dead, None),
        hooked("hook, its agent hangs", hanging, None),
        hooked("hook, its agent hangs, backlog full", crowded, None),
        Way::new("hook, an agent that answers", Stage::new(), None, Some(&other.socket())),
        Way::new("no hook, an agent that watches", watched, Some(watching), None),
        hooked("hook, an agent that does not watch", served, Some(serving)),
    ];
    let count = ways.len();
    for turn in 0..TURNS {
        // Each begins, and each comes behind each other one, equally often: there are eight, and odd steps reach all of them.
        let step = 2 * (turn / count) + 1;
        for place in 0..count {
            ways[(turn + step * place) % count].run(COMMITS);
        }
    }
    ways.iter().map(Way::line).for_each(|line| println!("{line}"));
    let [without, alone @ .., answers, watched, served] = &ways;
    for way in alone {
        way.costs_little(without);
    }
    for way in [answers, served] {
        way.costs_little(watched);
    }
}

#[test]
fn an_agent_that_is_killed_in_between_costs_no_commit() {
    // Another directory's agent: what is seen is the hook, not two who write one file.
    let other = Stage::new();
    let mut without = Way::new("no hook", Stage::new(), None, None);
    let mut way = Way::new("hook, an agent that is killed in between", Stage::new(), None, Some(&other.socket()));
    for _ in 0..20 {
        let agent = Agent::start(&other);
        for turn in 0..TURNS / 20 {
            if turn == TURNS / 40 {
                agent.strike();
            }
            without.run(COMMITS);
            way.run(COMMITS);
        }
    }
    println!("{}\n{}", without.line(), way.line());
    way.costs_little(&without);
}

#[test]
fn an_agent_that_was_started_anew_hears_the_next_commit() {
    let stage = Stage::new();
    let socket = stage.socket();
    let mut way = Way::new("hook", stage, None, Some(&socket));
    for round in 0..20 {
        let agent = Agent::start(&way.stage);
        // It began with all there was; this one it hears of.
        way.run(1);
        assert!(way.stage.stores(way.ops), "round {round}");
        way.run(COMMITS);
        agent.kill();
        way.run(COMMITS);
    }
}

#[test]
fn an_agent_that_hung_hears_what_was_said_meanwhile() {
    let stage = Stage::new();
    let agent = Agent::start(&stage);
    let socket = stage.socket();
    let mut way = Way::new("hook", stage, None, Some(&socket));
    way.run(1);
    assert!(way.stage.stores(1));
    agent.hang();
    way.run(100);
    agent.go_on();
    assert!(way.stage.stores(way.ops));
}

#[test]
fn what_listens_in_the_agents_place_and_never_reads_costs_nothing() {
    let without = Stage::new();
    let stage = Stage::new();
    let place = stage.home().join("deaf");
    let _listener = UnixListener::bind(&place).unwrap();
    let mut without = Way::new("no hook", without, None, None);
    let mut way = Way::new("hook, somebody deaf", stage, None, Some(&place));
    for _ in 0..TURNS {
        without.run(COMMITS);
        way.run(COMMITS);
    }
    way.costs_little(&without);
}
