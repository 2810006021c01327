//! Whole lives of an app, its servers and the agent, in virtual time: a seed decides everything that happens.
//!
//! What runs is the agent's own code: the life of a profile's worker, its passes, the verdicts, what is known of servers,
//! the guard, the slots. Made up are time, the files ([`disk`], [`files`]), the servers ([`server`]), the network
//! ([`net`]), the app and its user ([`app`], [`acts`]). The design's invariants are looked at after every step
//! ([`oracle`]); at the end faults stop, and everything has to arrive ([`rest`]).
//!
//! The made-up files are held to the real ones by [`alike`].
//!
//! This is the one part of the kit that depends on the agent.
//!
//! Reading order: [`life`], [`plan`], [`acts`], [`oracle`], [`rest`], then what is made up.

pub mod acts;
pub mod agenda;
pub mod agent;
pub mod alike;
pub mod app;
pub mod disk;
pub mod files;
pub mod life;
pub mod net;
pub mod oracle;
pub mod plan;
mod rest;
pub mod server;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use waveflow_sync_agent::config::Config;

pub use self::agent::defaults;
pub use self::life::{Life, Report};

/// Lives the life that `seed` decides. A panic in it is a breach.
pub fn live(seed: u64, config: &Config, trace: bool) -> Report {
    let lived = catch_unwind(AssertUnwindSafe(|| Life::new(seed, config.clone(), trace).live(seed)));
    lived.unwrap_or_else(|_| Report {
        seed,
        steps: 0,
        arrived: 0,
        breach: Some("something panicked".to_owned()),
        seen: std::collections::BTreeMap::new(),
        trace: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
