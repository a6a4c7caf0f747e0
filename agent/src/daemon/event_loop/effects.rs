//! Effects: what the slice machine wants done becomes a task.

use std::sync::Arc;
use std::time::SystemTime;

use muster_bus::Headers;
use muster_protocol::ids::{Nonce, RoundId};
use muster_protocol::slice::{Effect, Event, Reported, Standing};
use muster_protocol::subject::Subject;
use muster_telemetry::span::{Finished, Place, Side};
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use super::super::beat::progress;
use super::super::belief::Order;
use super::super::capturer::{Capturer, Running};
use super::super::slice_task::{Task, guarded};

use super::{Capture, Daemon, Report};

impl<C: Capturer> Daemon<C> {
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            let span = self.current_span();
            let _within = span.enter();
            match effect {
                Effect::Hello { round, attempt, .. } => self.hello(round, attempt),
                Effect::Capture { round } => self.begin_capture(round),
                Effect::Tell { round, attempt, standing, .. } => self.tell(round, attempt, standing),
                Effect::WriteReceipt { round, attempt, cut } => self.write_receipt(round, attempt, cut),
                Effect::Quiesce { round } => self.quiesce(round),
                Effect::Release { round } => self.release(round),
                Effect::Notice { round, attempt, reported, .. } => self.notice(round, attempt, reported),
                Effect::Drop { round } => self.drop_work(round),
                Effect::Keep { receipt, .. } => {
                    let capturer = Arc::clone(&self.capturer);
                    self.tasks
                        .spawn(async move { Report::Kept { receipt, kept: capturer.keep(receipt).await } });
                }
            }
        }
        self.tell_of_hold();
        let doing = self.machine.work();
        self.doing.send_if_modified(|now| std::mem::replace(now, doing) != doing);
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// The order that the machine works for. The machine follows orders, so it is there.
    pub(super) fn order(&self, round: RoundId) -> Order {
        let order = self.order.as_ref().filter(|order| order.round == round);
        order.cloned().expect("the machine works only for the order it was given last")
    }

    /// Begins a conversation; the one before, if any, is over.
    pub(super) fn begin_talk(
        &mut self,
        ticket: u64,
        talk: impl Future<Output = Report<C>> + Send + 'static,
        span: Span,
    ) {
        let handle = self.tasks.spawn(talk.instrument(span));
        if let Some((_, former)) = self.talk.replace((ticket, handle)) {
            former.abort();
        }
    }

    /// What was said over the former connection may be lost with it, and so its answer: it is said again, soon.
    pub(super) fn ask_again(&mut self) {
        let Some((_, former)) = self.talk.take() else { return };
        former.abort();
        // The machine takes the one that it waits for.
        self.handle(Event::HelloUnanswered);
        self.handle(Event::NoticeUnanswered);
        self.handle(Event::StandingUnanswered);
    }

    pub(super) fn is_current_talk(&mut self, ticket: u64) -> bool {
        self.talk.take_if(|(current, _)| *current == ticket).is_some()
    }

    pub(super) fn hello(&mut self, round: RoundId, attempt: u32) {
        let (order, ticket, talker, limit) =
            (self.order(round), self.ticket(), self.talker.clone(), self.pace.hello);
        let service = self.identity.service.as_str();
        let span = tracing::info_span!(target: muster_telemetry::LINES_ONLY, "hello", service, round = round.to_string(), attempt);
        let talk = async move {
            let answer = talker.hello(&order, attempt, limit).await;
            Report::Hello { ticket, round, answer }
        };
        self.begin_talk(ticket, talk, span);
    }

    pub(super) fn notice(&mut self, round: RoundId, attempt: u32, reported: Reported) {
        let (order, ticket, talker, limit) =
            (self.order(round), self.ticket(), self.talker.clone(), self.pace.notice);
        let talk = async move {
            let answer = talker.notice(&order, attempt, reported, limit).await;
            Report::Notice { ticket, round, attempt, answer }
        };
        let span = self.slice_span(round);
        self.begin_talk(ticket, talk, span);
    }

    pub(super) fn tell(&mut self, round: RoundId, attempt: u32, standing: Standing) {
        let (order, ticket, talker, limit) =
            (self.order(round), self.ticket(), self.talker.clone(), self.pace.notice);
        let talk = async move {
            let answer = talker.standing(&order, attempt, standing, limit).await;
            Report::Standing { ticket, round, attempt, answer }
        };
        let span = self.slice_span(round);
        self.begin_talk(ticket, talk, span);
    }

    pub(super) fn begin_capture(&mut self, round: RoundId) {
        let ticket = self.ticket();
        let run = Arc::new(self.capturer.run());
        let running = Running { capturer: Arc::clone(&self.capturer), run: Arc::clone(&run) };
        // Whatever ran before is cancelled here, and waited for in the task.
        self.capture = Some(Capture { ticket, running: Some(running), captured: None });
        let (end, ended) = oneshot::channel();
        let former = self.winding_down.replace(ended);
        let log = self.log.clone().expect("nothing is ordered before the log was read");
        let task = Task {
            capturer: Arc::clone(&self.capturer),
            run: Arc::clone(&run),
            store: Arc::clone(&self.store),
            log,
            service: self.identity.service.clone(),
            round,
            lists: std::mem::take(&mut self.lists),
            former,
            wind_down: self.pace.wind_down,
            gate: self.gate.clone(),
            bandwidth: self.terms.bandwidth,
        };
        let telling = progress(
            Arc::clone(&self.identity),
            Arc::clone(&self.bus),
            self.pace.progress,
            {
                let (capturer, run) = (Arc::clone(&self.capturer), Arc::clone(&run));
                move || capturer.gauged(&run)
            },
            self.doing.subscribe(),
            self.talker.session.clone(),
        );
        tracing::info!(round = round.to_string(), "capturing");
        let (over, is_over) = oneshot::channel::<()>();
        let work = async move {
            // Dropped when the task has ended, however it did.
            let (_end, _over) = (end, over);
            let (lists, captured) = tokio::select! {
                done = task.work() => done,
                () = telling => unreachable!("progress is told for ever"),
            };
            Report::Captured { ticket, round, lists, captured }
        };
        let capturer = Arc::clone(&self.capturer);
        self.tasks.spawn(async move {
            let read = tokio::select! {
                () = capturer.sources_read(run) => true,
                _ = is_over => false,
            };
            Report::SourcesRead { ticket, round, read }
        });
        let span = self.slice_span(round);
        self.tasks.spawn(work.instrument(span));
    }

    pub(super) fn write_receipt(&mut self, round: RoundId, attempt: u32, cut: Option<Nonce>) {
        let order = self.order(round);
        let ticket = self.capture.as_ref().map_or(0, |capture| capture.ticket);
        let captured = self.capture.as_ref().and_then(|capture| capture.captured.clone());
        let captured = captured.expect("a receipt is written only of what is captured");
        let nonce = order.nonce.for_attempt(&self.identity.service, attempt);
        let head = self.log.as_ref().expect("nothing is ordered before the log was read").head;
        let capturer = Arc::clone(&self.capturer);
        let within = self.slice_span(round);
        let span = tracing::info_span!(parent: &within, "receipt");
        let work = async move {
            let writing = async move { capturer.write_receipt(&captured, attempt, nonce, head, cut).await };
            let written = guarded("writing the receipt", writing).await;
            Report::Receipt { ticket, round, attempt, written }
        };
        self.tasks.spawn(work.instrument(span));
    }

    pub(super) fn drop_work(&mut self, round: RoundId) {
        tracing::info!(round = round.to_string(), "the round needs nothing more of this service");
        self.capture = None;
        self.span = None;
        if let Some((_, talk)) = self.talk.take() {
            talk.abort();
        }
    }

    /// The span of the slice that is being made; none of its own while there is none.
    pub(super) fn current_span(&self) -> Span {
        self.span.as_ref().map_or_else(Span::none, |(_, _, span)| span.clone())
    }

    /// The span that everything of one slice is in.
    pub(super) fn slice_span(&mut self, round: RoundId) -> Span {
        match &self.span {
            Some((current, _, span)) if *current == round => span.clone(),
            Some(_) | None => self.begin_span(round, 1, &Headers::new()),
        }
    }

    /// Begins the span of an attempt, within the trace that the order came with. A leader that tells of no trace has none: neither
    /// has the agent.
    pub(super) fn begin_span(&mut self, round: RoundId, attempt: u32, headers: &Headers) -> Span {
        let service = self.identity.service.as_str();
        let span = tracing::info_span!(parent: None, "slice", service, round = round.to_string(), attempt);
        let sent = Place::of_headers(headers).unwrap_or_else(|| Place::root(*round.as_bytes()).untold());
        let taken = sent.below("process");
        muster_telemetry::set_parent(&span, taken);
        let subject = self.identity.subject(Subject::Hello);
        Finished::new("process order", taken, Some(sent), SystemTime::now())
            .message(Side::Consumer, "order", &subject, "muster.v1.{fleet}.hello.{service}")
            .with("muster.service", service)
            .tell();
        self.span = Some((round, attempt, span.clone()));
        span
    }
}
