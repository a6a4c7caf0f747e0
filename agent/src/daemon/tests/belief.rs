//! Beliefs: what the log says at the moment decides what a believed document asks for, whoever signed it.

use bytes::Bytes;
use muster_protocol::envelope::Payload;
use muster_protocol::ids::RoundId;
use muster_protocol::log::{End, Outcome, Scope};
use muster_protocol::message::{OpenRound, ServiceState, StateDocument};
use muster_protocol::time::UnixMillis;

use super::scene::{AGENT, ANNA, BERT, Scene, dns, key, signer};
use crate::daemon::belief::{Arrival, Beliefs, Channel, Ignored, Wish};

/// Brings a document that the log is read after; returns what is passed over.
fn told<P: Payload>(
    beliefs: &mut Beliefs,
    scene: &Scene,
    (channel, who): (Channel, u8),
    said: &P,
) -> Vec<Ignored> {
    let bytes = Bytes::from(signer(who).seal(&scene.fleet, said));
    let arrival = beliefs.arrive(channel, &bytes, None).expect("an envelope");
    assert_eq!(arrival, Arrival::New);
    beliefs.begin_reading();
    beliefs.judge(scene.log.state())
}

/// The attempt that is wanted.
fn attempt(beliefs: &Beliefs, scene: &Scene) -> Option<u32> {
    match beliefs.wish(scene.log.state()) {
        Wish::Slice(order) => Some(order.attempt),
        Wish::Unknown | Wish::Outsider | Wish::Nothing => None,
    }
}

#[tokio::test]
async fn only_a_round_that_the_log_has_open_for_this_service_is_worked_for() {
    let mut scene = Scene::new(true).await;
    let leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    let others = RoundId::derive(&scene.fleet, "two");
    let opened = scene.log.state().rounds.get(&round).expect("open").open.clone();
    let scope = Scope::Services(vec!["mail".parse().expect("name")]);
    let open = muster_protocol::log::Open { round: others, number: 2, scope, ..opened };
    scene.log.append(&signer(ANNA), &open).await.expect("opened");

    let epoch = leader.epoch;
    let mut beliefs = Beliefs::new(scene.fleet, dns(), key(AGENT));
    let mut revision = 0;
    let mut say = |beliefs: &mut Beliefs, scene: &Scene, open: OpenRound| {
        revision += 1;
        let document = StateDocument { epoch, revision, rounds: vec![open] };
        assert!(told(beliefs, scene, (Channel::Fleet, ANNA), &document).is_empty());
        beliefs.wish(scene.log.state())
    };
    let named = scene.open_round(&leader, round);
    let elsewhere = OpenRound { position: named.position + 1, ..named.clone() };
    assert_eq!(say(&mut beliefs, &scene, elsewhere), Wish::Nothing, "the log has it in another place");
    let not_ours = scene.open_round(&leader, others);
    assert_eq!(say(&mut beliefs, &scene, not_ours), Wish::Nothing, "it is over another service");
    assert!(matches!(say(&mut beliefs, &scene, named), Wish::Slice(_)));

    // Another round's retry is none of this one.
    let retry = |round, revision, attempt| ServiceState { epoch, revision, service: dns(), round, attempt };
    assert!(told(&mut beliefs, &scene, (Channel::Service, ANNA), &retry(others, 50, 3)).is_empty());
    assert_eq!(attempt(&beliefs, &scene), Some(1));
    assert!(told(&mut beliefs, &scene, (Channel::Service, ANNA), &retry(round, 51, 2)).is_empty());
    assert_eq!(attempt(&beliefs, &scene), Some(2));

    let (outcome, reason) = (Outcome::Cancelled, "test".to_owned());
    let end = End { epoch, round, outcome, reason, at: UnixMillis(0), account: None };
    scene.log.append(&signer(ANNA), &end).await.expect("ended");
    assert_eq!(beliefs.wish(scene.log.state()), Wish::Nothing, "the log has ended it");
}

#[tokio::test]
async fn a_document_counts_while_its_signer_leads_and_for_the_agent_alone() {
    let mut scene = Scene::new(true).await;
    let leader = scene.lead(ANNA).await;
    let round = scene.open(&leader, "one").await;
    let document = |revision| StateDocument {
        epoch: leader.epoch,
        revision,
        rounds: vec![scene.open_round(&leader, round)],
    };
    let (first, second) = (document(1), document(2));
    let mut beliefs = Beliefs::new(scene.fleet, dns(), key(AGENT));
    assert!(told(&mut beliefs, &scene, (Channel::Fleet, ANNA), &first).is_empty());
    assert_eq!(attempt(&beliefs, &scene), Some(1));
    let mut stranger = Beliefs::new(scene.fleet, dns(), key(BERT));
    assert!(told(&mut stranger, &scene, (Channel::Fleet, ANNA), &first).is_empty());
    assert_eq!(stranger.wish(scene.log.state()), Wish::Outsider);

    // Who is revoked may still hold the epoch.
    scene.revoke(ANNA).await;
    assert_eq!(beliefs.wish(scene.log.state()), Wish::Unknown);
    let ignored = told(&mut beliefs, &scene, (Channel::Fleet, ANNA), &second);
    assert!(matches!(ignored[..], [Ignored::Signer { .. }]), "{ignored:?}");

    // BERT led before and was followed.
    let mut scene = Scene::new(true).await;
    let leader = scene.lead(BERT).await;
    let round = scene.open(&leader, "one").await;
    let rounds = vec![scene.open_round(&leader, round)];
    let document = StateDocument { epoch: leader.epoch, revision: 1, rounds };
    let mut beliefs = Beliefs::new(scene.fleet, dns(), key(AGENT));
    assert!(told(&mut beliefs, &scene, (Channel::Fleet, BERT), &document).is_empty());
    scene.lead(ANNA).await;
    assert_eq!(beliefs.wish(scene.log.state()), Wish::Unknown);
    let document = StateDocument { revision: 2, ..document };
    let ignored = told(&mut beliefs, &scene, (Channel::Fleet, BERT), &document);
    assert!(matches!(ignored[..], [Ignored::OldEpoch { .. }]), "{ignored:?}");
}
