//! A stolen agent and a stolen coordinator commit rounds that are signed, hashed and wrong. Whoever recovers one gets
//! one clear error, no byte outside the target or beneath a wrong name, and needs little memory.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use muster_share::entry::{Entry, Extent, Kind};
use muster_share::lists::IndexedPack;
use muster_tests::fleet::{Fleet, text};
use muster_tests::fuzz::forge::Forge;
use muster_tests::process::{Said, binaries};
use muster_tests::tree;
use wait4::Wait4;

/// Most memory that recovering a hostile round takes, in bytes.
const MOST: u64 = 256 << 20;

/// What lies beside the target.
const KEPT: [&str; 8] = ["fleet", "share", "kit", "kit-root", "pristine", "out", "said.out", "said.err"];

struct Case {
    fleet: Fleet,
    data: tempfile::TempDir,
}

fn case() -> Case {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("config=files:{}", text(&data.path().join("tree")))]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    copy(&fleet.share(), &fleet.path("pristine"));
    Case { fleet, data }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs").success());
}

impl Case {
    /// The share as it was before anybody forged anything, and what the next round on it is made of.
    fn begin(&self) -> Forge {
        copy(&self.fleet.path("pristine"), &self.fleet.share());
        Forge::begin(&self.fleet, "config")
    }
}

/// Recovers the newest round; what was said, and the peak of memory in bytes.
fn recover(fleet: &Fleet, into: &Path) -> (Said, u64) {
    let _ = fs::remove_dir_all(into);
    let said = (fleet.path("said.out"), fleet.path("said.err"));
    let mut command = Command::new(binaries().join("muster"));
    command.args(["recover", "--share", &text(&fleet.share()), "--kit", &text(&fleet.kit())]);
    command.args(["--round", "latest", "--into", &text(into)]).stdin(Stdio::null());
    command
        .stdout(fs::File::create(&said.0).expect("a file"))
        .stderr(fs::File::create(&said.1).expect("a file"));
    let ended = command.spawn().expect("muster runs").wait4().expect("it ends");
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).expect("output")).into_owned();
    let code = ended.status.code().unwrap_or(-1);
    (Said { code, out: read(&said.0), err: read(&said.1) }, ended.rusage.maxrss)
}

/// The round was refused with an error that names the service, and whatever was written is honest.
fn refused(case: &Case, what: &str) {
    let out = case.fleet.path("out");
    let (said, peak) = recover(&case.fleet, &out);
    assert_eq!(said.code, 4, "{what}: out:\n{}\nerr:\n{}", said.out, said.err);
    let all = format!("{}{}", said.out, said.err);
    assert!(all.contains("config") && !all.contains("panicked"), "{what}: {all}");
    assert!(peak <= MOST, "{what}: {} MiB at its peak", peak >> 20);
    honest(&case.data.path().join("tree"), &out.join("config/files"));
    let strays: Vec<_> = fs::read_dir(case.fleet.path(""))
        .expect("the fleet's folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !KEPT.contains(&name.as_str()))
        .collect();
    assert!(strays.is_empty(), "{what}: written beside the target: {strays:?}");
}

/// Every file of `have` has the bytes of the same file of `want`.
fn honest(want: &Path, have: &Path) {
    let mut folders = vec![have.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("entry").path()) {
            let meta = fs::symlink_metadata(&path).expect("metadata");
            let original = want.join(path.strip_prefix(have).expect("below"));
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file() {
                assert_eq!(fs::read(&path).ok(), fs::read(&original).ok(), "{}", path.display());
            }
        }
    }
}

fn file(path: &str, extents: Vec<Extent>) -> Entry {
    let mut entry = Entry::new(path.as_bytes().to_vec(), Kind::File, 0o644);
    entry.size = extents.iter().map(Extent::length).fold(0, u64::saturating_add);
    entry.extents = extents;
    entry
}

/// Commits the honest entries with one more at their end.
fn with(case: &Case, make: impl FnOnce(&mut Forge) -> Entry) {
    let mut forge = case.begin();
    let mut entries = forge.entries();
    let entry = make(&mut forge);
    entries.push(entry);
    forge.commit(&entries);
}

#[test]
fn an_honest_forgery_recovers() {
    let case = case();
    with(&case, |forge| {
        let pack = forge.pack(&[b"hello ", b"there"]);
        file("zz", vec![Extent::Data { pack, offset: 3, length: 8 }, Extent::Hole { length: 2 }])
    });
    let out = case.fleet.path("out");
    let (said, _) = recover(&case.fleet, &out);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert_eq!(fs::read(out.join("config/files/zz")).expect("the file"), b"lo there\0\0");
}

#[test]
fn extents_that_lead_nowhere_are_refused() {
    type Place = fn(u64) -> (u64, u64, u64);
    let data = |pack, offset, length| Extent::Data { pack, offset, length };
    let places: [(&str, Place); 5] = [
        ("beyond the pack's end", |pack| (pack, 8, 4)),
        ("behind the pack", |pack| (pack, 1 << 40, 4)),
        ("over the end of numbers", |pack| (pack, u64::MAX - 1, 4)),
        ("as long as numbers go", |pack| (pack, 0, i64::MAX as u64)),
        ("in no pack", |pack| (pack + 50, 0, 4)),
    ];
    let case = case();
    for (what, place) in places {
        with(&case, |forge| {
            let pack = forge.pack(&[b"0123456789"]);
            let (pack, offset, length) = place(pack);
            file("zz", vec![data(pack, offset, length)])
        });
        refused(&case, what);
    }
    // The entry stream itself lies there.
    let mut forge = case.begin();
    let pack = forge.pack(&[b"0123456789"]);
    forge.index.entries = vec![data(pack, 4, 100)];
    forge.index.entries_bytes = 100;
    forge.commit_index();
    refused(&case, "an entry stream beyond its pack");
}

#[test]
fn bombs_and_lying_contents_are_refused_in_little_memory() {
    let case = case();
    let bombs: [(&str, usize, u32); 3] = [
        ("a frame of 512 MiB that claims to be small", 512 << 20, 100),
        ("a frame of 512 MiB that claims to be the longest", 512 << 20, 8 << 20),
        ("a short frame that claims to be the longest", 100, 8 << 20),
    ];
    for (what, len, claim) in bombs {
        with(&case, |forge| {
            let pack = forge.bomb(len, claim);
            file("zz", vec![Extent::Data { pack, offset: 0, length: u64::from(claim) }])
        });
        refused(&case, what);
    }
    let index = zstd::bulk::compress(&vec![0; 512 << 20], 3).expect("compresses");
    case.begin().commit_payload(&index);
    refused(&case, "an index of 512 MiB");
    with(&case, |forge| {
        let pack = forge.pack_of(b"no zstd, no contents, and short");
        file("zz", vec![Extent::Data { pack, offset: 0, length: 5 }])
    });
    refused(&case, "a pack of nothing");
}

#[test]
fn an_entry_of_many_extents_recovers() {
    let case = case();
    with(&case, |forge| {
        let pack = forge.pack(&[b"0123456789"]);
        let extents = (0..300_000).map(|at| Extent::Data { pack, offset: at * 7 % 10, length: 1 });
        file("zz", extents.collect())
    });
    let out = case.fleet.path("out");
    let (said, peak) = recover(&case.fleet, &out);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(peak <= MOST, "{} MiB", peak >> 20);
    let have = fs::read(out.join("config/files/zz")).expect("the file");
    let want: Vec<u8> = (0..300_000u32).map(|at| b"0123456789"[(at * 7 % 10) as usize]).collect();
    assert!(have == want, "{} bytes", have.len());
}

/// An agent that lost its memory believes its own receipt: one that lies must cost an upload, never a byte.
#[test]
fn a_lying_chunk_index_costs_an_upload_and_no_byte() {
    type Lie = fn(Vec<IndexedPack>) -> Vec<IndexedPack>;
    fn each(packs: Vec<IndexedPack>, change: impl Fn(&mut IndexedPack)) -> Vec<IndexedPack> {
        packs
            .into_iter()
            .map(|mut pack| {
                change(&mut pack);
                pack
            })
            .collect()
    }
    let lies: [(&str, Lie); 6] = [
        ("chunks of no length", |packs| each(packs, |pack| pack.chunks.iter_mut().for_each(|c| c.1 = 0))),
        ("chunks of 4 GiB", |packs| each(packs, |pack| pack.chunks.iter_mut().for_each(|c| c.1 = u32::MAX))),
        ("chunks one longer", |packs| each(packs, |pack| pack.chunks.iter_mut().for_each(|c| c.1 += 1))),
        ("no chunks", |packs| each(packs, |pack| pack.chunks.clear())),
        ("no packs", |_| Vec::new()),
        ("packs of other numbers", |packs| each(packs, |pack| pack.number = u64::MAX - pack.number)),
    ];
    let mut wrong = Vec::new();
    for (what, lie) in lies {
        let case = case();
        let source = case.data.path().join("tree");
        case.begin().mislead_agent(lie);
        case.forget();
        let once = case.fleet.run(&["once", &text(&case.fleet.dir())]);
        let out = case.fleet.path("out");
        let (back, _) = recover(&case.fleet, &out);
        if once.code == 0 && back.code == 0 {
            tree::assert_same(&source, &out.join("config/files"));
        } else {
            wrong
                .push(format!("{what}: once {}, recover {}: {}{}", once.code, back.code, once.err, back.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Case {
    /// The agent's cache is lost; its keys are not.
    fn forget(&self) {
        let agent = self.fleet.dir().join("agents/config.toml");
        let agent = muster_agent::config::Config::load(&agent).expect("the agent's configuration").agent;
        fs::remove_dir_all(&agent.state).expect("the agent had a state");
    }
}
