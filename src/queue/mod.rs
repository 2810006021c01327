//! The pending-op table `sync_pending_op` and the clocks beside it.
//!
//! What must always hold: every write is one `BEGIN IMMEDIATE` transaction that is short, changes something, and never
//! spans a request to the server; rows are matched by `id` and `operation_id`; nothing is written but the bookkeeping
//! columns, fresh stamps and pairs, the clock keys, and the deletion of what the server has accepted, where rows that stay may
//! be written again as they were.
//!
//! Reading order: [`database`] (a connection that knows which file it has), [`columns`] (generations), [`read`],
//! [`settle`], with `clear` and its [`pace`], [`mark`], [`stamp`], [`census`].

pub mod census;
mod clear;
pub mod columns;
pub mod database;
pub mod mark;
pub mod pace;
pub mod read;
pub mod settle;
pub mod stamp;

pub use columns::Columns;
pub use database::{Database, FileId};
pub use pace::Pace;

#[cfg(test)]
mod tests;
