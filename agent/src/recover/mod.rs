//! Recovery: from packs and indexes back to folders.

pub mod plan;
pub mod write;
