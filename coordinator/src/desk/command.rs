//! Commands: what operators demand: a round, an end to one, an alert acknowledged, a test of the notifications.

use muster_bus::Reply;
use muster_protocol::alert::{About, AlertRef, Code};
use muster_protocol::ids::{KeyId, Nonce, RoundId};
use muster_protocol::log::{Member, Role};
use muster_protocol::message::{
    Command, CommandReply, CommandState, Demand, MAX_REASON_LEN, Trigger, cut_reason,
};
use muster_protocol::round::Event;

use crate::ignored::Reason;

use super::Desk;
use super::requests::{Origin, Waiter, command_reply};

impl Desk {
    /// Carries a command out, if its key may demand it, and answers.
    pub(super) fn command(&mut self, key: &KeyId, command: Command, reply: Reply) {
        let state = self.state();
        let who = state.members.get(key).filter(|member| member.revoked.is_none()).map(|m| m.member.clone());
        let (state, reason) = match who {
            // Nobody of this fleet: not answered, as any message that is none of ours.
            None => {
                let why = format!("a command of unknown key {}", key.short());
                return self.setting.ignored.one(Reason::Command, About::Key(*key), &why);
            }
            Some(who) if !commands(&who.role) => {
                let why = format!("{} demanded what takes an operator", who.name);
                self.setting.ignored.one(Reason::Command, About::Key(*key), &why);
                let reason = format!(
                    "{}: the key of {} may not demand this: it takes an operator's",
                    Code::Sec01,
                    who.name
                );
                (CommandState::Refused, reason)
            }
            Some(who) => match command.demand {
                Demand::Cancel { round, reason } => self.cancel(&round, &reason, &who),
                Demand::Acknowledge { alert } => self.acknowledge_alert(&alert, &who),
                Demand::TestNotification { request, channel } => {
                    tracing::info!(by = %who.name, "a test of the notifications is asked for");
                    match self.setting.notifier.test(&cut_reason(&request), channel.as_ref()) {
                        Ok(said) => (CommandState::Done, said),
                        Err(why) => (CommandState::Nothing, why),
                    }
                }
                Demand::Start { services, labels, request, reason, force } => {
                    let trigger = Trigger { services, labels, request: Some(request), reason };
                    return self.start(
                        trigger,
                        Origin::Command { who: who.name, force },
                        command.nonce,
                        reply,
                    );
                }
            },
        };
        let reason = cut_reason(&reason);
        self.answer(reply, CommandReply { nonce: command.nonce, state, reason, started: None });
    }

    fn start(&mut self, trigger: Trigger, origin: Origin, nonce: Nonce, reply: Reply) {
        let (answer, opening) = self.trigger(None, trigger.checked(), &origin);
        match opening.and_then(|id| self.rounds.get_mut(&id)) {
            Some(round) => round.opened_reply.push(Waiter::Command(reply, nonce)),
            None => self.answer(reply, command_reply(nonce, answer)),
        }
    }

    fn acknowledge_alert(&self, alert: &str, who: &Member) -> (CommandState, String) {
        let named = alert.parse::<AlertRef>().map_err(|error| error.to_string());
        let done = named.and_then(|reference| {
            self.setting.alerts.acknowledge(reference, who.name.clone()).map_err(|error| error.to_string())
        });
        match done {
            Ok(said) => (CommandState::Done, said),
            Err(why) => (CommandState::Nothing, why),
        }
    }

    fn cancel(&mut self, id: &RoundId, reason: &str, who: &Member) -> (CommandState, String) {
        if let Some(place) = self.waiting.iter().position(|request| request.id == *id) {
            self.waiting.remove(place);
            self.queued.retain(|queued| queued != id);
            return (CommandState::Done, "the request that waited was taken back".to_owned());
        }
        let Some(round) = self.rounds.get(id).filter(|round| !round.finished) else {
            let known = self.state();
            return match known.rounds.get(id) {
                Some(round) => {
                    let (number, word) = (round.open.number, round.word());
                    (CommandState::Nothing, format!("round {number} is not open: it is {word}"))
                }
                None => (CommandState::Nothing, format!("round {} is not open", id.short())),
            };
        };
        let number = round.open.number;
        if !round.machine.can_be_cancelled() {
            let word = round.machine.phase().word();
            return (
                CommandState::Nothing,
                format!("round {number} is {word}: it cannot be cancelled any more"),
            );
        }
        let line: String = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_LEN).collect();
        let reason = if line.is_empty() {
            format!("cancelled by {}", who.name)
        } else {
            format!("cancelled by {}: {line}", who.name)
        };
        tracing::warn!(round = number, reason, "round cancelled");
        self.event(id, Event::Cancel { reason: cut_reason(&reason) });
        (CommandState::Done, format!("round {number} ends without a commit"))
    }
}

/// Whether a role may demand something of the fleet's rounds and alerts.
fn commands(role: &Role) -> bool {
    match role {
        Role::Operator | Role::Admin => true,
        Role::Coordinator | Role::Agent { .. } | Role::Viewer | Role::Pruner | Role::Enroller { .. } => false,
    }
}
