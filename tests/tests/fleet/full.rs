//! A share that is full in mid-slice, on a file system of its own that really has no more room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::skip;
use muster_tests::tree;

/// Size of the file system, and bytes of something else on it: the first round fits beside that, the second does not.
const ROOM: &str = "96m";
const BALLAST: usize = 72 << 20;

/// A tmpfs, gone when this is.
pub(crate) struct Small(PathBuf);

impl Small {
    /// Mounts one; `None` where this process may not.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("folder");
        let size = format!("size={ROOM}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mount.is_ok_and(|out| out.status.success()).then(|| Self(at.to_owned()))
    }

    /// Mounts it again as `ro` or `rw`; false while the kernel cannot, because somebody is just writing.
    pub(crate) fn remount(&self, how: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.0).stderr(Stdio::null());
        mount.status().expect("mount runs").success()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(std::thread::panicking() || gone.is_ok_and(|status| status.success()), "it is unmounted");
    }
}

/// Whether this test runs where it may mount; if not, it runs itself once more in a user namespace of its own.
pub(crate) fn elsewhere(test: &str) -> bool {
    const WITHIN: &str = "MUSTER_TEST_WITHIN";
    let at = tempfile::TempDir::new().expect("folder");
    if Small::mount(&at.path().join("probe")).is_some() {
        return false;
    }
    let exe = std::env::current_exe().expect("a test has a path");
    let within = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", program]).env(WITHIN, "1");
        command
    };
    let may = std::env::var_os(WITHIN).is_none() && within("true").status().is_ok_and(|s| s.success());
    if may {
        let status =
            within(&text(&exe)).args(["--exact", test, "--nocapture"]).status().expect("unshare runs");
        assert!(status.success(), "it failed within a namespace");
    } else {
        skip("neither root nor user namespaces may mount here");
    }
    true
}

/// Every file on the share.
fn objects(share: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(share).expect("listed").flatten() {
        let path = item.path();
        if path.is_dir() { found.extend(objects(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_share_that_fills_up_in_mid_slice_loses_nothing_and_goes_on_with_room() {
    if elsewhere("full::a_share_that_fills_up_in_mid_slice_loses_nothing_and_goes_on_with_room") {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    let (source, mounted) = (data.path().join("tree"), data.path().join("small"));
    tree::small(&source, 1);
    fs::write(source.join("first"), tree::noise(1, 8_000_000)).expect("file");
    let small = Small::mount(&mounted).expect("it was possible a moment ago");
    let ballast = mounted.join("ballast");
    fs::write(&ballast, vec![0; BALLAST]).expect("it fits");
    // The share lies in the small file system, whatever `init` calls it.
    let mut fleet = Fleet::init_on(&mounted.join("share"), &[format!("config=files:{}", text(&source))]);
    fleet.set("MUSTER_ROUND_DEADLINE", "20s");
    let once = |fleet: &Fleet| fleet.run(&["once", &text(&fleet.dir())]);
    let _ = once(&fleet).with_code(0);
    let before = fleet.path("before");
    let copied = Command::new("cp").arg("-a").arg(&source).arg(&before).status().expect("cp");
    assert!(copied.success());

    fs::write(source.join("second"), tree::noise(2, 40_000_000)).expect("file");
    let full = once(&fleet);
    let said = format!("{}{}", full.out, full.err);
    assert_ne!(full.code, 0, "{said}");
    assert!(said.contains("SHARE-05"), "the code: {said}");
    assert!(said.contains("No space left"), "the cause: {said}");
    assert!(said.contains("agents/config/"), "the object: {said}");
    assert!(said.contains("free or add space"), "the next step: {said}");

    let (share, kit) = (text(&fleet.share()), text(&fleet.kit()));
    let rounds = fleet.rounds();
    let committed =
        rounds.iter().filter(|round| round["outcome"] == "complete" || round["outcome"] == "partial");
    assert_eq!(committed.count(), 1, "what did not fit is no round: {rounds:?}");
    let verified = fleet.run(&["verify", "--share", &share, "--kit", &kit]).with_code(0);
    assert!(!verified.out.contains("damaged "), "{}", verified.out);
    let out = fleet.path("out");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&before, &out.join("config/files"));
    let mut whole = 0;
    // Whatever has an object's name is that object, whole: a torn one has none.
    for path in objects(&fleet.share().join("agents")) {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.parent().is_some_and(|folder| text(folder).contains("/packs")) && stem.len() == 64 {
            let sum = Command::new("sha256sum").arg(&path).output().expect("sha256sum");
            assert!(sum.stdout.starts_with(stem.as_bytes()), "{} is torn", path.display());
            whole += 1;
        }
    }

    assert!(whole > 0, "packs were looked at");

    fs::remove_file(&ballast).expect("there is room now");
    let _ = once(&fleet).with_code(0);
    let verified = fleet.run(&["verify", "--share", &share, "--kit", &kit]);
    let _ = verified.with_code(0);
    let out = fleet.path("again");
    let _ = fleet.recover(&out).with_code(0);
    tree::assert_same(&source, &out.join("config/files"));
    drop(fleet);
    drop(small);
}
