//! The sessions of this leader with the agents of its open rounds: each begins with a welcome, and ends with the round.
//!
//! Intake opens with them what agents seal, the desk answers under the one that it was asked under. In memory only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::envelope::Payload;
use muster_protocol::ids::{KeyId, Nonce, RoundId, ServiceName};
use muster_protocol::session::{Sealed, Session, SessionError};

/// Sessions that are kept of one service. An agent that got no answer says hello again, and goes on with the last one.
const OF_ONE_SERVICE: usize = 2;

/// One session, and whom it is with.
#[derive(Debug)]
pub(crate) struct Held {
    /// The agent's signing key, by which its hello was believed.
    pub(crate) key: KeyId,
    pub(crate) round: RoundId,
    /// The hello's nonce.
    nonce: Nonce,
    session: Mutex<Session>,
}

impl Held {
    pub(crate) fn new(key: KeyId, round: RoundId, nonce: Nonce, session: Session) -> Self {
        Self { key, round, nonce, session: Mutex::new(session) }
    }

    /// `payload`, sealed for the agent.
    pub(crate) fn say<P: Payload>(&self, payload: &P) -> Vec<u8> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).say(payload)
    }

    /// What the agent said.
    pub(crate) fn hear<P: Payload>(&self, message: &Sealed<'_>) -> Result<P, SessionError> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).hear(message)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<ServiceName, Vec<Arc<Held>>>>);

impl Sessions {
    /// A session begins. Before its welcome is sent, so that whatever the agent says under it can be opened.
    pub(crate) fn begin(&self, service: ServiceName, held: Arc<Held>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_service = sessions.entry(service).or_default();
        if of_service.len() == OF_ONE_SERVICE {
            of_service.remove(0);
        }
        of_service.push(held);
    }

    /// The session of this service that began with this nonce.
    pub(crate) fn find(&self, service: &ServiceName, nonce: &Nonce) -> Option<Arc<Held>> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(service)?.iter().find(|held| held.nonce == *nonce).cloned()
    }

    /// A round is over, and so are its sessions.
    pub(crate) fn end(&self, round: &RoundId) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, of_service| {
            of_service.retain(|held| held.round != *round);
            !of_service.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Held, OF_ONE_SERVICE, Sessions};
    use muster_protocol::ids::{FleetId, KeyId, Nonce, RoundId, ServiceName};
    use muster_protocol::session::{Ephemeral, Session, Side, Transcript};
    use muster_share::entropy::OsEntropy;

    fn held(round: u8, nonce: u8) -> Arc<Held> {
        let [leader, agent] = [0, 1].map(|_| Ephemeral::generate(&mut OsEntropy));
        let (round, nonce) = (RoundId::from_bytes([round; 16]), Nonce::from_bytes([nonce; 16]));
        let key = KeyId::from_bytes([5; 32]);
        let transcript = Transcript {
            fleet: FleetId::from_bytes([1; 32]),
            round,
            epoch: 1,
            leader: key,
            agent: key,
            leader_ephemeral: leader.public(),
            agent_ephemeral: agent.public(),
            nonce,
        };
        let session = Session::derive(Side::Leader, &leader, &transcript).expect("derives");
        Arc::new(Held::new(key, round, nonce, session))
    }

    #[test]
    fn the_newest_of_a_service_are_kept_until_their_round_ends() {
        let sessions = Sessions::default();
        let (dns, web): (ServiceName, ServiceName) =
            ("dns".parse().expect("name"), "web".parse().expect("name"));
        for nonce in 1..=3 {
            sessions.begin(dns.clone(), held(7, nonce));
        }
        sessions.begin(web.clone(), held(8, 9));
        let found = |service: &ServiceName, nonce: u8| {
            sessions.find(service, &Nonce::from_bytes([nonce; 16])).is_some()
        };
        assert_eq!(
            [1, 2, 3].map(|nonce| found(&dns, nonce)),
            [false, true, true],
            "{OF_ONE_SERVICE} are kept"
        );
        assert!(!found(&web, 3), "of another service");
        sessions.end(&RoundId::from_bytes([7; 16]));
        assert_eq!([found(&dns, 2), found(&dns, 3), found(&web, 9)], [false, false, true]);
        assert_eq!(sessions.0.lock().expect("a lock").len(), 1, "nothing stays of a service without any");
    }
}
