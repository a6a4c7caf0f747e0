//! The session of one agent in one round: what the leader tells exactly one agent.
//!
//! ```text
//! secret  = X25519(own ephemeral, other's ephemeral)                         RFC 7748, all-zero result refused
//! keys    = HKDF-SHA-256(salt = none, ikm = secret, info = transcript)       RFC 5869, 64 bytes
//! transcript = "muster session v1" · fleet · round · epoch · leader's key · agent's key · both ephemerals · nonce
//! ```
//!
//! The first 32 bytes seal what the leader sends, the others what the agent sends, each with ChaCha20-Poly1305 under a
//! counter nonce: [`Sealed`] has the messages. Both ephemerals come inside signed messages, so the parties are who the roster says.
//! Nothing of it is ever written down; a new leader shakes hands anew.

mod sealed;

pub use sealed::Sealed;

use std::collections::BTreeMap;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::crypto::{Cipher, LowOrder, NotAuthentic, TAG_BYTES, agree, derive};
use crate::entropy::{Entropy, random};
use crate::ids::{FleetId, KeyId, Nonce, RoundId};
use crate::wire::WireError;

/// An ephemeral X25519 key pair.
pub struct Ephemeral(StaticSecret);

impl std::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ephemeral(..)")
    }
}

impl Ephemeral {
    /// A fresh pair.
    pub fn generate(entropy: &mut (impl Entropy + ?Sized)) -> Self {
        Self(StaticSecret::from(*Zeroizing::new(random::<32>(entropy))))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }
}

/// What both sides must agree on before a key can be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript {
    /// The fleet.
    pub fleet: FleetId,
    /// The round.
    pub round: RoundId,
    /// The leader's epoch.
    pub epoch: u64,
    /// The leader's signing key.
    pub leader: KeyId,
    /// The agent's signing key.
    pub agent: KeyId,
    /// The leader's ephemeral public key.
    pub leader_ephemeral: [u8; 32],
    /// The agent's ephemeral public key.
    pub agent_ephemeral: [u8; 32],
    /// The hello's nonce.
    pub nonce: Nonce,
}

/// Which side of the session one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The coordinator.
    Leader,
    /// The agent.
    Agent,
}

/// Why a session refuses.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The other side's key is of small order.
    #[error("the other side's ephemeral key is of small order")]
    SmallOrder,
    /// What came was not sealed under this session, or not in this order.
    #[error("the message was not sealed in this session")]
    NotSealed,
    /// The message is of another type or version.
    #[error("the message is no {wanted} of this version")]
    OtherType {
        /// The type that was wanted.
        wanted: &'static str,
    },
    /// The message was heard before.
    #[error("the message was heard before")]
    Replayed,
    /// The message does not parse, though the other side sealed it.
    #[error("the sealed message does not parse")]
    Payload(#[source] WireError),
}

/// One side of a session.
pub struct Session {
    seal: Cipher,
    open: Cipher,
    fleet: FleetId,
    /// The hello's nonce.
    id: Nonce,
    /// The next count.
    sealed: u64,
    opened: u64,
    /// The highest count that was heard of each type.
    heard: BTreeMap<&'static str, u64>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session {{ sealed: {}, opened: {} }}", self.sealed, self.opened)
    }
}

impl Session {
    /// The session of `own` ephemeral key, on `side`, over `transcript`.
    ///
    /// # Errors
    /// When the other side's ephemeral key is of small order.
    pub fn derive(side: Side, own: &Ephemeral, transcript: &Transcript) -> Result<Self, SessionError> {
        let other = match side {
            Side::Leader => transcript.agent_ephemeral,
            Side::Agent => transcript.leader_ephemeral,
        };
        let shared = agree(&own.0, &other).map_err(|LowOrder| SessionError::SmallOrder)?;
        let mut info = b"muster session v1".to_vec();
        info.extend_from_slice(transcript.fleet.as_bytes());
        info.extend_from_slice(transcript.round.as_bytes());
        info.extend_from_slice(&transcript.epoch.to_be_bytes());
        info.extend_from_slice(transcript.leader.as_bytes());
        info.extend_from_slice(transcript.agent.as_bytes());
        info.extend_from_slice(&transcript.leader_ephemeral);
        info.extend_from_slice(&transcript.agent_ephemeral);
        info.extend_from_slice(transcript.nonce.as_bytes());
        let keys = derive::<64>(None, shared.as_bytes(), &info);
        let [leader, agent] = [&keys[..32], &keys[32..]]
            .map(|half| Cipher::new(half.try_into().expect("half of the keys is a key")));
        let (seal, open) = match side {
            Side::Leader => (leader, agent),
            Side::Agent => (agent, leader),
        };
        let (fleet, id) = (transcript.fleet, transcript.nonce);
        Ok(Self { seal, open, fleet, id, sealed: 0, opened: 0, heard: BTreeMap::new() })
    }

    /// Seals the next message to the other side.
    #[must_use]
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let nonce = counter(self.sealed);
        self.sealed += 1;
        let mut sealed = Vec::with_capacity(plain.len() + TAG_BYTES);
        sealed.extend_from_slice(plain);
        let tag = self.seal.seal(&nonce, &[], &mut sealed);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens the next message from the other side.
    ///
    /// # Errors
    /// When it is not the next one of this session.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SessionError> {
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(SessionError::NotSealed)?;
        let mut plain = Zeroizing::new(body.to_vec());
        self.open
            .open(&counter(self.opened), &[], &mut plain, tag)
            .map_err(|NotAuthentic| SessionError::NotSealed)?;
        self.opened += 1;
        Ok(plain)
    }
}

fn counter(count: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&count.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::{Ephemeral, Session, SessionError, Side, Transcript};
    use crate::entropy::Entropy;
    use crate::ids::{FleetId, KeyId, Nonce, RoundId};

    struct Count(u8);
    impl Entropy for Count {
        fn fill(&mut self, buffer: &mut [u8]) {
            for byte in buffer {
                self.0 = self.0.wrapping_mul(5).wrapping_add(17);
                *byte = self.0;
            }
        }
    }

    pub(super) fn pair() -> (Session, Session, Transcript, Ephemeral) {
        let (leader, agent) = (Ephemeral::generate(&mut Count(1)), Ephemeral::generate(&mut Count(2)));
        let transcript = Transcript {
            fleet: FleetId::from_bytes([1; 32]),
            round: RoundId::from_bytes([2; 16]),
            epoch: 3,
            leader: KeyId::from_bytes([4; 32]),
            agent: KeyId::from_bytes([5; 32]),
            leader_ephemeral: leader.public(),
            agent_ephemeral: agent.public(),
            nonce: Nonce::from_bytes([6; 16]),
        };
        let a = Session::derive(Side::Leader, &leader, &transcript).expect("derives");
        let b = Session::derive(Side::Agent, &agent, &transcript).expect("derives");
        (a, b, transcript, agent)
    }

    #[test]
    fn both_sides_understand_each_other_in_order() {
        let (mut leader, mut agent, ..) = pair();
        let (one, two) = (leader.seal(b"one"), leader.seal(b"two"));
        assert!(matches!(agent.open(&two), Err(SessionError::NotSealed)), "out of order");
        assert_eq!(agent.open(&one).expect("opens").as_slice(), b"one");
        assert_eq!(agent.open(&two).expect("opens").as_slice(), b"two");
        let back = agent.seal(b"back");
        assert_eq!(leader.open(&back).expect("opens").as_slice(), b"back");
    }

    #[test]
    fn another_transcript_is_another_session() {
        let (mut leader, _, transcript, own) = pair();
        let sealed = leader.seal(b"secret");
        let other = Transcript { epoch: 4, ..transcript };
        let mut agent = Session::derive(Side::Agent, &own, &other).expect("derives");
        assert!(matches!(agent.open(&sealed), Err(SessionError::NotSealed)));
        let zero = Transcript { leader_ephemeral: [0; 32], ..transcript };
        assert!(matches!(Session::derive(Side::Agent, &own, &zero), Err(SessionError::SmallOrder)));
    }
}
