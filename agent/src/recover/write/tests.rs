//! The writer makes nothing outside its target, and gives names last.

use super::super::existing::Meeting;
use super::super::path::SafePath;
use super::super::plan::Step;
use super::{Folder, FolderMade, Linked, OpenFolders, Published, Root, Writer};
use muster_share::entry::{Entry, Kind};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn writer(meeting: Meeting) -> Writer {
    Writer::new(meeting, [7; 16])
}

fn root(writer: &Writer, folder: &Path) -> Arc<Root> {
    let parent = OwnedFd::from(fs::File::open(folder).expect("folder"));
    writer.root(&parent, folder, "target").expect("target")
}

fn at(root: &Arc<Root>, path: &[u8]) -> Arc<Folder> {
    Arc::new(Folder { root: Arc::clone(root), path: path.to_vec(), blocked: false })
}

fn entry(kind: Kind) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Entry { uid, gid, mtime_secs: 1_000_000_000, ..Entry::new(Vec::new(), kind, 0o644) }
}

/// Without the planner, too, a link within the target leads nowhere.
#[test]
fn links_are_never_followed() {
    for part_by_part in [false, true] {
        let folder = tempfile::tempdir().expect("folder");
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("deep")).expect("folder");
        fs::write(outside.join("file"), b"untouched").expect("file");
        let writer = writer(Meeting::Fresh);
        let root = root(&writer, folder.path());
        root.no_openat2.store(part_by_part, Ordering::Relaxed);
        let (open, top) = (&mut OpenFolders::default(), at(&root, b""));
        for (name, to) in [(&b"link"[..], &b"../outside"[..]), (b"file-link", b"../outside/file")] {
            let step = Step::Symlink { target: to.to_vec() };
            let made = writer.make_node(open, top.place(name), &step, &entry(Kind::Symlink)).expect("link");
            assert_eq!(made, Some(Published::Done));
        }
        let through = at(&root, b"link");
        let deeper = at(&root, b"link/deep");
        writer.create_file(open, through.place(b"new")).expect_err("through a link");
        writer.create_file(open, deeper.place(b"new")).expect_err("through a link further up");
        writer.make_folder(open, through.place(b"x")).expect_err("through a link");
        writer.finish_folder(&through, &entry(Kind::Directory)).expect_err("through a link");
        for target in [&b"file-link"[..], b"link/file", b"absent", b"link"] {
            let target = SafePath::parse(target).expect("safe");
            assert_eq!(writer.hard_link(open, top.place(b"hard"), &target).expect("tells"), Linked::NoTarget);
        }
        let file = writer.create_file(open, top.place(b"file-link")).expect("a temporary name");
        writer
            .finish_file(open, top.place(b"file-link"), &file, &entry(Kind::File))
            .expect_err("onto a link");
        assert_eq!(fs::read(outside.join("file")).expect("reads"), b"untouched");
        assert_eq!(fs::read_dir(&outside).expect("lists").count(), 2);
        assert_eq!(fs::read_dir(outside.join("deep")).expect("lists").count(), 0);
    }
}

#[test]
fn files_are_closed_and_nameless_until_finished() {
    let folder = tempfile::tempdir().expect("folder");
    let target = folder.path().join("target");
    let writer = writer(Meeting::Fresh);
    let root = root(&writer, folder.path());
    let (open, top) = (&mut OpenFolders::default(), at(&root, b""));
    let mut file = writer.create_file(open, top.place(b"secret")).expect("creates");
    std::io::Write::write_all(&mut file, b"half").expect("writes");
    let only = || {
        let mut names = fs::read_dir(&target).expect("lists").map(|item| item.expect("item").path());
        let first = names.next().expect("something");
        assert!(names.next().is_none());
        first
    };
    let mode = |path: &Path| fs::metadata(path).expect("stat").mode() & 0o7777;
    assert_eq!((mode(&target), mode(&only())), (0o700, 0o600));
    assert_ne!(only(), target.join("secret"));
    let again = writer.create_file(open, top.place(b"secret")).expect("what is left is removed");
    assert_eq!(again.metadata().expect("stat").len(), 0);
    let named = writer.finish_file(open, top.place(b"secret"), &again, &entry(Kind::File)).expect("finishes");
    assert_eq!((named, only()), (Published::Done, target.join("secret")));
    assert_eq!(mode(&target.join("secret")), 0o644);
    drop(writer.create_file(open, top.place(b"other")).expect("creates"));
    writer.abandon(open, top.place(b"other"));
    assert_eq!(only(), target.join("secret"));
}

#[test]
fn folders_are_never_replaced_and_links_in_their_place_are() {
    for meeting in [Meeting::Resume { believed: true }, Meeting::Replace, Meeting::Keep] {
        let folder = tempfile::tempdir().expect("folder");
        let target = folder.path().join("target");
        fs::create_dir_all(target.join("folder/kept")).expect("folder");
        symlink("/tmp", target.join("link")).expect("link");
        let writer = writer(meeting);
        let root = root(&writer, folder.path());
        let (open, top) = (&mut OpenFolders::default(), at(&root, b""));
        let file = writer.create_file(open, top.place(b"folder")).expect("creates");
        let named = writer.finish_file(open, top.place(b"folder"), &file, &entry(Kind::File)).expect("tells");
        assert!(target.join("folder/kept").is_dir(), "{meeting:?}");
        let made = writer.make_folder(open, top.place(b"link")).expect("tells");
        let is_link = target.join("link").is_symlink();
        if meeting == Meeting::Keep {
            assert_eq!((named, made, is_link), (Published::Stays, FolderMade::Blocked, true));
        } else {
            assert_eq!((named, made, is_link), (Published::InTheWay, FolderMade::Dress, false));
        }
        assert_eq!(fs::read_dir(&target).expect("lists").count(), 2, "no temporary is left");
    }
}

#[test]
fn what_the_file_system_refuses_of_attributes_is_a_warning() {
    let folder = tempfile::tempdir().expect("folder");
    let writer = writer(Meeting::Fresh);
    let root = root(&writer, folder.path());
    let (open, top) = (&mut OpenFolders::default(), at(&root, b""));
    let file = writer.create_file(open, top.place(b"file")).expect("creates");
    let bytes = |bytes: &[u8]| serde_bytes::ByteBuf::from(bytes);
    let entry = Entry { xattrs: vec![(bytes(b"nonsense"), bytes(b"x"))], ..entry(Kind::File) };
    writer.finish_file(open, top.place(b"file"), &file, &entry).expect("finishes all the same");
    let (warnings, more) = writer.warnings();
    assert_eq!((warnings.len(), more), (1, 0));
    assert!(warnings[0].0 == b"target/file" && warnings[0].1.contains("nonsense"), "{warnings:?}");
}

/// A path longer than the system takes at once.
#[test]
fn deep_folders_are_found_again() {
    for part_by_part in [false, true] {
        let folder = tempfile::tempdir().expect("folder");
        let writer = writer(Meeting::Fresh);
        let root = root(&writer, folder.path());
        root.no_openat2.store(part_by_part, Ordering::Relaxed);
        let open = &mut OpenFolders::default();
        let name = [b'n'; 200];
        let mut current = at(&root, b"");
        for _ in 0..60 {
            writer.make_folder(open, current.place(&name)).expect("makes");
            current = at(&root, &current.join(&name));
        }
        assert!(current.path.len() > 10_000);
        let fresh = &mut OpenFolders::default();
        let file = writer.create_file(fresh, current.place(b"file")).expect("creates");
        writer.finish_file(fresh, current.place(b"file"), &file, &entry(Kind::File)).expect("finishes");
        let closed = Entry { mode: 0o500, ..entry(Kind::Directory) };
        writer.finish_folder(&current, &closed).expect("finishes");
        let there = fs::File::from(root.open(&current.path).expect("opens"));
        assert_eq!(there.metadata().expect("stat").permissions().mode() & 0o7777, 0o500);
        // What removes the temporary folder takes deep ones part by part.
        drop(writer.finish_folder(&current, &Entry { mode: 0o700, ..entry(Kind::Directory) }));
    }
}
