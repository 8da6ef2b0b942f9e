//! An app as somebody would write it down now, put together from the versions that were deployed last.

use toml::{Table, Value};

use super::Platform;
use super::apps::AppRecord;
use super::versions::Versions;
use crate::store::StoreError;

/// Why an app cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nothing of it is deployed.
    #[error("no app `{0}` is deployed")]
    NoApp(String),
    /// It has no words of ours.
    #[error("function `{0}` was deployed with a `spin.toml`, expected a `tidegate.toml`")]
    Spin(String),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Platform {
    /// The manifest of an app.
    pub async fn manifest(&self, app: &str) -> Result<Table, ExportError> {
        let store = self.services.store.as_ref();
        let (record, _) = AppRecord::read(store, app).await?;
        let versions = Versions::read(store, None).await?;
        let mut head = Table::from_iter([("name".to_owned(), Value::String(app.to_owned()))]);
        let mut functions = Vec::new();
        for (function, number) in record.all_deployed() {
            let version = versions
                .of(function)
                .iter()
                .find(|version| version.number == *number);
            let words = version.and_then(|version| version.words());
            let (words, tenant) = words.ok_or_else(|| ExportError::Spin(function.clone()))?;
            head.extend(tenant.map(|tenant| ("tenant".to_owned(), Value::String(tenant))));
            functions.push(Value::Table(words));
        }
        if functions.is_empty() {
            return Err(ExportError::NoApp(app.to_owned()));
        }
        Ok(Table::from_iter([
            ("app".to_owned(), Value::Table(head)),
            ("function".to_owned(), Value::Array(functions)),
        ]))
    }
}
