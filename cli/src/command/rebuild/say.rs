//! What a rebuild says in the log, in this order: root admits the new members in the place of the former ones; the new
//! coordinators say their sealing keys; the first of them takes the next epoch and ends what was open; the new operator states
//! the configuration.

use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::Nonce;
use muster_protocol::log::{
    Body, Change, End, Epoch, Head, Member, Outcome as Ended, Role, Roster, Sealing, State,
};
use muster_share::entropy::OsEntropy;
use muster_share::log::{AppendError, Log};

use super::found::Found;
use super::write::Keys;
use crate::bus_users::Place;
use crate::command::init::write::machine_files;
use crate::failure::Failure;
use crate::operator::{self, Operator};
use crate::saying::{previous, say};
use crate::screen;
use crate::sealed_files::{self, Files};

/// Changes in one record: it stays far below the longest that a record may be.
const CHANGES_PER_RECORD: usize = 100;
/// Tries for one record: each lost slot is somebody else's.
const TRIES: u32 = 100;

/// What was said.
pub(super) struct Said {
    /// The epoch of the new coordinator.
    pub(super) epoch: u64,
    /// Numbers of the rounds that were open.
    pub(super) ended: Vec<u64>,
    /// The log's head now.
    pub(super) head: Head,
}

/// Who leads and who decides comes first. An agent takes its service over from the one before it in the very change that
/// admits it, so that wherever this ends, each service has the former agent or the new one.
pub(super) fn admissions(found: &Found, keys: &Keys) -> Vec<Change> {
    let former = found.replaced.iter().filter(|member| member.role.service().is_none());
    let mut changes: Vec<_> = former.map(|member| Change::Revoke(member.key)).collect();
    let mut admit = |signer: &Signer, name: &str, role| {
        let name = name.parse().expect("service names and member names follow one rule");
        changes.push(Change::Admit(Member { key: signer.key_id(), name, role }));
    };
    admit(&keys.operator, found.operator.as_str(), Role::Admin);
    admit(&keys.pruner, "pruner", Role::Pruner);
    for ((name, _), keys) in found.coordinators.iter().zip(&keys.coordinators) {
        admit(&keys.signer, name.as_str(), Role::Coordinator);
    }
    for ((service, _), keys) in found.agents.iter().zip(&keys.agents) {
        let role = Role::Agent { service: service.clone(), sealing: keys.sealing.recipient() };
        admit(&keys.signer, service.as_str(), role);
    }
    changes
}

/// Root says it. Returns the last record.
///
/// # Errors
/// Those of the log and the share. Nothing counts of a folder whose members are not all in.
pub(super) async fn roster(found: &mut Found, keys: &Keys, changes: Vec<Change>) -> Result<Head, Failure> {
    let mut head = found.log.head();
    for changes in changes.chunks(CHANGES_PER_RECORD) {
        let make = |state: &State| {
            Ok(Roster {
                previous: previous::<Roster>(state),
                changes: changes.to_vec(),
                at: Some(screen::now()),
            })
        };
        let stands = |state: &State| {
            changes.iter().all(|change| match change {
                Change::Admit(member) => state.role(&member.key).is_some(),
                Change::Revoke(key) => state.role(key).is_none(),
            })
        };
        head = say::<Roster>(&mut found.log, &found.root, make, stands).await?;
    }
    debug_assert!(found.log.state().role(&keys.operator.key_id()).is_some());
    Ok(head)
}

/// Everything after the roster.
///
/// # Errors
/// Those of the log and the share.
pub(super) async fn the_rest(found: &mut Found, keys: &Keys) -> Result<Said, Failure> {
    let log = &mut found.log;
    for keys in &keys.coordinators {
        append(log, &keys.signer, |_| Sealing { recipient: keys.sealing.recipient() }).await?;
    }
    let leader = &keys.coordinators.first().expect("there is at least one").signer;
    let instance = Nonce::from_bytes(random(&mut OsEntropy));
    append(log, leader, |state| {
        let epoch = state.epoch.map_or(0, |epoch| epoch.epoch) + 1;
        Epoch { epoch, instance, at: screen::now() }
    })
    .await?;
    let epoch = log.state().epoch.map_or(0, |epoch| epoch.epoch);
    let open: Vec<_> =
        log.state().open_rounds().iter().map(|round| (round.open.round, round.open.number)).collect();
    for (round, _) in &open {
        append(log, leader, |_| {
            let reason = "the fleet was rebuilt before the round ended".to_owned();
            End { epoch, round: *round, outcome: Ended::Failed, reason, at: screen::now(), account: None }
        })
        .await?;
    }
    let dir = found.dir.clone();
    let operator = Operator::load(&dir.join(operator::FILE))?;
    let admin = sealed_files::admin(log.state(), &operator)?;
    let apart = match found.place {
        Place::Here => Files::new(),
        Place::Apart => machine_files(&dir, found.agents.iter().map(|(service, _)| service))?,
    };
    sealed_files::publish(log, &admin, &found.kit.keys, |state, sealed| {
        let mut own = sealed_files::gather(&dir, state)?;
        own.extend(apart.clone());
        sealed.files = sealed_files::merged(&sealed.files, own, state);
        Ok(())
    })
    .await?;
    Ok(Said { epoch, ended: open.into_iter().map(|(_, number)| number).collect(), head: log.head() })
}

/// Appends what `make` makes of the log as it stands, again whenever another record came first.
async fn append<B: Body>(log: &mut Log, signer: &Signer, make: impl Fn(&State) -> B) -> Result<(), Failure> {
    for _ in 0..TRIES {
        match log.append(signer, &make(log.state())).await {
            Ok(_) => return Ok(()),
            Err(AppendError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Lost.into())
}
