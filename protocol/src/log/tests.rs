//! The rules of replay, one by one, and the race of two coordinators for the slots.

mod stored;

use crate::ids::{Nonce, ObjectId};
use crate::log::fixture::{
    ADMIN, AT, DNS, ENROLLER, FIRST, Fleet, OPERATOR, PRUNER, ROOT, SECOND, STRANGER, VIEWER, agent, commit,
    end, epoch, fleet_id, genesis, genesis_record, key, member, open, recipient, recovery_key, round,
    service, signer, verified,
};
use crate::log::{
    Accept, Adopt, Audit, Body, Change, Config, Drill, DrillOutcome, Effect, GENESIS_HEAD, Head, Hold,
    Keyset, Outcome, Pin, Prune, ReplayError, Role, Roster, RoundPhase, Scope, Sealing, Seen, State, parse,
    seal, seal_statement,
};
use crate::round::{Admission, Overlap, admit};
use crate::seeds::{Rng, each_seed};
use crate::time::UnixMillis;
use crate::{ids::FleetId, wire};

fn roster(fleet: &Fleet, changes: Vec<Change>) -> Roster {
    Roster { previous: fleet.last::<Roster>(), changes, at: None }
}

/// A head that was remembered when no `adopt` was in effect.
fn seen(number: u64, hash: ObjectId) -> Seen {
    Seen { head: Head { number, hash }, adopts: 0 }
}

/// A record of a kind and version that this program has no type for.
fn future(fleet: &Fleet, who: u8, kind: &str, critical: bool) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Fields {
        number: u64,
        previous: Head,
        critical: bool,
        body: serde_bytes::ByteBuf,
    }
    let (number, previous) = (fleet.state.next, fleet.state.head);
    let fields = Fields { number, previous, critical, body: serde_bytes::ByteBuf::new() };
    signer(who).seal_raw("muster.log", kind, 1, &fleet_id(), &wire::encode(&fields))
}

#[test]
fn genesis_is_pinned_by_root_and_fleet() {
    let other_root = Pin { root: Some(key(STRANGER)), ..Pin::default() };
    let other_fleet = Pin { fleet: Some(FleetId::from_bytes([9; 32])), ..Pin::default() };
    let other_head = Pin { head: Some(seen(0, ObjectId::of(b"x"))), ..Pin::default() };
    for pin in [other_root, other_fleet, other_head] {
        let mut state = State::new(pin);
        state.replay(&genesis_record()).expect_err("another pin");
        assert_eq!(state, State::new(pin), "an error changes nothing");
    }
    let forged = seal(&signer(STRANGER), &fleet_id(), 0, GENESIS_HEAD, &genesis());
    let error = State::new(Pin::default()).replay(&forged).expect_err("the id is not made of its key");
    assert!(error.to_string().contains("not made of its root key"), "{error}");
    let mut state = State::new(Pin::default());
    assert_eq!(state.replay(&genesis_record()), Ok(Effect::Applied));
    assert_eq!((state.root, state.fleet), (Some(key(ROOT)), fleet_id()));
}

#[test]
fn what_is_no_record_for_its_slot_is_void_and_passed_over() {
    let mut fleet = Fleet::found();
    let old = fleet.slots.last().expect("slots").clone();
    let whole = fleet.record(FIRST, &open(1, 1, 1, &["dns"]));
    fleet.void(whole[..whole.len() / 2].to_vec(), "no signed record");
    fleet.void(Vec::new(), "no signed record");
    fleet.void(b"garbage".to_vec(), "no signed record");
    fleet.void(old, "again");
    let elsewhere = FleetId::from_bytes([9; 32]);
    let (next, head) = (fleet.state.next, fleet.state.head);
    fleet.void(seal(&signer(FIRST), &elsewhere, next, head, &open(1, 1, 1, &["dns"])), "belongs to fleet");
    for nobody in [DNS, VIEWER, STRANGER] {
        fleet.void(fleet.record(nobody, &open(1, 1, 1, &["dns"])), "may not append");
    }
    let statement = seal_statement(&signer(ROOT), &fleet_id(), &roster(&fleet, Vec::new()));
    fleet.void(statement, "instead of a record");
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    assert_eq!(fleet.state.void.len(), 9);
}

#[test]
fn nothing_at_or_below_a_remembered_head_is_void_or_another() {
    let mut fleet = Fleet::found();
    fleet.void(b"torn".to_vec(), "no signed record");
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    let pin = |number: u64, hash| Pin { head: Some(seen(number, hash)), ..Pin::default() };
    let head = fleet.state.head;
    // Slot 5 was torn when record 6 was seen, so a reader that remembers record 6 can read the log again.
    assert_eq!((head.number, fleet.read(pin(6, head.hash)).map(|s| s.head)), (6, Ok(head)));
    let another = fleet.read(pin(6, ObjectId::of(b"another")));
    assert!(matches!(another, Err(ReplayError::WentBack { number: 6, .. })), "{another:?}");
    let whole = fleet.slots.clone();
    fleet.slots[6] = b"gone".to_vec();
    assert!(matches!(fleet.read(pin(6, head.hash)), Err(ReplayError::WentBack { number: 6, .. })));
    // What was a record and is void now breaks the chain to the remembered head.
    fleet.slots = whole;
    fleet.slots[4] = b"gone".to_vec();
    assert!(matches!(fleet.read(pin(6, head.hash)), Err(ReplayError::Fork { number: 6, .. })));
}

#[test]
fn a_fork_by_a_member_stops_the_reader() {
    let mut fleet = Fleet::found();
    let before = fleet.state.head;
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    let (next, head) = (fleet.state.next, fleet.state.head);
    let forked = seal(&signer(SECOND), &fleet_id(), next, before, &epoch(2));
    assert_eq!(fleet.take(forked), Err(ReplayError::Fork { number: next, found: before, head }));
    fleet.void(seal(&signer(STRANGER), &fleet_id(), next, before, &epoch(2)), "may not append");
}

#[test]
fn epochs_grow_by_one_and_only_coordinators_take_them() {
    let mut fleet = Fleet::found();
    fleet.says_in_vain(SECOND, &epoch(1), "not the next one");
    fleet.says_in_vain(SECOND, &epoch(3), "not the next one");
    fleet.says_in_vain(OPERATOR, &epoch(2), "no coordinator's");
    fleet.says_in_vain(ROOT, &epoch(2), "no coordinator's");
    fleet.says(SECOND, &epoch(2));
    assert_eq!(fleet.state.epoch.map(|e| (e.epoch, e.holder)), Some((2, key(SECOND))));
}

#[test]
fn what_a_deposed_leader_says_is_a_link_without_effect() {
    let mut fleet = Fleet::found();
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    fleet.says(SECOND, &epoch(2));
    let why = "does not hold epoch";
    fleet.says_in_vain(FIRST, &open(1, 2, 2, &["web"]), why);
    fleet.says_in_vain(FIRST, &commit(1, 1), why);
    fleet.says_in_vain(FIRST, &commit(2, 1), why);
    fleet.says_in_vain(FIRST, &end(1, 1), why);
    fleet.says_in_vain(
        FIRST,
        &Prune { epoch: 1, rounds: Vec::new(), list: ObjectId::of(b"l"), at: None },
        why,
    );
    fleet.says(SECOND, &commit(2, 1));
    fleet.says(FIRST, &epoch(3));
    let resumed = &fleet.state.rounds[&round(1)].resumed;
    let resumed: Vec<_> = resumed.iter().map(|one| (one.epoch, one.holder, one.at)).collect();
    assert_eq!(resumed, [(2, key(SECOND), AT)], "whoever leads while it is open goes on with it");
    fleet.says(SECOND, &epoch(4));
    fleet.says_in_vain(FIRST, &verified(1, 1), why);
    fleet.says_in_vain(SECOND, &verified(1, 1), why);
    fleet.says(SECOND, &verified(4, 1));
}

#[test]
fn a_round_has_one_end() {
    let mut fleet = Fleet::found();
    fleet.says_in_vain(FIRST, &commit(1, 1), "never opened");
    fleet.says_in_vain(FIRST, &end(1, 1), "never opened");
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    fleet.says_in_vain(FIRST, &verified(1, 1), "not committed");
    fleet.says_in_vain(
        FIRST,
        &crate::log::Commit { outcome: Outcome::Failed, ..commit(1, 1) },
        "cannot be failed",
    );
    fleet.says_in_vain(FIRST, &crate::log::End { outcome: Outcome::Complete, ..end(1, 1) }, "only a commit");
    fleet.says(FIRST, &commit(1, 1));
    let other = crate::log::Commit { manifest: ObjectId::of(b"another"), ..commit(1, 1) };
    fleet.says_in_vain(FIRST, &other, "ended already");
    fleet.says_in_vain(FIRST, &end(1, 1), "ended already");
    fleet.says(FIRST, &verified(1, 1));
    fleet.says_in_vain(FIRST, &verified(1, 1), "verified already");
    fleet.says_in_vain(FIRST, &open(1, 1, 2, &["dns"]), "exists already");
    let known = &fleet.state.rounds[&round(1)];
    assert_eq!((known.commit(), known.word()), (Some(&commit(1, 1)), "verified"));
    fleet.says(FIRST, &open(1, 2, 2, &["dns"]));
    fleet.says(FIRST, &end(1, 2));
    fleet.says_in_vain(FIRST, &commit(1, 2), "ended already");
}

#[test]
fn rounds_open_in_order_eight_at_most_and_one_per_service() {
    let mut fleet = Fleet::found();
    fleet.says_in_vain(FIRST, &open(1, 1, 2, &["dns"]), "not the next one");
    for number in 1..=8 {
        fleet.says(FIRST, &open(1, number, u64::from(number), &[&format!("s-{number}")]));
    }
    fleet.says_in_vain(FIRST, &open(1, 9, 9, &["s-9"]), "8 rounds are open");
    fleet.says(FIRST, &end(1, 8));
    fleet.says_in_vain(FIRST, &open(1, 9, 9, &["s-9", "s-3"]), "round 3 has one");
    let all = crate::log::Open { scope: Scope::All, ..open(1, 9, 9, &[]) };
    fleet.says_in_vain(FIRST, &all, "round 1 has one");
    fleet.says(FIRST, &open(1, 9, 9, &["s-8"]));
}

#[test]
fn what_admission_opens_replay_opens() {
    let mut fleet = Fleet::found();
    fleet.states(
        ROOT,
        ROOT,
        &roster(&fleet, vec![Change::Admit(agent(20, "web")), Change::Admit(agent(21, "vault"))]),
    );
    fleet.says(FIRST, &open(1, 1, 1, &["web"]));
    // The busy service leaves the roster while its round runs: a round over all of the others still has to wait.
    fleet.states(ROOT, ROOT, &roster(&fleet, vec![Change::Revoke(key(20))]));
    let dns = Scope::Services(vec![service("dns")]);
    for (id, scope, admitted) in [(2, Scope::All, false), (3, dns, true)] {
        let admission = admit(&fleet.state, &round(id), &scope, Overlap::Queue);
        assert_eq!(matches!(admission, Admission::Open { number: 2 }), admitted, "{admission:?}");
        let bytes = fleet.record(FIRST, &crate::log::Open { scope, ..open(1, id, 2, &[]) });
        assert_eq!(fleet.take(bytes) == Ok(Effect::Applied), admitted);
    }
    let known = admit(&fleet.state, &round(1), &Scope::All, Overlap::Skip);
    assert_eq!(known, Admission::Known { number: 1, ended: false });
    let unknown = Scope::Services(vec![service("nope")]);
    assert!(matches!(admit(&fleet.state, &round(9), &unknown, Overlap::Skip), Admission::Refuse { .. }));
    assert!(matches!(admit(&fleet.state, &round(9), &Scope::All, Overlap::Skip), Admission::Skip { .. }));
}

#[test]
fn statements_are_chained_so_a_stolen_coordinator_replays_none() {
    let mut fleet = Fleet::found();
    let rotated = Keyset { previous: fleet.last::<Keyset>(), keys: vec![recovery_key(2)], at: None };
    let config = Config { previous: fleet.last::<Config>(), clear: [].into(), sealed: None, at: None };
    let keyset = seal_statement(&signer(ROOT), &fleet_id(), &rotated);
    let admission =
        seal_statement(&signer(ROOT), &fleet_id(), &roster(&fleet, vec![Change::Admit(agent(20, "web"))]));
    let config = seal_statement(&signer(ADMIN), &fleet_id(), &config);
    fleet.applies(fleet.carry::<Keyset>(FIRST, keyset.clone()));
    fleet.applies(fleet.carry::<Roster>(FIRST, admission.clone()));
    fleet.applies(fleet.carry::<Config>(FIRST, config.clone()));
    fleet.states(ROOT, ROOT, &roster(&fleet, vec![Change::Revoke(key(20))]));
    fleet.in_vain(fleet.carry::<Keyset>(FIRST, keyset.clone()), "does not follow the last keyset");
    fleet.in_vain(fleet.carry::<Roster>(FIRST, admission), "does not follow the last roster");
    fleet.in_vain(fleet.carry::<Config>(FIRST, config), "does not follow the last config");
    // Nor does a statement pass for one of another kind or fleet.
    fleet.in_vain(fleet.carry::<Roster>(FIRST, keyset), "instead of a record");
    let foreign = seal_statement(&signer(ROOT), &FleetId::from_bytes([9; 32]), &roster(&fleet, Vec::new()));
    fleet.in_vain(fleet.carry::<Roster>(FIRST, foreign), "belongs to fleet");
    assert_eq!(fleet.state.recipients(), vec![recovery_key(2).recipient]);
}

#[test]
fn only_root_changes_keyset_and_roster() {
    let mut fleet = Fleet::found();
    let keyset = Keyset { previous: fleet.last::<Keyset>(), keys: vec![recovery_key(2)], at: None };
    let changes = vec![Change::Admit(member(30, Role::Coordinator))];
    for who in [FIRST, OPERATOR, ADMIN, PRUNER, ENROLLER, DNS, STRANGER] {
        fleet.states_in_vain(FIRST, who, &keyset, "not the root key");
        let roster = roster(&fleet, changes.clone());
        fleet.states_in_vain(
            FIRST,
            who,
            &roster,
            if who == ENROLLER { "agents only" } else { "may not change" },
        );
    }
    fleet.states_in_vain(ROOT, ROOT, &Keyset { keys: Vec::new(), ..keyset.clone() }, "at least one");
    fleet.states(OPERATOR, ROOT, &keyset);
    let config = Config { previous: fleet.last::<Config>(), clear: [].into(), sealed: None, at: None };
    fleet.states_in_vain(FIRST, OPERATOR, &config, "may not change the configuration");
    fleet.states(FIRST, ADMIN, &config);
}

#[test]
fn an_enroller_admits_new_agents_under_its_prefix_and_nothing_else() {
    let mut fleet = Fleet::found();
    let admit = |number, name: &str| Change::Admit(agent(number, name));
    for (changes, why) in [
        (vec![admit(20, "vault")], "may not admit vault"),
        (vec![Change::Revoke(key(DNS))], "only admits"),
        (vec![Change::Admit(member(20, Role::Admin))], "agents only"),
        (vec![admit(DNS, "web-1")], "has an agent already"),
        (vec![admit(20, "web-1"), admit(21, "web-1")], "two agents for one service"),
        (vec![admit(20, "web-1"), admit(20, "web-2")], "twice"),
    ] {
        fleet.states_in_vain(FIRST, ENROLLER, &roster(&fleet, changes), why);
    }
    fleet.states(ENROLLER, ENROLLER, &roster(&fleet, vec![admit(20, "web-1")]));
    fleet.states_in_vain(FIRST, ENROLLER, &roster(&fleet, vec![admit(21, "web-1")]), "has an agent already");
    let until = Some(fleet.state.next + 1);
    let role = Role::Enroller { prefix: "web-".to_owned(), until };
    fleet.states(ROOT, ROOT, &roster(&fleet, vec![Change::Admit(member(ENROLLER, role))]));
    fleet.states(ENROLLER, ENROLLER, &roster(&fleet, vec![admit(21, "web-2")]));
    fleet.states_in_vain(ENROLLER, ENROLLER, &roster(&fleet, vec![admit(22, "web-3")]), "time is over");
    fleet.states(ROOT, ROOT, &roster(&fleet, vec![Change::Revoke(key(ENROLLER))]));
    fleet.states_in_vain(FIRST, ENROLLER, &roster(&fleet, vec![admit(22, "web-3")]), "may not change");
}

#[test]
fn a_revocation_counts_from_its_record_and_is_final() {
    let mut fleet = Fleet::found();
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    fleet.says(FIRST, &commit(1, 1));
    // Whoever may append carries it, so a stolen leader cannot withhold it.
    fleet.states(OPERATOR, ROOT, &roster(&fleet, vec![Change::Revoke(key(FIRST))]));
    fleet.void(fleet.record(FIRST, &verified(1, 1)), "may not append");
    assert!(fleet.state.rounds[&round(1)].commit().is_some());
    fleet.says(SECOND, &epoch(2));
    fleet.says(SECOND, &verified(2, 1));
    let again = vec![Change::Admit(member(FIRST, Role::Coordinator))];
    fleet.states_in_vain(ROOT, ROOT, &roster(&fleet, again), "stays so");
}

#[test]
fn an_agent_takes_over_its_service_and_keeps_its_place() {
    let mut fleet = Fleet::found();
    let since = fleet.state.members[&key(DNS)].since;
    // Admitted again: a new sealing key, the same history.
    fleet.states(ROOT, ROOT, &roster(&fleet, vec![Change::Admit(agent(DNS, "dns"))]));
    assert_eq!(fleet.state.members[&key(DNS)].since, since);
    fleet.states_in_vain(
        ROOT,
        ROOT,
        &roster(&fleet, vec![Change::Admit(agent(DNS, "vault"))]),
        "cannot move",
    );
    fleet.states(ROOT, ROOT, &roster(&fleet, vec![Change::Admit(agent(20, "dns"))]));
    assert_eq!(fleet.state.agent(&service("dns")).map(|m| m.key), Some(key(20)));
    assert_eq!(fleet.state.members[&key(DNS)].revoked, Some(fleet.state.head.number));
}

/// What was accepted only ever grows, round by round and service by service.
#[test]
fn unknown_kinds_stop_a_reader_only_when_critical() {
    let mut fleet = Fleet::found();
    fleet.says(OPERATOR, &Audit { who: key(OPERATOR), what: "looked".to_owned(), at: genesis().created });
    fleet.applies(future(&fleet, FIRST, "weather", false));
    let next = fleet.state.next;
    let error = fleet.take(future(&fleet, FIRST, "weather", true)).expect_err("critical");
    assert_eq!(error, ReplayError::UnknownKind { number: next, kind: "weather".to_owned(), version: 1 });
    fleet.says_in_vain(ROOT, &genesis(), "founded once");
}

#[test]
fn a_coordinator_says_what_is_sealed_to_it_and_counts_while_it_does() {
    let mut fleet = Fleet::found();
    assert_eq!(fleet.state.coordinator_recipients(), []);
    fleet.says(FIRST, &Sealing { recipient: recipient(20) });
    fleet.says(SECOND, &Sealing { recipient: recipient(21) });
    // The newest word counts, and needs no epoch.
    fleet.says(SECOND, &Sealing { recipient: recipient(22) });
    let both: std::collections::BTreeSet<_> =
        fleet.state.coordinator_recipients().iter().map(ToString::to_string).collect();
    assert_eq!(both, [recipient(20), recipient(22)].iter().map(ToString::to_string).collect());
    fleet.says_in_vain(ADMIN, &Sealing { recipient: recipient(23) }, "no coordinator's");
    let gone = roster(&fleet, vec![Change::Revoke(key(FIRST))]);
    fleet.states(SECOND, ROOT, &gone);
    assert_eq!(fleet.state.coordinator_recipients(), [recipient(22)]);
}

#[test]
fn root_adopts_a_copy_and_nobody_else_does() {
    let mut fleet = Fleet::found();
    let share = Nonce::from_bytes([9; 16]);
    let adopt =
        |fleet: &Fleet| Adopt { previous: fleet.last::<Adopt>(), share, head: fleet.state.head, at: None };
    fleet.states_in_vain(FIRST, ADMIN, &adopt(&fleet), "not the root key");
    let stale = adopt(&fleet);
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    fleet.states_in_vain(FIRST, ROOT, &stale, "another head");
    fleet.states(OPERATOR, ROOT, &adopt(&fleet));
    assert_eq!(fleet.state.share, Some(share));
}

#[test]
fn only_a_later_adopt_of_the_root_lets_a_reader_accept_less() {
    let mut fleet = Fleet::found();
    let adopt = |fleet: &Fleet, share: u8| Adopt {
        previous: fleet.last::<Adopt>(),
        share: Nonce::from_bytes([share; 16]),
        head: fleet.state.head,
        at: None,
    };
    // An adopt that the reader has seen: it must not open the door a second time.
    fleet.states(OPERATOR, ROOT, &adopt(&fleet, 1));
    let kept = fleet.clone();
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    fleet.says(FIRST, &commit(1, 1));
    let remembered = Pin { head: Some(fleet.state.seen()), ..Pin::default() };
    assert_eq!(remembered.head.map(|seen| seen.adopts), Some(1));
    let went_back =
        |fleet: &Fleet| matches!(fleet.read(remembered), Err(ReplayError::WentBack { number: 7, .. }));

    // The share is put back and goes on without the root.
    let mut other = kept.clone();
    other.states_in_vain(FIRST, ADMIN, &adopt(&other, 2), "not the root key");
    other.says(FIRST, &open(1, 2, 1, &["dns"]));
    assert!(went_back(&other), "{:?}", other.read(remembered));

    // The root adopts it: whatever follows is accepted.
    let mut other = kept;
    other.states(OPERATOR, ROOT, &adopt(&other, 3));
    other.says(FIRST, &open(1, 2, 1, &["dns"]));
    other.says(FIRST, &commit(1, 2));
    let state = other.read(remembered).expect("adopted");
    assert!(state.supersedes(&remembered.head.expect("remembered")));
    assert_eq!(state.seen(), Seen { head: other.state.head, adopts: 2 });
    // Nobody adopts away a head that is asked for by name.
    let exactly = Pin { head: Some(Seen::exactly(fleet.state.head)), ..Pin::default() };
    assert!(matches!(other.read(exactly), Err(ReplayError::WentBack { .. })));
    fleet.read(exactly).expect("it is that history");
}

/// Who may say what: every role against every kind that needs no epoch.
#[test]
fn each_role_may_say_what_it_may_and_nothing_else() {
    let mut fleet = Fleet::found();
    fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
    let may = |who: u8| -> Vec<&'static str> {
        let mut kinds = Vec::new();
        let mut tries = |kind, applies: &dyn Fn(&mut Fleet) -> Result<Effect, ReplayError>| {
            if applies(&mut fleet.clone()) == Ok(Effect::Applied) {
                kinds.push(kind);
            }
        };
        tries("keyset", &|fleet| {
            let keyset = Keyset { previous: fleet.last::<Keyset>(), keys: vec![recovery_key(2)], at: None };
            fleet.take(fleet.carry::<Keyset>(FIRST, seal_statement(&signer(who), &fleet_id(), &keyset)))
        });
        tries("roster", &|fleet| {
            let roster = roster(fleet, vec![Change::Revoke(key(DNS))]);
            fleet.take(fleet.carry::<Roster>(FIRST, seal_statement(&signer(who), &fleet_id(), &roster)))
        });
        tries("config", &|fleet| {
            let config =
                Config { previous: fleet.last::<Config>(), clear: [].into(), sealed: None, at: None };
            fleet.take(fleet.carry::<Config>(FIRST, seal_statement(&signer(who), &fleet_id(), &config)))
        });
        tries("hold", &|fleet| {
            let hold =
                Hold { previous: fleet.last::<Hold>(), round: round(1), keep: true, reason: None, at: None };
            fleet.take(fleet.carry::<Hold>(FIRST, seal_statement(&signer(who), &fleet_id(), &hold)))
        });
        tries("accept", &|fleet| {
            let accept = Accept {
                previous: fleet.last::<Accept>(),
                service: service("dns"),
                round: round(1),
                reason: None,
                at: None,
            };
            fleet.says(FIRST, &commit(1, 1));
            fleet.says(FIRST, &verified(1, 1));
            fleet.take(fleet.carry::<Accept>(FIRST, seal_statement(&signer(who), &fleet_id(), &accept)))
        });
        tries("drill", &|fleet| {
            let drill = Drill {
                previous: fleet.last::<Drill>(),
                round: round(1),
                scope: Scope::All,
                outcome: DrillOutcome::Passed,
                files: 1,
                bytes: 1,
                took_millis: 1,
                reason: None,
                at: genesis().created,
            };
            fleet.says(FIRST, &commit(1, 1));
            fleet.take(fleet.carry::<Drill>(FIRST, seal_statement(&signer(who), &fleet_id(), &drill)))
        });
        tries("adopt", &|fleet| {
            let share = Nonce::from_bytes([9; 16]);
            let adopt = Adopt { previous: fleet.last::<Adopt>(), share, head: fleet.state.head, at: None };
            fleet.take(fleet.carry::<Adopt>(FIRST, seal_statement(&signer(who), &fleet_id(), &adopt)))
        });
        tries("epoch", &|fleet| fleet.take(fleet.record(who, &epoch(2))));
        tries("sealing", &|fleet| fleet.take(fleet.record(who, &Sealing { recipient: recipient(3) })));
        tries("append", &|fleet| {
            let note = Audit { who: key(who), what: "note".to_owned(), at: genesis().created };
            fleet.take(fleet.record(who, &note))
        });
        kinds
    };
    assert_eq!(may(ROOT), ["keyset", "roster", "config", "hold", "accept", "drill", "adopt", "append"]);
    assert_eq!(may(ADMIN), ["config", "hold", "accept", "drill", "append"]);
    assert_eq!(may(OPERATOR), ["hold", "accept", "drill", "append"]);
    assert_eq!(may(FIRST), ["epoch", "sealing", "append"]);
    assert_eq!(may(PRUNER), ["append"]);
    assert_eq!(may(ENROLLER), ["append"]);
    for nobody in [VIEWER, DNS, STRANGER] {
        assert!(may(nobody).is_empty(), "{:?}", may(nobody));
    }
}

/// A coordinator in the race: what it has read, and what it has sealed and not yet tried to create.
struct Racer {
    who: u8,
    fleet: Fleet,
    prepared: Option<(usize, Vec<u8>)>,
}

impl Racer {
    fn read(&mut self, slots: &[Vec<u8>], most: usize) {
        let from = self.fleet.slots.len();
        for slot in slots.iter().skip(from).take(most) {
            self.fleet.take(slot.clone()).expect("no reader ever stops");
        }
    }

    /// What it would append, believing what it has read.
    fn prepare(&mut self, rng: &mut Rng) {
        let state = &self.fleet.state;
        let epoch_now = state.epoch.map_or(0, |e| e.epoch);
        let leads = state.epoch.is_some_and(|e| e.holder == key(self.who));
        let open_id = state.open_rounds().first().map(|r| r.open.round.as_bytes()[0]);
        let next = state.last_round + 1;
        let id = open_id.unwrap_or(u8::try_from(next - rng.below(2)).expect("small"));
        // Mostly what makes sense, sometimes anything.
        let choice = if rng.percent(30) {
            rng.below(5)
        } else {
            u64::from(leads) + u64::from(leads && open_id.is_some())
        };
        let record = match choice {
            0 => self.fleet.record(self.who, &epoch(epoch_now + 1)),
            1 => self.fleet.record(self.who, &open(epoch_now, id, next, &["dns"])),
            2 => self.fleet.record(self.who, &commit(epoch_now, id)),
            3 => self.fleet.record(self.who, &end(epoch_now, id)),
            _ => self.fleet.record(self.who, &verified(epoch_now, id)),
        };
        self.prepared = Some((self.fleet.slots.len(), record));
    }
}

/// Invariants 7 and 10: exclusive creation alone keeps the log one log, whoever sleeps and wakes.
#[test]
fn two_coordinators_race_for_slots() {
    let founded = Fleet::found();
    let (mut commits, mut vain) = (0, 0);
    each_seed(2_000, |seed| {
        let mut rng = Rng(seed);
        let mut slots = founded.slots.clone();
        let mut racers = [FIRST, SECOND].map(|who| Racer { who, fleet: founded.clone(), prepared: None });
        for _ in 0..48 {
            let racer = &mut racers[usize::from(rng.percent(50))];
            match rng.below(20) {
                0 => slots.push(b"torn".to_vec()),
                1..4 => racer.read(&slots, usize::try_from(rng.below(4)).expect("small")),
                4..10 => {
                    racer.read(&slots, usize::MAX);
                    racer.prepare(&mut rng);
                }
                _ => {
                    // Exclusive creation: only the first free slot can be created, by whoever comes first.
                    if let Some((slot, record)) = racer.prepared.take()
                        && slot == slots.len()
                    {
                        slots.push(record);
                    }
                }
            }
        }
        for racer in &mut racers {
            racer.read(&slots, usize::MAX);
        }
        let [first, second] = &racers;
        assert_eq!(first.fleet.state, second.fleet.state);
        let mut state = State::new(founded.state.pin);
        let mut epochs = 0;
        for slot in &slots {
            let before = state.clone();
            if state.replay(slot) != Ok(Effect::Applied) {
                continue;
            }
            let kind = parse(slot).expect("it applied").kind;
            if kind == crate::log::Epoch::KIND {
                epochs += 1;
                assert_eq!(state.epoch.map(|e| e.epoch), Some(epochs));
            }
            if kind == crate::log::Commit::KIND {
                let changed = state.rounds.values().filter(|r| before.rounds.get(&r.open.round) != Some(r));
                let [one] = changed.collect::<Vec<_>>()[..] else { panic!("a commit changes one round") };
                assert_eq!(before.rounds[&one.open.round].phase, RoundPhase::Open);
                commits += 1;
            }
        }
        assert_eq!(state, first.fleet.state);
        vain += state.without_effect.len();
    });
    assert!(std::env::var_os("MUSTER_SEED").is_some() || (commits > 200 && vain > 1_000), "{commits} {vain}");
}

#[test]
fn a_schedule_counts_from_when_it_was_last_changed() {
    let mut fleet = Fleet::found();
    let mut states = |pairs: &[(&str, &str)], at: Option<i64>| {
        let clear = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let config = Config { previous: fleet.last::<Config>(), clear, sealed: None, at: at.map(UnixMillis) };
        fleet.states(FIRST, ADMIN, &config);
        fleet.state.scheduled.map(|at| at.0)
    };
    assert_eq!(states(&[("schedule", "every 12h")], Some(1_000)), Some(1_000));
    assert_eq!(states(&[("schedule", "every 12h"), ("interval", "12h")], Some(2_000)), Some(1_000), "not it");
    assert_eq!(states(&[("schedule", "every 12h"), ("enabled", "no")], Some(3_000)), Some(3_000));
    assert_eq!(states(&[("schedule", "every 6h"), ("enabled", "no")], None), None, "nobody says when");
}
