//! What the desk is asked is answered by the newest log: a service that was enrolled a moment ago belongs to the round
//! that is asked for now, and a leader that was paused learns of its successor before it says anything.

use std::time::Duration;

use tokio::sync::mpsc;

use super::standing::{Standing, Trust};
use crate::intake::Input;
use crate::scribe::ScribeHandle;

/// Longest that a request waits for the log to be read; then it is judged by what is known.
const LIMIT: Duration = Duration::from_secs(2);

/// Passes inputs on to the desk; reads the log before requests and commands, and before anything that comes while the lead
/// is doubtful. Ends with either side.
pub(crate) async fn freshen(
    mut inputs: mpsc::Receiver<Input>,
    desk: mpsc::Sender<Input>,
    scribe: ScribeHandle,
    standing: Standing,
) {
    while let Some(input) = inputs.recv().await {
        match standing.trust() {
            Trust::Sure => {}
            Trust::Doubtful => {
                if !standing.sure().await {
                    return;
                }
            }
            Trust::Over => return,
        }
        if matches!(input, Input::Trigger { .. } | Input::Job { .. } | Input::Command { .. }) {
            // Beside the others, so that a slow share holds up nobody who does not need it.
            let (scribe, desk) = (scribe.clone(), desk.clone());
            tokio::spawn(async move {
                drop(tokio::time::timeout(LIMIT, scribe.read()).await);
                // The desk may have been left.
                desk.send(input).await.ok();
            });
        } else if desk.send(input).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use muster_protocol::log::{Change, Member, Role};
    use muster_protocol::message::{Format, Heartbeat, Trigger};
    use muster_protocol::{age, ids::Nonce};
    use muster_share::entropy::OsEntropy;
    use muster_share::log::{HeadMemory, Log};
    use tokio::sync::{mpsc, watch};
    use tokio::time::timeout;

    use super::{Standing, freshen};
    use crate::fixture::{self, LEADER, signer};
    use crate::intake::Input;
    use crate::scribe;

    /// A test that waits longer has failed.
    const SOON: Duration = Duration::from_secs(20);

    fn heartbeat() -> Input {
        let (service, instance) = ("dns".parse().expect("a name"), Nonce::from_bytes([1; 16]));
        let beat = Heartbeat {
            service,
            instance,
            sequence: 1,
            version: "1".into(),
            round: None,
            at: None,
            leaving: false,
        };
        Input::Heartbeat { key: signer(fixture::AGENT).key_id(), beat }
    }

    #[tokio::test]
    async fn a_request_meets_the_newest_log_and_nothing_passes_while_the_lead_is_doubtful() {
        let (folder, store, log) = fixture::led().await;
        let memory = HeadMemory::at(&folder.path().join("head"));
        let mut other =
            Log::open(Arc::clone(&store), muster_protocol::log::Pin::default()).await.expect("opens");
        let (tell, told) = watch::channel(Some((1, Instant::now() + Duration::from_secs(600))));
        let standing = Standing::new(1, told);
        let (scribe, _writer) = scribe::spawn(log, Arc::new(signer(LEADER)), standing.clone(), 1, memory);
        let (inputs, unread) = mpsc::channel(8);
        let (desk, mut inbox) = mpsc::channel(8);
        let freshening = tokio::spawn(freshen(unread, desk, scribe.clone(), standing));

        let sealing = age::Identity::generate(&mut OsEntropy).recipient();
        let role = Role::Agent { service: "mail".parse().expect("a name"), sealing };
        let member = Member { key: signer(40).key_id(), name: "mail".parse().expect("a name"), role };
        fixture::change(&mut other, vec![Change::Admit(member)]).await;
        let trigger = Trigger::parse(Format::Json, b"{}");
        let request =
            Input::Trigger { request: None, trigger, format: Format::Json, reply: None, trace: None };
        assert!(inputs.send(request).await.is_ok(), "taken");
        let passed = timeout(SOON, inbox.recv()).await.expect("in time");
        assert!(matches!(passed, Some(Input::Trigger { .. })));
        assert_eq!(
            scribe.state().services().len(),
            2,
            "who was just enrolled belongs to what is asked for now"
        );

        tell.send_replace(Some((1, Instant::now())));
        assert!(inputs.send(heartbeat()).await.is_ok(), "taken");
        let passed = timeout(Duration::from_millis(300), inbox.recv()).await;
        assert!(passed.is_err(), "the lead is doubtful");
        tell.send_replace(Some((1, Instant::now() + Duration::from_secs(600))));
        assert!(matches!(timeout(SOON, inbox.recv()).await, Ok(Some(Input::Heartbeat { .. }))));
        tell.send_replace(None);
        assert!(inputs.send(heartbeat()).await.is_ok(), "taken");
        assert!(matches!(timeout(SOON, inbox.recv()).await, Ok(None)), "the lead is over");
        timeout(SOON, freshening).await.expect("in time").expect("it ends");
    }
}
