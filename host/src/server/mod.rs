//! One port that speaks TLS and plain HTTP: the first byte of a connection tells which.
//!
//! Plain HTTP is for this machine only. Everything a client may hold on to is bounded: the number of
//! connections, the time until the request's head is there, the time between two pieces of a body that comes, and
//! between two pieces of an answer that goes.

mod lingering;
mod patience;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tidegate_runtime::sandbox::Body;
use tidegate_tls::Watched;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use self::lingering::Incoming;
pub use self::patience::Unhurried;

use self::patience::Unstalled;

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// How HTTP/2 begins; no HTTP/1 method does.
const HTTP2_PREFACE: &[u8] = b"PRI";
/// What a peer from another machine is told on a plain connection.
const NOT_PLAIN: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\nupgrade: TLS/1.2\r\n\
content-type: text/plain\r\ncontent-length: 64\r\n\r\nplain HTTP is for clients on this machine; use https:// instead\n";

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// Whether it has shown a certificate of an authority that the port asks for.
    pub certified: bool,
}

impl Peer {
    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one.
    fn handle(
        self: Arc<Self>,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Bounds of one port.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections; more wait unaccepted.
    pub connections: usize,
    /// Until the head of a request is there, the TLS handshake included.
    pub head: Duration,
    /// Until a client that takes nothing of what is sent to it is cut off.
    pub write: Duration,
    /// Until open requests are cut off when the server stops.
    pub stop: Duration,
}

/// Serves until `stop`, then waits for the open requests.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Watched<ServerConfig>,
    bounds: Bounds,
    stop: CancellationToken,
    handler: Arc<H>,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(bounds.connections));
    while let Some(Some((stream, address))) = stop.run_until_cancelled(accept(&listener, &slots)).await {
        let (stream, slot) = stream;
        let connection = Connection {
            address,
            tls: tls.clone(),
            bounds,
            stop: stop.clone(),
            handler: handler.clone(),
        };
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            if let Err(error) = connection.run(stream, watcher).await {
                tracing::debug!(%address, %error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(bounds.stop, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("open requests are cut off");
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// The next connection once there is room for it; none when the listener is beyond help.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<((TcpStream, Slot), SocketAddr)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Some(((stream, slot), address)),
            Err(error) => {
                // Out of file descriptors, or the client went away: neither is the listener's end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Connection<H> {
    address: SocketAddr,
    tls: Watched<ServerConfig>,
    bounds: Bounds,
    stop: CancellationToken,
    handler: Arc<H>,
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    Tls,
    Http1,
    Http2,
    Nothing,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl<H: Handler> Connection<H> {
    async fn run(self, mut stream: TcpStream, watcher: Watcher) -> Result<(), Failed> {
        stream.set_nodelay(true)?;
        let opening = tokio::time::timeout(self.bounds.head, opening(&stream));
        let Some(opening) = self.stop.clone().run_until_cancelled(opening).await else {
            return Ok(());
        };
        match opening?? {
            Opening::Nothing => Ok(()),
            Opening::Tls => {
                let accepting = TlsAcceptor::from(self.tls.get()).accept(stream);
                let stream = tokio::time::timeout(self.bounds.head, accepting).await?;
                let stream = stream.inspect_err(|error| self.tell_refused(error))?;
                let session = stream.get_ref().1;
                let http2 = session.alpn_protocol() == Some(b"h2");
                let peer = self.peer(true, session.peer_certificates().is_some());
                self.serve(stream, peer, http2, watcher).await
            }
            plain if self.peer(false, false).is_local() => {
                let peer = self.peer(false, false);
                self.serve(stream, peer, plain == Opening::Http2, watcher).await
            }
            _ => Ok(stream.write_all(NOT_PLAIN).await?),
        }
    }

    fn peer(&self, secure: bool, certified: bool) -> Peer {
        Peer {
            address: self.address,
            secure,
            certified,
        }
    }

    /// Most handshakes that fail are of no interest; a certificate that somebody meant to be right is.
    fn tell_refused(&self, error: &std::io::Error) {
        if let Some(why) = tidegate_tls::refused(error) {
            tracing::warn!(address = %self.address, %why, "a client's certificate is refused");
        }
    }

    async fn serve<S>(self, stream: S, peer: Peer, http2: bool, watcher: Watcher) -> Result<(), Failed>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = Unstalled::new(stream, self.bounds.write);
        let handler = self.handler;
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let answer = handler.clone().handle(peer, Incoming::of(request));
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let builder = builder(self.bounds, http2);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        watcher.watch(connection).await
    }
}

fn builder(bounds: Bounds, http2: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(bounds.head);
    if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

async fn opening(stream: &TcpStream) -> std::io::Result<Opening> {
    let mut start = [0; HTTP2_PREFACE.len()];
    loop {
        let seen = stream.peek(&mut start).await?;
        match told_by(&start[..seen]) {
            Some(opening) => return Ok(opening),
            // A peek is ready as long as there is anything, so waiting for more takes a pause.
            None => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// What the first bytes tell; none when it takes more of them.
fn told_by(start: &[u8]) -> Option<Opening> {
    match start {
        [] => Some(Opening::Nothing),
        [TLS_HANDSHAKE, ..] => Some(Opening::Tls),
        start if start == HTTP2_PREFACE => Some(Opening::Http2),
        start if HTTP2_PREFACE.starts_with(start) => None,
        _ => Some(Opening::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(told_by(b""), Some(Opening::Nothing));
        assert_eq!(told_by(&[0x16]), Some(Opening::Tls));
        assert_eq!(told_by(b"GET"), Some(Opening::Http1));
        assert_eq!(told_by(b"P"), None);
        assert_eq!(told_by(b"PR"), None);
        assert_eq!(told_by(b"PUT"), Some(Opening::Http1));
        assert_eq!(told_by(b"PRI"), Some(Opening::Http2));
    }

    #[test]
    fn the_plain_answer_says_its_true_length() {
        let text = std::str::from_utf8(NOT_PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
    }

    #[tokio::test]
    async fn a_body_that_pauses_too_long_ends_in_an_error() {
        use http_body_util::BodyExt as _;
        let silent = futures::stream::pending::<Result<http_body::Frame<bytes::Bytes>, Failed>>();
        let body = Unhurried::new(http_body_util::StreamBody::new(silent), Duration::from_millis(10));
        let error = body.collect().await.unwrap_err();
        assert!(error.to_string().contains("10ms"), "{error}");
    }
}
