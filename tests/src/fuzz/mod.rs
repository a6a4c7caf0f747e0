//! The fuzz targets: one function for each reader of bytes that somebody else wrote, and for the machines that decide.
//!
//! A target takes any bytes, and panics only when a promise is broken: a reader that panics, hangs, or believes what it
//! must not. The same functions run under libFuzzer (`./x fuzz`) and, over the kept corpus and each target's own
//! samples, in the ordinary tests below. No target touches the network or the file system.

mod age;
mod config;
mod corpus;
mod documents;
pub mod forge;
#[cfg(test)]
mod hostile;
mod input;
mod keys;
mod lists;
mod log;
mod pack;
mod plan;
mod round;
mod round_trip;
mod sealed_config;
mod session;
#[cfg(test)]
mod tests;
mod vault;

pub use corpus::write_samples;
pub use input::Draw;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder below `tests/fuzz/`.
    pub name: &'static str,
    /// Runs one input. Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Good inputs to begin with.
    pub samples: fn() -> Vec<Vec<u8>>,
}

/// Every target, sorted by name.
pub const TARGETS: [Target; 24] = [
    Target { name: "age-header", run: age::header, samples: age::header_samples },
    Target { name: "age-stream", run: age::stream, samples: age::stream_samples },
    Target { name: "chunk-index", run: lists::chunk_index, samples: lists::chunk_index_samples },
    Target { name: "config", run: config::config, samples: config::samples },
    Target { name: "contents", run: pack::contents, samples: pack::contents_samples },
    Target { name: "entry-plan", run: plan::stream, samples: plan::stream_samples },
    Target { name: "entry-tree", run: plan::tree, samples: plan::tree_samples },
    Target { name: "envelope", run: documents::envelope, samples: documents::envelope_samples },
    Target { name: "grant", run: lists::grant, samples: lists::grant_samples },
    Target { name: "keys", run: keys::keys, samples: keys::samples },
    Target { name: "log-record", run: log::record, samples: log::record_samples },
    Target { name: "log-replay", run: log::replay, samples: log::replay_samples },
    Target { name: "manifest", run: documents::manifest, samples: documents::manifest_samples },
    Target { name: "message", run: documents::message, samples: documents::message_samples },
    Target { name: "names", run: keys::names, samples: keys::names_samples },
    Target { name: "pack", run: pack::pack, samples: pack::pack_samples },
    Target { name: "pack-list", run: lists::pack_list, samples: lists::pack_list_samples },
    Target { name: "receipt", run: documents::receipt, samples: documents::receipt_samples },
    Target { name: "round", run: round::round, samples: round::samples },
    Target { name: "round-trip", run: round_trip::round_trip, samples: round_trip::samples },
    Target { name: "sealed-config", run: sealed_config::sealed_config, samples: sealed_config::samples },
    Target { name: "session", run: session::session, samples: session::samples },
    Target { name: "slice-index", run: lists::slice_index, samples: lists::slice_index_samples },
    Target { name: "zstd", run: pack::bounded_zstd, samples: pack::zstd_samples },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
