//! A connection whose writes leave together, once its user has nothing left to do but to read.
//!
//! The MQTT client flushes each acknowledgement by itself: a system call, a packet, and a wake-up of the broker for four bytes.
//! Here a flush sends nothing. The client reads as soon as it has nothing more to write, and a read sends first.
//!
//! Invariants: bytes leave in their order. None waits while the client sleeps, since it sleeps in a read. A shutdown sends all.
//! Bound: at [`HELD_BYTES_MAX`] a write sends first, and waits for room. Deliberately absent: use under a session that
//! writes, flushes and closes without a read between.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HELD_BYTES_MAX: usize = 16 << 10;

/// Holds back what is written until the next read.
#[derive(Debug)]
pub(super) struct Gathered<S> {
    stream: S,
    held: Vec<u8>,
    /// How much of it has left.
    sent: usize,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), sent: 0 }
    }

    /// Ready when nothing is held any more.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.held[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Where the other end takes nothing now, its own bytes still come in.
        if let Poll::Ready(Err(error)) = this.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.held.len() + bytes.len() > HELD_BYTES_MAX {
            ready!(this.poll_send(context))?;
        }
        this.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Whether the other end has anything to read now.
    async fn comes(other: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        let read = std::future::poll_fn(|context| {
            let mut read = pin!(other.read(&mut bytes));
            Poll::Ready(read.as_mut().poll(context))
        });
        match read.await {
            Poll::Ready(Ok(count)) => Some(bytes[..count].to_vec()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_leaves_with_the_next_read_in_its_order() {
        let (stream, mut other) = tokio::io::duplex(64 << 10);
        let mut gathered = Gathered::new(stream);
        for byte in 0..4_u8 {
            gathered.write_all(&[byte]).await.unwrap();
            gathered.flush().await.unwrap();
        }
        assert_eq!(comes(&mut other).await, None);
        assert_eq!(comes(&mut gathered).await, None, "there is nothing to read");
        assert_eq!(comes(&mut other).await, Some(vec![0, 1, 2, 3]));
        gathered.write_all(&[4]).await.unwrap();
        gathered.shutdown().await.unwrap();
        assert_eq!(comes(&mut other).await, Some(vec![4]));
    }

    #[tokio::test]
    async fn at_the_bound_a_write_sends_and_an_end_that_takes_nothing_is_still_read() {
        let (stream, mut other) = tokio::io::duplex(1_000);
        let mut gathered = Gathered::new(stream);
        gathered.write_all(&vec![7; HELD_BYTES_MAX]).await.unwrap();
        assert_eq!(comes(&mut other).await, None);
        {
            let mut more = pin!(gathered.write_all(&[8]));
            let polled = std::future::poll_fn(|context| Poll::Ready(more.as_mut().poll(context))).await;
            assert!(polled.is_pending(), "it waits for room");
        }
        other.write_all(b"hello").await.unwrap();
        assert_eq!(comes(&mut gathered).await.as_deref(), Some(&b"hello"[..]));
        let mut received = Vec::new();
        while received.len() < HELD_BYTES_MAX {
            assert_eq!(comes(&mut gathered).await, None);
            received.extend(comes(&mut other).await.unwrap());
        }
        assert!(received.iter().all(|byte| *byte == 7) && received.len() == HELD_BYTES_MAX);
    }
}
