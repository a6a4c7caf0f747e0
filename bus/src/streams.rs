//! Which subjects outlive a connection: the two streams of a fleet, by name and subject.

use crate::{BusError, subject};

/// The two streams of one fleet, and the bucket of its lease. Nothing else is kept on the bus; above all not the core `trigger` subject, where
/// a stream's acknowledgement would reach requesters before the coordinators' answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams {
    pub(crate) values: String,
    pub(crate) value_subject: String,
    pub(crate) queue: String,
    pub(crate) queue_subject: String,
    pub(crate) lease: String,
    pub(crate) lease_subject: String,
    pub(crate) replicas: usize,
}

impl Streams {
    /// The streams `MUSTER_<fleet>_STATE` with last values for `value_subject` and everything below it, and
    /// `MUSTER_<fleet>_QUEUE` with the jobs of `queue_subject`, and the key-value bucket `MUSTER_<fleet>_LEASE` with the
    /// key `lease`.
    ///
    /// # Errors
    /// When `fleet` is not of letters, digits, `-` and `_` (at most 64, the alphabet of stream names), or a subject
    /// is not a plain subject.
    pub fn new(fleet: &str, value_subject: &str, queue_subject: &str) -> Result<Self, BusError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if fleet.is_empty() || fleet.len() > 64 || !fleet.bytes().all(plain) {
            let reason = "the fleet's name in it is not of 1 to 64 letters, digits, '-' and '_'";
            return Err(BusError::Subject { subject: value_subject.to_owned(), reason });
        }
        subject::check_subject(value_subject)?;
        subject::check_subject(queue_subject)?;
        let streams = Self {
            values: format!("MUSTER_{fleet}_STATE"),
            value_subject: value_subject.to_owned(),
            queue: format!("MUSTER_{fleet}_QUEUE"),
            queue_subject: queue_subject.to_owned(),
            // A bucket is a stream of this name with these subjects (ADR-8), so that stock clients can read it.
            lease: format!("KV_MUSTER_{fleet}_LEASE"),
            lease_subject: format!("$KV.MUSTER_{fleet}_LEASE.lease"),
            replicas: 1,
        };
        if streams.keeps_value(queue_subject) {
            let reason = "the queue lies within the subjects of the last values";
            return Err(BusError::Subject { subject: queue_subject.to_owned(), reason });
        }
        Ok(streams)
    }

    /// The same with `replicas` copies of each stream, for a cluster of servers. Applies to streams made from now on.
    #[must_use]
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// The name of the stream of last values, for permissions.
    #[must_use]
    pub fn value_stream(&self) -> &str {
        &self.values
    }

    /// The name of the work queue's stream, for permissions.
    #[must_use]
    pub fn queue_stream(&self) -> &str {
        &self.queue
    }

    /// The name of the stream behind the lease's bucket, for permissions.
    #[must_use]
    pub fn lease_stream(&self) -> &str {
        &self.lease
    }

    /// The subject of the lease, for permissions.
    #[must_use]
    pub fn lease_subject(&self) -> &str {
        &self.lease_subject
    }

    pub(crate) fn keeps_value(&self, subject: &str) -> bool {
        subject.strip_prefix(&self.value_subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Accepts a subject whose last value is kept.
    pub(crate) fn check_value(&self, subject: &str) -> Result<(), BusError> {
        subject::check_subject(subject)?;
        if self.keeps_value(subject) { Ok(()) } else { not_stored(subject) }
    }

    /// Accepts the subject of the queue.
    pub(crate) fn check_queue(&self, subject: &str) -> Result<(), BusError> {
        if subject == self.queue_subject { Ok(()) } else { not_stored(subject) }
    }

    /// Refuses a request to a subject that a stream would answer.
    pub(crate) fn check_request(&self, subject: &str) -> Result<(), BusError> {
        if subject == self.queue_subject || self.keeps_value(subject) {
            let reason = "a stream keeps it and would answer in place of the service";
            return Err(BusError::Subject { subject: subject.to_owned(), reason });
        }
        Ok(())
    }
}

fn not_stored(subject: &str) -> Result<(), BusError> {
    Err(BusError::NotStored { subject: subject.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::Streams;

    #[test]
    fn only_state_and_queue_are_kept() {
        let streams =
            Streams::new("prod", "muster.v1.prod.state", "muster.v1.prod.trigger.async").expect("valid");
        assert!(streams.keeps_value("muster.v1.prod.state"));
        assert!(streams.keeps_value("muster.v1.prod.state.dns"));
        assert!(!streams.keeps_value("muster.v1.prod.statement"));
        assert!(!streams.keeps_value("muster.v1.prod.trigger"));
        assert!(streams.check_request("muster.v1.prod.trigger").is_ok());
        assert!(streams.check_request("muster.v1.prod.trigger.async").is_err());
        assert!(streams.check_queue("muster.v1.prod.trigger").is_err());
    }

    #[test]
    fn names_that_cannot_be_streams_are_refused() {
        for fleet in ["", "a.b", "a b", "a/b", "a*", "ä", &"a".repeat(65)] {
            assert!(Streams::new(fleet, "s", "q").is_err(), "{fleet:?}");
        }
        assert!(Streams::new("a", "s.>", "q").is_err());
        assert!(Streams::new("a", "s", "s.q").is_err());
    }
}
