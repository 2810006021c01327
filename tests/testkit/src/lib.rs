//! A made-up desktop app and a reference waveflow-server, for the agent's tests.
//!
//! ```text
//!        the app's side                                            the server's side
//!
//!   made_up_app ──┐                                              ┌── server::Model    (pure: rules and answers)
//!   ops ──────────┼──▶ data_dir ══ app.db, data.db ══▶ [agent] ══┼── server::Server   (sockets, TLS, counters)
//!                 │        ▲                              ║      └── server::Fault    (what goes wrong, and where)
//!                 │        │                              ║
//!                 └── foreign_drain ══════════════════════╩═ http_proxy, interceptor
//! ```
//!
//! What must always hold: everything here but [`simulation`] (which is the agent, in a made-up world) is made from the
//! contract, never from the agent's code, and does not use it, so that a mistake of the agent's cannot be made twice; traffic goes to loopback only; nothing outlives the
//! value that stands for it.
//!
//! A scenario in short:
//!
//! ```
//! use testkit::data_dir::{DataDir, Generation};
//! use testkit::ops::NewOp;
//! use testkit::server::{Fault, Server, Version};
//! use testkit::{foreign_drain, token};
//!
//! # fn main() -> testkit::Result<()> {
//! # let temporary = tempfile::tempdir()?;
//! let server = Server::start(Version::Later)?;
//! let dir = DataDir::new(temporary.path().join("waveflow"), Generation::Three)?;
//! dir.set_server_url(Some(&server.url()))?;
//! let profile = dir.add_profile("Zoë")?;
//! profile.sign_in(&token::for_user("alice"))?;
//! profile.enqueue(&NewOp::renames(3))?;
//!
//! server.next(Fault::CutAfterStoring);
//! foreign_drain::drain_once(&profile, None)?; // stored, but nobody heard
//! foreign_drain::drain_once(&profile, None)?; // absorbed, and heard
//! assert_eq!((server.stored().len(), profile.pending_count()?), (3, 0));
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`data_dir`], [`ops`], [`server`], then the rest. [`soak`] is the
//! one place that starts an agent: as a process, by its path.

pub mod args;
pub mod data_dir;
pub mod dns;
mod error;
pub mod foreign_drain;
pub mod http;
pub mod http_proxy;
pub mod interceptor;
pub mod made_up_app;
pub mod ops;
pub mod server;
pub mod simulation;
pub mod soak;
mod sync;
pub mod time;
pub mod token;

pub use error::{Error, Result};
