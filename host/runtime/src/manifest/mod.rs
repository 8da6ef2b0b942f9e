//! The app manifest, `tidegate.toml` (or a `spin.toml`): what runs, what fires it, what it may touch, and its limits.

mod bounds;
mod grants;
mod key;
mod mistakes;
mod parse;
mod rules;
mod spin;
mod triggers;
mod values;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use grants::{BucketPrefix, Grants};
pub use key::{KeyPath, KeySpec};
pub use mistakes::{Mistake, Mistakes};
pub use rules::{is_bucket, is_name};

/// Bytes of a manifest at most.
pub(crate) const LONGEST: u64 = 1 << 20;

/// A manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The app.
    pub app: App,
    /// Its functions, in their order.
    pub functions: Vec<Function>,
    /// The text it was read from.
    pub text: String,
    /// Whose format it has.
    pub dialect: Dialect,
}

/// Whose format a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `tidegate.toml`.
    Tidegate,
    /// `spin.toml`, manifest version 2.
    Spin,
}

/// An app: functions that are deployed together.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Whose it is; its name by default.
    pub tenant: String,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name, unique on the host.
    pub name: String,
    /// Which of its versions this is; 0 in a manifest that was not deployed.
    pub version: u64,
    /// Whose it is: its app's tenant.
    pub tenant: String,
    /// Whose format its manifest has.
    pub dialect: Dialect,
    /// What it is for.
    pub description: Option<String>,
    /// The component's file, relative to the manifest or to a folder of components.
    pub component: PathBuf,
    /// What fires it; without one it can only be invoked.
    pub triggers: Vec<Trigger>,
    /// What it may touch.
    pub grants: Grants,
    /// Its limits.
    pub limits: Limits,
    /// What its events have in common that are not to be handled at the same time.
    pub key: Option<KeySpec>,
    /// How many invocations may begin in a time.
    pub rate: Option<Rate>,
    /// What happens when it fails.
    pub retry: Retry,
    /// How its instances are reused; without it every invocation has a fresh one.
    pub reuse: Option<Reuse>,
    /// How its events are gathered; only for a component that takes them together, which has the defaults
    /// where the manifest says nothing.
    pub batch: Option<Batch>,
    /// The environment of the process, as WASI shows it.
    pub environment: BTreeMap<String, String>,
    /// Its variables.
    pub variables: BTreeMap<String, String>,
    /// Variables whose value is a granted secret, with the secret's name.
    pub secrets: BTreeMap<String, String>,
    /// Where requests and responses are recorded.
    pub record: Option<RecordSpec>,
}

/// What fires a function.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// An object was written.
    Object {
        /// The bucket.
        bucket: String,
        /// What the key starts with.
        prefix: String,
        /// What the key ends with.
        suffix: String,
    },
    /// An event of this type; every subscriber gets its own copy.
    Event {
        /// The CloudEvents `type`.
        kind: String,
    },
    /// An HTTP request.
    Http {
        /// The method; none takes every method.
        method: Option<String>,
        /// The route: `/predict`, `/users/{id}`, `/files/{*rest}`.
        route: String,
    },
    /// The clock.
    Schedule(Schedule),
}

/// When the clock fires a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Five fields (six with seconds first).
    pub cron: String,
    /// The IANA time zone; `UTC` by default.
    pub timezone: chrono_tz::Tz,
    /// The event's data; `{}` by default.
    pub data: String,
    /// What happens with fires that were missed while no host ran.
    pub misfire: Misfire,
    /// How much later than its time an event may begin at most: by a part of this that its fire decides; from 1 ms
    /// to 24 h, none by default.
    pub jitter: Duration,
}

/// What happens with missed fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfire {
    /// One for all that were missed.
    RunOnce,
    /// Each, up to a bound.
    RunAll,
    /// None.
    Skip,
}

impl Manifest {
    /// For each function, the text of a manifest that has it alone. That of a Spin app is not taken apart.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let whole = |function: &Function| (function.name.clone(), self.text.clone());
        self.taken_apart()
            .unwrap_or_else(|| self.functions.iter().map(whole).collect())
    }

    fn taken_apart(&self) -> Option<BTreeMap<String, String>> {
        let mut root: toml::Table = self.text.parse().ok()?;
        let functions = root.remove("function")?;
        let alone = |words: &toml::Value| {
            let name = words.get("name")?.as_str()?.to_owned();
            let mut root = root.clone();
            root.insert("function".into(), vec![words.clone()].into());
            Some((name, toml::to_string(&root).ok()?))
        };
        functions.as_array()?.iter().map(alone).collect()
    }
}

impl Function {
    /// The queue of its events: one for each version, so that an event stays on the version that it entered for.
    pub fn queue(&self) -> String {
        queue_of(&self.name, self.version)
    }

    /// A function of the platform's own: nothing fires it but what is put into its queue.
    pub(crate) fn of_platform(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tenant: String::new(),
            dialect: Dialect::Tidegate,
            key: None,
            rate: None,
            version: 0,
            description: None,
            component: PathBuf::new(),
            triggers: Vec::new(),
            grants: Grants::default(),
            limits: Limits {
                effects_bytes: u64::MAX,
                ..Limits::default()
            },
            retry: Retry::default(),
            reuse: None,
            batch: None,
            environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            secrets: BTreeMap::new(),
            record: None,
        }
    }
}

/// The queue of one version of a function.
pub fn queue_of(function: &str, version: u64) -> String {
    format!("{function}@{version}")
}

impl Trigger {
    /// The route, of an HTTP trigger.
    pub fn route(&self) -> Option<&str> {
        match self {
            Self::Http { route, .. } => Some(route),
            _ => None,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object {
                bucket,
                prefix,
                suffix,
            } if suffix.is_empty() => write!(f, "object {bucket}/{prefix}*"),
            Self::Object {
                bucket,
                prefix,
                suffix,
            } => write!(f, "object {bucket}/{prefix}*{suffix}"),
            Self::Event { kind } => write!(f, "event {kind}"),
            Self::Http { method, route } => write!(f, "http {} {route}", method.as_deref().unwrap_or("*")),
            Self::Schedule(schedule) => write!(f, "schedule {} {}", schedule.cron, schedule.timezone),
        }
    }
}

/// The limits of one invocation, and how many run at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its memories together; from 1 MiB to 4 GiB, 64 MiB by default.
    pub memory: u64,
    /// From start to end, waiting included; from 1 ms to 1 h, 30 s by default.
    pub wall_time: Duration,
    /// How long it computes, without its waits; from 1 ms to 1 h, as long as `wall_time` by default.
    pub cpu_time: Duration,
    /// Invocations at one time; from 1 to 10,000, 16 by default.
    pub concurrency: u32,
    /// Events that wait for it, at which its triggers take no more; from 1 to 100,000,000, 1,000,000 by default.
    pub backlog: u64,
    /// Bytes of log lines; from 1 KiB to 16 MiB, 256 KiB by default.
    pub log_bytes: u64,
    /// Bytes of staged state and events; from 1 KiB to 1 GiB, 64 MiB by default.
    pub effects_bytes: u64,
    /// Staged writes, objects, jobs and events; from 1 to 10,000,000, 200,000 by default.
    pub effects_count: u64,
    /// Calls into the host; from 1 to 1,000,000,000, by default 1,000,000.
    pub host_calls: u64,
    /// Objects, streams, calls under way and other handles open at one time; from 16 to 1,000,000, by default 4,096.
    pub handles: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            wall_time: Duration::from_secs(30),
            cpu_time: Duration::from_secs(30),
            concurrency: 16,
            backlog: 1_000_000,
            log_bytes: 256 << 10,
            effects_bytes: 64 << 20,
            effects_count: 200_000,
            host_calls: 1_000_000,
            handles: 4096,
        }
    }
}

/// How many invocations may begin in a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rate {
    /// So many; from 1 to 1,000,000.
    pub limit: u32,
    /// In this time; from 1 ms to 24 h, 1 s by default.
    pub per: Duration,
    /// So many may begin at once after a time without any; from 1 to 1,000,000, `limit` by default.
    pub burst: u32,
}

/// What happens when a function fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts, the first included; from 1 to 1,000, 5 by default.
    pub max_attempts: u32,
    /// The first delay; from 1 ms to 24 h, 500 ms by default.
    pub initial: Duration,
    /// How it grows from attempt to attempt; from 1 to 100, 2 by default.
    pub factor: f64,
    /// The longest delay; from 1 ms to 24 h and no shorter than the first, 1 min by default.
    pub max_backoff: Duration,
    /// Whether the delay is drawn at random up to its value; true by default.
    pub jitter: bool,
    /// The age past which no further attempt is made; from 1 s to 720 h, 24 h by default.
    pub max_age: Duration,
    /// What becomes of an event after the last attempt; a dead letter by default.
    pub on_exhausted: OnExhausted,
}

/// What becomes of an event that will not be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    /// A dead letter; the rest of the run goes on.
    Dead,
    /// The run is paused there until it is resumed.
    Pause,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial: Duration::from_millis(500),
            factor: 2.0,
            max_backoff: Duration::from_secs(60),
            jitter: true,
            max_age: Duration::from_secs(24 * 60 * 60),
            on_exhausted: OnExhausted::Dead,
        }
    }
}

/// How instances serve one invocation after another, with the memory that the last one left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Invocations of one instance; from 1 to 1,000,000, 1,000 by default.
    pub invocations: u32,
    /// How long an instance waits for its next invocation; from 1 ms to 1 h, 10 s by default.
    pub idle: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            invocations: 1000,
            idle: Duration::from_secs(10),
        }
    }
}

/// How events are gathered for a function that takes them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Events of one invocation at most; from 1 to 10,000, 100 by default.
    pub size: u32,
    /// How long the first of them waits for others; up to 5 min, by default not at all.
    pub window: Duration,
    /// Bytes of their data at most, where there is more than one; from 1 KiB to 64 MiB, 6 MiB by default.
    pub bytes: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            size: 100,
            window: Duration::ZERO,
            bytes: 6 << 20,
        }
    }
}

/// Where the requests and responses of an HTTP function are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpec {
    /// The bucket.
    pub bucket: String,
    /// What the keys start with.
    pub prefix: String,
    /// The routes that are recorded; all when empty.
    pub routes: Vec<String>,
}

impl Manifest {
    /// Reads as much of a manifest of up to 1 MiB as can be read, with what is wrong with it: so that more can be
    /// checked before everything is reported. A mistaken value is the default in what is read.
    pub fn read(file: &Path) -> Result<(Self, Vec<Mistake>), Mistakes> {
        let name = file.display().to_string();
        let unreadable =
            |reason: String| Mistakes::new(name.clone(), vec![Mistake::new(String::new(), None, reason)]);
        let size = std::fs::metadata(file)
            .map_err(|error| unreadable(format!("cannot be read: {error}")))?
            .len();
        if size > LONGEST {
            return Err(unreadable(format!(
                "found {size} bytes, a manifest has at most {LONGEST}"
            )));
        }
        let text =
            std::fs::read_to_string(file).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        Self::read_text(&text, &name)
    }

    /// The same of a text.
    pub fn read_text(text: &str, name: &str) -> Result<(Self, Vec<Mistake>), Mistakes> {
        parse::manifest(text).map_err(|mistakes| Mistakes::new(name.to_owned(), mistakes))
    }

    /// Reads a manifest; every mistake is reported in one go.
    pub fn parse(text: &str, file: &str) -> Result<Self, Mistakes> {
        let (manifest, mistakes) = Self::read_text(text, file)?;
        Mistakes::none(file, mistakes).map(|()| manifest)
    }

    /// The functions, each with its dotted path in mistakes.
    pub fn placed(&self) -> impl Iterator<Item = (String, &Function)> {
        let functions = self.functions.iter().enumerate();
        functions.map(|(index, function)| {
            let path = match self.dialect {
                Dialect::Tidegate => parse::path_of(&function.name, index),
                Dialect::Spin => format!("component.{}", function.name),
            };
            (path, function)
        })
    }

    /// The key that names a function's file.
    pub fn source_key(&self) -> &'static str {
        match self.dialect {
            Dialect::Tidegate => "component",
            Dialect::Spin => "source",
        }
    }
}

#[cfg(test)]
mod tests;
