//! Objects: put, get, head, delete, copy.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Request, S3Result, TrailingHeaders, s3_error};
use tidegate_runtime::store::{Condition, ObjectMeta, ObjectReader, Publication, Staged};

use super::buckets::timestamp;
use super::checks::{Promised, ReadConditions, promised, read_conditions, write_condition};
use super::headers::{Kept, sent};
use super::operations::Operations;
use super::sums::{self, copy_sums};
use super::{Storage, no_room, not_committed, unavailable};
use crate::api::objects::{self, StageError};

impl Storage {
    /// Stages a body and checks it against what the client promised.
    pub(super) async fn stage(&self, coming: Coming<'_>, promised: Promised) -> S3Result<(Staged, Checksum)> {
        let bound = self.faces.config.gateway.max_object;
        let too_large = |size: Option<u64>| too_large(coming.bucket, coming.key, size, bound);
        let length = coming.length.and_then(|length| u64::try_from(length).ok());
        if length.is_some_and(|length| length > bound) {
            return Err(too_large(length));
        }
        let mut hasher = promised.hasher(coming.headers);
        let body = coming
            .body
            .unwrap_or_else(|| StreamingBlob::wrap(futures::stream::empty::<Result<_, std::io::Error>>()));
        let staged = objects::stage(self.store(), body, bound, |piece| hasher.update(piece)).await;
        let staged = staged.map_err(|error| match error {
            StageError::TooLarge(_) => too_large(None),
            other => not_staged(other),
        })?;
        if let Some(length) = length.filter(|length| *length != staged.size) {
            return Err(s3_error!(
                IncompleteBody,
                "{length} bytes were announced, {} came",
                staged.size
            ));
        }
        let sums = promised.check(&staged.etag, hasher, coming.trailers)?;
        Ok((staged, sums))
    }

    /// What must hold of an object when it is replaced, as far as the client says so.
    pub(super) async fn condition(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<&ETagCondition>,
        if_none_match: Option<&ETagCondition>,
    ) -> S3Result<Condition> {
        let found = self.store().head(bucket, key).await.map_err(unavailable)?;
        write_condition(found.as_ref(), if_match, if_none_match)
    }

    /// Refuses an object that would trigger a function for which enough events wait.
    pub(super) async fn has_room(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.faces.platform.has_room(bucket, key).await.map_err(no_room)
    }

    pub(super) async fn publish(&self, publication: Publication) -> S3Result<ObjectMeta> {
        self.faces
            .platform
            .publish(publication)
            .await
            .map_err(not_committed)
    }

    /// Opens an object of a bucket that exists.
    pub(super) async fn open(&self, bucket: &str, key: &str) -> S3Result<Arc<dyn ObjectReader>> {
        self.check_bucket(bucket).await?;
        let found = self.store().open(bucket, key).await.map_err(unavailable)?;
        found.ok_or_else(|| s3_error!(NoSuchKey, "there is no object `{key}`"))
    }
}

/// A body that comes.
pub(super) struct Coming<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) body: Option<StreamingBlob>,
    pub(super) length: Option<i64>,
    pub(super) headers: &'a http::HeaderMap,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// What is too large, and what is allowed.
pub(super) fn too_large(bucket: &str, key: &str, size: Option<u64>, bound: u64) -> s3s::S3Error {
    let size = size.map_or_else(|| "more".to_owned(), |size| size.to_string());
    s3_error!(
        EntityTooLarge,
        "`{bucket}/{key}` has {size} bytes, `gateway.max_object` allows {bound}"
    )
}

pub(super) fn not_staged(error: StageError) -> s3s::S3Error {
    match error {
        StageError::Body(text) => s3_error!(IncompleteBody, "the body ended early: {text}"),
        StageError::TooLarge(_) => s3_error!(EntityTooLarge, "{error}"),
        StageError::Store(error) => unavailable(error),
    }
}

/// The bucket and the key that a copy is made of.
pub(super) fn source_of(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket {
            bucket,
            key,
            version_id: None,
        } => Ok((bucket, key)),
        _ => Err(s3_error!(
            NotImplemented,
            "a copy is made of `bucket/key`, without a version"
        )),
    }
}

fn signed(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

impl Operations<'_> {
    pub(super) async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<PutObjectOutput> {
        let (trailers, headers) = (
            request.trailing_headers.take(),
            std::mem::take(&mut request.headers),
        );
        let mut input = request.input;
        let (bucket, key) = (input.bucket.as_str(), input.key.as_str());
        self.0.check_bucket(bucket).await?;
        self.0.has_room(bucket, key).await?;
        let (if_match, if_none_match) = (input.if_match.as_ref(), input.if_none_match.as_ref());
        let condition = self.0.condition(bucket, key, if_match, if_none_match).await?;
        let (promised, sent) = (promised!(input), sent!(input));
        let coming = Coming {
            bucket,
            key,
            body: input.body,
            length: input.content_length,
            headers: &headers,
            trailers,
        };
        let (staged, sums) = self.0.stage(coming, promised).await?;
        let mut user = sent.kept();
        sums::keep(&sums, &mut user);
        let publication = Publication {
            bucket: input.bucket,
            key: input.key,
            staged: Some(staged),
            content_type: input.content_type,
            user,
            condition,
        };
        let meta = self.0.publish(publication).await?;
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(meta.etag)),
            ..Default::default()
        };
        copy_sums!(sums => output);
        Ok(output)
    }

    pub(super) async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        let object = self.0.open(&input.bucket, &input.key).await?;
        let meta = object.meta().clone();
        read_conditions!(input).check(&meta)?;
        let range = input.range.map(|range| range.check(meta.size)).transpose()?;
        let wanted = range.clone().unwrap_or(0..meta.size);
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: signed(wanted.end - wanted.start),
            content_range: range
                .map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size)),
            e_tag: Some(ETag::Strong(meta.etag.clone())),
            last_modified: Some(timestamp(meta.modified)),
            body: Some(StreamingBlob::wrap(objects::pieces(object, wanted))),
            ..Default::default()
        };
        let with_sums = output.content_range.is_none() && wants_sums(input.checksum_mode.as_ref());
        Kept::new(&meta.user).tell_get(&mut output, with_sums);
        output.content_type = input.response_content_type.or(meta.content_type);
        output.content_disposition = input.response_content_disposition.or(output.content_disposition);
        output.content_encoding = input.response_content_encoding.or(output.content_encoding);
        output.content_language = input.response_content_language.or(output.content_language);
        output.cache_control = input.response_cache_control.or(output.cache_control);
        Ok(output)
    }

    pub(super) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<HeadObjectOutput> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        self.0.check_bucket(&input.bucket).await?;
        let found = self
            .0
            .store()
            .head(&input.bucket, &input.key)
            .await
            .map_err(unavailable)?;
        let meta = found.ok_or_else(|| s3_error!(NoSuchKey, "there is no object `{}`", input.key))?;
        read_conditions!(input).check(&meta)?;
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: signed(meta.size),
            content_type: meta.content_type,
            e_tag: Some(ETag::Strong(meta.etag)),
            last_modified: Some(timestamp(meta.modified)),
            ..Default::default()
        };
        let with_sums = wants_sums(input.checksum_mode.as_ref());
        Kept::new(&meta.user).tell_head(&mut output, with_sums);
        Ok(output)
    }

    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<GetObjectTaggingOutput> {
        self.0.open(&request.input.bucket, &request.input.key).await?;
        Ok(GetObjectTaggingOutput {
            tag_set: Vec::new(),
            version_id: None,
        })
    }

    pub(super) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<DeleteObjectOutput> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        self.0.check_bucket(&input.bucket).await?;
        let Some(meta) = self
            .0
            .store()
            .head(&input.bucket, &input.key)
            .await
            .map_err(unavailable)?
        else {
            return Ok(DeleteObjectOutput::default());
        };
        let condition = write_condition(Some(&meta), input.if_match.as_ref(), None)?;
        let deletion = Publication {
            condition,
            ..objects::deletion(&input.bucket, &input.key)
        };
        self.0.publish(deletion).await?;
        Ok(DeleteObjectOutput::default())
    }

    pub(super) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<DeleteObjectsOutput> {
        let input = request.input;
        self.0.check_bucket(&input.bucket).await?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            match objects::delete(&self.0.faces.platform, &input.bucket, &object.key).await {
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..Default::default()
                }),
                Err(error) => errors.push(Error {
                    key: Some(object.key),
                    code: Some("InternalError".into()),
                    message: Some(error.message),
                    version_id: None,
                }),
            }
        }
        let deleted = (!input.delete.quiet.unwrap_or_default()).then_some(deleted);
        Ok(DeleteObjectsOutput {
            deleted,
            errors: (!errors.is_empty()).then_some(errors),
            ..Default::default()
        })
    }

    pub(super) async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<CopyObjectOutput> {
        let mut input = request.input;
        self.0.check_bucket(&input.bucket).await?;
        self.0.has_room(&input.bucket, &input.key).await?;
        let (bucket, key) = source_of(&input.copy_source)?;
        let source = self.0.open(bucket, key).await?;
        let meta = source.meta().clone();
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        let unwanted = |_| s3_error!(PreconditionFailed, "the source has the etag `{}`", meta.etag);
        conditions.check(&meta).map_err(unwanted)?;
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|it| it.as_str() == MetadataDirective::REPLACE);
        if !replace && (bucket, key) == (input.bucket.as_str(), input.key.as_str()) {
            return Err(s3_error!(
                InvalidRequest,
                "a copy to itself must replace the metadata"
            ));
        }
        let bound = self.0.faces.config.gateway.max_object;
        let pieces = objects::pieces(source, 0..meta.size);
        let staged = objects::stage(self.0.store(), pieces, bound, |_| {})
            .await
            .map_err(not_staged)?;
        let mut old = meta.user;
        let sums = sums::take(&mut old);
        let (content_type, mut user) = match replace {
            true => (input.content_type.take(), sent!(input).kept()),
            false => (meta.content_type, old),
        };
        // The copy has no parts, so that a checksum of parts says nothing of it.
        if sums.checksum_type.as_ref().map(ChecksumType::as_str) == Some(ChecksumType::FULL_OBJECT) {
            sums::keep(&sums, &mut user);
        }
        let published = self.0.publish(Publication {
            bucket: input.bucket,
            key: input.key,
            staged: Some(staged),
            content_type,
            user,
            condition: Default::default(),
        });
        let meta = published.await?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(meta.etag)),
            last_modified: Some(timestamp(meta.modified)),
            ..Default::default()
        };
        Ok(CopyObjectOutput {
            copy_object_result: Some(result),
            ..Default::default()
        })
    }
}

fn wants_sums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn refuse_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(version) => Err(s3_error!(
            NoSuchVersion,
            "there is no version `{version}`: objects have one version"
        )),
    }
}
