//! To the share: packs as they are sealed, then the small objects.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_protocol::document::ObjectRef;
use muster_protocol::ids::{ObjectId, RoundId, ServiceName};
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::store::{Store, StoreError, settle};
use tokio::sync::mpsc;

use super::activity::Activity;
use super::error::EngineError;
use super::pack::Upload;
use super::pipeline::Run;
use super::progress::{CancelFlag, Progress};
use super::shared::WATCH;
use crate::state::PackRow;

/// Writes objects of one service.
#[derive(Debug)]
pub(super) struct Uploader {
    pub(super) store: Arc<dyn Store>,
    pub(super) service: ServiceName,
    pub(super) progress: Arc<Progress>,
}

impl Uploader {
    pub(super) fn new(store: Arc<dyn Store>, service: ServiceName, progress: Arc<Progress>) -> Self {
        Self { store, service, progress }
    }

    /// Uploads what the pipeline seals until it ends, so many packs at once, and remembers each that is on the share.
    pub(super) async fn packs(
        &self,
        run: &Arc<Run>,
        mut sealed: mpsc::Receiver<Upload>,
        at_once: usize,
    ) -> Result<(), EngineError> {
        let mut going = FuturesUnordered::new();
        let mut open = true;
        while open || !going.is_empty() {
            tokio::select! {
                upload = sealed.recv(), if open && going.len() < at_once => match upload {
                    Some(upload) => going.push(self.pack(run, upload)),
                    None => open = false,
                },
                Some(done) = going.next() => done?,
            }
        }
        Ok(())
    }

    async fn pack(&self, run: &Arc<Run>, upload: Upload) -> Result<(), EngineError> {
        let Upload { number, pack, permit } = upload;
        let row = PackRow { id: pack.id, size: pack.bytes.len() as u64, plain_bytes: pack.plain_len };
        let path = ObjectPath::Pack { service: self.service.clone(), id: pack.id };
        let chunks = pack.chunks;
        self.put(&path, pack.bytes.clone(), "uploading a pack").await?;
        run.halt.give_back(pack.bytes);
        drop(permit);
        let run = Arc::clone(run);
        blocking(move || run.known.uploaded(number, row, &chunks).map_err(EngineError::State)).await
    }

    /// Writes one object of a slice under its hash.
    pub(super) async fn slice_object(
        &self,
        round: RoundId,
        part: SlicePart,
        bytes: Bytes,
    ) -> Result<ObjectRef, EngineError> {
        let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
        let path = ObjectPath::Slice { service: self.service.clone(), round, id, part };
        let doing = match part {
            SlicePart::Receipt => "writing the receipt",
            SlicePart::Packs => "writing a pack list",
            SlicePart::Index => "writing the slice index",
            SlicePart::Chunks => "writing a chunk index",
        };
        self.put(&path, bytes, doing).await?;
        Ok(ObjectRef { round, id, size })
    }

    /// Writes a new object. One with the same bytes that is there already is as good.
    async fn put(&self, path: &ObjectPath, bytes: Bytes, doing: &'static str) -> Result<(), EngineError> {
        let (length, since) = (bytes.len() as u64, Instant::now());
        let done = match self.store.put_new(path, bytes.clone()).await {
            Err(failure @ StoreError::AlreadyExists { .. }) => {
                settle(&*self.store, path, &bytes, failure).await
            }
            done => done,
        };
        done.map_err(|source| EngineError::Store { doing, source })?;
        self.progress.activities.did(Activity::Upload, length, since);
        self.progress.added(length);
        Ok(())
    }
}

/// Runs a call that blocks.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(call).await.map_err(|_| EngineError::Crashed)?
}

/// Awaits `work`, but not longer than until the flag is set.
pub(super) async fn unless_cancelled<T>(
    cancel: &CancelFlag,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(WATCH).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = cancelled => Err(EngineError::Cancelled),
    }
}
