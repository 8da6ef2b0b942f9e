//! A back-up of the whole store, as a stream.

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use futures::StreamExt as _;
use http::{StatusCode, header};

use crate::api::Faces;
use crate::api::error::ApiError;
use crate::backup;

pub(super) async fn take(State(faces): State<Faces>) -> Result<impl IntoResponse, ApiError> {
    let turn = faces.backups.clone().try_acquire_owned();
    let turn = turn.map_err(|_| {
        ApiError::new(
            StatusCode::CONFLICT,
            "this host is being backed up already; one at a time is allowed",
        )
    })?;
    let frozen = faces.platform.store().freeze().await?;
    let frozen = frozen.ok_or_else(|| ApiError::missing("this store lasts no longer than its host"))?;
    let bytes = backup::stream(frozen).map(move |piece| {
        let _held_until_the_end = &turn;
        piece
    });
    let bytes = bytes.map(|piece| piece.map_err(std::io::Error::other));
    Ok((
        [(header::CONTENT_TYPE, "application/x-tar")],
        Body::from_stream(bytes),
    ))
}
