//! Trees of files to back up, and the comparison of what came back, as exact as the file system lets it be.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes that do not compress, different for every seed.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A small tree.
///
/// # Panics
/// When it cannot be made.
pub fn small(at: &Path, seed: u64) {
    fs::create_dir_all(at.join("sub/deeper")).expect("folders");
    fs::write(at.join("one"), noise(seed, 70_000)).expect("file");
    fs::write(at.join("sub/two"), format!("text {seed}\n").repeat(5_000)).expect("file");
    for n in 0..40 {
        fs::write(at.join(format!("sub/deeper/{n}")), noise(seed + n, 900)).expect("file");
    }
}

/// A tree with everything that a file system holds and this test may make.
///
/// # Panics
/// When it cannot be made.
pub fn rich(at: &Path) {
    small(at, 7);
    fs::write(at.join("empty"), b"").expect("file");
    fs::create_dir(at.join("empty folder")).expect("folder");
    fs::write(at.join(OsStr::from_bytes(b"not utf-8 \xff\xfe")), b"x").expect("file");
    symlink("one", at.join("link")).expect("link");
    symlink(OsStr::from_bytes(b"/nowhere/\xff"), at.join("dangling")).expect("link");
    fs::hard_link(at.join("one"), at.join("sub/hard link to one")).expect("link");
    fs::set_permissions(at.join("sub/two"), fs::Permissions::from_mode(0o400)).expect("mode");
    fs::set_permissions(at.join("sub/deeper"), fs::Permissions::from_mode(0o2750)).expect("mode");
    let mut holes = File::create(at.join("holes")).expect("file");
    holes.write_all(b"begin").expect("write");
    holes.seek(SeekFrom::Start(20 << 20)).expect("seek");
    holes.write_all(b"middle").expect("write");
    holes.set_len(40 << 20).expect("length");
    let mut big = File::create(at.join("big")).expect("file");
    for n in 0..101 {
        big.write_all(&noise(n % 60, 1 << 20)).expect("write");
    }
    File::open(at.join("one"))
        .and_then(|f| {
            f.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(981_173_106, 123_456_789))
        })
        .expect("time");
}

/// One entry as it can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    size: u64,
    content: String,
    /// Smallest path of its hard-link group.
    group: Option<PathBuf>,
    sparse: bool,
}

/// Asserts that two trees are the same: names, kinds, modes, owners, times, content, hard links and holes.
///
/// # Panics
/// When they are not; every difference is named.
pub fn assert_same(want: &Path, have: &Path) {
    let (want, have) = (look(want), look(have));
    let mut differences = Vec::new();
    for (path, entry) in &want {
        match have.get(path) {
            Some(other) if other == entry => {}
            Some(other) => differences.push(format!("{}: want {entry:?}, have {other:?}", path.display())),
            None => differences.push(format!("{}: missing", path.display())),
        }
    }
    differences.extend(
        have.keys().filter(|p| !want.contains_key(*p)).map(|p| format!("{}: not wanted", p.display())),
    );
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut groups: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = paths.pop() {
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if meta.is_dir() {
            paths.extend(fs::read_dir(&path).expect("folder").map(|e| e.expect("entry").path()));
        }
        all.push((path, meta));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, meta) in all {
        let relative = path.strip_prefix(root).expect("below the root").to_owned();
        let (kind, content) = if meta.is_file() {
            ('f', digest(&path))
        } else if meta.is_dir() {
            ('d', String::new())
        } else if meta.is_symlink() {
            ('l', format!("{:?}", fs::read_link(&path).expect("link")))
        } else {
            ('?', String::new())
        };
        let group = (kind == 'f' && meta.nlink() > 1)
            .then(|| groups.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.clone()).clone());
        let entry = Seen {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            modified: if kind == 'l' { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) },
            size: if kind == 'f' { meta.len() } else { 0 },
            content,
            group,
            sparse: kind == 'f' && meta.blocks() * 512 < meta.len() / 2,
        };
        seen.insert(relative, entry);
    }
    seen
}

fn digest(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).expect("read");
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    muster_protocol::ids::hex(&hash.finalize())
}
