//! What `muster prune --json` says.

use std::time::SystemTime;

use muster_protocol::ids::{ObjectId, RoundId};
use muster_protocol::prune::{Kept, Next, Span, Wait};
use muster_share::prune::{Frozen, Locked, Marked, Plan, Renewed, Report, Survey, Swept, Tally};
use serde::Serialize;

use crate::fleet::Fleet;
use crate::round_view::HeadView;

/// `{"schema":"muster.prune/1", …}`
#[derive(Debug, Serialize)]
pub(super) struct View {
    schema: &'static str,
    fleet: String,
    share: String,
    dry_run: bool,
    /// Of a dry run: what the next prune does: `frozen`, `finish`, `sweep`, `wait`, `mark` or `nothing`.
    next: Option<&'static str>,
    /// Of a dry run: what would go, or would be marked.
    would: Option<Would>,
    /// Of a dry run: why nothing goes now; empty where nothing keeps it.
    frozen: Vec<FrozenView>,
    /// Sweeps that this run ended.
    swept: Vec<SweptView>,
    /// The mark that this run made.
    marked: Option<MarkedView>,
    /// What was not marked because a lock keeps it; null where there is nothing such.
    locked: Option<LockedView>,
    /// Locks of what stays; null on a share without locks.
    locks: Option<LocksView>,
    /// The mark that waits.
    waits: Option<WaitView>,
    head: HeadView,
}

#[derive(Debug, Serialize)]
struct FrozenView {
    code: &'static str,
    subject: String,
    cause: String,
    /// What ends it.
    ends: String,
}

#[derive(Debug, Serialize)]
struct TallyView {
    objects: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct LockedView {
    objects: u64,
    bytes: u64,
    /// When the last of these locks ends, in milliseconds since 1970.
    until_millis: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LocksView {
    renewed: u64,
    lasting: u64,
    missing: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct GoingView {
    round: RoundId,
    number: u64,
    objects: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct StayingView {
    number: u64,
    /// `open`, `held`, `last`, `days` or `minimum`.
    because: &'static str,
}

#[derive(Debug, Serialize)]
struct Would {
    objects: u64,
    bytes: u64,
    rounds: Vec<GoingView>,
    orphans: TallyView,
    configurations: TallyView,
    lists: TallyView,
    grants: TallyView,
    in_use: TallyView,
    kept: TallyView,
    staying: Vec<StayingView>,
    /// More is due than goes at once.
    more: bool,
    foreign: u64,
    locked: Option<LockedView>,
    kept_back: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SweptView {
    log_number: u64,
    rounds: Vec<u64>,
    objects: u64,
    bytes: u64,
    locked: Option<LockedView>,
    kept_back: Vec<String>,
    resumed: bool,
}

#[derive(Debug, Serialize)]
struct MarkedView {
    log_number: u64,
    list: ObjectId,
    #[serde(flatten)]
    would: Would,
}

#[derive(Debug, Serialize)]
struct WaitView {
    log_number: u64,
    /// The open round that it waits for.
    round: Option<u64>,
    /// What is left of its grace.
    grace_millis: Option<u64>,
}

/// The word for why a round stays.
pub(super) fn because(why: Kept) -> &'static str {
    match why {
        Kept::Open => "open",
        Kept::Held => "held",
        Kept::Last => "last",
        Kept::Days => "days",
        Kept::Span(Span::Hour) => "hourly",
        Kept::Span(Span::Day) => "daily",
        Kept::Span(Span::Week) => "weekly",
        Kept::Span(Span::Month) => "monthly",
        Kept::Span(Span::Year) => "yearly",
        Kept::Minimum => "minimum",
    }
}

/// The word for what the next prune does.
fn next_word(plan: &Plan) -> &'static str {
    if !plan.frozen.is_empty() {
        return "frozen";
    }
    match plan.next {
        Next::Finish { .. } => "finish",
        Next::Sweep { .. } => "sweep",
        Next::Wait { .. } => "wait",
        Next::Mark if plan.survey.is_worth_a_mark() => "mark",
        Next::Mark => "nothing",
    }
}

impl View {
    fn new(fleet: &Fleet, dry_run: bool) -> Self {
        let head = fleet.log.head();
        Self {
            schema: "muster.prune/1",
            fleet: fleet.name(),
            share: fleet.share.url.clone(),
            dry_run,
            next: None,
            would: None,
            frozen: Vec::new(),
            swept: Vec::new(),
            marked: None,
            locked: None,
            locks: None,
            waits: None,
            head: HeadView { number: head.number, hash: head.hash.to_string() },
        }
    }

    pub(super) fn of_plan(fleet: &Fleet, plan: &Plan) -> Self {
        let waits = match plan.next {
            Next::Wait { mark, why } => Some(wait(mark, why)),
            Next::Finish { .. } | Next::Sweep { .. } | Next::Mark => None,
        };
        Self {
            next: Some(next_word(plan)),
            would: Some(would(&plan.survey)),
            frozen: plan.frozen.iter().map(frozen).collect(),
            waits,
            ..Self::new(fleet, true)
        }
    }

    pub(super) fn of_report(fleet: &Fleet, report: &Report, renewed: Option<&Renewed>) -> Self {
        Self {
            swept: report.swept.iter().map(swept).collect(),
            marked: report.marked.as_ref().map(|Marked { number, list, survey }| MarkedView {
                log_number: *number,
                list: *list,
                would: would(survey),
            }),
            locked: locked(report.locked),
            locks: renewed.map(|renewed| LocksView {
                renewed: renewed.renewed,
                lasting: renewed.lasting,
                missing: renewed.missing,
                failed: renewed.failed,
            }),
            waits: report.waits.map(|(mark, why)| wait(mark, why)),
            ..Self::new(fleet, false)
        }
    }
}

fn frozen(frozen: &Frozen) -> FrozenView {
    FrozenView {
        code: frozen.code().as_str(),
        subject: frozen.subject(),
        cause: frozen.cause(),
        ends: frozen.ends(),
    }
}

fn tally(tally: Tally) -> TallyView {
    TallyView { objects: tally.objects, bytes: tally.bytes }
}

fn locked(locked: Locked) -> Option<LockedView> {
    let millis =
        |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_millis()).ok();
    (locked.kept.objects > 0).then(|| LockedView {
        objects: locked.kept.objects,
        bytes: locked.kept.bytes,
        until_millis: locked.until.and_then(millis).and_then(|millis| u64::try_from(millis).ok()),
    })
}

fn would(survey: &Survey) -> Would {
    let Tally { objects, bytes } = survey.total();
    let rounds = survey.going.iter().map(|going| GoingView {
        round: going.round,
        number: going.number,
        objects: going.frees.objects,
        bytes: going.frees.bytes,
    });
    let staying =
        survey.staying.iter().map(|(number, why)| StayingView { number: *number, because: because(*why) });
    Would {
        objects,
        bytes,
        rounds: rounds.collect(),
        orphans: tally(survey.orphans),
        configurations: tally(survey.configurations),
        lists: tally(survey.lists),
        grants: tally(survey.grants),
        in_use: tally(survey.in_use),
        kept: tally(survey.kept),
        staying: staying.collect(),
        more: survey.more_rounds > 0 || survey.more_objects,
        foreign: survey.foreign,
        locked: locked(survey.locked),
        kept_back: survey.kept_back.iter().map(ToString::to_string).collect(),
    }
}

fn swept(swept: &Swept) -> SweptView {
    SweptView {
        log_number: swept.number,
        rounds: swept.rounds.clone(),
        objects: swept.deleted.objects,
        bytes: swept.deleted.bytes,
        locked: locked(swept.locked),
        kept_back: swept.kept_back.iter().map(ToString::to_string).collect(),
        resumed: swept.resumed,
    }
}

fn wait(mark: u64, why: Wait) -> WaitView {
    let (round, grace_millis) = match why {
        Wait::Round(number) => (Some(number), None),
        Wait::Grace { left } => (None, Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))),
    };
    WaitView { log_number: mark, round, grace_millis }
}
