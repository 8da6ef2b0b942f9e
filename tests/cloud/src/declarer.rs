//! Whoever declares functions beside the platform, as Terraform does.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use serde_json::Value;
use tidegate_cloud::Settings;

/// Writes rows and components into the table and the bucket of a store.
pub struct Declarer {
    table: String,
    bucket: String,
    dynamo: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
}

impl Declarer {
    /// For a store on local servers.
    pub fn new(settings: &Settings) -> Self {
        let http = || aws_smithy_http_client::Builder::new().build_http();
        let credentials = || Credentials::new("tidegate", "tidegate-dev", None, None, "tidegate");
        let dynamo = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(credentials());
        let s3 = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(credentials())
            .force_path_style(true);
        let endpoints = &settings.endpoints;
        let endpoint = |given: &Option<String>| given.clone().unwrap_or_default();
        Self {
            table: settings.table.clone(),
            bucket: settings.bucket.clone(),
            dynamo: aws_sdk_dynamodb::Client::from_conf(
                dynamo.endpoint_url(endpoint(&endpoints.dynamodb)).build(),
            ),
            s3: aws_sdk_s3::Client::from_conf(s3.endpoint_url(endpoint(&endpoints.s3)).build()),
        }
    }

    /// The keys in the bucket, up to a thousand.
    pub async fn keys(&self) -> Result<Vec<String>> {
        let list = self.s3.list_objects_v2().bucket(&self.bucket).send().await;
        let found = list.context("cannot list the bucket")?;
        let keys = found.contents().iter().filter_map(|object| object.key());
        Ok(keys.map(str::to_owned).collect())
    }

    /// Puts a component into the bucket.
    pub async fn put(&self, key: &str, component: Vec<u8>) -> Result<()> {
        let put = self.s3.put_object().bucket(&self.bucket).key(key);
        let sent = put.body(ByteStream::from(component)).send().await;
        sent.with_context(|| format!("cannot put `{key}`")).map(drop)
    }

    /// Declares a function, by its name `APP/FUNCTION`.
    pub async fn declare(
        &self,
        name: &str,
        words: &Value,
        component: (&str, &str),
        aliases: &Value,
    ) -> Result<()> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = self.dynamo.put_item().table_name(&self.table);
        let put = put
            .item("pk", text("declared"))
            .item("sk", text(name))
            .item("words", text(&words.to_string()))
            .item("aliases", text(&aliases.to_string()))
            .item("component", text(component.0))
            .item("digest", text(component.1));
        put.send()
            .await
            .with_context(|| format!("cannot declare `{name}`"))
            .map(drop)
    }

    /// Takes a declaration back.
    pub async fn withdraw(&self, name: &str) -> Result<()> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let delete = self.dynamo.delete_item().table_name(&self.table);
        let delete = delete.key("pk", text("declared")).key("sk", text(name));
        delete
            .send()
            .await
            .with_context(|| format!("cannot withdraw `{name}`"))
            .map(drop)
    }
}
