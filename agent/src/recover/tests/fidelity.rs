//! What a capture saw is what a recovery makes: content, types, names, modes, owners, times, attributes, holes.

use super::super::Request;
use super::super::fixture::{Fixture, Item, name};
use super::{request, run};
use crate::source::config::FilesTable;
use crate::source::testing::{Memory, capture};
use crate::source::{SourceConfig, SourceTable};
use muster_share::entry::{Entry, Extent, Kind};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What `files` captures of a folder, as a source to put into a slice.
fn captured(root: &Path) -> Vec<Item> {
    let tables = [SourceTable::Files(FilesTable::new(root))];
    let source = SourceConfig::resolve(&tables, Path::new("/")).expect("resolves").remove(0).build();
    let mut sink = Memory::default();
    capture(&*source, &mut sink, root).expect("captures");
    assert_eq!(sink.gaps(), 0);
    let Memory { entries, mut content, .. } = sink;
    entries
        .into_iter()
        .map(|entry| (entry.clone(), content.remove(&entry.path).unwrap_or_default()))
        .collect()
}

async fn recovered(items: Vec<Item>, change: impl FnOnce(&mut Request)) -> (Fixture, super::super::Outcome) {
    let mut fixture = Fixture::new().await;
    fixture.round(vec![(name("a"), vec![("files", items)])], &["b"]).await;
    let mut request = request(&fixture, fixture.target("into"));
    change(&mut request);
    let outcome = run(&request).await.expect("recovered");
    assert!(outcome.damaged.is_empty(), "{:?}", outcome.damaged);
    (fixture, outcome)
}

fn touch(path: &Path, mtime: (i64, i64)) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: mtime.1 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .expect("times");
}

/// A tree with one of everything that the file system takes.
fn rich(root: &Path) {
    let folder = root.join("folder/deep");
    fs::create_dir_all(&folder).expect("folder");
    fs::write(root.join(OsStr::from_bytes(b"n\xff\xfe\n name")), b"not UTF-8").expect("file");
    fs::write(root.join("empty"), b"").expect("file");
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(folder.join("big"), big).expect("file");
    let sparse = File::create(folder.join("sparse")).expect("file");
    sparse.write_all_at(&[1; 4096], 64 << 10).expect("data");
    sparse.write_all_at(&[2; 5000], 1 << 20).expect("data");
    sparse.set_len(3 << 20).expect("length");
    File::create(root.join("all-hole")).expect("file").set_len(1 << 20).expect("length");
    fs::hard_link(folder.join("big"), root.join("zz-same-as-big")).expect("hard link");
    symlink("../nowhere/\u{e9}", root.join("dangling")).expect("link");
    symlink("/etc/passwd", folder.join("absolute")).expect("link");
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("fifo");
    fs::create_dir(root.join("locked")).expect("folder");
    fs::write(root.join("locked/inside"), b"x").expect("file");
    drop(xattr::set(root.join("empty"), "user.note", b"a\0b"));
    drop(xattr::set(&folder, "user.folder", b"yes"));
    // acl(5) as Linux stores it: version 2, then tag, rights and number of each entry.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, number) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(number.to_le_bytes()));
    }
    drop(xattr::set(root.join("all-hole"), "system.posix_acl_access", &acl));
    drop(xattr::set(root.join("folder"), "system.posix_acl_default", &acl));
    for (path, mode) in
        [("empty", 0o4755), ("pipe", 0o620), ("folder", 0o1777), ("locked/inside", 0o400), ("locked", 0o500)]
    {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("mode");
    }
    for (path, mtime) in [
        ("empty", (1_000_000_000, 123_456_789)),
        ("dangling", (5, 6)),
        ("pipe", (-7, 8)),
        ("folder/deep", (1_600_000_000, 1)),
        ("locked", (1_500_000_000, 999_999_999)),
        ("", (1_400_000_000, 42)),
    ] {
        touch(&root.join(path), mtime);
    }
}

/// Everything that can be compared of a tree, holes included.
fn look(root: &Path, path: &Path, seen: &mut BTreeMap<Vec<u8>, String>) {
    let real = root.join(path);
    let meta = fs::symlink_metadata(&real).expect("stat");
    let xattrs: BTreeMap<_, _> = xattr::list(&real)
        .map(|names| names.map(|name| (name.clone(), xattr::get(&real, &name).expect("value"))).collect())
        .unwrap_or_default();
    let mut text = format!(
        "{:o} {}:{} {}.{:09} nlink {} rdev {} {xattrs:?} ",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        if meta.is_dir() { 0 } else { meta.nlink() },
        meta.rdev()
    );
    if meta.is_symlink() {
        text += &format!("{:?}", fs::read_link(&real).expect("target"));
    } else if meta.is_file() {
        let file = File::open(&real).expect("opens");
        text += &format!("{} {}", meta.len(), blake3::hash(&fs::read(&real).expect("reads")));
        let mut at = 0;
        while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
            at = rustix::fs::seek(&file, SeekFrom::Hole(data)).expect("a hole at the end");
            text += &format!(" {data}..{at}");
        }
    }
    seen.insert(path.as_os_str().as_bytes().to_vec(), text);
    if meta.is_dir() {
        for item in fs::read_dir(&real).expect("lists") {
            look(root, &path.join(item.expect("item").file_name()), seen);
        }
    }
}

fn tree(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut seen = BTreeMap::new();
    look(root, Path::new(""), &mut seen);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rich_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("folder");
    rich(&source);
    let items = captured(&source);
    let kept: usize = items.iter().map(|(entry, _)| entry.xattrs.len()).sum();
    // The file system of a test machine takes all four attributes or, without support, none.
    assert!(kept >= 4 || xattr::set(&source, "user.probe", b"").is_err(), "{kept}");
    let (fixture, outcome) = recovered(items, |_| {}).await;
    let (was, is) = (tree(&source), tree(&fixture.target("into/a/files")));
    assert_eq!(was.len(), 14);
    for (path, want) in &was {
        assert_eq!(is.get(path), Some(want), "{}", path.escape_ascii());
    }
    assert_eq!(is.len(), was.len());
    let (_, service) = &outcome.services[0];
    assert_eq!((&service.warnings, service.owners_left), (&Vec::new(), 0));
    assert_eq!((service.files, service.others), (7, 7));
}

/// Longer than 4 GiB, nearly all of it a hole, and a run that begins behind 4 GiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_more_than_4_gib_keeps_its_holes() {
    let hole = 5 << 30;
    let data = |length| Extent::Data { pack: 0, offset: 0, length };
    let extents = vec![Extent::Hole { length: hole }, data(3000), Extent::Hole { length: 1 << 20 }];
    let big =
        Entry { size: hole + 3000 + (1 << 20), extents, ..Entry::new(b"big".to_vec(), Kind::File, 0o600) };
    let items = vec![super::super::fixture::folder(""), (big, vec![7; 3000])];
    let (fixture, outcome) = recovered(items, |_| {}).await;
    let file = File::open(fixture.target("into/a/files/big")).expect("there");
    let meta = file.metadata().expect("stat");
    assert_eq!(meta.len(), outcome.begun.bytes);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    let mut bytes = [0; 3002];
    file.read_exact_at(&mut bytes, hole - 1).expect("reads");
    assert!(bytes[0] == 0 && bytes[1..3001].iter().all(|byte| *byte == 7) && bytes[3001] == 0);
}

/// Paths longer than one call of the system takes, with a file, a link and a pipe at their end.
#[tokio::test(flavor = "multi_thread")]
async fn deep_trees_come_back() {
    let part = "d".repeat(200);
    let mut items = vec![super::super::fixture::folder("")];
    let mut path = String::new();
    for _ in 0..40 {
        path = if path.is_empty() { part.clone() } else { format!("{path}/{part}") };
        items.push((
            Entry { mtime_secs: 7, ..Entry::new(path.clone().into(), Kind::Directory, 0o750) },
            Vec::new(),
        ));
    }
    items.push(super::super::fixture::file(&format!("{path}/file"), b"deep".to_vec()));
    items.push(super::super::fixture::hard_link(&format!("{path}/link"), &format!("{path}/file")));
    items.push((Entry::new(format!("{path}/pipe").into(), Kind::Fifo, 0o620), Vec::new()));
    let count = items.len() as u64;
    let (fixture, outcome) = recovered(items, |_| {}).await;
    let (_, service) = &outcome.services[0];
    assert_eq!((service.files, service.others), (2, count - 2));
    let mut folder = File::open(fixture.target("into/a/files")).expect("there");
    for _ in 0..40 {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        folder = rustix::fs::openat(&folder, &part, flags, Mode::empty()).expect("there").into();
        let meta = folder.metadata().expect("stat");
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o750, 7));
    }
    let file = File::from(rustix::fs::openat(&folder, "link", OFlags::RDONLY, Mode::empty()).expect("there"));
    assert_eq!(file.metadata().expect("stat").nlink(), 2);
    let pipe = rustix::fs::statat(&folder, "pipe", rustix::fs::AtFlags::empty()).expect("there");
    assert_eq!(pipe.st_mode & 0o7777, 0o620);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_go_by_name_and_by_number_on_demand() {
    if !is_root() {
        return;
    }
    let users = fs::read_to_string("/etc/passwd").expect("a user database");
    let known = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<u32>().ok()?))
    });
    let (user, number) = known.into_iter().find(|(_, number)| *number > 0).expect("somebody");
    let of = |path: &str, user: &str, mode| {
        let entry = Entry::new(path.into(), Kind::File, mode);
        (Entry { uid: 54_321, gid: 54_322, user: Some(user.to_owned()), ..entry }, Vec::new())
    };
    // linux/capability.h: version 2, effective; CAP_NET_BIND_SERVICE.
    let capability = [1_u32 << 25 | 1, 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
    for numeric in [false, true] {
        let mut capable = of("capable", "nobody-knows-me", 0o755);
        let attribute = serde_bytes::ByteBuf::from("security.capability");
        capable.0.xattrs.push((attribute, capability.clone().into()));
        let items = vec![
            super::super::fixture::folder(""),
            capable,
            of("known", &user, 0o4711),
            of("unknown", "?", 0o2711),
        ];
        let (fixture, _) = recovered(items, |request| request.numeric_owner = numeric).await;
        let meta = |path: &str| fixture.target("into/a/files").join(path).metadata().expect("there");
        let (known, unknown) = (meta("known"), meta("unknown"));
        let want = if numeric { 54_321 } else { number };
        assert_eq!((known.uid(), known.gid(), known.mode() & 0o7777), (want, 54_322, 0o4711));
        assert_eq!((unknown.uid(), unknown.gid(), unknown.mode() & 0o7777), (54_321, 54_322, 0o2711));
        let stored =
            xattr::get(fixture.target("into/a/files/capable"), "security.capability").expect("reads");
        assert_eq!(stored.as_ref(), Some(&capability), "a capability outlives the owner's change");
    }
}
