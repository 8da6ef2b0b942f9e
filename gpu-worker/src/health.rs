//! `GET /health`: whether the host knows this worker, for whoever starts it again, or waits for it.
//!
//! One connection at a time, and each for a moment: nobody but a supervisor asks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the host knows this worker.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Notes whether the host knows this worker now.
    pub fn note(&self, known: bool) {
        self.0.store(known, Ordering::Relaxed);
    }

    /// Answers whoever asks.
    pub async fn answer(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream).await,
                Err(error) => {
                    tracing::warn!(%error, "nobody can ask for this worker's health");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }

    async fn serve(&self, stream: TcpStream) {
        let service = service_fn(|request| {
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // Who went away, or dawdles, is told nothing.
        let _ = tokio::time::timeout(PATIENCE, connection).await;
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match request.uri().path() {
            "/health" if self.0.load(Ordering::Relaxed) => (StatusCode::OK, r#"{"status":"ok"}"#),
            "/health" => (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"no host"}"#),
            _ => (StatusCode::NOT_FOUND, r#"{"status":"there is only `/health`"}"#),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    }
}
