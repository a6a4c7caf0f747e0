//! Whoever is not root gets everything but owners and devices, and is told.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use muster_share::entry::{Entry, Kind};

use super::super::fixture::{Fixture, file, folder, name, symlink};
use super::child::program;
use super::{request, run};

/// Nobody's number on every Linux.
const NOBODY: u32 = 65_534;

#[test]
fn somebody_else_recovers_without_owners_and_devices() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().expect("folder");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    // Where it was built may be closed to others.
    let exe = place.path().join("tests");
    fs::copy(std::env::current_exe().expect("a test program"), &exe).expect("copied");
    let mut child = program(&exe, "recover::tests::unprivileged::recovers");
    child.uid(NOBODY).gid(NOBODY).env("TMPDIR", place.path()).current_dir(place.path());
    child.env("MUSTER_TEST_NOBODY", "1");
    assert!(child.status().expect("runs").success());
    assert!(place.path().join("ran").is_file(), "it was run and not only begun");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs it as somebody else"]
async fn recovers() {
    if std::env::var_os("MUSTER_TEST_NOBODY").is_none() {
        return;
    }
    let device = Entry { device: Some((1, 3)), ..Entry::new(b"null".to_vec(), Kind::CharDevice, 0o666) };
    let set_id = Entry { mode: 0o6755, ..Entry::new(b"tool".to_vec(), Kind::File, 0) };
    let own = Entry { uid: NOBODY, gid: NOBODY, mode: 0o4711, ..Entry::new(b"own".to_vec(), Kind::File, 0) };
    let closed = Entry { mode: 0o500, ..Entry::new(b"closed".to_vec(), Kind::Directory, 0) };
    let pipe = Entry { uid: NOBODY, gid: NOBODY, ..Entry::new(b"pipe".to_vec(), Kind::Fifo, 0o640) };
    let mut fixture = Fixture::new().await;
    let items = vec![
        folder(""),
        (closed, Vec::new()),
        file("closed/inside", b"x".to_vec()),
        symlink("link", "/nowhere"),
        (device, Vec::new()),
        (own, Vec::new()),
        (pipe, Vec::new()),
        (set_id, Vec::new()),
    ];
    fixture.round(vec![(name("a"), vec![("files", items)])], &["b"]).await;
    let outcome = run(&request(&fixture, fixture.target("into"))).await.expect("recovered");
    let (_, a) = &outcome.services[0];
    assert_eq!((a.files, a.others, a.lost), (3, 4, 0), "{a:?}");
    // The root, `closed`, what is in it, the link, the tool.
    assert_eq!(a.owners_left, 5);
    let told = |path: &str, what: &str| {
        a.warnings.iter().any(|(at, why)| at == path.as_bytes() && why.contains(what))
    };
    assert!(told("files/null", "root") && told("files/tool", "set-user-id"), "{:?}", a.warnings);
    assert_eq!(a.warnings.len(), 2);
    let meta = |path: &str| fixture.target("into/a/files").join(path).symlink_metadata();
    let mode = |path: &str| meta(path).expect("there").mode() & 0o7777;
    assert!(meta("null").is_err() && meta("pipe").expect("there").file_type().is_fifo());
    assert_eq!((mode("tool"), mode("own"), mode("closed"), mode("pipe")), (0o755, 0o4711, 0o500, 0o640));
    // Or the temporary folder cannot be removed.
    let closed = fixture.target("into/a/files/closed");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).expect("opened");
    fs::write(std::env::temp_dir().join("ran"), b"").expect("told");
}
