//! Delivers the operations the `WaveFlow` desktop app has queued to the user's waveflow-server.
//!
//! # The way of an op
//!
//! ```text
//!   the app's files                       this library                              the server
//!
//!   app.db ────── app::registry ──▶ where to, as which device ─┐
//!   data.db ───── app::account ───▶ under which token ─────────┤
//!      │                                                       ▼
//!      ├───────── queue::read ────▶ Op, Batch ──────────▶ push::Client ──── POST ────▶ ops stored
//!      │                                                       │                           │
//!      │                            Verdict ◀───── Reply ◀─────┴──────── the answer ───────┘
//!      │                               │
//!      ├◀─ queue::settle ── accepted ──┤
//!      ├◀─ queue::stamp ─── 409 ───────┤
//!      └◀─ queue::mark ──── failed ────┴── refused, with proof ──▶ record (quarantine, our own file)
//! ```
//!
//! Around it, in the daemon:
//!
//! ```text
//!   trigger: file watch, timer, sleep, signals ──┐                         ┌─▶ serve, one for each profile: worker
//!                                                ├──▶ wake ──▶ daemon ─────┤
//!   control: drain now, wake, resume, … ─────────┘   (slot)                └─▶ survey ──▶ status, queue list
//! ```
//!
//! Who decides and who acts are kept apart. [`drain`] decides: a [`drain::Pass`] is a state machine without a file, a
//! socket or a clock; it says what to do next ([`drain::action::Action`]) and is told what came of it
//! ([`drain::action::Event`]). [`worker`] acts: it performs those actions with [`queue`] on the database thread and
//! [`push`] on the wire. [`daemon`] says when, for as long as it runs; `once` in [`cli`] does so without one.
//!
//! # What must always hold
//!
//! An op leaves the queue only after the server named it as accepted. Stored order is queue order, but for ops that come
//! back from quarantine or hold. Killed at any instruction, nothing is lost and nothing is stored twice. After the last
//! commit there is a pass that began later; a wake-up too many costs a look at the files, never a request. No token and
//! no payload is in a log, an error or an answer. Each module opens with its own share of this.
//!
//! # Layout
//!
//! | module | what lives there |
//! |---|---|
//! | [`op`] | the nouns: [`op::Op`], [`op::Batch`], [`op::Reply`], [`op::Outcome`]; data only |
//! | [`drain`] | the decisions: gates, the pass, verdicts, quarantine, back-off, whose a row is; pure |
//! | [`app`] | what we know of the app: its directory, its profiles, who is signed in |
//! | [`queue`] | the table `sync_pending_op`: read, settle, mark, fresh stamps |
//! | [`push`] | HTTP/1.1 and TLS to one server; no policy |
//! | [`worker`] | where queue, push and pass meet |
//! | [`daemon`] | the long run: a worker for each profile, started, woken and ended |
//! | [`trigger`] | what wakes it; can only wake |
//! | [`control`] | the socket: lines, clients, and the command line's side of it |
//! | [`survey`], [`status`] | a look at the files without a pass, and how things stand, in words and as a document |
//! | [`screen`] | what people see on a terminal: the status kept current, how far a drain has come |
//! | [`tidings`], [`metrics`] | what happens, told as it happens; counters made of it |
//! | [`doctor`] | everything a user can get wrong, looked at, each with its mend |
//! | [`record`], [`state`] | what the agent remembers between runs, and the file it is in |
//! | [`lock`] | one agent for each data directory |
//! | [`config`], [`cli`] | what is in force; one file for each command |
//! | [`alert`] | telling a user who never looks, on the desktop |
//! | [`service`] | under systemd or launchd: installed, started with a socket, telling how it gets on |
//! | [`clock`] | what time it is |
//! | [`exit`], [`log`] | exit codes, events |
//! | [`surroundings`] | clocks, waiting, randomness: handed in, so that all of it can be simulated |
//! | [`trust`] | whether another user could put something in the place of ours |
//! | [`token`], [`seal`] | the secret that cannot be printed; no core dumps, no words in panics |
//! | [`buffer`] | memory for bodies, which goes back to the system |
//! | [`halt`] | where a test stops a debug build to kill it there |
//!
//! Beside it: `src/main.rs` (the process), `tests/testkit/` (a made-up app, a reference server, and a world in which whole
//! lives of the agent are simulated), `examples/demo.rs` (the two and the agent, to watch), `benches/` (how fast, beside whom),
//! `hook/` (the app's side of a wake-up: an update hook on its own connection).
//!
//! # Reading order
//!
//! An op's way from the queue and out of it again:
//!
//! 1. [`op`]: what is talked about.
//! 2. [`drain::action`]: what a pass may ask for and be told; then [`drain::Pass`], with [`drain::gate`] before it.
//! 3. [`queue::read`] and [`push::wire`]: rows become a request.
//! 4. [`push::client`]: the request becomes an [`op::Reply`].
//! 5. [`drain::verdict`]: the reply becomes a [`drain::verdict::Verdict`]. `drain/reply.rs` draws the consequences, and
//!    `drain/suspect.rs` where one op seems to be to blame.
//! 6. [`drain::run`] and `drain/settlement.rs`: what was accepted, and when it leaves. [`queue::settle`] with
//!    `queue/clear.rs`, [`queue::stamp`], [`queue::mark`]: the three things that may happen to its row.
//! 7. [`worker::Worker::drain`], then `cli/once.rs`: the shortest thing that turns the wheel.
//!
//! The daemon, from a commit to the worker:
//!
//! 1. [`trigger::slot`]: any number of wake-ups, one pass, none lost.
//! 2. [`trigger::watch`] and [`trigger::signature`]: how a commit is noticed, by event and by `stat`.
//! 3. [`daemon::served`], then `daemon/serve.rs`: one profile and the life of its worker.
//! 4. [`daemon::agent`]: all of them; `daemon/house.rs` with [`daemon::run`]: everything, from start to signal, also where
//!    it cannot serve.
//! 5. [`control::command`], [`control::door`], [`control::reception`], [`control::server`]: what may be asked, who is let in,
//!    who answers, and what. [`record`], then [`survey`]: what is remembered of refused and held ops, and how they are listed.
//! 6. [`service::manager`], with [`worker::pulse`]: how others know that it gets on.

pub mod alert;
pub mod app;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod drain;
pub mod exit;
pub mod halt;
pub mod lock;
pub mod log;
pub mod metrics;
pub mod op;
pub mod push;
pub mod queue;
pub mod record;
pub mod screen;
pub mod seal;
pub mod service;
pub mod state;
pub mod status;
pub mod surroundings;
pub mod survey;
pub mod tidings;
pub mod token;
pub mod trigger;
pub mod trust;
pub mod worker;
