//! What the writer makes is what the entry says, and it makes nothing outside its target.

use super::super::plan::{Planner, SafePath};
use super::{OPEN_FILES_MAX, WriteError, Writer};
use crate::source::config::FilesTable;
use crate::source::testing::{Memory, capture};
use crate::source::{SourceConfig, SourceTable};
use muster_share::entry::{Entry, Extent, Kind};
use rustix::fs::{FileType, Mode, SeekFrom, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn captured(root: &Path) -> Memory<'static> {
    let tables = [SourceTable::Files(FilesTable::new(root))];
    let source = SourceConfig::resolve(&tables, Path::new("/")).expect("resolves").remove(0).build();
    let mut sink = Memory::default();
    capture(&*source, &mut sink, root).expect("captures");
    assert_eq!(sink.gaps(), 0);
    sink
}

/// Recovers file contents last to first, as packs would bring them, so that the order of entries is not relied upon.
fn recover(sink: &Memory<'_>, target: &Path) -> Writer {
    let (writer, mut planner) = (Writer::create(target).expect("target"), Planner::new());
    let mut files = Vec::new();
    for entry in &sink.entries {
        let planned = planner.admit(entry).expect("an honest entry");
        if let Some(handle) = writer.make(&planned, entry).expect("makes") {
            files.push((handle, entry));
        }
    }
    for (handle, entry) in files.into_iter().rev() {
        let mut at = 0;
        for extent in &entry.extents {
            if let Extent::Data { offset, length, .. } = *extent {
                let (from, to) =
                    (usize::try_from(offset).expect("fits"), usize::try_from(offset + length).expect("fits"));
                writer.write_at(&handle, at, &sink.content[&entry.path][from..to]).expect("writes");
            }
            at += extent.length();
        }
        writer.finish(handle, entry).expect("finishes");
    }
    writer.finish_directories().expect("finishes");
    writer
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

#[test]
fn a_rich_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    fs::create_dir(&source).expect("folder");
    rich(&source);
    let sink = captured(&source);
    let kept: usize = sink.entries.iter().map(|entry| entry.xattrs.len()).sum();
    // The file system of a test machine takes all four attributes or, without support, none.
    assert!(kept == 4 || xattr::set(&source, "user.probe", b"").is_err(), "{kept}");
    let writer = recover(&sink, &target);
    let (was, is) = (tree(&source), tree(&target));
    assert_eq!(was.len(), 14);
    for (path, want) in &was {
        assert_eq!(is.get(path), Some(want), "{}", path.escape_ascii());
    }
    assert_eq!(is.len(), was.len());
    assert_eq!(writer.warnings(), (Vec::new(), 0));
}

#[test]
fn part_by_part_opening_gives_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    let writer = Writer::create(&folder.path().join("target")).expect("target");
    writer.no_openat2.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut planner = Planner::new();
    for (path, kind) in [
        (&b""[..], Kind::Directory),
        (b"a", Kind::Directory),
        (b"a/b", Kind::Directory),
        (b"a/b/c", Kind::File),
    ] {
        let entry = Entry::new(path.to_vec(), kind, 0o755);
        let planned = planner.admit(&entry).expect("plans");
        if let Some(handle) = writer.make(&planned, &entry).expect("makes") {
            writer.finish(handle, &entry).expect("finishes");
        }
    }
    writer.finish_directories().expect("finishes");
    assert!(folder.path().join("target/a/b/c").is_file());
}

/// Without the planner, too, a link within the target leads nowhere.
#[test]
fn links_are_never_followed() {
    for part_by_part in [false, true] {
        let folder = tempfile::tempdir().expect("folder");
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("deep")).expect("folder");
        fs::write(outside.join("file"), b"untouched").expect("file");
        let writer = Writer::create(&folder.path().join("target")).expect("target");
        writer.no_openat2.store(part_by_part, std::sync::atomic::Ordering::Relaxed);
        let safe = |path: &[u8]| SafePath::parse(path).expect("safe");
        for (name, to) in [(&b"link"[..], &b"../outside"[..]), (b"file-link", b"../outside/file")] {
            let entry = Entry::new(name.to_vec(), Kind::Symlink, 0o777);
            writer.symlink(&safe(name), to, &entry).expect("link");
        }
        let entry = Entry::new(b"link/x".to_vec(), Kind::Directory, 0o755);
        writer.create_file(&safe(b"link/new")).expect_err("through a link");
        writer.create_file(&safe(b"link/deep/new")).expect_err("through a link further up");
        writer.create_file(&safe(b"file-link")).expect_err("onto a link");
        writer.directory(&safe(b"link/x"), &entry).expect_err("through a link");
        writer.hard_link(&safe(b"hard"), &safe(b"file-link")).expect_err("to a link");
        writer.hard_link(&safe(b"hard"), &safe(b"link/file")).expect_err("to what lies outside");
        assert_eq!(fs::read(outside.join("file")).expect("reads"), b"untouched");
        assert_eq!(fs::read_dir(&outside).expect("lists").count(), 2);
        assert_eq!(fs::read_dir(outside.join("deep")).expect("lists").count(), 0);
    }
}

#[test]
fn an_existing_target_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    assert!(matches!(Writer::create(folder.path()), Err(WriteError::Exists { .. })));
    let error = Writer::create(&folder.path().join("no/parent")).expect_err("no parent");
    assert!(error.to_string().contains("no/parent"), "{error}");
}

#[test]
fn files_are_closed_to_others_until_finished_and_gone_when_abandoned() {
    let folder = tempfile::tempdir().expect("folder");
    let target = folder.path().join("target");
    let writer = Writer::create(&target).expect("target");
    let path = SafePath::parse(b"secret").expect("safe");
    let handle = writer.create_file(&path).expect("creates");
    writer.write_at(&handle, 0, b"half").expect("writes");
    let mode = |path: &Path| fs::metadata(path).expect("stat").mode() & 0o7777;
    assert_eq!((mode(&target), mode(&target.join("secret"))), (0o700, 0o600));
    writer.abandon(handle).expect("removes");
    assert_eq!(fs::read_dir(&target).expect("lists").count(), 0);
    writer.create_file(&path).expect("may be created again");
}

#[test]
fn more_files_than_may_be_open_are_written_in_turns() {
    let folder = tempfile::tempdir().expect("folder");
    let target = folder.path().join("target");
    let writer = Writer::create(&target).expect("target");
    let mut files = Vec::new();
    for number in 0..OPEN_FILES_MAX * 2 {
        let path = SafePath::parse(number.to_string().as_bytes()).expect("safe");
        files.push(writer.create_file(&path).expect("creates"));
    }
    for round in 0..2_u64 {
        for handle in &files {
            writer.write_at(handle, round, &[b'a' + round as u8]).expect("writes");
        }
        assert!(super::lock(&writer.open).files.len() <= OPEN_FILES_MAX);
    }
    for handle in files {
        let entry = Entry { size: 2, ..Entry::new(handle.path().as_bytes().to_vec(), Kind::File, 0o644) };
        writer.finish(handle, &entry).expect("finishes");
    }
    for number in 0..OPEN_FILES_MAX * 2 {
        assert_eq!(fs::read(target.join(number.to_string())).expect("reads"), b"ab");
    }
}

#[test]
fn what_the_file_system_refuses_of_attributes_is_a_warning() {
    let folder = tempfile::tempdir().expect("folder");
    let writer = Writer::create(&folder.path().join("target")).expect("target");
    let path = SafePath::parse(b"file").expect("safe");
    let handle = writer.create_file(&path).expect("creates");
    let mut entry = Entry::new(b"file".to_vec(), Kind::File, 0o644);
    let bytes = serde_bytes::ByteBuf::from;
    entry.xattrs.push((bytes(b"nonsense".to_vec()), bytes(b"x".to_vec())));
    (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    writer.finish(handle, &entry).expect("finishes all the same");
    let (warnings, more) = writer.warnings();
    assert_eq!((warnings.len(), more), (1, 0));
    assert!(warnings[0].what.contains("nonsense"), "{warnings:?}");
}

/// Only a user who is not root could notice the wrong order.
#[test]
fn folders_are_closed_after_those_beneath_them() {
    let folder = tempfile::tempdir().expect("folder");
    let target = folder.path().join("target");
    let (writer, mut planner) = (Writer::create(&target).expect("target"), Planner::new());
    for (path, mode) in [(&b""[..], 0o755), (b"a", 0), (b"a/b", 0o700), (b"a/b/c", 0o500)] {
        let mut entry = Entry::new(path.to_vec(), Kind::Directory, mode);
        (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        writer.make(&planner.admit(&entry).expect("plans"), &entry).expect("makes");
    }
    writer.finish_directories().expect("finishes");
    assert_eq!(fs::metadata(target.join("a")).expect("stat").mode() & 0o7777, 0);
    fs::set_permissions(target.join("a"), fs::Permissions::from_mode(0o700)).expect("mode");
    assert_eq!(fs::metadata(target.join("a/b/c")).expect("stat").mode() & 0o7777, 0o500);
}
