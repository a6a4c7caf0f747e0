//! The connection: made within a limit, made again with jittered delays, and its changes told once each.

use super::{config::NatsConfig, version};
use crate::{ConnectError, Limits, Link};
use async_nats::{Client, ConnectErrorKind, Event, connection::State, rustls};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// One client and the news about it.
pub(crate) struct Connection {
    client: Client,
    news: Arc<News>,
}

struct News {
    servers: String,
    link: watch::Sender<Link>,
    closed: watch::Sender<bool>,
    /// Set while the connection is in use. The client keeps its event callback, and with it this, alive; so this
    /// must let go of the client for the connection ever to end.
    client: Mutex<Option<Client>>,
    dropped: AtomicU64,
    /// Being closed by ourselves: losing the connection is then no news.
    draining: AtomicBool,
    last_complaint: Mutex<String>,
}

impl Connection {
    /// Connects within the limit and refuses servers that are too old.
    pub(crate) async fn make(config: &NatsConfig) -> Result<Self, ConnectError> {
        let addresses = config.addresses()?;
        let servers = config.servers();
        let limits = &config.limits;
        let news = Arc::new(News::new(servers.clone()));
        let standing = Arc::new(AtomicBool::new(false));
        let mut options = config
            .sign_on()?
            .name(&config.name)
            .connection_timeout(limits.connect)
            .request_timeout(Some(limits.answer))
            .ping_interval(limits.ping_interval)
            .subscription_capacity(limits.subscription_messages.max(1))
            .custom_inbox_prefix(&config.inbox_prefix)
            .max_reconnects(None)
            .reconnect_delay_callback(reconnect_delay(limits, Arc::clone(&standing)))
            .event_callback({
                let news = Arc::clone(&news);
                move |event| {
                    news.hear(event);
                    std::future::ready(())
                }
            });
        if let Some(roots) = &config.tls_roots {
            options = options.add_root_certificates(roots.clone()).require_tls(true);
        }
        let connecting = options.connect(addresses);
        let client = match timeout(limits.connect, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(source)) => return Err(failed(servers, limits.connect, source)),
            Err(_) => return Err(ConnectError::Timeout { servers, limit: limits.connect }),
        };
        let info = client.server_info();
        if !version::is_accepted(&info.version) {
            let wanted = version::OLDEST_SERVER;
            return Err(ConnectError::ServerTooOld { servers, found: info.version, wanted });
        }
        standing.store(true, Ordering::Relaxed);
        tracing::info!(servers, server = info.server_name, version = info.version, "connected to NATS");
        news.watch_over(&client);
        Ok(Self { client, news })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.news.link.subscribe()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.news.link.borrow().connected
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.news.closed.borrow()
    }

    pub(crate) fn dropped_messages(&self) -> u64 {
        self.news.dropped.load(Ordering::Relaxed)
    }

    /// Waits until a drained connection is gone, or marks one that is down as closed.
    pub(crate) async fn close(&self, limit: Duration) -> Result<(), ()> {
        let mut closed = self.news.closed.subscribe();
        if self.is_up() {
            timeout(limit, closed.wait_for(|closed| *closed)).await.map_err(|_| ())?.map(drop).map_err(|_| ())
        } else {
            self.news.closed.send_replace(true);
            Ok(())
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.news.client().take());
    }
}

impl News {
    fn new(servers: String) -> Self {
        Self {
            servers,
            link: watch::channel(Link { connected: false, connects: 0 }).0,
            closed: watch::channel(false).0,
            client: Mutex::default(),
            dropped: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            last_complaint: Mutex::default(),
        }
    }

    fn watch_over(&self, client: &Client) {
        *self.client() = Some(client.clone());
        self.link.send_replace(link_of(client));
    }

    fn client(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: Event) {
        match event {
            Event::Connected => self.set(true),
            Event::Disconnected => self.set(false),
            Event::Closed => {
                self.set(false);
                self.closed.send_replace(true);
            }
            Event::SlowConsumer(_) => self.count_dropped(),
            Event::LameDuckMode => tracing::info!(servers = self.servers, "the NATS server is about to stop"),
            Event::Draining => self.draining.store(true, Ordering::Relaxed),
            Event::ServerError(error) => self.complain(error.to_string()),
            Event::ClientError(error) => self.complain(error.to_string()),
        }
    }

    fn set(&self, connected: bool) {
        let Some(connects) = self.client().as_ref().map(connects) else { return };
        let before = self.link.send_replace(Link { connected, connects });
        if connected && before.connects != connects {
            tracing::info!(servers = self.servers, connects, "connected to NATS again");
        } else if before.connected && !connected && !self.draining.load(Ordering::Relaxed) {
            tracing::warn!(servers = self.servers, "connection to NATS lost");
        }
    }

    /// Each dropped message is an event of its own: told at 1, 2, 4, 8, … of them. A flood of these may crowd out
    /// the events of the connection itself, so its state is read again here.
    fn count_dropped(&self) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            tracing::warn!(
                servers = self.servers,
                dropped,
                "messages dropped: a subscription is read too slowly"
            );
        }
        let now = self.client().as_ref().map(link_of);
        if let Some(now) = now.filter(|now| *self.link.borrow() != *now) {
            self.set(now.connected);
        }
    }

    /// Failed reconnects repeat the same words; they are told when they change.
    fn complain(&self, complaint: String) {
        let mut last = self.last_complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != complaint {
            tracing::warn!(servers = self.servers, complaint, "NATS reports an error");
            *last = complaint;
        }
    }
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

fn link_of(client: &Client) -> Link {
    Link { connected: client.connection_state() == State::Connected, connects: connects(client) }
}

fn failed(servers: String, limit: Duration, source: async_nats::ConnectError) -> ConnectError {
    if fails_at_tls(&source) {
        return ConnectError::Untrusted { servers, source };
    }
    match source.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Refused { servers, source }
        }
        ConnectErrorKind::TimedOut => ConnectError::Timeout { servers, limit },
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ConnectError::Unreachable { servers, source },
    }
}

/// Whether two programs that reached each other could not agree on TLS: a wrong certificate, above all. The client
/// gives no kind of its own to that.
fn fails_at_tls(error: &async_nats::ConnectError) -> bool {
    if error.kind() == ConnectErrorKind::Tls {
        return true;
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(source) = next {
        let inner = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if source.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = source.source();
    }
    false
}

/// The client's own delays have no jitter, and its first reconnect none at all: ten thousand agents would come back
/// in the same instant. The very first connection is not delayed.
fn reconnect_delay(
    limits: &Limits,
    standing: Arc<AtomicBool>,
) -> impl Fn(usize) -> Duration + Send + Sync + use<> {
    let (first, longest) = (limits.reconnect_first, limits.reconnect_longest);
    move |attempt| {
        if !standing.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let random = getrandom::u64().unwrap_or(u64::from(std::process::id()));
        spread(first, longest, attempt, random)
    }
}

/// Anything up to `first × 2^(attempt - 1)`, at most `longest`: full jitter, so that those who lost the server together
/// do not come back together.
fn spread(first: Duration, longest: Duration, attempt: usize, random: u64) -> Duration {
    let full = doubled(first, longest, attempt);
    let span = u64::try_from(full.as_micros()).unwrap_or(u64::MAX - 1) + 1;
    Duration::from_micros(random % span)
}

fn doubled(first: Duration, longest: Duration, attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    first.saturating_mul(1 << doublings).min(longest)
}

/// Between half and all of `first × 2^(attempt - 1)`, at most `longest`; `random` picks where in between.
pub(crate) fn jittered(first: Duration, longest: Duration, attempt: usize, random: u64) -> Duration {
    let full = doubled(first, longest, attempt);
    let half = full / 2;
    let span = u64::try_from((full - half).as_micros()).unwrap_or(u64::MAX - 1) + 1;
    half + Duration::from_micros(random % span)
}

#[cfg(test)]
mod tests {
    use super::{jittered, reconnect_delay};
    use crate::Limits;
    use std::{
        collections::HashSet,
        sync::{Arc, atomic::AtomicBool},
        time::Duration,
    };

    #[test]
    fn delays_grow_to_the_longest_and_differ() {
        let (first, longest) = (Duration::from_millis(250), Duration::from_secs(8));
        for (attempt, full) in [(1, 250), (2, 500), (5, 4000), (6, 8000), (7, 8000), (usize::MAX, 8000)] {
            for random in [0, 1, u64::MAX / 2, u64::MAX] {
                let delay = jittered(first, longest, attempt, random);
                let full = Duration::from_millis(full);
                assert!(full / 2 <= delay && delay <= full, "{attempt} {random}: {delay:?}");
            }
        }
        // Reconnects are spread over all of it: each quarter has its part.
        let limits = Limits::default();
        let delay = reconnect_delay(&limits, Arc::new(AtomicBool::new(true)));
        for (attempt, full) in [(1, limits.reconnect_first), (9, limits.reconnect_longest)] {
            let seen: HashSet<_> = (0..200).map(|_| delay(attempt)).collect();
            assert!(seen.len() > 190, "{}", seen.len());
            for quarter in 0..4 {
                let part = full * quarter / 4..=full * (quarter + 1) / 4;
                assert!(
                    seen.iter().filter(|delay| part.contains(*delay)).count() > 20,
                    "{quarter}: {seen:?}"
                );
            }
        }
    }
}
