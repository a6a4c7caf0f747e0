//! What there is to read, on a share whose rounds come and go and whose objects are damaged.

use std::collections::BTreeSet;

use muster_protocol::ids::ObjectId;

use super::{Inventory, fleet, slices};
use crate::layout::ObjectPath;
use crate::scene::{Scene, service};
use crate::verify::Fault;

async fn inventory(scene: &Scene, name: &str) -> Inventory {
    let (store, state) = (scene.store.as_ref(), scene.log.state());
    let of = slices(store, state, &BTreeSet::from([service(name)])).await.expect("read");
    of.inventory(store, state, &service(name)).await.expect("read").0
}

fn spoil(scene: &Scene, path: &ObjectPath) {
    std::fs::write(scene.folder.path().join(path.to_string()), b"spoilt").expect("written");
}

#[tokio::test]
async fn all_that_recoverable_rounds_name_is_to_be_read_and_nothing_else() {
    let mut scene = Scene::new(1).await;
    scene.round(&[("dns", &["a", "b"]), ("web", &["w"])]).await;
    scene.round(&[("dns", &["b", "c"])]).await;
    scene.upload("dns", "of nobody").await;
    let (course, damaged) = fleet(scene.store.as_ref(), scene.log.state()).await.expect("read");
    assert_eq!((course.services_from(None).count(), damaged), (2, Vec::new()));
    let dns = inventory(&scene, "dns").await;
    let packs =
        |of: &Inventory| of.values().filter(|(path, _)| matches!(path, ObjectPath::Pack { .. })).count();
    // Receipt, index, pack list and chunk index of both rounds, and three packs.
    assert_eq!((dns.len(), packs(&dns)), (11, 3));
    assert!(dns.contains_key(&ObjectId::of(b"a")) && !dns.contains_key(&ObjectId::of(b"of nobody")));
    assert_eq!(inventory(&scene, "web").await.len(), 5);
    // The newest round of dns is enough for it; web has only the first.
    scene.round(&[("dns", &["c"]), ("web", &["w"])]).await;
    scene.prune_twice().await;
    let dns = inventory(&scene, "dns").await;
    assert_eq!((dns.len(), packs(&dns)), (5, 1));
}

#[tokio::test]
async fn damage_hides_no_more_than_it_must() {
    let mut scene = Scene::new(9).await;
    let first = scene.round(&[("dns", &["a"])]).await;
    scene.round(&[("dns", &["a", "b"])]).await;
    let whole = inventory(&scene, "dns").await;
    let id = scene.id(first);
    let list = whole.values().map(|(path, _)| path.clone());
    let list = list.into_iter().find(|path| {
        matches!(path, ObjectPath::Slice { round, part: crate::layout::SlicePart::Packs, .. } if *round == id)
    });
    spoil(&scene, &list.expect("a list"));
    assert_eq!(inventory(&scene, "dns").await, whole, "the second round lists the pack as well");
    let manifest = scene.log.state().rounds[&id].commit().expect("committed").manifest;
    spoil(&scene, &ObjectPath::Manifest(manifest));
    let (course, damaged) = fleet(scene.store.as_ref(), scene.log.state()).await.expect("read");
    assert!(!course.is_empty());
    let told: Vec<_> = damaged.into_iter().map(|(number, damage)| (number, damage.fault)).collect();
    let want = scene.log.state().rounds[&id].commit().expect("committed").manifest_size;
    assert_eq!(told, [(Some(first), Fault::Length { have: 6, want })]);
}
