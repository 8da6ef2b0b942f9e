//! What the worker is told at its start, by its host or by a person.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tidegate_tls::Identity;
use tidegate_trace::Endpoint;

use crate::command::Commands;
use crate::inference::provider::Provider;

/// One part of what a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Leases jobs and runs them.
    Jobs,
    /// Answers inference requests.
    Inference,
}

/// Tidegate's worker: leases training jobs from a host and serves inference to it.
#[derive(Debug, Clone, Parser)]
#[command(name = "tidegate-worker", version)]
pub struct Settings {
    /// Where the host listens, for example http://127.0.0.1:8080
    #[arg(long, env = "TIDEGATE_HOST")]
    pub host: String,
    /// A certificate (PEM) to trust for a host at `https://`
    #[arg(long, env = "TIDEGATE_HOST_CA")]
    pub host_ca: Option<PathBuf>,
    /// The certificate (PEM, with those between it and its authority) that the worker shows to its host, and serves inference with
    #[arg(long, env = "TIDEGATE_CERT_FILE", requires_all = ["key_file", "ca_file"])]
    pub cert_file: Option<PathBuf>,
    /// The private key (PEM) of `--cert-file`
    #[arg(long, env = "TIDEGATE_KEY_FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// The authorities (PEM) of those who may ask for inference, and of the host where `--host-ca` names no other
    #[arg(long, env = "TIDEGATE_CA_FILE", requires = "cert_file")]
    pub ca_file: Option<PathBuf>,
    /// Proves to the host that this is its worker
    #[arg(long, env = "TIDEGATE_WORKER_TOKEN", hide_env_values = true)]
    pub token: String,
    /// The worker's name, which no other worker of the host may have; drawn anew at each start when left out
    #[arg(long, env = "TIDEGATE_WORKER_NAME")]
    pub name: Option<String>,
    /// The one part of the work that this worker does; both when left out
    #[arg(long, env = "TIDEGATE_WORKER_ONLY")]
    pub only: Option<Part>,
    /// Where to answer `GET /health` over plain HTTP: 200 as long as the host knows this worker, else 503
    #[arg(long, env = "TIDEGATE_HEALTH_LISTEN")]
    pub health: Option<SocketAddr>,
    /// Where to serve inference; port 0 takes a free one
    #[arg(long, env = "TIDEGATE_INFERENCE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// ONNX Runtime's threads inside one request
    #[arg(long, env = "TIDEGATE_ORT_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub ort_threads: u16,
    /// What ONNX Runtime computes with, the first preferred. Where one is missing, a model is refused, unless `cpu` is in the list
    #[arg(
        long,
        env = "TIDEGATE_EXECUTION_PROVIDERS",
        value_enum,
        value_delimiter = ',',
        default_value = "cpu"
    )]
    pub execution_providers: Vec<Provider>,
    /// Bytes of an inference request at most
    #[arg(long, env = "TIDEGATE_INFERENCE_MAX_REQUEST", default_value_t = 64 << 20)]
    pub max_request: usize,
    /// Bytes of memory that loaded models may take together
    #[arg(long, env = "TIDEGATE_MODEL_MEMORY", default_value_t = 2 << 30)]
    pub model_memory: u64,
    /// What jobs of kind `train.command` may run, by name, as JSON: {"NAME": ["PROGRAM", "ARGUMENT"]}
    #[arg(
        long,
        env = "TIDEGATE_COMMANDS",
        default_value = "{}",
        hide_default_value = true
    )]
    pub commands: Commands,
    /// An OpenTelemetry collector that takes traces, for example http://127.0.0.1:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,
    /// Go on when standard input ends; a worker that is somebody's child ends with its parent instead
    #[arg(long)]
    pub standalone: bool,
}

impl Settings {
    /// What the worker shows, and the authorities of those who ask it, where it speaks TLS.
    pub fn tls(&self) -> Option<(Identity, PathBuf)> {
        let (certificate, key) = (self.cert_file.clone()?, self.key_file.clone()?);
        Some((Identity { certificate, key }, self.ca_file.clone()?))
    }

    /// Whether this worker does a part of the work.
    pub fn does(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(more: &[&str]) -> Result<Settings, String> {
        let arguments = ["tidegate-worker", "--host", "http://h", "--token", "t"];
        let all = arguments.iter().chain(more).copied();
        Settings::try_parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn providers_are_a_list_and_what_is_no_provider_is_told_with_those_there_are() {
        let told = parsed(&["--execution-providers", "tensorrt,cuda,cpu"]).unwrap();
        let wanted = [Provider::Tensorrt, Provider::Cuda, Provider::Cpu];
        assert_eq!(told.execution_providers, wanted);
        let refused = parsed(&["--execution-providers", "cuda,tpu"]).unwrap_err();
        for part in ["'tpu'", "cpu, cuda, tensorrt"] {
            assert!(refused.contains(part), "`{part}` is not in: {refused}");
        }
    }

    #[test]
    fn the_files_of_tls_are_all_there_or_none_is() {
        assert!(parsed(&[]).unwrap().tls().is_none());
        let refused = parsed(&["--cert-file", "c"]).unwrap_err();
        assert!(
            refused.contains("--key-file") && refused.contains("--ca-file"),
            "{refused}"
        );
        let all = parsed(&["--cert-file", "c", "--key-file", "k", "--ca-file", "a"]).unwrap();
        assert!(all.tls().is_some());
    }
}
