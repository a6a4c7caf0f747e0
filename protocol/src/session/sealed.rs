//! Messages under a session's keys: what an agent and its leader say to each other between welcome and the end of the round.
//!
//! ```text
//! sealed   := header · field(text · tag)
//! header   := field("muster.session") field(type) field(version) field(fleet id) field(hello's nonce) field(count)
//! field(x) := length of x as u32, big endian · x        version := u16, big endian        count := u64, big endian
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) under the sender's key of the session, nonce = 4 zero bytes · count, additional data = the
//! header. Each side counts what it seals, whatever its type, from 1 (0 is the order in a welcome of version 1); who hears a count
//! again, or a lower one, of one type passes over it. Only the two that shook hands can have made such a message, which is
//! what a signature would say, for a hundredth of the work; nobody else can be shown it, so what must be
//! proved later stays signed: hello and receipt.

use crate::crypto::{NotAuthentic, TAG_BYTES};
use crate::envelope::{EnvelopeError, Payload, field, take, text};
use crate::ids::{FleetId, Nonce};
use crate::wire;

use super::{Session, SessionError, counter};

/// In place of an envelope's domain: no envelope begins with it.
const DOMAIN: &str = "muster.session";

/// A sealed message, taken apart and not yet opened: nothing of it is proved.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The type's name.
    pub name: &'a str,
    /// The payload's version.
    pub version: u16,
    /// The fleet.
    pub fleet: FleetId,
    /// The nonce of the hello that the session began with.
    pub session: Nonce,
    count: u64,
    header: &'a [u8],
    body: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Whether bytes are meant to be a sealed message, as opposed to an envelope.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        take(&mut &bytes[..]).is_ok_and(|domain| domain == DOMAIN.as_bytes())
    }

    /// Takes a message of at most `max_len` bytes apart.
    ///
    /// # Errors
    /// When it is longer, or no such message.
    pub fn read(bytes: &'a [u8], max_len: usize) -> Result<Self, EnvelopeError> {
        if bytes.len() > max_len {
            return Err(EnvelopeError::TooLong { len: bytes.len(), max: max_len });
        }
        let mut rest = bytes;
        if take(&mut rest)? != DOMAIN.as_bytes() {
            return Err(EnvelopeError::Framing);
        }
        let name = text(take(&mut rest)?)?;
        let version =
            take(&mut rest)?.try_into().map(u16::from_be_bytes).map_err(|_| EnvelopeError::Framing)?;
        let fleet = FleetId::try_from(take(&mut rest)?).map_err(|_| EnvelopeError::Framing)?;
        let session = Nonce::try_from(take(&mut rest)?).map_err(|_| EnvelopeError::Framing)?;
        let count =
            take(&mut rest)?.try_into().map(u64::from_be_bytes).map_err(|_| EnvelopeError::Framing)?;
        let header = &bytes[..bytes.len() - rest.len()];
        let body = take(&mut rest)?;
        if rest.is_empty() {
            Ok(Self { name, version, fleet, session, count, header, body })
        } else {
            Err(EnvelopeError::Framing)
        }
    }
}

impl Session {
    /// The next message to the other side.
    #[must_use]
    pub fn say<P: Payload>(&mut self, payload: &P) -> Vec<u8> {
        // The first count is that of the order in a welcome, whether there is one or not.
        self.sealed = self.sealed.max(1);
        let count = self.sealed;
        self.sealed += 1;
        let mut body = wire::encode(payload);
        let mut out = Vec::with_capacity(body.len() + 160);
        field(&mut out, DOMAIN.as_bytes());
        field(&mut out, P::TYPE.as_bytes());
        field(&mut out, &P::VERSION.to_be_bytes());
        field(&mut out, self.fleet.as_bytes());
        field(&mut out, self.id.as_bytes());
        field(&mut out, &count.to_be_bytes());
        let tag = self.seal.seal(&counter(count), &out, &mut body);
        body.extend_from_slice(&tag);
        field(&mut out, &body);
        out
    }

    /// What the other side said.
    ///
    /// # Errors
    /// When it is of another session, type or version, was not sealed in this session, was heard before, or does not
    /// parse.
    pub fn hear<P: Payload>(&mut self, message: &Sealed<'_>) -> Result<P, SessionError> {
        if (message.fleet, message.session) != (self.fleet, self.id) {
            return Err(SessionError::NotSealed);
        }
        if (message.name, message.version) != (P::TYPE, P::VERSION) {
            return Err(SessionError::OtherType { wanted: P::TYPE });
        }
        let (body, tag) = message.body.split_last_chunk::<TAG_BYTES>().ok_or(SessionError::NotSealed)?;
        let mut plain = zeroize::Zeroizing::new(body.to_vec());
        self.open
            .open(&counter(message.count), message.header, &mut plain, tag)
            .map_err(|NotAuthentic| SessionError::NotSealed)?;
        let heard = self.heard.entry(P::TYPE).or_default();
        if message.count <= *heard {
            return Err(SessionError::Replayed);
        }
        *heard = message.count;
        wire::decode(&plain).map_err(SessionError::Payload)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::pair;
    use super::{Sealed, SessionError};
    use crate::ids::Nonce;
    use crate::message::{Acknowledgement, MAX_MESSAGE_LEN, Notice, NoticeOutcome, Verdict};

    fn notice(attempt: u32) -> Notice {
        let (service, (.., transcript, _)) = ("dns".parse().expect("a name"), pair());
        let outcome = NoticeOutcome::Quiesced;
        Notice { service, round: transcript.round, epoch: transcript.epoch, attempt, outcome }
    }

    fn read(bytes: &[u8]) -> Sealed<'_> {
        Sealed::read(bytes, MAX_MESSAGE_LEN).expect("well formed")
    }

    #[test]
    fn what_one_side_says_the_other_hears_once() {
        let (mut leader, mut agent, transcript, _) = pair();
        let (one, two) = (agent.say(&notice(1)), agent.say(&notice(2)));
        assert!(Sealed::is_one(&one));
        assert_eq!(read(&one).session, transcript.nonce);
        assert_eq!(leader.hear::<Notice>(&read(&two)).expect("heard"), notice(2));
        for again in [&one, &two] {
            assert!(matches!(leader.hear::<Notice>(&read(again)), Err(SessionError::Replayed)));
        }
        let verdict = Verdict::Accepted;
        let (round, epoch) = (transcript.round, transcript.epoch);
        let answer = Acknowledgement { round, epoch, attempt: 2, receipt: None, verdict };
        let said = leader.say(&answer);
        assert_eq!(agent.hear::<Acknowledgement>(&read(&said)).expect("heard"), answer);
        assert!(leader.hear::<Acknowledgement>(&read(&said)).is_err(), "its own words are not the other's");
    }

    #[test]
    fn the_order_of_a_welcome_has_a_count_of_its_own() {
        let (mut leader, mut agent, ..) = pair();
        let order = leader.seal(b"order");
        let said = leader.say(&notice(1));
        assert_eq!(agent.hear::<Notice>(&read(&said)).expect("heard"), notice(1));
        assert_eq!(agent.open(&order).expect("opens").as_slice(), b"order");
        let (mut leader, mut agent, ..) = pair();
        let said = leader.say(&notice(1));
        let order = leader.seal(b"order");
        assert!(agent.hear::<Notice>(&read(&said)).is_ok());
        assert!(agent.open(&order).is_err(), "the first count is never used twice");
    }

    #[test]
    fn no_flipped_bit_no_cut_and_no_other_type_is_heard() {
        let (mut leader, mut agent, ..) = pair();
        let said = agent.say(&notice(1));
        for at in 0..said.len() {
            let mut bad = said.clone();
            bad[at] ^= 1;
            let heard = Sealed::read(&bad, MAX_MESSAGE_LEN).map(|read| leader.hear::<Notice>(&read));
            assert!(!matches!(heard, Ok(Ok(_))), "byte {at}");
            assert!(Sealed::read(&said[..at], MAX_MESSAGE_LEN).is_err(), "cut at {at}");
        }
        assert!(matches!(leader.hear::<Acknowledgement>(&read(&said)), Err(SessionError::OtherType { .. })));
        let other = Sealed { session: Nonce::from_bytes([0; 16]), ..read(&said) };
        assert!(matches!(leader.hear::<Notice>(&other), Err(SessionError::NotSealed)));
        assert!(Sealed::read(&said, 10).is_err());
        assert!(leader.hear::<Notice>(&read(&said)).is_ok(), "what was refused used nothing up");
    }
}
