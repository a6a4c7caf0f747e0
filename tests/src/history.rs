//! A fleet with a long past: thousands of rounds written straight to its share, signed with the keys of its folder as its
//! coordinator and agents would sign them. What the packs hold is noise: no command that reads without a kit opens one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use muster_coordinator::config::Config;
use muster_protocol::document::{Manifest, ManifestSlice, ObjectRef, Receipt, SliceStatus, SliceTotals};
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{Commit, Epoch, Open, Outcome, Pin, Scope, Verified};
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{ListedPack, PackList};
use muster_share::log::Log;
use muster_share::secret_file;
use muster_share::store::{self, Store};

/// Between two rounds.
const APART_MILLIS: i64 = 12 * 3_600_000;
/// Bytes of a pack, of an index and of a chunk index.
const PACK_BYTES: usize = 2_000;

/// Whoever writes it.
struct Writer {
    store: Arc<dyn Store>,
    log: Log,
    coordinator: Signer,
    agents: Vec<(ServiceName, Signer)>,
}

/// Writes `rounds` verified rounds of all services of the fleet in `dir`, twelve hours apart, the last of them now.
///
/// # Errors
/// When the folder is none of a fleet, or its share does not take them.
pub async fn write(dir: &Path, services: &[&str], rounds: u64) -> io::Result<()> {
    let config = Config::load(&dir.join("coordinator.toml")).map_err(io::Error::other)?;
    let store = store::open(&config.share).await.map_err(io::Error::other)?;
    let pin = Pin { root: Some(config.fleet.root), fleet: Some(config.fleet.id), head: None };
    let log = Log::open(Arc::clone(&store), pin).await.map_err(io::Error::other)?;
    let key = |name: &str| {
        secret_file::read_signing_key(&dir.join("keys").join(format!("{name}.key"))).map_err(io::Error::other)
    };
    let agents = services
        .iter()
        .map(|name| Ok((name.parse().map_err(io::Error::other)?, key(&format!("agent-{name}"))?)))
        .collect::<io::Result<_>>()?;
    let mut writer = Writer { store, log, coordinator: key("coordinator")?, agents };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let first = now - i64::try_from(rounds).unwrap_or(i64::MAX) * APART_MILLIS;
    let epoch = writer.log.state().epoch.map_or(1, |epoch| epoch.epoch + 1);
    let leads = Epoch { epoch, instance: Nonce::from_bytes(random(&mut OsEntropy)), at: UnixMillis(first) };
    writer.log.append(&writer.coordinator, &leads).await.map_err(io::Error::other)?;
    let before = writer.log.state().last_round;
    for number in 1..=rounds {
        let at = first + i64::try_from(number).unwrap_or(i64::MAX) * APART_MILLIS;
        writer.round(epoch, before + number, UnixMillis(at)).await?;
    }
    Ok(())
}

impl Writer {
    async fn round(&mut self, epoch: u64, number: u64, at: UnixMillis) -> io::Result<()> {
        let round = RoundId::from_bytes(random(&mut OsEntropy));
        let open = Open {
            epoch,
            round,
            number,
            scope: Scope::All,
            nonce: Nonce::from_bytes(random(&mut OsEntropy)),
            trigger: "schedule".to_owned(),
            deadline_millis: 4 * 3_600_000,
            at,
            cut: None,
        };
        self.log.append(&self.coordinator, &open).await.map_err(io::Error::other)?;
        let mut slices = Vec::new();
        for (service, signer) in &self.agents {
            slices.push(self.slice(&open, service, signer).await?);
        }
        let manifest = Manifest {
            round,
            number,
            epoch,
            keyset: self.keyset(),
            opened: at,
            assembled: at,
            trigger: open.trigger.clone(),
            outcome: Outcome::Complete,
            slices,
            absent: Vec::new(),
            cut: None,
        };
        let bytes = self.coordinator.seal(&self.log.state().fleet, &manifest);
        let (manifest, manifest_size) = (ObjectId::of(&bytes), bytes.len() as u64);
        self.put(&ObjectPath::Manifest(manifest), bytes).await?;
        let outcome = Outcome::Complete;
        let commit = Commit { epoch, round, manifest, manifest_size, outcome, at };
        self.log.append(&self.coordinator, &commit).await.map_err(io::Error::other)?;
        let verified = Verified { epoch, round, objects: 5, bytes: 5 * PACK_BYTES as u64, at };
        self.log.append(&self.coordinator, &verified).await.map_err(io::Error::other)?;
        self.log.write_segment().await.map_err(io::Error::other)
    }

    fn keyset(&self) -> u64 {
        self.log.state().keyset().map_or(0, |(number, _)| number)
    }

    async fn slice(&self, open: &Open, service: &ServiceName, signer: &Signer) -> io::Result<ManifestSlice> {
        let noise = || {
            let blocks = (0..PACK_BYTES / 32).flat_map(|_| random::<32>(&mut OsEntropy));
            blocks.collect::<Vec<u8>>()
        };
        let pack = noise();
        let id = ObjectId::of(&pack);
        let listed = ListedPack { number: open.number, id, size: pack.len() as u64 };
        self.put(&ObjectPath::Pack { service: service.clone(), id }, pack).await?;
        let list = PackList { packs: vec![listed] }.encode(&mut OsEntropy).map_err(io::Error::other)?;
        let part = async |part, bytes: Vec<u8>| {
            let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
            let path = ObjectPath::Slice { service: service.clone(), round: open.round, id, part };
            self.put(&path, bytes).await?;
            Ok::<_, io::Error>(ObjectRef { round: open.round, id, size })
        };
        let bytes = PACK_BYTES as u64;
        let totals = SliceTotals {
            source_bytes: 4 * bytes,
            stored_bytes: bytes,
            added_bytes: bytes,
            entries: 3,
            gaps: 0,
        };
        let receipt = Receipt {
            service: service.clone(),
            round: open.round,
            attempt: 1,
            nonce: open.nonce.for_attempt(service, 1),
            keyset: self.keyset(),
            head: self.log.head(),
            index: part(SlicePart::Index, noise()).await?,
            chunks: vec![part(SlicePart::Chunks, noise()).await?],
            packs: vec![part(SlicePart::Packs, list).await?],
            new_packs: 1,
            status: SliceStatus::Whole,
            totals,
            previous: None,
            cut: None,
        };
        let receipt = part(SlicePart::Receipt, signer.seal(&self.log.state().fleet, &receipt)).await?;
        Ok(ManifestSlice {
            service: service.clone(),
            agent: signer.key_id(),
            attempts: 1,
            receipt: receipt.id,
            receipt_size: receipt.size,
            status: SliceStatus::Whole,
            totals,
            cut: None,
            timing: None,
            tries: Vec::new(),
        })
    }

    async fn put(&self, path: &ObjectPath, bytes: Vec<u8>) -> io::Result<()> {
        self.store.put_new(path, Bytes::from(bytes)).await.map_err(io::Error::other)
    }
}
