//! The session of one agent in one round: a hello, the order that answers it, and what comes back.
//!
//! Whatever is changed on the way, whoever else listens or speaks: nothing opens but what was sealed, in its order, for
//! this round, epoch and pair.

use muster_protocol::envelope::{Payload, Signer, open_as};
use muster_protocol::ids::{FleetId, KeyId, Nonce, RoundId};
use muster_protocol::message::{Hello, Order, Progress, Stage};
use muster_protocol::session::{Ephemeral, Sealed, Session, SessionError, Side, Transcript};
use muster_protocol::wire;
use serde_bytes::ByteBuf;

use super::input::{Draw, Fixed};

fn array<const N: usize>(draw: &mut Draw<'_>) -> [u8; N] {
    std::array::from_fn(|_| draw.byte())
}

/// Draws a session, what is said in it, and one change; panics when the change goes unnoticed.
pub(super) fn session(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (seed, at, bit) = (draw.long(), usize::from(draw.short()), draw.below(8));
    let leader = Ephemeral::generate(&mut Fixed(seed));
    let agent = Ephemeral::generate(&mut Fixed(!seed));
    let signer = Signer::from_seed(&array(&mut draw));
    let fleet = FleetId::from_bytes(array(&mut draw));
    let hello = Hello {
        service: "dns".parse().expect("a name"),
        round: RoundId::from_bytes(array(&mut draw)),
        epoch: draw.long(),
        attempt: u32::from(draw.byte()),
        nonce: Nonce::from_bytes(array(&mut draw)),
        ephemeral: agent.public(),
        version: String::from_utf8_lossy(draw.bytes()).into_owned(),
        sealed: bit > 3,
    };
    let foreign: [u8; 32] = array(&mut draw);
    let said = draw.rest();

    // The hello arrives as it was signed, or not at all.
    let signed = signer.seal(&fleet, &hello);
    if signed.len() > Hello::MAX_LEN {
        return;
    }
    let (key, heard) = open_as::<Hello>(&signed, &fleet).expect("a signed hello");
    assert_eq!((key, &heard), (signer.key_id(), &hello));
    assert!(open_as::<Hello>(&flipped(&signed, at, bit), &fleet).is_err(), "a changed hello is believed");

    let transcript = Transcript {
        fleet,
        round: heard.round,
        epoch: heard.epoch,
        leader: KeyId::from_bytes(foreign),
        agent: key,
        leader_ephemeral: leader.public(),
        agent_ephemeral: heard.ephemeral,
        nonce: heard.nonce,
    };
    let both = |transcript: &Transcript| {
        let one = Session::derive(Side::Leader, &leader, transcript);
        let other = Session::derive(Side::Agent, &agent, transcript);
        (one.expect("honest keys"), other.expect("honest keys"))
    };
    let order = Order {
        nonce: heard.nonce,
        credentials: Some(ByteBuf::from(said)),
        max_hold_millis: None,
        bandwidth: None,
    };
    let order = wire::encode(&order);
    let (one, other) = both(&transcript);
    speak(one, other, &order, at, bit);
    let (one, other) = both(&transcript);
    speak(other, one, said, at, bit);
    let (one, other) = both(&transcript);
    tell(other, one, &progress(&heard, said), at, bit);

    // A session of anything else opens nothing of this one.
    let others = [
        Transcript { fleet: FleetId::from_bytes(changed(*fleet.as_bytes(), at, bit)), ..transcript },
        Transcript { round: RoundId::from_bytes(changed(*heard.round.as_bytes(), at, bit)), ..transcript },
        Transcript { epoch: transcript.epoch ^ (1 << (at % 64)), ..transcript },
        Transcript { leader: KeyId::from_bytes(changed(foreign, at, bit)), ..transcript },
        Transcript { agent: KeyId::from_bytes(changed(*key.as_bytes(), at, bit)), ..transcript },
        Transcript { nonce: Nonce::from_bytes(changed(*heard.nonce.as_bytes(), at, bit)), ..transcript },
    ];
    for strange in &others {
        let ((mut leads, mut answers), (mut led, mut asked)) = (both(&transcript), both(strange));
        refuses(&mut asked, &leads.seal(&order), "another session");
        refuses(&mut led, &answers.seal(said), "another session");
        let progress = progress(&heard, said);
        let told = answers.say(&progress);
        assert!(led.hear::<Progress>(&frame(&told)).is_err(), "{strange:?}");
    }
    // Nor does whoever has another ephemeral key, whatever key that is.
    let stranger = Ephemeral::generate(&mut Fixed(seed ^ 1));
    for (own, theirs) in [(&stranger, leader.public()), (&agent, foreign)] {
        let strange = Transcript { leader_ephemeral: theirs, ..transcript };
        match Session::derive(Side::Agent, own, &strange) {
            Ok(mut session) => {
                refuses(&mut session, &both(&transcript).0.seal(&order), "a stranger");
            }
            Err(error) => assert!(matches!(error, SessionError::SmallOrder), "{error}"),
        }
    }
}

/// Says something twice; whoever hears it opens each once, in order, unchanged, and nothing else.
fn speak(mut says: Session, mut hears: Session, said: &[u8], at: usize, bit: u8) {
    let (first, second) = (says.seal(said), says.seal(said));
    assert_ne!(first, second, "equal words look alike");
    refuses(&mut hears, said, "what was never sealed");
    refuses(&mut hears, &flipped(&first, at, bit), "a flipped bit");
    refuses(&mut hears, &first[..at % first.len()], "a message cut short");
    refuses(&mut hears, &[&first[..], &[0]].concat(), "a longer message");
    refuses(&mut hears, &second, "the second before the first");
    assert_eq!(hears.open(&first).expect("the first").as_slice(), said);
    refuses(&mut hears, &first, "the first again");
    assert_eq!(hears.open(&second).expect("the second").as_slice(), said);
    // Its own words come back: they were sealed under the other direction's key.
    refuses(&mut says, &first, "an echo");
}

fn refuses(session: &mut Session, sealed: &[u8], what: &str) {
    assert!(matches!(session.open(sealed), Err(SessionError::NotSealed)), "{what}");
}

/// Something to say under a session.
fn progress(hello: &Hello, said: &[u8]) -> Progress {
    Progress {
        service: hello.service.clone(),
        round: hello.round,
        attempt: hello.attempt,
        stage: Stage::Capturing,
        done_bytes: said.len() as u64,
        expected_bytes: None,
        added_bytes: 0,
    }
}

fn frame(told: &[u8]) -> Sealed<'_> {
    Sealed::read(told, Progress::MAX_LEN).expect("well formed")
}

/// Tells something twice; each is heard once, unchanged, by the other side, and nothing else is.
fn tell(mut tells: Session, mut hears: Session, progress: &Progress, at: usize, bit: u8) {
    let (first, second) = (tells.say(progress), tells.say(progress));
    if let Ok(changed) = Sealed::read(&flipped(&first, at, bit), Progress::MAX_LEN) {
        assert!(hears.hear::<Progress>(&changed).is_err(), "a flipped bit");
    }
    assert!(tells.hear::<Progress>(&frame(&first)).is_err(), "an echo");
    assert_eq!(&hears.hear::<Progress>(&frame(&second)).expect("the second"), progress);
    for late in [&first, &second] {
        assert!(matches!(hears.hear::<Progress>(&frame(late)), Err(SessionError::Replayed)), "late or again");
    }
}

fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    let at = at % flipped.len();
    flipped[at] ^= 1 << bit;
    flipped
}

fn changed<const N: usize>(mut bytes: [u8; N], at: usize, bit: u8) -> [u8; N] {
    bytes[at % N] ^= 1 << bit;
    bytes
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    let long: Vec<u8> = (0..=255).cycle().take(900).collect();
    // Low-order points (RFC 7748, section 6.1) where the foreign key is drawn: after the fixed part and a version.
    let low = |byte: u8| {
        let mut input = vec![7; 8 + 2 + 1 + 32 + 32 + 16 + 8 + 1 + 16];
        input.push(0);
        input.push(byte);
        input.extend([0; 31]);
        input.extend(b"credentials");
        input
    };
    vec![b"short".to_vec(), long, low(0), low(1)]
}
