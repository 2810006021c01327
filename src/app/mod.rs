//! What we know of the desktop app: where it keeps its files, which profiles there are, who is signed in. The facts are
//! in the contract; here is how they are found on this machine.
//!
//! What must always hold: everything is read afresh, nothing of the app's is cached beyond a pass; the only thing ever
//! written here is the device id, once, where there is none.

pub mod account;
pub mod directory;
pub mod registry;
