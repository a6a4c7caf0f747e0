//! Commands: what operators demand, and coordinators for the tokens of operators: a round, an end to one, an alert acknowledged, a
//! test of the notifications.

use muster_bus::Reply;
use muster_protocol::alert::{About, AlertRef, Code};
use muster_protocol::causes::causes;
use muster_protocol::ids::{KeyId, MemberName, Nonce, ObjectId, RoundId, ServiceName};
use muster_protocol::log::{Audit, Found, Member, Role, State};
use muster_protocol::message::{
    Command, CommandReply, CommandState, Demand, MAX_REASON_LEN, Trigger, cut_reason,
};
use muster_protocol::round::Event;
use muster_protocol::token::{self, Token, TokenRole};
use muster_telemetry::span::Place;

use crate::ignored::Reason;
use crate::scribe::{Entry, unix_now};
use crate::scrub::Suspects;

use super::Desk;
use super::requests::{Origin, Waiter, command_reply};

/// In whose name something is demanded.
struct Demander {
    /// In words, as records and reasons have it.
    words: String,
    /// As acknowledgements have it.
    name: MemberName,
    /// The token's name, if it is one.
    token: Option<MemberName>,
}

impl Desk {
    /// Carries a command out, if its key may demand it, and answers.
    pub(super) fn command(&mut self, key: &KeyId, command: Command, reply: Reply, trace: Option<Place>) {
        let state = self.state();
        let who = state.members.get(key).filter(|member| member.revoked.is_none()).map(|m| m.member.clone());
        let Some(who) = who else {
            // Nobody of this fleet: not answered, as any message that is none of ours.
            let why = format!("a command of unknown key {}", key.short());
            return self.setting.ignored.one(Reason::Command, About::Key(*key), &why);
        };
        let demander = match command.token {
            Some(token) => by_token(&state, &who, token, &command.demand),
            None => by_member(&who),
        };
        let (state, reason) = match demander {
            Err(why) => {
                self.setting.ignored.one(Reason::Command, About::Key(*key), &why);
                (CommandState::Refused, format!("{}: {why}", Code::Sec01))
            }
            Ok(who) => match command.demand {
                Demand::Cancel { round, reason } => self.cancel(&round, &reason, &who),
                Demand::Acknowledge { alert } => self.acknowledge_alert(&alert, &who, *key),
                Demand::Suspect { service, objects, found } => self.suspect(service, objects, found),
                Demand::TestNotification { request, channel } => {
                    tracing::info!(by = who.words, "a test of the notifications is asked for");
                    match self.setting.notifier.test(&cut_reason(&request), channel.as_ref()) {
                        Ok(said) => (CommandState::Done, said),
                        Err(why) => (CommandState::Nothing, why),
                    }
                }
                Demand::Start { services, labels, request, reason, force } => {
                    let trigger = Trigger { services, labels, request: Some(request), reason };
                    let origin = Origin::Command { who: who.words, force };
                    return self.start(trigger, origin, trace, command.nonce, reply);
                }
            },
        };
        let reason = cut_reason(&reason);
        self.answer(reply, CommandReply { nonce: command.nonce, state, reason, started: None });
    }

    fn start(&mut self, trigger: Trigger, origin: Origin, trace: Option<Place>, nonce: Nonce, reply: Reply) {
        let (answer, opening) = self.trigger(None, trigger.checked(), &origin, trace);
        match opening.and_then(|id| self.rounds.get_mut(&id)) {
            Some(round) => round.opened_reply.push(Waiter::Command(reply, nonce)),
            None => self.answer(reply, command_reply(nonce, answer)),
        }
    }

    fn acknowledge_alert(&self, alert: &str, who: &Demander, key: KeyId) -> (CommandState, String) {
        let named = alert.parse::<AlertRef>().map_err(|error| error.to_string());
        let done = named.and_then(|reference| {
            self.setting.alerts.acknowledge(reference, who.name.clone()).map_err(|error| error.to_string())
        });
        match done {
            Ok(said) => {
                if who.token.is_some() {
                    self.note(key, format!("{}: {said}", who.words));
                }
                (CommandState::Done, said)
            }
            Err(why) => (CommandState::Nothing, why),
        }
    }

    /// Hands objects to the scrub, which looks at them.
    fn suspect(
        &self,
        service: Option<ServiceName>,
        objects: Vec<ObjectId>,
        found: Found,
    ) -> (CommandState, String) {
        let what = match (&service, objects.len()) {
            (None, _) => "the fleet's own objects are".to_owned(),
            (Some(service), 0) => format!("everything that {service} has on the share is"),
            (Some(_), 1) => "the object is".to_owned(),
            (Some(_), many) => format!("{many} objects are"),
        };
        match self.setting.suspects.try_send(Suspects { service, objects, found }) {
            Ok(()) => (CommandState::Done, format!("{what} read again")),
            Err(_) => (CommandState::Nothing, "too much is being read again already".to_owned()),
        }
    }

    /// What a token did and no other record of the log tells goes into one of its own.
    fn note(&self, who: KeyId, what: String) {
        let scribe = self.setting.scribe.clone();
        tokio::spawn(async move {
            let audit = Audit { who, what, at: unix_now() };
            if let Err(error) = scribe.write(Entry::Audit(audit)).await {
                tracing::warn!(error = causes(&error), "the log was not told what a token did");
            }
        });
    }

    fn cancel(&mut self, id: &RoundId, reason: &str, who: &Demander) -> (CommandState, String) {
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
            format!("cancelled by {}", who.words)
        } else {
            format!("cancelled by {}: {line}", who.words)
        };
        tracing::warn!(number, reason, "round cancelled");
        self.event(id, Event::Cancel { reason: cut_reason(&reason) });
        (CommandState::Done, format!("round {number} ends without a commit"))
    }
}

/// What a member demands with its own key.
fn by_member(who: &Member) -> Result<Demander, String> {
    if commands(&who.role) {
        return Ok(Demander { words: who.name.to_string(), name: who.name.clone(), token: None });
    }
    Err(format!("the key of {} may not demand this: it takes an operator's", who.name))
}

/// What a coordinator demands for a token. Which tokens there are says the log; that this one was shown, only the coordinator
/// knows, which could as well take the lead and do by itself what tokens may.
fn by_token(state: &State, who: &Member, token: MemberName, demand: &Demand) -> Result<Demander, String> {
    if !matches!(who.role, Role::Coordinator) {
        return Err(format!("{} is no coordinator, and demands something for the token {token}", who.name));
    }
    let clear = state.config.as_ref().map(|config| &config.clear);
    let known = clear.map(token::tokens).unwrap_or_default();
    match known.get(&token) {
        Some(known) if known.is_over(unix_now()) => return Err(format!("the token {token} has ended")),
        Some(Token { role: TokenRole::Operator, .. }) => {}
        Some(Token { role: TokenRole::Viewer, .. }) => {
            return Err(format!("the token {token} may only look: this takes one of the role operator"));
        }
        None => return Err(format!("there is no token {token}")),
    }
    match demand {
        Demand::Start { force: true, .. } => {
            return Err("a disabled fleet is forced by an operator's signature, and by no token".to_owned());
        }
        Demand::TestNotification { .. } => {
            return Err("a test of the notifications takes an operator's signature, and no token".to_owned());
        }
        Demand::Suspect { .. } => {
            return Err(
                "having stored objects read again takes an operator's signature, and no token".to_owned()
            );
        }
        Demand::Start { .. } | Demand::Cancel { .. } | Demand::Acknowledge { .. } => {}
    }
    let name = format!("token-{token}").parse().map_err(|_| format!("{token} names no token"))?;
    Ok(Demander { words: format!("token {token}"), name, token: Some(token) })
}

/// Whether a role may demand something of the fleet's rounds and alerts.
fn commands(role: &Role) -> bool {
    match role {
        Role::Operator | Role::Admin => true,
        Role::Coordinator | Role::Agent { .. } | Role::Viewer | Role::Pruner | Role::Enroller { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_protocol::log::{Config, Member, Pin, Role, State};
    use muster_protocol::message::Demand;
    use muster_protocol::time::UnixMillis;
    use muster_protocol::token::{Token, TokenRole, key_of};

    use super::by_token;
    use crate::fixture::signer;

    fn state() -> State {
        let mut clear = BTreeMap::new();
        for (name, role, until) in [
            ("ci", TokenRole::Operator, None),
            ("eyes", TokenRole::Viewer, None),
            ("old", TokenRole::Operator, Some(UnixMillis(1_000))),
        ] {
            let token = Token { role, hash: [1; 32], until };
            clear.insert(key_of(&name.parse().expect("a name")), token.print());
        }
        let mut state = State::new(Pin::default());
        state.config = Some(Config { previous: None, clear, sealed: None, at: None });
        state
    }

    fn start(force: bool) -> Demand {
        Demand::Start { services: None, labels: None, request: "r".to_owned(), reason: None, force }
    }

    #[test]
    fn a_coordinator_demands_what_the_log_lets_the_token_do_and_nothing_else() {
        let member = |role| Member { key: signer(7).key_id(), name: "one".parse().expect("a name"), role };
        let ask = |role, token: &str, demand: &Demand| {
            by_token(&state(), &member(role), token.parse().expect("a name"), demand)
                .map(|who| (who.words, who.name.to_string()))
        };
        let fine = ask(Role::Coordinator, "ci", &start(false)).expect("it may");
        assert_eq!(fine, ("token ci".to_owned(), "token-ci".to_owned()));
        for (role, token, force, part) in [
            (Role::Coordinator, "ci", true, "forced by an operator's signature"),
            (Role::Coordinator, "eyes", false, "may only look"),
            (Role::Coordinator, "old", false, "has ended"),
            (Role::Coordinator, "nobody", false, "there is no token nobody"),
            (Role::Operator, "ci", false, "one is no coordinator"),
            (Role::Admin, "ci", false, "one is no coordinator"),
            (Role::Viewer, "ci", false, "one is no coordinator"),
        ] {
            let why = ask(role, token, &start(force)).expect_err(part);
            assert!(why.contains(part), "{why}");
        }
    }
}
