//! Plays one order on the real binary, and says what came of each op.
//!
//! What must always hold: no two events share a millisecond, and their times rise with them; a running daemon has seen
//! an event before the next one happens; only the test knows who queued what.

use std::collections::HashMap;
use std::fmt;
use std::thread;

use testkit::data_dir::{Generation, Profile};
use testkit::ops::NewOp;
use testkit::server::{Fault, Server, Version};
use testkit::{time, token};

use super::order::{Event, Order, Prefix, Scene, User};
use crate::common::daemon::{Daemon, SOON, eventually};
use crate::common::{Stage, command};

/// The first event lies so far back that the last one is not ahead of the clock.
const BACK_MS: i64 = 60_000;
/// Between two events.
const STEP_MS: i64 = 100;
/// Ops of one enqueue.
const OPS: u64 = 2;

/// What came of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Ops the server has.
    pub(super) stored: usize,
    /// Ops it has not, and the queue has.
    pub(super) held: usize,
    /// Stored under an account that did not queue them, or twice.
    pub(super) wrong: usize,
    /// Neither stored nor in the queue.
    pub(super) lost: usize,
    /// Of one owner, stored before an older one.
    pub(super) late: usize,
    /// Seen under their owner and not sent, although the owner came back.
    pub(super) stuck: usize,
}

impl Tally {
    pub(super) fn is_good(self) -> bool {
        self.wrong + self.lost + self.late + self.stuck == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, held, wrong, lost, late, stuck } = self;
        write!(f, "stored {stored}, held {held}, wrong {wrong}, lost {lost}")?;
        if late + stuck > 0 {
            write!(f, ", out of order {late}, stuck {stuck}")?;
        }
        Ok(())
    }
}

struct Queued {
    op: NewOp,
    owner: Option<User>,
    /// The agent has looked while the credential was the one under which it was queued.
    seen: bool,
}

/// Says which order it was where the play itself fails.
struct Title<'a>(&'a Order);

impl Drop for Title<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- in: {}", self.0);
        }
    }
}

struct Play {
    scene: Scene,
    server: Server,
    stage: Stage,
    profile: Profile,
    daemon: Option<Daemon>,
    now: i64,
    queued: Vec<Queued>,
    /// Where the ops begin that were queued under the credential as it is.
    since: usize,
}

/// Plays `order`, then lets alice and bob sign in once more.
pub(super) fn play(order: &Order) -> Tally {
    let _title = Title(order);
    let mut play = Play::new(order.prefix);
    for event in &order.events {
        play.happen(*event);
        play.scene.take(*event);
    }
    play.end();
    play.tally()
}

impl Play {
    fn new(prefix: Prefix) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.dir.add_profile("Zoë").unwrap();
        let (now, scene) = (time::now_ms() - BACK_MS, Scene::after(prefix));
        let mut play = Self { scene, server, stage, profile, daemon: None, now, queued: Vec::new(), since: 0 };
        play.sign_in(User::Alice);
        play.enqueue();
        if prefix.down() {
            play.server.go_down();
        }
        if prefix.daemon() {
            play.start();
        } else {
            let code = if prefix.down() { 75 } else { 0 };
            play.stage.once("0").ended_with(code);
        }
        play.all_seen();
        if prefix == Prefix::Waiting {
            play.server.come_back().unwrap();
        }
        play
    }

    /// The moment of the next event.
    fn tick(&mut self) -> i64 {
        self.now += STEP_MS;
        self.now
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::SignOut => {
                self.profile.sign_out().unwrap();
                self.since = self.queued.len();
                self.drain_now();
            }
            Event::SignIn(user) => {
                self.sign_in(user);
                self.noticed(user);
            }
            Event::Paste => {
                let user = self.scene.user.unwrap().other();
                self.paste(&token::for_user(user.name()));
                self.noticed(user);
            }
            Event::PasteKilled => {
                self.paste(&token::for_user(self.scene.user.unwrap().other().name()));
                self.daemon.take().unwrap().kill();
            }
            Event::Fresh => {
                let (since, exp) = (self.since, time::now_s() + 100_000 + self.now % 10_000);
                self.paste(&token::jwt(self.scene.user.unwrap().name(), token::ISSUER, exp));
                if self.scene.known() {
                    // To somebody known a fresh token changes nothing: what was queued before it is to go.
                    self.since = since;
                }
                self.drain_now();
            }
            Event::Enqueue => {
                self.enqueue();
                self.enqueued();
            }
            Event::Look => {
                let run = self.stage.once("0");
                assert!(matches!(run.code, Some(0 | 75)), "{run:?}");
                self.all_seen();
            }
            Event::Start => self.start(),
            Event::Stop => self.daemon.take().unwrap().stop(),
            Event::Kill => self.daemon.take().unwrap().kill(),
            Event::Crash => self.crash(),
            Event::Down => self.server.go_down(),
            Event::Up => self.server.come_back().unwrap(),
        }
    }

    fn sign_in(&mut self, user: User) {
        let at = self.tick();
        self.profile.open().unwrap().sign_in_at(&token::for_user(user.name()), at).unwrap();
        self.since = self.queued.len();
    }

    fn paste(&mut self, token: &str) {
        let at = self.tick();
        self.profile.open().unwrap().paste_token_at(token, at).unwrap();
        self.since = self.queued.len();
    }

    fn enqueue(&mut self) {
        let at = self.tick();
        let ops: Vec<_> = NewOp::renames(OPS).into_iter().map(|op| op.created_at(at)).collect();
        self.profile.enqueue(&ops).unwrap();
        let owner = self.scene.user;
        self.queued.extend(ops.into_iter().map(|op| Queued { op, owner, seen: false }));
    }

    /// The agent has looked at what was queued under this credential.
    fn all_seen(&mut self) {
        for queued in &mut self.queued[self.since..] {
            queued.seen = queued.owner.is_some();
        }
    }

    fn start(&mut self) {
        self.daemon = Some(Daemon::start(&self.stage));
        self.drain_now();
        self.all_seen();
    }

    /// A pass of the daemon's that began later than everything so far.
    fn drain_now(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.ask("drain now");
        }
    }

    /// Waits until a daemon has noticed by itself that `user` is signed in.
    fn noticed(&self, user: User) {
        if self.daemon.is_some() {
            eventually("the account is noticed", || self.ledger()["account"]["subject"] == user.name());
            // And is over with what it found then.
            self.drain_now();
        }
    }

    /// Waits until a daemon has noticed by itself what is queued.
    fn enqueued(&mut self) {
        match self.scene.user {
            _ if self.daemon.is_none() => return,
            None => self.drain_now(),
            Some(_) if self.scene.up => eventually("it is stored", || self.is_last_stored()),
            Some(_) => {
                let newest = self.profile.pending().unwrap().last().unwrap().id;
                eventually("it is seen", || self.up_to() >= newest);
            }
        }
        self.all_seen();
    }

    fn is_last_stored(&self) -> bool {
        let last = self.queued.last().map(|queued| queued.op.operation_id);
        self.server.stored().iter().any(|row| Some(row.operation_id) == last)
    }

    /// What the agent remembers of this database.
    fn ledger(&self) -> serde_json::Value {
        let state = self.stage.state();
        let book = state["books"].as_object().and_then(|books| books.values().next().cloned());
        book.unwrap_or_default()["ledger"].clone()
    }

    /// The newest row the agent has written down.
    fn up_to(&self) -> i64 {
        let ledger = self.ledger();
        let last = ledger["spans"].as_array().and_then(|spans| spans.last()?["up_to"].as_i64());
        last.unwrap_or(0)
    }

    /// The agent is killed while the server keeps a request, before or after storing it.
    fn crash(&mut self) {
        let before = self.now % (2 * STEP_MS) == 0;
        self.server.next(if before { Fault::HoldBeforeStore } else { Fault::HoldAfterStore });
        if let Some(mut daemon) = self.daemon.take() {
            self.enqueue();
            assert!(self.server.wait_until_held(SOON), "no request came");
            daemon.kill();
        } else {
            let mut once =
                Daemon::launch(command(self.stage.home()).args(["once", "--wait", "0"]), &self.stage.socket());
            // With nothing to send it ends by itself.
            eventually("it is in mid-pass or over", || self.server.stats().held > 0 || once.is_over());
            if !once.is_over() {
                once.kill();
            }
        }
        self.server.clear_faults();
        self.server.release();
        assert!(self.server.wait_for(|stats| stats.held == 0, SOON));
    }

    /// All is well again, and both come back.
    fn end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.stop();
        }
        if !self.scene.up {
            self.server.come_back().unwrap();
        }
        for user in [User::Alice, User::Bob] {
            self.profile.sign_out().unwrap();
            self.sign_in(user);
            self.stage.once("20s").ended_with(0);
        }
    }

    fn tally(&self) -> Tally {
        let mut stored: HashMap<_, Vec<(String, u64)>> = HashMap::new();
        for row in self.server.stored() {
            stored.entry(row.operation_id).or_default().push((row.user, row.seq));
        }
        let pending = self.profile.pending().unwrap();
        let mut tally = Tally::default();
        let mut newest: HashMap<Option<&str>, u64> = HashMap::new();
        for Queued { op, owner, seen } in &self.queued {
            let owner = owner.map(User::name);
            let rows = stored.get(&op.operation_id).map_or(&[][..], Vec::as_slice);
            let waits = pending.iter().any(|row| row.operation_id == op.operation_id.to_string());
            tally.stored += usize::from(!rows.is_empty());
            tally.held += usize::from(rows.is_empty() && waits);
            tally.lost += usize::from(rows.is_empty() && !waits);
            tally.stuck += usize::from(rows.is_empty() && *seen);
            tally.wrong += usize::from(rows.len() > 1 || rows.iter().any(|(user, _)| Some(user.as_str()) != owner));
            for (_, seq) in rows {
                let newest = newest.entry(owner).or_default();
                tally.late += usize::from(seq < newest);
                *newest = (*newest).max(*seq);
            }
        }
        tally
    }
}
