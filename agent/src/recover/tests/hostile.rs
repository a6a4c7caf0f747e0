//! Indexes that no honest agent writes: refused before the first byte, or harmless.

use std::fs;
use std::os::unix::fs::symlink;

use muster_share::entry::{Entry, Extent, Kind};
use muster_share::layout::{ObjectPath, SlicePart};

use super::super::fixture::{FORGED, Fixture, Item, file, folder, found_below, hard_link, name};
use super::super::{Existing, Outcome, RecoverError, Request, RoundError};
use super::{request, run};

async fn with(items: Vec<Item>) -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.round(vec![(name("a"), vec![("files", items)])], &["b"]).await;
    fixture
}

fn index_is_damaged(outcome: &Outcome) -> bool {
    let index = |damage: &muster_share::verify::Damage| {
        matches!(damage.object, ObjectPath::Slice { part: SlicePart::Index, .. })
    };
    !outcome.damaged.is_empty() && outcome.damaged.iter().all(index)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_planned_is_refused_whole() {
    let node = |path: &str, kind| (Entry::new(path.into(), kind, 0o666), Vec::new());
    let extents = |size, extents: Vec<Extent>| {
        (Entry { size, extents, ..Entry::new(b"x".to_vec(), Kind::File, 0o600) }, Vec::new())
    };
    let forged = |length| Extent::Data { pack: FORGED, offset: u64::MAX, length };
    for (bad, why) in [
        (vec![hard_link("link", "/etc/shadow")], "a hard link out"),
        (vec![hard_link("link", "../shadow")], "a hard link further out"),
        (vec![hard_link("link", "more"), file("more", b"x".to_vec())], "a hard link to what comes later"),
        (vec![hard_link("link", "link")], "a hard link to itself"),
        (vec![file("x", b"1".to_vec()), file("x", b"2".to_vec())], "a name twice"),
        (vec![file("y", b"1".to_vec()), file("x", b"2".to_vec())], "names out of order"),
        (vec![node("null", Kind::CharDevice)], "a device without a number"),
        (vec![extents(5, vec![Extent::Hole { length: 4 }])], "a size that is none"),
        (vec![extents(1, vec![forged(u64::MAX), forged(2)])], "lengths that wrap around"),
    ] {
        let fixture = with([vec![folder("")], bad].concat()).await;
        let refused = run(&request(&fixture, fixture.target("into"))).await;
        assert!(matches!(refused, Err(RecoverError::Round(RoundError::Damaged { .. }))), "{why}");
        assert!(!fixture.target("into").exists(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_link_to_no_file_is_left_out_and_named() {
    let link = |target: &str| hard_link("z-link", target);
    let to = |target: &str| {
        (
            Entry {
                target: Some(serde_bytes::ByteBuf::from(target)),
                ..Entry::new(b"out".to_vec(), Kind::Symlink, 0o777)
            },
            Vec::new(),
        )
    };
    let outside = tempfile::tempdir().expect("folder");
    fs::write(outside.path().join("secret"), b"secret").expect("written");
    let secret = outside.path().join("secret").display().to_string();
    let folder_of = outside.path().display().to_string();
    for (before, target) in [
        (folder("out"), "out"),
        (to(&secret), "out"),
        (to(&folder_of), "out/secret"),
        (folder("out"), "absent"),
        (folder("out"), "out/absent/deeper"),
    ] {
        let fixture = with(vec![folder(""), before, file("plain", b"x".to_vec()), link(target)]).await;
        let outcome = run(&request(&fixture, fixture.target("into"))).await.expect("the rest comes");
        assert!(index_is_damaged(&outcome), "{target}: {:?}", outcome.damaged);
        assert_eq!((outcome.services[0].1.lost, outcome.services[0].1.files), (1, 1), "{target}");
        assert!(!fixture.target("into/a/files/z-link").exists());
        assert_eq!(fs::read(outside.path().join("secret")).expect("reads"), b"secret");
    }
}

/// Without a planner's help: links that lie in the target are the danger there, not those of the index.
#[tokio::test(flavor = "multi_thread")]
async fn links_in_the_target_lead_nowhere() {
    for existing in [Existing::Keep, Existing::Replace] {
        let fixture = with(vec![folder(""), folder("d"), file("d/f", b"new".to_vec())]).await;
        let (into, outside) = (fixture.target("into"), fixture.target("outside"));
        fs::create_dir_all(outside.join("files/d")).expect("made");
        fs::create_dir(&into).expect("made");
        symlink(&outside, into.join("a")).expect("link");
        let base = Request { existing, ..request(&fixture, into.clone()) };
        assert!(matches!(run(&base).await, Err(RecoverError::Write(_))), "a service's folder is a link");
        fs::remove_file(into.join("a")).expect("removed");
        fs::create_dir(into.join("a")).expect("made");
        symlink(outside.join("files"), into.join("a/files")).expect("link");
        assert!(matches!(run(&base).await, Err(RecoverError::Write(_))), "a source's folder is a link");
        assert_eq!(found_below(&outside).len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_no_list_has_loses_only_its_files() {
    let extents = vec![Extent::Data { pack: FORGED, offset: 0, length: 10 }];
    let lost = Entry { size: 10, extents, ..Entry::new(b"lost".to_vec(), Kind::File, 0o600) };
    let fixture = with(vec![folder(""), (lost, Vec::new()), file("there", b"x".to_vec())]).await;
    let outcome = run(&request(&fixture, fixture.target("into"))).await.expect("the rest comes");
    assert!(index_is_damaged(&outcome));
    assert_eq!((outcome.services[0].1.lost, outcome.services[0].1.files), (1, 1));
    assert_eq!(found_below(&fixture.target("into")).len(), 1);
}
