//! A socket that knows its place: holds its pass as long as it is open, whoever owns it (HTTP,
//! WebSocket, Socket.IO), and fails when its client does not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::gate::Pass;

/// Without any progress in writing for so long, the client is gone or never reads. Above the
/// carriers' own limits, which know more to say.
const STALLED_AFTER: Duration = Duration::from_secs(20);

/// A socket with its pass.
#[derive(Debug)]
pub(super) struct Admitted<S> {
    stream: S,
    pass: Arc<Pass>,
    /// Only while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Admitted<S> {
    pub(super) fn new(stream: S, pass: Pass) -> Self {
        Self { stream, pass: Arc::new(pass), stalled: None }
    }

    pub(super) fn pass(&self) -> &Arc<Pass> {
        &self.pass
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What a write came to, unless it has waited too long.
    fn watch<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + STALLED_AFTER)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Admitted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Admitted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(result, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{admission::ConnectionLimits, server::gate::Gate};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_fails_and_its_place_is_free_again() {
        let gate = Gate::new(ConnectionLimits::default(), Arc::default());
        let (near, _far) = tokio::io::duplex(16);
        let pass = gate.admit("192.0.2.1".parse().unwrap()).unwrap();
        let mut stream = Admitted::new(near, pass);
        stream.write_all(&[0; 16]).await.unwrap();
        let error = stream.write_all(&[0; 16]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(gate.open(), 1);
        drop(stream);
        assert_eq!(gate.open(), 0);
    }
}
