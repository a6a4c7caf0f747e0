//! Which services stand out now: slice by slice, each against its own last ordinary ones.
//!
//! ```text
//!            odd                           ordinary again, or so for SETTLED slices and no loss
//! ordinary ─────▶ odd: Anomaly is open ───────────────────────────────────────────────────────▶ ordinary
//!                  └── accepted by an operator: what it is like from that round on is usual ───▶ ordinary
//! ```
//!
//! While it is odd, what is usual stays as it was: nothing odd becomes usual by being repeated, but for what loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::oddity::Oddity;
use super::sample::{Origin, Sample};
use super::usual::{USUAL, judge};
use crate::document::Manifest;
use crate::ids::ServiceName;

/// So many odd slices in a row, none of which may be a loss, are what is usual from then on.
const SETTLED: usize = 7;

/// A service that stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// The service.
    pub service: ServiceName,
    /// The first round that was odd.
    pub round: u64,
    /// The newest round that holds a slice of it: what an operator who accepts it has seen.
    pub newest: u64,
    /// What was odd, each kind once, as it first was.
    pub oddities: Vec<Oddity>,
}

impl Anomaly {
    /// Whether it ends by an operator's word alone, or by what the data shows as well.
    #[must_use]
    pub fn needs_a_word(&self) -> bool {
        self.oddities.iter().any(Oddity::outlasts_quiet)
    }

    /// What ends it.
    #[must_use]
    pub fn ends(&self) -> String {
        let service = &self.service;
        let word = format!("muster alerts accept {service} --reason TEXT");
        if self.needs_a_word() {
            format!("an operator's word that it is meant: {word}")
        } else {
            format!("the next verified round in which it is ordinary again, or an operator's word: {word}")
        }
    }
}

/// The cause, without the service.
impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}: ", self.round)?;
        for (at, oddity) in self.oddities.iter().enumerate() {
            write!(f, "{}{oddity}", if at == 0 { "" } else { "; " })?;
        }
        if self.oddities.iter().any(Oddity::may_be_loss) {
            write!(f, ". If nobody meant that, look at its machine before older rounds go")?;
        }
        Ok(())
    }
}

/// What is odd so far of one service.
#[derive(Debug, Clone)]
struct Odd {
    round: u64,
    oddities: Vec<Oddity>,
    /// Odd slices in a row, the newest last; at most [`SETTLED`].
    row: VecDeque<Sample>,
}

/// One service, so far.
#[derive(Debug, Clone, Default)]
struct Service {
    origin: Option<Origin>,
    usual: VecDeque<Sample>,
    odd: Option<Odd>,
    newest: u64,
    /// The accepted round from which on it was measured anew.
    anew: u64,
}

/// All services, so far. The same rounds in the same order give the same anomalies.
#[derive(Debug, Clone, Default)]
pub struct Anomalies {
    accepted: BTreeMap<ServiceName, u64>,
    services: BTreeMap<ServiceName, Service>,
}

impl Anomalies {
    /// Nothing seen yet. `accepted`: up to which round operators accepted what a service is like.
    #[must_use]
    pub fn new(accepted: BTreeMap<ServiceName, u64>) -> Self {
        Self { accepted, services: BTreeMap::new() }
    }

    /// Takes the manifest of the next verified round in.
    pub fn take(&mut self, manifest: &Manifest) {
        for slice in &manifest.slices {
            let origin = Origin::of(manifest, slice);
            let accepted = self.accepted.get(&slice.service).copied().unwrap_or_default();
            let service = self.services.entry(slice.service.clone()).or_default();
            let fresh = service.origin.replace(origin) != Some(origin);
            service.take(Sample { fresh, ..Sample::of(manifest, slice) }, accepted);
        }
    }

    /// What stands out now, by service.
    pub fn open(&self) -> impl Iterator<Item = Anomaly> {
        self.services.iter().filter_map(|(name, service)| {
            let odd = service.odd.as_ref()?;
            let oddities = odd.oddities.clone();
            Some(Anomaly { service: name.clone(), round: odd.round, newest: service.newest, oddities })
        })
    }
}

impl Service {
    fn take(&mut self, sample: Sample, accepted: u64) {
        self.newest = sample.round;
        if accepted > self.anew && sample.round >= accepted {
            self.anew = accepted;
            self.odd = None;
            self.usual.clear();
        }
        let found = judge(self.usual.iter(), &sample);
        match (&mut self.odd, found.is_empty()) {
            (None, true) => self.is_usual(sample),
            (None, false) => {
                self.odd = Some(Odd { round: sample.round, oddities: found, row: [sample].into() });
            }
            (Some(odd), true) => {
                if odd.oddities.iter().any(Oddity::outlasts_quiet) {
                    odd.row.clear();
                } else {
                    self.odd = None;
                    self.is_usual(sample);
                }
            }
            (Some(odd), false) => {
                for oddity in found {
                    if !odd.oddities.iter().any(|known| known.is_like(&oddity)) {
                        odd.oddities.push(oddity);
                    }
                }
                odd.row.push_back(sample);
                if odd.row.len() > SETTLED {
                    odd.row.pop_front();
                }
                if odd.row.len() == SETTLED && !odd.oddities.iter().any(Oddity::may_be_loss) {
                    self.usual = std::mem::take(&mut odd.row);
                    self.odd = None;
                }
            }
        }
    }

    fn is_usual(&mut self, sample: Sample) {
        self.usual.push_back(sample);
        if self.usual.len() > USUAL {
            self.usual.pop_front();
        }
    }
}
