//! What `enroll` was asked for, checked against the fleet as its log tells it. Writes nothing.

use std::path::{Path, PathBuf};

use muster_agent::source::config::{SourceConfig, SourceTable, parse_spec};

use muster_protocol::envelope::Signer;
use muster_protocol::ids::{MemberName, ServiceName};
use muster_protocol::log::{Role, State};

use crate::args::{Enroll, RoleName, Until};
use crate::command::init::plan::{empty, from_here, real, share_folder};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::saying::{root_key, signing_key};

/// What the member is to be.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The agent of a service with these sources.
    Agent { service: ServiceName, sources: Vec<SourceTable> },
    /// Anything else.
    Other(Role),
}

/// Where its files go.
#[derive(Debug)]
pub(super) enum Place {
    /// A folder of its own, to be taken elsewhere.
    Apart(PathBuf),
    /// The fleet's folder.
    Here(PathBuf),
}

/// A checked request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) name: MemberName,
    pub(super) role: Wanted,
    pub(super) signer: Signer,
    pub(super) by_root: bool,
    /// Takes the place of the service's agent.
    pub(super) replace: bool,
    pub(super) place: Place,
    pub(super) operator: Operator,
    pub(super) warnings: Vec<String>,
}

impl Request {
    /// Checks what can be checked before anything is written.
    pub(super) fn check(
        args: Enroll,
        folder: PathBuf,
        operator: Operator,
        state: &State,
    ) -> Result<Self, Failure> {
        if args.role != RoleName::Agent && !args.source.is_empty() {
            return Err(Failure::usage("--source is for agents only"));
        }
        if args.role != RoleName::Enroller && (args.prefix.is_some() || args.until.is_some()) {
            return Err(Failure::usage("--prefix and --until are for --role enroller"));
        }
        let (signer, by_root) = match (&args.root, &args.enroller) {
            (Some(root), _) => (root_key(root, Some(&operator.fleet.root))?, true),
            (None, Some(enroller)) => (signing_key(enroller)?, false),
            (None, None) => return Err(Failure::usage("--root or --enroller is missing: who lets it in?")),
        };
        if !by_root {
            enroller_counts(&signer, &args, state)?;
        }
        let mut warnings = Vec::new();
        let role = match args.role {
            RoleName::Agent => agent(&args, state, by_root, &mut warnings)?,
            RoleName::Coordinator => Wanted::Other(Role::Coordinator),
            RoleName::Viewer => Wanted::Other(Role::Viewer),
            RoleName::Operator => Wanted::Other(Role::Operator),
            RoleName::Admin => Wanted::Other(Role::Admin),
            RoleName::Pruner => Wanted::Other(Role::Pruner),
            RoleName::Enroller => Wanted::Other(enroller(&args, state)?),
        };
        if let Wanted::Other(_) = role {
            if args.replace {
                return Err(Failure::usage("--replace is for agents only").next(format!(
                    "give the new member a name of its own, and then: muster revoke {}",
                    args.name
                )));
            }
            let taken = state.members.values().find(|known| {
                known.revoked.is_none()
                    && known.member.name == args.name
                    && known.member.role.service().is_none()
            });
            if taken.is_some() {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("the fleet has a member {} already", args.name),
                )
                .next(format!("choose another name, or first: muster revoke {} --root PATH", args.name)));
            }
        }
        let place = place(&args, &folder, &operator)?;
        if let Place::Apart(_) = place {
            warnings.extend(elsewhere(&operator));
        }
        let (name, replace) = (args.name, args.replace);
        Ok(Self { name, role, signer, by_root, replace, place, operator, warnings })
    }
}

/// Said before anything is written; the log would refuse it as well.
fn enroller_counts(signer: &Signer, args: &Enroll, state: &State) -> Result<(), Failure> {
    let refused = |what: String| Failure::new(Exit::Refused, format!("KEY-03: {what}"));
    if args.role != RoleName::Agent {
        return Err(refused("an enroller lets agents in, and nobody else".to_owned())
            .next("the root key lets in other members: --root PATH"));
    }
    if args.replace {
        return Err(refused("an enroller never gives an agent new keys".to_owned())
            .next("the root key does: --root PATH --replace"));
    }
    match state.role(&signer.key_id()) {
        Some(Role::Enroller { .. }) => Ok(()),
        Some(
            Role::Coordinator
            | Role::Agent { .. }
            | Role::Viewer
            | Role::Operator
            | Role::Admin
            | Role::Pruner,
        )
        | None => Err(Failure::new(
            Exit::Key,
            format!("KEY-03: key {} is no enroller's in this fleet, or is revoked", signer.key_id().short()),
        )),
    }
}

fn agent(args: &Enroll, state: &State, by_root: bool, warnings: &mut Vec<String>) -> Result<Wanted, Failure> {
    let service: ServiceName =
        args.name.as_str().parse().map_err(|error| Failure::usage(format!("{}: {error}", args.name)))?;
    match (state.agent(&service), args.replace) {
        (Some(agent), false) => {
            let failure = Failure::new(
                Exit::Refused,
                format!("{service} has an agent already: key {}", agent.key.short()),
            );
            return Err(match by_root {
                true => failure.next(
                    "--replace gives the service a new agent with new keys; the old one counts no longer",
                ),
                false => failure
                    .because("An enroller lets in agents of new services only.")
                    .next("the root key gives an agent new keys: --root PATH --replace"),
            });
        }
        (None, true) => {
            return Err(Failure::usage(format!("--replace: {service} has no agent to replace"))
                .next("leave --replace out"));
        }
        (Some(_), true) | (None, false) => {}
    }
    if args.source.is_empty() && !(args.replace && args.here) {
        return Err(Failure::usage(format!("--source is missing: what is backed up of {service}?"))
            .next("--source files:/etc/bind, or sqlite:PATH, or command:PATH"));
    }
    let mut sources = Vec::new();
    for spec in &args.source {
        let wrong = |why: String| Failure::usage(format!("--source {spec}: {why}"));
        let source = parse_spec(spec).map_err(|error| wrong(error.to_string()))?;
        if args.here {
            sources.push(from_here(source)?);
            continue;
        }
        if let Some(path) = relative(&source) {
            return Err(wrong(format!("{} is a relative path", path.display()))
                .because("The agent's machine has another folder to start from.")
                .next("write the path as the new machine has it, from / on"));
        }
        sources.push(source);
    }
    if !sources.is_empty() {
        SourceConfig::resolve(&sources, Path::new("/"))
            .map_err(|error| Failure::usage(format!("--source: {error}")).caused_by(&error))?;
    }
    if args.here {
        warnings.extend(crate::command::init::plan::missing(service.as_str(), &sources));
    }
    Ok(Wanted::Agent { service, sources })
}

fn relative(source: &SourceTable) -> Option<PathBuf> {
    let path = match source {
        SourceTable::Files(table) => table.path.clone(),
        SourceTable::Sqlite(table) => table.path.clone(),
        SourceTable::Command(table) => PathBuf::from(table.argv.first().filter(|name| name.contains('/'))?),
    };
    path.is_relative().then_some(path)
}

fn enroller(args: &Enroll, state: &State) -> Result<Role, Failure> {
    let Some(prefix) = args.prefix.clone().filter(|prefix| !prefix.is_empty()) else {
        return Err(Failure::usage("--prefix is missing: which agents may it let in?")
            .next("--prefix web- lets it enroll web-1, web-2, …"));
    };
    // What no service name can begin with would let nobody in.
    if format!("{prefix}a").parse::<ServiceName>().is_err() {
        return Err(Failure::usage(format!("--prefix {prefix}: no service name begins so")));
    }
    let until = args.until.map(|until| match until {
        Until::Number(number) => number,
        Until::More(records) => state.head.number.saturating_add(records),
    });
    if until.is_some_and(|until| until <= state.head.number) {
        return Err(Failure::usage(format!("--until: the log is at record {} already", state.head.number)));
    }
    Ok(Role::Enroller { prefix, until })
}

fn place(args: &Enroll, folder: &Path, operator: &Operator) -> Result<Place, Failure> {
    if args.here {
        return if folder.join(crate::lock::FILE).is_file() {
            Ok(Place::Here(folder.to_owned()))
        } else {
            Err(Failure::usage(format!("--here: {} is no fleet's folder", folder.display()))
                .next("leave --here out: the files go into a folder of their own"))
        };
    }
    let into = args.into.clone().unwrap_or_else(|| PathBuf::from(format!("enroll-{}", args.name)));
    let into = real(&into)?;
    empty("--into", &into)?;
    if let Some(share) = share_folder(&operator.share.url)
        && into.starts_with(real(&share)?)
    {
        return Err(Failure::usage(format!("--into {} lies within the share", into.display()))
            .because("Private keys must be nowhere where backups are."));
    }
    Ok(Place::Apart(into))
}

/// What the new machine must see differently.
fn elsewhere(operator: &Operator) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(share) = share_folder(&operator.share.url) {
        notes.push(format!("the share must be mounted there as {}, or change [share] url", share.display()));
    }
    if !operator.share.credentials.as_os_str().is_empty() {
        let file = operator.share.credentials.display();
        notes.push(format!("the share's credentials must lie there as {file} (mode 0600), best an account of its own: docs/shares.md"));
    }
    if ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| operator.nats.url.contains(host)) {
        notes.push(format!(
            "{} is this machine only: change [nats] url there to an address that it reaches: see nats-server.conf",
            operator.nats.url
        ));
    }
    notes
}
