//! A request's body whose rest is read when nobody wants it: a connection that is closed over unread bytes is reset,
//! and the client would see that instead of the answer which says what was wrong.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// How long a client has for the rest.
const LINGER: Duration = Duration::from_secs(10);

/// The body of a request that comes.
pub struct Incoming {
    /// None once it is dropped.
    body: Option<hyper::body::Incoming>,
    /// The client sends nothing before it is asked to, which a read does.
    waits: bool,
    ended: bool,
}

impl Incoming {
    /// The same request.
    pub(super) fn of(request: Request<hyper::body::Incoming>) -> Request<Self> {
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|body| Self {
            body: Some(body),
            waits,
            ended: false,
        })
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        self.waits = false;
        let frame = ready!(polled);
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(|body| body.size_hint())
            .unwrap_or_default()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let rest = self
            .body
            .take()
            .filter(|body| !self.ended && !self.waits && !body.is_end_stream());
        let (Some(mut rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}
