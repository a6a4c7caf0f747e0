//! What becomes of stored objects: marks, sweeps, quarantine and the scrub.

use crate::ids::ObjectId;
use crate::log::fixture::{
    ADMIN, FIRST, Fleet, OPERATOR, PRUNER, ROOT, commit, end, key, open, round, service, verified,
};
use crate::log::{
    Accept, Found, Hold, MAX_QUARANTINE_OBJECTS, MAX_QUARANTINED, Prune, Pruned, Quarantine, Reached, Scrub,
    Sweep,
};
use crate::time::UnixMillis;

#[test]
fn holds_marks_and_sweeps() {
    let mut fleet = Fleet::found();
    let list = ObjectId::of(b"list");
    let hold = |fleet: &Fleet, id, keep| Hold {
        previous: fleet.last::<Hold>(),
        round: round(id),
        keep,
        reason: None,
        at: None,
    };
    let sweep = |ids: &[u8]| Sweep { rounds: ids.iter().map(|id| round(*id)).collect(), list };
    let prune = |ids: &[u8]| Prune { epoch: 1, rounds: sweep(ids).rounds, list, at: None };
    for id in 1..=3 {
        fleet.says(FIRST, &open(1, id, u64::from(id), &["dns"]));
        fleet.says_in_vain(FIRST, &prune(&[id]), "open, held or unknown");
        fleet.says(FIRST, &commit(1, id));
    }
    fleet.states_in_vain(FIRST, OPERATOR, &hold(&fleet, 9, true), "does not exist");
    fleet.states_in_vain(FIRST, FIRST, &hold(&fleet, 1, true), "may not hold");
    fleet.states(FIRST, OPERATOR, &hold(&fleet, 1, true));
    fleet.says_in_vain(FIRST, &prune(&[1]), "open, held or unknown");
    fleet.says_in_vain(PRUNER, &sweep(&[2]), "no pending mark");
    fleet.says(FIRST, &open(1, 4, 4, &["dns"]));
    fleet.says(FIRST, &prune(&[2]));
    fleet.says_in_vain(PRUNER, &sweep(&[2]), "still is");
    fleet.says(FIRST, &end(1, 4));
    fleet.says(FIRST, &open(1, 5, 5, &["dns"]));
    fleet.says_in_vain(PRUNER, &sweep(&[2, 3]), "no pending mark");
    fleet.says_in_vain(FIRST, &sweep(&[2]), "no pruner's");
    // A hold after the mark saves the round; letting go gives it back.
    fleet.states(FIRST, OPERATOR, &hold(&fleet, 2, true));
    fleet.says_in_vain(PRUNER, &sweep(&[2]), "open, held or unknown");
    fleet.states(FIRST, OPERATOR, &hold(&fleet, 2, false));
    fleet.says(PRUNER, &sweep(&[2]));
    let swept = fleet.state.head.number;
    fleet.says_in_vain(PRUNER, &sweep(&[2]), "no pending mark");
    fleet.states_in_vain(FIRST, OPERATOR, &hold(&fleet, 2, true), "swept already");
    fleet.says_in_vain(FIRST, &verified(1, 2), "swept already");
    fleet.says_in_vain(FIRST, &Pruned { sweep: swept }, "no pruner's");
    fleet.says_in_vain(PRUNER, &Pruned { sweep: 1 }, "never began");
    fleet.says(PRUNER, &Pruned { sweep: swept });
    fleet.says_in_vain(PRUNER, &Pruned { sweep: swept }, "ended already");
    assert_eq!(fleet.state.newest_recoverable().map(|r| r.open.number), Some(3));
    assert!(!fleet.state.rounds[&round(2)].is_recoverable());
    // A pruner marks without leading; it names the epoch that it has seen.
    fleet.says_in_vain(OPERATOR, &prune(&[3]), "does not hold epoch");
    fleet.says_in_vain(PRUNER, &Prune { epoch: 2, ..prune(&[3]) }, "not the current one");
    fleet.says(PRUNER, &prune(&[3]));
    assert_eq!(fleet.state.prunes.len(), 1);
}

#[test]
fn the_leader_puts_objects_into_quarantine_and_lifts_it() {
    let mut fleet = Fleet::found();
    let (dns, id) = (|| service("dns"), |name: &str| ObjectId::of(name.as_bytes()));
    let says = |add: &[&str], lift: &[&str]| Quarantine {
        epoch: 1,
        service: dns(),
        add: add.iter().map(|name| id(name)).collect(),
        found: Found::Bytes,
        lift: lift.iter().map(|name| id(name)).collect(),
        at: UnixMillis(5),
    };
    fleet.says_in_vain(OPERATOR, &says(&["a"], &[]), "does not hold epoch");
    fleet.says_in_vain(PRUNER, &says(&["a"], &[]), "does not hold epoch");
    fleet.says_in_vain(FIRST, &Quarantine { epoch: 2, ..says(&["a"], &[]) }, "does not hold epoch");
    fleet.says_in_vain(FIRST, &says(&[], &["a"]), "in no quarantine");
    let before = fleet.state.head.number;
    fleet.says(FIRST, &says(&["a", "b"], &[]));
    let position = fleet.state.head.number;
    assert!(fleet.state.is_quarantined(&dns(), &id("a")) && !fleet.state.is_quarantined(&dns(), &id("c")));
    assert!(!fleet.state.is_quarantined(&service("web"), &id("a")));
    assert_eq!(fleet.state.quarantined_since(before).collect::<Vec<_>>(), [&dns()]);
    assert_eq!(fleet.state.quarantined_since(position).count(), 0);
    // Neither what is known already nor what is lifted makes a slice look newer than it is.
    fleet.says(FIRST, &says(&["b"], &["a"]));
    assert_eq!(fleet.state.quarantine[&dns()].position, position);
    fleet.says(FIRST, &says(&[], &["b"]));
    assert_eq!(fleet.state.quarantine.len(), 0);
    let many: Vec<ObjectId> = (0..=MAX_QUARANTINED as u64).map(|n| ObjectId::of(&n.to_be_bytes())).collect();
    let most = Quarantine { add: many[..MAX_QUARANTINE_OBJECTS + 1].to_vec(), ..says(&[], &[]) };
    fleet.says_in_vain(FIRST, &most, "more than 800 objects");
    for some in many[..MAX_QUARANTINED].chunks(MAX_QUARANTINE_OBJECTS) {
        fleet.says(FIRST, &Quarantine { add: some.to_vec(), ..says(&[], &[]) });
    }
    let last = Quarantine { add: many[MAX_QUARANTINED..].to_vec(), ..says(&[], &[]) };
    fleet.says_in_vain(FIRST, &last, "would be in quarantine");
}

#[test]
fn passes_of_the_scrub_follow_each_other() {
    let mut fleet = Fleet::found();
    let reached = Reached { service: service("dns"), object: ObjectId::of(b"a") };
    let at = |pass, reached: Option<&Reached>, objects| Scrub {
        epoch: 1,
        pass,
        reached: reached.cloned(),
        objects,
        bytes: 9,
        began: UnixMillis(1),
        at: UnixMillis(2),
    };
    fleet.says_in_vain(PRUNER, &at(1, Some(&reached), 1), "does not hold epoch");
    fleet.says_in_vain(FIRST, &at(2, Some(&reached), 1), "1 is the one under way");
    fleet.says(FIRST, &at(1, Some(&reached), 1));
    let (pass, to) = fleet.state.scrub.current.clone().expect("under way");
    assert_eq!((pass.pass, pass.objects, &to, fleet.state.scrub.last.clone()), (1, 1, &reached, None));
    fleet.says(FIRST, &at(1, None, 4));
    fleet.says_in_vain(FIRST, &at(1, None, 4), "2 is the one under way");
    fleet.says(FIRST, &at(2, Some(&reached), 1));
    let last = fleet.state.scrub.last.as_ref().map(|last| (last.pass, last.objects));
    assert_eq!(last, Some((1, 4)), "the last whole pass is told while the next goes on");
}

#[test]
fn a_service_is_accepted_up_to_a_verified_round() {
    let mut fleet = Fleet::found();
    let accept = |fleet: &Fleet, id, name: &str| Accept {
        previous: fleet.last::<Accept>(),
        service: service(name),
        round: round(id),
        reason: None,
        at: None,
    };
    for id in 1..=2 {
        fleet.says(FIRST, &open(1, id, u64::from(id), &["dns"]));
        fleet.says(FIRST, &commit(1, id));
        fleet.states_in_vain(FIRST, OPERATOR, &accept(&fleet, id, "dns"), "is not verified");
        fleet.says(FIRST, &verified(1, id));
    }
    fleet.states_in_vain(FIRST, OPERATOR, &accept(&fleet, 9, "dns"), "does not exist");
    fleet.states_in_vain(FIRST, PRUNER, &accept(&fleet, 1, "dns"), "may not accept");
    assert_eq!(fleet.state.accepted, [].into());
    fleet.states(FIRST, OPERATOR, &accept(&fleet, 2, "dns"));
    fleet.states(FIRST, ADMIN, &accept(&fleet, 1, "dns"));
    fleet.states(FIRST, ROOT, &accept(&fleet, 1, "web"));
    assert_eq!(fleet.state.accepted, [(service("dns"), 2), (service("web"), 1)].into());
    let by = |name: &str| fleet.state.name_of(&fleet.state.accepted_by[&service(name)]);
    assert_eq!(
        (by("dns"), by("web")),
        (fleet.state.name_of(&key(OPERATOR)), fleet.state.name_of(&key(ROOT)))
    );
    let again = Accept { previous: None, ..accept(&fleet, 2, "web") };
    fleet.states_in_vain(FIRST, OPERATOR, &again, "does not follow the last accept");
}
