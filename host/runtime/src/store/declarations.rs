//! Declarations: functions that somebody wrote down beside the platform, by Terraform for example, for it to deploy.

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;

/// A function as it is declared. Nothing of it has been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declaration {
    /// Its app.
    pub app: String,
    /// Its name.
    pub function: String,
    /// Whose the app is; its name by default.
    pub tenant: Option<String>,
    /// JSON with the keys of a `[[function]]`, without its name.
    pub words: String,
    /// JSON: by alias, the share in hundredths that what is declared here takes of it. `{}` where nothing is said.
    pub aliases: String,
    /// Where its component lies, for [`Declarations::component`].
    pub component: String,
    /// The SHA-256 of the component, in lower-case hexadecimal.
    pub digest: String,
}

/// A component that lies where a declaration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lying {
    /// Tells it from what lies there at another time.
    pub tag: String,
    /// Bytes.
    pub size: u64,
}

/// Where declarations are found.
#[async_trait]
pub trait Declarations: Send + Sync {
    /// All that is declared now.
    async fn declared(&self) -> Result<Vec<Declaration>, StoreError>;

    /// What lies where a declaration says that its component does.
    async fn lying(&self, component: &str) -> Result<Option<Lying>, StoreError>;

    /// Its bytes.
    async fn component(&self, component: &str) -> Result<Option<Bytes>, StoreError>;
}
