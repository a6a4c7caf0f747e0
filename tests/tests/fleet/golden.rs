//! Golden shares: one per format version, kept in the repository and read by every later version.
//!
//! `MUSTER_GOLDEN=write` makes the share of the current version anew; while `FORMAT` is 0 that is allowed, with a line
//! in the change log.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::muster;
use muster_tests::tree;

const LINES: &str = "one\ntwo\nthree\n";

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{version}"))
}

/// The tree as it was in the given round: always the same, to the mode and the time.
fn source(at: &Path, round: u32) {
    fs::create_dir_all(at.join("conf.d")).expect("folders");
    let files: [(&str, Vec<u8>, u32); 4] = [
        ("hosts", format!("127.0.0.1 localhost\n# round {round}\n").into_bytes(), 0o644),
        ("conf.d/secret", b"not really".to_vec(), 0o600),
        ("conf.d/empty", Vec::new(), 0o640),
        ("noise", tree::noise(42, 9_000), 0o755),
    ];
    for (name, bytes, mode) in files {
        let path = at.join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).expect("file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
    }
    let _ = fs::remove_file(at.join("link"));
    symlink("conf.d/../hosts", at.join("link")).expect("link");
    let _ = fs::remove_file(at.join("conf.d/same noise"));
    fs::hard_link(at.join("noise"), at.join("conf.d/same noise")).expect("link");
    for name in ["hosts", "conf.d/secret", "conf.d/empty", "noise", "conf.d", "."] {
        let path = at.join(name);
        if path.is_dir() {
            fs::set_permissions(&path, Permissions::from_mode(0o750)).expect("mode");
        }
        let time = UNIX_EPOCH + Duration::new(1_700_000_000 + u64::from(round), 5);
        File::open(&path).and_then(|f| f.set_modified(time)).expect("time");
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp runs").success());
}

fn write(version: u32) {
    let data = tempfile::TempDir::new().expect("folder");
    source(&data.path().join("etc"), 1);
    let fleet = Fleet::init(&[
        format!("config=files:{}", text(&data.path().join("etc"))),
        r#"lines=command:["printf","one\\ntwo\\nthree\\n"]"#.to_owned(),
    ]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    source(&data.path().join("etc"), 2);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let to = golden(version);
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).expect("folder");
    copy(&fleet.share(), &to.join("share"));
    copy(&fleet.kit(), &to.join("kit"));
    fs::set_permissions(to.join("kit/recovery.key"), Permissions::from_mode(0o644)).expect("mode");
    // The page names folders of the machine that wrote it.
    fs::remove_file(to.join("kit/README.md")).expect("removed");
}

#[test]
fn shares_of_every_version_verify_and_recover() {
    if std::env::var_os("MUSTER_GOLDEN").is_some_and(|v| v == "write") {
        write(muster_share::log::FORMAT_VERSION);
    }
    for version in 0..=muster_share::log::FORMAT_VERSION {
        let work = tempfile::TempDir::new().expect("folder");
        copy(&golden(version).join("share"), &work.path().join("share"));
        copy(&golden(version).join("kit"), &work.path().join("kit"));
        fs::set_permissions(work.path().join("kit/recovery.key"), Permissions::from_mode(0o600))
            .expect("mode");
        let (share, kit) = (text(&work.path().join("share")), text(&work.path().join("kit")));
        let _ = muster(["verify", "--share", &share, "--kit", &kit]).with_code(0);
        for round in [1, 2] {
            let (out, want) =
                (work.path().join(format!("out-{round}")), work.path().join(format!("want-{round}")));
            source(&want, round);
            let number = round.to_string();
            let args =
                ["recover", "--share", &share, "--kit", &kit, "--round", &number, "--into", &text(&out)];
            let _ = muster(args).with_code(0);
            tree::assert_same(&want, &out.join("config/files"));
            assert_eq!(fs::read_to_string(out.join("lines/command/output")).expect("dump"), LINES);
        }
    }
}
