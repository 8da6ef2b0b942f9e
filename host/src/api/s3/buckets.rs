//! Buckets: rows of a table.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};
use tidegate_runtime::platform::BUCKETS;
use tidegate_runtime::store::{CommitError, Condition, Order, SYSTEM_PREFIX, StateWrite, Store, Unit};

use super::operations::Operations;
use super::{Storage, not_committed, unavailable};
use crate::api::objects;

/// Buckets at most, as the listing is one page.
const MOST: usize = 10_000;

impl Storage {
    pub(super) fn store(&self) -> &dyn Store {
        self.faces.platform.store().as_ref()
    }

    /// Refuses a bucket that does not exist.
    pub(super) async fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if objects::bucket_exists(self.store(), bucket)
            .await
            .map_err(unavailable)?
        {
            return Ok(());
        }
        Err(s3_error!(NoSuchBucket, "there is no bucket `{bucket}`"))
    }
}

/// A time in milliseconds, as S3 writes it.
pub(super) fn timestamp(millis: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_millis(millis)).into()
}

/// Makes a bucket; an error when it is there.
pub async fn create_bucket(store: &dyn Store, bucket: &str) -> Result<(), CommitError> {
    let created = serde_json::json!({ "created": super::uploads::now() }).to_string();
    store
        .commit(write(bucket, Some(created.into()), Condition::Absent))
        .await
}

fn write(bucket: &str, value: Option<Bytes>, condition: Condition) -> Unit {
    let write = StateWrite {
        table: BUCKETS.into(),
        key: bucket.into(),
        value,
        condition,
    };
    Unit {
        state: vec![write],
        ..Unit::default()
    }
}

impl Operations<'_> {
    pub(super) async fn list_buckets(
        &self,
        _request: S3Request<ListBucketsInput>,
    ) -> S3Result<ListBucketsOutput> {
        let page = self
            .0
            .store()
            .query(BUCKETS, "", None, MOST, Order::Ascending)
            .await
            .map_err(unavailable)?;
        let visible = page
            .entries
            .into_iter()
            .filter(|(name, _)| !name.starts_with(SYSTEM_PREFIX));
        let buckets = visible.map(|(name, row)| {
            let row: serde_json::Value = serde_json::from_slice(&row.value).unwrap_or_default();
            let created = timestamp(row["created"].as_u64().unwrap_or_default());
            Bucket {
                name: Some(name),
                creation_date: Some(created),
                ..Default::default()
            }
        });
        Ok(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..Default::default()
        })
    }

    pub(super) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<CreateBucketOutput> {
        let bucket = request.input.bucket;
        match create_bucket(self.0.store(), &bucket).await {
            Ok(()) => Ok(CreateBucketOutput {
                location: Some(format!("/{bucket}")),
            }),
            Err(CommitError::Conflict { .. }) => Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "the bucket `{bucket}` is there already"
            )),
            Err(error) => Err(not_committed(error)),
        }
    }

    pub(super) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<HeadBucketOutput> {
        self.0.check_bucket(&request.input.bucket).await?;
        Ok(HeadBucketOutput::default())
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<DeleteBucketOutput> {
        let bucket = request.input.bucket;
        self.0.check_bucket(&bucket).await?;
        let page = self
            .0
            .store()
            .list(&bucket, "", None, 1)
            .await
            .map_err(unavailable)?;
        if let Some(object) = page.entries.first() {
            return Err(s3_error!(
                BucketNotEmpty,
                "the bucket `{bucket}` holds objects, for example `{}`",
                object.key
            ));
        }
        self.0
            .store()
            .commit(write(&bucket, None, Condition::None))
            .await
            .map_err(not_committed)?;
        Ok(DeleteBucketOutput {})
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<GetBucketLocationOutput> {
        self.0.check_bucket(&request.input.bucket).await?;
        Ok(GetBucketLocationOutput::default())
    }

    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<GetBucketVersioningOutput> {
        self.0.check_bucket(&request.input.bucket).await?;
        Ok(GetBucketVersioningOutput::default())
    }
}
