//! Prunes of a real folder.

mod crashes;
mod frozen;
mod locks;
mod quarantine;
mod seeded;

use std::sync::Arc;

use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::ids::ObjectId;
use muster_protocol::prune::{Next, Terms, Wait};
use muster_protocol::time::UnixMillis;

use super::look::Look;
use super::survey::{Scope, Survey};
use super::{PruneError, plan, prune, swept_since};
use crate::layout::{ObjectPath, Prefix};
use crate::prune::choose::choose;
use crate::scene::{DAY, HOUR, Scene, service, set, signer};
use crate::store::faults::{Fault, Faulty, Op};
use crate::verify::Fault as DamageFault;

#[tokio::test]
async fn rounds_go_in_two_passes_and_the_others_stay_whole() {
    let mut scene = Scene::new(2).await;
    scene.round(&[("dns", &["d1", "shared"]), ("web", &["w1"])]).await;
    scene.round(&[("dns", &["d2", "shared"]), ("web", &["w1"])]).await;
    scene.round(&[("dns", &["d3", "shared"])]).await;
    scene.round(&[("dns", &["d4"])]).await;
    scene.round(&[("web", &["w5"])]).await;
    let before = scene.tree().await;
    let marked = scene.prune().await.expect("marks").marked.expect("something is due");
    assert_eq!(marked.survey.going.iter().map(|going| going.number).collect::<Vec<_>>(), [1]);
    // The pack, receipt, index, chunk index and pack list of either service, the manifest; `w1` and `shared` stay.
    assert_eq!(marked.survey.total().objects, 1 + 4 + 4 + 1);
    assert_eq!(marked.survey.going[0].frees, marked.survey.total());
    let with_list = scene.tree().await;
    assert_eq!(with_list.len(), before.len() + 1);
    assert!(before.keys().all(|path| with_list.contains_key(path)), "pass one deletes nothing");
    let waits = scene.prune().await.expect("waits");
    assert!(matches!(waits.waits, Some((_, Wait::Grace { .. }))) && waits.marked.is_none());
    assert_eq!(scene.recoverable(), [1, 2, 3, 4, 5]);
    scene.now += 2 * HOUR;
    let report = scene.prune().await.expect("sweeps");
    assert_eq!(report.swept[0].rounds, [1]);
    assert_eq!(report.swept[0].deleted, marked.survey.total());
    assert_eq!(report.marked, None, "the lists that it leaves are no reason for another mark");
    assert_eq!(scene.recoverable(), [2, 3, 4, 5]);
    assert_eq!(scene.packs("dns").await, set(&["d2", "d3", "d4", "shared"]));
    assert_eq!(scene.packs("web").await, set(&["w1", "w5"]));
    assert_eq!(scene.damage().await, [""; 0]);
    let report = scene.prune().await.expect("nothing to do");
    assert!(report.swept.is_empty() && report.marked.is_none() && report.waits.is_none(), "{report:?}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let mut scene = Scene::new(1).await;
    for name in ["a", "b", "c"] {
        scene.round(&[("dns", &[name])]).await;
    }
    let (tree, head) = (scene.tree().await, scene.log.head());
    let first = plan(&scene.log, UnixMillis(scene.now)).await.expect("planned");
    assert_eq!((first.next, first.survey.going.len()), (Next::Mark, 2));
    assert_eq!((scene.tree().await, scene.log.head()), (tree, head));
    let marked = scene.prune().await.expect("marks").marked.expect("due");
    assert_eq!(marked.survey, first.survey, "it does what was planned");
    scene.now += 2 * HOUR;
    let (tree, head) = (scene.tree().await, scene.log.head());
    let second = plan(&scene.log, UnixMillis(scene.now)).await.expect("planned");
    assert!(matches!(second.next, Next::Sweep { .. }));
    assert_eq!(second.survey.objects, first.survey.objects);
    assert_eq!((scene.tree().await, scene.log.head()), (tree, head));
    scene.log.refresh().await.expect("nothing was appended");
    assert_eq!(scene.log.head(), head);
}

#[tokio::test]
async fn held_rounds_stay_also_when_the_hold_comes_after_the_mark() {
    let mut scene = Scene::new(1).await;
    for name in ["a", "b", "c", "d"] {
        scene.round(&[("dns", &[name])]).await;
    }
    scene.hold(1, true).await;
    let marked = scene.prune().await.expect("marks").marked.expect("due");
    assert_eq!(marked.survey.going.iter().map(|going| going.number).collect::<Vec<_>>(), [2, 3]);
    scene.hold(2, true).await;
    scene.now += 2 * HOUR;
    let report = scene.prune().await.expect("sweeps");
    assert_eq!(report.swept[0].rounds, [3]);
    assert!(!report.swept[0].kept_back.is_empty());
    assert_eq!(scene.recoverable(), [1, 2, 4]);
    assert_eq!(scene.packs("dns").await, set(&["a", "b", "d"]));
    assert_eq!(scene.damage().await, [""; 0]);
    scene.hold(1, false).await;
    scene.prune_twice().await;
    assert_eq!(scene.recoverable(), [2, 4]);
}

#[tokio::test]
async fn an_open_round_keeps_what_it_uploads_and_what_it_uses_again() {
    let mut scene = Scene::new(1).await;
    scene.round(&[("dns", &["old", "used again"])]).await;
    scene.round(&[("dns", &["new"]), ("web", &["w"])]).await;
    scene.upload("web", "torn before").await;
    let open = scene.open(&["dns"]).await;
    scene.upload("dns", "in flight").await;
    let marked = scene.prune().await.expect("marks").marked.expect("due");
    assert_eq!(marked.survey.in_use.objects, 1, "what it uploads");
    assert_eq!(marked.survey.orphans.objects, 1, "another service's is not its own");
    scene.now += 2 * HOUR;
    let waits = scene.prune().await.expect("waits");
    assert_eq!(waits.waits.map(|(_, why)| why), Some(Wait::Round(open)));
    // It was opened before the mark, so nothing told it not to use the marked pack.
    let slice = scene.slice(open, ("dns", &["used again", "in flight"])).await;
    scene.commit(open, vec![slice], true).await;
    let report = scene.prune().await.expect("sweeps");
    assert_eq!(report.swept[0].rounds, [1]);
    assert_eq!(report.swept[0].kept_back.len(), 1);
    assert_eq!(scene.packs("dns").await, set(&["in flight", "new", "used again"]));
    assert_eq!(scene.packs("web").await, set(&["w"]));
    assert_eq!(scene.damage().await, [""; 0]);
    assert_eq!(scene.recoverable(), [2, 3]);
}

#[tokio::test]
async fn what_no_round_ever_counted_goes_once_its_round_is_over() {
    let mut scene = Scene::new(9).await;
    scene.round(&[("dns", &["a"])]).await;
    let failed = scene.open(&["dns", "web"]).await;
    scene.slice(failed, ("dns", &["lost"])).await;
    scene.upload("web", "half").await;
    scene.put(b"a manifest that no commit names".to_vec(), ObjectPath::Manifest).await;
    assert!(scene.prune().await.expect("leaves it alone").marked.is_none());
    scene.end(failed).await;
    let report = scene.prune_twice().await;
    // A pack, receipt, index, chunk index and pack list, half an upload, a manifest; not the account of what happened.
    assert_eq!((report.swept[0].rounds.len(), report.swept[0].deleted.objects), (0, 7));
    let account = ObjectPath::Manifest(ObjectId::of(b"account of 2"));
    assert!(scene.tree().await.contains_key(&account));
    for name in ["b", "c"] {
        scene.round(&[("dns", &[name])]).await;
    }
    scene.retain(&[("keep_last", "1")], None).await;
    assert_eq!(scene.prune_twice().await.swept[0].rounds, [1, 3]);
    assert!(!scene.tree().await.contains_key(&account), "it goes with the rounds around it");
    assert_eq!(scene.packs("dns").await, set(&["c"]));
    assert_eq!(scene.packs("web").await, set(&[]));
    assert_eq!(scene.damage().await, [""; 0]);
}

#[tokio::test]
async fn superseded_configurations_and_used_grants_go() {
    let mut scene = Scene::new(9).await;
    scene.round(&[("dns", &["a"])]).await;
    let sealed = |n: u8| [&b"age-encryption.org/v1\n-> X25519 "[..], &[n]].concat();
    let old = scene.put(sealed(1), ObjectPath::List).await;
    let new = scene.put(sealed(2), ObjectPath::List).await;
    let keep = [("keep_last", "9")];
    scene.retain(&keep, old.id().copied()).await;
    assert!(scene.prune().await.expect("marks").marked.is_some(), "`new` is not in force yet");
    scene.retain(&keep, new.id().copied()).await;
    let grant = scene.put(b"a grant".to_vec(), ObjectPath::Grant).await;
    scene.now += 2 * HOUR;
    let report = scene.prune().await.expect("sweeps");
    assert_eq!(report.swept[0].kept_back, std::slice::from_ref(&new), "it is in force now");
    assert_eq!(report.swept[0].deleted.objects, 0);
    let marked = report.marked.expect("the other two are due");
    assert_eq!((marked.survey.configurations.objects, marked.survey.grants.objects), (1, 1));
    scene.now += 2 * HOUR;
    scene.prune().await.expect("sweeps");
    let tree = scene.tree().await;
    assert!(tree.contains_key(&new) && !tree.contains_key(&old) && !tree.contains_key(&grant));
}

/// Whatever is wrong with one object that stays, nothing is deleted, and the object is named.
#[tokio::test]
async fn damage_of_what_stays_deletes_nothing_and_names_it() {
    for pass in [1, 2] {
        for (which, name) in [(0, "pack"), (1, "receipt"), (2, "packs"), (3, "manifest"), (4, "index")] {
            for cut in [false, true] {
                let mut scene = Scene::new(1).await;
                scene.round(&[("dns", &["a"])]).await;
                let newest = scene.round(&[("dns", &["b, longer"])]).await;
                if pass == 2 {
                    scene.prune().await.expect("marks");
                    scene.now += 2 * HOUR;
                }
                let round = scene.id(newest);
                let commit = scene.log.state().rounds[&round].commit().expect("committed").manifest;
                let is_it = |path: &ObjectPath| match which {
                    0 => matches!(path, ObjectPath::Pack { id, .. } if *id == ObjectId::of(b"b, longer")),
                    3 => *path == ObjectPath::Manifest(commit),
                    _ => matches!(path, ObjectPath::Slice { round: of, part, .. }
                        if *of == round && part.ending() == name),
                };
                let path = scene.tree().await.into_keys().find(is_it);
                let path = path.expect("an object");
                let file = scene.folder.path().join(path.to_string());
                if cut {
                    std::fs::write(&file, b"b").expect("cut");
                } else {
                    std::fs::remove_file(&file).expect("gone");
                }
                let (tree, head) = (scene.tree().await, scene.log.head());
                let error = scene.prune().await.expect_err("refused");
                let PruneError::Damaged(damage) = &error else { panic!("{error:?}") };
                assert_eq!((&damage.object, error.code()), (&path, Code::Verify01));
                assert!(!cut || !matches!(damage.fault, DamageFault::Missing));
                assert_eq!((scene.tree().await, scene.log.head()), (tree, head), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn damage_of_what_goes_stops_nothing() {
    let mut scene = Scene::new(1).await;
    for name in ["a", "b", "c"] {
        scene.round(&[("dns", &[name])]).await;
    }
    let manifest = |scene: &Scene, number| {
        let id = scene.log.state().rounds[&scene.id(number)].commit().expect("committed").manifest;
        scene.folder.path().join(ObjectPath::Manifest(id).to_string())
    };
    std::fs::remove_file(manifest(&scene, 1)).expect("gone");
    scene.prune().await.expect("marks").marked.expect("due");
    std::fs::remove_file(manifest(&scene, 2)).expect("gone");
    scene.now += 2 * HOUR;
    assert_eq!(scene.prune().await.expect("sweeps").swept[0].rounds, [1, 2]);
    assert_eq!(scene.packs("dns").await, set(&["c"]));
    assert_eq!(scene.damage().await, [""; 0]);
}

/// Whether a prune refuses a listing of this prefix that ends after so many lines. Nothing may be damaged either way.
async fn refused(scene: &mut Scene, prefix: &str, lines: usize) -> bool {
    let listed = prefix.to_owned();
    let lying = Faulty::new(scene.store.clone(), move |call| {
        let lies = call.op == Op::List && call.path == listed;
        if lies { Fault::ShortWrite(lines) } else { Fault::None }
    });
    let stopped = match scene.prune_through(Arc::new(lying)).await {
        Ok(report) => report.stopped,
        Err(error) => Some(error),
    };
    let refused = match stopped {
        None => false,
        Some(PruneError::Listing { object }) => {
            assert!(object.to_string().starts_with(prefix));
            true
        }
        Some(error) => panic!("{error:?}"),
    };
    assert_eq!(scene.damage().await, [""; 0], "{lines} of {prefix}");
    refused
}

/// A share whose listing ends early without an error, at every place it may.
#[tokio::test]
async fn a_listing_that_leaves_things_out_deletes_nothing_that_is_needed() {
    let mut scene = Scene::new(1).await;
    for name in ["a", "b", "c"] {
        scene.round(&[("dns", &[name]), ("web", &["w"])]).await;
    }
    scene.prune().await.expect("marks");
    scene.now += 2 * HOUR;
    for lines in 0..20 {
        for prefix in ["agents/dns/", "agents/web/", "manifests/", "lists/"] {
            let _ = refused(&mut scene, prefix, lines).await;
        }
    }
    assert!(scene.packs("dns").await.contains("c"));
    // Once all that may go is gone, whatever is left out is something that is needed.
    loop {
        let report = scene.prune().await.expect("goes on");
        if report.swept.is_empty() && report.marked.is_none() && report.waits.is_none() {
            break;
        }
        scene.now += 2 * HOUR;
    }
    for prefix in [Prefix::Agent(service("dns")), Prefix::Agent(service("web")), Prefix::Manifests] {
        let there = scene.store.list(&prefix).count().await;
        assert!(there > 0, "{prefix}");
        for lines in 0..there {
            assert!(
                refused(&mut scene, &prefix.to_string(), lines).await,
                "{lines} of {there} below {prefix}"
            );
        }
        assert!(!refused(&mut scene, &prefix.to_string(), there).await, "all {there} below {prefix}");
    }
}

/// The clocks of coordinator and pruner leap; what the retention keeps by number stays, and days do not pass by leaps.
#[tokio::test]
async fn leaping_clocks_widen_nothing() {
    const YEARS: i64 = 3_660 * DAY;
    for leap in [YEARS, -YEARS] {
        let mut scene = Scene::new(0).await;
        scene.retain(&[("keep_days", "7"), ("min_verified", "2")], None).await;
        for name in ["a", "b", "c"] {
            scene.round(&[("dns", &[name])]).await;
        }
        scene.now += leap;
        scene.round(&[("dns", &["d"])]).await;
        assert!(scene.prune().await.expect("nothing is due").marked.is_none(), "while it is wrong");
        scene.now -= leap;
        scene.round(&[("dns", &["e"])]).await;
        assert!(scene.prune().await.expect("nothing is due").marked.is_none(), "after it is set right");
        scene.retain(&[("min_verified", "2")], None).await;
        scene.now += leap;
        scene.prune().await.expect("marks").marked.expect("without days, two stay");
        scene.now += 2 * HOUR;
        scene.prune().await.expect("sweeps");
        assert_eq!(scene.recoverable(), [4, 5]);
        assert_eq!(scene.damage().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_prune_that_is_full_leaves_the_rest_for_the_next() {
    let mut scene = Scene::new(1).await;
    for name in ["a", "b", "c", "d"] {
        scene.round(&[("dns", &[name])]).await;
    }
    let state = scene.log.state();
    let clear = state.config.as_ref().map(|config| config.clear.clone()).expect("a configuration");
    let terms = Terms::of(&clear).expect("valid");
    let scope = Scope::Due { rounds: 2, objects: 7 };
    let now = UnixMillis(scene.now);
    let rounds = choose(scene.store.as_ref(), state, terms, now, scope).await.expect("chosen");
    assert_eq!((rounds.more, rounds.staying.len()), (1, 2), "the third that is due is kept whole");
    let store = scene.store.as_ref();
    let going = super::survey::survey(store, state, terms, now, scope).await.expect("surveyed");
    assert_eq!(going.going.iter().map(|going| going.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((going.objects.len(), going.more_objects, going.more_rounds), (7, true, 1));
    let mut look =
        Look { store, state, scope, rounds: &rounds, survey: Survey::default(), candidates: Vec::new() };
    look.survey.going.clone_from(&going.going);
    look.service(&service("dns")).await.expect("looked");
    let c = ObjectPath::Pack { service: service("dns"), id: ObjectId::of(b"c") };
    let survey = look.end().await.expect("told");
    assert!(!survey.objects.iter().any(|(path, _)| *path == c));
}

#[tokio::test]
async fn only_a_pruner_prunes_and_commits_are_told_of_sweeps() {
    let mut scene = Scene::new(1).await;
    for name in ["a", "b"] {
        scene.round(&[("dns", &[name])]).await;
    }
    let error = prune(&mut scene.log, &signer(2), UnixMillis(scene.now)).await.expect_err("a coordinator");
    assert!(matches!(error, PruneError::NotPruner { .. }));
    let before = scene.log.head().number;
    scene.prune_twice().await;
    let state = scene.log.state();
    let swept = swept_since(scene.store.as_ref(), state, before).await.expect("read");
    let pack = |name: &str| ObjectPath::Pack { service: service("dns"), id: ObjectId::of(name.as_bytes()) };
    assert!(swept.contains(&pack("a")) && !swept.contains(&pack("b")));
    let after = scene.log.head().number;
    assert!(swept_since(scene.store.as_ref(), state, after).await.expect("read").is_empty());
    let list = ObjectPath::List(state.sweeps.values().next().expect("a sweep").0.list);
    std::fs::write(scene.folder.path().join(list.to_string()), b"agents/\n").expect("damaged");
    swept_since(scene.store.as_ref(), state, before).await.expect_err("it is not known what is swept");
    assert!(scene.prune().await.is_ok(), "nothing is due");
}
