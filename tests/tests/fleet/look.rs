//! Looking into slices: what `ls`, `find` and `dump` tell is what was captured, on bad days too.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::{Said, muster};
use muster_tests::tree;
use serde_json::Value;

struct Scene {
    fleet: Fleet,
    data: tempfile::TempDir,
}

/// Two services, one round.
fn scene() -> Scene {
    let data = tempfile::TempDir::new().expect("folder");
    tree::rich(&data.path().join("tree"));
    fs::write(data.path().join("tree/sub/\u{1b}[2Jname"), b"x").expect("file");
    let fleet = Fleet::init(&[
        format!("config=files:{}", text(&data.path().join("tree"))),
        r#"numbers=command:["seq","1","50000"]"#.to_owned(),
    ]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    Scene { fleet, data }
}

impl Scene {
    fn said(&self, command: &str, args: &[&str]) -> Said {
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        self.raw(command, &args)
    }

    fn raw(&self, command: &str, args: &[&OsStr]) -> Said {
        let (share, kit) = (self.fleet.share(), self.fleet.kit());
        let place: [&OsStr; 6] = [
            command.as_ref(),
            "latest".as_ref(),
            "--share".as_ref(),
            share.as_ref(),
            "--kit".as_ref(),
            kit.as_ref(),
        ];
        muster(place.into_iter().chain(args.iter().copied()))
    }

    fn packs(&self, service: &str) -> std::path::PathBuf {
        self.fleet.share().join("agents").join(service).join("packs")
    }
}

fn lines(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn count_below(folder: &Path) -> usize {
    fs::read_dir(folder)
        .expect("folder")
        .map(|entry| entry.expect("entry"))
        .map(|entry| {
            1 + if entry.file_type().expect("type").is_dir() { count_below(&entry.path()) } else { 0 }
        })
        .sum()
}

#[test]
fn ls_goes_from_services_to_entries() {
    let scene = scene();
    let services = lines(&scene.said("ls", &["--json"]).with_code(0));
    let names: Vec<_> = services.iter().map(|line| line["service"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["config", "numbers"]);
    assert!(services.iter().all(|line| line["schema"] == "muster.service/1" && line["state"] == "stored"));
    let sources = lines(&scene.said("ls", &["config", "--json"]).with_code(0));
    assert_eq!((&sources[0]["source"], sources.len()), (&"files".into(), 1));

    let root = scene.said("ls", &["config/files"]).with_code(0).out;
    let source = scene.data.path().join("tree");
    assert_eq!(root.lines().count(), fs::read_dir(&source).expect("folder").count(), "{root}");
    for part in ["lrwxrwxrwx", " link -> one", "sub/", "not utf-8 \\xff\\xfe"] {
        assert!(root.contains(part), "{part} is missing:\n{root}");
    }
    let below = scene.said("ls", &["-R", "config/files"]).with_code(0).out;
    assert_eq!(below.lines().count(), count_below(&source), "{below}");
    assert!(below.contains("sub/hard link to one = one"), "{below}");
    // A name cannot write to the operator's terminal.
    assert!(below.contains("\\x1b[2Jname") && !below.contains('\u{1b}'), "{below}");
    let one = lines(&scene.said("ls", &["config/files/one", "--json"]).with_code(0));
    assert_eq!((one.len(), &one[0]["size"], &one[0]["kind"]), (1, &70_000.into(), &"file".into()));
    let modified = &one[0]["mtime_nanos"];
    assert_eq!(*modified, 123_456_789);

    let all = lines(&scene.said("ls", &["-R", "--json"]).with_code(0));
    assert_eq!(all.len(), 1 + count_below(&source) + 2, "both trees, their roots too");
    assert!(scene.said("ls", &["config/files/absent"]).with_code(2).err.contains("config/files/absent"));
    assert!(scene.said("ls", &["dns"]).with_code(2).err.contains("config, numbers"));
    assert!(scene.said("ls", &["config/sqlite"]).with_code(2).err.contains("it has files"));
}

#[test]
fn find_takes_names_paths_kinds_and_sizes() {
    let scene = scene();
    let found = |args: &[&str]| scene.said("find", args).with_code(0).out;
    assert_eq!(found(&["one"]), "config/files/one\n");
    assert_eq!(found(&["sub/t*"]), "config/files/sub/two\n");
    assert_eq!(found(&["/sub/t*", "--service", "numbers"]), "");
    assert_eq!(found(&["--larger", "50MiB"]), "config/files/big\n");
    assert_eq!(found(&["--type", "l", "link"]), "config/files/link\n");
    assert_eq!(found(&["output"]), "numbers/command/output\n");
    let old = found(&["--newer", "2001-02-03T00:00:00Z", "one"]);
    assert_eq!(old, "config/files/one\n");
    assert_eq!(found(&["--newer", "2001-02-04T00:00:00Z", "one"]), "");
    let odd = lines(&scene.said("find", &["not*", "--json"]).with_code(0));
    assert_eq!(odd[0]["path_hex"].as_str().map(|hex| hex.ends_with("fffe")), Some(true), "{odd:?}");
    assert!(scene.said("find", &["[a"]).with_code(2).err.contains("[a"));
    assert!(scene.said("find", &["--newer", "soon"]).with_code(2).err.contains("--newer soon"));
}

#[test]
fn dump_gives_the_bytes_of_each_file() {
    let scene = scene();
    let source = scene.data.path().join("tree");
    let numbers = scene.said("dump", &["numbers/command/output"]).with_code(0).out;
    assert!(numbers.starts_with("1\n2\n") && numbers.ends_with("\n50000\n"));
    let odd = OsStr::from_bytes(b"config/files/not utf-8 \xff\xfe");
    assert_eq!(scene.raw("dump", &[odd]).with_code(0).out, "x");
    for name in ["one", "holes", "big", "empty", "sub/hard link to one"] {
        let out = scene.fleet.path(&name.replace(['/', ' '], "-"));
        let _ = scene.said("dump", &[&format!("config/files/{name}"), "-o", &text(&out)]).with_code(0);
        assert!(fs::read(&out).expect("dumped") == fs::read(source.join(name)).expect("file"), "{name}");
    }
    let sparse =
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(scene.fleet.path("holes")).expect("meta"));
    assert!(sparse * 512 < 20 << 20, "holes stay holes");

    let taken = scene.fleet.path("one");
    let again = scene.said("dump", &["config/files/one", "-o", &text(&taken)]);
    assert!(again.with_code(2).err.contains("exists"));
    for (path, words) in [
        ("config/files/sub", "muster recover"),
        ("config/files/link", "symbolic link to one"),
        ("config/files/absent", "not in this round"),
        ("config", "SERVICE/SOURCE/PATH"),
        ("config/files/../one", "no part"),
    ] {
        let err = scene.said("dump", &[path]).with_code(2).err;
        assert!(err.contains(words), "{path}: {err}");
    }
}

#[test]
fn damage_and_wrong_keys_are_told_apart_and_leave_nothing_half_done() {
    let scene = scene();
    let other = Fleet::init(&[r#"numbers=command:["true"]"#.to_owned()]);
    let (share, kit) = (text(&scene.fleet.share()), text(&other.kit()));
    let _ = muster(["ls", "latest", "--share", &share, "--kit", &kit]).with_code(5);
    let _ = muster(["ls", "latest", "--share", &share, "--kit", "/nowhere"]).with_code(5);
    let nowhere = text(&scene.fleet.path("nowhere"));
    let _ = muster(["ls", "latest", "--share", &nowhere, "--kit", &text(&scene.fleet.kit())]).with_code(6);
    let _ = scene.said("ls", &["--share"]).with_code(2);

    // The configuration leads there as well.
    let kit = text(&scene.fleet.kit());
    let said = scene.fleet.run(&["find", "1", "output", "--kit", &kit]).with_code(0);
    assert_eq!(said.out, "numbers/command/output\n");

    for folder in fs::read_dir(scene.packs("config")).expect("packs") {
        for pack in fs::read_dir(folder.expect("entry").path()).expect("packs") {
            let path = pack.expect("entry").path();
            let mut bytes = fs::read(&path).expect("pack");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
            fs::write(&path, bytes).expect("written");
        }
    }
    let found = scene.said("find", &["output"]).with_code(4);
    assert_eq!(found.out, "numbers/command/output\n", "other services are still told");
    assert!(
        found.err.contains("agents/config/packs/") && found.err.contains("hash differs"),
        "{}",
        found.err
    );
    let out = scene.fleet.path("half");
    let said = scene.said("dump", &["config/files/one", "-o", &text(&out)]).with_code(4);
    assert!(said.err.contains("VERIFY-01") && !out.exists(), "{}", said.err);
    let left = fs::read_dir(out.parent().expect("folder")).expect("folder").filter_map(Result::ok);
    assert!(left.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with(".muster-dump-")));
    let _ = scene.said("dump", &["numbers/command/output"]).with_code(0);
}
