//! `muster token`: who may use the HTTP API of the coordinators. Tokens stand among the signed settings, with a hash of their secret;
//! the secret itself goes to one new file, and is shown nowhere.

use std::path::Path;

use muster_coordinator::view::{HeadView, rfc3339};
use muster_protocol::ids::MemberName;
use muster_protocol::log::State;
use muster_protocol::schedule::until;
use muster_protocol::time::UnixMillis;
use muster_protocol::token::{MAX_NAME_LEN, MAX_TOKENS, Secret, Token, TokenRole, key_of, tokens};
use muster_share::entropy::OsEntropy;
use muster_share::secret_file;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{Contact, Reading, Token as Args};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::{screen, sealed_files, timetable};

/// `{"schema":"muster.tokens/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    /// Sorted by name.
    tokens: Vec<Line>,
    /// The record that says so now; null where nothing was changed.
    head: Option<HeadView>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    role: TokenRole,
    /// When it ends by itself; null: never.
    until: Option<String>,
    /// It has ended.
    ended: bool,
    #[serde(skip)]
    ends: Option<UnixMillis>,
}

impl View {
    fn of(fleet: &Fleet, head: Option<HeadView>) -> Self {
        let now = screen::now();
        let line = |(name, token): (MemberName, Token)| Line {
            name: name.to_string(),
            role: token.role,
            until: token.until.map(rfc3339),
            ended: token.is_over(now),
            ends: token.until,
        };
        let tokens = tokens(&timetable::clear(fleet.state())).into_iter().map(line).collect();
        Self { schema: "muster.tokens/1", fleet: fleet.name(), tokens, head }
    }
}

/// Does it.
pub(crate) async fn run(args: Args) -> Outcome {
    match args {
        Args::New { name, role, expires, into, contact } => {
            make(name, role.into(), &expires, &into, contact).await
        }
        Args::List(reading) => list(reading).await,
        Args::Revoke { name, contact } => revoke(name, contact).await,
    }
}

/// When a token ends that was asked for now.
fn end(expires: &str, now: UnixMillis) -> Result<Option<UnixMillis>, Failure> {
    if expires == "never" {
        return Ok(None);
    }
    let at = until(expires, "UTC", now);
    at.map(Some).map_err(|must| Failure::usage(format!("--expires {must}; or never")))
}

async fn make(name: MemberName, role: TokenRole, expires: &str, into: &Path, contact: Contact) -> Outcome {
    if name.as_str().len() > MAX_NAME_LEN {
        return Err(Failure::usage(format!("the name of a token has at most {MAX_NAME_LEN} bytes: {name}")));
    }
    let ends = end(expires, screen::now())?;
    let operator = fleet::operator(contact.config.as_deref())?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let admin = sealed_files::admin(fleet.state(), &operator)?;
    free(fleet.state(), &name)?;
    let secret = Secret::generate(&mut OsEntropy);
    let token = Token { role, hash: secret.hash(), until: ends };
    // First the file: a token whose secret nobody has would be of no use.
    let line = Zeroizing::new(format!("{}\n", secret.reveal()));
    secret_file::create(into, line.as_bytes()).map_err(|error| {
        Failure::from(error).next("--into names a new file; the secret is shown nowhere else")
    })?;
    let told = sealed_files::set(&mut fleet.log, &admin, |clear| {
        let known = tokens(clear);
        if known.contains_key(&name) {
            return Err(taken(&name));
        }
        if known.len() >= MAX_TOKENS {
            return Err(Failure::new(
                Exit::Refused,
                format!("the fleet has {MAX_TOKENS} tokens, and no more fit"),
            )
            .next("muster token revoke NAME ends one that nobody uses"));
        }
        clear.insert(key_of(&name), token.print());
        Ok(())
    })
    .await;
    let head = match told {
        Ok(head) => head,
        Err(failure) => {
            // Whether the log took it after all is not known: then it stands there without a secret.
            drop(std::fs::remove_file(into));
            return Err(failure.next("muster token list tells whether it was made; its secret is gone"));
        }
    };
    fleet.remember()?;
    if contact.json {
        screen::json(&View::of(&fleet, head.map(HeadView::of)));
        return Ok(Exit::Done);
    }
    let record = head.map_or_else(String::new, |head| format!(" · log record {}", head.number));
    screen::line(format!(
        "token {name} ({}) {} · signed by {}{record}",
        role.word(),
        ending(ends),
        operator.operator.name
    ));
    screen::line(format!("its secret is in {}, and nowhere else", into.display()));
    screen::line(format!("→ muster token revoke {name}     ends it at once"));
    Ok(Exit::Done)
}

fn ending(ends: Option<UnixMillis>) -> String {
    ends.map_or_else(|| "without an end".to_owned(), |ends| format!("until {}", rfc3339(ends)))
}

fn free(state: &State, name: &MemberName) -> Result<(), Failure> {
    if tokens(&timetable::clear(state)).contains_key(name) { Err(taken(name)) } else { Ok(()) }
}

fn taken(name: &MemberName) -> Failure {
    Failure::new(Exit::Refused, format!("there is a token {name} already"))
        .next(format!("take another name, or end that one first: muster token revoke {name}"))
}

async fn list(reading: Reading) -> Outcome {
    let fleet = Fleet::open(&reading).await?;
    let view = View::of(&fleet, None);
    if reading.json {
        screen::json(&view);
        return Ok(Exit::Done);
    }
    if view.tokens.is_empty() {
        screen::line("there are no tokens: nobody may use the HTTP API");
        screen::line("→ muster token new NAME --role viewer --into FILE");
        return Ok(Exit::Done);
    }
    let row = |token: Line| {
        let ends = token.ends.map_or_else(|| "never".to_owned(), screen::time);
        let state = if token.ended { "ended" } else { "counts" };
        vec![token.name, token.role.word().to_owned(), ends, state.to_owned()]
    };
    let rows = view.tokens.into_iter().map(row).collect();
    screen::lines(screen::table(&["token", "role", "ends", "state"], rows));
    Ok(Exit::Done)
}

async fn revoke(name: MemberName, contact: Contact) -> Outcome {
    let operator = fleet::operator(contact.config.as_deref())?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let admin = sealed_files::admin(fleet.state(), &operator)?;
    let head = sealed_files::set(&mut fleet.log, &admin, |clear| match clear.remove(&key_of(&name)) {
        Some(_) => Ok(()),
        None => Err(Failure::new(Exit::Usage, format!("there is no token {name}"))
            .next("muster token list names those that there are")),
    })
    .await?;
    fleet.remember()?;
    if contact.json {
        screen::json(&View::of(&fleet, head.map(HeadView::of)));
        return Ok(Exit::Done);
    }
    let record = head.map_or_else(String::new, |head| format!(" · log record {}", head.number));
    screen::line(format!("token {name} is revoked · signed by {}{record}", operator.operator.name));
    screen::line("every coordinator refuses it as soon as it reads the log, which it does for each request");
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::end;
    use muster_protocol::time::UnixMillis;

    #[test]
    fn a_token_ends_ahead_or_never() {
        let now = UnixMillis(1_700_000_000_000);
        assert_eq!(end("never", now).expect("no end"), None);
        assert_eq!(end("1d", now).expect("an end"), Some(UnixMillis(1_700_086_400_000)));
        assert_eq!(end("2027-03-01", now).expect("an end"), Some(UnixMillis(1_803_859_200_000)));
        for (text, part) in [("2001-01-01", "--expires must lie ahead"), ("soon", "or never")] {
            let error = end(text, now).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
