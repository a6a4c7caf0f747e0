//! What commands read from the share: the log, trusted as far as the operator has pinned it, and manifests.
//!
//! Works without NATS. Writes nothing on the share; on this machine only the memory of the highest head seen and of what was
//! verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_coordinator::view::Shown;
use muster_coordinator::view::manifest::ManifestError;
use muster_protocol::config::ShareConfig;
use muster_protocol::ids::FleetName;
use muster_protocol::log::{Pin, ReplayError, Role, Seen, State};
use muster_protocol::retry::{Attempts, Retry};
use muster_share::credentials::Credentials;
use muster_share::log::{AppendError, HeadMemory, Log, LogError, VerifiedSegments};
use muster_share::secret_file;
use muster_share::store::address::is_path;
use muster_share::store::metered::{Call, Meter};
use muster_share::store::{self, Store};
use muster_telemetry::metrics;

use crate::args::{ExpectHead, Reading};
use crate::command::enroll::role_word;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::operator::{self, Operator};
use crate::screen;
use crate::share_access;

/// A fleet, as its share tells it.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The log, read to its head.
    pub(crate) log: Log,
    /// The share's address.
    pub(crate) share: ShareConfig,
    memory: Option<HeadMemory>,
}

/// The operator's configuration that was named, or that of the environment or the current folder.
///
/// # Errors
/// When none is named or found, or it cannot be used.
pub(crate) fn operator(config: Option<&Path>) -> Result<Operator, Failure> {
    operator_at(config).map(|(_, operator)| operator)
}

/// The operator's configuration as [`operator()`] finds it, and the folder that it lies in.
///
/// # Errors
/// As [`operator()`].
pub(crate) fn operator_at(config: Option<&Path>) -> Result<(PathBuf, Operator), Failure> {
    match find_config(config) {
        Some(path) => {
            let operator = Operator::load(&path)?;
            Ok((folder_of(&path)?, operator))
        }
        None => Err(Failure::usage("no fleet is named")
            .next("name it with --config DIR/operator.toml or MUSTER_CONFIG")
            .next("there is none yet? make one: muster init DIR")),
    }
}

/// The folder of the operator's configuration that is there, whether it can be used or not.
pub(crate) fn folder_at(config: Option<&Path>) -> Option<PathBuf> {
    find_config(config).filter(|path| path.exists()).and_then(|path| folder_of(&path).ok())
}

fn folder_of(path: &Path) -> Result<PathBuf, Failure> {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::path::absolute(folder).map_err(|error| {
        Failure::usage(format!("{} is no usable path", path.display())).because(error.to_string())
    })
}

fn find_config(config: Option<&Path>) -> Option<PathBuf> {
    let here = || Some(PathBuf::from(operator::FILE)).filter(|path| path.is_file());
    let environment = || std::env::var_os("MUSTER_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
    config.map(Path::to_owned).or_else(environment).or_else(here)
}

/// The share at `url` with a limit on every call; what passes is tried again.
///
/// # Errors
/// When the address is none, or the share is not there.
pub(crate) async fn open_store(share: &ShareConfig) -> Result<Arc<dyn Store>, Failure> {
    let share = share_access::fill(share);
    Ok(store::guarded(store::open(&share).await?, &share, patience(), meter()))
}

/// As [`open_store`], with these credentials.
///
/// # Errors
/// As [`open_store`]; exit 5 when they are none of this kind of share.
pub(crate) async fn open_store_with(
    share: &ShareConfig,
    credentials: &Credentials,
) -> Result<Arc<dyn Store>, Failure> {
    let share = share_access::fill(share);
    Ok(store::guarded(store::open_with(&share, Some(credentials)).await?, &share, patience(), meter()))
}

/// As [`open_store`], for a share beside the fleet's: options and variables that tell of the fleet's share are none of its.
/// A folder that is not there is made.
///
/// # Errors
/// As [`open_store`].
pub(crate) async fn create_store(share: &ShareConfig) -> Result<Arc<dyn Store>, Failure> {
    Ok(store::guarded(store::create(share).await?, share, patience(), meter()))
}

/// Calls to the share become metrics.
fn meter() -> Meter {
    Arc::new(|call: Call| call.tell(metrics::share_call))
}

/// Somebody waits in front of it.
fn patience() -> Retry {
    Retry::new(Duration::from_millis(200), Duration::from_secs(2), Attempts::AtMost(3))
        .expect("a fixed policy is valid")
}

/// Refuses a share whose log does not hold the head that was asked for. Anything else that is wrong with the log is left
/// to whoever reads it.
///
/// # Errors
/// Exit 4 when the head is not in the log, exit 6 when the share cannot be read.
pub(crate) async fn hold_to(store: &Arc<dyn Store>, pin: Pin, expect: &ExpectHead) -> Result<(), Failure> {
    let Some(head) = expect.expect_head else { return Ok(()) };
    let pin = Pin { head: Some(Seen::exactly(head)), ..pin };
    match Log::open(Arc::clone(store), pin).await {
        Err(error @ (LogError::Shortened { .. } | LogError::Replay(ReplayError::WentBack { .. }))) => {
            Err(error.into())
        }
        Err(LogError::Store(error)) if error.is_transient() => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Fleet {
    /// The fleet that the arguments name: by configuration, or by share alone.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the share cannot be read or believed.
    pub(crate) async fn open(reading: &Reading) -> Result<Self, Failure> {
        match &reading.share {
            Some(url) => {
                let share = share_at(url)?;
                let store = open_store(&share).await?;
                hold_to(&store, Pin::default(), &reading.expect).await?;
                let log = Log::open(store, Pin::default()).await?;
                screen::aside(
                    "note: the root is unpinned: whoever made this share is believed (--config pins it)",
                );
                Ok(Self { log, share, memory: None })
            }
            None => {
                let operator = operator(reading.config.as_deref())?;
                Self::held(operator, &reading.expect).await
            }
        }
    }

    /// The operator's fleet, whose log must hold the head that was asked for; remembers its head.
    ///
    /// # Errors
    /// When the share cannot be read or believed, or does not hold that head.
    pub(crate) async fn held(operator: Operator, expect: &ExpectHead) -> Result<Self, Failure> {
        Self::holds(&operator, expect).await?;
        Self::of(operator).await
    }

    /// As [`Fleet::held`], to change something of it.
    ///
    /// # Errors
    /// As [`Fleet::held`] and [`Fleet::to_change`].
    pub(crate) async fn held_to_change(operator: Operator, expect: &ExpectHead) -> Result<Self, Failure> {
        Self::holds(&operator, expect).await?;
        Self::to_change(operator).await
    }

    async fn holds(operator: &Operator, expect: &ExpectHead) -> Result<(), Failure> {
        if expect.expect_head.is_none() {
            return Ok(());
        }
        let pin = Pin { root: Some(operator.fleet.root), fleet: Some(operator.fleet.id), head: None };
        hold_to(&open_store(&operator.share).await?, pin, expect).await
    }

    /// The operator's fleet; remembers its head.
    ///
    /// # Errors
    /// When the share cannot be read or believed.
    pub(crate) async fn of(operator: Operator) -> Result<Self, Failure> {
        let memory = HeadMemory::at(&operator.head_file());
        let pin =
            Pin { root: Some(operator.fleet.root), fleet: Some(operator.fleet.id), head: memory.recall()? };
        let store = open_store(&operator.share).await?;
        let opened = match notes(&operator) {
            Some(folder) => {
                let verified = VerifiedSegments::recall(&folder, &operator.fleet.id, &operator.fleet.root);
                Log::open_knowing(Arc::clone(&store), pin, verified).await
            }
            None => Log::open(Arc::clone(&store), pin).await,
        };
        let log = match opened {
            Err(error @ (LogError::Shortened { .. } | LogError::Replay(ReplayError::WentBack { .. })))
                if refused_as_copy(&store, pin).await.is_some() =>
            {
                return Err(Failure::lags(&store.describe(), &error));
            }
            opened => opened?,
        };
        let memory = operator.operator.state.is_dir().then_some(memory);
        let fleet = Self { log, share: operator.share, memory };
        fleet.remember()?;
        Ok(fleet)
    }

    /// The operator's fleet, to change something of it: a copy of its share is refused before anybody is asked for anything, since
    /// what is asked of the coordinator happens on the share itself, and what this machine says would part the two.
    ///
    /// # Errors
    /// Exit 7 on a copy; as [`Fleet::of`].
    pub(crate) async fn to_change(operator: Operator) -> Result<Self, Failure> {
        match Self::of(operator.clone()).await {
            Ok(mut fleet) => match fleet.log.refuse_copy().await {
                Err(error @ AppendError::Copy { .. }) => Err(error.into()),
                // Where the share does not tell, each append asks again.
                Ok(()) | Err(_) => Ok(fleet),
            },
            // A copy that lags behind: what it lacks does not matter to whoever may not change it.
            Err(failure) if failure.exit() == Exit::Damaged => {
                let pin = Pin { root: Some(operator.fleet.root), fleet: Some(operator.fleet.id), head: None };
                let store = open_store(&operator.share).await?;
                Err(refused_as_copy(&store, pin).await.map_or(failure, Failure::from))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Remembers the head, where there is a place for it: a share that goes back is noticed then.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn remember(&self) -> Result<(), Failure> {
        match &self.memory {
            Some(memory) => {
                let now = self.log.seen();
                let newer = |seen: Seen| seen.adopts < now.adopts || seen.head.number < now.head.number;
                if memory.recall()?.is_none_or(newer) { Ok(memory.remember(&now)?) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// Refuses `what` to whom the log does not allow it, before the bus is asked, which says nothing to whom it refuses.
    ///
    /// # Errors
    /// Exit 7 when the operator is a viewer, was revoked, or is no member.
    pub(crate) fn operator_may(&self, operator: &Operator, what: &str) -> Result<(), Failure> {
        let key = secret_file::read_signing_key(&operator.operator.key)?.key_id();
        let name = &operator.operator.name;
        let why = match (self.state().role(&key), self.state().members.get(&key)) {
            (Some(Role::Operator | Role::Admin), _) => return Ok(()),
            (Some(role), _) => format!("It is a member of the role {}.", role_word(role)),
            (None, Some(_)) => "It was revoked.".to_owned(),
            (None, None) => "It is no member of the fleet.".to_owned(),
        };
        Err(Failure::new(Exit::Refused, format!("SEC-01: {name} may not {what}"))
            .because(why)
            .next("use the operator.toml of an operator or an admin"))
    }

    /// What the log says.
    pub(crate) fn state(&self) -> &State {
        self.log.state()
    }

    /// The fleet's name.
    pub(crate) fn name(&self) -> String {
        self.state().name.as_ref().map(FleetName::to_string).unwrap_or_default()
    }

    /// What it shows.
    pub(crate) fn shown(&self) -> Shown<'_> {
        Shown { log: &self.log, share: &self.share.url }
    }
}

/// Why the share takes no records, if it is a copy, however old.
async fn refused_as_copy(store: &Arc<dyn Store>, pin: Pin) -> Option<AppendError> {
    let mut log = Log::open(Arc::clone(store), Pin { head: None, ..pin }).await.ok()?;
    log.refuse_copy().await.err().filter(|error| matches!(error, AppendError::Copy { .. }))
}

/// Where this reader notes what it has verified: its state folder, or, where there is none, the user's cache.
fn notes(operator: &Operator) -> Option<PathBuf> {
    let state = &operator.operator.state;
    if state.is_dir() {
        return Some(state.clone());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("muster").join(operator.fleet.id.to_string()))
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Store { source, .. } => source.into(),
            ManifestError::Damaged { number, object, why } => {
                Self::new(Exit::Damaged, format!("VERIFY-02: the manifest of round {number} cannot be used"))
                    .because(format!("{object}: {why}"))
                    .next("muster verify names everything that is damaged")
            }
        }
    }
}

/// The share at an address on the command line, with what options and variables tell of it.
///
/// # Errors
/// Those of [`address`].
pub(crate) fn share_at(url: &str) -> Result<ShareConfig, Failure> {
    if url.is_empty() {
        return Err(Failure::usage("--share is empty").next("give a path or file:///path"));
    }
    Ok(share_access::named(&address(url)?))
}

/// An address on the command line: a relative path starts at the current folder.
///
/// # Errors
/// When there is no current folder, or the path is no text.
pub(crate) fn address(url: &str) -> Result<String, Failure> {
    if url.contains("://") || !is_path(url) {
        return Ok(url.to_owned());
    }
    let path = std::path::absolute(url).ok().and_then(|path| path.to_str().map(str::to_owned));
    path.ok_or_else(|| {
        Failure::usage(format!("{url:?} is no usable path of a share")).next("give a path or file:///path")
    })
}
