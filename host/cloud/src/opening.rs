//! Opening: the table and the bucket are made where they are missing.

use std::time::Duration;

use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
    TableStatus, TimeToLiveSpecification,
};
use tidegate_runtime::store::StoreError;

use crate::failure;
use crate::settings::Settings;
use crate::store::Core;

/// Between two looks at a table that is being made.
const LOOK: Duration = Duration::from_millis(500);
/// Looks at it at most.
const LOOKS: usize = 240;

/// The attributes of the table's key, both of them texts.
const KEYS: [(&str, KeyType); 2] = [("pk", KeyType::Hash), ("sk", KeyType::Range)];

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The table.
    #[error("the table `{table}` cannot be used: {source}")]
    Table {
        /// Its name.
        table: String,
        /// Why.
        source: StoreError,
    },
    /// The bucket.
    #[error("the bucket `{bucket}` cannot be used: {source}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// Why.
        source: StoreError,
    },
}

impl Core {
    /// Finds or makes what the store lies in.
    pub(crate) async fn prepare(&self) -> Result<(), OpenError> {
        let Settings { table, bucket, .. } = &self.settings;
        let tables = self.prepare_table().await;
        tables.map_err(|source| OpenError::Table {
            table: table.clone(),
            source,
        })?;
        let buckets = self.blobs.prepare().await;
        buckets.map_err(|source| OpenError::Bucket {
            bucket: bucket.clone(),
            source,
        })
    }

    async fn prepare_table(&self) -> Result<(), StoreError> {
        if self.is_ready().await? == Some(true) {
            return Ok(());
        }
        if self.is_ready().await?.is_none() {
            self.make_table().await?;
        }
        for _ in 0..LOOKS {
            if self.is_ready().await? == Some(true) {
                return self.forget_what_is_old().await;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(StoreError("it does not become active".into()))
    }

    /// Whether the table can be used; none where there is none. One with other keys is refused.
    async fn is_ready(&self) -> Result<Option<bool>, StoreError> {
        let asked = self.dynamo.describe_table().table_name(&self.settings.table);
        match asked.send().await {
            Ok(found) => {
                let table = found.table.unwrap_or_else(|| TableDescription::builder().build());
                has_our_keys(&table)?;
                Ok(Some(table.table_status == Some(TableStatus::Active)))
            }
            Err(error) => match error.as_service_error() {
                Some(DescribeTableError::ResourceNotFoundException(_)) => Ok(None),
                _ => Err(failure::of("DynamoDB")(error)),
            },
        }
    }

    async fn make_table(&self) -> Result<(), StoreError> {
        let mut create = self
            .dynamo
            .create_table()
            .table_name(&self.settings.table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in KEYS {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S);
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            create = create
                .attribute_definitions(attribute.build().map_err(StoreError::new)?)
                .key_schema(key.build().map_err(StoreError::new)?);
        }
        match create.send().await {
            Ok(_) => {
                tracing::info!(table = self.settings.table, "made the table");
                Ok(())
            }
            // Another host was faster.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_in_use_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(failure::of("DynamoDB")(error)),
        }
    }

    /// Lets the table forget rows whose `ttl` has passed: done markers and log lines.
    async fn forget_what_is_old(&self) -> Result<(), StoreError> {
        let rule = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name("ttl");
        let rule = rule.build().map_err(StoreError::new)?;
        let update = self.dynamo.update_time_to_live();
        let update = update
            .table_name(&self.settings.table)
            .time_to_live_specification(rule);
        if let Err(error) = update.send().await.map_err(failure::of("DynamoDB")) {
            // Two hosts that begin together both try.
            tracing::warn!(%error, "the table's time to live is not set");
        }
        Ok(())
    }
}

fn has_our_keys(table: &TableDescription) -> Result<(), StoreError> {
    let kind = |name: &str| {
        let mut attributes = table.attribute_definitions().iter();
        let found = attributes.find(|attribute| attribute.attribute_name() == name);
        found.map(|attribute| attribute.attribute_type().as_str())
    };
    let shown = |name: &str, key: &KeyType, kind: &str| format!("`{name}` ({}, {kind})", key.as_str());
    let found: Vec<String> = table
        .key_schema()
        .iter()
        .map(|key| {
            let name = key.attribute_name();
            shown(name, key.key_type(), kind(name).unwrap_or("?"))
        })
        .collect();
    let expected = KEYS.map(|(name, key)| shown(name, &key, "S"));
    if found == expected {
        return Ok(());
    }
    Err(StoreError(format!(
        "its key is {}, expected {}",
        found.join(" and "),
        expected.join(" and ")
    )))
}
