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
