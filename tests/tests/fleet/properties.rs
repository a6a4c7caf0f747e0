//! Random trees, captured and recovered, changed at random and captured again: nothing that a file system holds is lost.
//!
//! A failing seed is printed; `MUSTER_SEED=<it>` runs that one alone, `MUSTER_SEEDS=<n>` as many as wanted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use muster_tests::fleet::{Fleet, text};
use muster_tests::tree;

/// Seeds of an ordinary run.
const SEEDS: u64 = 4;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a length")
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

struct Failing(u64);

impl Drop for Failing {
    #[expect(clippy::print_stderr, reason = "the seed is what a failed run is repeated with")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with MUSTER_SEED={}", self.0);
        }
    }
}

#[test]
fn random_trees_come_back_and_so_do_their_changes() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seeds = number("MUSTER_SEEDS").unwrap_or(SEEDS);
    for seed in number("MUSTER_SEED").map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let failing = Failing(seed);
        capture_change_and_recover(seed);
        drop(failing);
    }
}

fn capture_change_and_recover(seed: u64) {
    let mut random = Random(seed);
    let data = tempfile::TempDir::new().expect("folder");
    let source = data.path().join("tree");
    let mut grown = Grown { root: source.clone(), owners: is_root(), marks: takes_xattrs(data.path()) };
    fs::create_dir(&source).expect("the root");
    grown.grow(&mut random);
    let mut fleet = Fleet::init(&[format!("config=files:{}", text(&source))]);
    fleet.set("MUSTER_ENGINE_CHUNK", random.one(&["4KiB", "32KiB", "256KiB"]));
    fleet.set("MUSTER_ENGINE_PACK", random.one(&["1MiB", "16MiB"]));
    fleet.set("MUSTER_ENGINE_WORKERS", random.one(&["1", "2", "3"]));
    let once = |fleet: &Fleet| {
        let said = fleet.run(&["once", &text(&fleet.dir()), "--json"]).with_code(0).json();
        assert_eq!((&said["outcome"], &said["state"]), (&"complete".into(), &"verified".into()), "{said}");
    };
    once(&fleet);
    let before = fleet.path("before");
    let status = Command::new("cp").arg("-a").arg(&source).arg(&before).status().expect("cp runs");
    assert!(status.success());
    for _ in 0..2 {
        grown.change(&mut random);
        once(&fleet);
        let out = fleet.path("out");
        let _ = fs::remove_dir_all(&out);
        let _ = fleet.recover(&out).with_code(0);
        same(&source, &out.join("config/files"));
    }
    let (share, kit, out) = (text(&fleet.share()), text(&fleet.kit()), fleet.path("first"));
    let args = ["recover", "--share", &share, "--kit", &kit, "--round", "1", "--into", &text(&out)];
    let _ = fleet.run(&args).with_code(0);
    same(&before, &out.join("config/files"));
}

/// Content and metadata, extended attributes among them.
fn same(want: &Path, have: &Path) {
    tree::assert_same(want, have);
    assert_eq!(marks(want), marks(have), "extended attributes and kinds");
}

/// Kind, and every attribute of a user, of each path.
fn marks(root: &Path) -> BTreeMap<PathBuf, (u32, BTreeMap<OsString, Vec<u8>>)> {
    walk(root)
        .into_iter()
        .map(|path| {
            let kind = fs::symlink_metadata(&path).expect("metadata").mode() & 0o170_000;
            let names = xattr::list(&path).into_iter().flatten();
            let all = names
                .filter(|name| name.as_bytes().starts_with(b"user."))
                .map(|name| (name.clone(), xattr::get(&path, &name).expect("readable").unwrap_or_default()))
                .collect();
            (path.strip_prefix(root).expect("below").to_owned(), (kind, all))
        })
        .collect()
}

/// Every path beneath a root and the root, parents first, sorted.
fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut all, mut folders) = (vec![root.to_owned()], vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if fs::symlink_metadata(&path).expect("metadata").is_dir() {
                folders.push(path.clone());
            }
            all.push(path);
        }
    }
    all.sort();
    all
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn takes_xattrs(folder: &Path) -> bool {
    xattr::set(folder, "user.probe", b"1").is_ok() && xattr::remove(folder, "user.probe").is_ok()
}

/// A tree that grows and changes.
struct Grown {
    root: PathBuf,
    /// Whether files may be given away.
    owners: bool,
    /// Whether the file system takes extended attributes.
    marks: bool,
}

impl Grown {
    fn grow(&mut self, random: &mut Random) {
        for _ in 0..20 + random.below(40) {
            self.add(random);
        }
        self.dress(random, 60);
    }

    /// Changes of every kind, some of which leave length and modification time as they were.
    fn change(&mut self, random: &mut Random) {
        let mut files = walk(&self.root);
        files.retain(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0));
        if !files.is_empty() {
            overwrite_unseen(&random.one(&files), random);
        }
        for _ in 0..5 + random.below(12) {
            let all = walk(&self.root);
            let path = random.one(&all);
            if path == self.root {
                self.add(random);
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("metadata");
            match random.below(7) {
                0 if meta.is_dir() => fs::remove_dir_all(&path).expect("removed"),
                0 => fs::remove_file(&path).expect("removed"),
                1 if meta.is_file() => overwrite_unseen(&path, random),
                2 if meta.is_file() => {
                    let len = meta.len() / 2 + random.next() % 5_000;
                    open(&path).set_len(len).expect("a new length");
                }
                3 => {
                    let to = self.folder(random).join(name(random));
                    // Into itself, or over another: refused, and nothing has changed.
                    let _ = fs::rename(&path, to);
                }
                4 if !meta.is_dir() => {
                    fs::remove_file(&path).expect("removed");
                    fs::create_dir(&path).expect("a folder where a file was");
                }
                5 if meta.is_file() => {
                    let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
                    file.write_all(&tree::noise(random.next(), random.below(40_000))).expect("appended");
                }
                _ => self.add(random),
            }
        }
        self.dress(random, 15);
    }

    fn folder(&self, random: &mut Random) -> PathBuf {
        let mut folders = walk(&self.root);
        folders.retain(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()));
        random.one(&folders)
    }

    fn add(&self, random: &mut Random) {
        let path = self.folder(random).join(name(random));
        if fs::symlink_metadata(&path).is_ok() {
            return;
        }
        match random.below(12) {
            0..=2 => fs::create_dir(&path).expect("a folder"),
            3 => {
                let targets: [&[u8]; 5] = [b"one", b"../..", b"/nowhere", b"\xff\xfe", b"a b\n"];
                symlink(OsStr::from_bytes(targets[random.below(targets.len())]), &path).expect("a link");
            }
            4 => {
                let mut files = walk(&self.root);
                files.retain(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()));
                if !files.is_empty() {
                    fs::hard_link(random.one(&files), &path).expect("a hard link");
                }
            }
            5 => {
                let status = Command::new("mkfifo").arg("--").arg(&path).status().expect("mkfifo runs");
                assert!(status.success());
            }
            6 => holes(&path, random),
            _ => fs::write(&path, content(random)).expect("a file"),
        }
    }

    /// Gives some of the entries modes, owners, attributes and times of their own; folders last, from the deepest on.
    fn dress(&self, random: &mut Random, chance: usize) {
        for path in walk(&self.root).into_iter().rev() {
            let meta = fs::symlink_metadata(&path).expect("metadata");
            let plain = meta.is_file() || meta.is_dir();
            if !random.percent(chance) {
                continue;
            }
            if self.owners && random.percent(50) {
                let owner = u32::try_from(random.below(3) * 1000).expect("small");
                std::os::unix::fs::lchown(&path, Some(owner), Some(owner + 1)).expect("given away");
            }
            if self.marks && plain && random.percent(40) {
                let mark = format!("user.mark-{}", random.below(3));
                xattr::set(&path, mark, &tree::noise(random.next(), random.below(200)))
                    .expect("an attribute");
            }
            if !meta.is_symlink() {
                let least = if meta.is_dir() { 0o700 } else { 0o400 };
                let mode = u32::try_from(random.below(0o10000)).expect("small") | least;
                fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
            }
            if plain {
                let secs = Duration::new(
                    random.next() % 4_000_000_000,
                    u32::try_from(random.below(1_000_000_000)).expect("nanoseconds"),
                );
                let time = if random.percent(10) { UNIX_EPOCH - secs / 8 } else { UNIX_EPOCH + secs };
                File::open(&path).and_then(|file| file.set_modified(time)).expect("a time");
            }
        }
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).expect("opens for writing")
}

/// Other bytes of the same length under the same modification time: only the time of change tells.
fn overwrite_unseen(path: &Path, random: &mut Random) {
    let file = open(path);
    let meta = file.metadata().expect("metadata");
    let len = usize::try_from(meta.len().min(60_000)).expect("short");
    let at = random.next() % (meta.len() + 1 - len as u64);
    file.write_all_at(&tree::noise(random.next(), len), at).expect("written");
    file.set_times(FileTimes::new().set_modified(meta.modified().expect("a time"))).expect("a time");
}

fn holes(path: &Path, random: &mut Random) {
    let mut file = File::create(path).expect("a file");
    for _ in 0..random.below(4) {
        let far = i64::try_from(random.below(40) * 65_536).expect("small");
        file.seek(SeekFrom::Current(far)).expect("a hole");
        file.write_all(&tree::noise(random.next(), random.below(9_000))).expect("written");
    }
    let end = file.stream_position().expect("a position") + random.next() % 3_000_000;
    file.set_len(end).expect("a hole at the end");
}

fn content(random: &mut Random) -> Vec<u8> {
    let len = match random.below(5) {
        0 => 0,
        1 => random.below(100),
        2 | 3 => random.below(20_000),
        _ => random.below(700_000),
    };
    match random.below(3) {
        0 => format!("line {}\n", random.below(50)).repeat(len / 8).into_bytes(),
        // Few different ones, so that chunks repeat.
        1 => tree::noise(random.below(4) as u64, len),
        _ => tree::noise(random.next(), len),
    }
}

fn name(random: &mut Random) -> OsString {
    let fixed: [&[u8]; 12] = [
        b"one",
        b" ",
        b"-rf",
        b"...",
        b"a\nb",
        b"\xff\xfe",
        b"*",
        b"\\",
        b"caf\xc3\xa9",
        b"CON",
        b"\x01\x7f",
        b"~",
    ];
    let mut bytes = match random.below(4) {
        0 => random.one(&fixed).to_vec(),
        1 => vec![b'n'; 1 + random.below(250)],
        _ => tree::noise(random.next(), 1 + random.below(12)),
    };
    bytes.iter_mut().filter(|byte| matches!(**byte, 0 | b'/')).for_each(|byte| *byte = b'_');
    if bytes == b"." || bytes == b".." {
        bytes.push(b'x');
    }
    OsString::from_vec(bytes)
}
