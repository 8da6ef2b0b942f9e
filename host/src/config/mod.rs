//! What an operator may set: a TOML file, every key with a default, every mistake reported in one go.

mod attached;
mod read;
mod units;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use read::ConfigMistakes;
use tidegate_cloud::{Attached, Endpoints, Settings};
use tidegate_runtime::dispatch::Places;
use tidegate_runtime::jobs::Limits;
use tidegate_runtime::platform::Handles;
use tidegate_runtime::records::KeptRequests;
use tidegate_tls::Identity;

use read::Reader;
use tidegate_trace::{Endpoint, Tuning};
pub(crate) use units::parse_duration;

/// Everything that may be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of all that the host keeps.
    pub data_dir: PathBuf,
    /// Folders searched for components, after the manifest's own.
    pub components: Vec<PathBuf>,
    /// How long running work may take to end when the host is told to stop.
    pub drain: Duration,
    /// Where state, objects and queues are.
    pub store: StoreConfig,
    /// How many invocations there may be at one time.
    pub invocations: Places,
    /// How many jobs of a tenant there may be at one time, and how long they may take.
    pub jobs: Limits,
    /// How many requests are kept on record.
    pub requests: KeptRequests,
    /// The gateway.
    pub gateway: GatewayConfig,
    /// The S3 endpoint.
    pub s3: S3Config,
    /// Models for clients of the field's protocol.
    pub inference: InferenceConfig,
    /// The worker process.
    pub worker: WorkerConfig,
    /// The recorder of requests and responses.
    pub recorder: RecorderConfig,
    /// The export of traces.
    pub otlp: OtlpConfig,
    /// The host as a Lambda function.
    pub lambda: LambdaConfig,
}

/// The host as a Lambda function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LambdaConfig {
    /// How its answers to requests go out.
    pub invoke_mode: InvokeMode,
}

/// How answers of a Lambda function go out, as its function URL is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// In one piece.
    Buffered,
    /// As they come.
    ResponseStream,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// In the data folder, for one host; the bytes of objects in S3, where that is told.
    Embedded(Option<Box<Settings>>),
    /// In Amazon's services, or others that speak as they do, for many hosts.
    Aws(Box<Settings>),
}

impl StoreConfig {
    /// Whether it is one host's own.
    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// What a host handles of the events that wait.
    pub fn handles(&self) -> Handles {
        match self {
            Self::Aws(settings) if settings.intake.is_some() => Handles::Nothing,
            _ => Handles::Queues,
        }
    }

    /// What a back-up of it says that it is of.
    pub fn layout(&self) -> &'static str {
        match self {
            Self::Embedded(_) => tidegate_runtime::store::embedded::LAYOUT,
            Self::Aws(_) => tidegate_cloud::LAYOUT,
        }
    }

    /// Buckets of others, by their names here.
    pub fn attached(&self) -> BTreeMap<String, Attached> {
        match self {
            Self::Embedded(_) => BTreeMap::new(),
            Self::Aws(settings) => settings.attached.clone(),
        }
    }
}

/// The gateway: functions' routes, `/api/v1`, `/worker/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What a client from another machine must present (`Authorization: Bearer`) to `/api/v1`; none refuses it.
    pub api_token: Option<String>,
    /// Names, besides this machine's own, under which `/api/v1` may be called.
    pub hosts: Vec<String>,
    /// Bytes of a request's body to a function or of a JSON body.
    pub max_body: u64,
    /// Bytes of an object.
    pub max_object: u64,
    /// Open connections.
    pub max_connections: usize,
    /// Requests to functions that are answered at one time.
    pub max_requests: usize,
    /// How long a request waits for its turn before it is told to come back later.
    pub queue_wait: Duration,
    /// Until a request's head is there.
    pub head_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// Until a client that takes nothing of its answer is cut off.
    pub write_timeout: Duration,
}

/// The S3 endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Open connections.
    pub max_connections: usize,
    /// Multipart uploads that are not completed after this time are given up.
    pub upload_lifetime: Duration,
}

/// Models for clients of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferenceConfig {
    /// Where the protocol is spoken over gRPC; the gateway has it over HTTP.
    pub listen: SocketAddr,
    /// Bytes of a request, and of the tensors in it.
    pub max_request: u64,
    /// Requests that are read and answered at one time.
    pub max_requests: usize,
    /// Bytes of memory that the bodies of requests over HTTP take at one time, each from its beginning as much as it tells;
    /// more wait for them.
    pub max_bodies: u64,
    /// Bytes of memory that the models of the host's worker may take together.
    pub memory: u64,
    /// Requests under way that one worker is to have, by which it is told how many workers are wanted.
    pub requests_per_worker: usize,
    /// The model that `/invocations` asks.
    pub invocations: Option<String>,
    /// Whether `/metrics` tells of models under Triton's names as well.
    pub triton_metrics: bool,
    /// How workers run models, by their names.
    pub models: BTreeMap<String, ModelConfig>,
}

/// How workers run a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelConfig {
    /// How its requests are run together, if they are.
    pub batching: Option<Batching>,
    /// With what inputs are filled up, by their names, so that requests of different shapes are run together.
    pub padding: BTreeMap<String, i64>,
    /// Its instances; without them there are as many as requests have use for.
    pub instances: Option<InstanceGroup>,
}

/// The instances of a model in each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceGroup {
    /// How many.
    pub count: usize,
    /// Where, in Triton's words.
    pub kind: &'static str,
}

/// How requests of a model are run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Rows of one run at most.
    pub max_batch_size: usize,
    /// How long a request waits for others where none need wait.
    pub max_queue_delay: Duration,
}

/// The worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Whether the host starts one.
    pub start: bool,
    /// The executable; by default `tidegate-worker` beside the host's own.
    pub program: Option<PathBuf>,
    /// The ONNX Runtime library that it uses.
    pub onnxruntime: Option<PathBuf>,
    /// What that computes with, the first preferred.
    pub execution_providers: Vec<&'static str>,
    /// What jobs of kind `train.command` may run in it, by name: a program and its arguments.
    pub commands: BTreeMap<String, Vec<String>>,
    /// The token of workers; made anew at each start by default.
    pub token: Option<String>,
    /// TLS between this host and workers that it does not start.
    pub tls: Option<WorkerTls>,
    /// After how long without anything to do it is ended, until there is something again; 0 keeps it.
    pub idle_stop: Duration,
    /// How long an inference may take.
    pub infer_timeout: Duration,
    /// How long an inference waits for a worker to come up.
    pub infer_wait: Duration,
}

/// TLS between a host and workers that it does not start, on which both show a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerTls {
    /// What the host shows to workers.
    pub identity: Identity,
    /// The authorities of workers' certificates.
    pub authorities: PathBuf,
    /// The name in workers' certificates; by default that of the address under which each is reached.
    pub server_name: Option<String>,
}

/// The recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderConfig {
    /// Records that wait to be written; more are dropped and counted.
    pub queue: usize,
    /// Records of one object.
    pub batch: usize,
    /// How long a record waits at most before it is written.
    pub interval: Duration,
}

/// The export of traces by OTLP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The collector; without one no spans are made.
    pub endpoint: Option<Endpoint>,
    /// How spans get there.
    pub tuning: Tuning,
}

impl WorkerConfig {
    /// After how long the host's own worker is ended when it has nothing to do, if it is.
    pub fn ends_idle(&self) -> Option<Duration> {
        Some(self.idle_stop).filter(|time| self.start && !time.is_zero())
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut none = Reader::new(toml::Table::new());
        read(&mut none)
    }
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigMistakes> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigMistakes::new(&file, vec![format!("cannot be read: {error}")]))?;
        Self::parse(&text, &file)
    }

    /// Reads a text; `file` is named in mistakes.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigMistakes> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                text[..span.start.min(text.len())].lines().count().max(1)
            });
            ConfigMistakes::new(file, vec![format!("line {line}: {}", error.message())])
        })?;
        let mut reader = Reader::new(table);
        let config = read(&mut reader);
        reader.finish(file).map(|()| config)
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn read(from: &mut Reader) -> Config {
    Config {
        data_dir: from.path("data_dir").unwrap_or_else(|| ".tidegate".into()),
        components: from.texts("components").into_iter().map(Into::into).collect(),
        drain: from.duration("drain", "25s", ("0s", "1h")),
        store: read_store(from),
        invocations: Places {
            total: from.count("invocations.total", 512, 1..=512),
            per_tenant: from.count("invocations.per_tenant", 512, 1..=512),
            tenants: from.numbers("invocations.tenants", 1..=512),
        },
        jobs: Limits {
            per_tenant: from.count("jobs.per_tenant", 64, 1..=10_000),
            tenants: from.numbers("jobs.tenants", 0..=10_000),
            timeout: from.duration("jobs.timeout", "24h", ("1s", "30d")),
            told_in_queues: false,
        },
        requests: KeptRequests {
            newest: from.count("requests.newest", 1000, 1..=100_000),
            interval: from.duration("requests.interval", "2s", ("10ms", "1m")),
        },
        gateway: read_gateway(from),
        s3: S3Config {
            listen: from.address("s3.listen", local(9000)),
            access_key: from.secret("s3.access_key").unwrap_or_else(|| "tidegate".into()),
            secret_key: from
                .secret("s3.secret_key")
                .unwrap_or_else(|| "tidegate-dev".into()),
            max_connections: from.count("s3.max_connections", 1024, 1..=100_000),
            upload_lifetime: from.duration("s3.upload_lifetime", "7d", ("1m", "365d")),
        },
        inference: InferenceConfig {
            listen: from.address("inference.listen", local(8081)),
            max_request: from.bytes("inference.max_request", "64MiB", ("1KiB", "1GiB")),
            max_requests: from.count("inference.max_requests", 256, 1..=100_000),
            max_bodies: from.bytes("inference.max_bodies", "4GiB", ("1MiB", "1TiB")),
            memory: from.bytes("inference.memory", "2GiB", ("1MiB", "1TiB")),
            requests_per_worker: from.count("inference.requests_per_worker", 8, 1..=100_000),
            invocations: from.text("inference.invocations"),
            triton_metrics: from.flag("inference.triton_metrics", false),
            models: from.tables("inference.models", read_model),
        },
        worker: WorkerConfig {
            start: from.flag("worker.start", true),
            program: from.path("worker.program"),
            onnxruntime: from.path("worker.onnxruntime"),
            execution_providers: from.words("worker.execution_providers", &["cpu", "cuda", "tensorrt"]),
            commands: from.commands("worker.commands"),
            token: from.secret("worker.token"),
            tls: read_worker_tls(from),
            idle_stop: from.duration("worker.idle_stop", "0s", ("0s", "1d")),
            infer_timeout: from.duration("worker.infer_timeout", "10s", ("10ms", "10m")),
            infer_wait: from.duration("worker.infer_wait", "10s", ("0s", "10m")),
        },
        recorder: RecorderConfig {
            queue: from.count("recorder.queue", 10_000, 1..=1_000_000),
            batch: from.count("recorder.batch", 1000, 1..=100_000),
            interval: from.duration("recorder.interval", "5s", ("10ms", "1h")),
        },
        otlp: OtlpConfig {
            endpoint: from.parsed("otlp.endpoint"),
            tuning: Tuning {
                queue: from.count("otlp.queue", 8192, 1..=1_000_000),
                interval: from.duration("otlp.interval", "1s", ("10ms", "1m")),
                timeout: from.duration("otlp.timeout", "5s", ("10ms", "1m")),
            },
        },
        lambda: LambdaConfig {
            invoke_mode: match from.word("lambda.invoke_mode", &["buffered", "response_stream"]) {
                "response_stream" => InvokeMode::ResponseStream,
                _ => InvokeMode::Buffered,
            },
        },
    }
}

fn read_store(from: &mut Reader) -> StoreConfig {
    let kind = from.word("store.kind", &["embedded", "aws"]);
    let places: &[&str] = match kind {
        "aws" => &["s3"],
        _ => &["files", "s3"],
    };
    let objects = from.word("store.objects", places);
    let bucket = match (kind, objects) {
        ("aws", _) => from.needed("store.bucket", "a store in AWS keeps its objects there"),
        (_, "s3") => from.needed("store.bucket", "`store.objects` is `\"s3\"`"),
        _ => from.text("store.bucket").unwrap_or_default(),
    };
    let settings = Settings {
        bucket,
        table: from.text("store.table").unwrap_or_else(|| "tidegate".into()),
        queues: from.text("store.queues").unwrap_or_else(|| "tidegate-".into()),
        intake: from.text("store.intake"),
        region: from.text("store.region"),
        endpoints: Endpoints {
            dynamodb: from.text("store.dynamodb"),
            s3: from.text("store.s3"),
            sqs: from.text("store.sqs"),
        },
        visibility: from.duration("store.visibility", "30s", ("3s", "1h")),
        keep_queues: from.duration("store.keep_queues", "1h", ("1s", "14d")),
        attached: attached::read(from, kind),
    };
    match kind {
        "aws" => StoreConfig::Aws(Box::new(settings)),
        _ => StoreConfig::Embedded((objects == "s3").then(|| Box::new(settings))),
    }
}

fn read_model(from: &mut Reader) -> ModelConfig {
    let grouped = from.has("instance_group");
    let instances = InstanceGroup {
        count: from.count("instance_group.count", 1, 1..=64),
        kind: from.word("instance_group.kind", &["KIND_AUTO", "KIND_CPU", "KIND_GPU"]),
    };
    let words = ["max_batch_size", "max_queue_delay", "padding"];
    let together = !grouped || words.iter().any(|word| from.has(word));
    let batching = Batching {
        max_batch_size: from.count("max_batch_size", 32, 2..=4096),
        max_queue_delay: from.duration("max_queue_delay", "0s", ("0s", "10s")),
    };
    ModelConfig {
        batching: together.then_some(batching),
        padding: from.numbers("padding", i64::MIN..=i64::MAX),
        instances: grouped.then_some(instances),
    }
}

fn read_worker_tls(from: &mut Reader) -> Option<WorkerTls> {
    let server_name = from.text("worker.server_name");
    let files = from.together(["worker.cert_file", "worker.key_file", "worker.ca_file"]);
    let Some([certificate, key, authorities]) = files else {
        if server_name.is_some() {
            from.refuse("`worker.server_name` is set, and `worker.ca_file` is missing".into());
        }
        return None;
    };
    Some(WorkerTls {
        identity: Identity { certificate, key },
        authorities,
        server_name,
    })
}

fn read_gateway(from: &mut Reader) -> GatewayConfig {
    GatewayConfig {
        listen: from.address("gateway.listen", local(8080)),
        api_token: from.secret("gateway.api_token"),
        hosts: from.texts("gateway.hosts"),
        max_body: from.bytes("gateway.max_body", "8MiB", ("1KiB", "1GiB")),
        max_object: from.bytes("gateway.max_object", "5GiB", ("1KiB", "5TiB")),
        max_connections: from.count("gateway.max_connections", 4096, 1..=100_000),
        max_requests: from.count("gateway.max_requests", 1024, 1..=100_000),
        queue_wait: from.duration("gateway.queue_wait", "2s", ("0s", "1m")),
        head_timeout: from.duration("gateway.head_timeout", "30s", ("100ms", "10m")),
        body_timeout: from.duration("gateway.body_timeout", "30s", ("100ms", "10m")),
        write_timeout: from.duration("gateway.write_timeout", "30s", ("100ms", "10m")),
    }
}

#[cfg(test)]
mod tests;
