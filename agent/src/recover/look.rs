//! Looking into the slices of a round with the kit: which entries they hold, and the bytes of single files.
//!
//! Opens the same round that a recovery does and believes nothing else. Writes nothing anywhere. Entries are read as a
//! stream: memory is one pack and one frame of it, whatever the slice holds.

mod pattern;

use std::io::Read;
use std::ops::ControlFlow;

use muster_protocol::ids::{ServiceName, SourceName};
use muster_share::entry::{Entry, Extent};
use muster_share::lists::{IndexedSource, ListError};
use muster_share::verify::content::trouble;
use muster_share::verify::{Damage, Trouble};

use super::round::{Round, RoundError};
use super::slice::Slice;

pub use pattern::{Pattern, PatternError};

/// Bytes of content that are handed out at once.
const PIECE: usize = 256 * 1024;

/// Why nothing, or not all, can be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The round does not open, or the share fails.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// Something that one slice needs is damaged. Other slices may be whole.
    #[error("{0}")]
    Damaged(Damage),
    /// Whoever takes a file's bytes does not.
    #[error("the content cannot be handed out")]
    Output(#[source] std::io::Error),
}

impl From<Trouble> for LookError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Damaged(damage) => Self::Damaged(damage),
            Trouble::Store(error) => Self::Round(error.into()),
        }
    }
}

/// A piece of a file's content, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes, each compared with the name of the chunk that it lies in.
    Bytes(&'a [u8]),
    /// That many zeroes, which the source did not store.
    Hole(u64),
}

/// Why a look through the entries ends.
enum End {
    /// Whoever looks has seen enough.
    Enough,
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Round {
    /// The slice of this service.
    ///
    /// # Errors
    /// [`RoundError::Service`] when the round holds none, [`LookError::Damaged`] when it cannot be opened.
    pub async fn slice(&self, service: &ServiceName) -> Result<Slice, LookError> {
        let listed = self.manifest().slices.iter().find(|slice| slice.service == *service);
        let listed = listed.ok_or_else(|| self.holds_no(service))?;
        let opened = self.open_slice(listed).await.map_err(RoundError::from)?;
        opened.map_err(|damaged| {
            LookError::Damaged(damaged.into_iter().next().expect("what does not open is damaged"))
        })
    }
}

impl Slice {
    /// Whose slice it is.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.receipt.service
    }

    /// Its sources, in the order of their entries.
    #[must_use]
    pub fn sources(&self) -> &[IndexedSource] {
        &self.index.sources
    }

    /// Hands out the entries of all sources, in order, until `each` breaks off. Every entry has passed the same checks
    /// that a recovery makes of it.
    ///
    /// # Errors
    /// [`LookError::Damaged`], or that the share fails; entries before that place were handed out.
    pub fn look(
        &self,
        mut each: impl FnMut(&IndexedSource, Entry) -> ControlFlow<()>,
    ) -> Result<(), LookError> {
        let looked = self.each_planned(|_, source, entry| match each(source, entry) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(End::Enough),
        });
        match looked {
            Ok(()) | Err(End::Enough) => Ok(()),
            Err(End::Trouble(trouble)) => Err(trouble.into()),
        }
    }

    /// The entry of this path, if the source has it.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn entry(&self, source: &SourceName, path: &[u8]) -> Result<Option<Entry>, LookError> {
        let mut found = None;
        self.look(|here, entry| {
            if here.name != *source || entry.path != path {
                return ControlFlow::Continue(());
            }
            found = Some(entry);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Hands out the content of a regular file, from its first byte to its last. A hard link is followed to its file.
    ///
    /// # Errors
    /// [`LookError::Damaged`], or that the share fails, or [`LookError::Output`] for an error of `each`. Pieces before
    /// that place were handed out.
    pub fn content(
        &self,
        source: &SourceName,
        mut file: Entry,
        mut each: impl FnMut(Piece<'_>) -> std::io::Result<()>,
    ) -> Result<(), LookError> {
        let damaged = |why: &str| LookError::Damaged(self.damage(why.to_owned()));
        // Each leads to an earlier entry, as the planner has made sure, so this ends.
        while let Some(target) = file.hard_link.take() {
            file = self.entry(source, &target)?.ok_or_else(|| damaged("a hard link leads to no file"))?;
        }
        let mut reader = self.reader(file.extents.iter().copied().filter(is_data).collect());
        let mut buffer = vec![0; PIECE];
        for extent in file.extents {
            if let Extent::Hole { length } = extent {
                each(Piece::Hole(length)).map_err(LookError::Output)?;
                continue;
            }
            let mut left = extent.length();
            while left > 0 {
                let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                let got = reader
                    .read(&mut buffer[..most])
                    .map_err(|error| LookError::from(trouble(&self.index_path, ListError::Io(error))))?;
                if got == 0 {
                    return Err(damaged("a file's content ends before its length"));
                }
                each(Piece::Bytes(&buffer[..got])).map_err(LookError::Output)?;
                left -= got as u64;
            }
        }
        Ok(())
    }
}

fn is_data(extent: &Extent) -> bool {
    matches!(extent, Extent::Data { .. })
}

#[cfg(test)]
mod tests;
