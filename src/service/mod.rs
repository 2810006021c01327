//! Living under a service manager: how the agent comes under one, what it is given at its start, and what it tells while
//! it runs.
//!
//! Installing: [`order`] is what is to run; [`mod@unit`] and [`launchd`] are the files that say so; [`systemd`] and [`agent`]
//! (launchd's word for a user's service) find out what is there and make a [`plan`] of it, performed in one place. Running:
//! [`activation`], [`manager`], [`headline`].
//!
//! What must always hold: none of it is needed; the same binary does the same work in a terminal. An install twice is as
//! good as once; what it made, an uninstall takes away, and nothing else; a file that somebody else wrote or changed is
//! neither replaced nor removed.

pub mod activation;
pub mod agent;
pub mod directories;
pub mod headline;
pub mod launchd;
pub mod lingering;
pub mod manager;
pub mod mark;
pub mod namespaces;
pub mod order;
pub mod plan;
pub mod programs;
pub mod report;
pub mod systemctl;
pub mod systemd;
pub mod unit;
pub mod user;

use std::time::Duration;

/// A `ping` is answered in a millisecond; a service that was started just now may still be opening files.
const PING: Duration = Duration::from_secs(10);
