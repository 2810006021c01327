//! HTTP/1.1 and TLS to one server: a request body is built, sent, and what came back is read into a
//! [`Reply`](crate::op::Reply).
//!
//! What must always hold: no policy here. Nobody in this folder decides what a status means for an op; they read it.
//! Everything that comes from outside is bounded in bytes and in time, and no sentence made here holds the token or
//! what the user wrote.
//!
//! Reading order: [`wire`] (what is sent), [`target`] (where to), [`proxy`] (which way), `connect` and `tls` (how to get
//! there), [`client`] (one exchange), `reply` and `words` (what came back).

pub mod proxy;
mod reply;
pub mod target;
pub mod wire;
mod words;
