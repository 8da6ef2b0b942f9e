//! An ordinary S3 client (the AWS SDK) on the host's S3 endpoint.

use std::path::Path;

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;

/// One bucket, seen by an S3 client.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The client itself, for what is not wrapped here.
    pub client: Client,
    name: String,
}

impl Bucket {
    /// The bucket `name` behind `endpoint`, with the keys of a host in development.
    pub fn open(endpoint: &str, name: &str) -> Self {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new(
                "tidegate",
                "tidegate-dev",
                None,
                None,
                "tidegate",
            ))
            .force_path_style(true)
            .build();
        Self {
            client: Client::from_conf(config),
            name: name.to_owned(),
        }
    }

    /// Uploads bytes.
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> Result<()> {
        self.send(key, ByteStream::from(body.into())).await
    }

    /// Uploads a file.
    pub async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let body = ByteStream::from_path(file)
            .await
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        self.send(key, body).await
    }

    /// Downloads an object.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let found = self.client.get_object().bucket(&self.name).key(key).send().await;
        let found = found.with_context(|| format!("cannot get `{}/{key}`", self.name))?;
        let body = found
            .body
            .collect()
            .await
            .with_context(|| format!("`{}/{key}` broke off", self.name))?;
        Ok(body.to_vec())
    }

    /// The keys under a prefix, in order, all pages.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("cannot list `{}/{prefix}`", self.name))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
        }
        Ok(keys)
    }

    async fn send(&self, key: &str, body: ByteStream) -> Result<()> {
        let sent = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .body(body)
            .send()
            .await;
        sent.with_context(|| format!("cannot put `{}/{key}`", self.name))
            .map(drop)
    }
}
