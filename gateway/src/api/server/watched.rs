//! A connection's socket that tells what its client does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::conduct::Conduct;

/// What the kernel holds of a live stream that is not read. Small, so that a client that takes nothing is soon known,
/// however little there is to send.
const LIVE_SEND_BYTES: usize = 32 << 10;

/// A connection's state, shared by its socket, its requests and whoever closes it.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    conduct: Arc<Mutex<Conduct>>,
    live: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { conduct: Arc::new(Mutex::new(Conduct::begun(Instant::now()))), live: Arc::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Conduct> {
        // Each change of it is whole.
        self.conduct.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The answer has no known end. Where it has no patience of its own it is live, and a client must keep up.
    pub(super) fn streams(&self, patient: Option<Duration>) {
        if patient.is_none() {
            self.0.live.store(true, Ordering::Relaxed);
        }
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
    is_live: bool,
}

impl Watched {
    pub(super) fn new(socket: TcpStream, watch: Watch) -> Self {
        Self { socket, watch, is_live: false }
    }

    fn prepare(&mut self) {
        if !self.is_live && self.watch.live.load(Ordering::Relaxed) {
            self.is_live = true;
            // Without it a client is known later.
            let _ = SockRef::from(&self.socket).set_send_buffer_size(LIVE_SEND_BYTES);
        }
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
        self.prepare();
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.prepare();
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
