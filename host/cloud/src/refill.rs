//! A back-up becomes a store: in a table that holds nothing, which hosts leave alone until all is in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tidegate_runtime::clock::SystemClock;
use tidegate_runtime::store::{Extent, Refill, RefillError, StoreError};

use crate::failure;
use crate::hold::holder;
use crate::items::{Item, text_of};
use crate::json;
use crate::keys;
use crate::settings::Settings;
use crate::store::{Core, Patience};

/// Rows that one call writes.
const ROWS: usize = 25;
/// Bytes of a blob that one call writes.
const PIECE: u64 = 256 << 20;
/// Pieces of an upload at most.
const PIECES: u64 = 10_000;

/// Begins to make a store of the back-up with this sum, or goes on with it where that was broken off.
pub async fn refill(settings: Settings, sum: &str) -> Result<Box<dyn Refill>, RefillError> {
    let unusable = |error: &dyn std::fmt::Display| RefillError::Unusable(error.to_string());
    let core = Core::new(settings, Arc::new(SystemClock)).await;
    core.prepare().await.map_err(|error| unusable(&error))?;
    let table = &core.settings.table;
    let goes_on = core
        .is_being_restored(sum)
        .await
        .map_err(|error| unusable(&error))?;
    if !goes_on && !core.is_empty().await.map_err(|error| unusable(&error))? {
        return Err(RefillError::Taken(format!("the table `{table}`")));
    }
    match core.hold_for_ever(sum).await {
        Ok(true) => {}
        Ok(false) => return Err(RefillError::Taken(format!("the table `{table}`"))),
        Err(error) => return Err(unusable(&error)),
    }
    Ok(Box::new(Refilled {
        core,
        queues: BTreeSet::new(),
    }))
}

/// A store in the making.
struct Refilled {
    core: Arc<Core>,
    /// Queues that have events.
    queues: BTreeSet<String>,
}

#[async_trait]
impl Refill for Refilled {
    async fn rows(&mut self, rows: Vec<String>) -> Result<(), StoreError> {
        let mut plain = Vec::with_capacity(rows.len());
        for line in rows {
            let row = json::row(&line)?;
            let pk = text_of(&row, "pk").unwrap_or_default();
            if pk == keys::DECLARED {
                self.core.put_declared(row).await?;
                continue;
            }
            self.queues.extend(keys::queue_of(pk).map(str::to_owned));
            plain.push(row);
        }
        for some in plain.chunks(ROWS) {
            self.core.put_rows(some).await?;
        }
        Ok(())
    }

    async fn blob(&mut self, name: &str, bytes: Extent<'_>) -> Result<(), StoreError> {
        self.core.upload(&self.core.blobs.key(name), bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        // The messages that told of the events are gone, or were handled by a store that is no more.
        for queue in &self.queues {
            self.core.tell_anew(queue).await?;
        }
        self.core.remove_row(&keys::hold()).await
    }
}

impl Core {
    /// Whether the back-up with this sum was begun to be restored here.
    async fn is_being_restored(&self, sum: &str) -> Result<bool, StoreError> {
        let row = self.row(&keys::hold()).await?;
        Ok(row.as_ref().and_then(holder) == Some(sum))
    }

    /// Whether the table has nothing but what is declared.
    async fn is_empty(&self) -> Result<bool, StoreError> {
        let mut pages = self
            .dynamo
            .scan()
            .table_name(&self.settings.table)
            .consistent_read(true)
            .projection_expression("pk")
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failure::of("DynamoDB"))?;
            let declared = |row: &Item| text_of(row, "pk") == Some(keys::DECLARED);
            if !page.items().iter().all(declared) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes what is declared, unless somebody has declared it meanwhile: that is the newer word.
    async fn put_declared(&self, row: Item) -> Result<(), StoreError> {
        let put = self.dynamo.put_item().table_name(&self.settings.table);
        let put = put
            .set_item(Some(row))
            .condition_expression("attribute_not_exists(pk)");
        match put.send().await {
            Err(error)
                if !error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Err(failure::of("DynamoDB")(error))
            }
            _ => Ok(()),
        }
    }

    async fn put_rows(&self, rows: &[Item]) -> Result<(), StoreError> {
        let puts = rows.iter().map(|row| {
            let put = PutRequest::builder().set_item(Some(row.clone())).build();
            let put = put.map_err(StoreError::new)?;
            Ok(WriteRequest::builder().put_request(put).build())
        });
        let mut left: Vec<_> = puts.collect::<Result<_, StoreError>>()?;
        let mut patience = Patience::new();
        loop {
            let write = self
                .dynamo
                .batch_write_item()
                .request_items(&self.settings.table, left);
            let written = write.send().await.map_err(failure::of("DynamoDB"))?;
            left = written
                .unprocessed_items
                .unwrap_or_default()
                .into_values()
                .flatten()
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if !patience.wait().await {
                return Err(StoreError("DynamoDB takes no more rows just now".into()));
            }
        }
    }

    /// Writes bytes of a file, in pieces where they are many.
    async fn upload(&self, key: &str, bytes: Extent<'_>) -> Result<(), StoreError> {
        if bytes.len <= PIECE {
            let put = self.s3.put_object().bucket(&self.settings.bucket).key(key);
            let sent = put.body(body(bytes).await?).send().await;
            return sent.map(drop).map_err(failure::of("S3"));
        }
        let begin = self.s3.create_multipart_upload().bucket(&self.settings.bucket);
        let begun = begin.key(key).send().await.map_err(failure::of("S3"))?;
        let upload = begun.upload_id.unwrap_or_default();
        let mut parts = CompletedMultipartUpload::builder();
        for (number, piece) in (1..).zip(pieces(bytes)) {
            let send = self.s3.upload_part().bucket(&self.settings.bucket).key(key);
            let send = send.upload_id(&upload).part_number(number);
            let sent = send
                .body(body(piece).await?)
                .send()
                .await
                .map_err(failure::of("S3"))?;
            let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
            parts = parts.parts(part.build());
        }
        let complete = self.s3.complete_multipart_upload().bucket(&self.settings.bucket);
        let complete = complete
            .key(key)
            .upload_id(upload)
            .multipart_upload(parts.build());
        complete.send().await.map(drop).map_err(failure::of("S3"))
    }
}

fn pieces(bytes: Extent<'_>) -> impl Iterator<Item = Extent<'_>> {
    let size = PIECE.max(bytes.len.div_ceil(PIECES));
    let starts = (0..bytes.len).step_by(usize::try_from(size).unwrap_or(usize::MAX));
    starts.map(move |start| Extent {
        file: bytes.file,
        offset: bytes.offset + start,
        len: size.min(bytes.len - start),
    })
}

async fn body(bytes: Extent<'_>) -> Result<ByteStream, StoreError> {
    let stream = ByteStream::read_from().path(bytes.file).offset(bytes.offset);
    let stream = stream.length(Length::Exact(bytes.len)).build().await;
    stream.map_err(StoreError::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_of_the_bytes_and_no_more_than_an_upload_takes() {
        for len in [PIECE + 1, 3 * PIECE, PIECES * PIECE + 7] {
            let all = Extent {
                file: std::path::Path::new("a"),
                offset: 512,
                len,
            };
            let (mut at, mut count) = (512, 0);
            for piece in pieces(all) {
                assert_eq!(piece.offset, at);
                at += piece.len;
                count += 1;
            }
            assert_eq!(at, 512 + len);
            assert!(count <= PIECES);
        }
    }
}
