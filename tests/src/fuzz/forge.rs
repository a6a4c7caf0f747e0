//! A forged round: what a stolen agent and a stolen coordinator together can put on a share, with every signature and
//! every hash right. For tests of whoever reads it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use muster_agent::config::Config as AgentConfig;
use muster_coordinator::config::Config as CoordinatorConfig;
use muster_protocol::age::{Identity, Recipient};
use muster_protocol::document::{Manifest, ManifestSlice, ObjectRef, Receipt};
use muster_protocol::envelope::{Payload, SIGNATURE_LEN, Signer, open_as};
use muster_protocol::ids::{Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{Body, Commit, Open, Outcome, Pin, Scope, State, seal};
use muster_protocol::time::UnixMillis;
use muster_share::chunk::ChunkKey;
use muster_share::entry::{Entry, Extent};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::lists::{
    ChunkIndex, EntryReader, EntryWriter, IndexRoot, IndexedPack, ListedPack, PackList,
};
use muster_share::pack::{PackContext, PackReader, Unlock};
use muster_share::secret_file;

use super::input::Fixed;
use super::vault::{RawPack, seal_to};
use crate::fleet::Fleet;

const AT: UnixMillis = UnixMillis(1_700_000_000_000);

/// A document that lacks its signature, though its hash is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// The agent's account of its slice.
    Receipt,
    /// The coordinator's account of the round.
    Manifest,
}

/// Everything that is needed to write the next round of one service by hand.
#[derive(Debug)]
pub struct Forge {
    share: PathBuf,
    state: State,
    coordinator: Signer,
    agent: Signer,
    agent_key: Identity,
    keys: Vec<Identity>,
    service: ServiceName,
    receipt: Receipt,
    /// The index of the newest round, to be changed.
    pub index: IndexRoot,
    /// What of the next round is not signed; none: all of it is.
    pub unsigned: Option<Unsigned>,
    packs: BTreeMap<u64, (ObjectId, u64)>,
    new: Vec<ListedPack>,
    round: RoundId,
}

impl Forge {
    /// Takes up the newest round of a fleet whose log ends with it.
    ///
    /// # Panics
    /// When the share is not as this fleet writes it.
    #[must_use]
    pub fn begin(fleet: &Fleet, service: &str) -> Self {
        let agent = AgentConfig::load(&fleet.dir().join(format!("agents/{service}.toml"))).expect("agent");
        let coordinator =
            CoordinatorConfig::load(&fleet.dir().join("coordinator.toml")).expect("coordinator");
        let identities = |path: &Path| secret_file::read_identities(path).expect("identities");
        let signer = |path: &Path| secret_file::read_signing_key(path).expect("a signing key");
        let (share, keys) = (fleet.share(), identities(&fleet.kit().join("recovery.key")));
        let mut state = State::new(Pin::default());
        while let Ok(slot) = fs::read(share.join(ObjectPath::LogRecord(state.next).to_string())) {
            state.replay(&slot).expect("an honest log");
        }
        let newest = state.newest_recoverable().expect("a committed round");
        let manifest = newest.commit().expect("committed").manifest;
        let manifest: Manifest = document(&share, &ObjectPath::Manifest(manifest), &state);
        let service: ServiceName = service.parse().expect("a name");
        let slice = manifest.slices.iter().find(|slice| slice.service == service).expect("its slice");
        let path = |round, id, part| ObjectPath::Slice { service: service.clone(), round, id, part };
        let receipt: Receipt =
            document(&share, &path(manifest.round, slice.receipt, SlicePart::Receipt), &state);
        let bytes = |object: &ObjectRef, part| {
            fs::read(share.join(path(object.round, object.id, part).to_string())).expect("an object")
        };
        let index = bytes(&receipt.index, SlicePart::Index);
        let (_, index) = IndexRoot::open(&index, None, Unlock::Identities(&keys)).expect("the index");
        let decode = |list| PackList::decode(&bytes(list, SlicePart::Packs)).expect("a pack list");
        let lists: Vec<PackList> = receipt.packs.iter().map(decode).collect();
        let packs = PackList::union(&lists).expect("each number once");
        let agent_key = identities(&agent.agent.sealing_key).remove(0);
        let round = RoundId::derive(&state.fleet, &format!("forged {}", state.last_round));
        let (agent, coordinator) = (signer(&agent.agent.key), signer(&coordinator.coordinator.key));
        let (new, unsigned) = (Vec::new(), None);
        Self {
            share,
            state,
            coordinator,
            agent,
            agent_key,
            keys,
            service,
            receipt,
            index,
            unsigned,
            packs,
            new,
            round,
        }
    }

    /// The entries of the round's index.
    ///
    /// # Panics
    /// When they do not read.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut stream = Vec::new();
        for extent in &self.index.entries {
            let Extent::Data { pack, offset, length } = *extent else { panic!("a hole in the entry stream") };
            let (id, _) = self.packs[&pack];
            let path = ObjectPath::Pack { service: self.service.clone(), id };
            let bytes = fs::read(self.share.join(path.to_string())).expect("a pack");
            let reader = PackReader::open(&bytes, None, Unlock::Identities(&self.keys)).expect("it opens");
            stream.extend(reader.read_range(offset, offset + length).expect("it holds the entries"));
        }
        EntryReader::new(stream.as_slice()).collect::<Result<_, _>>().expect("honest entries")
    }

    /// Puts a pack with this payload on the share, and gives its number.
    ///
    /// # Panics
    /// When the share cannot be written.
    pub fn pack_of(&mut self, payload: &[u8]) -> u64 {
        let (bytes, _) = seal_to(payload, &self.state.recipients(), &self.context());
        let id = ObjectId::of(&bytes);
        self.put(&ObjectPath::Pack { service: self.service.clone(), id }, &bytes);
        let last = self.packs.keys().chain(self.new.iter().map(|pack| &pack.number)).max();
        let number = last.copied().unwrap_or_default() + 1;
        self.new.push(ListedPack { number, id, size: bytes.len() as u64 });
        number
    }

    /// An honest pack of these chunks, one frame each.
    pub fn pack(&mut self, chunks: &[&[u8]]) -> u64 {
        let frames: Vec<&[&[u8]]> = chunks.iter().map(std::slice::from_ref).collect();
        let payload = RawPack::named(&frames, &self.index.chunk_key).payload();
        self.pack_of(&payload)
    }

    /// A pack of one chunk whose frame unfolds to `len` zeroes, and whose contents say `claim` bytes.
    ///
    /// # Panics
    /// When the share cannot be written.
    pub fn bomb(&mut self, len: usize, claim: u32) -> u64 {
        let mut pack = RawPack::named(&[&[b"x"]], &self.index.chunk_key);
        pack.frames = zstd::bulk::compress(&vec![0; len], 3).expect("compresses");
        let chunks = vec![(self.index.chunk_key.id(&vec![0; claim as usize]), claim)];
        let compressed_len = u32::try_from(pack.frames.len()).expect("short");
        let table =
            super::vault::Table { version: 1, frames: vec![super::vault::Row { compressed_len, chunks }] };
        self.pack_of(&pack.with(&table).payload())
    }

    /// The secret that names the slice's chunks.
    #[must_use]
    pub fn chunk_key(&self) -> &ChunkKey {
        &self.index.chunk_key
    }

    /// Commits a round whose index holds these entries, all of the first source.
    ///
    /// # Panics
    /// When the share cannot be written.
    pub fn commit(mut self, entries: &[Entry]) {
        let mut writer = EntryWriter::new(Vec::new());
        entries.iter().for_each(|entry| writer.write(entry).expect("memory grows"));
        let stream = writer.into_inner();
        let chunks: Vec<&[u8]> = stream.chunks(1 << 20).collect();
        let pack = self.pack(&chunks);
        self.index.entries = vec![Extent::Data { pack, offset: 0, length: stream.len() as u64 }];
        self.index.entries_bytes = stream.len() as u64;
        self.index.sources[0].entries = entries.len() as u64;
        self.index.totals.entries = entries.len() as u64;
        self.commit_index();
    }

    /// Commits a round with the index as it stands now.
    ///
    /// # Panics
    /// When the share cannot be written.
    pub fn commit_index(mut self) {
        self.index.round = self.round;
        let sealed =
            self.index.seal(&self.state.recipients(), &self.context(), &mut Fixed(3)).expect("sealed");
        self.commit_object(&sealed.bytes);
    }

    /// Commits a round whose slice index has this payload behind its seal.
    pub fn commit_payload(self, payload: &[u8]) {
        let (bytes, _) = seal_to(payload, &self.state.recipients(), &self.context());
        self.commit_object(&bytes);
    }

    fn commit_object(mut self, index: &[u8]) {
        let (round, number) = (self.round, self.state.last_round + 1);
        let epoch = self.state.epoch.as_ref().expect("somebody led").epoch;
        let nonce = Nonce::from_bytes([6; 16]);
        let index = self.object(SlicePart::Index, index);
        let (packs, chunks) = self.lists(&[]);
        self.receipt.packs.push(packs);
        self.receipt.chunks.push(chunks);
        let attempt = 1;
        let receipt = Receipt {
            round,
            attempt,
            index,
            nonce: nonce.for_attempt(&self.service, attempt),
            new_packs: 1,
            totals: self.index.totals,
            ..self.receipt.clone()
        };
        let receipt_bytes = self.signed(Unsigned::Receipt, self.agent.seal(&self.state.fleet, &receipt));
        let object = self.object(SlicePart::Receipt, &receipt_bytes);
        let slice = ManifestSlice {
            service: self.service.clone(),
            agent: self.agent.key_id(),
            attempts: attempt,
            receipt: object.id,
            receipt_size: object.size,
            status: receipt.status,
            totals: receipt.totals,
            cut: None,
            timing: None,
            tries: Vec::new(),
        };
        let outcome = Outcome::Complete;
        let manifest = self.coordinator.seal(
            &self.state.fleet,
            &Manifest {
                round,
                number,
                epoch,
                keyset: receipt.keyset,
                opened: AT,
                assembled: AT,
                trigger: "forged".to_owned(),
                outcome,
                slices: vec![slice],
                absent: Vec::new(),
                cut: None,
            },
        );
        let manifest = self.signed(Unsigned::Manifest, manifest);
        let id = ObjectId::of(&manifest);
        self.put(&ObjectPath::Manifest(id), &manifest);
        let scope = Scope::Services(vec![self.service.clone()]);
        let trigger = "forged".to_owned();
        let (deadline_millis, cut) = (1000, None);
        self.append(&Open { epoch, round, number, scope, nonce, trigger, deadline_millis, at: AT, cut });
        let manifest_size = manifest.len() as u64;
        self.append(&Commit { epoch, round, manifest: id, manifest_size, outcome, at: AT });
    }

    /// Puts a receipt on the share that the agent takes for its newest, with a chunk index that says this of its packs.
    ///
    /// # Panics
    /// When the share is not as this fleet writes it.
    pub fn mislead_agent(mut self, lie: impl Fn(Vec<IndexedPack>) -> Vec<IndexedPack>) {
        let mut lists = Vec::new();
        for (packs, chunks) in self.receipt.packs.clone().into_iter().zip(self.receipt.chunks.clone()) {
            let path = ObjectPath::Slice {
                service: self.service.clone(),
                round: chunks.round,
                id: chunks.id,
                part: SlicePart::Chunks,
            };
            let bytes = fs::read(self.share.join(path.to_string())).expect("a chunk index");
            let own = std::slice::from_ref(&self.agent_key);
            let (_, index) = ChunkIndex::open(&bytes, None, Unlock::Identities(own)).expect("it opens");
            let index = ChunkIndex::new(lie(index.packs));
            lists.push((packs, self.chunk_index(&index)));
        }
        (self.receipt.packs, self.receipt.chunks) = lists.into_iter().unzip();
        self.receipt.head.number += 1000;
        let bytes = self.agent.seal(&self.state.fleet, &self.receipt);
        self.round = self.receipt.round;
        let _ = self.object(SlicePart::Receipt, &bytes);
    }

    /// The document, without its signature if that is what is asked for.
    fn signed(&self, what: Unsigned, mut document: Vec<u8>) -> Vec<u8> {
        if self.unsigned == Some(what) {
            let at = document.len() - SIGNATURE_LEN;
            document[at..].fill(0);
        }
        document
    }

    fn context(&self) -> PackContext {
        PackContext { fleet: self.state.fleet, service: self.service.clone(), keyset: self.receipt.keyset }
    }

    fn lists(&self, indexed: &[IndexedPack]) -> (ObjectRef, ObjectRef) {
        let list = PackList { packs: self.new.clone() }.encode(&mut Fixed(4)).expect("short");
        (self.object(SlicePart::Packs, &list), self.chunk_index(&ChunkIndex::new(indexed.to_vec())))
    }

    fn chunk_index(&self, index: &ChunkIndex) -> ObjectRef {
        let mut recipients: Vec<Recipient> = self.state.recipients();
        recipients.push(self.agent_key.recipient());
        let sealed = index.seal(&recipients, &self.context(), &mut Fixed(5)).expect("sealed");
        self.object(SlicePart::Chunks, &sealed.bytes)
    }

    fn object(&self, part: SlicePart, bytes: &[u8]) -> ObjectRef {
        let (round, id) = (self.round, ObjectId::of(bytes));
        self.put(&ObjectPath::Slice { service: self.service.clone(), round, id, part }, bytes);
        ObjectRef { round, id, size: bytes.len() as u64 }
    }

    fn append<B: Body>(&mut self, body: &B) {
        let (number, head) = (self.state.next, self.state.head);
        let record = seal(&self.coordinator, &self.state.fleet, number, head, body);
        let effect = self.state.replay(&record);
        assert_eq!(effect, Ok(muster_protocol::log::Effect::Applied));
        self.put(&ObjectPath::LogRecord(number), &record);
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8]) {
        let path = self.share.join(path.to_string());
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(&path, bytes).expect("written");
    }
}

fn document<P: Payload>(share: &Path, path: &ObjectPath, state: &State) -> P {
    let bytes = fs::read(share.join(path.to_string())).expect("a document");
    open_as::<P>(&bytes, &state.fleet).expect("an honest document").1
}
