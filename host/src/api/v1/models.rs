//! The model registry: what there is, and a version that somebody brings along.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use tidegate_ml::registry::{self, Key};
use tidegate_runtime::store::{Order, Store, StoreError};

use crate::api::error::{ApiError, Json};
use crate::api::{Faces, objects};
use crate::models::{Offered, RegisterError, now, register as enter, rollout};

/// Rows that are read at one time.
const PAGE: usize = 1000;
/// Rows that are read in all.
const MOST: usize = 20_000;

#[derive(Default)]
struct Model {
    aliases: Map<String, Value>,
    /// Aliases whose requests two versions share, with the shares.
    splits: Map<String, Value>,
    /// Aliases that a version is asked for as well, without answering.
    shadows: Map<String, Value>,
    versions: Vec<Value>,
}

impl Model {
    fn name(&mut self, alias: &str, row: &Value) {
        self.aliases.insert(alias.to_owned(), row["version"].clone());
        for (shown, key) in [(&mut self.splits, "versions"), (&mut self.shadows, "shadow")] {
            if let Some(found) = row.get(key) {
                shown.insert(alias.to_owned(), found.clone());
            }
        }
    }

    fn numbers(&self) -> impl Iterator<Item = String> {
        self.versions.iter().map(|version| version["version"].to_string())
    }
}

pub(super) async fn list(State(faces): State<Faces>) -> Result<Json<Value>, ApiError> {
    let models = read(faces.platform.store().as_ref(), "").await?;
    let models: Vec<Value> = models
        .into_iter()
        .map(|(name, model)| shown(&name, model))
        .collect();
    Ok(Json(json!({ "models": models })))
}

pub(super) async fn one(
    State(faces): State<Faces>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let store = faces.platform.store().as_ref();
    // Before the aliases: what a rollout that has ended did to them is there by then.
    let rollout = rollout::shown(store, &name).await?;
    let mut models = read(store, &format!("{name}/")).await?;
    let model = models
        .remove(&name)
        .ok_or_else(|| ApiError::missing(format!("there is no model `{name}`")))?;
    let mut shown = shown(&name, model);
    if let Some(rollout) = rollout {
        shown["rollout"] = json!(rollout);
    }
    Ok(Json(shown))
}

pub(super) async fn register(
    State(faces): State<Faces>,
    Json(offered): Json<Offered>,
) -> Result<Json<Value>, ApiError> {
    let store = faces.platform.store().as_ref();
    objects::checked_place(store, &offered.bucket, &offered.key).await?;
    let version = enter(store, offered, now()).await?;
    tracing::info!(
        model = version.model,
        version = version.version,
        decision = version.decision.as_str(),
        "model registered"
    );
    Ok(Json(json!(version)))
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Refused(_) => Self::bad(error.to_string()),
            RegisterError::Missing(..) => Self::missing(error.to_string()),
            RegisterError::TooLarge(..) => Self::new(http::StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            RegisterError::Commit(error) => error.into(),
        }
    }
}

/// The registered versions of a model, the oldest first.
pub(in crate::api) async fn versions(faces: &Faces, name: &str) -> Result<Vec<String>, StoreError> {
    let models = read(faces.platform.store().as_ref(), &format!("{name}/")).await?;
    Ok(models.values().flat_map(Model::numbers).collect())
}

/// The names and versions of all registered models.
pub(in crate::api) async fn all_versions(faces: &Faces) -> Result<Vec<(String, String)>, StoreError> {
    let models = read(faces.platform.store().as_ref(), "").await?;
    let named = |(name, model): (&String, &Model)| {
        let versions = model.numbers().map(|version| (name.clone(), version));
        versions.collect::<Vec<_>>()
    };
    Ok(models.iter().flat_map(named).collect())
}

/// The newest version comes first.
fn shown(name: &str, mut model: Model) -> Value {
    model.versions.reverse();
    json!({
        "name": name, "aliases": model.aliases, "splits": model.splits, "shadows": model.shadows,
        "versions": model.versions,
    })
}

async fn read(store: &dyn Store, prefix: &str) -> Result<BTreeMap<String, Model>, StoreError> {
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = store
            .query(registry::TABLE, prefix, after.as_deref(), PAGE, Order::Ascending)
            .await?;
        seen += page.entries.len();
        for (key, row) in page.entries {
            let value: Value = serde_json::from_slice(&row.value).unwrap_or_default();
            match registry::parse_key(&key) {
                Some(Key::Version(model, _)) => {
                    models.entry(model.to_owned()).or_default().versions.push(value)
                }
                Some(Key::Alias(model, alias)) => {
                    models.entry(model.to_owned()).or_default().name(alias, &value);
                }
                Some(Key::Next(_)) | None => {}
            }
        }
        after = page.next;
        if after.is_none() || seen >= MOST {
            return Ok(models);
        }
    }
}
