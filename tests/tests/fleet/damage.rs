//! The damage matrix: action × object type. Verify names the object; recover writes no wrong byte, and the services
//! that are whole come back whole.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::fleet::{Fleet, text};
use muster_tests::tree;

const ACTIONS: [&str; 5] = ["flip", "truncate", "delete", "empty", "swap"];

fn harm(action: &str, object: &Path, other: &Path) {
    let bytes = fs::read(object).expect("object");
    let write = |bytes: &[u8]| {
        fs::remove_file(object).expect("removed");
        fs::write(object, bytes).expect("written");
    };
    match action {
        "flip" => {
            let mut bytes = bytes;
            let at = bytes.len() / 2;
            bytes[at] ^= 0x10;
            write(&bytes);
        }
        "truncate" => write(&bytes[..bytes.len() - 1]),
        "delete" => fs::remove_file(object).expect("removed"),
        "empty" => write(b""),
        "swap" => write(&fs::read(other).expect("other object")),
        _ => unreachable!("{action}"),
    }
}

/// Objects of a kind, the harmed service's first.
fn find(share: &Path, kind: &str) -> Vec<PathBuf> {
    let below = |folder: &str| {
        let (mut found, mut folders) = (Vec::new(), vec![share.join(folder)]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().map(|e| e.expect("entry").path()) {
                if entry.is_dir() { folders.push(entry) } else { found.push(entry) }
            }
        }
        found.sort();
        found
    };
    let ending = |folder: &str, ending: &str| {
        let mut found = below(folder);
        found.retain(|p| p.extension().is_some_and(|e| e == ending));
        found
    };
    match kind {
        "pack" => [ending("agents/harmed/packs", "age"), ending("agents/whole/packs", "age")].concat(),
        "manifest" => below("manifests"),
        "record" => vec![share.join("log/0000000003"), share.join("log/0000000002")],
        part => [ending("agents/harmed/slices", part), ending("agents/whole/slices", part)].concat(),
    }
}

struct Case {
    fleet: Fleet,
    data: tempfile::TempDir,
}

fn case() -> Case {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("harmed"), 1);
    tree::small(&data.path().join("whole"), 2);
    let services: Vec<_> = ["harmed", "whole"]
        .iter()
        .map(|name| format!("{name}=files:{}", text(&data.path().join(name))))
        .collect();
    let fleet = Fleet::init(&services);
    for seed in [1, 9] {
        tree::small(&data.path().join("harmed"), seed);
        tree::small(&data.path().join("whole"), seed + 1);
        let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    }
    Case { fleet, data }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(
        std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs").success()
    );
}

/// Every file below `have` is byte for byte the one below `want`.
fn assert_no_wrong_byte(want: &Path, have: &Path) {
    let mut folders = vec![have.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(|e| e.expect("entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let original = want.join(entry.strip_prefix(have).expect("below"));
                assert_eq!(fs::read(&entry).ok(), fs::read(&original).ok(), "{}", entry.display());
            }
        }
    }
}

#[test]
fn what_is_damaged_is_named_and_what_is_whole_comes_back() {
    let case = case();
    let (share, pristine) = (case.fleet.share(), case.fleet.path("pristine"));
    copy(&share, &pristine);
    let kit = text(&case.fleet.kit());
    for kind in ["pack", "index", "packs", "receipt", "chunks", "manifest"] {
        for action in ACTIONS {
            copy(&pristine, &share);
            let what = format!("{action} {kind}");
            let objects = find(&share, kind);
            harm(action, &objects[0], objects.last().expect("another"));
            let name = objects[0].file_stem().expect("a name").to_string_lossy().into_owned();

            let verify = ["verify", "--share", &text(&share), "--kit", &kit, "--json"];
            let said = case.fleet.run(&verify);
            assert_eq!(said.code, 4, "{what}: {}{}", said.out, said.err);
            assert!(said.out.contains(&name), "{what}: {name} is not named:\n{}", said.out);

            let out = case.fleet.path("out");
            let _ = fs::remove_dir_all(&out);
            let said = case.fleet.recover(&out);
            // The older manifest or an older round's part may be the one that was hit: then nothing newer is hurt.
            assert!(matches!(said.code, 0 | 4), "{what}: {}{}", said.out, said.err);
            for service in ["harmed", "whole"] {
                assert_no_wrong_byte(&case.data.path().join(service), &out.join(service).join("files"));
            }
            if kind != "manifest" {
                tree::assert_same(&case.data.path().join("whole"), &out.join("whole/files"));
            }
            if said.code == 0 {
                tree::assert_same(&case.data.path().join("harmed"), &out.join("harmed/files"));
            }
        }
    }
}

#[test]
fn a_damaged_record_in_the_middle_of_the_log_stops_every_reader() {
    let case = case();
    let (share, pristine) = (case.fleet.share(), case.fleet.path("pristine"));
    copy(&share, &pristine);
    for action in ACTIONS {
        copy(&pristine, &share);
        let objects = find(&share, "record");
        harm(action, &objects[0], &objects[1]);
        let out = case.fleet.path("out");
        let _ = fs::remove_dir_all(&out);
        let said = case.fleet.recover(&out);
        assert_eq!(said.code, 4, "{action}: {}{}", said.out, said.err);
        assert!(
            !out.exists() || fs::read_dir(&out).expect("folder").next().is_none(),
            "{action}: nothing is written"
        );
    }
}

#[test]
fn a_share_whose_log_is_gone_is_damaged_whatever_else_it_holds() {
    let case = case();
    let (share, kit) = (case.fleet.share(), text(&case.fleet.kit()));
    fs::remove_dir_all(share.join("log")).expect("lost");
    let said = case.fleet.run(&["verify", "--share", &text(&share), "--kit", &kit]).with_code(4);
    assert!(said.out.contains("log/0000000000") && said.out.contains("SHARE-08"), "{said:?}");
    let said = case.fleet.recover(&case.fleet.path("out")).with_code(4);
    assert!(said.err.contains("log/0000000000") && !said.err.contains("muster start"), "{said:?}");
}
