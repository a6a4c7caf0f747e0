//! Follows a round until it is verified or has ended. The log on the share says when that is; what the leader tells over
//! the bus only fills the screen meanwhile.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use muster_coordinator::query::{RoundPage, ServiceView};
use muster_coordinator::view::live::{Live, ProgressLine};
use muster_protocol::ids::RoundId;
use muster_protocol::log::RoundPhase;
use muster_protocol::message::{TriggerReply, TriggerState};
use muster_protocol::units::{format_duration, format_size};

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::leader::{Leader, Order};
use crate::round_view::{self, RoundView};
use crate::screen;

/// How often the log is looked at without a leader to ask.
const LOOK: Duration = Duration::from_millis(400);
/// How often the log is read on.
const READ: Duration = Duration::from_secs(1);
/// How often a request whose round nobody knows is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Services that fit a screen.
const SHOWN: usize = 24;

/// Widest column of names.
const LONGEST_NAME: usize = 32;

/// What is shown on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Bars on a terminal, a line for each change elsewhere.
    People,
    /// A JSON line for each change; of bytes and speed alone, at most one a second.
    Json,
    /// Nothing.
    Nothing,
}

/// Follows `round` for at most `limit`. A request that waits for its services lives in its leader's memory alone: `request`
/// is asked again when a leader does not know the round, and is the same round each time.
///
/// # Errors
/// When the log cannot be read for good, the request is refused, or the limit passes.
pub(crate) async fn follow(
    fleet: &mut Fleet,
    leader: Option<&Leader>,
    round: RoundId,
    request: Option<&Order>,
    limit: Duration,
    show: Show,
) -> Result<RoundView, Failure> {
    let began = Instant::now();
    let mut display = Display::new(show);
    let mut read: Option<Instant> = None;
    let mut asked = began;
    let pause = leader.map_or(LOOK, |leader| leader.again * 2);
    loop {
        let page = match leader {
            Some(leader) => leader.round(round).await.ok().flatten(),
            None => None,
        };
        let left_desk = page.as_ref().is_none_or(|page| page.outcome.is_some());
        // It has a number once it is in the log.
        if let Some(page) = page.as_ref().filter(|page| page.summary.number > 0) {
            display.page(page);
        }
        if left_desk || read.is_none_or(|last| last.elapsed() >= READ) {
            match fleet.log.refresh().await {
                Ok(_) => {}
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
            read = Some(Instant::now());
        }
        // The leader's last word on a round that was committed but not found whole.
        let unverified = page.as_ref().is_some_and(|page| Some(&page.summary.state) == page.outcome.as_ref());
        if let Some(state) = fleet.state().rounds.get(&round) {
            let over = match &state.phase {
                RoundPhase::Open => false,
                RoundPhase::Committed { verified: Some(_), .. } | RoundPhase::Ended(_) => true,
                RoundPhase::Committed { verified: None, .. } => unverified,
            };
            if over {
                display.end();
                fleet.remember()?;
                let state = state.clone();
                return Ok(RoundView::read(&fleet.shown(), &state).await?);
            }
        } else if let (None, Some(leader), Some(request)) = (&page, leader, request)
            && asked.elapsed() >= ASK_AGAIN
        {
            // Nobody may lead just now: then it is asked once more.
            if let Ok(reply) = leader.start(request).await {
                still_wanted(&reply)?;
            }
            asked = Instant::now();
        }
        if began.elapsed() >= limit {
            display.end();
            return Err(too_long(leader, round, limit).await);
        }
        tokio::time::sleep(pause).await;
    }
}

/// The waiting is over, and not the round: with what its leader says is wrong with the share, which keeps rounds from ending.
async fn too_long(leader: Option<&Leader>, round: RoundId, limit: Duration) -> Failure {
    let what = format!("round {} has not ended within {}", round.short(), format_duration(limit));
    let mut failure = Failure::new(Exit::Failed, what)
        .because("Only the waiting is over: whoever leads goes on with the round, or does so when somebody leads again.");
    let alerts = match leader {
        Some(leader) => leader.alerts(false).await.map(|(alerts, _)| alerts).unwrap_or_default(),
        None => Vec::new(),
    };
    for alert in alerts.iter().filter(|alert| alert.code.as_str().starts_with("SHARE-")) {
        failure = failure.because(format!("{}: {}", alert.code, alert.cause));
        for step in alert.code.steps() {
            failure = failure.next(*step);
        }
    }
    failure.next(format!("muster watch {round}"))
}

/// Fails once a request that waited will become no round.
fn still_wanted(reply: &TriggerReply) -> Result<(), Failure> {
    match reply.state {
        TriggerState::Opened | TriggerState::Running | TriggerState::Ended | TriggerState::Queued => Ok(()),
        TriggerState::Skipped | TriggerState::Refused => {
            let reason = reply.reason.as_deref().unwrap_or("no reason was given");
            Err(Failure::new(Exit::Refused, format!("the request became no round: {reason}"))
                .next("muster rounds"))
        }
    }
}

/// Runs `work` until Ctrl-C. `followed` is the round that is followed by then, as `watch` takes it.
pub(crate) async fn until_interrupted(
    work: impl Future<Output = Outcome>,
    followed: &OnceLock<String>,
) -> Outcome {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => {
            match followed.get() {
                Some(round) => screen::asides(format!("interrupted; round {round} goes on\n  → muster watch {round}")),
                None => screen::asides("interrupted; a round that was opened goes on\n  → muster watch"),
            }
            Ok(Exit::Interrupted)
        }
    }
}

/// Prints how a followed round ended.
pub(crate) fn finish(view: &RoundView, show: Show) -> Exit {
    match show {
        Show::Json => screen::json(view),
        Show::People => {
            screen::line(view.summary());
            for trouble in view.troubles() {
                screen::line(format!("  {trouble}"));
            }
            if round_view::exit(view) == Exit::Damaged {
                screen::line(format!("  → VERIFY-01: muster verify {}", view.number));
            }
        }
        Show::Nothing => {}
    }
    round_view::exit(view)
}

struct Display {
    show: Show,
    said: BTreeMap<String, String>,
    live: Live,
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Display {
    fn new(show: Show) -> Self {
        Self {
            show,
            said: BTreeMap::new(),
            live: Live::default(),
            bars: MultiProgress::new(),
            lines: Vec::new(),
        }
    }

    fn page(&mut self, page: &RoundPage) {
        match self.show {
            Show::Nothing => {}
            Show::Json => {
                if self.live.is_due(page, Instant::now()) {
                    screen::json(&ProgressLine::of(page));
                }
            }
            Show::People if screen::is_terminal() => self.draw(page),
            Show::People => self.changes(page),
        }
    }

    /// A line for each service whose state is another than before.
    fn changes(&mut self, page: &RoundPage) {
        for service in &page.services {
            let mut now = service.state.clone();
            if let Some(reason) = &service.reason {
                now = format!("{now}: {reason}");
            }
            if self.said.get(service.service.as_str()) != Some(&now) {
                screen::line(format!("round {} · {}: {now}", page.summary.number, service.service));
                self.said.insert(service.service.to_string(), now);
            }
        }
    }

    fn draw(&mut self, page: &RoundPage) {
        let summary = &page.summary;
        let mut lines = vec![format!(
            "round {} · {} · {} of {} stored · {}, at most {} left",
            summary.number,
            summary.state,
            summary.stored,
            summary.services,
            format_duration(Duration::from_secs(summary.elapsed_secs)),
            format_duration(Duration::from_secs(summary.remaining_secs)),
        )];
        let longest = page.services.iter().map(|service| service.service.as_str().len()).max();
        let width = longest.unwrap_or_default().min(LONGEST_NAME);
        lines.extend(first(&page.services).take(SHOWN).map(|service| service_line(service, width)));
        if page.services.len() > SHOWN {
            lines.push(format!("… and {} more", page.services.len() - SHOWN));
        }
        while self.lines.len() < lines.len() {
            let style = ProgressStyle::with_template("{wide_msg}").expect("a fixed template is valid");
            self.lines.push(self.bars.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (bar, line) in self.lines.iter().zip(lines) {
            bar.set_message(screen::plain(&line).into_owned());
            bar.tick();
        }
    }

    fn end(&mut self) {
        for bar in self.lines.drain(..) {
            bar.finish_and_clear();
        }
    }
}

/// The services in the order in which they are of interest: at work, in trouble, waiting, done. A screen holds only so many.
fn first(services: &[ServiceView]) -> impl Iterator<Item = &ServiceView> {
    let rank = |service: &ServiceView| match service.state.as_str() {
        "capturing" | "holding" | "checking" => 0,
        "retrying" | "absent" => 1,
        "stored" => 3,
        _ => 2,
    };
    let mut sorted: Vec<_> = services.iter().collect();
    if services.len() > SHOWN {
        sorted.sort_by_key(|service| rank(service));
    }
    sorted.into_iter()
}

fn service_line(service: &ServiceView, width: usize) -> String {
    let state = service.stage.as_deref().unwrap_or(&service.state);
    let mut line = format!("{:<width$} {state:<10}", service.service.as_str());
    match service.expected_bytes.filter(|expected| *expected > 0) {
        Some(expected) if service.stored_bytes.is_none() => {
            // An estimate may be passed; a bar may not.
            let shown = u128::from(service.source_bytes.min(expected)) * 20 / u128::from(expected);
            let tenths = usize::try_from(shown).unwrap_or(20);
            line.push_str(&format!(
                " {:<20} {} of {}",
                "█".repeat(tenths),
                format_size(service.source_bytes),
                format_size(expected)
            ));
        }
        Some(_) | None => line.push_str(&format!(" {}", format_size(service.source_bytes))),
    }
    line.push_str(&format!(", {} added", format_size(service.added_bytes)));
    if let Some(rate) = service.bytes_per_sec {
        line.push_str(&format!(", {}/s", format_size(rate)));
    }
    if let Some(left) = service.secs_left {
        line.push_str(&format!(", {} left", format_duration(Duration::from_secs(left))));
    }
    if service.attempts > 1 {
        line.push_str(&format!(", attempt {}", service.attempts));
    }
    if let Some(reason) = &service.reason {
        line.push_str(&format!(" · {reason}"));
    }
    line
}
