//! Calling an HTTP function: plain `wasi:http` components, 0.3 and 0.2, one request at a time in an instance.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _, stream};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use tidegate_trace::{Context, Kind, Span};
use tokio::sync::oneshot;
use tracing::Instrument as _;
use wasmtime::component::{Accessor, InstancePre};
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{Prepared, Proxy, ProxyPre};

use super::instances::{Entry, Instances, Returned};
use super::{Call, Guest, Outcome, Sandbox};
use crate::dispatch::FailureKind;
use crate::metrics::Invocation;

/// The body of a request or a response.
pub type Body = UnsyncBoxBody<Bytes, Failed>;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of an answer that is gathered before it is sent.
const SMALL: usize = 64 << 10;
/// How often the guest may go on before its answer is sent in pieces.
const TURNS: usize = 4;

/// A component that handles HTTP requests.
pub struct HttpFunction {
    instances: Instances<ProxyPre<Guest>>,
}

/// An invocation's response, none where it ended without one, and what came of it when the response's body has ended too.
pub type Answered = (Option<http::Response<Body>>, oneshot::Receiver<Outcome>);

/// A request, and whoever waits for its response.
type Asked = (http::Request<Body>, oneshot::Sender<http::Response<Body>>);

impl HttpFunction {
    /// Takes a component that exports `wasi:http/handler@0.3` or `wasi:http/incoming-handler@0.2`.
    pub fn new(pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
        use wasmtime_wasi_http::{p2, p3};
        let pre = match p3::bindings::ServicePre::new(pre.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_not_p3) => ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?),
        };
        Ok(Self {
            instances: Instances::of(pre),
        })
    }

    /// Hands a request to an instance of its own. The response's body streams while the invocation goes on; the
    /// receiver tells what came of it when it has ended.
    pub async fn run(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        call: Arc<Call>,
        request: http::Request<Body>,
    ) -> Answered {
        let (answer, answered) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let (function, sandbox, services) = (self.clone(), sandbox.clone(), call.services.clone());
        let (above, begun) = (tidegate_trace::current(), call.services.clock.now_ms());
        // In a box, as it is large and is moved by all that it is wrapped in.
        let task = Box::pin(async move {
            let outcome = function.instances.run(&sandbox, &call, (request, answer)).await;
            call.services
                .spans()
                .record(|| span(&call, above, begun, &outcome));
            call.services.metrics.invoked(&Invocation {
                function: &call.spec.name,
                trigger: "http",
                wall: outcome.wall,
                usage: outcome.usage,
                failure: outcome.result.as_ref().err(),
            });
            let _nobody_waits_any_more = tell.send(outcome);
        });
        services.spawn(task.in_current_span());
        (answered.await.ok(), told)
    }
}

impl Entry for ProxyPre<Guest> {
    type Instance = Proxy;
    type Asked = Asked;

    async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Proxy> {
        self.instantiate_async(store).await
    }

    async fn call(
        proxy: &Proxy,
        accessor: &Accessor<Guest>,
        _call: &Call,
        (request, answer): Asked,
    ) -> wasmtime::Result<Returned> {
        handle(accessor, proxy, request, answer).await?;
        Ok(Returned {
            said: Ok(()),
            alone: true,
        })
    }
}

/// The span of an invocation that began at a time, in milliseconds.
fn span(call: &Call, above: Option<Context>, begun: u64, outcome: &Outcome) -> Option<Span> {
    let (name, usage) = (call.spec.name.as_str(), &outcome.usage);
    let start = begun.saturating_mul(1_000_000);
    let times = (start, start.saturating_add(outcome.wall.as_nanos() as u64));
    let span = Span::new(call.event.context()?, above, Kind::Internal, name, times)
        .with("faas.name", name)
        .with("faas.version", call.spec.version.to_string())
        .with("faas.trigger", "http")
        .with("faas.coldstart", !usage.warm)
        .with("tidegate.run", call.event.run.as_str())
        .with("tidegate.start_ms", usage.start_ms)
        .with("tidegate.cpu_ms", usage.cpu_ms)
        .with("tidegate.peak_memory", usage.peak_memory)
        .with("tidegate.host_calls", usage.host_calls);
    Some(match &outcome.result {
        Ok(_staged) => span,
        Err(failure) => span.failed(FailureKind::from(failure).name(), &failure.to_string()),
    })
}

/// Calls the guest's handler, passes its response on as soon as there is one, and waits until no task of the guest
/// is left.
async fn handle(
    accessor: &Accessor<Guest>,
    proxy: &Proxy,
    request: http::Request<Body>,
    answer: oneshot::Sender<http::Response<Body>>,
) -> wasmtime::Result<()> {
    let request = request.map(|body| body.map_err(into_wasi_error).boxed_unsync());
    let (set, response) = futures::channel::oneshot::channel();
    let prepared = accessor.with(|mut access| {
        Prepared::new(access.as_context_mut(), proxy, request, |guest| guest.http(), set)
    })?;
    let passing_on = async {
        let response = response
            .await
            .map_err(|_| wasmtime::format_err!("no response"))??;
        let (head, body) = response.into_parts();
        let body = gather(body.map_err(Into::into).boxed_unsync()).await;
        // A client that has gone needs no answer.
        answer.send(http::Response::from_parts(head, body)).ok();
        Ok(())
    };
    let handling = async { prepared.run(accessor, std::future::pending()).await.map(drop) };
    futures::future::try_join(handling, passing_on).await?;
    std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
    Ok(())
}

/// A body as one piece, where it is small and the guest waits for nothing else before it is whole: that saves its
/// way through the connection piece by piece. Any other body streams, with the pieces that were there already.
async fn gather(mut body: Body) -> Body {
    let mut gathered = BytesMut::new();
    let mut last = None;
    for _turn in 0..TURNS {
        while let Some(frame) = body.frame().now_or_never() {
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => {
                    return Full::from(gathered.freeze())
                        .map_err(|never| match never {})
                        .boxed_unsync();
                }
                Some(Ok(Ok(data))) if gathered.len() + data.len() <= SMALL => {
                    gathered.extend_from_slice(&data)
                }
                Some(Ok(Ok(data))) => last = Some(Ok(Frame::data(data))),
                Some(Ok(Err(other))) => last = Some(Ok(other)),
                Some(Err(error)) => last = Some(Err(error)),
            }
            if last.is_some() {
                return streamed(gathered, last, body);
            }
        }
        tokio::task::yield_now().await;
    }
    streamed(gathered, last, body)
}

/// A body that begins with pieces which were taken out of it.
fn streamed(gathered: BytesMut, last: Option<Result<Frame<Bytes>, Failed>>, body: Body) -> Body {
    let first = (!gathered.is_empty()).then(|| Ok(Frame::data(gathered.freeze())));
    let pieces = stream::iter(first.into_iter().chain(last)).chain(BodyStream::new(body));
    StreamBody::new(pieces).boxed_unsync()
}

fn into_wasi_error(error: Failed) -> wasmtime_wasi_http::Error {
    wasmtime_wasi_http::Error::InternalError(Some(error.to_string()))
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn body(pieces: Vec<Result<Frame<Bytes>, Failed>>, open: bool) -> Body {
        let rest = stream::pending().take(usize::from(open));
        StreamBody::new(stream::iter(pieces).chain(rest)).boxed_unsync()
    }

    fn piece(len: usize) -> Result<Frame<Bytes>, Failed> {
        Ok(Frame::data(Bytes::from(vec![7; len])))
    }

    #[tokio::test]
    async fn a_small_body_that_comes_at_once_is_one_piece() {
        let gathered = gather(body(vec![piece(3), piece(4)], false)).await;
        assert_eq!(gathered.size_hint().exact(), Some(7));
    }

    #[tokio::test]
    async fn a_body_that_is_large_waits_or_breaks_off_streams_with_all_its_pieces() {
        let mut waiting = gather(body(vec![piece(3), piece(4)], true)).await;
        assert_eq!(
            waiting.frame().await.unwrap().unwrap().into_data().unwrap().len(),
            7
        );
        assert!(waiting.frame().now_or_never().is_none());
        let large = gather(body(vec![piece(SMALL), piece(1), piece(2)], false)).await;
        assert_eq!(large.size_hint().exact(), None);
        assert_eq!(large.collect().await.unwrap().to_bytes().len(), SMALL + 3);
        let mut broken = gather(body(vec![piece(3), Err("gone".into())], false)).await;
        assert_eq!(
            broken.frame().await.unwrap().unwrap().into_data().unwrap().len(),
            3
        );
        assert_eq!(broken.frame().await.unwrap().unwrap_err().to_string(), "gone");
        let trailers = Ok(Frame::trailers(http::HeaderMap::new()));
        let mut trailed = gather(body(vec![piece(3), trailers], false)).await;
        assert!(trailed.frame().await.unwrap().unwrap().is_data());
        assert!(trailed.frame().await.unwrap().unwrap().is_trailers());
    }
}
