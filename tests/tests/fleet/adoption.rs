//! A share that went back: refused by everyone who remembers more, until the root adopts it.

use std::fs;

use muster_tests::fleet::{Fleet, text};
use muster_tests::tree;

#[test]
fn a_share_that_went_back_is_refused_until_the_root_adopts_it() {
    let data = tempfile::TempDir::new().expect("folder");
    let source = data.path().join("tree");
    tree::small(&source, 3);
    let fleet = Fleet::init(&[format!("dns=files:{}", text(&source))]);
    let once = || fleet.run(&["once", &text(&fleet.dir())]);
    let head = || fleet.run(&["rounds", "--json"]).with_code(0).json()["head"].clone();
    let _ = once().with_code(0);
    let kept = head();
    let _ = once().with_code(0);
    let seen = head();
    let (kept_number, seen_number) =
        (kept["number"].as_u64().expect("a number"), seen["number"].as_u64().expect("a number"));
    let named =
        |head: &serde_json::Value| format!("{}:{}", head["number"], head["hash"].as_str().expect("a hash"));
    for number in kept_number + 1..=seen_number {
        fs::remove_file(fleet.share().join(format!("log/{number:010}"))).expect("removed");
    }

    // Operator, agent and coordinator remember, each for itself.
    for args in [vec!["rounds"], vec!["show", "1"], vec!["status"]] {
        let said = fleet.run(&args).with_code(4);
        assert!(said.err.contains("SHARE-08"), "{args:?}: {}", said.err);
    }
    assert_eq!(once().code, 4);
    let operator_memory = fleet.dir().join("state/operator/head");
    let remembered = fs::read_to_string(&operator_memory).expect("a memory");
    fs::remove_file(&operator_memory).expect("forgotten");
    let said = once();
    assert!(said.code == 4 && said.err.contains("SHARE-08"), "{} {}", said.code, said.err);
    fs::write(&operator_memory, remembered).expect("back");

    // Whoever names the head is not told another, with or without a configuration.
    let (share, kit) = (text(&fleet.share()), text(&fleet.kit()));
    let held: [&[&str]; 7] = [
        &["rounds"],
        &["show", "1"],
        &["status"],
        &["verify", "--kit", &kit],
        &["ls", "1", "--kit", &kit],
        &["find", "1", "--kit", &kit],
        &["dump", "1", "dns/files/one", "--kit", &kit],
    ];
    let all = |expect: &str, code: i32| {
        for args in held {
            let mut args = args.to_vec();
            args.extend(["--share", &share, "--expect-head", expect]);
            let said = fleet.run(&args).with_code(code);
            assert!(code == 0 || said.err.contains("SHARE-08"), "{args:?}: {}", said.err);
        }
    };
    all(&named(&seen), 4);
    all(&named(&kept), 0);
    let said = fleet.run(&["rounds", "--share", &share, "--expect-head", "7"]).with_code(2);
    assert!(said.err.contains("NUMBER:HASH"), "{}", said.err);

    let (root, config) = (text(&fleet.root()), text(&fleet.dir().join("operator.toml")));
    let wrong = named(&seen);
    let said =
        fleet.run(&["adopt", "--root", &root, "--config", &config, "--expect-head", &wrong]).with_code(7);
    assert!(said.err.contains("Nothing was adopted"), "{}", said.err);
    let said = fleet.run(&["adopt", "--root", &root, "--config", &config, "--json"]).with_code(0).json();
    assert_eq!((&said["adopted"], &said["given_up"]["number"]), (&kept, &seen["number"]));
    assert_eq!((&said["newest_round"], &said["head"]["number"]), (&1.into(), &(kept_number + 1).into()));

    // Everyone accepts it now, without being told, and goes on.
    let _ = once().with_code(0);
    assert_eq!(fleet.rounds().len(), 2);
    let _ = fleet.run(&["verify", "--kit", &kit]).with_code(0);
    let memory = fs::read_to_string(fleet.dir().join("state/agent-dns/head")).expect("a memory");
    assert!(memory.contains("adopts 1"), "{memory}");
    // But not away from a head that is asked for by name.
    all(&named(&seen), 4);

    // The same again without the root: the adoption that is known opens no door.
    let number = head()["number"].as_u64().expect("a number");
    fs::remove_file(fleet.share().join(format!("log/{number:010}"))).expect("removed");
    let said = fleet.run(&["rounds"]).with_code(4);
    assert!(said.err.contains("SHARE-08"), "{}", said.err);
}
