//! A round as screens and JSON show it: the one shape that `show`, `start --wait`, `once` and `watch` end with.

use std::collections::BTreeMap;

use muster_protocol::alert::Code;
use muster_protocol::document::{CutAccount, CutOutsider, Excuse, Manifest, SliceStatus, Timing, Try};
use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::{Outcome, Resumed, RoundPhase, RoundState, Scope};
use muster_protocol::units::{format_size, total};
use muster_share::verify::hurt;
use schemars::JsonSchema;
use serde::Serialize;

use super::manifest::ManifestError;
use super::{HeadView, Shown, plural, rfc3339};

/// `{"schema":"muster.round/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoundView {
    /// `muster.round/1`
    pub schema: &'static str,
    /// The fleet's name.
    pub fleet: String,
    /// Its id.
    #[schemars(with = "String")]
    pub round: RoundId,
    /// Its number.
    pub number: u64,
    /// `open`, `committed`, `verified`, `failed`, `cancelled`, `skipped`
    pub state: &'static str,
    /// `complete`, `partial`, `failed`, `cancelled`, `skipped`; null while it is open
    pub outcome: Option<&'static str>,
    /// Why it ended without a commit.
    pub reason: Option<String>,
    /// What asked for it.
    pub trigger: String,
    /// When it was opened, by the coordinator's clock.
    pub opened: String,
    /// Who took the lead while it was open, and went on with it; times of services count from the last of them.
    pub resumed: Vec<ResumedView>,
    /// When it was committed; null: it was not.
    pub committed: Option<String>,
    /// When it was verified; null: it was not.
    pub verified: Option<String>,
    /// Objects that were read again for that.
    pub verified_objects: Option<u64>,
    /// Bytes that were read again for that.
    pub verified_bytes: Option<u64>,
    /// An operator keeps it, whatever the retention says.
    pub held: bool,
    /// Why.
    pub hold_reason: Option<String>,
    /// It was pruned: its objects are deleted, or about to be.
    pub swept: bool,
    /// Its manifest; null: it is not committed.
    pub manifest: Option<ManifestView>,
    /// The head of the log that says so.
    pub head: HeadView,
    /// What became of the cut, in rounds that were to have one.
    pub cut: Option<CutView>,
    /// What became of each service, sorted by name.
    pub services: Vec<SliceView>,
}

/// The manifest's place.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ManifestView {
    /// Its SHA-256, in hexadecimal, which also names it on the share.
    pub hash: String,
    /// Its length.
    pub bytes: u64,
    /// The log record that commits it.
    pub log_number: u64,
    /// The log record of the keyset that its packs are sealed to.
    pub keyset: u64,
}

/// One of `resumed[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ResumedView {
    /// The new leader's epoch.
    pub epoch: u64,
    /// Its name.
    pub coordinator: String,
    /// When, by its clock.
    pub at: String,
}

/// `cut`
#[derive(Debug, Serialize, JsonSchema)]
pub struct CutView {
    /// Whether every required service has its place in it.
    pub whole: bool,
    /// Why not.
    pub broken: Option<String>,
    /// Between the first and the last capture, on the coordinator's clock.
    pub skew_millis: u64,
    /// Services that have their place in it.
    pub members: Vec<String>,
    /// Services that have none.
    pub outside: Vec<OutsiderView>,
}

/// One of `cut.outside[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OutsiderView {
    /// The service.
    pub service: String,
    /// Why.
    pub reason: String,
}

/// One of `services[].tries[]`: an attempt that gave no slice.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TryView {
    /// Which, from 1.
    pub attempt: u32,
    /// Since the round began.
    pub after_millis: u64,
    /// The alert code of the failure.
    pub code: &'static str,
    /// Why, with the native error.
    pub reason: String,
}

/// `services[].timing`, in milliseconds since the round began, or since another coordinator went on with it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TimingView {
    /// Its agent's hello.
    pub greeted_millis: u64,
    /// None where the round had no cut, or it was never held for it.
    pub quiesced_millis: Option<u64>,
    /// Its last notice.
    pub noticed_millis: u64,
    /// Its slice was found whole.
    pub checked_millis: u64,
}

/// One of `services[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SliceView {
    /// The service.
    pub service: String,
    /// `stored`, `absent`, `open` while the round is, or `pruned` once it was.
    pub state: &'static str,
    /// Why it is absent, or what its slice lacks.
    pub reason: Option<String>,
    /// The reason's alert code.
    pub code: Option<&'static str>,
    /// Attempts that were made.
    pub attempts: u32,
    /// Bytes read from its sources.
    pub source_bytes: u64,
    /// Bytes of all objects of the slice.
    pub stored_bytes: u64,
    /// Bytes that this round wrote for it.
    pub added_bytes: u64,
    /// Files, folders, dumps and other entries.
    pub entries: u64,
    /// Entries that could not be read whole.
    pub gaps: u64,
    /// The hash of its receipt.
    pub receipt: Option<String>,
    /// Why its absence does not make the round partial: `optional`, `not-present`.
    pub excuse: Option<&'static str>,
    /// When what happened; null: it gave no slice, or the round is of an older version.
    pub timing: Option<TimingView>,
    /// Attempts that failed, oldest first.
    pub tries: Vec<TryView>,
    /// Objects that its slice names and that are in quarantine, because they were found damaged.
    pub damaged_objects: u64,
}

/// Damaged objects by service.
type Hurt = BTreeMap<ServiceName, u64>;

impl RoundView {
    /// The round, with what its manifest says.
    ///
    /// # Errors
    /// When the manifest of a committed round cannot be read or used.
    pub async fn read(shown: &Shown<'_>, round: &RoundState) -> Result<Self, ManifestError> {
        let number = round.open.number;
        let manifest = match &round.phase {
            RoundPhase::Ended(end) => shown.account(round, end).await,
            RoundPhase::Committed { .. } if round.swept => None,
            RoundPhase::Open | RoundPhase::Committed { .. } => shown.manifest(round).await?,
        };
        let hurt = match &manifest {
            Some(manifest) => hurt(shown.store(), shown.state(), round, manifest).await,
            None => Ok(Hurt::new()),
        };
        let hurt = hurt.map_err(|source| ManifestError::Store { number, source })?;
        Ok(Self::of(shown, round, manifest.as_ref(), &hurt))
    }

    fn of(shown: &Shown<'_>, round: &RoundState, manifest: Option<&Manifest>, hurt: &Hurt) -> Self {
        let (commit, verified) = match &round.phase {
            RoundPhase::Committed { commit, position, verified } => {
                (Some((commit, *position)), verified.as_ref())
            }
            RoundPhase::Open | RoundPhase::Ended(_) => (None, None),
        };
        let reason = match &round.phase {
            RoundPhase::Ended(end) => Some(end.reason.clone()),
            RoundPhase::Open | RoundPhase::Committed { .. } => None,
        };
        Self {
            schema: "muster.round/1",
            fleet: shown.fleet(),
            round: round.open.round,
            number: round.open.number,
            state: round.word(),
            outcome: round.outcome().map(Outcome::as_str),
            reason,
            trigger: round.open.trigger.clone(),
            opened: rfc3339(round.open.at),
            resumed: round.resumed.iter().map(|one| resumed(shown, one)).collect(),
            committed: commit.map(|(commit, _)| rfc3339(commit.at)),
            verified: verified.map(|verified| rfc3339(verified.at)),
            verified_objects: verified.map(|verified| verified.objects),
            verified_bytes: verified.map(|verified| verified.bytes),
            held: round.hold.is_some(),
            hold_reason: round.hold.as_ref().and_then(|hold| hold.reason.clone()),
            swept: round.swept,
            manifest: commit.map(|(commit, log_number)| ManifestView {
                hash: commit.manifest.to_string(),
                bytes: commit.manifest_size,
                log_number,
                keyset: manifest.map_or(0, |manifest| manifest.keyset),
            }),
            head: shown.head(),
            cut: manifest.and_then(|manifest| manifest.cut.as_ref()).map(cut),
            services: manifest
                .map_or_else(|| without_manifest(shown, round), |manifest| services(manifest, hurt)),
        }
    }

    /// One line that says it all.
    #[must_use]
    pub fn summary(&self) -> String {
        let stored: Vec<_> = self.services.iter().filter(|service| service.state == "stored").collect();
        let added = total(stored.iter().map(|service| service.added_bytes));
        let source = total(stored.iter().map(|service| service.source_bytes));
        let mut words = self.outcome.unwrap_or(self.state).to_owned();
        if self.state == "verified" {
            words.push_str(", verified");
        } else if self.manifest.is_some() {
            words.push_str(", not verified");
        }
        if self.services.iter().any(|service| service.damaged_objects > 0) {
            words.push_str(", damaged");
        }
        if self.held {
            words.push_str(", held");
        }
        if self.swept {
            return format!("round {} · {} · {words}, pruned", self.number, self.round.short());
        }
        format!(
            "round {} · {} · {words} · {} of {}, {} → {} added",
            self.number,
            self.round.short(),
            stored.len(),
            plural(self.services.len(), "service"),
            format_size(source),
            format_size(added),
        )
    }

    /// One line for each service that gave no slice, or one with gaps, and for the round's own reason; then what to do.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.reason.iter().map(|reason| format!("reason: {reason}")).collect();
        for service in &self.services {
            match (service.state, service.excuse, &service.reason) {
                ("absent", None, Some(reason)) => {
                    lines.push(format!("{}: {reason} (attempts: {})", service.service, service.attempts));
                }
                ("absent", Some("not-present"), _) => {
                    lines.push(format!("{}: not present, and expected only while it is", service.service));
                }
                ("absent", Some(excuse), Some(reason)) => {
                    lines.push(format!("{}: {excuse}; {reason}", service.service));
                }
                _ => {}
            }
            if service.damaged_objects > 0 {
                let (name, code) = (&service.service, Code::Verify01);
                let objects = usize::try_from(service.damaged_objects).unwrap_or(usize::MAX);
                lines.push(format!("{name}: {code} it rests on {}", plural(objects, "damaged object")));
                lines.push("→ muster verify names them; rounds that were made since may be whole".to_owned());
            }
            if service.gaps > 0 {
                lines.push(format!(
                    "{}: {} entries could not be read, or changed while read",
                    service.service, service.gaps
                ));
            }
        }
        if let Some(reason) = self.cut.as_ref().and_then(|cut| cut.broken.as_ref()) {
            lines.push(format!("{} the cut is broken: {reason}", Code::Round05));
        }
        let steps = next_steps(&lines);
        lines.extend(steps);
        lines
    }
}

/// What to do about every code that is named, once. Steps that need a service's name stand with the alert.
fn next_steps(lines: &[String]) -> Vec<String> {
    let named = |code: &&Code| lines.iter().any(|line| line.contains(code.as_str()));
    let steps = Code::ALL.iter().filter(named).flat_map(|code| code.steps());
    steps.filter(|step| !step.contains("NAME")).map(|step| format!("→ {step}")).collect()
}

/// The word for JSON.
fn excuse(excuse: Excuse) -> &'static str {
    match excuse {
        Excuse::Optional => "optional",
        Excuse::NotPresent => "not-present",
    }
}

fn resumed(shown: &Shown<'_>, one: &Resumed) -> ResumedView {
    let Resumed { epoch, holder, at } = one;
    ResumedView { epoch: *epoch, coordinator: shown.state().name_of(holder), at: rfc3339(*at) }
}

fn cut(account: &CutAccount) -> CutView {
    let outsider = |outsider: &CutOutsider| OutsiderView {
        service: outsider.service.to_string(),
        reason: outsider.reason.clone(),
    };
    CutView {
        whole: account.broken.is_none(),
        broken: account.broken.clone(),
        skew_millis: account.skew_millis,
        members: account.members.iter().map(ToString::to_string).collect(),
        outside: account.outside.iter().map(outsider).collect(),
    }
}

fn tries(tries: &[Try]) -> Vec<TryView> {
    let view = |try_: &Try| TryView {
        attempt: try_.attempt,
        after_millis: try_.after_millis,
        code: try_.code.as_str(),
        reason: try_.reason.clone(),
    };
    tries.iter().map(view).collect()
}

fn timing(timing: Timing) -> TimingView {
    let Timing { greeted_millis, quiesced_millis, noticed_millis, checked_millis } = timing;
    TimingView { greeted_millis, quiesced_millis, noticed_millis, checked_millis }
}

fn services(manifest: &Manifest, hurt: &Hurt) -> Vec<SliceView> {
    let stored = manifest.slices.iter().map(|slice| SliceView {
        service: slice.service.to_string(),
        state: "stored",
        reason: match slice.status {
            SliceStatus::Whole => None,
            SliceStatus::Gaps => Some(format!("{} entries have gaps", slice.totals.gaps)),
        },
        code: None,
        attempts: slice.attempts,
        source_bytes: slice.totals.source_bytes,
        stored_bytes: slice.totals.stored_bytes,
        added_bytes: slice.totals.added_bytes,
        entries: slice.totals.entries,
        gaps: slice.totals.gaps,
        receipt: Some(slice.receipt.to_string()),
        excuse: None,
        timing: slice.timing.map(timing),
        tries: tries(&slice.tries),
        damaged_objects: hurt.get(&slice.service).copied().unwrap_or_default(),
    });
    let absent = manifest.absent.iter().map(|absentee| SliceView {
        reason: Some(format!("{} {}", absentee.code, absentee.reason)),
        code: Some(absentee.code.as_str()),
        attempts: absentee.attempts,
        excuse: absentee.excuse.map(excuse),
        tries: tries(&absentee.tries),
        ..nothing(absentee.service.to_string(), "absent")
    });
    let mut all: Vec<_> = stored.chain(absent).collect();
    all.sort_by(|one, two| one.service.cmp(&two.service));
    all
}

fn without_manifest(shown: &Shown<'_>, round: &RoundState) -> Vec<SliceView> {
    let state = match &round.phase {
        RoundPhase::Open => "open",
        RoundPhase::Committed { .. } if round.swept => "pruned",
        RoundPhase::Committed { .. } | RoundPhase::Ended(_) => "absent",
    };
    let services = match &round.open.scope {
        Scope::All => shown.state().services(),
        Scope::Services(services) => services.clone(),
    };
    services.iter().map(|service| nothing(service.to_string(), state)).collect()
}

fn nothing(service: String, state: &'static str) -> SliceView {
    SliceView {
        service,
        state,
        reason: None,
        code: None,
        attempts: 0,
        source_bytes: 0,
        stored_bytes: 0,
        added_bytes: 0,
        entries: 0,
        gaps: 0,
        receipt: None,
        excuse: None,
        timing: None,
        tries: Vec::new(),
        damaged_objects: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{HeadView, ManifestView, RoundView, nothing};
    use muster_protocol::ids::RoundId;

    fn view(state: &'static str, outcome: Option<&'static str>) -> RoundView {
        RoundView {
            schema: "muster.round/1",
            fleet: "prod".to_owned(),
            round: RoundId::from_bytes([1; 16]),
            number: 7,
            state,
            outcome,
            reason: None,
            trigger: "command".to_owned(),
            opened: String::new(),
            resumed: Vec::new(),
            committed: None,
            verified: None,
            verified_objects: None,
            verified_bytes: None,
            held: false,
            hold_reason: None,
            swept: false,
            manifest: outcome.is_some().then(|| ManifestView {
                hash: String::new(),
                bytes: 1,
                log_number: 9,
                keyset: 1,
            }),
            head: HeadView { number: 9, hash: String::new() },
            cut: None,
            services: vec![nothing("dns".to_owned(), "stored")],
        }
    }

    #[test]
    fn a_failure_ends_with_what_to_do() {
        let mut failed = view("failed", Some("failed"));
        failed.reason = Some("dns: SHARE-05 the share is full".to_owned());
        let lines = failed.troubles();
        assert_eq!(lines[1], "→ free or add space on the share", "{lines:?}");
        failed.reason = Some("nobody came".to_owned());
        assert_eq!(failed.troubles().len(), 1);
    }

    #[test]
    fn a_slice_on_damaged_objects_is_told() {
        let mut view = view("verified", Some("complete"));
        assert!(!view.summary().contains("damaged"), "{}", view.summary());
        view.services[0].damaged_objects = 2;
        assert!(view.summary().contains("complete, verified, damaged"), "{}", view.summary());
        let lines = view.troubles();
        assert_eq!(lines[0], "dns: VERIFY-01 it rests on 2 damaged objects", "{lines:?}");
    }

    #[test]
    fn the_names_in_json_are_those_that_scripts_rely_on() {
        let json = serde_json::to_value(view("verified", Some("complete"))).expect("JSON");
        for name in ["schema", "round", "number", "state", "outcome", "services", "head"] {
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["service", "state", "reason", "attempts", "source_bytes", "stored_bytes", "added_bytes"]
        {
            assert!(json["services"][0].get(name).is_some(), "{name}");
        }
        assert_eq!(json["head"]["number"], 9);
        assert_eq!(json["schema"], "muster.round/1");
        assert_eq!(json["round"], "01".repeat(16));
    }
}
