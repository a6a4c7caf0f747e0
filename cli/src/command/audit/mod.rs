//! `muster audit`: who did what, from the log: newest first, page by page. Works from the share alone.

mod words;

use muster_protocol::log::{Body, Config, Record, Role, State};
use muster_protocol::schedule::moment;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::parse_duration;
use serde::Serialize;

use crate::args::{Audit, Page, Reading};
use crate::command::enroll::role_word;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::round_view::HeadView;
use crate::screen;
use words::{Deed, Said};

/// The kinds of records that may be asked for.
const KINDS: [&str; 17] = [
    "accept", "adopt", "audit", "commit", "config", "end", "epoch", "genesis", "hold", "keyset", "open",
    "prune", "pruned", "roster", "sealing", "sweep", "verified",
];

/// `{"schema":"muster.audit/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    head: HeadView,
    /// Newest first.
    entries: Vec<Entry>,
    /// `--before` of the next page; null: there is nothing older.
    next: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Entry {
    /// The log record.
    number: u64,
    /// When, by the clock of whoever did it; null: the record does not say.
    at: Option<String>,
    /// The member's name, or `root`.
    who: String,
    role: String,
    key: String,
    kind: String,
    /// In words.
    what: String,
    /// Why, where somebody said it.
    reason: Option<String>,
    /// Why it had no effect; null: it had.
    without_effect: Option<String>,
    #[serde(skip)]
    time: Option<UnixMillis>,
}

/// Shows it.
pub(crate) async fn run(args: Audit) -> Outcome {
    if let Some(kind) = args.kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(Failure::usage(format!("--kind: there are no records of kind {kind:?}"))
            .because(format!("There are {}.", KINDS.join(", "))));
    }
    show(&args.reading, &args.page, args.kind.as_deref()).await
}

/// Shows the records of one kind, or of all.
pub(crate) async fn show(reading: &Reading, page: &Page, kind: Option<&str>) -> Outcome {
    let since = page.since.as_deref().map(|text| since(text, screen::now())).transpose()?;
    let fleet = Fleet::open(reading).await?;
    let (entries, next) = entries(&fleet, page, since, kind).await?;
    if reading.json {
        let head = fleet.log.head();
        screen::json(&View {
            schema: "muster.audit/1",
            fleet: fleet.name(),
            head: HeadView { number: head.number, hash: head.hash.to_string() },
            entries,
            next,
        });
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        screen::line("nothing of the kind is in this part of the log");
    } else {
        let rows = entries.into_iter().map(row).collect();
        screen::lines(screen::table(&["record", "when", "who", "what"], rows));
    }
    if let Some(next) = next {
        screen::line(format!("→ --before {next}   goes on from here; --limit 0 shows all"));
    }
    Ok(Exit::Done)
}

fn row(entry: Entry) -> Vec<String> {
    let mut what = entry.what;
    if let Some(reason) = entry.reason {
        what.push_str(&format!(": {reason}"));
    }
    if let Some(why) = entry.without_effect {
        what.push_str(&format!(" (without effect: {why})"));
    }
    let when = entry.time.map_or_else(|| "-".to_owned(), screen::time);
    vec![entry.number.to_string(), when, format!("{} ({})", entry.who, entry.role), what]
}

fn since(text: &str, now: UnixMillis) -> Result<UnixMillis, Failure> {
    match parse_duration(text) {
        Ok(ago) => Ok(UnixMillis(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))),
        Err(_) => moment(text, "UTC")
            .map_err(|must| Failure::usage(format!("--since {must}; or a duration such as 7d"))),
    }
}

/// The page, and where the next one begins.
async fn entries(
    fleet: &Fleet,
    page: &Page,
    since: Option<UnixMillis>,
    kind: Option<&str>,
) -> Result<(Vec<Entry>, Option<u64>), Failure> {
    let state = fleet.state();
    let mut trail = fleet.log.trail();
    let mut deeds: Vec<Deed> = Vec::new();
    let mut next = None;
    // What a configuration changed is told by the one before it, which may lie behind the page.
    let mut wants_config = false;
    let mut shown = 0;
    while let Some(record) = trail.back().await? {
        let in_page = page.before.is_none_or(|before| record.number < before);
        let asked = in_page && kind.is_none_or(|kind| kind == record.kind);
        let full = page.limit > 0 && shown >= page.limit;
        let is_config = record.kind == Config::KIND;
        let mut deed = Deed::of(&record, state);
        let old = since.is_some_and(|since| deed.at.is_some_and(|at| at < since));
        deed.shown = asked && !full && !old;
        shown += usize::from(deed.shown);
        if asked && full && !old && next.is_none() {
            next = Some(record.number + 1);
        }
        if is_config {
            wants_config = deed.shown || (wants_config && is_without_effect(state, &record));
        }
        if deed.shown || is_config {
            deeds.push(deed);
        }
        if (old || next.is_some()) && !wants_config {
            break;
        }
    }
    let said = words::tell(&deeds, state);
    let shown = deeds.into_iter().zip(said).filter(|(deed, _)| deed.shown);
    Ok((shown.map(|(deed, said)| entry(deed, said, state)).collect(), next))
}

fn is_without_effect(state: &State, record: &Record) -> bool {
    state.without_effect.iter().any(|(number, _)| *number == record.number)
}

fn entry(deed: Deed, said: Said, state: &State) -> Entry {
    let is_root = state.root == Some(deed.who);
    let role = state.members.get(&deed.who).map(|member| &member.member.role).map(role_word);
    let without_effect =
        state.without_effect.iter().find(|(number, _)| *number == deed.number).map(|(_, why)| why.clone());
    Entry {
        number: deed.number,
        at: deed.at.map(screen::rfc3339),
        who: if is_root { "root".to_owned() } else { state.name_of(&deed.who) },
        role: match (is_root, role) {
            (true, _) => "root".to_owned(),
            (false, Some(role)) => role.to_owned(),
            (false, None) => "unknown".to_owned(),
        },
        key: deed.who.to_string(),
        kind: deed.kind,
        what: said.what,
        reason: said.reason,
        without_effect,
        time: deed.at,
    }
}

/// The word for a member's role, with the service of an agent.
pub(super) fn role_of(role: &Role) -> String {
    match role {
        Role::Agent { service, .. } => format!("agent of {service}"),
        Role::Enroller { prefix, .. } => format!("enroller of {prefix}*"),
        Role::Coordinator | Role::Viewer | Role::Operator | Role::Admin | Role::Pruner => {
            role_word(role).to_owned()
        }
    }
}
