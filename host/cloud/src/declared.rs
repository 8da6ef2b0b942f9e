//! What is declared beside the platform: rows that Terraform writes, and components that it puts into the bucket.

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use bytes::Bytes;
use tidegate_runtime::store::{Declaration, Declarations, Lying, StoreError};

use crate::failure;
use crate::items::{Item, text, text_of};
use crate::keys;
use crate::store::Core;

/// Declared functions at most.
const MOST: usize = 10_000;

#[async_trait]
impl Declarations for Core {
    async fn declared(&self) -> Result<Vec<Declaration>, StoreError> {
        let query = self.dynamo.query().table_name(&self.settings.table);
        // What is older than what a host has settled would be deployed again.
        let mut pages = query
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(keys::DECLARED))
            .into_paginator()
            .send();
        let mut declared = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failure::of("DynamoDB"))?;
            declared.extend(page.items().iter().map(declaration));
            if declared.len() > MOST {
                return Err(StoreError(format!(
                    "more than {MOST} functions are declared, allowed are {MOST}"
                )));
            }
        }
        Ok(declared)
    }

    async fn lying(&self, component: &str) -> Result<Option<Lying>, StoreError> {
        let head = self.s3.head_object().bucket(&self.settings.bucket);
        match head.key(component).send().await {
            Ok(found) => Ok(Some(Lying {
                tag: found.e_tag.unwrap_or_default(),
                size: found.content_length.unwrap_or_default().unsigned_abs(),
            })),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(HeadObjectError::is_not_found) =>
            {
                Ok(None)
            }
            Err(error) => Err(failure::of("S3")(error)),
        }
    }

    async fn component(&self, component: &str) -> Result<Option<Bytes>, StoreError> {
        let get = self.s3.get_object().bucket(&self.settings.bucket);
        let found = match get.key(component).send().await {
            Ok(found) => found,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetObjectError::is_no_such_key) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failure::of("S3")(error)),
        };
        let broke_off = |error| StoreError(format!("S3: `{component}` broke off: {error}"));
        let body = found.body.collect().await.map_err(broke_off)?;
        Ok(Some(body.into_bytes()))
    }
}

/// What a row declares. What it lacks is empty, and a mistake to whoever reads it.
fn declaration(row: &Item) -> Declaration {
    let told = |name: &str| text_of(row, name).unwrap_or_default().to_owned();
    let name = told("sk");
    let (app, function) = name.split_once('/').unwrap_or((&name, ""));
    Declaration {
        app: app.to_owned(),
        function: function.to_owned(),
        tenant: text_of(row, "tenant").map(str::to_owned),
        words: told("words"),
        aliases: told("aliases"),
        component: told("component"),
        digest: told("digest"),
    }
}
