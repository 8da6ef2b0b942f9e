//! The command line: `up` is the platform itself, every other command talks to a running one.

mod alias;
mod backup;
mod check;
mod client;
mod declared;
mod deploy;
mod dlq;
mod events;
mod export;
mod invoke;
mod jobs;
mod lambda;
mod logging;
mod logs;
mod models;
mod new;
mod package;
mod put;
mod replay;
mod requests;
mod restore;
mod rollback;
mod runs;
mod stream;
mod text;
mod up;
mod versions;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::config::parse_duration;
use client::Client;

/// Serverless machine-learning pipelines in one process.
#[derive(Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Up(up::Up),
    Check(check::Check),
    Deploy(deploy::Deploy),
    Declared(declared::Declared),
    Export(export::Export),
    Versions(versions::Versions),
    Alias(alias::Alias),
    Rollback(rollback::Rollback),
    Replay(replay::Replay),
    Put(put::Put),
    Invoke(invoke::Invoke),
    Events(events::Events),
    Runs(runs::Runs),
    Requests(requests::Requests),
    Dlq(dlq::Dlq),
    Logs(logs::Logs),
    Models(models::Models),
    Jobs(jobs::Jobs),
    Lambda(lambda::Lambda),
    Package(package::Pack),
    Backup(backup::Backup),
    Restore(restore::Restore),
}

/// Where the running host is, and how its answers are shown.
#[derive(Args, Debug, Clone)]
struct Target {
    /// The host's gateway
    #[arg(
        long,
        env = "TIDEGATE_HOST_URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    host: String,
    /// The token that a host asks of other machines (`gateway.api_token`)
    #[arg(long, env = "TIDEGATE_API_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// A certificate (PEM) to trust for `https://`, for example the host's `tls/cert.pem`
    #[arg(long, env = "TIDEGATE_CA", global = true)]
    ca: Option<std::path::PathBuf>,
    /// Answers for programs: JSON as the host sent it
    #[arg(long, global = true)]
    json: bool,
}

/// The arguments of the process. Lambda starts a program called `bootstrap`, without any.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    if program == Some(OsStr::new("bootstrap")) {
        arguments.insert(1, "lambda".into());
    }
    arguments
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments());
    let _a_second_call_finds_it_there = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return text::failed(&anyhow::Error::new(error).context("cannot start threads")),
    };
    let ended = runtime.block_on(run(cli.command));
    // Blocking calls of a host that has drained already may not hold its end up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    ended.unwrap_or_else(|error| text::failed(&error))
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(up) => return up.run().await,
        Command::New(new) => new.run()?,
        Command::Check(check) => return check.run(),
        Command::Deploy(deploy) => deploy.run().await?,
        Command::Declared(declared) => declared.run().await?,
        Command::Export(export) => export.run().await?,
        Command::Versions(versions) => versions.run().await?,
        Command::Alias(alias) => alias.run().await?,
        Command::Rollback(rollback) => rollback.run().await?,
        Command::Replay(replay) => replay.run().await?,
        Command::Put(put) => put.run().await?,
        Command::Invoke(invoke) => invoke.run().await?,
        Command::Events(events) => events.run().await?,
        Command::Runs(runs) => runs.run().await?,
        Command::Requests(requests) => requests.run().await?,
        Command::Dlq(dlq) => dlq.run().await?,
        Command::Logs(logs) => logs.run().await?,
        Command::Models(models) => models.run().await?,
        Command::Jobs(jobs) => jobs.run().await?,
        Command::Lambda(lambda) => lambda.run().await?,
        Command::Package(package) => package.run()?,
        Command::Backup(backup) => backup.run().await?,
        Command::Restore(restore) => restore.run().await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Target {
    fn client(&self) -> Result<Client> {
        Client::new(&self.host, self.token.clone(), self.ca.as_deref())
    }
}

/// A duration that somebody typed, in milliseconds.
fn millis(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text).map(|duration| duration.as_millis() as u64);
    duration.ok_or_else(|| format!("`{text}` is no duration such as `30s`, `90m`, `6h` or `2d`"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_are_well_formed() {
        super::Cli::command().debug_assert();
    }
}
