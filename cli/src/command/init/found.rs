//! The first records of a fleet's log. They come last, when everything else is written, and are taken back if one of
//! them fails: a share never holds half a fleet.

use std::sync::Arc;

use muster_protocol::entropy::random;
use muster_protocol::ids::{KeyId, MemberName, Nonce, ObjectId};
use muster_protocol::log::{
    Body, Change, Config, Genesis, Keyset, KeysetKey, Member, Role, Roster, Sealing, seal_statement,
};
use muster_protocol::settings;
use muster_share::entropy::OsEntropy;
use muster_share::layout::ObjectPath;
use muster_share::log::{self, AppendError, Log};
use muster_share::sealed_config::SealedConfig;
use muster_share::store::timeout::{Limit, TimeLimited};
use muster_share::store::{self, Store, StoreError};

use super::keys::Keys;
use super::plan::Plan;
use super::undo::Undo;
use super::write::{Writer, facts, machine_files, pins};
use crate::bus_users::Place;
use crate::failure::Failure;
use crate::new_kit;
use crate::screen;
use crate::sealed_files;

/// Members in one record: it stays far below the longest that a record may be.
const MEMBERS_PER_RECORD: usize = 100;

/// Founds the fleet on its share.
pub(super) async fn found(plan: &Plan, keys: &Keys, undo: &mut Undo) -> Result<(), Failure> {
    // Folders that were not there go again once what is in them is taken back.
    let folders = plan.share_folder.iter().flat_map(|folder| [folder.clone(), folder.join("log")]);
    let new: Vec<_> = folders.filter(|folder| !folder.exists()).collect();
    let store = store::create(&plan.share).await?;
    for folder in new {
        undo.folder(folder);
    }
    let store: Arc<dyn Store> = Arc::new(TimeLimited::new(store, Limit::default()));
    let genesis = Genesis {
        name: plan.fleet.clone(),
        salt: keys.salt,
        share: Nonce::from_bytes(random(&mut OsEntropy)),
        created: screen::now(),
    };
    let mut log = match log::found(store.clone(), &keys.root, &genesis).await {
        Ok(log) => log,
        Err(AppendError::Store(error @ StoreError::AlreadyExists { .. })) => return Err(error.into()),
        Err(error) => {
            take_back(store.as_ref(), 1).await;
            return Err(error.into());
        }
    };
    let mut lists = Vec::new();
    let founded = match append_all(plan, keys, &mut log).await {
        Ok(()) => configuration(plan, keys, &mut log, &mut lists).await,
        Err(error) => Err(error.into()),
    };
    let founded = founded.and_then(|()| pages(plan, keys, &log, undo));
    if founded.is_err() {
        for list in lists {
            drop(store.delete(&ObjectPath::List(list)).await);
        }
        take_back(store.as_ref(), log.state().next + 1).await;
    }
    founded
}

/// The first configuration: nothing happens by itself yet, and the folder's files are kept, sealed.
async fn configuration(
    plan: &Plan,
    keys: &Keys,
    log: &mut Log,
    lists: &mut Vec<ObjectId>,
) -> Result<(), Failure> {
    let recipients = sealed_files::recipients(log.state());
    let mut files = sealed_files::gather(&plan.dir, log.state())?;
    if plan.place == Place::Apart {
        files.extend(machine_files(&plan.dir, plan.services.iter().map(|service| &service.name))?);
    }
    let sealed = SealedConfig { recipients, files, credentials: None };
    let sealed = sealed_files::store_sealed(log.store().as_ref(), log.state(), &sealed).await?;
    lists.push(sealed);
    let config =
        Config { previous: None, clear: settings::defaults(), sealed: Some(sealed), at: Some(screen::now()) };
    let statement = seal_statement(&keys.operator, &log.state().fleet, &config);
    log.append_statement::<Config>(&keys.operator, statement).await?;
    Ok(())
}

/// The kit's pages name the head of the log, so that they are made last.
fn pages(plan: &Plan, keys: &Keys, log: &Log, undo: &mut Undo) -> Result<(), Failure> {
    let (facts, mut writer) = (facts(plan, keys), Writer { undo });
    pins(plan, &log.seen(), &mut writer)?;
    new_kit::page(&plan.kit, &facts, &log.head(), &mut writer)?;
    if plan.print_private {
        new_kit::private_page(&plan.kit, &facts, &keys.recovery, &mut writer)?;
    }
    Ok(())
}

async fn append_all(plan: &Plan, keys: &Keys, log: &mut Log) -> Result<(), AppendError> {
    let fleet = log.state().fleet;
    let year = screen::rfc3339(screen::now()).chars().take(4).collect::<String>();
    let label = |index: usize| if index == 0 { format!("kit {year}") } else { format!("escrow {index}") };
    let key = |(index, recipient)| KeysetKey { recipient, label: label(index) };
    let keyset = Keyset {
        previous: None,
        keys: keys.recipients(plan).into_iter().enumerate().map(key).collect(),
        at: Some(screen::now()),
    };
    log.append_statement::<Keyset>(&keys.root, seal_statement(&keys.root, &fleet, &keyset)).await?;
    for members in members(plan, keys).chunks(MEMBERS_PER_RECORD) {
        let previous = log.state().statements.get(Roster::KIND).copied();
        let roster = Roster {
            previous,
            changes: members.iter().cloned().map(Change::Admit).collect(),
            at: Some(screen::now()),
        };
        log.append_statement::<Roster>(&keys.root, seal_statement(&keys.root, &fleet, &roster)).await?;
    }
    for keys in &keys.coordinators {
        log.append(&keys.signer, &Sealing { recipient: keys.sealing.recipient() }).await?;
    }
    Ok(())
}

fn members(plan: &Plan, keys: &Keys) -> Vec<Member> {
    let member = |key: KeyId, name: MemberName, role| Member { key, name, role };
    let named = |name: &str| name.parse::<MemberName>().expect("a fixed name is a name");
    let mut members = vec![
        member(keys.operator.key_id(), named("operator"), Role::Admin),
        member(keys.pruner.key_id(), named("pruner"), Role::Pruner),
    ];
    for (name, key) in plan.coordinators.iter().zip(&keys.coordinators) {
        members.push(member(key.signer.key_id(), name.clone(), Role::Coordinator));
    }
    for (service, keys) in plan.services.iter().zip(&keys.agents) {
        let role = Role::Agent { service: service.name.clone(), sealing: keys.sealing.recipient() };
        let name = service.name.as_str().parse().expect("service names and member names follow one rule");
        members.push(member(keys.signer.key_id(), name, role));
    }
    members
}

/// Removes the first `records` records and FORMAT, newest first. Ours of a moment ago: nobody else can rely on them.
async fn take_back(store: &dyn Store, records: u64) {
    for number in (0..records).rev() {
        drop(store.delete(&ObjectPath::LogRecord(number)).await);
    }
    drop(store.delete(&ObjectPath::Format).await);
}
