//! What is done after an answer was sent, and before the next invocation is asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_runtime::LambdaInvocation;
use tower::{Layer, Service};

use super::{Failed, Lambda};

/// Tidies up after every invocation.
pub(super) struct Tidying(pub(super) Arc<Lambda>);

/// An invocation, and what it leaves to be done.
pub(super) struct Tidied<S> {
    inner: S,
    lambda: Arc<Lambda>,
}

impl<S> Layer<S> for Tidying {
    type Service = Tidied<S>;

    fn layer(&self, inner: S) -> Tidied<S> {
        Tidied {
            inner,
            lambda: self.0.clone(),
        }
    }
}

impl<S> Service<LambdaInvocation> for Tidied<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Failed>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let (answered, lambda) = (self.inner.call(invocation), self.lambda.clone());
        Box::pin(async move {
            answered.await?;
            lambda.tidy().await;
            Ok(())
        })
    }
}
