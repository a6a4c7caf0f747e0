//! What a program writes: taken up in turns, and only its end is kept.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::TICK;

/// How much of what a program says is kept.
const TAIL_BYTES: usize = 4096;

/// Whether there is only nothing to read yet.
pub(crate) fn is_later(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind())
}

/// Waits for either pipe, at most one tick.
pub(crate) fn wait(stdout: Option<&impl AsFd>, stderr: Option<&impl AsFd>) -> Result<(), rustix::io::Errno> {
    let mut pipes: Vec<PollFd<'_>> = Vec::with_capacity(2);
    pipes.extend(stdout.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    pipes.extend(stderr.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    match poll(&mut pipes, Some(&tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Takes what a pipe holds now, without waiting and without end: a flood is taken up in turns.
pub(crate) fn drain(pipe: &mut Option<impl Read>, said: &mut Tail) {
    let mut buffer = [0; TAIL_BYTES];
    for _ in 0..16 {
        let Some(open) = pipe else { return };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => said.push(&buffer[..count]),
            Err(error) if is_later(&error) => return,
            Err(_) => *pipe = None,
        }
    }
}

/// The last bytes of what a program says.
#[derive(Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..excess);
    }

    /// As text that is safe on a terminal.
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes)
            .chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect();
        text.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Tail;

    #[test]
    fn only_the_end_of_what_is_said_is_kept() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; 10_000]);
        tail.push(b" the end\x07\n");
        let text = tail.text();
        assert!(text.len() <= 4096 && text.ends_with("the end"), "{text}");
    }
}
