//! Telling people of alerts: the channels of this coordinator's configuration, while it leads.
//!
//! ```text
//! alerts ──changes──▶ courier of each channel ── what is next: protocol::notify ──▶ nats, webhook, smtp
//! log ──────────────▶ ping                    ── whether the fleet is ready ──────▶ a service outside
//! desk ── test, channels ──▶ Notifier
//! ```
//!
//! Must never hold up a round or another channel, and never show a secret: addresses are shown up to their host.

mod address;
mod channel;
pub(crate) mod config;
mod courier;
mod error;
mod file;
mod health;
mod http;
mod ping;
mod smtp;
mod webhook;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_bus::Bus;
use muster_protocol::alert::{About, Alert, Code};
use muster_protocol::ids::{ChannelName, FleetId, FleetName};
use muster_protocol::log::State;
use muster_protocol::notify::{Kind, Notification};
use muster_protocol::subject::Subjects;
use muster_protocol::time::UnixMillis;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::alerts::Alerts;
use crate::lead::Standing;
use crate::query::{ChannelView, ChannelsPage, TestView};
use crate::scribe::unix_now;
use config::{ChannelKind, NotifyConfig};
use file::Ledgers;
use health::{Health, Healths, cut};

pub(crate) use channel::Channel;
pub(crate) use error::NotifyError;

/// Tests that are remembered, so that one that is sent again is none anew.
const REMEMBERED: usize = 256;

/// The channels of a configuration, ready for use.
///
/// # Errors
/// When a file that it names cannot be used.
pub(crate) fn open(config: &[NotifyConfig]) -> Result<Vec<Arc<Channel>>, NotifyError> {
    config.iter().map(|channel| Channel::open(channel).map(Arc::new)).collect()
}

/// What all couriers share.
pub(crate) struct Office {
    fleet: FleetName,
    channels: Vec<Arc<Channel>>,
    alerts: Alerts,
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    standing: Standing,
    ledgers: Ledgers,
    health: Healths,
    /// When this lead began.
    began: UnixMillis,
    /// Ids of tests that were asked for.
    tests: Mutex<VecDeque<String>>,
}

/// The world that couriers work in.
pub(crate) struct World<'a> {
    pub(crate) fleet: FleetName,
    pub(crate) id: FleetId,
    pub(crate) state: &'a Path,
    pub(crate) alerts: Alerts,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) subjects: Subjects,
    pub(crate) standing: Standing,
}

impl Office {
    fn of(channels: Vec<Arc<Channel>>, world: World<'_>) -> Self {
        let World { fleet, id, state, alerts, bus, subjects, standing } = world;
        Self {
            fleet,
            channels,
            alerts,
            bus,
            subjects,
            standing,
            ledgers: Ledgers::open(state, id),
            health: Healths::default(),
            began: unix_now(),
            tests: Mutex::default(),
        }
    }

    fn next(&self, channel: &Channel, room: usize) -> Option<Notification> {
        let now = unix_now();
        let (kind, events, before) = self.alerts.read(|book| {
            self.ledgers.with(channel.name(), |ledger| {
                let (kind, events) = ledger.next(book, &channel.terms, self.began, now, room)?;
                let before = ledger.last_told(&events);
                Some((kind, events, before))
            })
        })?;
        Some(Notification::new(self.fleet.clone(), channel.name().clone(), kind, events, before, now))
    }

    /// Notes that the message is on its way, before it is: what was told must be known to have been, whenever this process ends.
    async fn begins(self: &Arc<Self>, channel: &Channel, notification: &Notification) {
        if self.ledgers.with(channel.name(), |ledger| ledger.begin(&notification.events)) {
            self.save().await;
        }
    }

    fn gave_up(&self, channel: &Channel, notification: &Notification) {
        self.ledgers.with(channel.name(), |ledger| ledger.give_up(&notification.events));
    }

    async fn told(self: &Arc<Self>, channel: &Channel, notification: &Notification) {
        let Notification { kind, events, .. } = notification;
        self.ledgers.with(channel.name(), |ledger| ledger.take(*kind, events, unix_now()));
        self.save().await;
    }

    async fn save(self: &Arc<Self>) {
        let office = Arc::clone(self);
        // A panic in there has printed itself; the next message writes again.
        let _ = tokio::task::spawn_blocking(move || office.ledgers.save()).await;
    }
}

/// How long a coordinator that cannot go on tries to tell of it.
const FAREWELL: Duration = Duration::from_secs(5);
/// Longest pause between two tries of that.
const SOON: Duration = Duration::from_millis(500);

/// Tells of the one alert that ends this coordinator: nobody leads to tell of it, and the couriers are gone. What is not told by
/// then stands in the book, until somebody leads from this folder again.
pub(crate) async fn farewell(channels: Vec<Arc<Channel>>, world: World<'_>, code: Code, about: &About) {
    let Some(alert) = world.alerts.read(|book| book.find(code, about).cloned()) else { return };
    let office = Arc::new(Office::of(channels, world));
    let mut tasks: JoinSet<()> = office.channels.iter().map(|c| last_word(&office, c, &alert)).collect();
    if timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(%code, "not every channel has taken the last message");
    }
}

/// The last message over one channel, tried until it arrives.
fn last_word(
    office: &Arc<Office>,
    channel: &Arc<Channel>,
    alert: &Alert,
) -> impl Future<Output = ()> + Send + use<> {
    let (office, channel, alert) = (Arc::clone(office), Arc::clone(channel), alert.clone());
    async move {
        let event = match channel.kind {
            // A ping says that all is well: its silence is the message.
            ChannelKind::Ping => None,
            ChannelKind::Nats | ChannelKind::Webhook | ChannelKind::Smtp => {
                office.ledgers.with(channel.name(), |ledger| ledger.opening(&alert, &channel.terms))
            }
        };
        let Some(event) = event else { return };
        let events = vec![event];
        let before = office.ledgers.with(channel.name(), |ledger| ledger.last_told(&events));
        let (fleet, name) = (office.fleet.clone(), channel.name().clone());
        let message = Notification::new(fleet, name, Kind::Alert, events, before, unix_now());
        office.begins(&channel, &message).await;
        while let Err(wait) = courier::attempt_once(&office, &channel, &message).await {
            sleep(wait.pause.min(SOON)).await;
        }
        office.told(&channel, &message).await;
    }
}

/// The way to the channels, for the desk.
#[derive(Clone)]
pub(crate) struct Notifier {
    office: Arc<Office>,
    log: watch::Receiver<Arc<State>>,
}

impl Notifier {
    /// The channels at work, and their tasks, which end with the lead.
    pub(crate) fn start(
        channels: Vec<Arc<Channel>>,
        world: World<'_>,
        log: watch::Receiver<Arc<State>>,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let office = Office::of(channels, world);
        office.close_gone();
        let office = Arc::new(office);
        let begin = |channel: &Arc<Channel>| {
            let (office, channel) = (Arc::clone(&office), Arc::clone(channel));
            match channel.kind {
                ChannelKind::Ping => tokio::spawn(ping::work(office, channel, log.clone())),
                ChannelKind::Nats | ChannelKind::Webhook | ChannelKind::Smtp => {
                    tokio::spawn(courier::work(office, channel))
                }
            }
        };
        let tasks = office.channels.iter().map(begin).collect();
        (Self { office, log }, tasks)
    }

    /// Sends a test over the channels that are meant.
    ///
    /// # Errors
    /// When there is none such.
    pub(crate) fn test(&self, request: &str, wanted: Option<&ChannelName>) -> Result<String, String> {
        let channels = &self.office.channels;
        let meant: Vec<_> =
            channels.iter().filter(|channel| wanted.is_none_or(|name| name == channel.name())).collect();
        if meant.is_empty() {
            return Err(match wanted {
                Some(name) => format!("the coordinator that leads has no channel {name}"),
                None => "the coordinator that leads has no channel: coordinator.toml names none".to_owned(),
            });
        }
        let count = meant.len();
        if self.is_new(request) {
            for channel in meant {
                let pending = TestView { request: request.to_owned(), delivered: None, said: None };
                self.office.health.with(channel.name(), |health| health.test = Some(pending));
                tokio::spawn(test(self.clone(), Arc::clone(channel), request.to_owned()));
            }
        }
        Ok(format!("a test goes over {count} of {} channels", channels.len()))
    }

    fn is_new(&self, request: &str) -> bool {
        let mut tests = self.office.tests.lock().unwrap_or_else(PoisonError::into_inner);
        if tests.iter().any(|known| known == request) {
            return false;
        }
        tests.push_back(request.to_owned());
        while tests.len() > REMEMBERED {
            tests.pop_front();
        }
        true
    }

    /// How the channels do, after this one.
    pub(crate) fn page(&self, after: Option<&ChannelName>, page: usize) -> ChannelsPage {
        let mut rest: Vec<_> = self.office.channels.iter().collect();
        rest.sort_by_key(|channel| channel.name());
        rest.retain(|channel| after.is_none_or(|after| channel.name() > after));
        let next = rest.get(page - 1).filter(|_| rest.len() > page).map(|channel| channel.name().clone());
        let view = |channel: &Arc<Channel>| {
            let health = self.office.health.with(channel.name(), |health| health.clone());
            view(channel, health, &self.office.subjects)
        };
        ChannelsPage { channels: rest.into_iter().take(page).map(view).collect(), next }
    }
}

impl Office {
    /// Channels that are no more cannot be failing.
    fn close_gone(&self) {
        let failing = self.alerts.read(|book| {
            let of = book.open().filter(|alert| alert.code == Code::Notify01);
            of.map(|alert| alert.about.clone()).collect::<Vec<_>>()
        });
        let is_there = |about: &About| {
            self.channels.iter().any(|channel| *about == About::Channel(channel.name().clone()))
        };
        for about in failing.iter().filter(|about| !is_there(about)) {
            self.alerts.mended(Code::Notify01, about);
        }
    }
}

/// One test over one channel, and what the other side answered.
async fn test(notifier: Notifier, channel: Arc<Channel>, request: String) {
    let office = &notifier.office;
    let state = notifier.log.borrow().clone();
    let unready = match channel.kind {
        // A ping says that the fleet is ready: a test must not say so where it is not.
        ChannelKind::Ping => office.alerts.ready(&state).err(),
        ChannelKind::Nats | ChannelKind::Webhook | ChannelKind::Smtp => None,
    };
    let (delivered, said) = match unready {
        Some(why) => (true, format!("not pinged, as it should be: {why}")),
        None => {
            let (fleet, name) = (office.fleet.clone(), channel.name().clone());
            let notification = Notification::test(fleet, name, &request, unix_now());
            match channel.deliver(&notification, office.bus.as_ref(), &office.subjects).await {
                Ok(said) => {
                    courier::arrived(office, &channel);
                    (true, said)
                }
                Err(error) => {
                    courier::failed(office, &channel, &error);
                    (false, error.why)
                }
            }
        }
    };
    let done = TestView { request, delivered: Some(delivered), said: Some(cut(&said)) };
    office.health.with(channel.name(), |health| health.test = Some(done));
}

fn view(channel: &Channel, health: Health, subjects: &Subjects) -> ChannelView {
    let state = match &health {
        Health { failures: 1.., .. } => "failing",
        Health { withheld: Some(_), .. } => "withheld",
        Health { last_success: Some(_), .. } => "ok",
        Health { .. } => "untried",
    };
    ChannelView {
        channel: channel.name().clone(),
        kind: channel.kind.as_str().to_owned(),
        place: channel.place(subjects),
        state: state.to_owned(),
        last_success: health.last_success,
        last_failure: health.last_failure,
        reason: health.error.or(health.withheld),
        test: health.test,
    }
}
