//! What agent and watchdog say to each other during one hold, as the agent hears it: every silence has a limit.

use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::keeper::Said;
use super::words::{Answer, Told};

/// How long a watchdog may take to arm.
const ARMING: Duration = Duration::from_secs(5);
/// How much later than it should a watchdog may speak, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// How far a hold is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The watchdog starts.
    Arming,
    /// The quiesce hook runs.
    Quiescing,
    /// The service is quiesced.
    Holding,
    /// The release hook runs.
    Releasing,
}

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum End {
    /// The watchdog's last word.
    Released {
        /// Why the service was not quiesced, if so, and whether that would happen again.
        quiesce: Option<(String, bool)>,
        /// Why it may not be released, if so.
        failed: Option<String>,
    },
    /// The watchdog is dead or says nothing.
    Silent {
        what: &'static str,
        stage: Stage,
        /// The process group of a quiesce hook that may still run.
        group: Option<Pid>,
        /// As in [`End::Released`].
        quiesce: Option<(String, bool)>,
    },
}

/// A conversation with one watchdog.
pub(super) struct Conversation {
    socket: Option<StdStream>,
    until: Instant,
    releasing: Duration,
    stage: Stage,
    /// When the watchdog must have spoken.
    due: Instant,
    group: Option<Pid>,
    quiesce: Option<(String, bool)>,
    given_up: bool,
    lost: bool,
}

impl Conversation {
    /// About a hold until `until`, whose release may take as long as `releasing`.
    pub(super) fn new(socket: StdStream, until: Instant, releasing: Duration) -> Self {
        Self {
            socket: Some(socket),
            until,
            releasing,
            stage: Stage::Arming,
            due: Instant::now() + ARMING,
            group: None,
            quiesce: None,
            given_up: false,
            lost: false,
        }
    }

    /// Whether the agent gave the hold up.
    pub(super) fn given_up(&self) -> bool {
        self.given_up
    }

    /// Orders the hold and follows it to its end.
    pub(super) async fn follow(
        &mut self,
        order: &Told,
        release: &mut oneshot::Receiver<()>,
        say: &impl Fn(Said),
    ) -> End {
        let Some((mut lines, mut out)) = self.socket.take().and_then(split) else {
            return self.silent("could not be talked to");
        };
        tell(&mut out, order).await;
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let answer = line.ok().flatten().and_then(|line| serde_json::from_str(&line).ok());
                    let Some(answer) = answer else { return self.silent("died") };
                    if let Some(end) = self.answered(answer, say) {
                        return end;
                    }
                }
                _ = &mut *release, if !self.given_up => {
                    self.given_up = true;
                    tell(&mut out, &Told::Release).await;
                    self.release();
                }
                () = sleep_until(self.due) => match self.stage {
                    Stage::Arming => return self.silent("did not confirm that it is armed"),
                    Stage::Quiescing | Stage::Releasing => return self.silent("says nothing"),
                    // Its own clock began a moment later.
                    Stage::Holding => self.over(say),
                },
            }
        }
    }

    fn answered(&mut self, answer: Answer, say: &impl Fn(Said)) -> Option<End> {
        match answer {
            Answer::Armed { unlocked } => {
                if let Some(why) = unlocked {
                    tracing::debug!(why, "the watchdog's memory is not locked");
                }
                if self.stage == Stage::Arming {
                    (self.stage, self.due) = (Stage::Quiescing, self.until + SLACK);
                }
            }
            Answer::Began { group } => self.group = Pid::from_raw(group),
            Answer::Quiesced => {
                self.group = None;
                if !self.given_up {
                    (self.stage, self.due) = (Stage::Holding, self.until);
                    say(Said::Quiesced { until: self.until });
                }
            }
            Answer::Failed { reason, permanent } => {
                self.group = None;
                self.quiesce = Some((reason, permanent));
                self.release();
            }
            Answer::Expired => self.over(say),
            Answer::Released { failed } => {
                return Some(End::Released { quiesce: self.quiesce.take(), failed });
            }
        }
        None
    }

    /// The time is over.
    fn over(&mut self, say: &impl Fn(Said)) {
        if self.stage == Stage::Holding && !self.lost {
            self.lost = true;
            say(Said::Lost { why: "max_hold is over" });
        }
        self.release();
    }

    fn release(&mut self) {
        if self.stage != Stage::Releasing {
            (self.stage, self.due) = (Stage::Releasing, Instant::now() + self.releasing + SLACK);
        }
    }

    fn silent(&mut self, what: &'static str) -> End {
        End::Silent { what, stage: self.stage, group: self.group, quiesce: self.quiesce.take() }
    }
}

fn split(socket: StdStream) -> Option<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)> {
    socket.set_nonblocking(true).ok()?;
    let (read, write) = UnixStream::from_std(socket).ok()?.into_split();
    Some((BufReader::new(read).lines(), write))
}

/// A watchdog that is gone is noticed by its answer.
async fn tell(out: &mut OwnedWriteHalf, word: &Told) {
    let Ok(mut line) = serde_json::to_vec(word) else { return };
    line.push(b'\n');
    let _ = out.write_all(&line).await;
}
