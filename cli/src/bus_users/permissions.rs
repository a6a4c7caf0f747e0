//! What each kind of user may say and hear on the server, and what passes between its accounts. Allow-lists only.
//!
//! FLEET owns what is stored. Agents and operators are in accounts of their own, because the server checks nobody's
//! permission to name a reply subject: within FLEET, an acknowledgement could be aimed at the stored state document.

use muster_bus::{Streams, inbox_prefix};
use muster_protocol::ids::{FleetName, ServiceName};
use muster_protocol::subject::{Subject, Subjects};

use super::{BusUser, UserKind};
use crate::leader;

/// The account of the streams and the coordinators.
pub(super) const FLEET: &str = "FLEET";
/// The account of the agents.
pub(super) const AGENTS: &str = "AGENTS";
/// The account of operators, viewers, and whoever triggers.
pub(super) const OPERATORS: &str = "OPERATORS";

/// What one user may.
pub(super) struct Permissions {
    /// Subjects that it may publish.
    pub(super) publish: Vec<String>,
    /// Subjects that it may hear.
    pub(super) subscribe: Vec<String>,
    /// Whether it may answer where it is asked to, once for each request.
    pub(super) answers: bool,
}

/// Something that one account offers to another.
pub(super) struct Bridge {
    /// `stream` or `service`.
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

/// The names of one fleet on the bus.
pub(super) struct Names {
    subjects: Subjects,
    streams: Streams,
}

impl Names {
    /// Those of the fleet with this name.
    pub(super) fn of(fleet: &FleetName) -> Self {
        let subjects = Subjects::new(fleet);
        let streams = leader::streams(&subjects, fleet.as_str()).expect("a fleet's name makes valid streams");
        Self { subjects, streams }
    }

    /// What a user may.
    pub(super) fn permissions(&self, user: &BusUser) -> Permissions {
        let inbox = |group| format!("{}.>", inbox_prefix(group, user.nkey.as_str()));
        let print = |subject: &Subject| self.subjects.print(subject);
        match user.kind {
            UserKind::Coordinator => self.coordinator(inbox("coordinators")),
            UserKind::Agent => {
                let service =
                    user.name.as_str().parse().expect("service names and member names follow one rule");
                self.agent(&service, inbox("agents"))
            }
            UserKind::Operator => Permissions {
                publish: vec![
                    print(&Subject::Trigger),
                    print(&Subject::TriggerAsync),
                    print(&Subject::Query),
                    print(&Subject::Command),
                    self.subjects.every("restore"),
                ],
                subscribe: vec![inbox("operators"), print(&Subject::Alert)],
                answers: false,
            },
            UserKind::Viewer => Permissions {
                publish: vec![print(&Subject::Query)],
                subscribe: vec![inbox("operators"), print(&Subject::Alert)],
                answers: false,
            },
            // Plain clients want their answers there.
            UserKind::Trigger => Permissions {
                publish: vec![print(&Subject::Trigger), print(&Subject::TriggerAsync)],
                subscribe: vec!["_INBOX.>".to_owned()],
                answers: false,
            },
        }
    }

    fn coordinator(&self, inbox: String) -> Permissions {
        let print = |subject: &Subject| self.subjects.print(subject);
        let (state, queue) = (self.streams.value_stream(), self.streams.queue_stream());
        let lease = self.streams.lease_stream();
        let asked = [&Subject::Trigger, &Subject::Query, &Subject::Command].map(print);
        // One that follows asks the leader, for whoever uses its HTTP API.
        let (query, command) = (print(&Subject::Query), print(&Subject::Command));
        let mut publish = vec![print(&Subject::State), self.subjects.every("state"), query, command];
        publish.push(print(&Subject::Alert));
        // Answers: to agents and operators through their accounts, to other coordinators.
        publish.extend(["_R_.>", "_INBOX_coordinators.>", "$JS.API.INFO"].map(str::to_owned));
        for stream in [state, queue, lease] {
            publish
                .extend(["INFO", "CREATE", "UPDATE"].map(|what| format!("$JS.API.STREAM.{what}.{stream}")));
        }
        // A job that no client can read is looked for, and deleted.
        publish.extend(["GET", "DELETE"].map(|what| format!("$JS.API.STREAM.MSG.{what}.{queue}")));
        // Who leads is settled among coordinators alone.
        publish.push(self.streams.lease_subject().to_owned());
        publish.push(format!("$JS.API.DIRECT.GET.{state}.>"));
        publish.push(format!("$JS.API.DIRECT.GET.{lease}.{}", self.streams.lease_subject()));
        publish.extend(
            ["INFO", "CREATE", "DURABLE.CREATE", "MSG.NEXT"]
                .map(|what| format!("$JS.API.CONSUMER.{what}.{queue}.coordinators")),
        );
        publish.push(format!("$JS.ACK.{queue}.coordinators.>"));
        let mut subscribe: Vec<_> =
            ["hello", "notice", "heartbeat", "progress"].map(|what| self.subjects.every(what)).into();
        subscribe.extend(asked.iter().cloned());
        // A subscription of a queue group needs a word of its own.
        subscribe.extend(asked.iter().map(|subject| format!("{subject} coordinators")));
        subscribe.push(inbox);
        Permissions { publish, subscribe, answers: false }
    }

    fn agent(&self, service: &ServiceName, inbox: String) -> Permissions {
        let own = |subject: fn(ServiceName) -> Subject| self.subjects.print(&subject(service.clone()));
        let (state, order) = (self.subjects.print(&Subject::State), own(Subject::ServiceState));
        let mut publish =
            [Subject::Hello, Subject::Notice, Subject::Heartbeat, Subject::Progress].map(own).to_vec();
        publish.extend([&state, &order].map(|subject| self.get(subject)));
        let subscribe = vec![state, order, own(Subject::Restore), inbox];
        Permissions { publish, subscribe, answers: true }
    }

    /// Asks for the last stored value of a subject.
    fn get(&self, subject: &str) -> String {
        format!("$JS.API.DIRECT.GET.{}.{subject}", self.streams.value_stream())
    }

    /// What passes between the accounts, and nothing else.
    pub(super) fn bridges(&self) -> Vec<Bridge> {
        let print = |subject: &Subject| self.subjects.print(subject);
        let bridge = |kind, subject, from, to| Bridge { kind, subject, from, to };
        let (state, orders) = (print(&Subject::State), self.subjects.every("state"));
        let mut bridges: Vec<_> =
            [&state, &orders].map(|subject| bridge("stream", subject.clone(), FLEET, AGENTS)).into();
        let said = ["hello", "notice", "heartbeat", "progress"].map(|what| self.subjects.every(what));
        let got = [&state, &orders].map(|subject| self.get(subject));
        bridges.extend(said.into_iter().chain(got).map(|subject| bridge("service", subject, FLEET, AGENTS)));
        let asked =
            [&Subject::Trigger, &Subject::TriggerAsync, &Subject::Query, &Subject::Command].map(print);
        bridges.extend(asked.map(|subject| bridge("service", subject, FLEET, OPERATORS)));
        bridges.push(bridge("stream", print(&Subject::Alert), FLEET, OPERATORS));
        bridges.push(bridge("service", self.subjects.every("restore"), AGENTS, OPERATORS));
        bridges
    }
}
