//! The host as a Lambda function: nothing listens, and nothing runs between two invocations.
//!
//! The process is handed requests, messages that name events, notices of S3 and the times when schedules may be due
//! ([`Invocation`]). Each is handled as on any other host. What an answer leaves behind, the records of a request, is
//! written after the answer and before the next invocation is asked for, as the process may be frozen then for hours.

mod http;
mod invocation;
mod queue;
mod tidying;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{FutureExt as _, Stream};
use lambda_runtime::{Diagnostic, FunctionResponse, LambdaEvent, Runtime, service_fn};
use serde_json::{Value, json};
use tidegate_cloud::Cloud;
use tidegate_runtime::platform::Handles;
use tidegate_runtime::sandbox::Pool;
use tidegate_runtime::{PlatformConfig, Traffic};
use tidegate_trace::Spans;

use self::http::Request;
use self::invocation::Invocation;
use self::tidying::Tidying;
use crate::api::Faces;
use crate::api::gateway::Gateway;
use crate::api::metrics::HostMetrics;
use crate::config::{Config, InvokeMode, StoreConfig};
use crate::host;
use crate::notices::Notices;
use crate::package::{CODE, COMPONENTS, MANIFEST};

/// Instances at one time: Lambda sends one request, or one batch of messages, at a time.
const INSTANCES: u32 = 16;

/// A piece of an answer.
type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Failed>> + Send>>;
type Failed = Box<dyn std::error::Error + Send + Sync>;
type Answer = FunctionResponse<Value, Pieces>;

/// Answers Lambda's Runtime API until the process is ended. The package's folder has the configuration, and the app with
/// its components and their machine code.
pub async fn run(config: Config, package: PathBuf) -> Result<()> {
    let lambda = Arc::new(Lambda::start(config, package).await?);
    let handler = lambda.clone();
    let service = service_fn(move |event: LambdaEvent<Value>| {
        let handler = handler.clone();
        async move { handler.invoke(event.payload).await }.boxed()
    });
    let runtime = Runtime::new(service).layer(Tidying(lambda));
    runtime
        .run()
        .await
        .map_err(|error| anyhow::anyhow!("the Runtime API does not answer: {error}"))
}

/// A host that is handed everything.
struct Lambda {
    faces: Faces,
    gateway: Gateway,
    cloud: Arc<Cloud>,
    notices: Option<Notices>,
    mode: InvokeMode,
    package: PathBuf,
}

impl Lambda {
    async fn start(mut config: Config, package: PathBuf) -> Result<Self> {
        let StoreConfig::Aws(settings) = config.store.clone() else {
            anyhow::bail!(
                "a Lambda function keeps nothing: `store.kind` is `\"embedded\"`, expected `\"aws\"`"
            );
        };
        let cloud = Arc::new(Cloud::open_handed(*settings).await);
        config.components.insert(0, package.join(COMPONENTS));
        config.invocations.total = config.invocations.total.min(INSTANCES as usize);
        // Nothing waits for a later time.
        config.requests.interval = Duration::ZERO;
        let mode = config.lambda.invoke_mode;
        let platform = PlatformConfig {
            handles: Handles::Handed,
            packaged: Some(package.join(CODE)),
            pool: Pool {
                instances: INSTANCES,
                ..Pool::default()
            },
            ..host::platform_config(&config, &Spans::default())
        };
        let metrics = Arc::new(HostMetrics::default());
        let faces = host::faces(config, platform, cloud.clone(), metrics).await?;
        Ok(Self {
            gateway: Gateway::new(faces.clone()),
            notices: Notices::of(&faces, Some(&cloud)),
            faces,
            cloud,
            mode,
            package,
        })
    }

    /// Handles one invocation.
    async fn invoke(&self, event: Value) -> Result<Answer, Diagnostic> {
        let invocation = Invocation::of(event).map_err(told("Unknown"))?;
        if let Err(error) = self.faces.platform.catch_up().await {
            tracing::warn!(%error, "what was deployed meanwhile is not known yet");
        }
        let answer = match invocation {
            Invocation::Http(request) => return self.answer(*request).await,
            Invocation::Messages(records) => self.handle(records).await,
            Invocation::Notice(text) => {
                self.take_in(&text).await.map_err(told("NotTaken"))?;
                Value::Null
            }
            Invocation::Tick => {
                self.tick().await.map_err(told("Store"))?;
                Value::Null
            }
            Invocation::Deploy => self.deploy().await.map_err(told("NotDeployed"))?,
        };
        Ok(FunctionResponse::BufferedResponse(answer))
    }

    /// Answers a request of a function URL or of API Gateway.
    async fn answer(&self, request: Request) -> Result<Answer, Diagnostic> {
        let request = request.into_http().map_err(told("Malformed"))?;
        let response = self.gateway.invoke(request).await;
        Ok(match self.mode {
            InvokeMode::Buffered => FunctionResponse::BufferedResponse(http::buffered(response).await),
            InvokeMode::ResponseStream => FunctionResponse::StreamingResponse(http::streamed(response)),
        })
    }

    /// Takes in what S3 or EventBridge tells.
    async fn take_in(&self, text: &str) -> Result<()> {
        let notices = self.notices.as_ref();
        let notices = notices.context("a notice of S3, but the configuration attaches no bucket")?;
        Ok(notices.take_in(text, None).await?)
    }

    /// Fires the schedules that are due, and finishes what others left undone.
    async fn tick(&self) -> Result<()> {
        self.faces.platform.fire_due().await?;
        Ok(self.cloud.sweep().await?)
    }

    /// Deploys the app of the package.
    async fn deploy(&self) -> Result<Value> {
        host::make_buckets(&self.faces).await?;
        if let Some(notices) = &self.notices {
            notices.attach().await?;
        }
        let manifest = self.package.join(MANIFEST);
        let deployed = self.faces.platform.deploy(&manifest, Traffic::Changed).await?;
        Ok(json!(deployed))
    }

    /// Writes what answers left to be written.
    async fn tidy(&self) {
        self.faces.platform.tidied().await;
        self.faces.recorder.flush().await;
    }
}

/// An error as Lambda is told of it.
fn told<E: std::fmt::Display>(kind: &str) -> impl FnOnce(E) -> Diagnostic {
    let error_type = format!("Tidegate.{kind}");
    move |error| Diagnostic {
        error_type,
        error_message: format!("{error:#}"),
    }
}
