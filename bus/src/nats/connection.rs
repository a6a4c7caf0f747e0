//! The connection: made within a limit, made again with jittered delays, and its changes told once each.
//!
//! The client makes a lost connection again by itself. It does not outlive everything that a server may pass on to it, though: a
//! carriage return inside of a header ends its task (async-nats 0.51), and anybody who may publish can send one. So a client that
//! ended without being told to is replaced by another one, which is as good as a reconnect to everybody else.

use super::{
    config::NatsConfig,
    subscriptions::{Lasting, Subscriptions},
    version,
};
use crate::{BusError, ConnectError, Limits, Link};
use async_nats::{Client, ConnectErrorKind, Event, connection::State, rustls};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// The client in use, those who listen through it, and the news about it.
pub(crate) struct Connection {
    clients: watch::Sender<Client>,
    subscriptions: Arc<Subscriptions>,
    news: Arc<News>,
    keeper: JoinHandle<()>,
}

struct News {
    servers: String,
    link: watch::Sender<Link>,
    closed: watch::Sender<bool>,
    /// Set while the connection is in use. The client keeps its event callback, and with it this, alive; so this
    /// must let go of the client for the connection ever to end.
    client: Mutex<Option<Client>>,
    /// How many connections the clients made that ended.
    earlier: AtomicU64,
    dropped: AtomicU64,
    /// Being closed by ourselves: losing the connection is then no news.
    draining: AtomicBool,
    last_complaint: Mutex<String>,
}

/// The first delay before another client takes the place of one that ended: the server is there, and nobody else lost it in the same
/// moment. The longest is the first of those before a reconnect: in a flood, whatever is heard is heard between two of its messages.
const SUCCESSOR_FIRST: Duration = Duration::from_millis(20);
/// A client that lived so long did not end by a flood.
const SETTLED: Duration = Duration::from_millis(200);

/// Resolves when the client's task has ended, which drops the sender.
type Life = oneshot::Receiver<()>;

impl Connection {
    /// Connects within the limit and refuses servers that are too old.
    pub(crate) async fn make(config: &NatsConfig) -> Result<Self, ConnectError> {
        let news = Arc::new(News::new(config.servers()));
        let (client, life) = connect(config, &news).await?;
        let info = client.server_info();
        let servers = config.servers();
        tracing::info!(servers, server = info.server_name, version = info.version, "connected to NATS");
        news.watch_over(&client);
        let clients = watch::channel(client).0;
        let subscriptions = Arc::<Subscriptions>::default();
        let keeping =
            keep(config.clone(), Arc::clone(&news), clients.clone(), Arc::clone(&subscriptions), life);
        Ok(Self { clients, subscriptions, news, keeper: tokio::spawn(keeping) })
    }

    /// The client in use; another one once it has ended.
    pub(crate) fn client(&self) -> Client {
        self.clients.borrow().clone()
    }

    /// The clients in use from now on.
    pub(crate) fn clients(&self) -> watch::Receiver<Client> {
        self.clients.subscribe()
    }

    /// Listens, whichever client is in use.
    pub(crate) async fn subscribe(&self, filter: &str, group: Option<&str>) -> Result<Lasting, BusError> {
        if self.is_closed() {
            return Err(BusError::Closed);
        }
        Ok(self.subscriptions.add(&self.clients, filter, group).await)
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.news.link.subscribe()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.news.link.borrow().connected
    }

    /// How many times a connection was made, the first included.
    pub(crate) fn connects(&self) -> u64 {
        self.news.link.borrow().connects
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
        let gone = if self.is_up() {
            timeout(limit, closed.wait_for(|closed| *closed)).await.map_err(|_| ())?.map(drop).map_err(|_| ())
        } else {
            self.news.closed.send_replace(true);
            Ok(())
        };
        self.subscriptions.end().await;
        gone
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.keeper.abort();
        drop(self.news.client().take());
    }
}

/// One client, connected within the limit, and its life.
async fn connect(config: &NatsConfig, news: &Arc<News>) -> Result<(Client, Life), ConnectError> {
    let addresses = config.addresses()?;
    let servers = config.servers();
    let limits = &config.limits;
    let standing = Arc::new(AtomicBool::new(false));
    let (alive, life) = oneshot::channel();
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
            let news = Arc::clone(news);
            move |event| {
                // The client's task holds this callback until it ends, however it ends.
                let _: &oneshot::Sender<()> = &alive;
                news.hear(event);
                std::future::ready(())
            }
        });
    if let Some(roots) = &config.tls_roots {
        options = options.add_root_certificates(roots.clone()).require_tls(true);
    }
    let client = match timeout(limits.connect, options.connect(addresses)).await {
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
    Ok((client, life))
}

/// Puts another client in the place of each one that ended, until the connection is closed.
async fn keep(
    config: NatsConfig,
    news: Arc<News>,
    clients: watch::Sender<Client>,
    subscriptions: Arc<Subscriptions>,
    mut life: Life,
) {
    let mut attempt = 0;
    loop {
        let began = Instant::now();
        life.await.ok();
        if *news.closed.borrow() || news.draining.load(Ordering::Relaxed) {
            return;
        }
        news.mourn();
        if began.elapsed() > SETTLED {
            attempt = 0;
        }
        let (client, lives) = loop {
            attempt += 1;
            let longest = config.limits.reconnect_first;
            sleep(spread(SUCCESSOR_FIRST, longest, attempt, getrandom::u64().unwrap_or_default())).await;
            if *news.closed.borrow() {
                return;
            }
            match connect(&config, &news).await {
                Ok(made) => break made,
                Err(error) => news.complain(error.to_string()),
            }
        };
        // Whoever is told of the new connection finds all subscriptions made.
        subscriptions.renew(&client).await;
        clients.send_replace(client.clone());
        news.watch_over(&client);
        life = lives;
    }
}

impl News {
    fn new(servers: String) -> Self {
        Self {
            servers,
            link: watch::channel(Link { connected: false, connects: 0 }).0,
            closed: watch::channel(false).0,
            client: Mutex::default(),
            earlier: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            last_complaint: Mutex::default(),
        }
    }

    fn watch_over(&self, client: &Client) {
        *self.client() = Some(client.clone());
        let link = self.link_of(client);
        if self.link.send_replace(link).connects > 0 {
            tracing::info!(servers = self.servers, connects = link.connects, "connected to NATS again");
        }
    }

    /// The client ended, and nobody told it to.
    fn mourn(&self) {
        if let Some(client) = self.client().take() {
            self.earlier.fetch_add(made(&client), Ordering::Relaxed);
        }
        let connects = self.link.borrow().connects;
        self.link.send_replace(Link { connected: false, connects });
        tracing::warn!(
            servers = self.servers,
            "BUS-01: the NATS client ended over something that the server passed on to it; another takes its place"
        );
    }

    fn link_of(&self, client: &Client) -> Link {
        let connects = self.earlier.load(Ordering::Relaxed) + made(client);
        Link { connected: client.connection_state() == State::Connected, connects }
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
        let Some(connects) = self.client().as_ref().map(|client| self.link_of(client).connects) else {
            return;
        };
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
        let now = self.client().as_ref().map(|client| self.link_of(client));
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

/// How many connections a client has made.
fn made(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
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
