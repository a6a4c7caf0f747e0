//! Listens, and carries each connection: places, patience, TLS, and an orderly end. Speaks HTTP/1.1 alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::crowd::{Crowd, Seat};
use super::door::Peer;
use super::patience::Patient;
use super::tls::Tls;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 256;
/// Longest time for the head of a request to come, which is also how long a connection may lie idle.
const HEAD: Duration = Duration::from_secs(10);
/// Longest head of a request in bytes.
const MAX_HEAD_LEN: usize = 32 * 1024;
/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest silence on a connection; longer than the longest answer takes.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a coordinator that ends waits for answers that are on their way.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// Wait before a busy port is tried again, and after an accept that failed.
const BUSY_PORT: Duration = Duration::from_secs(5);
const NO_ACCEPT: Duration = Duration::from_millis(200);

/// Serves until told to stop.
pub(super) async fn serve(
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let listener = tokio::select! {
        listener = listen(address) => listener,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    tracing::info!(%address, tls = tls.is_some(), "the HTTP API listens");
    let (crowd, mut connections) = (Crowd::of(MOST_CONNECTIONS), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "no connection was accepted");
                // Out of file descriptors, perhaps: a moment later there may be some.
                sleep(NO_ACCEPT).await;
                continue;
            }
        };
        // Where everybody is being answered, whoever comes is let go at once.
        let Some(seat) = crowd.enter() else { continue };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        connections.spawn(async move {
            let left = Arc::clone(&seat);
            tokio::select! {
                () = converse(stream, peer, tls, router, seat, stop) => {}
                () = left.must_leave() => {}
            }
        });
    }
    drop(listener);
    drop(timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await);
}

/// Takes the port, as soon as it is free.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    let secs = BUSY_PORT.as_secs();
                    tracing::warn!(
                        %address,
                        %error,
                        "the HTTP API cannot listen; tried again every {secs} s. [http] listen names another address, or none"
                    );
                }
                sleep(BUSY_PORT).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    seat: Arc<Seat>,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may wait for one another");
    }
    match tls {
        None => speak(stream, peer, router, seat, stop).await,
        Some(tls) => match timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, peer, router, seat, stop).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS came about"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        },
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    seat: Arc<Seat>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, busy) = (router.clone(), seat.busy());
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer.ip()));
            let response = router.oneshot(request).await;
            // Until the last byte of the answer is out.
            response.map(|response| response.map(|body| body.map_frame(move |frame| busy.holds(frame))))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD_LEN)
        .serve_connection(TokioIo::new(Patient::new(stream, SILENCE)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
}
