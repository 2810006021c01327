//! The reference server.
mod apply;
mod model;
mod wire;

pub use model::{Answer, MAX_BODY_BYTES, MAX_OPS, Model, PUSH_PATH, Request, StoredOp, Version};
pub use wire::Hlc;

#[cfg(test)]
mod replay;
