//! What we know of the desktop app. The facts are in the contract; here is how they are found on this machine.

pub mod directory;
