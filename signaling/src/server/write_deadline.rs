//! A connection whose other end does not read is broken off.
//!
//! Every carrier sits on this. Without it one whose writer waits in the operating system's full
//! buffer would never notice anything else, not even its own heartbeat.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that fails, in both directions, once a write has made no progress for the limit.
#[derive(Debug)]
pub(super) struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
    broken: bool,
    /// Waits to read, and is to learn of the end too.
    reader: Option<Waker>,
}

impl<S> WriteDeadline<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, timer: None, broken: false, reader: None }
    }

    /// Makes of a write's outcome what the limit makes of it.
    fn limit<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.timer = None;
            return outcome;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        self.broken = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(does_not_read()))
    }
}

fn does_not_read() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other end does not read")
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Err(does_not_read()));
        }
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        if outcome.is_pending() {
            match &mut this.reader {
                Some(reader) => reader.clone_from(context.waker()),
                None => this.reader = Some(context.waker().clone()),
            }
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Err(does_not_read()));
        }
        let outcome = Pin::new(&mut this.stream).poll_write(context, buffer);
        this.limit(outcome, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Err(does_not_read()));
        }
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        this.limit(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Err(does_not_read()));
        }
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.limit(outcome, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.limit(outcome, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex, split},
        time::Instant,
    };

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_end_that_never_reads_is_given_up() {
        let (near, _far) = duplex(64);
        let (mut reader, mut writer) = split(WriteDeadline::new(near, LIMIT));
        let start = Instant::now();
        let reading = tokio::spawn(async move { reader.read_u8().await });
        let error = writer.write_all(&[0; 100]).await.expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
        // Whoever only reads learns of it too.
        assert_eq!(reading.await.unwrap().expect_err("over").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_reads_slowly_is_not() {
        let (near, mut far) = duplex(64);
        let mut stream = WriteDeadline::new(near, LIMIT);
        let writing = tokio::spawn(async move { stream.write_all(&[0; 300]).await });
        for _ in 0..300 {
            sleep(LIMIT / 2).await;
            far.read_u8().await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_no_fault() {
        let (near, mut far) = duplex(64);
        let mut stream = WriteDeadline::new(near, LIMIT);
        stream.write_all(&[1]).await.unwrap();
        sleep(LIMIT * 100).await;
        stream.write_all(&[2]).await.unwrap();
        assert_eq!((far.read_u8().await.unwrap(), far.read_u8().await.unwrap()), (1, 2));
    }
}
