//! Orders of events around an account: which there are, and which of them can happen.
//!
//! What must always hold: an order is made of events that can follow each other; the same seed makes the same orders;
//! an order is left out only where nothing the agent can look at tells it from another one ([`Scene::masked`]).

use std::fmt;

/// Who may be signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    Alice,
    Bob,
}

impl User {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    SignOut,
    /// A new row.
    SignIn(User),
    /// The other one's token over the present one.
    Paste,
    /// The same, and the daemon is killed before it may have noticed.
    PasteKilled,
    /// A fresh token of the same user's over the present one.
    Fresh,
    /// The user changes something; whoever is signed in owns it.
    Enqueue,
    /// `once`, with one attempt.
    Look,
    /// `run`.
    Start,
    /// SIGTERM.
    Stop,
    /// SIGKILL while nothing happens.
    Kill,
    /// SIGKILL while the server keeps a request: the daemon's after an enqueue, or that of a `once` started for it.
    Crash,
    Down,
    Up,
}

use Event::{Crash, Down, Enqueue, Fresh, Kill, Look, Paste, PasteKilled, SignIn, SignOut, Start, Stop, Up};

/// In which the agent sees whose rows are whose, without a daemon.
pub(super) const LOOKS: &[Event] = &[SignOut, SignIn(User::Alice), SignIn(User::Bob), Paste, Enqueue, Look];
/// With one.
pub(super) const DAEMON: &[Event] =
    &[SignOut, SignIn(User::Alice), SignIn(User::Bob), Paste, PasteKilled, Enqueue, Start, Stop, Kill];
/// Where one user's token is pasted over the other's.
pub(super) const PASTE: &[Event] = &[Paste];
/// The agent sees what came of it.
pub(super) const LOOK: &[Event] = &[Look];
/// Where the same user's token is refreshed.
pub(super) const REFRESH: &[Event] = &[Fresh];
/// In mid-pass.
pub(super) const CRASH: &[Event] = &[Crash];
/// The user goes on.
pub(super) const CHANGE: &[Event] = &[Enqueue];
/// Everything.
pub(super) const ALL: &[Event] =
    &[SignOut, SignIn(User::Alice), SignIn(User::Bob), Paste, Fresh, Enqueue, Look, Start, Stop, Kill, Crash, Down, Up];

/// How an order begins: alice is signed in, ops are queued, and the agent has seen both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// By a `once`, which sent them.
    Sent,
    /// By a `once` while the server was down; it is back.
    Waiting,
    /// By a daemon, which sent them and goes on.
    DaemonSent,
    /// By a daemon that goes on, while the server is down and stays so.
    DaemonWaiting,
}

impl Prefix {
    pub(super) fn daemon(self) -> bool {
        matches!(self, Self::DaemonSent | Self::DaemonWaiting)
    }

    pub(super) fn down(self) -> bool {
        matches!(self, Self::Waiting | Self::DaemonWaiting)
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) prefix: Prefix,
    pub(super) events: Vec<Event>,
}

/// How things stand between two events.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them goes with any other")]
pub(super) struct Scene {
    pub(super) user: Option<User>,
    pub(super) running: bool,
    pub(super) up: bool,
    /// Who was signed in when the agent looked last and somebody was; `None`: either.
    last: Option<User>,
    /// The credential row is another one than the agent saw last.
    new_row: bool,
    /// Under whom ops were queued since then, under the credential row there is.
    unseen: Vec<User>,
    /// The agent was shown rows of a user who came and went between two looks, by pastes alone.
    pub(super) masked: bool,
}

impl Scene {
    pub(super) fn after(prefix: Prefix) -> Self {
        let up = prefix != Prefix::DaemonWaiting;
        let (user, running) = (Some(User::Alice), prefix.daemon());
        Self { user, running, up, last: Some(User::Alice), new_row: false, unseen: Vec::new(), masked: false }
    }

    pub(super) fn allows(&self, event: Event) -> bool {
        match event {
            SignOut | Paste | Fresh => self.user.is_some(),
            SignIn(_) => self.user.is_none(),
            Enqueue => true,
            Look | Start => !self.running,
            Stop | Kill => self.running,
            PasteKilled => self.running && self.user.is_some(),
            // What nobody owns is not sent, and what is not sent is not kept by the server.
            Crash => self.up && self.user.is_some(),
            Down => self.up,
            Up => !self.up,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            SignOut => (self.user, self.unseen) = (None, Vec::new()),
            SignIn(user) => (self.user, self.new_row) = (Some(user), true),
            Paste => self.user = self.user.map(User::other),
            PasteKilled => (self.user, self.last, self.running) = (self.user.map(User::other), None, false),
            Enqueue => self.unseen.extend(self.user),
            Start => self.running = true,
            Stop | Kill => self.running = false,
            Down => self.up = false,
            Up => self.up = true,
            Fresh | Look | Crash => {}
        }
        if (self.running || matches!(event, Look | Crash))
            && let Some(user) = self.user
        {
            // The row is as old as the account last seen, or older than what is queued under it: a refreshed token
            // looks just so.
            let maybe_last = self.last.is_none_or(|last| last == user);
            self.masked |= !self.new_row && maybe_last && self.unseen.iter().any(|owner| *owner != user);
            self.new_row = false;
            self.last = Some(user);
            self.unseen.clear();
        }
        self.running &= event != Crash;
    }

    /// Whether the agent knows for sure that who is signed in was so when it looked last.
    pub(super) fn known(&self) -> bool {
        self.last.is_some() && self.last == self.user && !self.new_row
    }

    /// Whether it can come behind `before` and is no mere repetition.
    fn follows(&self, before: Option<Event>, event: Event) -> bool {
        before != Some(event) && self.allows(event)
    }
}

/// All orders of so many events, and how many were left out as masked. Each of `places` says what may stand there.
pub(super) fn every(prefix: Prefix, places: &[&[Event]]) -> (Vec<Order>, usize) {
    let mut open = vec![(Scene::after(prefix), Vec::new())];
    for alphabet in places {
        let longer = |(scene, events): (Scene, Vec<Event>)| {
            let next: Vec<Event> =
                alphabet.iter().copied().filter(|event| scene.follows(events.last().copied(), *event)).collect();
            next.into_iter().map(move |event| {
                let (mut scene, mut events) = (scene.clone(), events.clone());
                scene.take(event);
                events.push(event);
                (scene, events)
            })
        };
        open = open.into_iter().flat_map(longer).collect();
    }
    let found = open.len();
    open.retain(|(scene, _)| !scene.masked);
    let orders: Vec<_> = open.into_iter().map(|(_, events)| Order { prefix, events }).collect();
    let left_out = found - orders.len();
    (orders, left_out)
}

/// `count` random orders of the seed.
pub(super) fn random(seed: u64, count: usize, lengths: std::ops::Range<usize>) -> (Vec<Order>, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let prefixes = [Prefix::Sent, Prefix::Waiting, Prefix::DaemonSent, Prefix::DaemonWaiting];
    let (mut orders, mut left_out) = (Vec::new(), 0);
    while orders.len() < count {
        let prefix = prefixes[random.usize(..prefixes.len())];
        let (mut scene, mut events) = (Scene::after(prefix), Vec::new());
        for _ in 0..random.usize(lengths.clone()) {
            let next: Vec<Event> =
                ALL.iter().copied().filter(|event| scene.follows(events.last().copied(), *event)).collect();
            let event = next[random.usize(..next.len())];
            scene.take(event);
            events.push(event);
        }
        if scene.masked {
            left_out += 1;
        } else {
            orders.push(Order { prefix, events });
        }
    }
    (orders, left_out)
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.prefix {
            Prefix::Sent => "alice seen",
            Prefix::Waiting => "alice seen, server away",
            Prefix::DaemonSent => "alice seen, running",
            Prefix::DaemonWaiting => "alice seen, running, server down",
        })?;
        let mut scene = Scene::after(self.prefix);
        for event in &self.events {
            let other = scene.user.map_or("?", |user| user.other().name());
            match event {
                SignOut => f.write_str(" | sign out")?,
                SignIn(user) => write!(f, " | sign in {}", user.name())?,
                Paste => write!(f, " | paste {other}")?,
                PasteKilled => write!(f, " | paste {other}, killed at once")?,
                Fresh => f.write_str(" | fresh token")?,
                Enqueue => f.write_str(" | enqueue")?,
                Look => f.write_str(" | look")?,
                Start => f.write_str(" | start")?,
                Stop => f.write_str(" | stop")?,
                Kill => f.write_str(" | kill")?,
                Crash if scene.running => f.write_str(" | enqueue, killed in mid-pass")?,
                Crash => f.write_str(" | look, killed in mid-pass")?,
                Down => f.write_str(" | server down")?,
                Up => f.write_str(" | server up")?,
            }
            scene.take(*event);
        }
        Ok(())
    }
}
