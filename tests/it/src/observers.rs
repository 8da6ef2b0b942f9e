//! Who looks on from outside: a collector of traces, and Prometheus' parser, in processes of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A span as the collector got it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The process that made it.
    pub service: String,
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub span: String,
    /// The span above it; empty at the root.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// Its kind, such as `CONSUMER`.
    pub kind: String,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What it tells.
    pub attributes: Map<String, Value>,
    /// Whether it failed.
    pub failed: bool,
    /// Why.
    pub message: String,
    /// What happened meanwhile.
    pub events: BTreeMap<String, Map<String, Value>>,
}

/// A collector that runs.
#[derive(Debug)]
pub struct Collector {
    /// Where it takes spans.
    pub endpoint: String,
    spans: Arc<Mutex<Result<Vec<Span>, String>>>,
    // Held for its end.
    _child: Child,
}

impl Collector {
    /// Starts one on a free port.
    pub async fn start() -> Result<Self> {
        let mut child = python("collector.py")?.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let first = lines.next_line().await?.context("the collector does not start")?;
        let first: Value = serde_json::from_str(&first)?;
        let spans = Arc::new(Mutex::new(Ok(Vec::new())));
        tokio::spawn(follow(lines, spans.clone()));
        Ok(Self {
            endpoint: format!("http://127.0.0.1:{}", first["port"]),
            spans,
            _child: child,
        })
    }

    /// All spans so far; an error once it was sent something that is no OTLP.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.clone().map_err(anyhow::Error::msg)
    }
}

async fn follow(mut lines: Lines<BufReader<ChildStdout>>, spans: Arc<Mutex<Result<Vec<Span>, String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let span = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"));
        let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
        match (spans.as_mut(), span) {
            (Ok(spans), Ok(span)) => spans.push(span),
            (Ok(_), Err(error)) => *spans = Err(error),
            (Err(_), _) => return,
        }
    }
}

/// Every family of metrics in a text, by its name, as Prometheus' parser reads them.
pub async fn families(text: &str) -> Result<Map<String, Value>> {
    let mut child = python("metrics.py")?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(text.as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn python(script: &str) -> Result<Command> {
    let packages = std::env::var_os("TIDEGATE_OBSERVERS").map(PathBuf::from);
    let packages = packages.context("`TIDEGATE_OBSERVERS` is not set; `cargo xtask test` sets it")?;
    let mut command = Command::new("python3");
    command
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("observers")
                .join(script),
        )
        .env("PYTHONPATH", packages)
        .kill_on_drop(true);
    Ok(command)
}
