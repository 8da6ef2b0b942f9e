//! Calling an HTTP function: plain `wasi:http` components, 0.3 and 0.2, a fresh instance for each request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime::component::{GuestTaskId, InstancePre};
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpHooks, WasiHttpView as _};

use super::invoke::failure_of;
use super::{Call, Failure, Guest, Sandbox};
use crate::effects::Staged;
use crate::records::LogBuffer;

/// The body of a request or a response.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A component that handles HTTP requests.
pub struct HttpFunction {
    pre: ProxyPre<Guest>,
}

/// Why a request was not answered by the function.
pub type HttpFailure = Failure;

/// What is left of an instance when it is gone.
pub struct Leftover {
    /// What it staged; `Err` when it trapped or hit a limit.
    pub result: Result<Staged, Failure>,
    /// What it logged.
    pub logs: LogBuffer,
}

impl HttpFunction {
    /// Takes a component that exports `wasi:http/handler@0.3` or `wasi:http/incoming-handler@0.2`.
    pub fn new(pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
        use wasmtime_wasi_http::{p2, p3};
        let pre = match p3::bindings::ServicePre::new(pre.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_not_p3) => ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?),
        };
        Ok(Self { pre })
    }

    /// Hands a request to a fresh instance. The response's body streams while the instance lives; the
    /// receiver tells what is left when it has gone.
    pub async fn run(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        call: Arc<Call>,
        request: http::Request<Body>,
    ) -> (
        Result<http::Response<Body>, HttpFailure>,
        tokio::sync::oneshot::Receiver<Leftover>,
    ) {
        let (tell, told) = tokio::sync::oneshot::channel();
        let limit = call.spec.limits.wall_time;
        let one = OneRequest {
            function: self.clone(),
            sandbox: sandbox.clone(),
            call: call.clone(),
            tell: std::sync::Mutex::new(Some(tell)),
        };
        let request = request.map(|body| body.map_err(into_wasi_error).boxed_unsync());
        let handler = ProxyHandler::new(one);
        let response = match tokio::time::timeout(limit, handler.handle((), request)).await {
            Err(_elapsed) => Err(Failure::Limit(format!("limit `wall_time` of {limit:?} reached"))),
            Ok(Err(error)) => Err(Failure::Trap(format!("{:#}", error.root_cause()))),
            Ok(Ok(response)) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
        };
        (response, told)
    }
}

fn into_wasi_error(error: Box<dyn std::error::Error + Send + Sync>) -> wasmtime_wasi_http::Error {
    wasmtime_wasi_http::Error::InternalError(Some(error.to_string()))
}

/// The handler of one request, which then is done.
struct OneRequest {
    function: Arc<HttpFunction>,
    sandbox: Arc<Sandbox>,
    call: Arc<Call>,
    tell: std::sync::Mutex<Option<tokio::sync::oneshot::Sender<Leftover>>>,
}

impl HandlerState for OneRequest {
    type StoreData = Guest;
    type WorkerExpiration = Deadline;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, Deadline, Worker>> {
        let mut store = Guest::store(&self.sandbox, self.call.clone());
        let proxy = self.function.pre.instantiate_async(&mut store).await?;
        let tell = self
            .tell
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let limit = self.call.spec.limits.wall_time;
        Ok(Instance {
            store,
            proxy,
            view: |guest| guest.http(),
            expiration: Deadline { limit, sleep: None },
            state: Worker {
                tell: std::sync::Mutex::new(tell),
            },
        })
    }
}

/// Ends the instance when its wall time is over.
struct Deadline {
    limit: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl WorkerExpiration for Deadline {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        if status == WorkerStatus::Idle {
            return Poll::Ready(());
        }
        let until = tokio::time::Instant::from_std(start + self.limit);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        sleep.as_mut().poll(cx)
    }
}

struct Worker {
    tell: std::sync::Mutex<Option<tokio::sync::oneshot::Sender<Leftover>>>,
}

impl WorkerState for Worker {
    type StoreData = Guest;
    type RequestData = ();

    fn should_accept_request(&self, _concurrent: usize, total: usize) -> ShouldAccept {
        if total == 0 {
            ShouldAccept::Yes
        } else {
            ShouldAccept::Never
        }
    }

    fn on_request_start(
        &self,
        _store: StoreContextMut<'_, Guest>,
        _data: (),
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<Guest>, result: Result<(), wasmtime::Error>) {
        let guest = store.data();
        guest.keep_output();
        let result = match result {
            Ok(()) => Ok(guest.call.take_effects()),
            Err(error) => Err(failure_of(&error, guest)),
        };
        let left = Leftover {
            result,
            logs: guest.call.take_logs(),
        };
        if let Some(tell) = self
            .tell
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
        {
            let _nobody_waits = tell.send(left);
        }
    }
}

/// Requests that a guest sends out: only to the hosts its manifest grants.
pub(super) struct Outbound {
    call: Arc<Call>,
}

impl Outbound {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self { call }
    }
}

type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, wasmtime_wasi_http::Error>> + Send> {
        let host = request
            .uri()
            .authority()
            .map(|authority| authority.as_str().to_owned())
            .unwrap_or_default();
        let spec = &self.call.spec;
        if let Err(denied) = spec.grants.allows_http(&spec.name, &host) {
            self.call.log(crate::records::Level::Warn, denied);
            return Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) });
        }
        Box::new(async move {
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let io: Box<dyn Future<Output = _> + Send> = Box::new(io);
            Ok((response.map(http_body_util::BodyExt::boxed_unsync), io))
        })
    }
}
