//! `POST .../infer`: a request is read within its bounds, asked, and answered.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{AcquireError, OwnedSemaphorePermit};

use super::refusal::too_large;
use super::{HEADER_LENGTH, Named, ROUTING_KEY_HEADER, Refusal, answer, request};
use crate::api::error::ApiError;
use crate::api::{Faces, objects};
use crate::inference::open_inference::ModelInferRequest;
use crate::inference::{Failure, give_key};

pub(super) async fn infer(
    State(faces): State<Faces>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let reference = named.reference()?;
    let json = json_length(&headers)?;
    let (_places, body) = enter_and_read(&faces, &headers, body).await?;
    let mut asked = request::read(body, json)?;
    keyed(&mut asked.request, &headers);
    bounded(&faces, &asked.request)?;
    let id = asked.request.id.clone();
    let answered = faces
        .workers
        .ask(&reference, asked.request, asked.patience)
        .await?;
    Ok(answer::write(&answered, &id, &asked.form)?)
}

/// Gives a request the routing key of its header; its own parameter goes before.
pub(in crate::api) fn keyed(request: &mut ModelInferRequest, headers: &HeaderMap) {
    let key = headers.get(ROUTING_KEY_HEADER);
    if let Some(key) = key.and_then(|key| key.to_str().ok()) {
        give_key(request, key.to_owned());
    }
}

/// A place for one more request and for its body, and the body, which is not read before.
pub(in crate::api) async fn enter_and_read(
    faces: &Faces,
    headers: &HeaderMap,
    body: Body,
) -> Result<([OwnedSemaphorePermit; 2], Bytes), ApiError> {
    let places = [enter(faces).await?, room(faces, headers).await?];
    Ok((places, read(faces, headers, body).await?))
}

/// A place for one more request; waits for it a little.
pub(super) async fn enter(faces: &Faces) -> Result<OwnedSemaphorePermit, Failure> {
    let most = faces.config.inference.max_requests;
    let full = || format!("all {most} places for inference requests are taken");
    wait(faces, faces.inferences.clone().acquire_owned(), full).await
}

/// Memory for a body of the length that is announced, or of any length where none is. One that is larger than all memory
/// for bodies has all of it.
async fn room(faces: &Faces, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, ApiError> {
    let bound = faces.config.inference.max_request;
    let size = objects::announced(headers).unwrap_or(bound);
    if size > bound {
        return Err(too_large("the request's body", bound).into());
    }
    let most = faces.config.inference.max_bodies;
    let full = || format!("bodies of inference requests take all {most} bytes of memory that they may");
    let taking = faces.bodies.clone().acquire_many_owned(units(size.min(most)));
    Ok(wait(faces, taking, full).await?)
}

/// What memory for bodies is counted in: KiB, begun ones as whole ones.
pub fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

async fn wait(
    faces: &Faces,
    taking: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    full: impl FnOnce() -> String,
) -> Result<OwnedSemaphorePermit, Failure> {
    let taken = tokio::time::timeout(faces.config.gateway.queue_wait, taking).await;
    let taken = taken.ok().and_then(Result::ok);
    taken.ok_or_else(|| Failure::Busy(full()))
}

/// Tensors grow where they are taken out of JSON: they are bounded like the body.
pub(in crate::api) fn bounded(faces: &Faces, request: &ModelInferRequest) -> Result<(), Failure> {
    let bound = faces.config.inference.max_request;
    let bytes: usize = request.raw_input_contents.iter().map(Bytes::len).sum();
    if bytes as u64 > bound {
        return Err(too_large("the tensors of the request", bound));
    }
    Ok(())
}

async fn read(faces: &Faces, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let bound = faces.config.inference.max_request;
    let beyond = || ApiError::from(too_large("the request's body", bound));
    if let Some(encoding) = headers
        .get(header::CONTENT_ENCODING)
        .filter(|&encoding| encoding != "identity")
    {
        let message = format!("the body is encoded as {encoding:?}, allowed is `identity`");
        return Err(ApiError::new(http::StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let limited = Limited::new(body, usize::try_from(bound).unwrap_or(usize::MAX));
    match limited.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(beyond()),
        Err(error) => Err(ApiError::bad(format!("the request's body ended early: {error}"))),
    }
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(HEADER_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wrong = || {
        ApiError::bad(format!(
            "`{HEADER_LENGTH}` is {value:?}, expected a number of bytes"
        ))
    };
    length.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::open_inference::infer_parameter::ParameterChoice;

    #[test]
    fn a_header_gives_the_routing_key_that_a_request_does_not_have_itself() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(ROUTING_KEY_HEADER),
            http::HeaderValue::from_static("user-1"),
        )]);
        let key = |given: Option<&str>| {
            let mut request = ModelInferRequest::default();
            if let Some(given) = given {
                give_key(&mut request, given.to_owned());
            }
            keyed(&mut request, &headers);
            request.parameters["routing_key"].parameter_choice.clone()
        };
        let text = |text: &str| Some(ParameterChoice::StringParam(text.to_owned()));
        assert_eq!((key(None), key(Some("own"))), (text("user-1"), text("own")));
    }
}
