//! Who the users are, what the items are, and how likely one clicks on the other.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, LogNormal, StandardNormal};

use super::plan::Moment;

const CATEGORIES: [&str; 16] = [
    "sport",
    "music",
    "news",
    "politics",
    "science",
    "technology",
    "travel",
    "food",
    "fashion",
    "health",
    "film",
    "games",
    "finance",
    "art",
    "animals",
    "comedy",
];
const CLUSTERS: usize = 12;
/// Categories that a cluster likes.
const FAVOURITES: usize = 3;
/// The steepness of the items' popularity.
const ZIPF: f64 = 0.95;
/// The share of rows that a feed picks by taste and not by popularity alone.
const BY_TASTE: f64 = 0.55;

/// A group of users with the same tastes and habits.
struct Cluster {
    taste: [f64; CATEGORIES.len()],
    reach: Weighted,
    /// The hour at which these users like most to read.
    peak: f64,
    weekend: f64,
}

struct User {
    cluster: usize,
    eagerness: f64,
    /// What this user likes apart from the cluster.
    own: usize,
    desktop: f64,
}

struct Item {
    category: usize,
    quality: f64,
}

/// One row, and the probability that its click had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) user: u32,
    pub(super) item: u32,
    pub(super) time: i64,
    pub(super) category: &'static str,
    pub(super) device: &'static str,
    pub(super) click: bool,
    pub(super) like: bool,
    pub(super) share: bool,
    pub(super) dwell_seconds: f64,
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) probability: f64,
}

/// All users and items.
pub(super) struct World {
    clusters: Vec<Cluster>,
    users: Vec<User>,
    items: Vec<Item>,
    activity: Weighted,
    popularity: Weighted,
    shelves: Vec<(Vec<u32>, Weighted)>,
}

impl World {
    pub(super) fn new(users: u32, items: u32, rng: &mut impl Rng) -> Self {
        let clusters = (0..CLUSTERS).map(|_| Cluster::new(rng)).collect();
        let users: Vec<_> = (0..users).map(|_| User::new(rng)).collect();
        let activity = Weighted::new(users.iter().map(|_| (normal(rng) * 1.1).exp()));
        // Ids say nothing: the ranks of popularity are dealt out at random.
        let ranks = shuffled(items, rng);
        let items: Vec<_> = ranks
            .iter()
            .map(|rank| Item::new(*rank, ranks.len(), rng))
            .collect();
        let share = |rank: u32| (f64::from(rank) + 3.0).powf(-ZIPF);
        let popularity = Weighted::new(ranks.iter().map(|rank| share(*rank)));
        let shelves = (0..CATEGORIES.len())
            .map(|category| {
                let on_it = |id: &u32| {
                    items
                        .get(*id as usize)
                        .is_some_and(|item| item.category == category)
                };
                let ids: Vec<u32> = (0..items.len() as u32).filter(on_it).collect();
                let weights = Weighted::new(
                    ids.iter()
                        .map(|id| ranks.get(*id as usize).map_or(0.0, |r| share(*r))),
                );
                (ids, weights)
            })
            .collect();
        Self {
            clusters,
            users,
            items,
            activity,
            popularity,
            shelves,
        }
    }

    /// What happens at this moment.
    pub(super) fn sample(&self, moment: Moment, rng: &mut impl Rng) -> Sample {
        let (user_id, user, cluster) = self.reader(moment, rng);
        let item_id = self.pick(user, cluster, rng);
        let item = &self.items[item_id as usize];
        let device = device(user, moment, rng);
        let affinity = cluster.taste[item.category] + if user.own == item.category { 1.6 } else { 0.0 };
        let mood = 0.5 * cluster.habit(moment);
        let screen = if device == "phone" { 0.15 } else { -0.15 };
        let logit = -1.75 + user.eagerness + 1.25 * affinity + item.quality + mood + screen;
        let probability = 1.0 / (1.0 + (-logit).exp());
        let click = rng.random_bool(probability);
        let pleased = 1.0 / (1.0 + (1.2 - affinity - 0.5 * item.quality).exp());
        Sample {
            user: user_id,
            item: item_id,
            time: moment.time,
            category: CATEGORIES[item.category],
            device,
            click,
            like: click && rng.random_bool(0.6 * pleased),
            share: click && rng.random_bool(0.2 * pleased),
            dwell_seconds: dwell(click, pleased, rng),
            probability,
        }
    }

    /// Who reads at this moment: active users more often, and each at the hours of the cluster.
    fn reader(&self, moment: Moment, rng: &mut impl Rng) -> (u32, &User, &Cluster) {
        loop {
            let id = self.activity.pick(rng);
            let user = &self.users[id];
            let cluster = &self.clusters[user.cluster];
            if rng.random_bool(0.55 + 0.45 * cluster.habit(moment)) {
                return (id as u32, user, cluster);
            }
        }
    }

    /// What the feed shows: something popular, or something of a category that the user likes.
    fn pick(&self, user: &User, cluster: &Cluster, rng: &mut impl Rng) -> u32 {
        if rng.random_bool(BY_TASTE) {
            let category = if rng.random_bool(0.25) {
                user.own
            } else {
                cluster.reach.pick(rng)
            };
            if let Some((ids, weights)) = self.shelves.get(category).filter(|(ids, _)| !ids.is_empty()) {
                return ids[weights.pick(rng)];
            }
        }
        self.popularity.pick(rng) as u32
    }
}

impl Cluster {
    fn new(rng: &mut impl Rng) -> Self {
        let mut taste = [0.0; CATEGORIES.len()];
        taste
            .iter_mut()
            .for_each(|taste| *taste = -0.6 + 0.5 * normal(rng));
        for _ in 0..FAVOURITES {
            taste[rng.random_range(0..CATEGORIES.len())] = 1.7 + 0.4 * normal(rng);
        }
        let reach = Weighted::new(taste.iter().map(|taste| (0.9 * taste).exp()));
        Self {
            taste,
            reach,
            peak: rng.random_range(7.0..23.0),
            weekend: 0.3 * normal(rng),
        }
    }

    /// From -1, never at this hour, to 1, always then.
    fn habit(&self, moment: Moment) -> f64 {
        let angle = (moment.hour as f64 - self.peak) / 24.0 * std::f64::consts::TAU;
        let day = if moment.weekend { self.weekend } else { 0.0 };
        (angle.cos() + day).clamp(-1.0, 1.0)
    }
}

impl User {
    fn new(rng: &mut impl Rng) -> Self {
        Self {
            cluster: rng.random_range(0..CLUSTERS),
            eagerness: 0.9 * normal(rng),
            own: rng.random_range(0..CATEGORIES.len()),
            desktop: rng.random_range(0.1..0.7),
        }
    }
}

impl Item {
    /// Popular items are better on the whole, but not each of them.
    fn new(rank: u32, of: usize, rng: &mut impl Rng) -> Self {
        let standing = 1.0 - f64::from(rank + 1).ln() / (of as f64 + 1.0).ln();
        Self {
            category: rng.random_range(0..CATEGORIES.len()),
            quality: 2.4 * (standing - 0.3) + 0.45 * normal(rng),
        }
    }
}

fn device(user: &User, moment: Moment, rng: &mut impl Rng) -> &'static str {
    let at_work = !moment.weekend && (9..18).contains(&moment.hour);
    let desktop = if at_work { user.desktop } else { user.desktop * 0.4 };
    match rng.random::<f64>() {
        chance if chance < desktop => "desktop",
        chance if chance < desktop + 0.12 => "tablet",
        _ => "phone",
    }
}

/// Seconds, to a tenth.
fn dwell(click: bool, pleased: f64, rng: &mut impl Rng) -> f64 {
    let median: f64 = if click { 12.0 + 60.0 * pleased } else { 1.1 };
    let seconds = LogNormal::new(median.ln(), 0.6).map_or(median, |distribution| distribution.sample(rng));
    (seconds.min(1_800.0) * 10.0).round() / 10.0
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn shuffled(count: u32, rng: &mut impl Rng) -> Vec<u32> {
    let mut ranks: Vec<u32> = (0..count).collect();
    for last in (1..ranks.len()).rev() {
        ranks.swap(last, rng.random_range(0..=last));
    }
    ranks
}

/// Places picked in proportion to their weights.
struct Weighted {
    cumulative: Vec<f64>,
}

impl Weighted {
    fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut total = 0.0;
        let cumulative = weights.map(|weight| {
            total += weight;
            total
        });
        Self {
            cumulative: cumulative.collect(),
        }
    }

    fn pick(&self, rng: &mut impl Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = rng.random::<f64>() * total;
        self.cumulative
            .partition_point(|sum| *sum <= at)
            .min(self.cumulative.len().saturating_sub(1))
    }
}
