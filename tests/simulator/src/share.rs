//! The share: objects that are created once, and the log.

use std::collections::BTreeMap;
use std::rc::Rc;

use muster_protocol::document::{CutAccount, ManifestSlice};
use muster_protocol::ids::{KeyId, Nonce, ObjectId, RoundId};
use muster_protocol::log::{Effect, Outcome, Record, ReplayError, State};

/// An agent's account of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) service: usize,
    pub(crate) signer: KeyId,
    pub(crate) round: RoundId,
    pub(crate) attempt: u32,
    pub(crate) nonce: Nonce,
    pub(crate) cut: Option<Nonce>,
    /// Every pack that the slice needs, with its length.
    pub(crate) packs: Vec<(ObjectId, u64)>,
}

/// A coordinator's account of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) round: RoundId,
    pub(crate) outcome: Outcome,
    pub(crate) slices: Vec<ManifestSlice>,
    pub(crate) cut: Option<CutAccount>,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Data of this service.
    Pack(usize),
    Receipt(Rc<Receipt>),
    Manifest(Rc<Manifest>),
    /// Objects that may go.
    List(Rc<Vec<ObjectId>>),
}

/// An object on the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) what: What,
    pub(crate) size: u64,
    /// Whether it has the bytes that it is named by.
    pub(crate) sound: bool,
}

/// The share.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) objects: BTreeMap<ObjectId, Object>,
    /// What the log says after this many slots; the first is the founding's. Readers of the same slots share it.
    states: Vec<Rc<State>>,
}

impl Share {
    pub(crate) fn new(founding: Rc<State>) -> Self {
        Self { objects: BTreeMap::new(), states: vec![founding] }
    }

    /// Slots that were taken since the founding: the view of a reader that has read all.
    pub(crate) fn len(&self) -> usize {
        self.states.len() - 1
    }

    /// What a reader of this many slots knows.
    pub(crate) fn state(&self, view: usize) -> &Rc<State> {
        &self.states[view.min(self.len())]
    }

    /// What the log says now.
    pub(crate) fn truth(&self) -> &Rc<State> {
        &self.states[self.len()]
    }

    /// Creates an object; false if there is one of that name.
    pub(crate) fn create(&mut self, id: ObjectId, object: Object) -> bool {
        match self.objects.entry(id) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(object);
                true
            }
        }
    }

    /// Creates the slot after `view`; none if it is taken.
    pub(crate) fn append(&mut self, view: usize, record: Record) -> Option<Result<Effect, ReplayError>> {
        self.fill(view, |state| state.replay_record(record))
    }

    /// Fills the slot after `view` with these bytes; none if it is taken.
    pub(crate) fn append_bytes(&mut self, view: usize, bytes: &[u8]) -> Option<Result<Effect, ReplayError>> {
        self.fill(view, |state| state.replay(bytes))
    }

    fn fill(
        &mut self,
        view: usize,
        replay: impl FnOnce(&mut State) -> Result<Effect, ReplayError>,
    ) -> Option<Result<Effect, ReplayError>> {
        if view != self.len() {
            return None;
        }
        let mut state = self.truth().as_ref().clone();
        let effect = replay(&mut state);
        self.states.push(Rc::new(state));
        Some(effect)
    }

    pub(crate) fn receipt(&self, id: &ObjectId) -> Option<&Rc<Receipt>> {
        match &self.objects.get(id)?.what {
            What::Receipt(receipt) => Some(receipt),
            What::Pack(_) | What::Manifest(_) | What::List(_) => None,
        }
    }

    pub(crate) fn manifest(&self, id: &ObjectId) -> Option<&Rc<Manifest>> {
        match &self.objects.get(id)?.what {
            What::Manifest(manifest) => Some(manifest),
            What::Pack(_) | What::Receipt(_) | What::List(_) => None,
        }
    }

    pub(crate) fn list(&self, id: &ObjectId) -> Option<&Rc<Vec<ObjectId>>> {
        match &self.objects.get(id)?.what {
            What::List(list) => Some(list),
            What::Pack(_) | What::Receipt(_) | What::Manifest(_) => None,
        }
    }

    /// Whether the object is there with this length.
    pub(crate) fn holds(&self, id: &ObjectId, size: u64) -> bool {
        self.objects.get(id).is_some_and(|object| object.size == size)
    }

    /// Every object that a manifest names, itself included, with its length; what is not there any more names nothing.
    pub(crate) fn named_by(&self, manifest: &ObjectId, size: u64) -> Vec<(ObjectId, u64)> {
        let mut named = vec![(*manifest, size)];
        for slice in self.manifest(manifest).iter().flat_map(|manifest| &manifest.slices) {
            named.push((slice.receipt, slice.receipt_size));
            named.extend(self.receipt(&slice.receipt).iter().flat_map(|receipt| &receipt.packs));
        }
        named
    }
}
