//! The clients of the three services, over one way of speaking TLS.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::calls::Calls;
use crate::settings::Settings;

/// Tries of one call, by the client itself; backed off with jitter.
const TRIES: u32 = 5;
/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// One try of a call that moves rows or messages; the longest poll lasts 20 s.
const ATTEMPT: Duration = Duration::from_secs(30);
/// One try of a call that moves bytes of objects.
const TRANSFER: Duration = Duration::from_secs(120);

/// The clients.
pub(crate) struct Clients {
    pub(crate) dynamo: aws_sdk_dynamodb::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    /// For buckets of others.
    pub(crate) attached: BTreeMap<String, aws_sdk_s3::Client>,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

impl Clients {
    /// Clients with credentials as the SDK finds them: environment, profile, web identity, container, instance.
    pub(crate) async fn new(settings: &Settings, calls: &Calls) -> Self {
        let shared = shared(settings).await;
        let endpoints = &settings.endpoints;
        let mut dynamo = aws_sdk_dynamodb::config::Builder::from(&shared).interceptor(calls.clone());
        dynamo.set_endpoint_url(
            endpoints
                .dynamodb
                .clone()
                .or(shared.endpoint_url().map(Into::into)),
        );
        let mut sqs = aws_sdk_sqs::config::Builder::from(&shared).interceptor(calls.clone());
        sqs.set_endpoint_url(endpoints.sqs.clone().or(shared.endpoint_url().map(Into::into)));
        Self {
            dynamo: aws_sdk_dynamodb::Client::from_conf(dynamo.build()),
            s3: s3(&shared, endpoints.s3.as_deref(), None, calls),
            attached: settings
                .attached
                .iter()
                .map(|(name, attached)| {
                    let (endpoint, region) = (attached.endpoint.as_deref(), attached.region.as_deref());
                    (name.clone(), s3(&shared, endpoint, region, calls))
                })
                .collect(),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
        }
    }
}

/// The client of S3 alone.
pub(crate) async fn of_objects(settings: &Settings, calls: &Calls) -> aws_sdk_s3::Client {
    s3(
        &shared(settings).await,
        settings.endpoints.s3.as_deref(),
        None,
        calls,
    )
}

async fn shared(settings: &Settings) -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.build_https())
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
        .timeout_config(timeouts(ATTEMPT));
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader.load().await
}

fn s3(shared: &SdkConfig, endpoint: Option<&str>, region: Option<&str>, calls: &Calls) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
    // Not every S3 knows the newer checksums; the etag is ours to check.
    let mut builder = Builder::from(shared)
        .interceptor(calls.clone())
        .timeout_config(timeouts(TRANSFER))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(region) = region {
        builder = builder.region(Region::new(region.to_owned()));
    }
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint_url(endpoint).force_path_style(true);
    }
    aws_sdk_s3::Client::from_conf(builder.build())
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        .build()
}
