//! How large the memory is.

use redb::ReadableTableMetadata;

use super::{CHUNKS, State, StateError, guarded};

impl State {
    /// Chunks that are known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn chunk_count(&self) -> Result<u64, StateError> {
        guarded(&self.path, || {
            let chunks = self.read()?.open_table(CHUNKS).map_err(|error| self.database(error.into()))?;
            chunks.len().map_err(|error| self.database(error.into()))
        })
    }

    /// Bytes of it on the disk.
    ///
    /// # Errors
    /// When its file cannot be looked at.
    pub fn size(&self) -> std::io::Result<u64> {
        std::fs::metadata(&self.path).map(|meta| meta.len())
    }
}
