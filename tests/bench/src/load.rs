//! A load generator: every connection asks again as soon as it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::table::{duration, percentile, whole};

/// What is asked, of whom.
#[derive(Debug, Clone)]
pub struct Load {
    /// `127.0.0.1:8080`
    pub address: String,
    /// The path of the POST.
    pub path: String,
    /// Headers that it has beside those of every request.
    pub headers: Vec<(&'static str, String)>,
    /// The bodies, taken in turn.
    pub bodies: Vec<Bytes>,
    /// Connections at one time.
    pub connections: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Requests a second.
    pub rate: f64,
    /// Half of all answers took less, in milliseconds.
    pub p50: f64,
    /// 99 of 100 answers took less, in milliseconds.
    pub p99: f64,
}

impl Answered {
    /// In words.
    pub fn say(&self) -> String {
        format!(
            "{} req/s, p50 {}, p99 {}",
            whole(self.rate),
            duration(self.p50),
            duration(self.p99)
        )
    }
}

impl Load {
    /// Asks for as long as `time`; an answer that is no success ends it.
    pub async fn run_for(&self, time: Duration) -> Result<Answered> {
        self.run(Some(time), None).await
    }

    /// Asks `count` times in all.
    pub async fn run_times(&self, count: usize) -> Result<Answered> {
        self.run(None, Some(count.div_ceil(self.connections))).await
    }

    async fn run(&self, time: Option<Duration>, each: Option<usize>) -> Result<Answered> {
        let started = Instant::now();
        let tasks = (0..self.connections).map(|number| tokio::spawn(ask(self.clone(), number, time, each)));
        let mut took = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            took.extend(task.await.context("a connection's task ended")??);
        }
        let seconds = started.elapsed().as_secs_f64();
        let rate = took.len() as f64 / seconds;
        Ok(Answered {
            rate,
            p50: percentile(&mut took, 0.5),
            p99: percentile(&mut took, 0.99),
        })
    }
}

async fn ask(load: Load, number: usize, time: Option<Duration>, each: Option<usize>) -> Result<Vec<f64>> {
    let mut connection = connect(&load.address).await?;
    let started = Instant::now();
    let mut took = Vec::new();
    while time.is_none_or(|time| started.elapsed() < time) && each.is_none_or(|each| took.len() < each) {
        let body = load.bodies[(number + took.len()) % load.bodies.len()].clone();
        let mut request = Request::post(&load.path)
            .header("host", &load.address)
            .header("content-type", "application/json");
        for (name, value) in &load.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).context("no request")?;
        let asked = Instant::now();
        let response = connection.send_request(request).await.context("no answer")?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .context("the answer broke off")?
            .to_bytes();
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        ensure!(
            status.is_success(),
            "answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(took)
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("nobody listens at `{address}`"))?;
    stream.set_nodelay(true).context("cannot set a socket up")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("no HTTP")?;
    // It ends with the sender; what goes wrong before, the sender reports.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}
