//! A socket that knows its place: holds its pass as long as it is open, whoever owns it (HTTP,
//! WebSocket, Socket.IO).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gate::Pass;

/// A socket with its pass.
#[derive(Debug)]
pub(super) struct Admitted<S> {
    stream: S,
    pass: Arc<Pass>,
}

impl<S> Admitted<S> {
    pub(super) fn new(stream: S, pass: Pass) -> Self {
        Self { stream, pass: Arc::new(pass) }
    }

    pub(super) fn pass(&self) -> &Arc<Pass> {
        &self.pass
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{
        admission::ConnectionLimits,
        server::{gate::Gate, write_deadline::WriteDeadline},
    };

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_fails_and_its_place_is_free_again() {
        let gate = Gate::new(ConnectionLimits::default(), Arc::default());
        let (near, _far) = tokio::io::duplex(16);
        let near = WriteDeadline::new(near, std::time::Duration::from_secs(10));
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
