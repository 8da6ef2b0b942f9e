//! From what is remembered to what the model sees: the one place where features are computed.

use super::state::{ITEM_HALF_LIFE, ItemState, PRIOR_WEIGHT, USER_HALF_LIFE, UserState};
use super::{CATEGORIES, Categories};

const USER: [&str; 18] = [
    "known",
    "rate",
    "count",
    "recency",
    "tenure",
    "recent_count",
    "rate_fast",
    "rate_medium",
    "rate_slow",
    "surplus",
    "surplus_medium",
    "surplus_slow",
    "like_rate",
    "share_rate",
    "dwell",
    "grade_surplus",
    "grade_medium",
    "quality_seen",
];
const USER_AFTER_AFFINITY: [&str; 5] = [
    "popularity_seen",
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
];
const ITEM: [&str; 14] = [
    "known",
    "rate",
    "count",
    "recency",
    "age",
    "recent_count",
    "recent_rate",
    "surplus",
    "like_rate",
    "share_rate",
    "dwell",
    "grade",
    "grade_surplus",
    "clicks",
];

/// Numbers of a user's vector, context included.
pub const USER_FEATURES: usize = USER.len() + CATEGORIES + USER_AFTER_AFFINITY.len() + Device::ALL.len();
/// Numbers of an item's vector.
pub const ITEM_FEATURES: usize = ITEM.len() + CATEGORIES;

/// A user's vector.
pub type UserVector = [f32; USER_FEATURES];
/// An item's vector.
pub type ItemVector = [f32; ITEM_FEATURES];

const MINUTE: f64 = 60.0;
const DAY: f64 = 86_400.0;
const WEEK: f64 = 7.0 * DAY;
/// 1970-01-01 was a Thursday; weeks begin on Monday.
const EPOCH_WEEKDAY: f64 = 3.0 * DAY;
/// Recency of what never happened, and the greatest of all: ten years.
const LONG_AGO: f64 = 3653.0 * DAY;

/// What a request brings along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// What the user looks on, where it is known.
    pub device: Option<Device>,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A phone.
    Phone,
    /// A tablet.
    Tablet,
    /// A computer.
    Desktop,
    /// A television.
    Tv,
    /// Anything else.
    Other,
}

impl Device {
    /// Every kind, in the order of the features.
    pub const ALL: [Self; 5] = [Self::Phone, Self::Tablet, Self::Desktop, Self::Tv, Self::Other];

    /// The kind of a name such as `ios` or `Desktop`; none for no name at all.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim();
        let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        Some(match name {
            "" => return None,
            _ if is(&["phone", "mobile", "ios", "android", "iphone", "smartphone"]) => Self::Phone,
            _ if is(&["tablet", "ipad"]) => Self::Tablet,
            _ if is(&["desktop", "web", "laptop", "pc", "computer"]) => Self::Desktop,
            _ if is(&["tv", "television"]) => Self::Tv,
            _ => Self::Other,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Desktop => "desktop",
            Self::Tv => "tv",
            Self::Other => "other",
        }
    }
}

/// Names of the user features, in order.
pub fn user_feature_names(categories: &Categories) -> Vec<String> {
    let plain = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut names = plain(&USER);
    names.extend(categories.names().map(|name| format!("affinity_{name}")));
    names.extend(plain(&USER_AFTER_AFFINITY));
    names.extend(Device::ALL.map(|device| format!("device_{}", device.name())));
    names
}

/// Names of the item features, in order.
pub fn item_feature_names(categories: &Categories) -> Vec<String> {
    let mut names: Vec<String> = ITEM.iter().map(|name| (*name).to_owned()).collect();
    names.extend(categories.names().map(|name| format!("category_{name}")));
    names
}

/// A user's features at `now`, in seconds since the Unix epoch.
pub fn user_vector(user: &UserState, now: i64, context: &Context) -> UserVector {
    let now = now as f64;
    let count = user.count;
    let mut vector = Vector::new();
    vector.push(known(count));
    vector.push(user.rate());
    vector.push(count.ln_1p());
    vector.push((since(count, user.last, now) / MINUTE).ln_1p());
    vector.push(age(count, user.first, now));
    vector.push(decayed(user.recent, now - user.last, USER_HALF_LIFE).ln_1p());
    vector.push(user.fast);
    vector.push(user.medium);
    vector.push(user.slow);
    vector.push(user.surplus / (count + PRIOR_WEIGHT));
    vector.push(user.surplus_medium);
    vector.push(user.surplus_slow);
    vector.push(user.likes / (count + PRIOR_WEIGHT));
    vector.push(user.shares / (count + PRIOR_WEIGHT));
    vector.push(user.dwell / (count + 1.0));
    vector.push(user.grade_surplus / (user.graded + PRIOR_WEIGHT));
    vector.push(user.grade_medium);
    vector.push(user.quality);
    for (liked, seen) in user.liked.iter().zip(&user.seen) {
        vector.push(liked / (seen + PRIOR_WEIGHT));
    }
    vector.push(user.popularity);
    vector.push_cycle(now, DAY);
    vector.push_cycle(now + EPOCH_WEEKDAY, WEEK);
    for device in Device::ALL {
        vector.push(f64::from(u8::from(context.device == Some(device))));
    }
    vector.values
}

/// An item's features at `now`, in seconds since the Unix epoch.
pub fn item_vector(item: &ItemState, now: i64) -> ItemVector {
    let now = now as f64;
    let count = item.count;
    let fading = decay(now - item.last, ITEM_HALF_LIFE);
    let recent = item.recent * fading;
    let mut vector = Vector::new();
    vector.push(known(count));
    vector.push(item.rate());
    vector.push(count.ln_1p());
    vector.push((since(count, item.last, now) / DAY).ln_1p());
    vector.push(age(count, item.first, now));
    vector.push(recent.ln_1p());
    vector.push((item.recent_clicks * fading + PRIOR_WEIGHT * item.rate()) / (recent + PRIOR_WEIGHT));
    vector.push(item.surplus / (count + PRIOR_WEIGHT));
    vector.push(item.likes / (count + PRIOR_WEIGHT));
    vector.push(item.shares / (count + PRIOR_WEIGHT));
    vector.push(item.dwell / (count + 1.0));
    vector.push(item.grade / (item.graded + PRIOR_WEIGHT));
    vector.push(item.grade_surplus / (item.graded + PRIOR_WEIGHT));
    vector.push(item.clicks.ln_1p());
    let categories = item.category_bits();
    for category in 0..CATEGORIES {
        vector.push(f64::from(categories >> category & 1));
    }
    vector.values
}

/// What is left of `value` after some seconds.
pub(super) fn decayed(value: f64, seconds: f64, half_life: f64) -> f64 {
    if value == 0.0 {
        0.0
    } else {
        value * decay(seconds, half_life)
    }
}

fn decay(seconds: f64, half_life: f64) -> f64 {
    (-(seconds.max(0.0)) / half_life).exp2()
}

fn known(count: f64) -> f64 {
    f64::from(u8::from(count > 0.0))
}

/// Seconds since `last`; what never happened is long ago.
fn since(count: f64, last: f64, now: f64) -> f64 {
    if count > 0.0 {
        (now - last).clamp(0.0, LONG_AGO)
    } else {
        LONG_AGO
    }
}

fn age(count: f64, first: f64, now: f64) -> f64 {
    if count > 0.0 {
        ((now - first).clamp(0.0, LONG_AGO) / DAY).ln_1p()
    } else {
        0.0
    }
}

/// A vector being filled.
struct Vector<const N: usize> {
    values: [f32; N],
    len: usize,
}

impl<const N: usize> Vector<N> {
    fn new() -> Self {
        Self {
            values: [0.0; N],
            len: 0,
        }
    }

    #[inline]
    fn push(&mut self, value: f64) {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = value as f32;
        }
        self.len += 1;
    }

    fn push_cycle(&mut self, now: f64, period: f64) {
        let (sin, cos) = (now.rem_euclid(period) / period * std::f64::consts::TAU).sin_cos();
        self.push(sin);
        self.push(cos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(names: &[String], name: &str) -> usize {
        names.iter().position(|found| found == name).unwrap()
    }

    #[test]
    fn every_number_has_a_name_of_its_own() {
        let categories = Categories::default();
        let names = [user_feature_names(&categories), item_feature_names(&categories)];
        assert_eq!(names.each_ref().map(Vec::len), [USER_FEATURES, ITEM_FEATURES]);
        for names in names {
            let distinct: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), names.len());
        }
    }

    #[test]
    fn the_clock_and_the_device_are_features_of_the_user() {
        let names = user_feature_names(&Categories::default());
        // Monday 2024-01-01 06:00:00 UTC.
        let context = Context {
            device: Some(Device::Tv),
        };
        let vector = user_vector(&UserState::new(0.5), 1_704_088_800, &context);
        let of = |name| vector[position(&names, name)];
        assert!((of("hour_sin") - 1.0).abs() < 1e-6 && of("hour_cos").abs() < 1e-6);
        assert!(
            of("weekday_sin") > 0.2 && of("weekday_cos") > 0.97,
            "a quarter of Monday has passed"
        );
        assert_eq!(
            (of("device_tv"), of("device_phone"), of("known")),
            (1.0, 0.0, 0.0)
        );
    }

    #[test]
    fn a_vector_is_finite_whatever_the_time() {
        let user = UserState {
            count: 3.0,
            first: 5e8,
            last: 1e9,
            recent: 2.0,
            ..UserState::new(0.2)
        };
        let item = ItemState {
            count: 3.0,
            first: 5e8,
            last: 1e9,
            recent: 2.0,
            ..ItemState::new(0.2, 7)
        };
        for now in [i64::MIN, -1, 0, 1_000_000_000, 1_700_000_000, i64::MAX] {
            assert!(
                user_vector(&user, now, &Context::default())
                    .iter()
                    .all(|value| value.is_finite()),
                "{now}"
            );
            assert!(
                item_vector(&item, now).iter().all(|value| value.is_finite()),
                "{now}"
            );
        }
    }

    #[test]
    fn devices_are_known_by_many_names() {
        assert_eq!(Device::from_name(" iOS"), Some(Device::Phone));
        assert_eq!(Device::from_name("Laptop"), Some(Device::Desktop));
        assert_eq!(Device::from_name("fridge"), Some(Device::Other));
        assert_eq!(Device::from_name(""), None);
    }
}
