//! The path planner: whatever an index says, nothing is made outside the target.

use std::collections::HashMap;

use muster_agent::recover::plan::{Planned, Planner, Step};
use muster_share::entry::{Entry, Extent, Gap, Kind};
use muster_share::lists::{EntryReader, EntryWriter};
use serde_bytes::ByteBuf;

use super::documents::same_again;
use super::input::Draw;

/// Any bytes as an entry stream, planned until it breaks.
pub(super) fn stream(input: &[u8]) {
    let mut model = Model::default();
    let mut reader = EntryReader::new(input);
    while let Ok(Some(entry)) = reader.next_entry() {
        same_again(&entry);
        model.admit(&entry);
    }
}

pub(super) fn stream_samples() -> Vec<Vec<u8>> {
    let mut writer = EntryWriter::new(Vec::new());
    for entry in honest() {
        writer.write(&entry).expect("memory grows");
    }
    vec![writer.into_inner()]
}

fn honest() -> Vec<Entry> {
    let mut file = Entry::new(b"a/\xff".to_vec(), Kind::File, 0o644);
    file.size = 12;
    file.extents = vec![Extent::Data { pack: 1, offset: 3, length: 5 }, Extent::Hole { length: 7 }];
    file.xattrs = vec![(ByteBuf::from(b"user.a".to_vec()), ByteBuf::from(b"v".to_vec()))];
    let mut hard = Entry::new(b"b".to_vec(), Kind::File, 0o644);
    hard.hard_link = Some(ByteBuf::from(b"a/\xff".to_vec()));
    let mut link = Entry::new(b"c".to_vec(), Kind::Symlink, 0o777);
    link.target = Some(ByteBuf::from(b"/etc".to_vec()));
    let mut device = Entry::new(b"d".to_vec(), Kind::CharDevice, 0o600);
    device.device = Some((1, 3));
    let mut gone = Entry::new(b"e".to_vec(), Kind::File, 0);
    gone.gap = Some(Gap::Vanished);
    vec![
        Entry::new(Vec::new(), Kind::Directory, 0o755),
        Entry::new(b"a".to_vec(), Kind::Directory, 0o700),
        file,
        hard,
        link,
        device,
        gone,
    ]
}

/// Entries built from an input: names that collide, climb and hide, of every kind.
pub(super) fn tree(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mut model = Model::default();
    while !draw.is_empty() {
        let entry = entry(&mut draw);
        model.admit(&entry);
    }
}

pub(super) fn tree_samples() -> Vec<Vec<u8>> {
    vec![
        // The root, a link in it, and a file beneath the link.
        vec![0, 1, 0, 0, 1, 1, 2, 0, 0, 0, 2, 1, 1, 0, 0, 0],
        // The root, a folder, a folder in it, a file and a hard link to it.
        vec![0, 1, 0, 0, 1, 1, 1, 0, 0, 2, 1, 2, 1, 0, 0, 2, 1, 3, 0, 0, 0, 1, 4, 0, 1, 2, 1, 3, 0],
        // What climbs.
        vec![0, 1, 0, 0, 1, 5, 0, 0, 0, 1, 6, 0, 0, 0, 2, 1, 6, 0, 0, 0],
    ]
}

const PARTS: [&[u8]; 12] =
    [b"", b"a", b"b", b"c", b"d", b".", b"..", b"/", b"\0", b"a/..", b"\xff", &[b'x'; 256]];

fn path(draw: &mut Draw<'_>) -> Vec<u8> {
    let parts: Vec<&[u8]> = (0..draw.below(5)).map(|_| *draw.one(&PARTS)).collect();
    parts.join(&b'/')
}

fn entry(draw: &mut Draw<'_>) -> Entry {
    let path = path(draw);
    let kinds = [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::CharDevice, Kind::BlockDevice];
    let kind = *draw.one(&kinds);
    let mut entry = Entry::new(path.clone(), kind, 0o644);
    let extra = draw.byte();
    if kind == Kind::Symlink || extra & 0x40 != 0 {
        let targets: [&[u8]; 4] = [b"/", b"..", b"", b"a\0"];
        entry.target = Some(ByteBuf::from(draw.one(&targets).to_vec()));
    }
    if extra & 1 != 0 {
        entry.hard_link = Some(ByteBuf::from(self::path(draw)));
    }
    if extra & 2 != 0 {
        entry.size = draw.long();
        entry.extents = vec![
            Extent::Data { pack: draw.long(), offset: draw.long(), length: draw.long() },
            Extent::Hole { length: draw.long() },
        ];
    }
    if extra & 4 != 0 {
        entry.size = 9;
        entry.extents = vec![Extent::Data { pack: 1, offset: 0, length: 9 }];
    }
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) != (extra & 8 != 0) {
        entry.device = Some((1, 2));
    }
    if extra & 0x10 != 0 {
        let gaps = [Gap::Changed, Gap::Unreadable(13), Gap::Vanished, Gap::Skipped, Gap::Attributes(1)];
        entry.gap = Some(*draw.one(&gaps));
    }
    entry
}

/// What has been planned, kept in the plainest way there is.
#[derive(Default)]
struct Model {
    planner: Planner,
    made: HashMap<Vec<u8>, Made>,
    last: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq)]
enum Made {
    Folder,
    File,
    Other,
}

impl Model {
    fn admit(&mut self, entry: &Entry) {
        let Ok(Planned { path, step }) = self.planner.admit(entry) else { return };
        assert_eq!(path.as_bytes(), entry.path, "a plan for another path");
        assert!(is_safe(&entry.path), "{path:?} is planned");
        assert!(!self.made.contains_key(&entry.path), "{path:?} is planned twice");
        assert!(
            self.last.as_ref().is_none_or(|last| comes_before(last, &entry.path)),
            "{path:?} is out of order"
        );
        self.last = Some(entry.path.clone());
        if let Some(slash) = entry.path.iter().rposition(|byte| *byte == b'/') {
            assert_eq!(self.made.get(&entry.path[..slash]), Some(&Made::Folder), "the parent of {path:?}");
        } else if !entry.path.is_empty() {
            assert_eq!(self.made.get(&b""[..]), Some(&Made::Folder), "the root above {path:?}");
        }
        let made = match step {
            Step::Directory => Made::Folder,
            Step::File => {
                let sum: u128 = entry.extents.iter().map(|extent| u128::from(extent.length())).sum();
                assert_eq!(sum, u128::from(entry.size), "the length of {path:?}");
                Made::File
            }
            Step::HardLink { target } => {
                let to = target.as_bytes();
                assert!(is_safe(to) && !to.is_empty(), "{path:?} links to {target:?}");
                // Whether it is a file, the file system is asked when the link is made.
                assert!(comes_before(to, &entry.path), "{path:?} links to {target:?}");
                Made::File
            }
            Step::Symlink { target } => {
                assert!(!target.is_empty() && !target.contains(&0), "the target of {path:?}");
                Made::Other
            }
            Step::Fifo | Step::CharDevice { .. } | Step::BlockDevice { .. } | Step::Missing(_) => Made::Other,
        };
        assert!(!entry.path.is_empty() || made == Made::Folder, "the root is a folder");
        self.made.insert(entry.path.clone(), made);
    }
}

/// The order of entries: part by part.
fn comes_before(one: &[u8], two: &[u8]) -> bool {
    let parts = |path: &'_ [u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    parts(one) < parts(two)
}

/// Whether a path stays beneath its root, judged by nothing but its parts.
fn is_safe(path: &[u8]) -> bool {
    let safe = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && part.len() <= 255;
    !path.contains(&0) && (path.is_empty() || path.split(|byte| *byte == b'/').all(safe))
}
