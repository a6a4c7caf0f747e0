//! How the engine works: threads, levels, sizes, priorities; defaults that the benches gave.

use std::time::Duration;

use muster_share::chunk::ChunkSize;
use muster_share::pack::DEFAULT_TARGET;

use super::priority::Priority;

/// How the engine works.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Threads that read, compress and seal; at least one.
    pub workers: usize,
    /// zstd level.
    pub zstd_level: i32,
    /// Lengths of chunks.
    pub chunk: ChunkSize,
    /// Stored length of a full pack in bytes.
    pub pack_bytes: usize,
    /// Open and compare every pack in memory before it is uploaded.
    pub self_check: bool,
    /// Packs that are sealed and on their way to the share at most, each in memory.
    pub uploads: usize,
    /// Bytes a second that go to the share at most.
    pub bandwidth_bytes_per_sec: Option<u64>,
    /// Priority of its threads.
    pub priority: Priority,
    /// How long a file must have been unchanged when it is read, for the next capture to go by its stamp: longer than a
    /// step of any file system's clock.
    pub settle: Duration,
    /// Live bytes of mostly dead packs that one slice uploads again, from the source, at most.
    pub rewrite_bytes: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            zstd_level: 2,
            chunk: ChunkSize::default(),
            pack_bytes: DEFAULT_TARGET,
            self_check: true,
            uploads: 2,
            bandwidth_bytes_per_sec: None,
            priority: Priority::default(),
            settle: Duration::from_secs(2),
            rewrite_bytes: 64 * 1024 * 1024,
        }
    }
}

impl From<&crate::config::EngineConfig> for EngineConfig {
    /// The `[engine]` table, which has been checked.
    fn from(table: &crate::config::EngineConfig) -> Self {
        let default = Self::default();
        Self {
            workers: usize::try_from(table.workers)
                .ok()
                .filter(|workers| *workers > 0)
                .unwrap_or(default.workers),
            zstd_level: table.zstd_level,
            chunk: table.chunk_size().unwrap_or_default(),
            pack_bytes: usize::try_from(table.pack.0).unwrap_or(default.pack_bytes),
            self_check: table.self_check,
            uploads: usize::try_from(table.uploads).unwrap_or(default.uploads),
            bandwidth_bytes_per_sec: Some(table.bandwidth.0).filter(|rate| *rate > 0),
            priority: Priority { nice: table.nice, io: table.io },
            settle: default.settle,
            rewrite_bytes: table.rewrite.0,
        }
    }
}
