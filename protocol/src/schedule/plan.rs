//! The schedule of a fleet, as its admins signed it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use sha2::{Digest, Sha256};

use super::OFF;
use super::calendar::{Exceptions, Windows};
use super::pattern::Pattern;
use crate::ids::FleetId;
use crate::settings;
use crate::time::UnixMillis;
use crate::units::parse_duration;

/// A schedule without a slot in so many seconds, about 41 years, never has one: leap days fall on the same day of the week again.
const HORIZON_SECS: i64 = 15_000 * 86_400;
/// Where the proof begins that a schedule has slots at all: a fixed moment, so that everybody comes to the same verdict.
const PROOF: UnixMillis = UnixMillis(1_767_225_600_000);

/// What becomes of slots that passed while nobody led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missed {
    /// The newest one is made up for; the others are not.
    #[default]
    RunOnce,
    /// None is made up for.
    Skip,
}

impl Missed {
    /// That of a setting.
    ///
    /// # Errors
    /// What it must be, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "run-once" => Ok(Self::RunOnce),
            "skip" => Ok(Self::Skip),
            _ => Err("must be run-once or skip".to_owned()),
        }
    }
}

/// Why there is no schedule to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A value is none of its setting's.
    #[error("{key} {must}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it must be.
        must: String,
    },
    /// No slot ever comes.
    #[error("schedule {schedule:?} never begins a round: {why}")]
    Never {
        /// The schedule.
        schedule: String,
        /// What keeps it from it.
        why: &'static str,
    },
    /// The jitter would carry a slot beyond the next one.
    #[error(
        "schedule.jitter {jitter:?} is not shorter than the shortest time between two slots, {between_mins} min"
    )]
    Jitter {
        /// The jitter.
        jitter: String,
        /// The shortest time between two slots.
        between_mins: i64,
    },
}

/// Which slots there are. Only [`Plan::of`] makes one, from settings that agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pattern: Pattern,
    zone: TimeZone,
    jitter: Duration,
    missed: Missed,
    except: Exceptions,
    windows: Windows,
}

/// The zone of this IANA name.
///
/// # Errors
/// What it must be, in words.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| "must be a zone of the IANA database, such as Europe/Berlin or UTC".to_owned())
}

impl Plan {
    /// The schedule in these settings; none where it is off. A setting that is not there has its default.
    ///
    /// # Errors
    /// When a value is none of its setting's, or no slot ever comes.
    pub fn of(clear: &BTreeMap<String, String>) -> Result<Option<Self>, ScheduleError> {
        let value = |key: &str| {
            clear.get(key).map(String::as_str).or_else(|| settings::default_of(key)).unwrap_or_default()
        };
        let wrong = |key| move |must| ScheduleError::Value { key, must };
        let schedule = value("schedule");
        let pattern = match schedule {
            OFF => None,
            schedule => Some(Pattern::parse(schedule).map_err(wrong("schedule"))?),
        };
        let jitter = parse_duration(value("schedule.jitter"))
            .map_err(|error| wrong("schedule.jitter")(format!("must be a duration: {error}")))?;
        let zone = zone(value("schedule.zone")).map_err(wrong("schedule.zone"))?;
        let missed = Missed::parse(value("schedule.missed")).map_err(wrong("schedule.missed"))?;
        let except = Exceptions::parse(value("schedule.except")).map_err(wrong("schedule.except"))?;
        let windows = Windows::parse(value("schedule.windows")).map_err(wrong("schedule.windows"))?;
        let Some(pattern) = pattern else { return Ok(None) };
        let plan = Self { pattern, zone, jitter, missed, except, windows };
        plan.proven(schedule, value("schedule.jitter"))?;
        Ok(Some(plan))
    }

    /// What becomes of slots that passed while nobody led.
    #[must_use]
    pub fn missed(&self) -> Missed {
        self.missed
    }

    /// The longest that a round begins after its slot.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// The first slot after a moment; none where the calendar ends before it.
    #[must_use]
    pub fn next(&self, after: UnixMillis) -> Option<UnixMillis> {
        let mut after = Timestamp::from_millisecond(after.0).ok()?;
        let horizon = after.as_second().saturating_add(HORIZON_SECS);
        loop {
            let slot = self.pattern.next(&self.zone, after)?;
            if slot.as_second() > horizon {
                return None;
            }
            match self.barred(self.zone.to_datetime(slot)) {
                None => return Some(UnixMillis(slot.as_millisecond())),
                Some(end) => {
                    // Everything before the end is barred as well. A clock that is put back may place the end before the slot.
                    let end = self.zone.to_ambiguous_timestamp(end).compatible().ok()?;
                    let before = end.checked_sub(jiff::SignedDuration::from_millis(1)).ok()?;
                    after = before.max(slot);
                }
            }
        }
    }

    /// When the round of a slot begins: the slot, and what the jitter adds. The same for everybody who asks.
    #[must_use]
    pub fn due(&self, fleet: &FleetId, slot: UnixMillis) -> UnixMillis {
        let most = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if most == 0 {
            return slot;
        }
        let hash = Sha256::new()
            .chain_update(b"muster jitter\0")
            .chain_update(fleet.as_bytes())
            .chain_update(slot.0.to_be_bytes())
            .finalize();
        let mut drawn = [0; 8];
        drawn.copy_from_slice(&hash[..8]);
        let delay = u64::from_be_bytes(drawn) % most;
        UnixMillis(slot.0.saturating_add(i64::try_from(delay).unwrap_or(i64::MAX)))
    }

    /// The next round that begins by itself: its slot, and when that is due.
    #[must_use]
    pub fn next_due(&self, fleet: &FleetId, now: UnixMillis) -> Option<UnixMillis> {
        let jitter = i64::try_from(self.jitter.as_millis()).unwrap_or(i64::MAX);
        let mut slot = self.next(UnixMillis(now.0.saturating_sub(jitter)))?;
        loop {
            let due = self.due(fleet, slot);
            if due > now {
                return Some(due);
            }
            slot = self.next(slot)?;
        }
    }

    /// Where the exception or window ends that keeps rounds from beginning at this moment.
    fn barred(&self, at: DateTime) -> Option<DateTime> {
        self.except.end_of(at).or_else(|| self.windows.end_of(at))
    }

    fn proven(&self, schedule: &str, jitter: &str) -> Result<(), ScheduleError> {
        let never = |why| ScheduleError::Never { schedule: schedule.to_owned(), why };
        let proof = Timestamp::from_millisecond(PROOF.0).unwrap_or(Timestamp::UNIX_EPOCH);
        if self
            .pattern
            .next(&self.zone, proof)
            .is_none_or(|slot| slot.as_second() > proof.as_second() + HORIZON_SECS)
        {
            return Err(never("no day of the calendar is like that"));
        }
        let first = self.next(PROOF).ok_or_else(|| {
            never("every slot lies on a date of schedule.except or in one of schedule.windows")
        })?;
        if self.jitter.is_zero() {
            return Ok(());
        }
        let (mut slot, mut between) = (first, i64::MAX);
        for _ in 0..LOOKED_AT {
            let Some(next) = self.next(slot) else { break };
            between = between.min(next.0 - slot.0);
            slot = next;
        }
        if i64::try_from(self.jitter.as_millis()).unwrap_or(i64::MAX) >= between {
            return Err(ScheduleError::Jitter { jitter: jitter.to_owned(), between_mins: between / 60_000 });
        }
        Ok(())
    }
}

/// Slots between which the shortest time is sought.
const LOOKED_AT: usize = 400;
