//! A connection's socket that tells what its client does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::conduct::Conduct;

/// A connection's state, shared by its socket, its requests and whoever closes it.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<Mutex<Conduct>>);

impl Watch {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Conduct::begun(Instant::now()))))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Conduct> {
        // Each change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come; it is over when what this returns is dropped.
    pub(super) fn asked(&self) -> Asked {
        self.state().asked(Instant::now());
        Asked(self.clone())
    }
}

/// A request until its answer is handed over.
#[derive(Debug)]
pub(super) struct Asked(Watch);

impl Asked {
    pub(super) fn streams(&self, patient: Option<Duration>) {
        self.0.state().streams(Instant::now(), patient);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.state().answered(Instant::now());
    }
}

/// The socket.
#[derive(Debug)]
pub(super) struct Watched {
    socket: TcpStream,
    watch: Watch,
}

impl Watched {
    pub(super) fn new(socket: TcpStream, watch: Watch) -> Self {
        Self { socket, watch }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.watch.state().blocked(Instant::now()),
            Poll::Ready(Ok(1..)) => self.watch.state().took(),
            Poll::Ready(_) => {}
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.state().received(Instant::now());
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
