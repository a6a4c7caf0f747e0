//! What lies in the target already: refused, kept, replaced, or gone on with.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_share::store::faults::{Call, Fault, Faulty};

use super::super::fixture::{Fixture, Item, file, folder, found_below, hard_link, name, noise};
use super::super::{Existing, Origin, RecoverError, Request, RoundError};
use super::{expected, request, run};

/// Many files in several packs.
fn many() -> Vec<Item> {
    let mut items = vec![folder("")];
    for folder_number in 0..8 {
        items.push(folder(&format!("d{folder_number}")));
        for number in 0..8 {
            let seed = folder_number * 8 + number + 1;
            items.push(file(&format!("d{folder_number}/f{number}"), noise(seed, 20_000)));
        }
        items.push(hard_link(&format!("d{folder_number}/link"), &format!("d{folder_number}/f0")));
    }
    items
}

async fn fixture() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.round(vec![(name("a"), vec![("files", many())])], &["b"]).await;
    fixture
}

/// A share that counts its packs as they are read, and is gone after some of them.
fn until(request: &Request, packs: u64) -> (Request, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&read);
    let rule = move |call: &Call<'_>| {
        let pack = call.path.contains("/packs/");
        let gone = pack && counted.fetch_add(1, Ordering::Relaxed) >= packs;
        if gone { Fault::Unreachable } else { Fault::None }
    };
    let store = Arc::new(Faulty::new(Arc::clone(&request.from.store), rule));
    (Request { from: Origin { store, ..request.from.clone() }, ..request.clone() }, read)
}

fn all(fixture: &Fixture) -> std::collections::BTreeMap<String, Vec<u8>> {
    found_below(&fixture.target("whole"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_recovery_goes_on() {
    let fixture = fixture().await;
    run(&request(&fixture, fixture.target("whole"))).await.expect("recovered");
    let base = Request { workers: 1, ..request(&fixture, fixture.target("into")) };
    let (counting, all_packs) = until(&base, u64::MAX);
    run(&Request { into: fixture.target("counted"), ..counting }).await.expect("recovered");
    let all_packs = all_packs.load(Ordering::Relaxed);
    let (failing, _) = until(&base, all_packs / 2);
    let error = run(&failing).await.expect_err("the share is gone");
    assert!(matches!(error, RecoverError::Round(RoundError::Store(_))), "{error}");
    let some = found_below(&base.into);
    assert!(some.len() > 1 && some.len() < all(&fixture).len(), "{} files", some.len());
    assert!(!some.keys().any(|path| path.contains("part-")), "what was not finished is removed");
    assert!(matches!(run(&base).await, Err(RecoverError::Target { .. })), "never without being asked");

    // Something half written, as a kill leaves it, and a file that is not what it should be.
    let victim = some.keys().find(|path| path.starts_with("a/")).expect("a file");
    let inode = |path: &str| base.into.join(path).metadata().expect("there").ino();
    let kept: Vec<_> = some.keys().filter(|path| path.starts_with("a/") && *path != victim).collect();
    let before: Vec<_> = kept.iter().map(|path| inode(path)).collect();
    fs::write(base.into.join(victim), b"half").expect("written");
    let (counting, read) = until(&base, u64::MAX);
    let outcome = run(&Request { resume: true, ..counting }).await.expect("goes on");
    assert_eq!(found_below(&base.into), all(&fixture));
    assert_eq!(kept.iter().map(|path| inode(path)).collect::<Vec<_>>(), before, "not written again");
    assert!(read.load(Ordering::Relaxed) < all_packs, "{read:?} of {all_packs}");
    let (_, a) = &outcome.services[0];
    assert!(a.kept >= kept.len() as u64 && a.files + a.kept >= 72, "{a:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_same_round_goes_on_and_nothing_is_believed_after_a_restart() {
    let fixture = fixture().await;
    run(&request(&fixture, fixture.target("whole"))).await.expect("recovered");
    let base = Request { workers: 1, ..request(&fixture, fixture.target("into")) };
    let resume = Request { resume: true, ..base.clone() };
    fs::create_dir(&base.into).expect("made");
    fs::write(base.into.join("mine"), b"mine").expect("written");
    assert!(matches!(run(&resume).await, Err(RecoverError::Resume { .. })), "no note, no recovery");
    fs::remove_file(base.into.join("mine")).expect("removed");
    run(&until(&base, 4).0).await.expect_err("the share is gone");
    let note = base.into.join(".muster-recovery");
    let good = fs::read_to_string(&note).expect("a note");
    let round = |text: &str| text.find("\"round\":\"").map(|at| at + 9).expect("a round");
    let mut other = good.clone();
    other.replace_range(round(&good)..round(&good) + 4, "0123");
    for bad in ["", "{}", &other] {
        fs::write(&note, bad).expect("written");
        assert!(matches!(run(&resume).await, Err(RecoverError::Resume { .. })), "{bad}");
    }
    let boot = good.find("\"boot\":\"").map(|at| at + 8).expect("a boot id");
    let mut restarted = good.clone();
    restarted.replace_range(boot..boot + 4, "none");
    fs::write(&note, restarted).expect("written");
    let outcome = run(&resume).await.expect("goes on");
    assert_eq!(outcome.services[0].1.files, 72, "every file is made again");
    assert_eq!(found_below(&base.into), all(&fixture));
    run(&Request { into: fixture.target("new"), ..resume }).await.expect("begins anew where nothing is");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_kept_or_replaced_and_nothing_else_is_touched() {
    for existing in [Existing::Keep, Existing::Replace] {
        let fixture = Fixture::with_two_rounds().await;
        let outside = fixture.target("outside");
        let request = Request { existing, ..request(&fixture, fixture.target("into")) };
        let tree = request.into.join("a/files");
        let write = |path: &Path| fs::write(path, b"mine").expect("written");
        fs::create_dir_all(tree.join("etc/small/inside")).expect("made");
        fs::create_dir(&outside).expect("made");
        for path in ["etc/twin", "etc/unnamed", "unnamed"] {
            write(&tree.join(path));
        }
        write(&outside.join("big"));
        symlink(outside.join("big"), tree.join("etc/big")).expect("link");
        symlink(&outside, tree.join("var")).expect("link");
        let outcome = run(&request).await.expect("recovered");
        let (_, a) = &outcome.services[0];
        let read = |path: &str| fs::read(tree.join(path)).expect("reads");
        let tree_is = |path: &str, want: &[u8]| assert!(read(path) == want, "{existing:?} {path}");
        let whole = expected(2);
        let want = |path: &str| whole[&format!("a/files/{path}")].clone();
        assert_eq!(fs::read_dir(&outside).expect("lists").count(), 1, "nothing is made through a link");
        assert_eq!(fs::read(outside.join("big")).expect("reads"), b"mine");
        for path in ["etc/unnamed", "unnamed"] {
            tree_is(path, b"mine");
        }
        assert!(tree.join("etc/small/inside").is_dir(), "folders are never removed");
        tree_is("etc/empty", b"");
        if existing == Existing::Keep {
            tree_is("etc/twin", b"mine");
            assert!(tree.join("var").is_symlink() && tree.join("etc/big").is_symlink());
            // The link's file is not one that may be linked to.
            assert!(!tree.join("etc/link").exists());
            assert_eq!((a.kept, a.blocked, a.lost), (5, 4, 1), "{a:?}");
        } else {
            tree_is("etc/twin", &want("etc/twin"));
            tree_is("etc/big", &want("etc/big"));
            tree_is("etc/link", &want("etc/link"));
            tree_is("var/new", &want("var/new"));
            assert!(!tree.join("var").is_symlink());
            assert_eq!((a.kept, a.blocked, a.lost), (0, 1, 0), "{a:?}");
        }
        assert!(outcome.damaged.is_empty(), "{:?}", outcome.damaged);
        let left = |root: &Path| found_below(root).keys().any(|path| path.contains(".muster"));
        assert!(!left(&request.into));
        // Once more changes nothing of it.
        let again = run(&request).await.expect("recovered");
        assert_eq!(again.services[0].1.blocked, a.blocked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_and_the_kit_are_no_target() {
    let fixture = Fixture::with_two_rounds().await;
    let linked = fixture.target("linked");
    symlink(fixture.share(), &linked).expect("link");
    let inside = [fixture.share(), fixture.share().join("new/folder"), linked.join("new")];
    for into in inside {
        let refused = Request { existing: Existing::Replace, ..request(&fixture, into.clone()) };
        assert!(matches!(run(&refused).await, Err(RecoverError::Inside { .. })), "{}", into.display());
    }
    let mut above = Request { existing: Existing::Replace, ..request(&fixture, fixture.target("above")) };
    above.apart_from.push(above.into.join("a/files/kit"));
    assert!(matches!(run(&above).await, Err(RecoverError::Inside { .. })), "the kit in a service's folder");
    assert!(!fixture.share().join("new").exists());
}
