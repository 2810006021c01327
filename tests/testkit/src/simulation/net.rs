//! What lies between the agent and the servers: delays, cuts, strangers, and answers that come when nobody waits.
//!
//! What must always hold: what was under way when the agent died may arrive all the same; an answer that is not a
//! server's own never comes with something stored behind it, unless the server had answered first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use waveflow_sync_agent::op::{FailedKind, Reply};
use waveflow_sync_agent::token::Token;
use waveflow_sync_agent::worker::connections::{Exchange, Wire};

use super::agenda::{Agenda, Bell, Hearing, MS, Micros, SECOND};
use super::files::read::unpack;
use super::life::Event;
use super::server::{Sent, status};
use super::world::{Sender, Shared, World, lock};

/// `request_timeout`.
const TIMEOUT: Micros = 40 * SECOND;

/// A named time is believed up to this.
const NAMED_MAX: Micros = 3600 * SECOND;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing goes wrong.
    Fine,
    /// In a hundred requests, so many meet something.
    Rough(u8),
    /// All of them meet the same.
    Down(u8),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Through,
    /// It arrives twice.
    Twice,
    /// It never arrives, and the agent hears this so much later.
    Lost(Reply, Micros),
    /// It arrives, and the agent hears this instead of the answer.
    Unheard(Reply, Micros),
    /// It arrives when the agent has given up.
    Late,
    /// It arrives, and the answer leaves ops out.
    Partial,
}

/// A request under way.
pub struct Packet {
    /// Which life of the agent sent it.
    pub incarnation: u64,
    /// Where to.
    pub server: usize,
    /// From whom; `None` where the token is none.
    sender: Option<Sender>,
    /// What.
    pub ops: Vec<Sent>,
    fate: Fate,
    bell: Rc<Bell<Reply>>,
    heard: Cell<bool>,
}

/// The network.
pub struct Net {
    world: Shared,
    agenda: Rc<RefCell<Agenda<Event>>>,
    /// How it is.
    pub weather: Cell<Weather>,
    /// Longer bodies never get through: with 413, or with a time-out.
    pub narrow: Cell<Option<(usize, bool)>>,
    /// From when until when each server asked to be left alone.
    pub named: Cell<[(Micros, Micros); 2]>,
    /// When the agent was asked to end.
    pub stopped_at: Cell<Option<Micros>>,
    /// Which life of the agent it serves.
    pub incarnation: Cell<u64>,
}

fn failed(kind: FailedKind) -> Reply {
    Reply::Failed { kind, words: "on purpose".into() }
}

impl Net {
    /// A fine one.
    pub fn new(world: Shared, agenda: Rc<RefCell<Agenda<Event>>>) -> Self {
        let (weather, narrow) = (Cell::new(Weather::Fine), Cell::new(None));
        Self {
            world,
            agenda,
            weather,
            narrow,
            named: Cell::new([(0, 0); 2]),
            stopped_at: Cell::new(None),
            incarnation: Cell::new(0),
        }
    }

    fn fate(&self, world: &mut World, server: usize, ops: &[Sent], bytes: usize) -> Fate {
        if let Some((most, refuses)) = self.narrow.get()
            && bytes > most
        {
            return if refuses {
                Fate::Lost(status(413, "too large"), MS)
            } else {
                Fate::Lost(failed(FailedKind::Timeout), TIMEOUT)
            };
        }
        match self.weather.get() {
            Weather::Fine => Fate::Through,
            Weather::Rough(percent) if !world.chance(percent) => Fate::Through,
            Weather::Rough(_) => Self::mishap(world, server, ops),
            Weather::Down(kind) => Self::outage(world, kind),
        }
    }

    /// A server that is down, or somebody in its place, always the same.
    fn outage(world: &mut World, kind: u8) -> Fate {
        let (reply, wait) = match kind % 13 {
            0 => (failed(FailedKind::Network), MS),
            1 => (failed(FailedKind::Timeout), TIMEOUT),
            2 => (failed(FailedKind::Tls), 5 * MS),
            3 => (failed(FailedKind::NotHttp), MS),
            4 => (status(200, "an HTML page"), MS),
            5 => (status(302, "to a login page"), MS),
            6 => (status([401, 403][world.rng.usize(0..2)], ""), MS),
            7 => (later(429, world.rng.u64(1..4000)), MS),
            8 => (status([502, 503, 504][world.rng.usize(0..3)], "a proxy"), MS),
            9 => (status(500, "insert failed"), 5 * SECOND),
            // It refuses even an empty batch.
            11 => (status([400, 413, 415, 422][world.rng.usize(0..4)], "not in this house"), MS),
            10 => (status([404, 405, 410, 204][world.rng.usize(0..4)], ""), MS),
            _ => (failed(FailedKind::Refused), MS),
        };
        Fate::Lost(reply, wait)
    }

    /// One request meets something.
    fn mishap(world: &mut World, server: usize, ops: &[Sent]) -> Fate {
        // A fault that passes looks like the op's own where it hits the same op alone: not on ops that travel alone.
        let alone = ops.len() <= 1;
        match world.rng.u8(0..19) {
            0 => Fate::Lost(failed(FailedKind::Network), MS),
            1 => Fate::Lost(failed(FailedKind::Sending), 100 * MS),
            2 => Fate::Lost(failed(FailedKind::Timeout), TIMEOUT),
            3 => Fate::Unheard(failed(FailedKind::Network), 10 * MS),
            4 => Fate::Unheard(failed(FailedKind::Timeout), TIMEOUT),
            5 => Fate::Late,
            6 => Fate::Twice,
            7 if !ops.is_empty() => Fate::Partial,
            8 => Fate::Lost(Reply::Accepted(Vec::new()), MS).unless(ops.is_empty()),
            9 => Fate::Lost(status(409, "what is this"), MS),
            10 => {
                let reply = Reply::Regression { device_id: "another".into(), stored_max: 1 << 20, offending: 7 };
                Fate::Lost(reply, MS)
            }
            11 if !alone => Fate::Lost(status([400, 413, 415, 422][world.rng.usize(0..4)], "a hiccup"), MS),
            12 if !alone => Fate::Lost(status(500, "deadlock"), MS),
            13 => Fate::Lost(status(408, ""), 30 * SECOND),
            14 => Fate::Lost(later(429, world.rng.u64(1..20)), MS),
            15 => Fate::Unheard(status(502, "a proxy gave up"), SECOND),
            _ => {
                let kind = world.rng.u8(0..13);
                // Which server it is makes no difference to who stands in front of it.
                let _ = server;
                if alone && (kind == 9 || kind == 11) { Fate::Through } else { Self::outage(world, kind) }
            }
        }
    }

    /// A request arrives.
    pub fn arrive(&self, packet: &Rc<Packet>) {
        let world = &mut *lock(&self.world);
        let Some(sender) = &packet.sender else { return };
        let wait = world.rng.u64(50..20 * MS);
        let reply = world.deliver(packet.server, sender, &packet.ops);
        let reply = match (&packet.fate, reply) {
            (Fate::Partial, Reply::Accepted(ids)) => {
                Reply::Accepted(ids.into_iter().filter(|_| world.rng.bool()).collect())
            }
            (_, reply) => reply,
        };
        match packet.fate {
            Fate::Lost(..) | Fate::Unheard(..) | Fate::Late => {}
            _ => self.agenda.borrow_mut().put(wait, Event::Answer(Rc::clone(packet), reply)),
        }
    }

    /// The agent hears an answer; the first one counts.
    pub fn hear(&self, packet: &Packet, reply: Reply) {
        if packet.heard.replace(true) {
            return;
        }
        let world = &mut *lock(&self.world);
        let device = packet.sender.as_ref().map_or("", |sender| sender.device.as_str());
        world.count_reply(&reply, device);
        world.tell(|| format!("the agent hears {reply:?}"));
        if let Reply::Status { retry_after: Some(wait), .. } = &reply {
            let mut named = self.named.get();
            let wait = Micros::try_from(wait.as_micros()).unwrap_or(Micros::MAX).min(NAMED_MAX);
            named[packet.server] = (world.now, world.now + wait);
            self.named.set(named);
        }
        if let Reply::Accepted(ids) = &reply {
            for op in packet.ops.iter().filter(|op| ids.contains(&op.operation_id)) {
                world.oracle.acked.insert((op.profile, op.operation_id), op.row);
            }
        }
        packet.bell.ring(reply);
    }
}

fn later(status: u16, seconds: u64) -> Reply {
    Reply::Status { status, retry_after: Some(Duration::from_secs(seconds)), words: "too many".into() }
}

impl Fate {
    fn unless(self, not: bool) -> Self {
        if not { Self::Through } else { self }
    }
}

impl Wire for Net {
    fn push(&self, url: &str, token: Token, body: Bytes) -> Exchange {
        let world = &mut *lock(&self.world);
        let server = usize::from(url.contains("server-1"));
        let (device, ops) = unpack(&body).unwrap_or_default();
        world.count(if ops.is_empty() { "action: send an empty batch" } else { "action: send" });
        let mut parts = token.expose().split('.').map(|part| part.parse().ok());
        let sender =
            parts.next().flatten().zip(parts.next().flatten()).and_then(|(user, serial): (u64, u64)| {
                Some(Sender { user: usize::try_from(user).ok()?, serial, device })
            });
        let now = world.now;
        world.oracle.sent(&ops, now);
        if self.stopped_at.get().is_some_and(|at| now > at) {
            world.oracle.breach(|| "asked to end, and something new is sent".to_owned());
        }
        // What was under way in another profile when a server named its time goes on; nothing new begins.
        let (from, until) = self.named.get()[server];
        let begun = ops.first().and_then(|op| world.begun.get(&op.profile).copied());
        if now < until && begun.is_some_and(|begun| begun > from) {
            world.oracle.breach(|| format!("server {server} asked to be left alone until {until}, and is not"));
        }
        let fate = self.fate(world, server, &ops, body.len());
        world.tell(|| {
            let rows: Vec<(i64, i64)> = ops.iter().map(|op| (op.row, op.stamp)).collect();
            let of = ops.first().map_or(0, |op| op.profile);
            format!("profile {of} sends (row, stamp) {rows:?} to server {server} as {sender:?}: {fate:?}")
        });
        let bell = Rc::new(Bell::default());
        let slow = self.weather.get() != Weather::Fine && world.chance(5);
        let wait = world.rng.u64(50..if slow { 2 * SECOND } else { 5 * MS });
        let incarnation = self.incarnation.get();
        let packet =
            Rc::new(Packet { incarnation, server, sender, ops, fate, bell: Rc::clone(&bell), heard: Cell::new(false) });
        let mut agenda = self.agenda.borrow_mut();
        match &packet.fate {
            Fate::Through | Fate::Partial => agenda.put(wait, Event::Arrive(Rc::clone(&packet))),
            Fate::Twice => {
                agenda.put(wait, Event::Arrive(Rc::clone(&packet)));
                agenda.put(wait + world.rng.u64(0..SECOND), Event::Arrive(Rc::clone(&packet)));
            }
            Fate::Lost(reply, after) => agenda.put(*after, Event::Answer(Rc::clone(&packet), reply.clone())),
            Fate::Unheard(reply, after) => {
                agenda.put(wait.min(*after), Event::Arrive(Rc::clone(&packet)));
                agenda.put(*after, Event::Answer(Rc::clone(&packet), reply.clone()));
            }
            Fate::Late => {
                agenda.put(TIMEOUT, Event::Answer(Rc::clone(&packet), failed(FailedKind::Timeout)));
                agenda.put(TIMEOUT + world.rng.u64(0..20 * SECOND), Event::Arrive(Rc::clone(&packet)));
            }
        }
        Box::pin(Hearing(bell))
    }
}
