//! Who did what, from the log: newest first, page by page. Works from the share alone.

mod words;

use muster_protocol::log::{Body, Config, Record, Role, State};
use muster_protocol::schedule::moment;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::parse_duration;
use muster_share::log::LogError;
use schemars::JsonSchema;
use serde::Serialize;

use super::{HeadView, Shown, rfc3339};
use words::{Deed, Said};

/// The kinds of records that may be asked for.
pub const KINDS: [&str; 20] = [
    "accept",
    "adopt",
    "audit",
    "commit",
    "config",
    "drill",
    "end",
    "epoch",
    "genesis",
    "hold",
    "keyset",
    "open",
    "prune",
    "pruned",
    "quarantine",
    "roster",
    "scrub",
    "sealing",
    "sweep",
    "verified",
];

/// Which part of the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// Nothing older.
    pub since: Option<UnixMillis>,
    /// How many, newest first; 0 for all.
    pub limit: usize,
    /// Only records before this number.
    pub before: Option<u64>,
    /// Only records of this kind.
    pub kind: Option<&'a str>,
}

/// `{"schema":"muster.audit/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditView {
    /// `muster.audit/1`
    pub schema: &'static str,
    /// The fleet's name.
    pub fleet: String,
    /// The head of the log.
    pub head: HeadView,
    /// Newest first.
    pub entries: Vec<Entry>,
    /// `before` of the next page; null: there is nothing older.
    pub next: Option<u64>,
}

/// One of `entries[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Entry {
    /// The log record.
    pub number: u64,
    /// When, by the clock of whoever did it; null: the record does not say.
    pub at: Option<String>,
    /// The member's name, or `root`.
    pub who: String,
    /// `root`, or the role by which it did it.
    pub role: String,
    /// The key that signed it, in hexadecimal.
    pub key: String,
    /// The kind of the record.
    pub kind: String,
    /// In words.
    pub what: String,
    /// Why, where somebody said it.
    pub reason: Option<String>,
    /// Why it had no effect; null: it had.
    pub without_effect: Option<String>,
    /// The same time, for people.
    #[serde(skip)]
    #[schemars(skip)]
    pub time: Option<UnixMillis>,
}

/// The moment that a text means: one of its own, or a duration before `now`.
///
/// # Errors
/// What it must be, in words.
pub fn since(text: &str, now: UnixMillis) -> Result<UnixMillis, String> {
    match parse_duration(text) {
        Ok(ago) => Ok(UnixMillis(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))),
        Err(_) => moment(text, "UTC").map_err(|must| format!("{must}; or a duration such as 7d")),
    }
}

impl AuditView {
    /// A page of the log.
    ///
    /// # Errors
    /// When the log cannot be read back so far.
    pub async fn read(shown: &Shown<'_>, page: &Page<'_>) -> Result<Self, LogError> {
        let (entries, next) = entries(shown, page).await?;
        Ok(Self { schema: "muster.audit/1", fleet: shown.fleet(), head: shown.head(), entries, next })
    }
}

/// The page, and where the next one begins.
async fn entries(shown: &Shown<'_>, page: &Page<'_>) -> Result<(Vec<Entry>, Option<u64>), LogError> {
    let (state, since, kind) = (shown.state(), page.since, page.kind);
    let mut trail = shown.log.trail();
    let mut deeds: Vec<Deed> = Vec::new();
    let mut next = None;
    // What a configuration changed is told by the one before it, which may lie behind the page.
    let mut wants_config = false;
    let mut told = 0;
    while let Some(record) = trail.back().await? {
        let in_page = page.before.is_none_or(|before| record.number < before);
        let asked = in_page && kind.is_none_or(|kind| kind == record.kind);
        let full = page.limit > 0 && told >= page.limit;
        let is_config = record.kind == Config::KIND;
        let mut deed = Deed::of(&record, state);
        let old = since.is_some_and(|since| deed.at.is_some_and(|at| at < since));
        deed.shown = asked && !full && !old;
        told += usize::from(deed.shown);
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
    let role = state.members.get(&deed.who).map(|member| &member.member.role).map(Role::word);
    let without_effect =
        state.without_effect.iter().find(|(number, _)| *number == deed.number).map(|(_, why)| why.clone());
    Entry {
        number: deed.number,
        at: deed.at.map(rfc3339),
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
            role.word().to_owned()
        }
    }
}
