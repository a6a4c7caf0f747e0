//! The capture engine as the event loop sees it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use muster_protocol::age::Recipient;
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::ids::{Nonce, ObjectId};
use muster_protocol::log::Head;
use muster_protocol::message::Stage as Told;
use muster_share::credentials::Credentials;
use muster_share::secret_file;
use muster_share::store::Store;
use zeroize::Zeroizing;

use super::capturer::{Capturer, Failure, Gauged, Job, Written};
use super::error::DaemonError;
use super::identity::Identity;
use crate::config::Config;
use crate::engine::{
    CancelFlag, CaptureRequest, Captured, Engine, EngineConfig, EngineError, Progress, Stage, chunk_key,
};
use crate::source::Source;
use crate::state::State;

/// The folder below the state folder that sources may write dumps to.
pub(crate) const SPOOL: &str = "spool";

/// The engine of one service.
pub(crate) struct EngineCapturer {
    engine: Arc<Engine>,
    share: Arc<dyn Store>,
    identity: Arc<Identity>,
    sources: Vec<Arc<dyn Source>>,
    sealing: Recipient,
    /// The file of the identity behind it, read only when the local state was lost.
    sealing_key: PathBuf,
    /// What chunk keys are made of.
    chunk_secret: Zeroizing<[u8; 32]>,
}

impl EngineCapturer {
    /// The engine that `config` describes, on `store`. Its state folder is there and locked. Blocks on the local disk.
    pub(crate) fn open(
        config: &Config,
        identity: Arc<Identity>,
        store: Arc<dyn Store>,
    ) -> Result<Self, DaemonError> {
        let key = |path: &PathBuf, source: Box<dyn std::error::Error + Send + Sync>| DaemonError::Key {
            path: path.clone(),
            source,
        };
        let agent = &config.agent;
        let identities = secret_file::read_identities(&agent.sealing_key)
            .map_err(|error| key(&agent.sealing_key, error.into()))?;
        let sealing = identities
            .first()
            .ok_or_else(|| key(&agent.sealing_key, "the file holds no age identity".into()))?
            .recipient();
        let chunk_secret = secret_file::read_hex_key(&agent.chunk_key)
            .map_err(|error| key(&agent.chunk_key, error.into()))?;
        let sources = config.sources().map_err(|invalid| DaemonError::Engine(invalid.why.into()))?;
        let sources = sources.into_iter().map(|source| Arc::from(source.build())).collect();
        let spool = agent.state.join(SPOOL);
        std::fs::create_dir_all(&spool)
            .map_err(|source| DaemonError::State { path: spool.clone(), source })?;
        let state = State::open(&agent.state).map_err(|error| DaemonError::Engine(error.into()))?;
        let engine = Arc::new(Engine::new(
            EngineConfig::from(&config.engine),
            Arc::clone(&store),
            Arc::new(state),
            spool,
        ));
        engine.tell_memory(&identity.service);
        Ok(Self {
            engine,
            share: store,
            identity,
            sources,
            sealing,
            sealing_key: agent.sealing_key.clone(),
            chunk_secret,
        })
    }
}

impl EngineCapturer {
    /// Learns again from the share what a lost state knew. Without it the slice is as right, only larger.
    async fn resume(&self, request: &CaptureRequest) {
        let identity = match secret_file::read_identities(&self.sealing_key) {
            Ok(identities) => identities.into_iter().next(),
            Err(error) => return tracing::warn!(%error, "the agent's own key is not readable any more"),
        };
        let Some(identity) = identity else { return };
        match self.engine.resume(request, identity, self.identity.signer.key_id()).await {
            Ok(0) => {}
            Ok(packs) => tracing::info!(packs, "the local state was lost; known again from the share"),
            Err(error) => tracing::warn!(%error, "the former slices were not learnt again"),
        }
    }
}

/// One run of the engine.
#[derive(Debug, Default)]
pub(crate) struct Run {
    progress: Arc<Progress>,
    cancel: CancelFlag,
}

#[async_trait]
impl Capturer for EngineCapturer {
    type Captured = Captured;
    type Run = Run;

    fn accept(&self, credentials: &Credentials) {
        let fingerprint = credentials.fingerprint();
        match self.share.accept(credentials) {
            Ok(used) => tracing::info!(fingerprint, used, "the leader told credentials of the share"),
            Err(error) => tracing::warn!(
                fingerprint,
                error = causes(&error),
                "the leader told credentials that are none of this kind of share; the former ones stay: \
                 muster share credentials --from FILE"
            ),
        }
    }

    fn run(&self) -> Run {
        Run::default()
    }

    fn gauged(&self, run: &Run) -> Gauged {
        let progress = &run.progress;
        let stage = match progress.stage() {
            Stage::Listing | Stage::Capturing => Told::Capturing,
            Stage::Uploading | Stage::Finishing | Stage::Captured => Told::Uploading,
        };
        let (done_bytes, added_bytes) = (progress.source_bytes(), progress.added_bytes());
        Gauged { stage, done_bytes, expected_bytes: progress.expected_bytes(), added_bytes }
    }

    async fn sources_read(&self, run: Arc<Run>) {
        run.progress.sources_read().await;
    }

    fn cancel(&self, run: &Run) {
        run.cancel.cancel();
    }

    async fn capture(&self, job: Job, run: Arc<Run>) -> Result<Captured, Failure> {
        let request = CaptureRequest {
            fleet: self.identity.fleet,
            service: self.identity.service.clone(),
            round: job.round,
            keyset: job.keyset,
            recipients: job.recipients,
            agent: self.sealing.clone(),
            chunk_key: chunk_key(&self.chunk_secret, job.keyset),
            sources: self.sources.clone(),
            refused: job.refused.into_iter().collect::<HashSet<_>>(),
            bandwidth_bytes_per_sec: job.bandwidth,
        };
        self.resume(&request).await;
        let capturing = self.engine.capture(request, Arc::clone(&run.progress), run.cancel.clone());
        capturing.await.map_err(|error| failure(&error))
    }

    async fn write_receipt(
        &self,
        captured: &Captured,
        attempt: u32,
        nonce: Nonce,
        head: Head,
        cut: Option<Nonce>,
    ) -> Result<Written, Failure> {
        let writing = self.engine.write_receipt(captured, attempt, nonce, head, cut, &self.identity.signer);
        let (receipt, receipt_size, totals) = writing.await.map_err(|error| failure(&error))?;
        Ok(Written { receipt, receipt_size, totals })
    }

    async fn keep(&self, receipt: ObjectId) -> Result<(), Failure> {
        let (engine, service) = (Arc::clone(&self.engine), self.identity.service.clone());
        let keeping = move || {
            let kept = engine.keep(receipt);
            engine.tell_memory(&service);
            kept
        };
        match tokio::task::spawn_blocking(keeping).await {
            Ok(kept) => kept.map_err(|error| failure(&error)),
            Err(_) => {
                let reason = "the agent's memory has crashed".to_owned();
                Err(Failure { code: Code::Agent04, reason, permanent: false })
            }
        }
    }
}

fn failure(error: &EngineError) -> Failure {
    Failure { code: error.code(), reason: causes(error), permanent: error.is_permanent() }
}
