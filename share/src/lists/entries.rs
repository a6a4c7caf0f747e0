//! The entry stream: each entry is its length (4 bytes, big-endian) and its MessagePack. Sources follow one another
//! without a mark; the slice index counts the entries of each.

use std::io::{Read, Write};

use muster_protocol::wire;

use super::ListError;
use crate::entry::Entry;

/// Longest entry, in bytes: a file of several hundred thousand extents, or very large attributes.
pub const MAX_ENTRY_LEN: usize = 16 * 1024 * 1024;

/// Writes entries.
#[derive(Debug)]
pub struct EntryWriter<W> {
    to: W,
    entries: u64,
    bytes: u64,
}

impl<W: Write> EntryWriter<W> {
    /// A stream that goes to `to`.
    pub fn new(to: W) -> Self {
        Self { to, entries: 0, bytes: 0 }
    }

    /// Appends one entry.
    ///
    /// # Errors
    /// [`ListError::EntryTooLong`], with nothing written; [`ListError::Io`].
    pub fn write(&mut self, entry: &Entry) -> Result<(), ListError> {
        self.write_encoded(&entry.encode())
    }

    /// Appends one entry that is encoded already.
    ///
    /// # Errors
    /// As [`EntryWriter::write`].
    pub fn write_encoded(&mut self, bytes: &[u8]) -> Result<(), ListError> {
        let too_long = ListError::EntryTooLong { have: bytes.len(), most: MAX_ENTRY_LEN };
        let Ok(len) = u32::try_from(bytes.len()) else { return Err(too_long) };
        if bytes.len() > MAX_ENTRY_LEN {
            return Err(too_long);
        }
        self.to
            .write_all(&len.to_be_bytes())
            .and_then(|()| self.to.write_all(bytes))
            .map_err(ListError::Io)?;
        self.entries += 1;
        self.bytes += 4 + u64::from(len);
        Ok(())
    }

    /// Entries so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back where it went.
    pub fn into_inner(self) -> W {
        self.to
    }
}

/// Reads entries.
#[derive(Debug)]
pub struct EntryReader<R> {
    from: R,
    buffer: Vec<u8>,
}

impl<R: Read> EntryReader<R> {
    /// A stream that comes from `from`. Give it something buffered.
    pub fn new(from: R) -> Self {
        Self { from, buffer: Vec::new() }
    }

    /// The next entry; `None` at the stream's end.
    ///
    /// # Errors
    /// When the stream ends within an entry, or an entry is too long or malformed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ListError> {
        let mut prefix = Vec::with_capacity(4);
        self.from.by_ref().take(4).read_to_end(&mut prefix).map_err(ListError::Io)?;
        if prefix.is_empty() {
            return Ok(None);
        }
        let prefix: [u8; 4] = prefix.try_into().map_err(|_| ListError::EntriesEnd)?;
        let len = u32::from_be_bytes(prefix) as usize;
        if len > MAX_ENTRY_LEN {
            return Err(ListError::EntryTooLong { have: len, most: MAX_ENTRY_LEN });
        }
        // Memory follows what is there, not what the length claims.
        self.buffer.clear();
        self.from.by_ref().take(len as u64).read_to_end(&mut self.buffer).map_err(ListError::Io)?;
        if self.buffer.len() < len {
            return Err(ListError::EntriesEnd);
        }
        Ok(Some(wire::decode(&self.buffer)?))
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`ListError::EntriesEnd`] when something does.
    pub fn finish(mut self) -> Result<(), ListError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ListError::EntriesEnd),
            Err(error) => Err(ListError::Io(error)),
        }
    }
}

impl<R: Read> Iterator for EntryReader<R> {
    type Item = Result<Entry, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryReader, EntryWriter, MAX_ENTRY_LEN};
    use crate::entry::{Entry, Kind};
    use crate::lists::ListError;

    fn stream(count: u8) -> (Vec<Entry>, Vec<u8>) {
        let entries: Vec<_> =
            (0..count).map(|n| Entry::new(vec![b'a'; usize::from(n)], Kind::File, 0o644)).collect();
        let mut writer = EntryWriter::new(Vec::new());
        entries.iter().for_each(|entry| writer.write(entry).expect("written"));
        assert_eq!((writer.entries(), writer.bytes()), (u64::from(count), writer.to.len() as u64));
        (entries, writer.into_inner())
    }

    #[test]
    fn entries_round_trip() {
        for count in [0, 1, 200] {
            let (entries, bytes) = stream(count);
            let back: Result<Vec<_>, _> = EntryReader::new(bytes.as_slice()).collect();
            assert_eq!(back.expect("reads"), entries);
        }
        let (entries, bytes) = stream(2);
        let mut reader = EntryReader::new(bytes.as_slice());
        assert_eq!(reader.next_entry().expect("reads").as_ref(), entries.first());
        assert!(matches!(reader.finish(), Err(ListError::EntriesEnd)));
    }

    #[test]
    fn cut_or_overlong_streams_are_refused() {
        let (_, bytes) = stream(3);
        let ends: Vec<usize> = (0..4).map(|count| stream(count).1.len()).collect();
        for len in 0..bytes.len() {
            let back: Result<Vec<_>, _> = EntryReader::new(&bytes[..len]).collect();
            assert_eq!(back.is_ok(), ends.contains(&len), "cut to {len}");
        }
        let long = u32::try_from(MAX_ENTRY_LEN + 1).expect("fits").to_be_bytes();
        assert!(matches!(EntryReader::new(&long[..]).next_entry(), Err(ListError::EntryTooLong { .. })));
        let mut writer = EntryWriter::new(Vec::new());
        let entry = Entry::new(vec![0; MAX_ENTRY_LEN], Kind::File, 0);
        assert!(matches!(writer.write(&entry), Err(ListError::EntryTooLong { .. })));
        assert!(writer.into_inner().is_empty());
    }
}
