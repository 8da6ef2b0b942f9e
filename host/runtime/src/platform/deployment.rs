//! Deployment: from a manifest to functions that run, kept so that the next start runs them without its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::buckets::{BUCKETS, buckets_of};
use super::{Platform, engine_error};
use crate::deploy::{self, Deployable, Deployed, FunctionInfo, Places};
use crate::dispatch::Dispatcher;
use crate::effects::Draft;
use crate::manifest::{Function, Manifest, Mistakes};
use crate::sandbox::{Pool, Program, Sandbox, Sandboxed};
use crate::store::{CommitError, Condition, Order, Publication, StateWrite, StoreError};
use crate::trigger::{Router, clash};

/// The table of deployed apps.
const APPS: &str = "$apps";
/// The bucket of deployed components, by digest.
const COMPONENTS: &str = "$components";

/// Why an app was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The manifest or its components.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// Another app has a function or a route of this name.
    #[error("{0}")]
    Taken(String),
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How an app is kept.
#[derive(Serialize, Deserialize)]
struct AppRecord {
    file: String,
    manifest: String,
    components: BTreeMap<String, String>,
}

/// A function that runs.
pub(super) struct Running {
    app: String,
    pub(super) function: Deployable,
    /// Stops the dispatcher of an event function.
    stop: CancellationToken,
}

impl Running {
    /// Why a function of another app cannot be deployed beside this one.
    fn takes_from(&self, other: &Function) -> Option<String> {
        let (spec, app) = (&self.function.spec, &self.app);
        if spec.name == other.name {
            return Some(format!(
                "function `{}` belongs to the app `{app}` already",
                other.name
            ));
        }
        let pairs = other
            .triggers
            .iter()
            .flat_map(|wanted| spec.triggers.iter().map(move |taken| (wanted, taken)));
        let (wanted, taken) = pairs.into_iter().find(|(wanted, taken)| clash(wanted, taken))?;
        Some(format!(
            "`{wanted}` of function `{}` answers the requests of `{taken}`, which belongs to function `{}` of the \
             app `{app}`",
            other.name, spec.name
        ))
    }
}

impl Platform {
    /// Deploys a manifest with its components; functions of the same app that it no longer names are gone.
    pub async fn deploy(&self, file: &Path) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (sandbox, places, path) = (self.sandbox.clone(), self.places(), file.to_owned());
        let loading = tokio::task::spawn_blocking(move || deploy::load(&sandbox, &path, &places));
        let (manifest, functions) = loading.await.map_err(StoreError::new)??;
        self.refuse_taken(&manifest)?;
        self.keep(file, &manifest, &functions).await?;
        Ok(self.activate(&manifest, functions))
    }

    /// The functions that run.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        self.running()
            .values()
            .map(|running| running.function.info(&running.app))
            .collect()
    }

    fn places(&self) -> Places {
        Places {
            components: self.config.component_dirs.clone(),
            cache: Some(self.config.data_dir.join("cache")),
        }
    }

    /// Refuses names and routes that functions of other apps have.
    fn refuse_taken(&self, manifest: &Manifest) -> Result<(), DeployError> {
        let running = self.running();
        let others = || {
            running
                .values()
                .filter(|running| running.app != manifest.app.name)
        };
        let taken = manifest
            .functions
            .iter()
            .find_map(|function| others().find_map(|running| running.takes_from(function)));
        taken.map_or(Ok(()), |reason| Err(DeployError::Taken(reason)))
    }

    /// Keeps the app, so that the next start runs it without its files.
    async fn keep(
        &self,
        file: &Path,
        manifest: &Manifest,
        functions: &[Deployable],
    ) -> Result<(), DeployError> {
        let mut draft = Draft::new(&self.services);
        for function in functions {
            let digest = &function.component.digest;
            let twice = draft
                .unit
                .objects
                .iter()
                .any(|publication| publication.key == *digest);
            if twice || self.services.store.head(COMPONENTS, digest).await?.is_some() {
                continue;
            }
            let mut stage = self.services.store.stage().await?;
            stage.write(function.bytes.clone()).await?;
            draft.unit.objects.push(Publication {
                bucket: COMPONENTS.into(),
                key: digest.clone(),
                staged: Some(stage.finish().await?),
                content_type: Some("application/wasm".into()),
                user: BTreeMap::new(),
                condition: Condition::None,
            });
        }
        let components = functions
            .iter()
            .map(|f| (f.spec.name.clone(), f.component.digest.clone()))
            .collect();
        let record = AppRecord {
            file: file.display().to_string(),
            manifest: manifest.text.clone(),
            components,
        };
        let value = serde_json::to_vec(&record).map_err(StoreError::new)?;
        draft.unit.state.push(put(APPS, &manifest.app.name, value));
        for bucket in buckets_of(manifest) {
            if self.services.store.get(BUCKETS, &bucket).await?.is_none() {
                let created = serde_json::json!({ "created": self.services.clock.now_ms() });
                draft
                    .unit
                    .state
                    .push(put(BUCKETS, &bucket, created.to_string().into_bytes()));
            }
        }
        Ok(draft.commit().await?)
    }

    /// Runs the functions of an app from now on, in place of those it had.
    fn activate(&self, manifest: &Manifest, functions: Vec<Deployable>) -> Deployed {
        let mut running = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, function| {
            let replaced = function.app == manifest.app.name;
            if replaced {
                function.stop.cancel();
            }
            !replaced
        });
        let infos = functions
            .iter()
            .map(|function| function.info(&manifest.app.name))
            .collect();
        for function in functions {
            let stop = match &function.component.program {
                Program::Event(program) => Dispatcher::start(
                    &self.services,
                    function.spec.clone(),
                    Arc::new(Sandboxed {
                        sandbox: self.sandbox.clone(),
                        program: program.clone(),
                    }),
                ),
                Program::Http(_) => CancellationToken::new(),
            };
            let name = function.spec.name.clone();
            running.insert(
                name,
                Running {
                    app: manifest.app.name.clone(),
                    function,
                    stop,
                },
            );
        }
        let specs: Vec<Arc<Function>> = running
            .values()
            .map(|running| running.function.spec.clone())
            .collect();
        drop(running);
        self.services.set_router(Router::new(&specs));
        self.scheduler.set(&specs);
        Deployed {
            app: manifest.app.name.clone(),
            functions: infos,
        }
    }

    /// Runs what was deployed before.
    pub(super) async fn restore(&self) -> anyhow::Result<()> {
        let page = self
            .services
            .store
            .query(APPS, "", None, 1000, Order::Ascending)
            .await?;
        for (app, row) in page.entries {
            if let Err(error) = self.restore_app(&row.value).await {
                tracing::error!(
                    app,
                    error = format!("{error:#}"),
                    "the app deployed before does not start"
                );
            }
        }
        Ok(())
    }

    async fn restore_app(&self, record: &[u8]) -> anyhow::Result<()> {
        let record: AppRecord = serde_json::from_slice(record)?;
        let manifest = Manifest::parse(&record.manifest, &record.file)?;
        let mut components = BTreeMap::new();
        for (function, digest) in &record.components {
            let object = self.services.store.open(COMPONENTS, digest).await?;
            let object = object
                .with_context(|| format!("component `{digest}` of function `{function}` is missing"))?;
            components.insert(function.clone(), read_all(object.as_ref()).await?);
        }
        let (sandbox, places) = (self.sandbox.clone(), self.places());
        let parsed = manifest.clone();
        let linking = tokio::task::spawn_blocking(move || {
            let bytes_of = |spec: &Function| {
                components
                    .get(&spec.name)
                    .cloned()
                    .ok_or_else(|| "not kept".to_owned())
            };
            deploy::link(&sandbox, &parsed, &record.file, &places, bytes_of)
        });
        self.activate(&manifest, linking.await??);
        Ok(())
    }
}

async fn read_all(object: &dyn crate::store::ObjectReader) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < object.meta().size {
        let part = object.read_at(bytes.len() as u64, 4 << 20).await?;
        if part.is_empty() {
            return Err(StoreError(format!("object `{}` is cut short", object.meta().key)));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn put(table: &str, key: &str, value: Vec<u8>) -> StateWrite {
    StateWrite {
        table: table.into(),
        key: key.into(),
        value: Some(value.into()),
        condition: Condition::None,
    }
}

/// Checks a manifest and its components without running anything.
pub fn check(file: &Path, component_dirs: &[PathBuf]) -> anyhow::Result<Result<Deployed, Mistakes>> {
    let sandbox = Sandbox::new(Pool {
        instances: 8,
        ..Pool::default()
    })
    .map_err(engine_error)?;
    let places = Places {
        components: component_dirs.to_vec(),
        cache: None,
    };
    let checked = deploy::load(&sandbox, file, &places);
    Ok(checked.map(|(manifest, functions)| Deployed {
        functions: functions
            .iter()
            .map(|function| function.info(&manifest.app.name))
            .collect(),
        app: manifest.app.name,
    }))
}
