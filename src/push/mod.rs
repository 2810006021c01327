//! HTTP/1.1 and TLS to one server: a request body is built, sent, and what came back is read into a
//! [`Reply`](crate::op::Reply).
//!
//! What must always hold: no policy here. Nobody in this folder decides what a status means for an op; they read it.
//! Everything that comes from outside is bounded in bytes and in time, and no sentence made here holds the token or
//! what the user wrote.
//!
//! Reading order: [`wire`] (what is sent).

pub mod wire;
