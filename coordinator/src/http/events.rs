//! A round as it happens: server-sent events (WHATWG HTML, section 9.2) with the lines of `muster watch --json`. Ends with the
//! round, with the token, or with the coordinator; whoever loses the connection asks again and misses nothing that counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use muster_protocol::ids::RoundId;
use muster_protocol::log::RoundPhase;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::access;
use super::asked::Asked;
use super::problem::{Kind, Problem};
use super::read::{newest, of_name, round_name, shown};
use super::route::Answer;
use super::{Api, World};
use crate::view::live::{Live, ProgressLine};
use crate::view::round::RoundView;

pub(super) const MEDIA_TYPE: &str = "text/event-stream";
/// How often the leader is asked, and how often the log is read.
const LOOK: Duration = Duration::from_millis(400);
const READ: Duration = Duration::from_secs(1);
/// Longest silence: something is sent then, so that whoever is in between keeps the connection.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Longest that one connection is told; a round's deadline may be later.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// Events that wait for a slow reader; until it takes them, nothing new is looked at.
const WAITING: usize = 4;

pub(super) fn follow(api: Arc<Api>, world: Arc<World>, asked: Asked) -> Answer {
    Box::pin(async move {
        let name = round_name(&asked)?;
        let seen = newest(&world).await?;
        let round = name.find_to_follow(seen.log.state()).map_err(|error| of_name(&error))?.open.round;
        let Ok(place) = Arc::clone(&api.followers).try_acquire_owned() else {
            return Err(Problem::new(Kind::Crowded, "too many follow rounds already")
                .next("GET /api/v1/rounds/{round} tells how far it is")
                .again_in(10));
        };
        let (tell, told) = mpsc::channel(WAITING);
        let secret = Zeroizing::new(access::secret(&asked.headers).unwrap_or_default().to_owned());
        tokio::spawn(Following { api, world, round, secret, tell, _place: place }.run());
        let events =
            stream::unfold(told, |mut told| async move { told.recv().await.map(|event| (event, told)) });
        let mut response = Response::new(Body::from_stream(events));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        Ok(response)
    })
}

struct Following {
    api: Arc<Api>,
    world: Arc<World>,
    round: RoundId,
    /// Looked up again and again, so that a revocation ends what it opened.
    secret: Zeroizing<String>,
    tell: mpsc::Sender<Result<Bytes, Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Following {
    async fn run(self) {
        let (mut stop, tell) = (self.api.stop.clone(), self.tell.clone());
        tokio::select! {
            () = self.follow() => {}
            () = tell.closed() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&self) {
        let (began, mut said) = (Instant::now(), Instant::now());
        let (mut live, mut read) = (Live::default(), None::<Instant>);
        while began.elapsed() < LONGEST {
            let page = self.world.leader.round(self.round).await.ok().flatten();
            if let Some(page) = page.as_ref().filter(|page| page.summary.number > 0)
                && live.is_due(page, Instant::now())
            {
                if !self.say("progress", &ProgressLine::of(page)).await {
                    return;
                }
                said = Instant::now();
            }
            let left_desk = page.as_ref().is_none_or(|page| page.outcome.is_some());
            if left_desk || read.is_none_or(|last| last.elapsed() >= READ) {
                // The leader's last word on a round that was committed but not found whole.
                let unverified =
                    page.as_ref().is_some_and(|page| Some(&page.summary.state) == page.outcome.as_ref());
                if self.is_over(unverified).await {
                    return;
                }
                read = Some(Instant::now());
            }
            if said.elapsed() >= HEARTBEAT {
                if self.tell.send(Ok(Bytes::from_static(b": still open\n\n"))).await.is_err() {
                    return;
                }
                said = Instant::now();
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the log on. True: the last event is out, or the token counts no longer.
    async fn is_over(&self, unverified: bool) -> bool {
        let seen = self.world.reader.read().await;
        if access::bearer(seen.log.state(), Some(&self.secret)).is_err() {
            return true;
        }
        let Some(state) = seen.log.state().rounds.get(&self.round) else { return false };
        let over = match &state.phase {
            RoundPhase::Open => false,
            RoundPhase::Committed { verified: Some(_), .. } | RoundPhase::Ended(_) => true,
            RoundPhase::Committed { verified: None, .. } => unverified,
        };
        if !over {
            return false;
        }
        // A manifest that cannot be read just now is read a moment later.
        match RoundView::read(&shown(&self.world, &seen), state).await {
            Ok(view) => {
                self.say("round", &view).await;
                true
            }
            Err(_) => false,
        }
    }

    /// One event; false: nobody listens any more.
    async fn say(&self, event: &str, view: &impl Serialize) -> bool {
        let Ok(line) = serde_json::to_string(view) else { return false };
        self.tell.send(Ok(Bytes::from(format!("event: {event}\ndata: {line}\n\n")))).await.is_ok()
    }
}
