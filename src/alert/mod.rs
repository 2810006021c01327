//! Telling a user who never looks: nobody refreshes the app's token, so once it is refused nothing is sent until somebody
//! pastes another, and nobody reads a daemon's log until it is too late.
//!
//! [`concern`] decides, [`words`] has the sentences, [`desktop`] shows them; `daemon/alarm.rs` brings the three together.
//! What must always hold: at most one message a week; no payload and no token is in it; whatever goes wrong on the way
//! to the screen costs the agent nothing but a line at debug.

pub mod concern;
pub mod desktop;
pub mod words;
