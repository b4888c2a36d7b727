//! What answers under way weigh. An answer is made whole and then taken at the caller's pace; all of them together are
//! bounded by [`Weights`], beyond which a further one is refused (429). Small answers have a reserve, so that a few callers
//! who leave large ones untaken refuse nobody a small one. Streams, the page's own files and answers about health weigh
//! nothing: each connection holds one at most.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// Bytes that are handed to a connection at once, so that it holds little and the rest is counted here.
const PIECE_BYTES: usize = 32 << 10;

/// An answer up to this has the reserve.
const SMALL_BYTES: u64 = 64 << 10;

/// Bytes of answers that callers have not yet taken.
#[derive(Debug)]
pub(super) struct Weights {
    all: Pool,
    /// For small answers, which may be in the other one as well.
    reserve: Pool,
}

#[derive(Debug)]
struct Pool {
    bytes: AtomicU64,
    limit_bytes: u64,
}

impl Weights {
    pub(super) fn new(limit_bytes: u64, reserve_bytes: u64) -> Arc<Self> {
        let pool = |limit_bytes| Pool { bytes: AtomicU64::new(0), limit_bytes };
        Arc::new(Self { all: pool(limit_bytes), reserve: pool(reserve_bytes) })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.all.bytes.load(Ordering::Relaxed) + self.reserve.bytes.load(Ordering::Relaxed)
    }

    /// The same body, counted until it is taken; `None` where there is no room for it.
    pub(super) fn weigh(self: &Arc<Self>, body: Body) -> Option<Body> {
        let Some(size) = body.size_hint().exact() else { return Some(body) };
        let weight = self.take(size)?;
        Some(Body::new(Weighed { body, rest: Bytes::new(), _weight: weight }))
    }

    fn take(self: &Arc<Self>, size: u64) -> Option<Weight> {
        let is_reserved = size <= SMALL_BYTES && self.reserve.take(size);
        if !is_reserved && !self.all.take(size) {
            return None;
        }
        Some(Weight { weights: Arc::clone(self), is_reserved, size })
    }
}

impl Pool {
    fn take(&self, size: u64) -> bool {
        let more = |bytes: u64| bytes.checked_add(size).filter(|&bytes| bytes <= self.limit_bytes);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

struct Weight {
    weights: Arc<Weights>,
    is_reserved: bool,
    size: u64,
}

impl Drop for Weight {
    fn drop(&mut self) {
        let pool = if self.is_reserved { &self.weights.reserve } else { &self.weights.all };
        pool.bytes.fetch_sub(self.size, Ordering::AcqRel);
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
        let decided_lsn = self.body.size_hint();
        decided_lsn.exact().map_or(decided_lsn, |left| SizeHint::with_exact(left + self.rest.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_weigh_until_they_are_taken_and_one_without_room_is_refused() {
        let weights = Weights::new(100_000, 0);
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
    #[tokio::test]
    async fn a_small_answer_has_room_where_large_ones_leave_none() {
        let weights = Weights::new(100_000, 70_000);
        let large = weights.weigh(Body::from("a".repeat(100_000))).unwrap();
        assert!(weights.weigh(Body::from("b".repeat(65_537))).is_none(), "the reserve is not for large ones");
        let small = weights.weigh(Body::from("c".repeat(65_536))).unwrap();
        assert!(weights.weigh(Body::from("d".repeat(4_465))).is_none(), "it has a bound as well");
        drop(large);
        let beside = weights.weigh(Body::from("d".repeat(4_465))).unwrap();
        drop(small);
        assert_eq!(weights.bytes(), 4_465);
        drop(beside);
        assert_eq!(weights.bytes(), 0);
    }
}
