//! HTTP/1.1 and TLS to one server: a request body is built, sent, and what came back is read into a
//! [`Reply`](crate::op::Reply).
//!
//! What must always hold: no policy here. Nobody in this folder decides what a status means for an op; they read it.
//! Everything that comes from outside is bounded in bytes and in time, and no sentence made here holds the token or
//! what the user wrote.
//!
//! Reading order: [`wire`] (what is sent), [`target`] (where to), [`proxy`] (which way), `connect` and `tls` (how to get
//! there), [`client`] (one push), `link` and `patient` (one exchange on one connection), `reply` and `words` (what came
//! back). Beside it, for `doctor`: [`probe`].

pub mod client;
mod connect;
mod link;
mod patient;
pub mod probe;
pub mod proxy;
pub mod reply;
pub mod target;
#[cfg(test)]
mod tests;
mod tls;
pub mod wire;
mod words;

pub use client::{Client, Settings};
pub use link::Clocks;
pub use proxy::Proxies;
pub use target::Target;

/// How the agent names itself to servers and proxies.
const USER_AGENT: &str = concat!("waveflow-sync-agent/", env!("CARGO_PKG_VERSION"));
