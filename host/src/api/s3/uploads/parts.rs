//! The parts of an upload: objects of a system bucket, one for each number.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Result, s3_error};
use tidegate_runtime::store::{Condition, ObjectMeta, Publication, Staged, Store, StoreError, Unit};

use super::{Begun, PAGE, UPLOADS, Upload};
use crate::api::objects;
use crate::api::s3::buckets::timestamp;
use crate::api::s3::sums::{self, copy_sums};
use crate::api::s3::{Storage, not_committed, unavailable};

/// Parts of one upload, as S3 has it.
pub(super) const PARTS: i32 = 10_000;
/// Bytes of every part but the last, as S3 has it.
const SMALLEST: u64 = 5 << 20;

pub(super) fn part_key(id: &str, number: i32) -> String {
    format!("{id}/{number:05}")
}

fn number_of(meta: &ObjectMeta) -> Option<i32> {
    meta.key.rsplit('/').next()?.parse().ok()
}

pub(super) fn checked_number(number: i32) -> S3Result<i32> {
    if (1..=PARTS).contains(&number) {
        return Ok(number);
    }
    Err(s3_error!(
        InvalidArgument,
        "the part number is {number}, allowed are 1 to {PARTS}"
    ))
}

/// All parts that came, in their order.
pub(super) async fn parts(store: &dyn Store, id: &str) -> Result<Vec<ObjectMeta>, StoreError> {
    let (mut parts, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .list(UPLOADS, &format!("{id}/"), after.as_deref(), PAGE)
            .await?;
        parts.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return Ok(parts);
        }
    }
}

/// The checksums that are kept with a part.
pub(super) fn sums_of(part: &ObjectMeta) -> Checksum {
    sums::take(&mut part.user.clone())
}

/// A part as S3 lists it.
pub(super) fn part_of(meta: &ObjectMeta) -> Part {
    let mut part = Part {
        part_number: number_of(meta),
        size: i64::try_from(meta.size).ok(),
        e_tag: Some(ETag::Strong(meta.etag.clone())),
        last_modified: Some(timestamp(meta.modified)),
        ..Default::default()
    };
    copy_sums!(sums_of(meta) => part);
    part
}

impl Storage {
    /// Keeps a part, unless its upload has ended meanwhile.
    pub(super) async fn keep_part(
        &self,
        begun: &Begun,
        number: i32,
        staged: Staged,
        sums: &Checksum,
    ) -> S3Result<()> {
        let key = part_key(&begun.id, number);
        let mut user = BTreeMap::new();
        sums::keep(sums, &mut user);
        let part = Publication {
            bucket: UPLOADS.into(),
            key: key.clone(),
            staged: Some(staged),
            content_type: None,
            user,
            condition: Condition::None,
        };
        let commit = async |publication| {
            let objects = vec![publication];
            let unit = Unit {
                objects,
                ..Unit::default()
            };
            self.store().commit(unit).await.map_err(not_committed)
        };
        commit(part).await?;
        // Completed or given up meanwhile, the upload would never be rid of this part.
        let Upload { bucket, key: of, .. } = &begun.upload;
        if let Err(gone) = self.upload(&begun.id, bucket, of).await {
            commit(objects::deletion(UPLOADS, &key)).await?;
            return Err(gone);
        }
        Ok(())
    }

    /// The parts that the client names, in their order, checked against those that came.
    pub(super) async fn named_parts(&self, id: &str, named: Vec<CompletedPart>) -> S3Result<Vec<ObjectMeta>> {
        let mut there: BTreeMap<i32, ObjectMeta> = BTreeMap::new();
        for part in parts(self.store(), id).await.map_err(unavailable)? {
            there.extend(number_of(&part).map(|number| (number, part)));
        }
        let mut chosen: Vec<ObjectMeta> = Vec::new();
        let mut last = 0;
        for part in named {
            let number = part.part_number.unwrap_or_default();
            if number <= last {
                return Err(s3_error!(
                    InvalidPartOrder,
                    "part {number} comes after part {last}"
                ));
            }
            last = number;
            let found = there
                .remove(&number)
                .ok_or_else(|| s3_error!(InvalidPart, "part {number} was not uploaded"))?;
            sums::check_part(number, &part, &sums_of(&found))?;
            let etag = part.e_tag.map(ETag::into_value).unwrap_or_default();
            if etag != found.etag {
                return Err(s3_error!(
                    InvalidPart,
                    "part {number} has the etag `{}`, not `{etag}`",
                    found.etag
                ));
            }
            chosen.push(found);
        }
        check_sizes(&chosen)?;
        Ok(chosen)
    }
}

fn check_sizes(chosen: &[ObjectMeta]) -> S3Result<()> {
    let rest = chosen.len().saturating_sub(1);
    if let Some(small) = chosen.iter().take(rest).find(|part| part.size < SMALLEST) {
        let number = number_of(small).unwrap_or_default();
        return Err(s3_error!(
            EntityTooSmall,
            "part {number} has {} bytes, the least is {SMALLEST}",
            small.size
        ));
    }
    if chosen.is_empty() {
        return Err(s3_error!(
            MalformedXML,
            "an upload is completed with at least one part"
        ));
    }
    Ok(())
}
