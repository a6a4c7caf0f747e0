//! What each record of the log says, in words.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{KeyId, ObjectId, RoundId};
use muster_protocol::log::{
    Accept, Adopt, Audit, Body, Change, Commit, Config, Drill, End, Epoch, Genesis, Hold, Keyset, Open,
    Prune, Pruned, Quarantine, Record, Roster, Scope, Scrub, Sealing, State, Statement, Sweep, Verified,
};
use muster_protocol::time::UnixMillis;
use muster_protocol::token;
use muster_protocol::units::format_duration;

use super::role_of;
use crate::view::{plural, rfc3339};

/// Settings, members or rounds that a line names.
const NAMED: usize = 6;

/// A record, opened.
#[derive(Debug)]
pub(super) struct Deed {
    pub(super) number: u64,
    /// Who says it: of a statement, whoever signed that.
    pub(super) who: KeyId,
    pub(super) at: Option<UnixMillis>,
    pub(super) kind: String,
    /// Whether it is on the page.
    pub(super) shown: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    Settings(BTreeMap<String, String>, Option<ObjectId>),
    Words { what: String, reason: Option<String> },
}

/// In words.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) what: String,
    pub(super) reason: Option<String>,
}

impl Deed {
    /// What a record says; one that cannot be opened says so.
    pub(super) fn of(record: &Record, state: &State) -> Self {
        let unreadable = || (record.signer, None, words("a record that this version cannot read"));
        let (who, at, what) = read(record, state).unwrap_or_else(unreadable);
        Self { number: record.number, who, at, kind: record.kind.clone(), shown: false, what }
    }
}

fn words(what: impl Into<String>) -> What {
    What::Words { what: what.into(), reason: None }
}

/// Tells deeds, newest first; a configuration by what it changed of the one before it.
pub(super) fn tell(deeds: &[Deed], state: &State) -> Vec<Said> {
    let counts = |deed: &Deed| !state.without_effect.iter().any(|(number, _)| *number == deed.number);
    deeds
        .iter()
        .enumerate()
        .map(|(place, deed)| match &deed.what {
            What::Words { what, reason } => Said { what: what.clone(), reason: reason.clone() },
            What::Settings(clear, sealed) => {
                let older = deeds[place + 1..].iter().filter(|older| counts(older));
                let before = older.filter_map(|older| older.what.settings()).next();
                Said { what: changed(before, clear, *sealed), reason: None }
            }
        })
        .collect()
}

impl What {
    fn settings(&self) -> Option<(&BTreeMap<String, String>, Option<ObjectId>)> {
        match self {
            Self::Settings(clear, sealed) => Some((clear, *sealed)),
            Self::Words { .. } => None,
        }
    }
}

fn changed(
    before: Option<(&BTreeMap<String, String>, Option<ObjectId>)>,
    clear: &BTreeMap<String, String>,
    sealed: Option<ObjectId>,
) -> String {
    let Some((old, old_sealed)) = before else { return "founded the configuration".to_owned() };
    let mut changes = Vec::new();
    let plain = |settings: &BTreeMap<String, String>| {
        let mut settings = settings.clone();
        settings.retain(|key, _| !key.starts_with(token::PREFIX));
        settings
    };
    let acts = tokens(old, clear);
    let (old, clear) = (plain(old), plain(clear));
    for (key, value) in &clear {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(was) => changes.push(format!("{key} = {value} (was {was})")),
            None => changes.push(format!("{key} = {value}")),
        }
    }
    changes.extend(old.keys().filter(|key| !clear.contains_key(*key)).map(|key| format!("{key} unset")));
    if sealed != old_sealed {
        changes.push("the sealed part".to_owned());
    }
    match (changes.is_empty(), acts.is_empty()) {
        (true, true) => "stated the configuration again".to_owned(),
        (true, false) => listed(&acts),
        (false, true) => format!("set {}", listed(&changes)),
        (false, false) => format!("{}, set {}", listed(&acts), listed(&changes)),
    }
}

/// What became of tokens, without their hashes.
fn tokens(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let (old, new) = (token::tokens(old), token::tokens(new));
    let made = new.iter().filter(|(name, token)| old.get(*name) != Some(*token)).map(|(name, token)| {
        let until = match token.until {
            Some(until) => format!("until {}", rfc3339(until)),
            None => "without an end".to_owned(),
        };
        format!("made the token {name} ({}, {until})", token.role.word())
    });
    let gone =
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("revoked the token {name}"));
    made.chain(gone).collect()
}

fn listed(items: &[String]) -> String {
    let mut named: Vec<String> = items.iter().take(NAMED).cloned().collect();
    if items.len() > NAMED {
        named.push(format!("{} more", items.len() - NAMED));
    }
    named.join(", ")
}

type Read = (KeyId, Option<UnixMillis>, What);

fn read(record: &Record, state: &State) -> Option<Read> {
    let round = |id: &RoundId| match state.rounds.get(id) {
        Some(round) => format!("round {}", round.open.number),
        None => format!("round {}", id.short()),
    };
    let own = |at, what: String| Some((record.signer, at, words(what)));
    match record.kind.as_str() {
        Genesis::KIND => {
            let body: Genesis = record.body().ok()?;
            own(Some(body.created), format!("founded the fleet {}", body.name))
        }
        Keyset::KIND => said(record, |body: &Keyset| {
            let labels: Vec<_> = body.keys.iter().map(|key| key.label.clone()).collect();
            let keys = plural(labels.len(), "recovery key");
            (body.at, words(format!("rounds are sealed to {keys} from here on: {}", listed(&labels))))
        }),
        Roster::KIND => said(record, |body: &Roster| (body.at, words(members(&body.changes, state)))),
        Config::KIND => {
            said(record, |body: &Config| (body.at, What::Settings(body.clear.clone(), body.sealed)))
        }
        Hold::KIND => said(record, |body: &Hold| {
            let word = if body.keep { "held" } else { "let go of" };
            let what = format!("{word} {}", round(&body.round));
            (body.at, What::Words { what, reason: body.reason.clone() })
        }),
        Accept::KIND => said(record, |body: &Accept| {
            let what = format!("accepted what {} is like in {}", body.service, round(&body.round));
            (body.at, What::Words { what, reason: body.reason.clone() })
        }),
        Drill::KIND => said(record, |body: &Drill| {
            let of = match &body.scope {
                Scope::All => String::new(),
                Scope::Services(services) => {
                    let names: Vec<_> = services.iter().map(ToString::to_string).collect();
                    format!(" of {}", listed(&names))
                }
            };
            let took = format_duration(Duration::from_millis(body.took_millis));
            let what = format!(
                "drilled the recovery{of} from {}: {} in {took}",
                round(&body.round),
                body.outcome.as_str()
            );
            (Some(body.at), What::Words { what, reason: body.reason.clone() })
        }),
        Adopt::KIND => said(record, |body: &Adopt| {
            (body.at, words(format!("adopted the share as it is at record {}", body.head.number)))
        }),
        Epoch::KIND => {
            let body: Epoch = record.body().ok()?;
            own(Some(body.at), format!("took the lead, epoch {}", body.epoch))
        }
        Open::KIND => {
            let body: Open = record.body().ok()?;
            own(Some(body.at), format!("opened round {} by {}", body.number, body.trigger))
        }
        Commit::KIND => {
            let body: Commit = record.body().ok()?;
            own(Some(body.at), format!("committed {}, {}", round(&body.round), body.outcome.as_str()))
        }
        Verified::KIND => {
            let body: Verified = record.body().ok()?;
            let objects = usize::try_from(body.objects).unwrap_or(usize::MAX);
            own(Some(body.at), format!("verified {}, {}", round(&body.round), plural(objects, "object")))
        }
        End::KIND => {
            let body: End = record.body().ok()?;
            let what = format!("ended {}, {}", round(&body.round), body.outcome.as_str());
            Some((record.signer, Some(body.at), What::Words { what, reason: Some(body.reason) }))
        }
        Prune::KIND => {
            let body: Prune = record.body().ok()?;
            own(body.at, format!("marked {} for deletion", plural(body.rounds.len(), "round")))
        }
        Sweep::KIND => {
            let body: Sweep = record.body().ok()?;
            let rounds: Vec<_> = body.rounds.iter().map(&round).collect();
            let listed = if rounds.is_empty() { "what no round needs".to_owned() } else { listed(&rounds) };
            own(None, format!("began to delete {listed}"))
        }
        Pruned::KIND => {
            let body: Pruned = record.body().ok()?;
            own(None, format!("ended the deletion of record {}", body.sweep))
        }
        Sealing::KIND => own(None, "said to which key what is for it alone is sealed".to_owned()),
        Quarantine::KIND => {
            let body: Quarantine = record.body().ok()?;
            let objects = |some: &[ObjectId]| plural(some.len(), "object");
            let mut what = Vec::new();
            if !body.add.is_empty() {
                what.push(format!("put {} of {} into quarantine", objects(&body.add), body.service));
            }
            if !body.lift.is_empty() {
                what.push(format!("lifted the quarantine of {} of {}", objects(&body.lift), body.service));
            }
            own(Some(body.at), what.join(", "))
        }
        Scrub::KIND => {
            let body: Scrub = record.body().ok()?;
            let objects = plural(usize::try_from(body.objects).unwrap_or(usize::MAX), "object");
            let what = match body.reached {
                Some(_) => format!("read {objects} again so far, pass {}", body.pass),
                None => format!("read all {objects} again, pass {}", body.pass),
            };
            own(Some(body.at), what)
        }
        Audit::KIND => {
            let body: Audit = record.body().ok()?;
            Some((body.who, Some(body.at), words(body.what)))
        }
        other => own(None, format!("a record of kind {other}, which this version does not know")),
    }
}

fn said<B: Body>(record: &Record, tell: impl FnOnce(&B) -> (Option<UnixMillis>, What)) -> Option<Read> {
    let statement: Statement<B> = record.statement().ok()?;
    let (at, what) = tell(&statement.body);
    Some((statement.signer, at, what))
}

fn members(changes: &[Change], state: &State) -> String {
    let words: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Admit(member) => format!("admitted {} as {}", member.name, role_of(&member.role)),
            Change::Revoke(key) => format!("revoked {}", state.name_of(key)),
        })
        .collect();
    listed(&words)
}
