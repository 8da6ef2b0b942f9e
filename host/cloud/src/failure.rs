//! What the services answer when they do not do it.

use std::error::Error;

use aws_sdk_dynamodb::error::SdkError;
use tidegate_runtime::store::StoreError;

/// A failure of a service in one line, the causes included. The client has tried again by then where that helps.
pub(crate) fn of<E, R>(service: &str) -> impl FnOnce(SdkError<E, R>) -> StoreError
where
    E: Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let service = service.to_owned();
    move |error| {
        let mut line = format!("{service}: {error}");
        let mut cause = error.source();
        while let Some(found) = cause {
            let told = found.to_string();
            if !line.contains(&told) {
                line = format!("{line}: {told}");
            }
            cause = found.source();
        }
        StoreError(line)
    }
}
