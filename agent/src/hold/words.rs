//! What agent and watchdog say to each other: a line of JSON each, over a pair of sockets that has no name.
//!
//! Both ends are the same executable, so there is no version. The end of the connection is a word, too: the other is gone.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::hook::Hook;

/// Longest line, in bytes: what a hook says is cut to a few KiB, its arguments are the user's.
const MAX_LINE: usize = 1 << 20;

/// What the agent tells the watchdog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Told {
    /// Arm, quiesce, hold.
    Hold {
        quiesce: Hook,
        release: Hook,
        /// From now on, at most.
        limit_millis: u64,
    },
    /// Release, and end.
    Release,
}

/// What the watchdog answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The deadline is set; nothing is quiesced yet.
    Armed {
        /// Why its memory could not be locked, if so.
        unlocked: Option<String>,
    },
    /// The quiesce hook runs in this process group.
    Began { group: i32 },
    /// The service is quiesced.
    Quiesced,
    /// It could not be quiesced; it is released next.
    Failed {
        reason: String,
        /// True when it would fail again until a person has changed something.
        permanent: bool,
    },
    /// The time is over; the service is released next.
    Expired,
    /// The last word: the release hook has run.
    Released {
        /// Why it did not end well, if so.
        failed: Option<String>,
    },
}

/// Lines as they come in.
#[derive(Debug)]
pub(super) struct Lines {
    socket: UnixStream,
    buffer: Vec<u8>,
    ended: bool,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came<T> {
    Word(T),
    /// Nothing yet.
    Nothing,
    /// The other end is gone, or talks nonsense.
    End,
}

impl Lines {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer: Vec::new(), ended: false })
    }

    /// The next word, waiting at most `limit` for something to come.
    pub(super) fn next<T: DeserializeOwned>(&mut self, limit: Duration) -> Came<T> {
        if let Some(word) = self.take() {
            return word;
        }
        let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        // A poll that is interrupted is a short wait; one that fails leaves it to the reading to say so.
        let _ = poll(&mut watched, Some(&limit));
        self.fill();
        match self.take() {
            Some(word) => word,
            None if self.ended => Came::End,
            None => Came::Nothing,
        }
    }

    /// Says something; whether it is heard is seen by the answer.
    pub(super) fn say<T: Serialize>(&mut self, word: &T) {
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        // The socket's buffer holds all that is ever said. An agent that does not read, or is gone, changes nothing.
        let _ = self.socket.write_all(&line);
    }

    fn fill(&mut self) {
        let mut part = [0; 4096];
        while !self.ended && self.buffer.len() <= MAX_LINE {
            match io::Read::read(&mut self.socket, &mut part) {
                Ok(0) => self.ended = true,
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
                Err(error) if crate::process::is_later(&error) => return,
                Err(_) => self.ended = true,
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self) -> Option<Came<T>> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            return (self.buffer.len() > MAX_LINE).then_some(Came::End);
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(serde_json::from_slice(&line).map_or(Came::End, Came::Word))
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Came, Lines};
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn words_come_one_by_one_and_then_the_end() {
        let (mine, mut theirs) = UnixStream::pair().expect("a pair");
        let mut lines = Lines::new(mine).expect("works");
        let soon = Duration::from_millis(1);
        assert_eq!(lines.next::<Answer>(soon), Came::Nothing);
        theirs.write_all(b"\"quiesced\"\n\"expi").expect("written");
        assert_eq!(lines.next(soon), Came::Word(Answer::Quiesced));
        assert_eq!(lines.next::<Answer>(soon), Came::Nothing);
        theirs.write_all(b"red\"\nnonsense\n").expect("written");
        drop(theirs);
        assert_eq!(lines.next(soon), Came::Word(Answer::Expired));
        assert_eq!(lines.next::<Answer>(soon), Came::End);
        assert_eq!(lines.next::<Answer>(soon), Came::End);
    }
}
