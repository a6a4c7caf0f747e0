//! The kit's emergency reader: what it recovers is what was backed up, what is damaged is named, and nothing hostile
//! leads it outside. It was written from the format's page alone, so these tests check that page as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, have, muster};
use muster_tests::tree;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/kit/emergency.py")
}

fn able() -> bool {
    ["age", "zstd", "openssl", "python3"].iter().all(|program| have(program))
}

/// Runs a script of the given path with Python.
fn python(script: &Path, args: &[&str]) -> Said {
    let mut command = Command::new("python3");
    command.arg(script).args(args).stdin(Stdio::null());
    command.output().expect("python3 runs").into()
}

/// Runs the script that lies in the kit.
fn emergency(share: &Path, kit: &Path, more: &[&str]) -> Said {
    let (share, kit_text) = (text(share), text(kit));
    python(&kit.join("emergency.py"), &[&["--share", &share, "--kit", &kit_text], more].concat())
}

fn once(fleet: &Fleet) {
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
}

/// Everything about a tree that a program can see, a line for each entry, as Python reads it.
fn listing(root: &Path) -> String {
    const LIST: &str = r#"
import hashlib, os, stat, sys
root = os.fsencode(sys.argv[1])
for folder, folders, files in sorted(os.walk(root)):
    for path in sorted([folder] + [os.path.join(folder, n) for n in files + [d for d in folders if os.path.islink(os.path.join(folder, d))]]):
        s = os.lstat(path)
        more = os.readlink(path) if stat.S_ISLNK(s.st_mode) else hashlib.sha256(open(path, "rb").read()).hexdigest() if stat.S_ISREG(s.st_mode) else s.st_rdev
        attributes = [(n, os.getxattr(path, n, follow_symlinks=False)) for n in sorted(os.listxattr(path, follow_symlinks=False))]
        print(os.path.relpath(path, root), oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, more, attributes)
"#;
    let said: Said =
        Command::new("python3").args(["-c", LIST, &text(root)]).output().expect("python3 runs").into();
    said.with_code(0).out
}

/// A tree with what the rich one lacks: a fifo, extended attributes, deep folders, a link with a time of its own.
fn source(at: &Path) {
    const MORE: &str = r#"
import os, sys
os.chdir(sys.argv[1])
os.mkfifo("fifo", 0o640)
os.setxattr("one", "user.note", b"\x00\xff")
os.setxattr("sub", "user.folder", b"yes")
os.makedirs("/".join(["deep" * 12] * 40))
open("control \x1b[31m\n", "w").write("odd name")
os.utime("link", ns=(1, -5_000_000_123), follow_symlinks=False)
os.chmod("empty folder", 0o500)
"#;
    tree::rich(at);
    let said: Said = Command::new("python3").args(["-c", MORE, &text(at)]).output().expect("runs").into();
    let _ = said.with_code(0);
}

#[test]
fn it_is_short_and_needs_only_the_standard_library() {
    let script = fs::read_to_string(script()).expect("the script");
    assert!(script.lines().count() <= 250, "{} lines", script.lines().count());
    let long: Vec<_> = script.lines().filter(|line| line.chars().count() > 120).collect();
    assert!(long.is_empty(), "{long:?}");
    let known: BTreeSet<_> =
        "argparse base64 contextlib functools hashlib io os pathlib re resource shutil signal stat \
                              subprocess sys tempfile"
            .split_whitespace()
            .collect();
    let imports = script.lines().map(str::trim_start);
    let imports =
        imports.filter_map(|line| line.strip_prefix("import ").or_else(|| line.strip_prefix("from ")));
    let modules: BTreeSet<_> = imports
        .flat_map(|names| names.split(" import ").next().unwrap_or_default().split(','))
        .map(str::trim)
        .collect();
    assert!(!modules.is_empty() && modules.is_subset(&known), "{modules:?}");
    assert!(!script.contains("__import__") && !script.contains("importlib"));
}

#[test]
fn what_it_recovers_is_what_was_backed_up() {
    if !able() {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    let tree_at = data.path().join("tree");
    source(&tree_at);
    let database = data.path().join("orders.db");
    let rows = "create table t (n integer); insert into t values (1), (2), (3)";
    rusqlite::Connection::open(&database).expect("database").execute_batch(rows).expect("rows");
    let fleet = Fleet::init(&[
        format!("config=files:{}", text(&tree_at)),
        format!("config=files:{}", text(&tree_at.join("sub"))),
        format!("orders=sqlite:{}", text(&database)),
        r#"numbers=command:["seq","1","50000"]"#.to_owned(),
    ]);
    once(&fleet);
    let before = listing(&tree_at);
    fs::write(tree_at.join("big"), tree::noise(5, 3 << 20)).expect("written");
    fs::write(tree_at.join("sub/deeper/new"), "new").expect("written");
    fs::remove_file(tree_at.join("sub/deeper/7")).expect("removed");
    once(&fleet);
    let after = listing(&tree_at);
    assert_ne!(before, after);

    let (ours, theirs) = (fleet.path("script"), fleet.path("muster"));
    let said = emergency(&fleet.share(), &fleet.kit(), &["--into", &text(&ours)]).with_code(0);
    assert!(said.out.starts_with("round 2 ") && said.err.is_empty(), "{}{}", said.out, said.err);
    assert_eq!(listing(&ours.join("config/files")), after);
    tree::assert_same(&tree_at, &ours.join("config/files"));
    let _ = fleet.recover(&theirs).with_code(0);
    for part in ["config/files", "config/files-2", "numbers/command", "orders/sqlite"] {
        tree::assert_same(&theirs.join(part), &ours.join(part));
        assert_eq!(listing(&theirs.join(part)), listing(&ours.join(part)), "{part}");
    }

    let first = fleet.path("first");
    let head = said.out.lines().next().and_then(|line| line.rsplit(' ').next()).expect("a head").to_owned();
    let args = ["--round", "1", "--service", "config", "--expect-head", &head, "--into", &text(&first)];
    let _ = emergency(&fleet.share(), &fleet.kit(), &args).with_code(0);
    assert_eq!(listing(&first.join("config/files")), before);
    assert_eq!(fs::read_dir(&first).expect("folder").count(), 1);

    let part = fleet.path("part");
    let args = ["--service", "config", "--path", "files/sub/deeper", "--into", &text(&part)];
    let _ = emergency(&fleet.share(), &fleet.kit(), &args).with_code(0);
    tree::assert_same(&tree_at.join("sub/deeper"), &part.join("config/files/sub/deeper"));
    assert!(!part.join("config/files/one").exists() && !part.join("config/files/sub/two").exists());

    let said = emergency(&fleet.share(), &fleet.kit(), &["--list"]).with_code(0);
    assert!(said.out.contains("fifo         0640            0 config/files/fifo\n"), "{}", said.out);
    assert!(said.out.contains("control \\x1b[31m\\n") && !said.out.contains('\u{1b}'), "{}", said.out);
}

#[test]
fn it_reads_the_golden_shares() {
    if !able() {
        return;
    }
    for version in 0..=muster_share::log::FORMAT_VERSION {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{version}"));
        let work = tempfile::TempDir::new().expect("folder");
        let kit = work.path().join("kit");
        for part in ["share", "kit"] {
            let copied =
                Command::new("cp").arg("-r").arg(golden.join(part)).arg(work.path().join(part)).status();
            assert!(copied.expect("cp runs").success());
        }
        let key = kit.join("recovery.key");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(key, mode).expect("mode");
        for round in ["1", "2"] {
            let (share, kit) = (text(&work.path().join("share")), text(&kit));
            let [ours, theirs] =
                ["ours", "theirs"].map(|name| text(&work.path().join(format!("{name}-{round}"))));
            let args = ["--share", &share, "--kit", &kit, "--round", round, "--into"];
            let _ = python(&script(), &[&args[..], &[&ours]].concat()).with_code(0);
            let _ = muster([&["recover"], &args[..], &[&theirs]].concat()).with_code(0);
            for part in ["config/files", "lines/command"] {
                assert_eq!(listing(&Path::new(&ours).join(part)), listing(&Path::new(&theirs).join(part)));
            }
        }
    }
}

fn flip(object: &Path) {
    let mut bytes = fs::read(object).expect("object");
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    fs::remove_file(object).expect("removed");
    fs::write(object, bytes).expect("written");
}

fn objects(below: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![below.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folder").map(|e| e.expect("entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { found.push(entry) }
        }
    }
    found.retain(|path| text(path).ends_with(ending));
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs").success());
}

#[test]
fn what_is_damaged_is_named_and_what_is_whole_comes_back() {
    if !able() {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    for (name, seed) in [("harmed", 1), ("whole", 2)] {
        tree::small(&data.path().join(name), seed);
    }
    let services = ["harmed", "whole"].map(|n| format!("{n}=files:{}", text(&data.path().join(n))));
    let fleet = Fleet::init(&services);
    once(&fleet);
    let (share, pristine, kit) = (fleet.share(), fleet.path("pristine"), fleet.kit());
    copy(&share, &pristine);
    let records = objects(&share.join("log"), "").len();
    let log = |n: usize| share.join(format!("log/{n:010}"));
    let harmed = share.join("agents/harmed");
    let into = fleet.path("out");
    let run = || {
        let _ = fs::remove_dir_all(&into);
        emergency(&share, &kit, &["--into", &text(&into)])
    };
    // What is hit, whether it is gone, and what still comes back: nothing, the other service, or both.
    let cases: [(&str, PathBuf, bool, usize); 9] = [
        ("genesis", log(0), false, 0),
        ("record", log(3), false, 0),
        ("lost record", log(3), true, 0),
        ("last record", log(records - 1), false, 2),
        ("manifest", objects(&share.join("manifests"), "").remove(0), false, 0),
        ("receipt", objects(&harmed, ".receipt").remove(0), false, 1),
        ("pack list", objects(&harmed, ".packs").remove(0), false, 1),
        ("index", objects(&harmed, ".index").remove(0), false, 1),
        ("lost index", objects(&harmed, ".index").remove(0), true, 1),
    ];
    for (what, object, gone, back) in cases {
        copy(&pristine, &share);
        if gone {
            fs::remove_file(&object).expect("removed")
        } else {
            flip(&object)
        }
        let said = run();
        assert_eq!(said.code, 4, "{what}: {}{}", said.out, said.err);
        assert!(said.err.contains(&text(&object)), "{what}: not named: {}", said.err);
        for (name, least) in [("whole", 1), ("harmed", 2)] {
            if back >= least {
                tree::assert_same(&data.path().join(name), &into.join(name).join("files"));
            } else {
                assert!(!into.join(name).exists(), "{what}: {name} came back");
            }
        }
    }
    for (at, pack) in objects(&harmed.join("packs"), ".age").into_iter().enumerate() {
        copy(&pristine, &share);
        if at % 2 == 0 {
            flip(&pack)
        } else {
            fs::remove_file(&pack).expect("removed")
        }
        let said = run();
        assert_eq!(said.code, 4, "{}{}", said.out, said.err);
        assert!(said.err.contains(&text(&pack)), "not named: {}", said.err);
        tree::assert_same(&data.path().join("whole"), &into.join("whole/files"));
    }
}

#[test]
fn what_nobody_signed_in_the_log_is_passed_over() {
    if !able() {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(data.path(), 1);
    let fleet = Fleet::init(&[format!("config=files:{}", text(data.path()))]);
    let log = |n: usize| fleet.share().join(format!("log/{n:010}"));
    let records = objects(&fleet.share().join("log"), "").len();
    fs::create_dir(log(records)).expect("a folder");
    std::os::unix::fs::symlink("/nowhere", log(records + 1)).expect("a link");
    once(&fleet);
    let records = fs::read_dir(fleet.share().join("log")).expect("the log").count();
    fs::write(log(records + 5), "junk").expect("written");
    fs::write(log(9_999_999_999), "junk").expect("written");
    let out = fleet.path("out");
    let said = emergency(&fleet.share(), &fleet.kit(), &["--into", &text(&out)]).with_code(0);
    assert!(said.err.contains(&text(&log(records + 5))), "{}", said.err);
    tree::assert_same(data.path(), &out.join("config/files"));

    // A record that is gone is another thing.
    fs::remove_file(log(records - 2)).expect("removed");
    let out = fleet.path("gap");
    let said = emergency(&fleet.share(), &fleet.kit(), &["--into", &text(&out)]).with_code(4);
    assert!(said.err.contains(&text(&log(records - 2))), "{}", said.err);
}

#[test]
fn a_damaged_pack_costs_the_files_in_it_and_no_other() {
    if !able() {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    let source = data.path().join("tree");
    fs::create_dir(&source).expect("folder");
    fs::write(source.join("steady"), tree::noise(1, 300_000)).expect("file");
    fs::write(source.join("later"), "first").expect("file");
    let fleet = Fleet::init(&[format!("config=files:{}", text(&source))]);
    once(&fleet);
    let old: BTreeSet<_> = objects(&fleet.share().join("agents/config/packs"), ".age").into_iter().collect();
    fs::write(source.join("later"), tree::noise(2, 200_000)).expect("file");
    fs::hard_link(source.join("later"), source.join("later too")).expect("link");
    once(&fleet);
    for pack in &old {
        flip(pack);
    }
    let into = fleet.path("out");
    let said = emergency(&fleet.share(), &fleet.kit(), &["--into", &text(&into)]).with_code(4);
    let recovered = into.join("config/files");
    assert!(said.err.contains("config/files/steady: "), "{}", said.err);
    assert!(!recovered.join("steady").exists());
    assert_eq!(fs::read(recovered.join("later too")).expect("whole"), tree::noise(2, 200_000));
    assert_eq!(objects(&into, "").len(), 2, "nothing else is left: {:?}", objects(&into, ""));
}

#[test]
fn keys_and_arguments_that_do_not_fit_are_told_apart() {
    if !able() {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(data.path(), 1);
    let fleet = Fleet::init(&[format!("config=files:{}", text(data.path()))]);
    let other = Fleet::init(&[format!("config=files:{}", text(data.path()))]);
    once(&fleet);
    let runs = std::cell::Cell::new(0);
    let out = || {
        runs.set(runs.get() + 1);
        text(&fleet.path(&format!("out-{}", runs.get())))
    };
    let kit_with = |change: &dyn Fn(&Path)| {
        let kit = fleet.path("changed kit");
        copy(&fleet.kit(), &kit);
        change(&kit);
        emergency(&fleet.share(), &kit, &["--into", &out()])
    };
    let wrong_key = kit_with(&|kit| {
        fs::copy(other.kit().join("recovery.key"), kit.join("recovery.key")).expect("copied");
    });
    let wrong_root = kit_with(&|kit| {
        fs::copy(other.kit().join("root.pub"), kit.join("root.pub")).expect("copied");
    });
    let no_key = kit_with(&|kit| fs::remove_file(kit.join("recovery.key")).expect("removed"));
    let no_root = kit_with(&|kit| fs::write(kit.join("root.pub"), "nonsense").expect("written"));
    let run = |more: &[&str]| emergency(&fleet.share(), &fleet.kit(), &[&["--into", &out()], more].concat());
    fs::write(fleet.path("taken"), "").expect("written");
    let taken = text(&fleet.path("taken"));
    let inside = text(&fleet.share().join("out"));
    for (said, code, part) in [
        (wrong_key, 5, "recovery.key: does not open "),
        (wrong_root, 5, "root.pub: not the root key of this share"),
        (no_key, 5, "root.pub or recovery.key is missing"),
        (no_root, 5, "root.pub or recovery.key is missing, or is no key"),
        (
            emergency(&fleet.path("nowhere"), &fleet.kit(), &["--into", &out()]),
            6,
            "/nowhere/FORMAT; mend the access to the share",
        ),
        (run(&["--round", "next"]), 2, "--round next: not one of [1]"),
        (run(&["--service", "nobody"]), 2, "--service nobody: not one of ['config']"),
        (run(&["--path", "no/such"]), 2, "--path no/such: nothing lies there"),
        (run(&["--expect-head", "99:00"]), 4, "does not reach --expect-head"),
        (emergency(&fleet.share(), &fleet.kit(), &["--into", &taken]), 2, "--into: File exists"),
        (emergency(&fleet.share(), &fleet.kit(), &["--into", &inside]), 2, "--into lies in the share"),
        (emergency(&fleet.share(), &fleet.kit(), &[]), 2, "--share, --kit and --into are needed"),
    ] {
        assert!(
            said.code == code && said.err.contains(part),
            "{part}: {} {}{}",
            said.code,
            said.out,
            said.err
        );
        assert!(!said.err.contains("Traceback") && said.err.trim_end().lines().count() <= 4, "{}", said.err);
    }
    let full = fleet.path("full");
    fs::create_dir(&full).expect("folder");
    fs::write(full.join("mine"), "mine").expect("written");
    let said = emergency(&fleet.share(), &fleet.kit(), &["--into", &text(&full)]).with_code(2);
    assert!(said.err.contains("is not empty; name a new folder"), "{}", said.err);
    assert_eq!(objects(&full, "").len(), 1);
}

#[test]
fn hostile_entries_lead_nowhere() {
    const HOSTILE: &str = r#"
import importlib.util, io, os, sys, tempfile
spec = importlib.util.spec_from_file_location("emergency", sys.argv[1])
m = importlib.util.module_from_spec(spec)
spec.loader.exec_module(m)

def pack(v):
    if v is None: return b"\xc0"
    if isinstance(v, int): return b"\xd3" + v.to_bytes(8, "big", signed=True)
    if isinstance(v, bytes): return b"\xc6" + len(v).to_bytes(4, "big") + v
    if isinstance(v, str): return b"\xdb" + len(v.encode()).to_bytes(4, "big") + v.encode()
    if isinstance(v, list): return b"\xdd" + len(v).to_bytes(4, "big") + b"".join(map(pack, v))
    return b"\xdf" + len(v).to_bytes(4, "big") + b"".join(pack(k) + pack(x) for k, x in v.items())

def entry(path, kind="file", **more):
    return {"path": path, "kind": kind, "mode": 0o600, "mtime_secs": 0, **more}

base = os.path.realpath(tempfile.mkdtemp(dir=sys.argv[2]))
root, outside = entry(b"", "directory"), os.path.join(base, "outside")
os.makedirs(outside + "/folder")
open(outside + "/file", "w").write("mine")
os.umask(0o077)

def attempt(entries):
    into = tempfile.mkdtemp(dir=base)
    m.job.into, m.job.list, m.job.path, m.job.work = into, False, None, tempfile.mkdtemp(dir=base)
    m.codes.clear()
    raw = b"".join(len(e).to_bytes(4, "big") + e for e in (pack(e) for e in entries))
    with m.telling():
        m.restore("s/files", {"name": "files", "entries": len(entries)}, io.BytesIO(raw), None)
    os.chdir(base)
    return into, set(m.codes)

up = os.fsencode(outside)
for entries in [
    [root, entry(b"../x")], [root, entry(b"/x")], [root, entry(b"a/../x")], [root, entry(b"a//x")], [root, entry(b"./x")],
    [root, entry(b"a\0b")], [root, entry(b"x"), entry(b"x")], [root, entry(b"b"), entry(b"a")], [entry(b"x")], [entry(b"")],
    [root, entry(b"f"), entry(b"f/x")], [root, entry(b"no/x")], [root, root],
    [root, entry(b"l", "symlink", target=up), entry(b"l/x")],
    [root, entry(b"l", "symlink", target=up), entry(b"m", hard_link=b"l/file")],
    [root, entry(b"l", "symlink", target=up + b"/file"), entry(b"m", hard_link=b"l")],
    [root, entry(b"m", hard_link=b"../../../outside/file")], [root, entry(b"m", hard_link=b"n"), entry(b"n")],
    [root, entry(b"s", "socket")], [root, entry(b"s", 7)], [root, entry(b"s", "symlink")], [root, {"path": b"x"}],
    [root, entry("text")], [root, entry(b"x", size=5)], [root, entry(b"x", extents=[{"hole": {"length": -5}}])],
    [root, entry(b"x", size=5, extents=[{"data": {"pack": 1, "offset": 0}}])],
    [root, entry(b"a", "directory", gap="vanished"), entry(b"a/x")],
]:
    into, told = attempt(entries)
    assert told & {3, 4}, (entries, told)
    assert sorted(os.listdir(outside)) == ["file", "folder"] and os.lstat(outside + "/file").st_nlink == 1, entries
    assert open(outside + "/file").read() == "mine" and os.listdir(outside + "/folder") == [], entries
    assert not os.path.exists(into + "/x") and not os.path.exists(base + "/x"), entries

# Deep nesting, counts that lie, and every prefix and one-byte change of a well-formed value: an answer or a clear refusal.
for raw in [b"\x91" * 100000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc1", b"\xca\0\0\0\0", b"", b"\x80\x80"]:
    try: m.decode(raw)
    except m.MALFORMED: pass
    else: raise SystemExit(f"accepted {raw[:8]!r}")
good = pack(entry(b"x", xattrs=[[b"user.a", b"b"]], gap=None))
for at in range(len(good)):
    for raw in [good[:at], good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1:]]:
        try: m.decode(raw)
        except m.MALFORMED: pass
into, told = attempt([root, entry(b"a", "directory"), entry(b"a/x"), entry(b"a.b"), entry(b"z", hard_link=b"a/x")])
assert not told and os.stat(into + "/s/files/z").st_nlink == 2, told
"#;
    if !able() {
        return;
    }
    let work = tempfile::TempDir::new().expect("folder");
    let file = work.path().join("hostile.py");
    fs::write(&file, HOSTILE).expect("written");
    let _ = python(&file, &[&text(&script()), &text(work.path())]).with_code(0);
}
