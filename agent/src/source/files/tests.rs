//! Trees of every kind of entry, captured and written again.

use super::super::testing::{Memory, capture};
use super::super::{CaptureContext, Cause, SourceConfig, SourceTable};
use super::RETRIES;
use crate::source::Source;
use crate::source::config::FilesTable;
use muster_share::entry::{Extent, Gap, Kind};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn build(table: FilesTable) -> Box<dyn Source> {
    let mut configs = SourceConfig::resolve(&[SourceTable::Files(table)], Path::new("/")).expect("resolves");
    configs.remove(0).build()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn write(root: &Path, path: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(path, "x").expect("file");
}

#[test]
fn parents_come_first_and_siblings_in_byte_order() {
    let root = tempfile::tempdir().expect("folder");
    for path in ["b/z", "a-b", "a/c", "a/B", "Z"] {
        write(root.path(), path);
    }
    UnixListener::bind(root.path().join("socket")).expect("socket");
    let mut sink = Memory::default();
    let report = capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    assert_eq!(sink.paths(), ["", "Z", "a", "a/B", "a/c", "a-b", "b", "b/z"]);
    assert_eq!((sink.entries.len(), sink.gaps(), report.sockets, sink.source_bytes()), (8, 0, 1, 5));
    let (entry, real) = (sink.get("a/c"), root.path().join("a/c").metadata().expect("stat"));
    assert_eq!((entry.mode, entry.uid, entry.gid), (real.mode() & 0o7777, real.uid(), real.gid()));
    assert_eq!((entry.mtime_secs, i64::from(entry.mtime_nanos)), (real.mtime(), real.mtime_nsec()));
}

#[test]
fn patterns_choose_and_excluded_folders_are_not_entered() {
    let root = tempfile::tempdir().expect("folder");
    for path in
        ["keep/a.conf", "keep/b.log", "cache/c.conf", "deep/cache/d.conf", "deep/e/f.conf", "all/g", "none/h"]
    {
        write(root.path(), path);
    }
    let all = FilesTable::new(root.path());
    let exclude = texts(&["cache/", "*.log"]);
    let paths = |table| {
        let mut sink = Memory::default();
        capture(&*build(table), &mut sink, root.path()).expect("captures");
        sink.paths()
    };
    assert_eq!(
        paths(FilesTable { exclude: exclude.clone(), ..all.clone() }),
        ["", "all", "all/g", "deep", "deep/e", "deep/e/f.conf", "keep", "keep/a.conf", "none", "none/h"]
    );
    assert_eq!(
        paths(FilesTable { include: texts(&["*.conf", "/all/"]), exclude, ..all.clone() }),
        ["", "all", "all/g", "deep", "deep/e", "deep/e/f.conf", "keep", "keep/a.conf"]
    );
    assert_eq!(paths(FilesTable { include: texts(&["nothing"]), ..all }), [""]);
}

#[test]
fn a_single_file_gets_a_root_and_a_link_to_a_folder_is_followed() {
    let root = tempfile::tempdir().expect("folder");
    write(root.path(), "real/file.txt");
    let mut sink = Memory::default();
    capture(&*build(FilesTable::new(root.path().join("real/file.txt"))), &mut sink, root.path())
        .expect("captures");
    assert_eq!(sink.paths(), ["", "file.txt"]);
    assert_eq!((sink.get("").kind, sink.get("file.txt").size), (Kind::Directory, 1));
    symlink("real", root.path().join("link")).expect("link");
    let mut sink = Memory::default();
    capture(&*build(FilesTable::new(root.path().join("link"))), &mut sink, root.path()).expect("captures");
    assert_eq!(sink.paths(), ["", "file.txt"]);
}

#[test]
fn what_is_not_there_is_a_permanent_error() {
    let root = tempfile::tempdir().expect("folder");
    UnixListener::bind(root.path().join("socket")).expect("socket");
    for (path, kind) in [("none", false), ("socket", true)] {
        let source = build(FilesTable::new(root.path().join(path)));
        let error = capture(&*source, &mut Memory::default(), root.path()).expect_err(path);
        assert_eq!(matches!(*error.cause, Cause::RootKind { .. }), kind, "{error}");
        assert!(error.is_permanent() && source.preflight().is_err());
    }
}

#[test]
fn hard_links_are_kept_once() {
    let root = tempfile::tempdir().expect("folder");
    write(root.path(), "a");
    for (from, to) in [("a", "b"), ("b", "c")] {
        fs::hard_link(root.path().join(from), root.path().join(to)).expect("link");
    }
    let mut sink = Memory::default();
    capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    assert_eq!(sink.source_bytes(), 1);
    assert!(sink.get("a").hard_link.is_none());
    for path in ["b", "c"] {
        assert_eq!(sink.get(path).hard_link.as_deref().map(Vec::as_slice), Some(&b"a"[..]));
        assert_eq!(sink.get(path).size, 0);
    }
}

#[test]
fn holes_are_pushed_as_holes() {
    let root = tempfile::tempdir().expect("folder");
    let file = fs::File::create(root.path().join("sparse")).expect("file");
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 1 << 20).expect("writes");
    file.set_len(5 << 20).expect("length");
    let mut sink = Memory::default();
    capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    let entry = sink.get("sparse");
    assert_eq!(entry.size, 5 << 20);
    let holes: u64 = entry
        .extents
        .iter()
        .map(|extent| match extent {
            Extent::Hole { length } => *length,
            Extent::Data { .. } => 0,
        })
        .sum();
    assert!(holes >= 4 << 20, "{:?}", entry.extents);
    assert!(sink.content[&b"sparse"[..]].len() < 1 << 20);
}

/// A writer that appends whenever a piece has been read, `times` times.
fn captured_while_growing(times: u32) -> (Memory<'static>, usize) {
    let root = tempfile::tempdir().expect("folder");
    let path = root.path().join("log");
    fs::write(&path, "0").expect("file");
    let mut left = times;
    let append = move |_: &_, _: &[u8]| {
        if left > 0 {
            left -= 1;
            let mut file = fs::OpenOptions::new().append(true).open(&path).expect("opens");
            file.write_all(b"+").expect("appends");
        }
    };
    let mut sink = Memory { on_data: Some(Box::new(append)), ..Memory::default() };
    capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    let gaps = sink.gaps();
    (sink, gaps)
}

#[test]
fn a_file_that_changes_is_read_again_and_then_kept_with_a_gap() {
    let (sink, gaps) = captured_while_growing(2);
    assert_eq!((sink.discarded, gaps, sink.get("log").gap), (2, 0, None));
    assert_eq!(sink.content[&b"log"[..]], b"0++");
    let (sink, gaps) = captured_while_growing(u32::MAX);
    assert_eq!((sink.discarded, gaps, sink.get("log").gap), (RETRIES as usize, 1, Some(Gap::Changed)));
    assert_eq!(
        sink.content[&b"log"[..]],
        b"0+++",
        "the bytes of the last try, up to the length it began with"
    );
}

#[test]
fn what_vanishes_or_cannot_be_read_is_a_gap() {
    let root = tempfile::tempdir().expect("folder");
    for path in ["a", "b", "c/d"] {
        write(root.path(), path);
    }
    let (gone, folder) = (root.path().join("b"), root.path().join("c"));
    let remove = move |_: &_, _: &[u8]| {
        // Fails from the second call on, when they are gone.
        drop(fs::remove_file(&gone));
        drop(fs::remove_dir_all(&folder));
    };
    let mut sink = Memory { on_data: Some(Box::new(remove)), ..Memory::default() };
    capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    assert_eq!((sink.entries.len(), sink.gaps()), (4, 2));
    assert_eq!((sink.get("b").gap, sink.get("b").kind), (Some(Gap::Vanished), Kind::File));
    assert_eq!((sink.get("c").gap, sink.get("c").kind), (Some(Gap::Vanished), Kind::Directory));

    // Root reads everything, so that only others see this gap.
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o000)).expect("mode");
        let mut sink = Memory::default();
        capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
        assert_eq!(sink.get("a").gap, Some(Gap::Unreadable(13)));
    }
}

#[test]
fn a_cancelled_capture_ends() {
    let root = tempfile::tempdir().expect("folder");
    let context = CaptureContext { spool: root.path(), cancel: &AtomicBool::new(true) };
    let error =
        build(FilesTable::new(root.path())).capture(&mut Memory::default(), &context).expect_err("cancelled");
    assert!(matches!(*error.cause, Cause::Cancelled));
}

#[test]
fn paths_may_be_longer_than_any_system_call_takes() {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let root = tempfile::tempdir().expect("folder");
    let mut folder =
        openat(CWD, root.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opens");
    let name = "a-folder-with-a-name-of-some-length";
    let levels = 300;
    for _ in 0..levels {
        // One that comes after what lies below, so that the walk needs the handle again.
        for file in ["z", "before"] {
            let made = openat(&folder, file, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("file");
            std::fs::File::from(made).write_all(file.as_bytes()).expect("writes");
        }
        mkdirat(&folder, name, Mode::RWXU).expect("folder");
        folder = openat(&folder, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opens");
    }
    drop(folder);
    let mut sink = Memory::default();
    capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    assert_eq!((sink.gaps(), sink.entries.len()), (0, 1 + levels * 3));
    assert!(sink.entries.iter().any(|entry| entry.path.len() > 10_000));
    assert!(sink.content.iter().all(|(path, content)| path.ends_with(content)));
}

#[test]
fn of_a_marked_cache_only_the_mark_is_kept() {
    let root = tempfile::tempdir().expect("folder");
    for path in ["real/data", "real/CACHEDIR.TAG", "false/data", "false/CACHEDIR.TAG"] {
        write(root.path(), path);
    }
    let signature = b"Signature: 8a477f597d28d172789f06886806bc55\n# more";
    fs::write(root.path().join("real/CACHEDIR.TAG"), signature).expect("written");
    for (skip_caches, count) in [(true, 6), (false, 7)] {
        let mut sink = Memory::default();
        let table = FilesTable { skip_caches, ..FilesTable::new(root.path()) };
        capture(&*build(table), &mut sink, root.path()).expect("captures");
        assert_eq!(sink.entries.len(), count, "{:?}", sink.paths());
        assert!(sink.paths().contains(&"real/CACHEDIR.TAG".to_owned()));
        assert!(sink.paths().contains(&"false/data".to_owned()));
    }
}

#[test]
fn a_folder_mounted_beneath_itself_is_entered_once() {
    let root = tempfile::tempdir().expect("folder");
    write(root.path(), "a/file");
    fs::create_dir(root.path().join("a/loop")).expect("folder");
    let mount = |program: &str, paths: &[&Path]| {
        let done = std::process::Command::new(program).args(paths).output();
        done.is_ok_and(|done| done.status.success())
    };
    let (folder, inside) = (root.path().join("a"), root.path().join("a/loop"));
    if !mount("mount", &[Path::new("--bind"), &folder, &inside]) {
        // Only root may mount; whoever may not meets no such loop of his own making.
        assert!(!rustix::process::geteuid().is_root() || !Path::new("/proc/self/ns/mnt").exists());
        return;
    }
    let mut sink = Memory::default();
    let captured = capture(&*build(FilesTable::new(root.path())), &mut sink, root.path());
    assert!(mount("umount", &[&inside]));
    captured.expect("captures");
    assert_eq!(sink.paths(), ["", "a", "a/file", "a/loop"]);
    assert_eq!(sink.get("a/loop").gap, Some(Gap::Unreadable(40)));
}

#[test]
fn complete_files_come_with_a_stamp() {
    let root = tempfile::tempdir().expect("folder");
    for path in ["a", "b"] {
        write(root.path(), path);
    }
    let mut sink = Memory::default();
    capture(&*build(FilesTable::new(root.path())), &mut sink, root.path()).expect("captures");
    assert_eq!(sink.stamped, 2);
    let (sink, _) = captured_while_growing(u32::MAX);
    assert_eq!(sink.stamped, 0, "what changed meanwhile is read again the next time");
}
