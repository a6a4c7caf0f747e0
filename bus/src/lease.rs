//! The lease cell: one small value of a fleet that is replaced only by whoever has seen the last one.

use bytes::Bytes;

/// The value with its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseValue {
    /// Its revision: each write has another one, but a wiped server counts from the start.
    pub revision: u64,
    /// What was written; empty if somebody has deleted it.
    pub payload: Bytes,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseSwap {
    /// It is stored under this revision.
    Stored(u64),
    /// The revision to replace is not, or no longer, the last one. Nothing was written.
    Lost,
}
