//! From a manifest to functions that can run: components found, compiled, and checked against it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::manifest::{Function, Manifest, Mistake, Mistakes, Trigger};
use crate::sandbox::{Code, Component, ComponentError, Kind, Sandbox, sha256_hex};
use crate::trigger::Split;

/// A function with its compiled component.
#[derive(Clone)]
pub struct Deployable {
    /// The manifest's words.
    pub spec: Arc<Function>,
    /// The component.
    pub component: Component,
    /// The component's bytes, until they are kept.
    pub bytes: bytes::Bytes,
}

/// A function, for people.
#[derive(Debug, Clone, Serialize)]
pub struct FunctionInfo {
    /// The app.
    pub app: String,
    /// Its name.
    pub name: String,
    /// Its version: of several that are live the one with the larger share; 0 where it is not deployed.
    pub version: u64,
    /// The digest of its component.
    pub digest: String,
    /// The versions that share its events and requests; none where it is not live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Split>,
    /// What fires it.
    pub triggers: Vec<String>,
    /// What the manifest says of it.
    pub description: Option<String>,
    /// What it can do less than its component hopes for.
    pub warnings: Vec<String>,
}

/// What a deployment did.
#[derive(Debug, Clone, Serialize)]
pub struct Deployed {
    /// The app.
    pub app: String,
    /// Its functions.
    pub functions: Vec<FunctionInfo>,
}

impl Deployable {
    /// What people see of it.
    pub fn info(&self, app: &str, live: Option<Split>) -> FunctionInfo {
        FunctionInfo {
            app: app.to_owned(),
            name: self.spec.name.clone(),
            version: self.spec.version,
            digest: self.component.code.digest.clone(),
            live,
            triggers: self.spec.triggers.iter().map(ToString::to_string).collect(),
            description: self.spec.description.clone(),
            warnings: self.warnings(),
        }
    }

    /// What its component imports in vain. Components of other hosts often import more than they call, so that this is
    /// no mistake.
    fn warnings(&self) -> Vec<String> {
        let stub =
            |name: &String| format!("imports `{name}`, which this host does not offer: a call of it traps");
        let stubs = self.component.code.stubs.iter().map(stub);
        let denied = |import: &String| {
            let grant = missing_grant_of_others(&self.spec, import)?;
            Some(format!(
                "imports `{import}`, but the manifest has no grant `{grant}`: what it asks for is refused"
            ))
        };
        stubs
            .chain(self.component.code.imports.iter().filter_map(denied))
            .collect()
    }
}

/// Where components are looked for, and where their machine code is kept.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Folders searched after the manifest's own.
    pub components: Vec<PathBuf>,
    /// The folder of compiled components; none compiles each time.
    pub cache: Option<PathBuf>,
    /// A folder that is only read, with machine code by the digests of components; trusted as the host itself is.
    pub packaged: Option<PathBuf>,
}

impl Places {
    /// Whether there is packaged machine code of a component.
    pub fn has_code(&self, digest: &str) -> bool {
        self.packaged
            .as_deref()
            .is_some_and(|folder| packaged_code(folder, digest).is_file())
    }
}

/// What a function is loaded from.
#[derive(Clone)]
pub enum Source {
    /// The component.
    Bytes(bytes::Bytes),
    /// Code that another function has already.
    Loaded(Arc<Code>),
    /// Machine code that is packaged, by the digest of the component.
    Packaged(String),
}

/// Loads a manifest and all its components; every mistake of all of them is reported in one go.
pub fn load(
    sandbox: &Sandbox,
    file: &Path,
    places: &Places,
) -> Result<(Manifest, Vec<Deployable>), Mistakes> {
    let (manifest, mut mistakes) = Manifest::read(file)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let find =
        |spec: &Function| find(spec, folder, &places.components).map(|bytes| Source::Bytes(bytes.into()));
    let functions = link_all(sandbox, &manifest, &mut mistakes, places, find);
    Mistakes::none(&file.display().to_string(), mistakes).map(|()| (manifest, functions))
}

/// The same of a manifest's text, whose components `source_of` finds.
pub fn load_text(
    sandbox: &Sandbox,
    text: &str,
    name: &str,
    places: &Places,
    source_of: impl Fn(&Function) -> Result<Source, String>,
) -> Result<Vec<Deployable>, Mistakes> {
    let (manifest, mut mistakes) = Manifest::read_text(text, name)?;
    let functions = link_all(sandbox, &manifest, &mut mistakes, places, source_of);
    Mistakes::none(name, mistakes).map(|()| functions)
}

/// Compiles and checks the components that `source_of` finds.
pub fn link(
    sandbox: &Sandbox,
    manifest: &Manifest,
    file: &str,
    places: &Places,
    source_of: impl Fn(&Function) -> Result<Source, String>,
) -> Result<Vec<Deployable>, Mistakes> {
    let mut mistakes = Vec::new();
    let functions = link_all(sandbox, manifest, &mut mistakes, places, source_of);
    Mistakes::none(file, mistakes).map(|()| functions)
}

/// The functions whose component could be read, also where other parts of the manifest are mistaken.
fn link_all(
    sandbox: &Sandbox,
    manifest: &Manifest,
    mistakes: &mut Vec<Mistake>,
    places: &Places,
    source_of: impl Fn(&Function) -> Result<Source, String>,
) -> Vec<Deployable> {
    let mut functions = Vec::new();
    // Functions that have the same component share its bytes.
    let mut read: HashMap<String, bytes::Bytes> = HashMap::new();
    for (path, spec) in manifest.placed() {
        if spec.component.as_os_str().is_empty() {
            continue;
        }
        let at = |message: String| Mistake::new(format!("{path}.{}", manifest.source_key()), None, message);
        let loaded = source_of(spec).and_then(|source| {
            load_one(sandbox, source, places)
                .map_err(|error| format!("component `{}`: {error}", spec.component.display()))
        });
        match loaded {
            Err(message) => mistakes.push(at(message)),
            Ok((bytes, component)) => {
                let wrong = mismatches(spec, &component, &mistaken_grants(&path, mistakes));
                mistakes.extend(wrong.into_iter().map(at));
                mistakes.extend(stray_batch(&path, spec, &component));
                let read = read.entry(component.code.digest.clone());
                functions.push(Deployable {
                    spec: Arc::new(gathered(spec, component.program.kind())),
                    bytes: read.or_insert(bytes).clone(),
                    component,
                });
            }
        }
    }
    functions
}

/// A component, with its bytes where they were needed.
fn load_one(
    sandbox: &Sandbox,
    source: Source,
    places: &Places,
) -> Result<(bytes::Bytes, Component), ComponentError> {
    let packaged = |digest: &str| {
        let folder = places.packaged.as_deref().unwrap_or(Path::new(""));
        Code::packaged(sandbox, digest, &packaged_code(folder, digest))
    };
    let (bytes, code) = match source {
        Source::Loaded(code) => (bytes::Bytes::new(), code),
        Source::Packaged(digest) => (bytes::Bytes::new(), packaged(&digest)?),
        Source::Bytes(bytes) => {
            let digest = sha256_hex(&bytes);
            let code = match places.has_code(&digest) {
                true => packaged(&digest)?,
                false => Code::load(sandbox, &bytes, places.cache.as_deref())?,
            };
            (bytes, code)
        }
    };
    Ok((bytes, Component::of(code)?))
}

/// Where packaged machine code is. Its name says nothing of the engine: what does not fit is refused as it is loaded.
pub fn packaged_code(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("{digest}.cwasm"))
}

/// What the manifest says, with the defaults of what only the component tells: whether events are gathered.
pub(crate) fn gathered(spec: &Function, kind: Kind) -> Function {
    let batch = (kind == Kind::Batch).then(|| spec.batch.unwrap_or_default());
    Function {
        batch,
        ..spec.clone()
    }
}

/// A `batch` for a component that does not take events together.
fn stray_batch(path: &str, spec: &Function, component: &Component) -> Option<Mistake> {
    spec.batch?;
    let kind = component.program.kind();
    let message = format!(
        "component `{}` {}, expected one that exports `handle-batch` where there is a `batch`",
        spec.component.display(),
        exports(kind)
    );
    (kind != Kind::Batch).then(|| Mistake::new(format!("{path}.batch"), None, message))
}

fn exports(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => "exports `handle`, for events",
        Kind::Batch => "exports `handle-batch`, for events",
        Kind::Http => "exports a `wasi:http` handler, for requests",
    }
}

/// The grants of a function that could not be read: that they are missing was said already.
fn mistaken_grants(path: &str, mistakes: &[Mistake]) -> Vec<String> {
    let grants = format!("{path}.grants");
    mistakes
        .iter()
        .filter_map(|mistake| mistake.path.strip_prefix(&grants))
        .map(|rest| rest.trim_start_matches('.'))
        .map(|rest| rest.split(['.', '[']).next().unwrap_or_default().to_owned())
        .collect()
}

/// The files that a deployment of a manifest looks for: its own, and the places of its components. Of a manifest that
/// cannot be read there is only its own.
pub fn sources(file: &Path, components: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = vec![file.to_owned()];
    if let Ok((manifest, _)) = Manifest::read(file) {
        let folder = file.parent().unwrap_or(Path::new("."));
        let places = manifest
            .functions
            .iter()
            .flat_map(|spec| candidates(spec, folder, components));
        files.extend(places);
    }
    files
}

/// Where a component may be; the first place that has it counts.
fn candidates(spec: &Function, folder: &Path, others: &[PathBuf]) -> Vec<PathBuf> {
    let places = std::iter::once(folder).chain(others.iter().map(PathBuf::as_path));
    places.map(|place| place.join(&spec.component)).collect()
}

fn find(spec: &Function, folder: &Path, others: &[PathBuf]) -> Result<Vec<u8>, String> {
    let candidates = candidates(spec, folder, others);
    let Some(found) = candidates.iter().find(|path| path.is_file()) else {
        let looked = candidates
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect::<Vec<_>>()
            .join(", ");
        return Err(format!(
            "component `{}` not found; looked for {looked}",
            spec.component.display()
        ));
    };
    std::fs::read(found).map_err(|error| format!("component `{}`: {error}", found.display()))
}

/// What the component is or wants against what the manifest says.
fn mismatches(spec: &Function, component: &Component, mistaken: &[String]) -> Vec<String> {
    let name = spec.component.display();
    let kind = component.program.kind();
    let mut wrong = Vec::new();
    for trigger in &spec.triggers {
        if matches!(trigger, Trigger::Http { .. }) != (kind == Kind::Http) {
            let exports = exports(kind);
            wrong.push(format!(
                "component `{name}` {exports}, but the trigger is `{trigger}`"
            ));
        }
    }
    for import in &component.code.imports {
        if let Some(missing) = missing_grant(spec, import)
            && !mistaken
                .iter()
                .any(|grant| grant.is_empty() || missing.starts_with(grant.as_str()))
        {
            wrong.push(format!(
                "component `{name}` imports `{import}`, but the manifest has no grant `{missing}`"
            ));
        }
    }
    wrong
}

/// The grant without which an interface of another host refuses everything.
fn missing_grant_of_others(spec: &Function, import: &str) -> Option<&'static str> {
    let state = &spec.grants.state;
    let stores = [
        "fermyon:spin/key-value@2",
        "spin:key-value/",
        "wasi:keyvalue/store",
    ];
    let wants_stores = stores.iter().any(|store| import.starts_with(store));
    (wants_stores && state.read.is_empty() && state.write.is_empty()).then_some("state.read` or `state.write")
}

/// The grant without which an import can never work.
fn missing_grant(spec: &Function, import: &str) -> Option<&'static str> {
    let grants = &spec.grants;
    let interface = import.strip_prefix("tidegate:function/")?.split('@').next()?;
    let (granted, grant) = match interface {
        "objects" => (
            !grants.objects.read.is_empty() || !grants.objects.write.is_empty(),
            "objects.read` or `objects.write",
        ),
        "state" => (
            !grants.state.read.is_empty() || !grants.state.write.is_empty(),
            "state.read` or `state.write",
        ),
        "events" => (!grants.events.emit.is_empty(), "events.emit"),
        "jobs" => (!grants.jobs.submit.is_empty(), "jobs.submit"),
        "inference" => (!grants.inference.infer.is_empty(), "inference.infer"),
        "features" => (
            !grants.features.read.is_empty() || !grants.features.write.is_empty(),
            "features.read` or `features.write",
        ),
        _ => return None,
    };
    (!granted).then_some(grant)
}
