//! The log from its head back: each record is the one that its successor names by hash, so that whoever wants only the newest reads
//! only these.

use muster_protocol::causes::causes;
use muster_protocol::log::{GENESIS_HEAD, Head, Record, ReplayError, parse};

use super::{Log, LogError};

/// A reader that walks back. Void slots are none of the chain, and are passed over.
#[derive(Debug)]
pub struct Trail<'a> {
    log: &'a Log,
    at: Option<Head>,
}

impl Log {
    /// Back from the head as it was last read.
    #[must_use]
    pub fn trail(&self) -> Trail<'_> {
        Trail { log: self, at: Some(self.head()) }
    }
}

impl Trail<'_> {
    /// The next older record; none behind the first.
    ///
    /// # Errors
    /// When the share fails, or a record is no longer the one that was read.
    pub async fn back(&mut self) -> Result<Option<Record>, LogError> {
        let Some(at) = self.at else { return Ok(None) };
        let other = || LogError::Replay(ReplayError::WentBack { number: at.number, seen: at });
        let Some(bytes) = self.log.slot(at.number).await? else { return Err(other()) };
        let record = match parse(&bytes) {
            Ok(record) if record.hash == at.hash => record,
            Ok(_) => return Err(other()),
            Err(error) => {
                tracing::warn!(
                    number = at.number,
                    error = causes(&error),
                    "log record is no longer what it was"
                );
                return Err(other());
            }
        };
        // The first record names what is none.
        let first = record.previous == GENESIS_HEAD || record.previous.number >= record.number;
        self.at = (!first).then_some(record.previous);
        Ok(Some(record))
    }
}
