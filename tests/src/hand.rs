//! A hand on a fleet's log: puts any bytes into the next slot, as whoever has the share may, signed by any key that was
//! stolen. For tests of those who read it.

use std::fs;
use std::path::PathBuf;

use muster_protocol::envelope::Signer;
use muster_protocol::log::{Body, Effect, Pin, State, seal, seal_statement, seal_with_statement};
use muster_share::layout::ObjectPath;
use muster_share::secret_file;

use crate::fleet::Fleet;

/// The share's log, and where it stands.
#[derive(Debug)]
pub struct Hand {
    share: PathBuf,
    /// What the log says, this hand's doing included.
    pub state: State,
}

/// The signing key `NAME.key` of the fleet's folder.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn stolen(fleet: &Fleet, name: &str) -> Signer {
    secret_file::read_signing_key(&fleet.dir().join(format!("keys/{name}.key"))).expect("a signing key")
}

impl Hand {
    /// Reads the log of a fleet to its head.
    ///
    /// # Panics
    /// When it cannot be trusted.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let mut hand = Self { share: fleet.share(), state: State::new(Pin::default()) };
        hand.read_on();
        hand
    }

    /// Reads what was appended since.
    ///
    /// # Panics
    /// When it cannot be trusted.
    pub fn read_on(&mut self) {
        while let Ok(bytes) = fs::read(self.file(self.state.next)) {
            self.state.replay(&bytes).expect("a log that holds together");
        }
    }

    /// The file of a slot.
    #[must_use]
    pub fn file(&self, number: u64) -> PathBuf {
        self.share.join(ObjectPath::LogRecord(number).to_string())
    }

    /// Puts these bytes into the next slot; what they do to a reader.
    ///
    /// # Panics
    /// When the slot is taken, or the bytes stop every reader.
    pub fn put(&mut self, bytes: &[u8]) -> Effect {
        self.read_on();
        let file = self.file(self.state.next);
        let effect = self.state.replay(bytes).expect("it stops nobody");
        let mut options = fs::OpenOptions::new();
        let mut slot = options.write(true).create_new(true).open(file).expect("the slot is free");
        std::io::Write::write_all(&mut slot, bytes).expect("written");
        effect
    }

    /// What `signer` says itself.
    pub fn record<B: Body>(&mut self, signer: &Signer, body: &B) -> Effect {
        self.read_on();
        let (number, head) = (self.state.next, self.state.head);
        self.put(&seal(signer, &self.state.fleet, number, head, body))
    }

    /// What `says` states, in a record that `carries` appends.
    pub fn statement<B: Body>(&mut self, carries: &Signer, says: &Signer, body: &B) -> Effect {
        let statement = seal_statement(says, &self.state.fleet, body);
        self.carry(carries, B::KIND, statement)
    }

    /// A statement that somebody made, in a record that `carries` appends.
    pub fn carry(&mut self, carries: &Signer, kind: &str, statement: Vec<u8>) -> Effect {
        self.read_on();
        let (number, head) = (self.state.next, self.state.head);
        self.put(&seal_with_statement(carries, &self.state.fleet, number, head, kind, statement))
    }
}
