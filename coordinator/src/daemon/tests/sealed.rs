//! Conversations under a session: what the leader hears, answers and counts.

use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{Nonce, RoundId, ServiceName};
use muster_protocol::message::{
    Acknowledgement, Hello, MAX_MESSAGE_LEN, Notice, NoticeOutcome, Ordered, Progress, Stage, StateDocument,
    Verdict,
};
use muster_protocol::session::{Ephemeral, Sealed, Session, Side, Transcript};
use muster_protocol::subject::Subject;
use muster_share::entropy::OsEntropy;
use tempfile::TempDir;

use super::{LIMIT, World};

fn only() -> ServiceName {
    "only".parse().expect("name")
}

fn heard<P: Payload>(session: &mut Session, bytes: &[u8]) -> P {
    let sealed = Sealed::read(bytes, MAX_MESSAGE_LEN).expect("sealed, not signed");
    session.hear(&sealed).expect("sealed in the session")
}

impl World {
    /// Says hello to the leader of the open round, and takes the order.
    async fn welcomed(&self, agent: &Signer, round: RoundId) -> Session {
        let state = self.subjects.print(&Subject::State);
        let open = async {
            loop {
                if let Some(bytes) = self.bus.last_value(&state).await.expect("a bus") {
                    let (leader, document) = open_as::<StateDocument>(&bytes, &self.fleet).expect("signed");
                    if let Some(open) = document.rounds.into_iter().find(|open| open.round == round) {
                        return (leader, document.epoch, open);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (leader, epoch, open) = tokio::time::timeout(LIMIT, open).await.expect("the round is open");
        let (own, nonce) = (Ephemeral::generate(&mut OsEntropy), Nonce::from_bytes([9; 16]));
        let hello = Hello {
            service: only(),
            round,
            epoch,
            attempt: 1,
            nonce,
            ephemeral: own.public(),
            version: "1".into(),
            sealed: true,
        };
        let answer = self.ask(&Subject::Hello(only()), agent.seal(&self.fleet, &hello)).await;
        let transcript = Transcript {
            fleet: self.fleet,
            round,
            epoch,
            leader,
            agent: agent.key_id(),
            leader_ephemeral: open.ephemeral,
            agent_ephemeral: own.public(),
            nonce,
        };
        let mut session = Session::derive(Side::Agent, &own, &transcript).expect("derives");
        assert_eq!(heard::<Ordered>(&mut session, &answer.expect("answered")).attempt, 1);
        session
    }

    async fn ask(&self, subject: &Subject, payload: Vec<u8>) -> Option<bytes::Bytes> {
        let subject = self.subjects.print(subject);
        let wait = Duration::from_secs(2);
        let answer = self.bus.request(&subject, Vec::new(), payload.into(), wait).await;
        answer.ok().map(|answer| answer.payload)
    }

    async fn counts(&self, reason: &str, times: u64) {
        let counted = async {
            while self.leader().await.is_none_or(|view| view.ignored.get(reason) != Some(&times)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, counted).await.unwrap_or_else(|_| panic!("not counted as {reason}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_notice_is_answered_under_its_session_and_no_other_is_heard() {
    let world = World::new().await;
    let a = TempDir::new().expect("folder");
    let (stop, one) = world.start(11, &a);
    world.wait_for_leader("one").await;
    let asked = world.ask(&Subject::Trigger, br#"{"request":"x"}"#.to_vec()).await.expect("answered");
    assert!(asked.starts_with(b"{\"round\""), "{asked:?}");
    let round = RoundId::derive(&world.fleet, "x");
    let mut session = world.welcomed(&Signer::from_seed(&[20; 32]), round).await;
    let (subject, epoch) = (Subject::Notice(only()), 1);
    let outcome = NoticeOutcome::Failed { code: Code::Agent03, reason: "it broke".into(), permanent: false };
    let notice = Notice { service: only(), round, epoch, attempt: 1, outcome };

    let said = session.say(&notice);
    let last = said.len() - 1;
    let mut changed = said.clone();
    changed[last] ^= 1;
    assert_eq!(world.ask(&subject, changed).await, None, "a changed one");
    world.counts("signature", 1).await;
    let answer = world.ask(&subject, said.clone()).await.expect("answered");
    let answer: Acknowledgement = heard(&mut session, &answer);
    assert_eq!((answer.round, answer.attempt, answer.verdict), (round, 1, Verdict::Accepted));
    assert_eq!(world.ask(&subject, said).await, None, "the same again");
    world.counts("replay", 1).await;

    // Of another round than its session's, and in a session that nobody began.
    let other = Notice { round: RoundId::from_bytes([7; 16]), ..notice.clone() };
    assert_eq!(world.ask(&subject, session.say(&other)).await, None, "about another round");
    world.counts("subject", 1).await;
    let mut strange = session.say(&notice);
    let at = strange.windows(16).position(|bytes| bytes == [9; 16]).expect("the hello's nonce");
    strange[at] ^= 1;
    assert_eq!(world.ask(&subject, strange).await, None, "in a session of nobody");
    world.counts("session", 1).await;

    let progress = Progress {
        service: only(),
        round,
        attempt: 2,
        stage: Stage::Capturing,
        done_bytes: 77,
        expected_bytes: None,
        added_bytes: 0,
    };
    let told = world.subjects.print(&Subject::Progress(only()));
    world.bus.publish(&told, Vec::new(), session.say(&progress).into()).await.expect("published");
    let shown = async {
        let ask = serde_json::to_vec(&crate::query::Query::Round { round, after: None }).expect("encodes");
        loop {
            let answer = world.ask(&Subject::Query, ask.clone()).await.expect("answered");
            if String::from_utf8_lossy(&answer).contains("\"source_bytes\":77") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, shown).await.expect("sealed progress is shown");
    stop.send_replace(true);
    one.await.expect("ends");
}
