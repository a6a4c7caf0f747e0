//! The configuration files of a fleet's folder, kept on the share in the sealed part of the fleet's configuration, so that
//! `muster rebuild` can make the folder again. They hold no keys; keys never go there.
//!
//! ```text
//! DIR/{coordinator*,operator}.toml, agents/*.toml ──gather──▶ files ──publish──▶ lists/<sha256>, named by a config record
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_agent::config::Config as AgentFile;
use muster_coordinator::config::Config as CoordinatorFile;
use muster_protocol::age::{Identity, Recipient};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{MemberName, ObjectId, ServiceName};
use muster_protocol::log::{Config, Head, Role, State};
use muster_protocol::settings;
use muster_share::entropy::OsEntropy;
use muster_share::layout::ObjectPath;
use muster_share::log::Log;
use muster_share::sealed_config::{self, ReadError, SealedConfig, SealedConfigError};
use muster_share::secret_file;
use muster_share::store::{Store, StoreError, put_and_read_back};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::operator::{self, Operator};
use crate::saying::{previous, say, signing_key};
use crate::screen;

/// Where agents' files lie, in the folder and among the files.
pub(crate) const AGENTS: &str = "agents/";
/// How coordinators' files begin.
pub(crate) const COORDINATOR: &str = "coordinator";
/// The ending of all of them.
pub(crate) const TOML: &str = ".toml";

/// Tries for one change: each lost one is somebody else's.
const TRIES: u32 = 20;

/// How often `up` looks whether a file has changed.
const LOOK: Duration = Duration::from_secs(60);

/// Files by their path below the folder.
pub(crate) type Files = BTreeMap<String, String>;

/// The name that an agent's file is kept under, whatever it is called in the folder.
pub(crate) fn agent_file(service: &ServiceName) -> String {
    format!("{AGENTS}{service}{TOML}")
}

/// The name that a coordinator's file is kept under. `muster up` runs every `coordinator*.toml` of its folder.
pub(crate) fn coordinator_file(name: &MemberName) -> String {
    match name.as_str().starts_with(COORDINATOR) {
        true => format!("{name}{TOML}"),
        false => format!("{COORDINATOR}-{name}{TOML}"),
    }
}

/// The folder's own files: the operator's, and those of the coordinators and agents whose keys count in `state`. Of several for
/// one member the one with its usual name is kept.
///
/// # Errors
/// When the folder cannot be read, or one of the files is no configuration.
pub(crate) fn gather(dir: &Path, state: &State) -> Result<Files, Failure> {
    let mut files = Files::new();
    let counts =
        |key: &Path| secret_file::read_signing_key(key).is_ok_and(|key| state.role(&key.key_id()).is_some());
    let mut keep = |name: &str, kept_as: String| -> Result<(), Failure> {
        if name == kept_as || !files.contains_key(&kept_as) {
            files.insert(kept_as, read(&dir.join(name))?);
        }
        Ok(())
    };
    for name in names(dir, "")?.into_iter().filter(|name| name.starts_with(COORDINATOR)) {
        let config = CoordinatorFile::load(&dir.join(&name))?;
        if counts(&config.coordinator.key) {
            keep(&name, coordinator_file(&config.coordinator.name))?;
        }
    }
    for name in names(dir, AGENTS)? {
        let config = AgentFile::load(&dir.join(&name))?;
        if counts(&config.agent.key) {
            keep(&name, agent_file(&config.agent.service))?;
        }
    }
    if dir.join(operator::FILE).is_file() {
        files.insert(operator::FILE.to_owned(), read(&dir.join(operator::FILE))?);
    }
    Ok(files)
}

/// `known`, with the folder's own files in place of theirs, without those of members that count no longer.
pub(crate) fn merged(known: &Files, own: Files, state: &State) -> Files {
    let mut files: Files = known
        .iter()
        .filter(|(name, _)| still_of(name, state))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    files.extend(own);
    files
}

/// Whether the member that the file is of still counts.
fn still_of(name: &str, state: &State) -> bool {
    if let Some(service) = name.strip_prefix(AGENTS).and_then(|name| name.strip_suffix(TOML)) {
        return service.parse::<ServiceName>().is_ok_and(|service| state.agent(&service).is_some());
    }
    if name == operator::FILE {
        return true;
    }
    let Some(name) = name.strip_suffix(TOML) else { return false };
    let named = |wanted: &str| {
        wanted.parse::<MemberName>().is_ok_and(|wanted| {
            let mut members = state.members.values().filter(|member| member.revoked.is_none());
            members.any(|m| m.member.name == wanted && matches!(m.member.role, Role::Coordinator))
        })
    };
    // A coordinator's file is named after it, with `coordinator-` before where its name does not begin so.
    name.starts_with(COORDINATOR)
        && (named(name)
            || name.strip_prefix(COORDINATOR).and_then(|rest| rest.strip_prefix('-')).is_some_and(named))
}

/// What opens the sealed part from a fleet's folder: the sealing keys of its coordinators.
pub(crate) fn keys(dir: &Path) -> Vec<Identity> {
    let coordinators = names(dir, "").unwrap_or_default();
    let coordinators = coordinators.iter().filter(|name| name.starts_with(COORDINATOR));
    coordinators
        .filter_map(|name| CoordinatorFile::load(&dir.join(name)).ok())
        .filter(|config| !config.coordinator.sealing_key.as_os_str().is_empty())
        .filter_map(|config| secret_file::read_identities(&config.coordinator.sealing_key).ok())
        .flatten()
        .collect()
}

/// Those that may read the sealed part: recovery keys and coordinators.
pub(crate) fn recipients(state: &State) -> Vec<Recipient> {
    let mut recipients = state.recipients();
    for recipient in state.coordinator_recipients() {
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    recipients
}

/// The sealed part in force; none where there is none.
///
/// # Errors
/// Exit 5 when none of the keys opens it, exit 4 when it is damaged, exit 6 when the share does not give it.
pub(crate) async fn in_force(
    store: &dyn Store,
    state: &State,
    keys: &[Identity],
) -> Result<Option<SealedConfig>, Failure> {
    sealed_config::in_force(store, state, keys).await.map_err(|error| match error {
        ReadError::Store(error @ StoreError::NotFound { .. }) => {
            Failure::new(Exit::Damaged, "VERIFY-01: the fleet's sealed configuration is not on the share")
                .because(error.to_string())
                .next("look for another copy of the share")
                .next("or keep it anew from a fleet's folder: muster once DIR")
        }
        ReadError::Store(error) => error.into(),
        ReadError::Config { object, source } => {
            let no_key =
                matches!(&source, SealedConfigError::Sealed(muster_share::sealed::SealedError::NoKey(_)));
            let failure = if no_key {
                Failure::new(Exit::Key, "KEY-03: no key here opens the fleet's sealed configuration")
                    .because("It is sealed to the recovery keys and to the fleet's coordinators.")
                    .next("use the folder of a coordinator, or the kit with one of the newest recovery keys")
            } else {
                Failure::new(Exit::Damaged, "VERIFY-01: the fleet's sealed configuration is damaged")
                    .next("look for another copy of the share")
                    .next("or keep it anew from a fleet's folder: muster once DIR")
            };
            failure.because(format!("{object}: {}", muster_protocol::causes::causes(&source)))
        }
    })
}

/// Publishes what `change` makes of the sealed part, unless it is in force already. `keys` open the one in force. One that is
/// damaged or gone is begun anew. Returns the record that says so.
///
/// # Errors
/// Exit 7 when `admin` may not, or others come first again and again; exit 5 when no key opens the sealed part; those of
/// the share.
pub(crate) async fn publish(
    log: &mut Log,
    admin: &Signer,
    keys: &[Identity],
    change: impl Fn(&State, &mut SealedConfig) -> Result<(), Failure>,
) -> Result<Option<Head>, Failure> {
    let store = Arc::clone(log.store());
    for _ in 0..TRIES {
        let state = log.state();
        let known = match in_force(store.as_ref(), state, keys).await {
            Err(failure) if failure.exit() == Exit::Damaged => {
                screen::aside(format!("warning: {}; it is kept anew from this folder", failure.what()));
                screen::aside(
                    "  what only it had is lost: files of agents elsewhere, and credentials of the share",
                );
                screen::aside("  → muster share credentials --from FILE, if the share needs any");
                None
            }
            known => known?,
        };
        let mut sealed = known.clone().unwrap_or_default();
        sealed.recipients = recipients(state);
        change(state, &mut sealed)?;
        if known.as_ref() == Some(&sealed) {
            return Ok(None);
        }
        let clear = state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default();
        let id = store_sealed(store.as_ref(), state, &sealed).await?;
        if let Some(head) = state_as(log, admin, clear, Some(id)).await? {
            return Ok(Some(head));
        }
    }
    Err(crowded())
}

/// Publishes what `change` makes of the settings, unless they are in force already; they are judged as a whole, and one that is
/// wrong leaves all as they were. The sealed part stays what it is.
///
/// # Errors
/// Exit 2 when the settings do not hold together; exit 7 when `admin` may not, or others come first again and again; those of
/// `change` and the share.
pub(crate) async fn set(
    log: &mut Log,
    admin: &Signer,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Failure>,
) -> Result<Option<Head>, Failure> {
    for _ in 0..TRIES {
        let config = log.state().config.clone();
        let (before, sealed) = config.map(|config| (config.clear.clone(), config.sealed)).unwrap_or_default();
        let mut clear = before.clone();
        change(&mut clear)?;
        judge(&clear)?;
        if clear == before {
            return Ok(None);
        }
        if let Some(head) = state_as(log, admin, clear, sealed).await? {
            return Ok(Some(head));
        }
    }
    Err(crowded())
}

/// Whether settings hold together.
///
/// # Errors
/// Exit 2 with the one that does not.
pub(crate) fn judge(clear: &BTreeMap<String, String>) -> Result<(), Failure> {
    settings::check_all(clear).map_err(|error| {
        Failure::usage(error.to_string())
            .because("Nothing was changed.")
            .next("muster config show names the settings and their values")
    })
}

fn crowded() -> Failure {
    Failure::new(Exit::Refused, "others change the fleet's configuration again and again at this moment")
        .next("look at it with muster config show, and do it again")
}

/// States the configuration, if nobody else has since the log was read: what another one said must not be undone by what was
/// made of the one before. None: somebody has, and the log is read on.
async fn state_as(
    log: &mut Log,
    admin: &Signer,
    clear: BTreeMap<String, String>,
    sealed: Option<ObjectId>,
) -> Result<Option<Head>, Failure> {
    let before = previous::<Config>(log.state());
    let config = Config { previous: before, clear, sealed, at: Some(screen::now()) };
    let overtaken = AtomicBool::new(false);
    let make = |state: &State| {
        if previous::<Config>(state) == before {
            return Ok(config.clone());
        }
        overtaken.store(true, Ordering::Relaxed);
        Err(crowded())
    };
    match say::<Config>(log, admin, make, |state| state.config.as_ref() == Some(&config)).await {
        Err(_) if overtaken.load(Ordering::Relaxed) => Ok(None),
        said => said.map(Some),
    }
}

/// Publishes the folder's files as they are now, and `also`, in the name of its operator.
///
/// # Errors
/// As [`publish`]; exit 7 when the operator is no admin.
pub(crate) async fn refresh(
    log: &mut Log,
    dir: &Path,
    operator: &Operator,
    also: &Files,
) -> Result<Option<Head>, Failure> {
    let admin = admin(log.state(), operator)?;
    publish(log, &admin, &keys(dir), |state, sealed| {
        let mut own = gather(dir, state)?;
        own.extend(also.clone());
        sealed.files = merged(&sealed.files, own, state);
        Ok(())
    })
    .await
}

/// The operator's key, if it may change the configuration.
///
/// # Errors
/// Exit 7 when it may not; exit 5 when it is missing.
pub(crate) fn admin(state: &State, operator: &Operator) -> Result<Signer, Failure> {
    let admin = signing_key(&operator.operator.key)?;
    match state.role(&admin.key_id()) {
        Some(Role::Admin) => Ok(admin),
        None if state.members.get(&admin.key_id()).is_some_and(|member| member.revoked.is_some()) => {
            Err(Failure::new(Exit::Refused, format!("SEC-01: {} was revoked", operator.operator.name))
                .because(
                    "A revocation is final. After a rebuild elsewhere, this folder is of no use any more.",
                )
                .next("use the operator.toml of the fleet as it is now"))
        }
        Some(_) | None => Err(Failure::new(
            Exit::Refused,
            format!("SEC-01: {} may not change the fleet's configuration", operator.operator.name),
        )
        .because("Only an admin of the roster may, and the root.")
        .next("use an admin's operator.toml, or: muster enroll NAME --role admin --root PATH")),
    }
}

/// The same beside something else that must not fail over it: what went wrong is said, with what to do.
pub(crate) async fn refresh_or_say(log: &mut Log, dir: &Path, operator: &Operator, also: &Files) {
    if let Err(failure) = refresh(log, dir, operator, also).await {
        screen::aside(format!(
            "note: the share keeps the fleet's configuration as it was: {}",
            failure.what()
        ));
        if failure.exit() != Exit::Refused {
            screen::aside(
                "  → muster config show names what it keeps; `muster up` and `muster once` try again",
            );
        }
    }
}

/// Publishes now and whenever a file of the folder has changed, until it is dropped. Waits for an absent share.
pub(crate) async fn keep(dir: PathBuf, operator: Operator) {
    let mut told = None;
    loop {
        // Commands say what is wrong with the share; here it is only waited for.
        let result = match Fleet::of(operator.clone()).await {
            Ok(mut fleet) => refresh(&mut fleet.log, &dir, &operator, &Files::new()).await.map(|_| ()),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = result
            && failure.exit() != Exit::Unreachable
            && told.as_deref() != Some(failure.what())
        {
            screen::aside(format!(
                "warning: the share keeps the fleet's configuration as it was: {}",
                failure.what()
            ));
            told = Some(failure.what().to_owned());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Seals it and puts it on the share.
///
/// # Errors
/// When it is too long, nobody may read it, or the share does not take it.
pub(crate) async fn store_sealed(
    store: &dyn Store,
    state: &State,
    config: &SealedConfig,
) -> Result<ObjectId, Failure> {
    let sealed = config.seal(state.fleet, &mut OsEntropy).map_err(|error| {
        Failure::new(Exit::Failed, "the fleet's configuration cannot be sealed")
            .caused_by(&error)
            .because(error.to_string())
    })?;
    put_and_read_back(store, &ObjectPath::List(sealed.id), &sealed.bytes).await?;
    Ok(sealed.id)
}

/// The names of the TOML files below `dir` in one folder of it, `""` for itself, sorted.
fn names(dir: &Path, folder: &str) -> Result<Vec<String>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("the folder {} cannot be read", dir.join(folder).display()))
            .because(error.to_string())
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.join(folder)).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Some(name) = entry.file_name().to_str().filter(|name| name.ends_with(TOML)) {
            names.push(format!("{folder}{name}"));
        }
    }
    names.sort();
    Ok(names)
}

/// A configuration as it stands.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("{} cannot be read", file.display())).because(error.to_string())
    })
}
