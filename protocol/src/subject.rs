//! Every subject of the bus, printed and parsed in one place: `muster.v1.<fleet>.<what>[.<service>]`.

use crate::ids::{FleetName, ServiceName};

/// What a subject is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The state document; last value kept by JetStream.
    State,
    /// A retry order for one service; last value kept by JetStream.
    ServiceState(ServiceName),
    /// An agent answers a round; request.
    Hello(ServiceName),
    /// An agent tells that its slice is stored, or failed; request.
    Notice(ServiceName),
    /// Every 15 s.
    Heartbeat(ServiceName),
    /// How far a slice is.
    Progress(ServiceName),
    /// An operator asks a service's agent for a restore; request. The agent answers.
    Restore(ServiceName),
    /// Starts a round; request.
    Trigger,
    /// Starts a round; kept in a work queue until a coordinator takes it.
    TriggerAsync,
    /// Asks for the fleet's live state; request.
    Query,
    /// An operator's signed command; request.
    Command,
    /// What people are told of alerts, for whoever listens.
    Alert,
}

/// The subjects of one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// Those of the fleet with this name.
    #[must_use]
    pub fn new(fleet: &FleetName) -> Self {
        Self { prefix: format!("muster.v1.{fleet}.") }
    }

    /// The subject as text.
    #[must_use]
    pub fn print(&self, subject: &Subject) -> String {
        let prefix = &self.prefix;
        match subject {
            Subject::State => format!("{prefix}state"),
            Subject::ServiceState(service) => format!("{prefix}state.{service}"),
            Subject::Hello(service) => format!("{prefix}hello.{service}"),
            Subject::Notice(service) => format!("{prefix}notice.{service}"),
            Subject::Heartbeat(service) => format!("{prefix}heartbeat.{service}"),
            Subject::Progress(service) => format!("{prefix}progress.{service}"),
            Subject::Restore(service) => format!("{prefix}restore.{service}"),
            Subject::Trigger => format!("{prefix}trigger"),
            Subject::TriggerAsync => format!("{prefix}trigger.async"),
            Subject::Query => format!("{prefix}query"),
            Subject::Command => format!("{prefix}command"),
            Subject::Alert => format!("{prefix}alert"),
        }
    }

    /// The subject that a text names; `None` when it is none of this fleet.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Subject> {
        let rest = text.strip_prefix(&self.prefix)?;
        match rest {
            "state" => return Some(Subject::State),
            "trigger" => return Some(Subject::Trigger),
            "trigger.async" => return Some(Subject::TriggerAsync),
            "query" => return Some(Subject::Query),
            "command" => return Some(Subject::Command),
            "alert" => return Some(Subject::Alert),
            _ => {}
        }
        let (what, service) = rest.split_once('.')?;
        let service = service.parse().ok()?;
        match what {
            "state" => Some(Subject::ServiceState(service)),
            "hello" => Some(Subject::Hello(service)),
            "notice" => Some(Subject::Notice(service)),
            "heartbeat" => Some(Subject::Heartbeat(service)),
            "progress" => Some(Subject::Progress(service)),
            "restore" => Some(Subject::Restore(service)),
            _ => None,
        }
    }

    /// The filter for one kind of message of every service: `hello`, `notice`, `heartbeat` or `progress`.
    #[must_use]
    pub fn every(&self, what: &str) -> String {
        format!("{}{what}.*", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::{Subject, Subjects};

    #[test]
    fn subjects_parse_back_and_others_do_not() {
        let subjects = Subjects::new(&"prod".parse().expect("name"));
        let dns = || "dns-2".parse().expect("name");
        for subject in [
            Subject::State,
            Subject::ServiceState(dns()),
            Subject::Hello(dns()),
            Subject::Notice(dns()),
            Subject::Heartbeat(dns()),
            Subject::Progress(dns()),
            Subject::Restore(dns()),
            Subject::Trigger,
            Subject::TriggerAsync,
            Subject::Query,
            Subject::Command,
            Subject::Alert,
        ] {
            assert_eq!(subjects.parse(&subjects.print(&subject)), Some(subject));
        }
        for other in [
            "muster.v1.prod",
            "muster.v2.prod.state",
            "muster.v1.test.state",
            "muster.v1.prod.hello.A",
            "muster.v1.prod.hello.a.b",
        ] {
            assert_eq!(subjects.parse(other), None, "{other}");
        }
    }
}
