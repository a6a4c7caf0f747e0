//! Proofs that an offline key opened a round: `key prove` notes them beside what else an operator remembers, `status` tells
//! which recovery keys have none (KEY-02). A proof is this machine's own memory: nobody else believes it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use muster_protocol::age::Recipient;
use muster_protocol::alert::Code;
use muster_protocol::ids::RoundId;
use muster_protocol::log::State;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::format_duration;
use muster_share::verify::chain::short_recipient;
use serde::{Deserialize, Serialize};

use crate::alerts::AlertView;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::screen;

/// In the operator's state folder: a proof a line, the newest last.
const FILE: &str = "proofs";
/// After so long a key may have been lost unnoticed.
const STANDS: Duration = Duration::from_secs(90 * 24 * 3600);

/// How far ahead the clock may have been that a proof was noted by: a day.
const AHEAD_MILLIS: i64 = 86_400_000;

/// A key opened a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// The public half of the key.
    pub(crate) recipient: Recipient,
    /// The round that it opened.
    pub(crate) round: RoundId,
    /// The round's number.
    pub(crate) number: u64,
    /// When.
    pub(crate) at: UnixMillis,
}

/// Notes proofs. False for a member without a state folder, who remembers nothing.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn note(operator: &Operator, proofs: &[Proof]) -> Result<bool, Failure> {
    let folder = &operator.operator.state;
    if !folder.is_dir() {
        return Ok(false);
    }
    let file = folder.join(FILE);
    // A line that was torn by a crash ends here, and takes no new one with it.
    let line = |proof| format!("\n{}\n", serde_json::to_string(proof).expect("a proof is JSON"));
    let lines: String = proofs.iter().map(line).collect();
    let opened = OpenOptions::new().create(true).append(true).open(&file);
    opened.and_then(|mut file| file.write_all(lines.as_bytes())).map(|()| true).map_err(|error| {
        Failure::usage(format!("the proof was not noted in {}", file.display())).because(error.to_string())
    })
}

/// The newest proof of each key. What cannot be read is no proof.
fn recall(operator: &Operator) -> BTreeMap<Recipient, Proof> {
    let text = std::fs::read_to_string(operator.operator.state.join(FILE)).unwrap_or_default();
    let proofs = text.lines().filter_map(|line| serde_json::from_str::<Proof>(line).ok());
    // One from the future was noted by a wrong clock, and would stand until then.
    let proofs = proofs.filter(|proof| proof.at.0 <= screen::now().0.saturating_add(AHEAD_MILLIS));
    proofs.map(|proof| (proof.recipient.clone(), proof)).collect()
}

/// A warning for each recovery key of the newest keyset that was never shown to open a round, or not for long.
pub(crate) fn alerts(operator: &Operator, state: &State) -> Vec<AlertView> {
    let proofs = recall(operator);
    let keys = state.keyset().map(|(_, keyset)| keyset.keys.as_slice()).unwrap_or_default();
    keys.iter()
        .filter_map(|key| {
            let cause = match proofs.get(&key.recipient) {
                None => "unproven: nobody has shown here that its private half opens a round".to_owned(),
                Some(proof) if screen::age(proof.at) > STANDS => format!(
                    "its private half last opened a round {} ago: round {}",
                    format_duration(screen::age(proof.at)),
                    proof.number
                ),
                Some(_) => return None,
            };
            let alert = AlertView::new(Code::Key02, short_recipient(&key.recipient), cause);
            Some(alert.with_steps(&["muster key prove --kit PATH", "muster status"]))
        })
        .collect()
}
