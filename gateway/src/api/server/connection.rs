//! One connection, from its place to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::places::Peer;
use super::watched::{Asked, Watch, Watched};
use super::{Server, without_delay};

/// The most of a request's head, and what is held of an answer beside what the routes made.
const BUFFER_BYTES: usize = 32 << 10;
const HEADERS_MAX: usize = 64;

/// Marks a streamed answer that has its own bound of how long a client may take nothing.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Patient(pub(in crate::api) Duration);

/// Closes the connection of the request that has it among its extensions.
#[derive(Debug, Clone)]
pub(in crate::api) struct Leave(pub(in crate::api) Arc<Notify>);

/// An open connection, as the others see it.
#[derive(Debug, Clone)]
pub(super) struct Open {
    watch: Watch,
    told_to_go: Arc<Notify>,
}

impl Open {
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.watch.state().silent_since()
    }

    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.watch.state().stuck_since()
    }

    /// Has it close, and its place become free.
    pub(super) fn leave(&self) {
        self.told_to_go.notify_one();
    }
}

/// A connection's place, free again when it is dropped.
pub(super) struct Place {
    server: Arc<Server>,
    open: Open,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = {
            let mut places = self.server.places();
            places.close(self.id);
            places.len()
        };
        self.server.figures.open(open);
        self.server.freed.notify_one();
    }
}

impl Place {
    pub(super) fn take(server: Arc<Server>, peer: Peer) -> Self {
        let open = Open { watch: Watch::new(), told_to_go: Arc::default() };
        let (id, number) = {
            let mut places = server.places();
            (places.open(peer, open.clone()), places.len())
        };
        server.figures.open(number);
        Self { server, open, id }
    }

    /// Serves requests until the client or we have enough of it. The socket is closed before the place is free.
    pub(super) async fn serve(self, socket: TcpStream, stopped: watch::Receiver<bool>) {
        without_delay(&socket);
        let watch = &self.open.watch;
        let io = TokioIo::new(Watched::new(socket, watch.clone()));
        let router = TowerToHyperService::new(self.server.router.clone());
        let leave = Leave(Arc::clone(&self.open.told_to_go));
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(leave.clone());
            answer(router.clone(), request, watch.asked())
        });
        let mut http = http1::Builder::new();
        http.max_buf_size(BUFFER_BYTES).max_headers(HEADERS_MAX);
        let connection = http.serve_connection(io, service);
        self.drive(connection, stopped).await;
    }

    async fn drive<S>(
        &self,
        connection: http1::Connection<TokioIo<Watched>, S>,
        mut stopped: watch::Receiver<bool>,
    ) where
        S: hyper::service::HttpService<Incoming, ResBody = Body>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut connection = pin!(connection);
        let mut told_to_go = pin!(self.open.told_to_go.notified());
        let mut stop = pin!(stopped.wait_for(|stop| *stop));
        let mut stopping = false;
        let mut timer = pin!(tokio::time::sleep(Duration::MAX));
        let mut armed = None;
        let late = poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if !stopping && stop.as_mut().poll(cx).is_ready() {
                stopping = true;
                connection.as_mut().graceful_shutdown();
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
            }
            if told_to_go.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(None));
            }
            // What was polled above may have moved it.
            let deadline = self.open.watch.state().deadline(&self.server.limits.patience);
            if armed != deadline {
                armed = deadline;
                if let Some((at, _)) = deadline {
                    timer.as_mut().reset(at.into());
                }
            }
            match armed {
                Some((_, late)) => timer.as_mut().poll(cx).map(|()| Some(Some(late))),
                None => Poll::Pending,
            }
        })
        .await;
        match late {
            Some(Some(late)) => self.server.figures.late(late),
            Some(None) => self.server.figures.made_room(),
            None => {}
        }
    }
}

/// One request's answer, watched until it is handed over.
async fn answer(
    router: TowerToHyperService<Router>,
    request: Request<Incoming>,
    asked: Asked,
) -> Result<Response<Body>, Infallible> {
    let response = router.call(request).await?;
    if response.body().size_hint().exact().is_none() {
        asked.streams(response.extensions().get::<Patient>().map(|patient| patient.0));
    }
    Ok(response.map(|body| Body::new(Handed { body, _asked: asked })))
}

/// A body that tells when it was handed over.
struct Handed {
    body: Body,
    _asked: Asked,
}

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
