//! What is deployed: of each function the versions so far, and which of them take events.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_runtime::manifest::Function;
use tidegate_runtime::trigger::{Router, Split};

/// The versions of every function, which last longer than a process.
pub struct Versions(Vec<Deployed>);

/// One function.
struct Deployed {
    function: Arc<Function>,
    /// The latest version; all before it were deployed once.
    latest: u64,
    /// The share of the version before the latest; none where that is not live.
    before: Option<u64>,
}

impl Versions {
    /// One version of each.
    pub fn new(functions: &[Arc<Function>]) -> Self {
        let first = |function: &Arc<Function>| Deployed {
            function: function.clone(),
            latest: 0,
            before: None,
        };
        Self(functions.iter().map(first).collect())
    }

    /// Makes another version of a function, which shares with the one before where that has a share.
    pub fn deploy(&mut self, index: usize, before: Option<u64>) -> Arc<Function> {
        let deployed = &mut self.0[index];
        deployed.latest += 1;
        deployed.before = before;
        deployed.version(deployed.latest)
    }

    /// Every version that there was.
    pub fn all(&self) -> Vec<Arc<Function>> {
        let versions = |of: &Deployed| {
            (0..=of.latest)
                .map(|version| of.version(version))
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(versions).collect()
    }

    /// Whether a version takes events.
    pub fn is_live(&self, function: &Function) -> bool {
        let mut deployed = self.0.iter().filter(|of| of.function.name == function.name);
        deployed.any(|of| of.split().has(function.version))
    }

    /// The latest version of each, whose schedules count.
    pub fn latest(&self) -> Vec<Arc<Function>> {
        self.0.iter().map(|of| of.version(of.latest)).collect()
    }

    /// The routing table of those that are live.
    pub fn router(&self) -> Router {
        let live: Vec<_> = self
            .all()
            .into_iter()
            .filter(|function| self.is_live(function))
            .collect();
        let splits = self.0.iter().map(|of| (of.function.name.clone(), of.split()));
        Router::split(&live, splits.collect())
    }
}

impl Deployed {
    fn version(&self, version: u64) -> Arc<Function> {
        let function = self.function.as_ref().clone();
        Arc::new(Function { version, ..function })
    }

    fn split(&self) -> Split {
        let whole = Split::whole(self.latest);
        let Some(share) = self.before else { return whole };
        let shares = BTreeMap::from([(self.latest - 1, share), (self.latest, 100 - share)]);
        Split::try_from(shares).unwrap_or(whole)
    }
}
