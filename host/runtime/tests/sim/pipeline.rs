//! A random pipeline: which functions there are, what fires them, and what each does with each event.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use tidegate_runtime::dispatch::Places;
use tidegate_runtime::effects::JOIN;
use tidegate_runtime::jobs::{LEASES, WAITING};
use tidegate_runtime::manifest::{Function, Manifest, Schedule, Trigger, queue_of};
use tidegate_runtime::store::{Order, Store};

use crate::random::Random;
use crate::versions::Versions;

/// The kind of every job.
pub const JOB: &str = "sim.work";
/// The bucket of every object.
pub const BUCKET: &str = "data";

/// A pipeline that a seed decides.
pub struct Pipeline {
    /// The seed.
    pub seed: u64,
    /// Its functions, in order: events go from earlier to later ones only, so that every run ends.
    pub functions: Vec<Arc<Function>>,
    /// The places for invocations.
    pub places: Places,
    /// What each function does with every event, where that is not the seed's to decide.
    fixed: Vec<Behaviour>,
    versions: Mutex<Versions>,
}

/// What goes wrong in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The guest asks to be tried again, after a time of its own or none.
    Retry(Option<u64>),
    /// The guest traps.
    Trap,
    /// The guest stages more than it may.
    TooMuch,
    /// The guest takes longer than it may.
    TooSlow,
}

/// What one function does with one event.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// How long it takes, in milliseconds.
    pub takes: u64,
    /// How its first attempts fail.
    pub mishaps: Vec<Mishap>,
    /// Whether it refuses the event in the end.
    pub rejects: bool,
    /// Whether it counts on the key that all functions share, too.
    pub hot: bool,
    /// The events that it emits: the number of their type, and how long they are held back.
    pub emits: Vec<(usize, Option<u64>)>,
    /// The function whose prefix it publishes an object under.
    pub publishes: Option<usize>,
    /// The type of the event that its job emits.
    pub job: Option<usize>,
    /// The types of the parts of the join that it opens, and that of the event that follows them.
    pub join: Option<(Vec<usize>, usize)>,
}

impl Behaviour {
    /// The ids that it asks for.
    pub fn ids(&self) -> usize {
        let join = self.join.as_ref().map_or(0, |(parts, _)| 2 + parts.len());
        self.emits.len() + usize::from(self.job.is_some()) + join
    }
}

impl Pipeline {
    /// The pipeline of a seed.
    pub fn of(seed: u64) -> Result<Self, String> {
        let mut dice = Random::of(seed, "pipeline");
        let count = dice.within(2, 5) as usize;
        let mut text = String::from("[app]\nname = \"sim\"\n");
        for index in 0..count {
            function(&mut text, index, count, &mut dice).map_err(|error| error.to_string())?;
        }
        let places = Places {
            total: dice.within(1, 8) as usize,
            per_tenant: dice.within(1, 8) as usize,
            ..Places::default()
        };
        Ok(Self {
            places,
            ..Self::parsed(seed, &text, Vec::new())?
        })
    }

    /// One pipeline that has everything in it: state, an object that triggers, an event that is held back, a
    /// retry, a job, a dead letter, a batch that is halved, and a join.
    pub fn of_everything() -> Result<Self, String> {
        let mut text = String::from("[app]\nname = \"sim\"\n");
        for index in 0..6 {
            let more = match index {
                1 => "key = { of = \"source\", ordered = true }\n",
                4 => "batch = { size = 3, window = \"20ms\" }\nlimits = { concurrency = 1 }\n",
                5 => "limits = { concurrency = 1 }\n",
                _ => "",
            };
            text.push_str(&format!(
                "[[function]]\nname = \"f{index}\"\ncomponent = \"f.wasm\"\n\
                 trigger = [{{ event = \"T{index}\" }}, {{ object = {{ bucket = \"{BUCKET}\", prefix = \"out/{index}/\" }} }}]\n\
                 retry = {{ max_attempts = 2, initial = \"10ms\", jitter = false }}\n{more}"
            ));
        }
        let nothing = Behaviour::default;
        let fixed = vec![
            Behaviour {
                hot: true,
                emits: vec![(2, Some(50)), (4, None), (4, None), (4, None)],
                publishes: Some(1),
                join: Some((vec![5, 5], 5)),
                ..nothing()
            },
            Behaviour {
                hot: true,
                mishaps: vec![Mishap::Retry(Some(20))],
                ..nothing()
            },
            Behaviour {
                mishaps: vec![Mishap::Retry(Some(20))],
                job: Some(3),
                ..nothing()
            },
            Behaviour {
                rejects: true,
                ..nothing()
            },
            Behaviour {
                mishaps: vec![Mishap::Trap],
                ..nothing()
            },
            nothing(),
        ];
        Self::parsed(0, &text, fixed)
    }

    /// The pipeline of a manifest.
    pub fn written(text: &str, places: Places) -> Result<Self, String> {
        Ok(Self {
            places,
            ..Self::parsed(0, text, Vec::new())?
        })
    }

    fn parsed(seed: u64, text: &str, fixed: Vec<Behaviour>) -> Result<Self, String> {
        let manifest = Manifest::parse(text, "sim").map_err(|mistakes| mistakes.to_string())?;
        let functions: Vec<_> = manifest.functions.into_iter().map(Arc::new).collect();
        Ok(Self {
            seed,
            versions: Mutex::new(Versions::new(&functions)),
            functions,
            places: Places::default(),
            fixed,
        })
    }

    /// The versions of its functions.
    pub fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap()
    }

    /// The schedules, each with its function.
    pub fn schedules(&self) -> impl Iterator<Item = (String, &Schedule)> {
        let triggers = self.functions.iter().flat_map(|function| {
            let name = function.name.clone();
            function
                .triggers
                .iter()
                .map(move |trigger| (name.clone(), trigger))
        });
        triggers.filter_map(|(function, trigger)| match trigger {
            Trigger::Schedule(schedule) => Some((function, schedule)),
            _ => None,
        })
    }

    /// The place of a function.
    pub fn index(&self, name: &str) -> usize {
        self.functions
            .iter()
            .position(|function| function.name == name)
            .unwrap_or_default()
    }

    /// The queues in which something waits, with how much.
    pub async fn waiting(&self, store: &dyn Store) -> Result<Vec<String>, String> {
        let versions = self.versions().all();
        let queues = versions.iter().map(|version| version.queue());
        let mut waiting = Vec::new();
        for queue in queues.chain([queue_of(JOIN, 0)]) {
            let depth = store.depth(&queue).await.map_err(|error| error.to_string())?;
            if depth.ready + depth.delayed > 0 {
                waiting.push(format!("{queue}: {depth:?}"));
            }
        }
        for table in [WAITING, LEASES] {
            let page = store.query(table, "", None, 100, Order::Ascending).await;
            let jobs = page.map_err(|error| error.to_string())?.entries;
            waiting.extend(jobs.into_iter().map(|(key, _)| format!("{table}/{key}")));
        }
        Ok(waiting)
    }

    /// What a function does with an event.
    pub fn behaviour(&self, function: &str, event: &str) -> Behaviour {
        if let Some(fixed) = self.fixed.get(self.index(function)) {
            return fixed.clone();
        }
        let mut dice = Random::of(self.seed, &format!("{function}/{event}"));
        let (index, count) = (self.index(function), self.functions.len());
        let later = |dice: &mut Random| dice.within(index as u64 + 1, count as u64 - 1) as usize;
        let last = index + 1 == count;
        let emits = if last { 0 } else { dice.below(3) };
        Behaviour {
            takes: if dice.once_in(100) {
                dice.within(200, 900)
            } else {
                dice.below(20)
            },
            mishaps: mishaps(&mut dice),
            rejects: dice.once_in(60),
            hot: dice.once_in(300),
            emits: (0..emits)
                .map(|_| {
                    let delay = dice.once_in(300).then(|| dice.within(1, 5000));
                    (later(&mut dice), delay)
                })
                .collect(),
            publishes: (!last && dice.once_in(300)).then(|| later(&mut dice)),
            job: (!last && dice.once_in(200)).then(|| later(&mut dice)),
            join: (!last && dice.once_in(200)).then(|| {
                let parts = (0..dice.below(5)).map(|_| later(&mut dice)).collect();
                (parts, later(&mut dice))
            }),
        }
    }
}

/// One function: it hears of its own type, of objects under its own prefix, and perhaps of an earlier type.
fn function(text: &mut String, index: usize, count: usize, dice: &mut Random) -> std::fmt::Result {
    let mut triggers = format!(
        "{{ event = \"T{index}\" }}, {{ object = {{ bucket = \"{BUCKET}\", prefix = \"out/{index}/\" }} }}"
    );
    if index > 0 && dice.once_in(400) {
        write!(triggers, ", {{ event = \"T{}\" }}", dice.below(index as u64))?;
    }
    if index + 1 == count {
        triggers.push_str(", { event = \"tidegate.job.failed\" }, { event = \"tidegate.job.cancelled\" }");
    }
    let timed = dice.once_in(300);
    if timed {
        write!(triggers, ", {}", schedule(dice))?;
    }
    // A fire waits for room: how long, no schedule can tell.
    let backlog = match dice.below(4) {
        0 if !timed => dice.within(1, 4),
        _ => 1000,
    };
    let (attempts, slots) = (dice.within(1, 6), dice.within(1, 4));
    let batch = match dice.once_in(300) {
        true => format!(
            "batch = {{ size = {}, window = \"{}ms\" }}\n",
            dice.within(2, 8),
            dice.below(200)
        ),
        false => String::new(),
    };
    let (initial, cap) = (dice.within(1, 500), dice.within(500, 20_000));
    let jitter = dice.once_in(500);
    let exhausted = if dice.once_in(200) { "pause" } else { "dead" };
    let age = if dice.once_in(200) {
        dice.within(1, 10)
    } else {
        3600
    };
    let key = match dice.below(4) {
        0 => "key = { of = \"data.user\", ordered = true }\n".to_owned(),
        1 => format!(
            "key = {{ of = \"data.user\", concurrency = {} }}\n",
            dice.within(1, 3)
        ),
        _ => String::new(),
    };
    let rate = match dice.below(4) {
        0 => format!(
            "rate = {{ limit = {}, burst = {} }}\n",
            dice.within(5, 50),
            dice.within(1, 5)
        ),
        _ => String::new(),
    };
    writeln!(
        text,
        "[[function]]\nname = \"f{index}\"\ncomponent = \"f.wasm\"\ntrigger = [{triggers}]\n\
         limits = {{ concurrency = {slots}, backlog = {backlog}, wall_time = \"1s\", effects_count = 20 }}\n\
         retry = {{ max_attempts = {attempts}, initial = \"{initial}ms\", max_backoff = \"{cap}ms\", jitter = {jitter}, \
         max_age = \"{age}s\", on_exhausted = \"{exhausted}\" }}\n{batch}{key}{rate}"
    )
}

/// Every few seconds, with everything that a schedule can have.
fn schedule(dice: &mut Random) -> String {
    let (every, jitter) = (dice.within(1, 7), dice.within(1, 3000));
    let misfire = ["run_once", "run_all", "skip"][dice.below(3) as usize];
    format!(
        "{{ schedule = {{ cron = \"*/{every} * * * * *\", misfire = \"{misfire}\", jitter = \"{jitter}ms\" }} }}"
    )
}

fn mishaps(dice: &mut Random) -> Vec<Mishap> {
    let count = if dice.once_in(650) { 0 } else { dice.within(1, 4) };
    (0..count)
        .map(|_| match dice.below(8) {
            0..3 => Mishap::Retry(None),
            3..5 => Mishap::Retry(Some(dice.within(1, 3000))),
            5 => Mishap::Trap,
            6 => Mishap::TooMuch,
            _ => Mishap::TooSlow,
        })
        .collect()
}
