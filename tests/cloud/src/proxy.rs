//! A way to the servers on which calls get lost: before they arrive, or before they are answered.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

type Forward = Client<HttpConnector, Full<Bytes>>;

/// Where a call gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It never arrives.
    Asked,
    /// It took effect, and its answer never arrives.
    Answered,
}

/// What happens to calls, on all ways that share it.
#[derive(Debug, Default)]
pub struct Weather {
    calls: AtomicUsize,
    lost: Mutex<Option<(usize, Lost)>>,
    cut: AtomicBool,
}

impl Weather {
    /// Counts calls from nought again, and loses one of those that follow.
    pub fn lose(&self, lost: Option<(usize, Lost)>) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = lost;
        self.calls.store(0, Ordering::SeqCst);
    }

    /// Calls since then.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Loses every call, or none any more.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    /// What happens to one more call.
    fn next(&self) -> Option<Lost> {
        let nth = self.calls.fetch_add(1, Ordering::SeqCst);
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = lost.filter(|(planned, _)| *planned == nth).map(|(_, lost)| lost);
        let cut = self.cut.load(Ordering::SeqCst).then_some(Lost::Asked);
        planned.or(cut)
    }
}

/// A way to one server; it ends with this.
pub(crate) struct Proxy {
    pub(crate) address: String,
    _stop: DropGuard,
}

impl Proxy {
    /// Opens a way to the server at an address such as `http://127.0.0.1:8000`.
    pub(crate) async fn start(to: &str, weather: Arc<Weather>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let address = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let accepting = accept(listener, to.trim_start_matches("http://").to_owned(), weather);
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(accepting).await });
        Ok(Self {
            address,
            _stop: stop.drop_guard(),
        })
    }
}

async fn accept(listener: TcpListener, to: String, weather: Arc<Weather>) -> Infallible {
    let client: Forward = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (client, to, weather) = (client.clone(), to.clone(), weather.clone());
        let service = service_fn(move |request| {
            let (client, to, lost) = (client.clone(), to.clone(), weather.next());
            async move { forward(&client, &to, lost, request).await }
        });
        let serving =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A lost call ends its connection.
        tokio::spawn(async move { drop(serving.await) });
    }
}

async fn forward(
    client: &Forward,
    to: &str,
    lost: Option<Lost>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>> {
    if lost == Some(Lost::Asked) {
        bail!("lost before it arrived");
    }
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("http://{to}{path}").parse::<Uri>()?;
    let body = body.collect().await?.to_bytes();
    let answer = client.request(Request::from_parts(head, Full::new(body))).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    if lost == Some(Lost::Answered) {
        bail!("lost before it was answered");
    }
    Ok(Response::from_parts(head, Full::new(body)))
}
