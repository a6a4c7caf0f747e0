//! `recover` into a folder that is not empty: after a crash, over what is there, beside what is there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, wait_for};
use muster_tests::tree;

/// What tells an unfinished recovery, and what it names things before they are whole.
const TEMPORARY: &str = "/.muster";

struct Backed {
    fleet: Fleet,
    data: tempfile::TempDir,
}

/// A fleet of one service with one committed round of `files` small files in 40 folders.
fn backed(files: u64) -> Backed {
    let data = tempfile::TempDir::new().expect("folder");
    for n in 0..files {
        let folder = data.path().join(format!("{:02}", n % 40));
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join(n.to_string()), tree::noise(n + 1, 4_000)).expect("file");
    }
    let fleet = Fleet::init(&[format!("config=files:{}", text(data.path()))]);
    let backed = Backed { fleet, data };
    backed.once();
    backed
}

impl Backed {
    fn once(&self) {
        let _ = self.fleet.run(&["once", &text(&self.fleet.dir())]).with_code(0);
    }

    fn args(&self, into: &Path, more: &[&str]) -> Vec<String> {
        let (share, kit, into) = (text(&self.fleet.share()), text(&self.fleet.kit()), text(into));
        let args = ["recover", "--share", &share, "--kit", &kit, "--into", &into];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    fn recover(&self, into: &Path, more: &[&str]) -> Said {
        self.fleet.run(&self.args(into, more))
    }

    /// Begins a recovery and kills it when some files have their names and others have not.
    fn killed(&self, into: &Path) {
        for _ in 0..20 {
            drop(fs::remove_dir_all(into));
            let mut running = self.fleet.spawn(&self.args(into, &[]), "recover.log");
            wait_for("the first files are there", || {
                (!running.is_running() || !named(into).is_empty()).then_some(())
            });
            running.kill();
            if into.join(".muster-recovery").exists() && !named(into).is_empty() {
                return;
            }
        }
        panic!("it was always too fast to be killed");
    }
}

/// Everything below a folder that is no folder, whatever is going on there.
fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(root).into_iter().flatten().flatten() {
        let path = item.path();
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&path))
        } else {
            found.push(path)
        }
    }
    found
}

/// What has its own name by now.
fn named(root: &Path) -> Vec<PathBuf> {
    below(root).into_iter().filter(|path| !text(path).contains(TEMPORARY)).collect()
}

fn nothing_temporary(root: &Path) {
    let left: Vec<_> = below(root).into_iter().filter(|path| text(path).contains(TEMPORARY)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_recovery_that_was_killed_goes_on_and_gives_every_byte() {
    let b = backed(3_000);
    let into = b.fleet.path("out");
    b.killed(&into);
    let named = named(&into);
    assert!(!named.is_empty() && named.len() < 3_000, "{} files", named.len());
    let inodes: Vec<_> = named.iter().map(|path| path.metadata().expect("there").ino()).collect();

    // Without being told to go on, it touches nothing.
    let refused = b.recover(&into, &[]).with_code(2);
    assert!(refused.err.contains("--resume"), "{}", refused.err);
    let resumed = b.recover(&into, &["--resume", "--json"]).with_code(0).json();
    let kept = resumed["services"][0]["kept"].as_u64().expect("kept");
    assert!(kept >= named.len() as u64, "{kept} of {} were believed", named.len());
    let again: Vec<_> = named.iter().map(|path| path.metadata().expect("there").ino()).collect();
    assert_eq!(inodes, again, "what was finished was not made again");

    let whole = b.fleet.path("whole");
    let _ = b.recover(&whole, &[]).with_code(0);
    tree::assert_same(&whole.join("config/files"), &into.join("config/files"));
    tree::assert_same(b.data.path(), &into.join("config/files"));
    nothing_temporary(&into);
}

#[test]
fn another_round_does_not_go_on_with_it() {
    let b = backed(3_000);
    let into = b.fleet.path("out");
    b.killed(&into);
    let before = below(&into);
    fs::write(b.data.path().join("new"), b"new").expect("file");
    b.once();
    let refused = b.recover(&into, &["--resume"]).with_code(2);
    assert!(refused.err.contains("cannot be resumed") && refused.err.contains("round 1"), "{}", refused.err);
    assert!(refused.err.contains("--round"), "the next step: {}", refused.err);
    assert_eq!(below(&into), before, "nothing was touched");
    let _ = b.recover(&into, &["--resume", "--round", "1"]).with_code(0);
    fs::remove_file(b.data.path().join("new")).expect("removed");
    let have = below(&into.join("config/files")).len();
    assert_eq!(have, below(b.data.path()).len());
    nothing_temporary(&into);

    // What no recovery has begun cannot be gone on with.
    let other = b.fleet.path("other");
    fs::create_dir(&other).expect("folder");
    fs::write(other.join("mine"), b"mine").expect("file");
    let refused = b.recover(&other, &["--resume"]).with_code(2);
    assert!(refused.err.contains("no unfinished recovery"), "{}", refused.err);
    assert_eq!(below(&other), [other.join("mine")]);
}

#[test]
fn what_is_there_is_refused_kept_or_replaced_as_asked() {
    let b = backed(80);
    let into = b.fleet.path("out");
    let files = into.join("config/files");
    fs::create_dir_all(files.join("00")).expect("folder");
    let (there, foreign) = (files.join("00/0"), files.join("00/mine"));
    fs::write(&there, b"older").expect("file");
    fs::write(&foreign, b"mine").expect("file");
    // A folder is where a file belongs.
    fs::create_dir_all(files.join("01/1/within")).expect("folder");
    let before = below(&into);

    for refuse in [&[][..], &["--existing", "refuse"]] {
        let refused = b.recover(&into, refuse).with_code(2);
        for part in ["is not an empty folder", "--resume", "--existing keep", "--existing replace"] {
            assert!(refused.err.contains(part), "{part}: {}", refused.err);
        }
        assert_eq!(below(&into), before);
    }

    let kept = b.recover(&into, &["--existing", "keep", "--json"]).with_code(0).json();
    assert!(kept["services"][0]["kept"].as_u64().is_some_and(|kept| kept >= 2), "{kept}");
    assert_eq!(kept["services"][0]["files"], 78, "{kept}");
    assert_eq!(fs::read(&there).expect("there"), b"older");
    assert_eq!(fs::read(&foreign).expect("there"), b"mine");
    let source = |path: &str| fs::read(b.data.path().join(path)).expect("the source");
    assert_eq!(fs::read(files.join("02/2")).expect("made"), source("02/2"));

    let replaced = b.recover(&into, &["--existing", "replace"]).with_code(3);
    assert!(replaced.out.contains("1 entry: something else is in the place"), "{}", replaced.out);
    assert!(replaced.err.contains("01/1"), "it is named: {}", replaced.err);
    assert_eq!(fs::read(&there).expect("there"), source("00/0"));
    assert_eq!(fs::read(&foreign).expect("there"), b"mine", "what the round does not name stays");
    assert!(files.join("01/1/within").is_dir(), "folders are never removed");
    nothing_temporary(&into);

    fs::remove_dir_all(files.join("01/1")).expect("removed");
    fs::remove_file(&foreign).expect("removed");
    let _ = b.recover(&into, &["--existing", "replace"]).with_code(0);
    tree::assert_same(b.data.path(), &files);
}
