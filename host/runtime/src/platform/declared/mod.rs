//! Functions that are declared beside the platform, by Terraform for example. Every host looks at them every few
//! seconds; one of them deploys what changed, and the others follow as they follow any deployment.
//!
//! A function that cannot be deployed is refused: what it was before goes on, the others of its app are deployed, and it
//! is tried again when its declaration changes, or what lies in the place of its component.

mod prepared;
mod settled;
mod shown;
mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use self::shown::{Declared, DeclaredState};

use self::prepared::Prepared;
use self::settled::{Held, Row, Settled};
use super::Platform;
use super::apps::AppRecord;
use super::deployment::DeployError;
use super::versions::Versions;
use crate::effects::Draft;
use crate::manifest::{App, Dialect, Manifest, Mistake, Mistakes, queue_of};
use crate::store::{CommitError, Declaration, Declarations, Depth, StoreError};

/// What stands for the file of a manifest that is put together here.
const FILE: &str = "declared";
/// An app that is held by something else, such as a route of another app, is tried again after this.
const AGAIN_MS: u64 = 30_000;
/// A host that has not yet seen that a function is gone sends it events for no longer than this.
const LEAVING_MS: u64 = 10_000;

/// The declarations of an app, and what was made of them so far.
struct Look {
    app: String,
    declared: Vec<Declaration>,
    row: Row,
}

impl Look {
    /// Those of every app of which there is something declared, or was.
    fn at_all(declared: Vec<Declaration>, mut rows: BTreeMap<String, Row>) -> Vec<Self> {
        let mut by_app: BTreeMap<String, Vec<Declaration>> = BTreeMap::new();
        for declaration in declared {
            by_app
                .entry(declaration.app.clone())
                .or_default()
                .push(declaration);
        }
        let apps: BTreeSet<String> = rows.keys().chain(by_app.keys()).cloned().collect();
        let look = |app: String| Self {
            declared: by_app.remove(&app).unwrap_or_default(),
            row: rows.remove(&app).unwrap_or_else(Row::new),
            app,
        };
        apps.into_iter().map(look).collect()
    }

    /// Everything that is to run as one manifest.
    fn manifest(&self, functions: Vec<toml::Table>) -> Result<Manifest, Mistakes> {
        let wrong =
            |path: &str, reason| Mistakes::new(FILE.into(), vec![Mistake::new(path.into(), None, reason)]);
        let tenants: BTreeSet<&str> = self
            .declared
            .iter()
            .filter_map(|one| one.tenant.as_deref())
            .collect();
        if tenants.len() > 1 {
            let found: Vec<_> = tenants.iter().map(|tenant| format!("`{tenant}`")).collect();
            let reason = format!("its functions name {}, expected one tenant", found.join(" and "));
            return Err(wrong("app.tenant", reason));
        }
        if functions.is_empty() {
            return Ok(nothing(&self.app));
        }
        let tenant = self.declared.iter().find_map(|one| one.tenant.as_deref());
        let text =
            words::manifest(&self.app, tenant, functions).map_err(|reason| wrong("function", reason))?;
        Manifest::parse(&text, FILE)
    }
}

/// An app of which nothing is left.
fn nothing(app: &str) -> Manifest {
    Manifest {
        app: App {
            name: app.to_owned(),
            tenant: app.to_owned(),
        },
        functions: Vec::new(),
        text: String::new(),
        dialect: Dialect::Tidegate,
    }
}

impl Platform {
    /// Deploys what is declared and not deployed yet, and drops what is not declared any more.
    pub(super) async fn settle_declarations(&self) -> Result<(), StoreError> {
        let store = self.services.store.as_ref();
        let Some(source) = store.declarations() else {
            return Ok(());
        };
        // The rows first: where another host is faster, writing them is a conflict, and nothing older is deployed.
        let rows = Row::read_all(store).await?;
        for look in Look::at_all(source.declared().await?, rows) {
            if let Err(error) = self.settle(source, &look).await {
                tracing::warn!(app = look.app, %error, "what is declared is not deployed yet");
            }
        }
        Ok(())
    }

    async fn settle(&self, source: &dyn Declarations, look: &Look) -> Result<(), DeployError> {
        let settled = &look.row.settled;
        let drained = self.drained(&look.app, settled).await?;
        let stands = settled.is_of(&look.declared, self.services.clock.now_ms());
        if stands && drained.is_empty() && !lies_anew(source, look).await? {
            return Ok(());
        }
        let _one_at_a_time = self.deploying.lock().await;
        let mut prepared = self.prepare(source, look).await?;
        prepared
            .settled
            .leaving
            .retain(|function, _| !drained.contains(function));
        let settled = prepared.settled.clone();
        match self.install_prepared(look, prepared).await {
            Ok(()) => {
                say(look, &settled);
                Ok(())
            }
            Err(DeployError::Commit(CommitError::Conflict { .. })) => Ok(()),
            Err(error @ (DeployError::Commit(_) | DeployError::Store(_))) => Err(error),
            Err(DeployError::Mistakes(mistakes)) => {
                self.hold(look, settled, words::told(&mistakes).join("\n")).await
            }
            Err(refused) => self.hold(look, settled, refused.to_string()).await,
        }
    }

    async fn install_prepared(&self, look: &Look, prepared: Prepared) -> Result<(), DeployError> {
        let Prepared {
            settled,
            tables,
            functions,
            changed,
        } = prepared;
        let row = look.row.write(&look.app, &settled)?;
        let (record, _) = AppRecord::read(self.services.store.as_ref(), &look.app).await?;
        if functions.is_empty() && record == AppRecord::default() {
            let mut draft = Draft::new(&self.services);
            draft.unit.state.push(row);
            return Ok(draft.commit().await?);
        }
        let manifest = look.manifest(tables)?;
        let turn = |record: &mut AppRecord, numbers| record.declare(numbers, &changed);
        let deployed = self.install(FILE, &manifest, functions, turn, Some(row)).await?;
        let changed: Vec<_> = changed.keys().collect();
        tracing::info!(app = deployed.app, ?changed, "deployed what is declared");
        Ok(())
    }

    /// Notes that an app stays as it is for now.
    async fn hold(&self, look: &Look, mut settled: Settled, reason: String) -> Result<(), DeployError> {
        let before = &look.row.settled;
        for (function, seen) in &mut settled.functions {
            let known = before.functions.get(function);
            seen.deployed = known.and_then(|known| known.deployed.clone());
        }
        let known = before.refused.as_ref().is_some_and(|held| held.reason == reason);
        if !known {
            tracing::warn!(
                app = look.app,
                reason,
                "what is declared is refused; what was deployed goes on"
            );
        }
        let again = self.services.clock.now_ms() + AGAIN_MS;
        settled.refused = Some(Held { reason, again });
        let mut draft = Draft::new(&self.services);
        draft.unit.state.push(look.row.write(&look.app, &settled)?);
        match draft.commit().await {
            Ok(()) | Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Functions that were leaving, and have no events left.
    async fn drained(&self, app: &str, settled: &Settled) -> Result<BTreeSet<String>, StoreError> {
        let now = self.services.clock.now_ms();
        let mut drained = BTreeSet::new();
        for (function, since) in &settled.leaving {
            if now >= since + LEAVING_MS && self.has_nothing_left(app, function).await? {
                drained.insert(function.clone());
            }
        }
        Ok(drained)
    }

    async fn has_nothing_left(&self, app: &str, function: &str) -> Result<bool, StoreError> {
        let store = self.services.store.as_ref();
        let versions = Versions::read(store, Some(function)).await?;
        for version in versions.of(function).iter().filter(|version| version.app == app) {
            if store.depth(&queue_of(function, version.number)).await? != Depth::default() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether something else lies in the place of a refused function's component than when it was looked at.
async fn lies_anew(source: &dyn Declarations, look: &Look) -> Result<bool, StoreError> {
    for declaration in &look.declared {
        let seen = look.row.settled.functions.get(&declaration.function);
        let Some(refused) = seen.filter(|seen| seen.refused.is_some()) else {
            continue;
        };
        if prepared::tag(source, declaration).await? != refused.tag {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says what was refused now and not before.
fn say(look: &Look, settled: &Settled) {
    for (function, seen) in &settled.functions {
        let before = look.row.settled.functions.get(function);
        let known = before.is_some_and(|before| before.refused == seen.refused);
        if let Some(reason) = seen.refused.as_ref().filter(|_| !known) {
            let function = format!("{}/{function}", look.app);
            tracing::warn!(
                function,
                reason,
                "what is declared is refused; what was deployed goes on"
            );
        }
    }
}
