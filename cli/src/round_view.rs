//! A round as screens and JSON show it: the one shape that `show`, `start --wait`, `once` and `watch` end with.

use muster_protocol::alert::Code;
use muster_protocol::document::{CutAccount, CutOutsider, Excuse, Manifest, SliceStatus, Timing, Try};
use muster_protocol::ids::RoundId;
use muster_protocol::log::{Outcome, Resumed, RoundPhase, RoundState, Scope};
use muster_protocol::units::{format_size, total};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::screen;

/// `{"schema":"muster.round/1", …}`
#[derive(Debug, Serialize)]
pub(crate) struct RoundView {
    pub(crate) schema: &'static str,
    pub(crate) fleet: String,
    pub(crate) round: RoundId,
    pub(crate) number: u64,
    /// `open`, `committed`, `verified`, `failed`, `cancelled`, `skipped`
    pub(crate) state: &'static str,
    /// `complete`, `partial`, `failed`, `cancelled`, `skipped`; null while it is open
    pub(crate) outcome: Option<&'static str>,
    /// Why it ended without a commit.
    pub(crate) reason: Option<String>,
    pub(crate) trigger: String,
    pub(crate) opened: String,
    /// Who took the lead while it was open, and went on with it; times of services count from the last of them.
    pub(crate) resumed: Vec<ResumedView>,
    pub(crate) committed: Option<String>,
    pub(crate) verified: Option<String>,
    pub(crate) verified_objects: Option<u64>,
    pub(crate) verified_bytes: Option<u64>,
    /// An operator keeps it, whatever the retention says.
    pub(crate) held: bool,
    /// Why.
    pub(crate) hold_reason: Option<String>,
    /// It was pruned: its objects are deleted, or about to be.
    pub(crate) swept: bool,
    pub(crate) manifest: Option<ManifestView>,
    pub(crate) head: HeadView,
    /// What became of the cut, in rounds that were to have one.
    pub(crate) cut: Option<CutView>,
    pub(crate) services: Vec<SliceView>,
}

/// The manifest's place.
#[derive(Debug, Serialize)]
pub(crate) struct ManifestView {
    pub(crate) hash: String,
    pub(crate) bytes: u64,
    pub(crate) log_number: u64,
    pub(crate) keyset: u64,
}

/// `head`
#[derive(Debug, Serialize)]
pub(crate) struct HeadView {
    pub(crate) number: u64,
    pub(crate) hash: String,
}

/// One of `resumed[]`.
#[derive(Debug, Serialize)]
pub(crate) struct ResumedView {
    pub(crate) epoch: u64,
    pub(crate) coordinator: String,
    pub(crate) at: String,
}

/// `cut`
#[derive(Debug, Serialize)]
pub(crate) struct CutView {
    pub(crate) whole: bool,
    pub(crate) broken: Option<String>,
    pub(crate) skew_millis: u64,
    pub(crate) members: Vec<String>,
    pub(crate) outside: Vec<OutsiderView>,
}

/// One of `cut.outside[]`.
#[derive(Debug, Serialize)]
pub(crate) struct OutsiderView {
    pub(crate) service: String,
    pub(crate) reason: String,
}

/// One of `services[].tries[]`: an attempt that gave no slice.
#[derive(Debug, Serialize)]
pub(crate) struct TryView {
    pub(crate) attempt: u32,
    pub(crate) after_millis: u64,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

/// `services[].timing`, in milliseconds since the round began, or since another coordinator went on with it.
#[derive(Debug, Serialize)]
pub(crate) struct TimingView {
    pub(crate) greeted_millis: u64,
    /// None where the round had no cut, or it was never held for it.
    pub(crate) quiesced_millis: Option<u64>,
    pub(crate) noticed_millis: u64,
    pub(crate) checked_millis: u64,
}

/// One of `services[]`.
#[derive(Debug, Serialize)]
pub(crate) struct SliceView {
    pub(crate) service: String,
    /// `stored`, `absent`, `open` while the round is, or `pruned` once it was.
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    /// The reason's alert code.
    pub(crate) code: Option<&'static str>,
    pub(crate) attempts: u32,
    pub(crate) source_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) added_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) gaps: u64,
    pub(crate) receipt: Option<String>,
    /// Why its absence does not make the round partial: `optional`, `not-present`.
    pub(crate) excuse: Option<&'static str>,
    pub(crate) timing: Option<TimingView>,
    /// Attempts that failed, oldest first.
    pub(crate) tries: Vec<TryView>,
}

impl RoundView {
    /// The round, with what its manifest says.
    pub(crate) async fn read(fleet: &Fleet, round: &RoundState) -> Result<Self, Failure> {
        let manifest = match &round.phase {
            RoundPhase::Ended(end) => fleet.account(round, end).await,
            RoundPhase::Committed { .. } if round.swept => None,
            RoundPhase::Open | RoundPhase::Committed { .. } => fleet.manifest(round).await?,
        };
        Ok(Self::of(fleet, round, manifest.as_ref()))
    }

    fn of(fleet: &Fleet, round: &RoundState, manifest: Option<&Manifest>) -> Self {
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
        let head = fleet.log.head();
        Self {
            schema: "muster.round/1",
            fleet: fleet.name(),
            round: round.open.round,
            number: round.open.number,
            state: round.word(),
            outcome: round.outcome().map(Outcome::as_str),
            reason,
            trigger: round.open.trigger.clone(),
            opened: screen::rfc3339(round.open.at),
            resumed: round.resumed.iter().map(|one| resumed(fleet, one)).collect(),
            committed: commit.map(|(commit, _)| screen::rfc3339(commit.at)),
            verified: verified.map(|verified| screen::rfc3339(verified.at)),
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
            head: HeadView { number: head.number, hash: head.hash.to_string() },
            cut: manifest.and_then(|manifest| manifest.cut.as_ref()).map(cut),
            services: manifest.map_or_else(|| without_manifest(fleet, round), services),
        }
    }

    /// The exit code that tells how the round ended.
    pub(crate) fn exit(&self) -> Exit {
        match (self.state, self.outcome) {
            ("verified", Some("complete")) => Exit::Done,
            ("verified", Some("partial")) => Exit::Partial,
            // Committed and not verified: its objects were read again and something is wrong with them.
            (_, Some("complete" | "partial")) => Exit::Damaged,
            _ => Exit::Failed,
        }
    }

    /// One line that says it all.
    pub(crate) fn summary(&self) -> String {
        let stored: Vec<_> = self.services.iter().filter(|service| service.state == "stored").collect();
        let added = total(stored.iter().map(|service| service.added_bytes));
        let source = total(stored.iter().map(|service| service.source_bytes));
        let mut words = self.outcome.unwrap_or(self.state).to_owned();
        if self.state == "verified" {
            words.push_str(", verified");
        } else if self.manifest.is_some() {
            words.push_str(", not verified");
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
            screen::plural(self.services.len(), "service"),
            format_size(source),
            format_size(added),
        )
    }

    /// One line for each service that gave no slice, or one with gaps, and for the round's own reason; then what to do.
    pub(crate) fn troubles(&self) -> Vec<String> {
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

fn resumed(fleet: &Fleet, one: &Resumed) -> ResumedView {
    let Resumed { epoch, holder, at } = one;
    ResumedView { epoch: *epoch, coordinator: fleet.state().name_of(holder), at: screen::rfc3339(*at) }
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

fn services(manifest: &Manifest) -> Vec<SliceView> {
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

fn without_manifest(fleet: &Fleet, round: &RoundState) -> Vec<SliceView> {
    let state = match &round.phase {
        RoundPhase::Open => "open",
        RoundPhase::Committed { .. } if round.swept => "pruned",
        RoundPhase::Committed { .. } | RoundPhase::Ended(_) => "absent",
    };
    let services = match &round.open.scope {
        Scope::All => fleet.state().services(),
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
    }
}

#[cfg(test)]
mod tests {
    use super::{HeadView, ManifestView, RoundView, nothing};
    use crate::exit::Exit;
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
    fn the_exit_code_tells_how_it_ended() {
        for (state, outcome, exit) in [
            ("verified", Some("complete"), Exit::Done),
            ("verified", Some("partial"), Exit::Partial),
            ("committed", Some("complete"), Exit::Damaged),
            ("failed", Some("failed"), Exit::Failed),
            ("open", None, Exit::Failed),
        ] {
            assert_eq!(view(state, outcome).exit(), exit, "{state}");
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
