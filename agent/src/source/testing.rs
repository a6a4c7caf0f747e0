//! A sink in memory, for the tests of sources and of recovery.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use muster_share::entry::{Entry, Extent, Gap, push_extent};

use super::{
    BUFFER_BYTES, CaptureContext, Content, Sink, Source, SourceError, SourceReport, Stamp, Stopped, Unread,
};

/// Called with each piece of data.
type Tap<'a> = Box<dyn FnMut(&Entry, &[u8]) + 'a>;

/// What was pushed: entries in their order; the bytes of a file lie in `content`, its extents in `pack` 0 at their
/// offsets within it.
#[derive(Default)]
pub(crate) struct Memory<'a> {
    pub(crate) entries: Vec<Entry>,
    pub(crate) content: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) discarded: usize,
    /// Files that others may lead to, and that are gaps.
    pub(crate) lost: Vec<Vec<u8>>,
    /// Called with each piece of data before it is kept.
    pub(crate) on_data: Option<Tap<'a>>,
    pub(crate) open: Option<(Entry, Vec<u8>)>,
    pub(crate) space: Vec<u8>,
    /// Files that came with a stamp.
    pub(crate) stamped: usize,
}

impl Memory<'_> {
    pub(crate) fn get(&self, path: impl AsRef<[u8]>) -> &Entry {
        let path = path.as_ref();
        self.entries
            .iter()
            .find(|entry| entry.path == path)
            .unwrap_or_else(|| panic!("no entry {}", String::from_utf8_lossy(path)))
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }

    pub(crate) fn gaps(&self) -> usize {
        self.entries.iter().filter(|entry| entry.gap.is_some()).count()
    }

    pub(crate) fn source_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }
}

impl Content for Memory<'_> {
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped> {
        assert!(self.open.is_none(), "an entry within a file");
        self.entries.push(entry);
        Ok(())
    }

    fn lost(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.lost.push(entry.path.clone());
        self.entry(entry)
    }

    fn begin(&mut self, entry: Entry) -> Result<(), Stopped> {
        assert!(self.open.is_none(), "a file within a file");
        self.open = Some((entry, Vec::new()));
        Ok(())
    }

    fn space(&mut self) -> Result<&mut [u8], Stopped> {
        self.space.resize(BUFFER_BYTES, 0);
        Ok(&mut self.space)
    }

    fn filled(&mut self, count: usize) -> Result<(), Stopped> {
        let (entry, content) = self.open.as_mut().expect("data outside a file");
        let bytes = &self.space[..count];
        if let Some(tap) = &mut self.on_data {
            tap(entry, bytes);
        }
        let (offset, length) = (content.len() as u64, bytes.len() as u64);
        push_extent(&mut entry.extents, Extent::Data { pack: 0, offset, length });
        content.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), Stopped> {
        let (entry, _) = self.open.as_mut().expect("a hole outside a file");
        push_extent(&mut entry.extents, Extent::Hole { length });
        Ok(())
    }

    fn end(&mut self, gap: Option<Gap>, stamp: Option<Stamp>) -> Result<(), Stopped> {
        let (mut entry, content) = self.open.take().expect("an end outside a file");
        entry.gap = gap;
        self.stamped += usize::from(stamp.is_some());
        entry.size = entry.extents.iter().map(Extent::length).sum();
        self.content.insert(entry.path.clone(), content);
        self.entries.push(entry);
        Ok(())
    }

    fn discard(&mut self) {
        self.open.take().expect("a discard outside a file");
        self.discarded += 1;
    }
}

impl Sink for Memory<'_> {
    fn known(&mut self, _: &Entry, _: &Stamp) -> Result<bool, Stopped> {
        Ok(false)
    }

    fn file(&mut self, file: Box<dyn Unread>) -> Result<(), Stopped> {
        file.read(self, &AtomicBool::new(false))
    }
}

/// Captures with a spool folder, not cancelled.
pub(crate) fn capture(
    source: &dyn Source,
    sink: &mut dyn Sink,
    spool: &Path,
) -> Result<SourceReport, SourceError> {
    source.capture(sink, &CaptureContext { spool, cancel: &AtomicBool::new(false) })
}
