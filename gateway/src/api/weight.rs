//! What answers under way weigh. An answer is made whole and then taken at the caller's pace; all of them together are
//! bounded by [`Weights`], beyond which a further one is refused (429). Streams and the page's own files weigh nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// Bytes that are handed to a connection at once, so that it holds little and the rest is counted here.
const PIECE_BYTES: usize = 32 << 10;

/// Bytes of answers that callers have not yet taken.
#[derive(Debug)]
pub(super) struct Weights {
    bytes: AtomicU64,
    limit_bytes: u64,
}

impl Weights {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), limit_bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The same body, counted until it is taken; `None` where there is no room for it.
    pub(super) fn weigh(self: &Arc<Self>, body: Body) -> Option<Body> {
        let Some(size) = body.size_hint().exact() else { return Some(body) };
        let weight = self.take(size)?;
        Some(Body::new(Weighed { body, rest: Bytes::new(), _weight: weight }))
    }

    fn take(self: &Arc<Self>, size: u64) -> Option<Weight> {
        let more = |bytes: u64| bytes.checked_add(size).filter(|&bytes| bytes <= self.limit_bytes);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Weight { weights: Arc::clone(self), size })
    }
}

struct Weight {
    weights: Arc<Weights>,
    size: u64,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.weights.bytes.fetch_sub(self.size, Ordering::AcqRel);
    }
}

struct Weighed {
    body: Body,
    /// Of a frame that is handed out in pieces.
    rest: Bytes,
    _weight: Weight,
}

impl HttpBody for Weighed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        hint.exact().map_or(hint, |left| SizeHint::with_exact(left + self.rest.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_weigh_until_they_are_taken_and_one_without_room_is_refused() {
        let weights = Weights::new(100_000);
        let text = "a".repeat(70_000);
        let body = weights.weigh(Body::from(text.clone())).unwrap();
        assert_eq!((weights.bytes(), body.size_hint().exact()), (70_000, Some(70_000)));
        assert!(weights.weigh(Body::from("b".repeat(30_001))).is_none());
        let small = weights.weigh(Body::from("c".repeat(30_000))).unwrap();
        let taken = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert!(taken == text.as_bytes(), "in pieces, and whole");
        assert_eq!(weights.bytes(), 30_000);
        drop(small);
        assert_eq!(weights.bytes(), 0);
    }
}
