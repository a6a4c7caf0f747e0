//! Where inputs come from: the kept corpus below `tests/fuzz/<target>/`, the golden samples of the protocol, and each
//! target's own samples.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Target;

/// The golden samples of version 1 whose file names start so; none where the sources are gone.
pub(super) fn golden(prefix: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/golden/v1");
    files(&folder)
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

/// The files of a folder, sorted; none when there is no such folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

/// The folder of a target's kept inputs.
#[cfg(test)]
pub(super) fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(target.name)
}

/// Writes a target's samples into a folder, for a fuzzer to begin with.
///
/// # Errors
/// When a file cannot be written.
pub fn write_samples(target: &Target, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    for (number, sample) in (target.samples)().into_iter().enumerate() {
        fs::write(into.join(format!("sample-{number}")), sample)?;
    }
    Ok(())
}
