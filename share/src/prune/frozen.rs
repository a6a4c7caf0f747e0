//! Why nothing may go now, whatever the retention says. Marking and sweeping ask alike, of the same log and manifests.

use std::fmt;

use muster_protocol::alert::Code;
use muster_protocol::anomaly::Anomaly;
use muster_protocol::log::State;

use super::error::PruneError;
use crate::anomaly::Watch;
use crate::store::Store;

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frozen {
    /// A service's data is not like it was, and nobody said that this is meant: older rounds may be all that is left of it.
    Anomaly(Anomaly),
}

impl Frozen {
    /// The alert that tells of it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Anomaly(_) => Code::Round06,
        }
    }

    /// What it is about: a service, an object.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Anomaly(anomaly) => anomaly.service.to_string(),
        }
    }

    /// Why, without the subject.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Anomaly(anomaly) => anomaly.to_string(),
        }
    }

    /// What ends it.
    #[must_use]
    pub fn ends(&self) -> String {
        match self {
            Self::Anomaly(anomaly) => anomaly.ends(),
        }
    }
}

/// One line: code, subject, cause.
impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code(), self.subject(), self.cause())
    }
}

/// Looks for reasons; each further look reads only what is new.
#[derive(Debug, Default)]
pub(super) struct Thermometer {
    watch: Watch,
}

impl Thermometer {
    /// All reasons that hold now.
    ///
    /// # Errors
    /// When the share fails: then it is not known, and nothing may go.
    pub(super) async fn read(&mut self, store: &dyn Store, state: &State) -> Result<Vec<Frozen>, PruneError> {
        let anomalies = self.watch.look(store, state).await?;
        Ok(anomalies.into_iter().map(Frozen::Anomaly).collect())
    }

    /// As [`Thermometer::read`].
    ///
    /// # Errors
    /// Also when there is any: [`PruneError::Frozen`].
    pub(super) async fn none(&mut self, store: &dyn Store, state: &State) -> Result<(), PruneError> {
        let frozen = self.read(store, state).await?;
        if frozen.is_empty() { Ok(()) } else { Err(PruneError::Frozen(frozen)) }
    }
}
