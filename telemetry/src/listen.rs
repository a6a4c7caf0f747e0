//! `/metrics`: figures for whoever comes by, in Prometheus' text format, on a thread of its own, so that a busy daemon answers
//! and a visitor keeps nothing waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{Semaphore, oneshot};

use crate::export::Figures;

/// The format's media type (Prometheus, "Exposition formats", text format 0.0.4).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Answers that are made at once.
const AT_ONCE: usize = 4;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why `/metrics` does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No address.
    #[error("`{address}` is no HOST:PORT: give one such as 127.0.0.1:9464")]
    Address {
        /// As configured.
        address: String,
    },
    /// The address cannot be had.
    #[error(
        "/metrics cannot listen on {address}: give [telemetry] metrics an address of this machine that is free"
    )]
    Bind {
        /// As configured.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Where.
    #[cfg(test)]
    pub(crate) address: SocketAddr,
    _end: oneshot::Sender<()>,
}

impl Listening {
    /// Listens on `address` and answers from now on.
    pub(crate) fn start(address: &str, figures: Figures) -> Result<Self, ListenError> {
        let parsed: SocketAddr =
            address.parse().map_err(|_| ListenError::Address { address: address.to_owned() })?;
        let bind = |source| ListenError::Bind { address: address.to_owned(), source };
        let socket = std::net::TcpListener::bind(parsed).map_err(bind)?;
        socket.set_nonblocking(true).map_err(bind)?;
        #[cfg(test)]
        let address = socket.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(bind)?;
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(socket, figures) => {}
                        _ = ended => {}
                    }
                });
                runtime.shutdown_background();
            })
            .map_err(bind)?;
        Ok(Self {
            #[cfg(test)]
            address,
            _end: end,
        })
    }
}

async fn serve(socket: std::net::TcpListener, figures: Figures) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let answer = move || {
        let (figures, places) = (figures.clone(), Arc::clone(&places));
        async move { answer(figures, &places).await }
    };
    let routes = Router::new().route("/metrics", get(answer));
    let listening = match tokio::net::TcpListener::from_std(socket) {
        Ok(listening) => listening,
        Err(error) => return tracing::error!(%error, "/metrics does not answer"),
    };
    if let Err(error) = axum::serve(listening, routes).await {
        tracing::error!(%error, "/metrics does not answer any more");
    }
}

async fn answer(figures: Figures, places: &Semaphore) -> Response {
    let Ok(_place) = places.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "others ask as well: ask again in a second\n")
            .into_response();
    };
    let made = tokio::task::spawn_blocking(move || figures.text());
    match tokio::time::timeout(LIMIT, made).await {
        Ok(Ok(Ok(text))) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Ok(Ok(Err(error))) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Ok(Err(_)) | Err(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the figures were not had in time\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::export;
    use crate::metrics::{EPOCH, ROUND_DURATION, ROUNDS, SLICE_SOURCE, Value};

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    #[test]
    fn figures_are_told_in_prometheus_words() {
        let resource = export::resource("muster-agent", "dns", Some("prod"));
        let (_provider, figures) =
            export::metrics(None, Duration::from_secs(60), true, resource).expect("figures");
        let listening = Listening::start("127.0.0.1:0", figures.expect("asked for")).expect("a free port");
        ROUNDS.one(vec![("muster.outcome", "complete".to_owned())]);
        SLICE_SOURCE.set(Value::Is(7.0), vec![("muster.service", "dns".to_owned())]);
        ROUND_DURATION.record(3.0, vec![("muster.outcome", "complete".to_owned())]);
        EPOCH.set(Value::Is(3.0), Vec::new());
        let text = get(listening.address, "/metrics");
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        for line in [
            "muster_rounds_total{muster_outcome=\"complete\"} 1",
            "muster_slice_source_bytes{muster_service=\"dns\"} 7",
            "muster_round_duration_seconds_bucket{muster_outcome=\"complete\",le=\"5\"} 1",
            "muster_epoch 3",
            "# TYPE process_cpu_time_seconds_total counter",
            "process_memory_usage_bytes ",
            "service_instance_id=\"dns\"",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(get(listening.address, "/other").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn an_address_that_cannot_be_had_is_named() {
        let figures = || {
            let resource = export::resource("muster-agent", "dns", None);
            export::metrics(None, Duration::from_secs(60), true, resource)
                .expect("figures")
                .1
                .expect("asked for")
        };
        assert!(matches!(Listening::start("9464", figures()), Err(ListenError::Address { .. })));
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound").to_string();
        let error = Listening::start(&address, figures()).expect_err("taken");
        assert!(error.to_string().contains(&address), "{error}");
    }
}
