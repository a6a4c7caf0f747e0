//! A connection that is given up once nothing has moved on it for a while, in either direction: whoever neither sends nor takes
//! anything holds no place for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream with a limit on silence.
pub(super) struct Patient<S> {
    inner: S,
    limit: Duration,
    quiet: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(super) fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit, quiet: Box::pin(sleep(limit)) }
    }

    /// What came of a call: anything that moved begins the time anew.
    fn heard<T>(&mut self, context: &mut Context<'_>, came: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if came.is_ready() {
            self.quiet.as_mut().reset(Instant::now() + self.limit);
            return came;
        }
        match self.quiet.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let came = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.heard(context, came)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let came = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.heard(context, came)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::Patient;

    #[tokio::test]
    async fn silence_ends_a_connection_in_both_directions() {
        let (one, mut other) = duplex(8);
        let mut patient = Patient::new(one, Duration::from_millis(200));
        other.write_all(b"four").await.expect("written");
        let mut four = [0; 4];
        patient.read_exact(&mut four).await.expect("something moved");
        assert_eq!(patient.read_u8().await.expect_err("silence").kind(), ErrorKind::TimedOut);
        // Nobody takes what is written: the pipe is full.
        let (one, _other) = duplex(8);
        let mut patient = Patient::new(one, Duration::from_millis(200));
        assert_eq!(patient.write_all(&[0; 64]).await.expect_err("silence").kind(), ErrorKind::TimedOut);
    }
}
