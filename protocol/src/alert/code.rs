//! Alert codes: stable names of what can be wrong, each with its severity and remediation steps.
//!
//! The table is the whole vocabulary (DESIGN section 9). A code never changes its meaning and is never used again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Protection is weaker than promised.
    Warning,
    /// Something was not backed up.
    Error,
    /// What is stored, or its integrity, is at risk.
    Critical,
}

impl Severity {
    /// The word for screens and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// A stable alert code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// SHARE-01: share unreachable.
    Share01,
    /// SHARE-02: share path invalid.
    Share02,
    /// SHARE-03: share credentials refused.
    Share03,
    /// SHARE-04: write to the share refused.
    Share04,
    /// SHARE-05: share full.
    Share05,
    /// SHARE-06: share full soon.
    Share06,
    /// SHARE-07: share slow or interrupted.
    Share07,
    /// SHARE-08: second writer, fork or gap in the log.
    Share08,
    /// SHARE-09: prune failed.
    Share09,
    /// KEY-01: recovery recipient missing or invalid.
    Key01,
    /// KEY-02: recovery key unproven, reachable or due for rotation.
    Key02,
    /// KEY-03: key exchange or signature refused.
    Key03,
    /// AGENT-01: agent offline.
    Agent01,
    /// AGENT-02: agent lost in mid-slice.
    Agent02,
    /// AGENT-03: capture or quiesce failed.
    Agent03,
    /// AGENT-04: local disk or memory low.
    Agent04,
    /// AGENT-05: version mismatch.
    Agent05,
    /// AGENT-06: clock skew.
    Agent06,
    /// ROUND-01: round partial.
    Round01,
    /// ROUND-02: round deadline passed.
    Round02,
    /// ROUND-03: round skipped.
    Round03,
    /// ROUND-04: no verified round within the promised interval.
    Round04,
    /// ROUND-05: cut broken.
    Round05,
    /// ROUND-06: size or duration anomaly.
    Round06,
    /// COVER-01: service without a slice.
    Cover01,
    /// VERIFY-01: stored object does not match its hash or does not decrypt.
    Verify01,
    /// VERIFY-02: manifest missing or unsigned.
    Verify02,
    /// DRILL-01: restore drill failed, overdue or too slow.
    Drill01,
    /// RET-01: prune would break the minimum.
    Ret01,
    /// BUS-01: NATS down or stream full.
    Bus01,
    /// COORD-01: coordinator failed over or rebuilt its state.
    Coord01,
    /// SEC-01: refused command or destructive change.
    Sec01,
    /// NOTIFY-01: notification delivery failing.
    Notify01,
    /// SCHED-01: schedule disabled.
    Sched01,
}

impl Code {
    /// Every code.
    pub const ALL: &'static [Self] = &[
        Self::Share01,
        Self::Share02,
        Self::Share03,
        Self::Share04,
        Self::Share05,
        Self::Share06,
        Self::Share07,
        Self::Share08,
        Self::Share09,
        Self::Key01,
        Self::Key02,
        Self::Key03,
        Self::Agent01,
        Self::Agent02,
        Self::Agent03,
        Self::Agent04,
        Self::Agent05,
        Self::Agent06,
        Self::Round01,
        Self::Round02,
        Self::Round03,
        Self::Round04,
        Self::Round05,
        Self::Round06,
        Self::Cover01,
        Self::Verify01,
        Self::Verify02,
        Self::Drill01,
        Self::Ret01,
        Self::Bus01,
        Self::Coord01,
        Self::Sec01,
        Self::Notify01,
        Self::Sched01,
    ];

    /// The code as it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.row().1
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// What to do, in order; the last step usually is the command that checks the mend.
    #[must_use]
    pub fn steps(self) -> &'static [&'static str] {
        self.row().3
    }

    fn row(self) -> (&'static str, Severity, &'static str, &'static [&'static str]) {
        use Severity::{Critical, Error, Warning};
        match self {
            Self::Share01 => (
                "SHARE-01",
                Error,
                "share unreachable",
                &["check that the share's host answers and the path is mounted", "muster status"],
            ),
            Self::Share02 => (
                "SHARE-02",
                Error,
                "share path invalid",
                &["check the share's URL in the configuration", "muster status"],
            ),
            Self::Share03 => (
                "SHARE-03",
                Error,
                "share credentials refused",
                &["check the account's name, password and expiry", "muster status"],
            ),
            Self::Share04 => (
                "SHARE-04",
                Error,
                "write to the share refused",
                &["let the account create objects under the share's path", "muster status"],
            ),
            Self::Share05 => {
                ("SHARE-05", Error, "share full", &["free or add space on the share", "muster start --wait"])
            }
            Self::Share06 => (
                "SHARE-06",
                Warning,
                "share full soon",
                &["add space, or shorten the retention", "muster rounds"],
            ),
            Self::Share07 => (
                "SHARE-07",
                Warning,
                "share slow or interrupted",
                &["check the network and the load of the share's host", "muster status"],
            ),
            Self::Share08 => (
                "SHARE-08",
                Critical,
                "second writer, fork or gap in the log",
                &[
                    "stop every coordinator",
                    "compare the log head with the printed one: muster verify",
                    "restore the share's log/ folder, or sign an adopt record with the root key",
                ],
            ),
            Self::Share09 => (
                "SHARE-09",
                Warning,
                "prune failed",
                &["let the pruner's account list and delete", "muster rounds"],
            ),
            Self::Key01 => (
                "KEY-01",
                Critical,
                "recovery recipient missing or invalid",
                &["look at the keyset in the log: muster show latest"],
            ),
            Self::Key02 => (
                "KEY-02",
                Warning,
                "recovery key unproven, reachable or due for rotation",
                &["move the kit and the root key to a medium that you can take away", "muster status"],
            ),
            Self::Key03 => (
                "KEY-03",
                Error,
                "key exchange or signature refused",
                &[
                    "check that agent and coordinator belong to the same fleet and are not revoked",
                    "muster agents",
                ],
            ),
            Self::Agent01 => (
                "AGENT-01",
                Error,
                "agent offline",
                &[
                    "start muster-agent on the service's machine and check that it reaches NATS",
                    "muster agents",
                ],
            ),
            Self::Agent02 => (
                "AGENT-02",
                Error,
                "agent lost in mid-slice",
                &[
                    "look at the agent's log for a crash or a lost network",
                    "muster start --services NAME --wait",
                ],
            ),
            Self::Agent03 => (
                "AGENT-03",
                Error,
                "capture or quiesce failed",
                &["mend what the native error names", "muster start --services NAME --wait"],
            ),
            Self::Agent04 => (
                "AGENT-04",
                Error,
                "local disk or memory low",
                &["free space in the agent's state folder", "muster start --services NAME --wait"],
            ),
            Self::Agent05 => {
                ("AGENT-05", Error, "version mismatch", &["upgrade the older side", "muster agents"])
            }
            Self::Agent06 => {
                ("AGENT-06", Warning, "clock skew", &["set the machine's clock (NTP)", "muster agents"])
            }
            Self::Round01 => (
                "ROUND-01",
                Error,
                "round partial",
                &["mend what each absent service's reason names", "muster start --services NAME --wait"],
            ),
            Self::Round02 => (
                "ROUND-02",
                Error,
                "round deadline passed",
                &[
                    "see which stage was slowest: muster show",
                    "raise round.deadline, or narrow the slow source",
                ],
            ),
            Self::Round03 => {
                ("ROUND-03", Warning, "round skipped", &["wait for the running round: muster watch"])
            }
            Self::Round04 => (
                "ROUND-04",
                Critical,
                "no verified round within the promised interval",
                &["start a round: muster start --wait", "muster status"],
            ),
            Self::Round05 => (
                "ROUND-05",
                Warning,
                "cut broken",
                &["see which service let go early: muster show", "raise cut.barrier or hooks.max_hold"],
            ),
            Self::Round06 => (
                "ROUND-06",
                Error,
                "a service is not like it was: lost, new or slow data",
                &[
                    "compare it with earlier rounds: muster rounds, muster show ROUND",
                    "data is lost or encrypted: stop what does it, then muster restore ROUND --service NAME --kit PATH",
                    "it is meant: muster alerts accept NAME --reason TEXT",
                ],
            ),
            Self::Cover01 => (
                "COVER-01",
                Warning,
                "service without a slice",
                &[
                    "see whether its agent is there: muster agents",
                    "muster start --services NAME --wait",
                    "it is to be backed up no more: muster revoke NAME",
                ],
            ),
            Self::Verify01 => (
                "VERIFY-01",
                Critical,
                "stored object does not match its hash or does not decrypt",
                &[
                    "upload what is lost again from the live service: muster start --services NAME --wait",
                    "see which older rounds rest on it: muster verify",
                    "look at the disks and the network of the share",
                ],
            ),
            Self::Verify02 => (
                "VERIFY-02",
                Critical,
                "manifest missing or unsigned",
                &["restore the object from a copy of the share", "muster verify"],
            ),
            Self::Drill01 => (
                "DRILL-01",
                Error,
                "restore drill failed, overdue or too slow",
                &[
                    "recover the newest round into a folder that is deleted again: muster drill --kit PATH",
                    "if it failed, tell the leader what is damaged: muster verify --heal --kit PATH; then muster start --wait, and drill again",
                    "see what is promised: muster config show (recovery_time, drill.within)",
                ],
            ),
            Self::Ret01 => (
                "RET-01",
                Warning,
                "prune would break the minimum",
                &["let rounds be verified first: muster start --wait"],
            ),
            Self::Bus01 => (
                "BUS-01",
                Error,
                "NATS down or stream full",
                &["start nats-server and check its store folder's space", "muster status"],
            ),
            Self::Coord01 => (
                "COORD-01",
                Warning,
                "coordinator failed over or rebuilt its state",
                &["look at the former leader's log", "muster status"],
            ),
            Self::Sec01 => (
                "SEC-01",
                Critical,
                "refused command or destructive change",
                &["look at the coordinator's log for who sent it"],
            ),
            Self::Notify01 => (
                "NOTIFY-01",
                Warning,
                "notification delivery failing",
                &[
                    "see what the other side answers: muster notify test",
                    "mend the channel in coordinator.toml, and start the coordinator again",
                ],
            ),
            Self::Sched01 => (
                "SCHED-01",
                Warning,
                "schedule disabled",
                &[
                    "test everything and let rounds begin again: muster enable",
                    "set a schedule: muster config set schedule 'every 12h'",
                    "one round all the same: muster start --force",
                ],
            ),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no alert code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no alert code")]
pub struct UnknownCode {
    /// The text.
    pub text: String,
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownCode { text: text.to_owned() })
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_code_parses_back_and_has_steps() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(!code.steps().is_empty(), "{code}");
        }
        assert!("SHARE-99".parse::<Code>().is_err());
    }
}
