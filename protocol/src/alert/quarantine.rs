//! What the log's quarantine tells: a service is ill until a verified round holds a slice of it that was made without what is
//! damaged.

use crate::alert::{About, Book, Code, Finding, Rounds};
use crate::ids::ServiceName;
use crate::log::{Quarantined, State};
use crate::time::UnixMillis;

impl Rounds {
    /// Tells VERIFY-01 of every service of the roster that is ill, and closes it where one is healed. True if anything changed.
    pub fn judge_quarantine(&self, book: &mut Book, state: &State, now: UnixMillis) -> bool {
        let before = book.clone();
        for (service, _) in state.agents() {
            let about = About::Service(service.clone());
            match state.quarantine.get(service).filter(|of| !self.is_healed(state, service, of)) {
                Some(of) => {
                    book.raise(Finding::seen(Code::Verify01, about, cause(of.objects.len())), now);
                }
                None => {
                    book.mended(Code::Verify01, &about, now);
                }
            }
        }
        *book != before
    }

    /// Whether a verified round holds a slice of the service that was committed behind the quarantine: it names nothing of it.
    fn is_healed(&self, state: &State, service: &ServiceName, of: &Quarantined) -> bool {
        let Some(newest) = self.verified.get(service) else { return false };
        let round = state.rounds.values().find(|round| round.open.number == newest.round);
        round.and_then(|round| round.commit_position()).is_some_and(|position| position > of.position)
    }
}

fn cause(objects: usize) -> String {
    let (are, they) = if objects == 1 { ("object is", "it") } else { ("objects are", "they") };
    format!(
        "{objects} stored {are} not what {they} should be: the rounds that need {they2} are damaged, and stay so; the next round uploads \
         again what of {they2} the service still has",
        they2 = if objects == 1 { "it" } else { "them" }
    )
}
