//! From declarations to functions that can be installed: what changed is fetched, compiled and checked, each function
//! by itself; of what did not change, or is refused, there is what was deployed before.

use std::collections::BTreeMap;

use bytes::Bytes;
use toml::Table;

use super::settled::{Seen, Settled, digest};
use super::{FILE, Look, words};
use crate::deploy::{self, Deployable, Source};
use crate::manifest::Function;
use crate::platform::Platform;
use crate::platform::apps::{AppRecord, Shares};
use crate::platform::deployment::DeployError;
use crate::platform::versions::Versions;
use crate::sandbox::sha256_hex;
use crate::store::{Declaration, Declarations, Lying, StoreError};

/// Bytes of a declared component at most.
const LARGEST: u64 = 256 << 20;

/// What is to be installed.
#[derive(Default)]
pub(super) struct Prepared {
    /// What will have been made of the declarations then.
    pub(super) settled: Settled,
    /// The functions, as they would stand in a manifest.
    pub(super) tables: Vec<Table>,
    /// The same, with their components.
    pub(super) functions: Vec<Deployable>,
    /// Those that were declared anew, with the shares that they shall have.
    pub(super) changed: BTreeMap<String, Shares>,
}

/// What there is of an app.
struct Present<'a> {
    app: &'a str,
    record: AppRecord,
    versions: Versions,
}

/// Why a declared function is not ready to be installed.
enum NotReady {
    /// It is mistaken.
    Mistaken(String),
    /// The store did not answer.
    Store(StoreError),
}

impl From<StoreError> for NotReady {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Platform {
    pub(super) async fn prepare(
        &self,
        source: &dyn Declarations,
        look: &Look,
    ) -> Result<Prepared, DeployError> {
        let store = self.services.store.as_ref();
        let present = Present {
            app: &look.app,
            record: AppRecord::read(store, &look.app).await?.0,
            versions: Versions::read(store, None).await?,
        };
        let mut prepared = Prepared::default();
        for declaration in &look.declared {
            let seen = look.row.settled.functions.get(&declaration.function);
            self.prepare_one(source, &present, declaration, seen, &mut prepared)
                .await?;
        }
        prepared.settled.leaving = self.leaving(look);
        Ok(prepared)
    }

    /// The functions that have left or leave now, each with the time since when.
    fn leaving(&self, look: &Look) -> BTreeMap<String, u64> {
        let (before, now) = (&look.row.settled, self.services.clock.now_ms());
        let mut leaving = before.leaving.clone();
        for function in before.functions.keys() {
            leaving.entry(function.clone()).or_insert(now);
        }
        let declared = |function: &String| look.declared.iter().any(|one| one.function == *function);
        leaving.retain(|function, _| !declared(function));
        leaving
    }

    async fn prepare_one(
        &self,
        source: &dyn Declarations,
        present: &Present<'_>,
        declaration: &Declaration,
        seen: Option<&Seen>,
        prepared: &mut Prepared,
    ) -> Result<(), DeployError> {
        let mut now = Seen {
            declaration: digest(declaration),
            deployed: seen.and_then(|seen| seen.deployed.clone()),
            ..Seen::default()
        };
        let kept = self.kept(present, &declaration.function).await?;
        let stands = kept.is_some() && now.deployed.as_ref() == Some(&now.declaration);
        let runs = match stands {
            true => kept,
            false => {
                let lying = lying(source, declaration).await?;
                now.tag = lying.as_ref().map(|lying| lying.tag.clone());
                match self.ready(source, declaration, lying).await {
                    Ok((table, function, shares)) => {
                        now.deployed = Some(now.declaration.clone());
                        prepared.changed.insert(declaration.function.clone(), shares);
                        Some((table, function))
                    }
                    Err(NotReady::Mistaken(reason)) => {
                        now.refused = Some(reason);
                        kept
                    }
                    Err(NotReady::Store(error)) => return Err(error.into()),
                }
            }
        };
        if let Some((table, function)) = runs {
            prepared.tables.push(table);
            prepared.functions.push(function);
        }
        let functions = &mut prepared.settled.functions;
        functions.insert(declaration.function.clone(), now);
        Ok(())
    }

    /// The version of a function that was deployed last.
    async fn kept(
        &self,
        present: &Present<'_>,
        function: &str,
    ) -> Result<Option<(Table, Deployable)>, DeployError> {
        let number = present.record.deployed(function);
        let mut versions = present.versions.of(function).iter();
        let version = versions.find(|version| version.app == present.app && Some(version.number) == number);
        let found = version.and_then(|version| Some((version, version.words()?.0)));
        let Some((version, table)) = found else {
            return Ok(None);
        };
        let running = self
            .fleet()
            .running(function, version.number)
            .map(|running| running.function.clone());
        let loaded = match running {
            Some(running) => running,
            None => self.load(version).await?,
        };
        Ok(Some((table, loaded)))
    }

    /// What is declared now, if nothing of it is mistaken.
    async fn ready(
        &self,
        source: &dyn Declarations,
        declaration: &Declaration,
        lying: Option<Lying>,
    ) -> Result<(Table, Deployable, Shares), NotReady> {
        let table = words::table(declaration).map_err(NotReady::Mistaken)?;
        let tenant = declaration.tenant.as_deref();
        let text =
            words::manifest(&declaration.app, tenant, vec![table.clone()]).map_err(NotReady::Mistaken)?;
        let bytes = bytes(source, declaration, lying).await?;
        let (sandbox, places) = (self.sandbox.clone(), self.places());
        let linking = tokio::task::spawn_blocking(move || {
            let source_of = |_: &Function| {
                let bytes = bytes.as_ref().map_err(Clone::clone)?;
                Ok(Source::Bytes(bytes.clone()))
            };
            deploy::load_text(&sandbox, &text, FILE, &places, source_of)
        });
        let linked = linking.await.map_err(StoreError::new)?;
        let linked = linked.map_err(|mistakes| words::told(&mistakes));
        match (
            linked.map(|mut functions| functions.pop()),
            words::shares(declaration),
        ) {
            (Ok(Some(function)), Ok(shares)) => Ok((table, function, shares)),
            (linked, shares) => {
                let wrong = linked.err().into_iter().flatten().chain(shares.err());
                Err(NotReady::Mistaken(wrong.collect::<Vec<_>>().join("\n")))
            }
        }
    }
}

/// The bytes of the component that is declared, or what is wrong with what lies there.
async fn bytes(
    source: &dyn Declarations,
    declaration: &Declaration,
    lying: Option<Lying>,
) -> Result<Result<Bytes, String>, StoreError> {
    let Declaration {
        component, digest, ..
    } = declaration;
    if let Some(Lying { size, .. }) = lying.as_ref().filter(|lying| lying.size > LARGEST) {
        return Ok(Err(format!(
            "component `{component}` has {size} bytes, allowed are {LARGEST}"
        )));
    }
    let found = match lying {
        Some(_) => source.component(component).await?,
        None => None,
    };
    let Some(bytes) = found else {
        return Ok(Err(format!("component `{component}` is not in the bucket")));
    };
    let is = sha256_hex(&bytes);
    if is != *digest {
        return Ok(Err(format!(
            "component `{component}` has the SHA-256 `{is}`, expected `{digest}` as it is declared"
        )));
    }
    Ok(Ok(bytes))
}

/// What lies in the place of a declaration's component.
async fn lying(source: &dyn Declarations, declaration: &Declaration) -> Result<Option<Lying>, StoreError> {
    match declaration.component.as_str() {
        "" => Ok(None),
        component => source.lying(component).await,
    }
}

/// What tells it from what lies there at another time.
pub(super) async fn tag(
    source: &dyn Declarations,
    declaration: &Declaration,
) -> Result<Option<String>, StoreError> {
    Ok(lying(source, declaration).await?.map(|lying| lying.tag))
}
