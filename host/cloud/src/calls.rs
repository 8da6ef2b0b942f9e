//! Calls of the services, counted: they are what a cloud bills.

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Which call.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Call {
    /// `DynamoDB`, `S3`, `SQS`.
    pub rpc_service: String,
    /// The operation, such as `TransactWriteItems`.
    pub rpc_method: String,
}

/// How often each was made, every try counted.
#[derive(Debug, Clone, Default)]
pub struct Calls(Family<Call, Counter>);

impl Calls {
    /// The counters, for a registry of metrics.
    pub fn counters(&self) -> Family<Call, Counter> {
        self.0.clone()
    }
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(of) = bag.load::<Metadata>() {
            let call = Call {
                rpc_service: of.service().to_owned(),
                rpc_method: of.name().to_owned(),
            };
            self.0.get_or_create(&call).inc();
        }
        Ok(())
    }
}
