//! For tests: a small fleet on a share in a folder, with its log.

use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::config::ShareConfig;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, RoundId};
use muster_protocol::log::{Body, Change, Epoch, Genesis, Member, Open, Role, Roster, Scope, seal_statement};
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::log::{Log, found};
use muster_share::store::{self, Store};
use tempfile::TempDir;

pub(crate) const ROOT: u8 = 1;
pub(crate) const LEADER: u8 = 2;
pub(crate) const AGENT: u8 = 3;
pub(crate) const PRUNER: u8 = 4;

pub(crate) fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

pub(crate) async fn change(log: &mut Log, changes: Vec<Change>) {
    let state = log.state();
    let roster = Roster { previous: state.statements.get(Roster::KIND).copied(), changes, at: None };
    let statement = seal_statement(&signer(ROOT), &state.fleet, &roster);
    log.append_statement::<Roster>(&signer(ROOT), statement).await.expect("the roster changes");
}

/// A fleet with one agent, led in epoch 1, with one open round.
pub(crate) async fn led() -> (TempDir, Arc<dyn Store>, Log) {
    let folder = TempDir::new().expect("a folder");
    let store = store::open(&ShareConfig::at(folder.path().to_string_lossy())).await.expect("a share");
    let genesis = Genesis {
        name: "test".parse().expect("a name"),
        salt: [2; 32],
        share: Nonce::from_bytes([3; 16]),
        created: UnixMillis(0),
    };
    let mut log = found(Arc::clone(&store), &signer(ROOT), &genesis).await.expect("founded");
    let member = |number: u8, name: &str, role| {
        let (key, name) = (signer(number).key_id(), name.parse().expect("a name"));
        Change::Admit(Member { key, name, role })
    };
    let sealing = Identity::generate(&mut OsEntropy).recipient();
    let agent = Role::Agent { service: "dns".parse().expect("a name"), sealing };
    let members =
        [(LEADER, "one", Role::Coordinator), (AGENT, "dns", agent), (PRUNER, "pruner", Role::Pruner)];
    change(&mut log, members.map(|(number, name, role)| member(number, name, role)).into()).await;
    let epoch = Epoch { epoch: 1, instance: Nonce::from_bytes([4; 16]), at: UnixMillis(0) };
    log.append(&signer(LEADER), &epoch).await.expect("leads");
    log.append(&signer(LEADER), &open(1)).await.expect("opened");
    (folder, store, log)
}

pub(crate) fn round(number: u8) -> RoundId {
    RoundId::from_bytes([4 + number; 16])
}

pub(crate) fn open(number: u8) -> Open {
    Open {
        epoch: 1,
        round: round(number),
        number: number.into(),
        scope: Scope::All,
        nonce: Nonce::from_bytes([6; 16]),
        trigger: "test".to_owned(),
        deadline_millis: 1000,
        at: UnixMillis(0),
        cut: None,
    }
}
