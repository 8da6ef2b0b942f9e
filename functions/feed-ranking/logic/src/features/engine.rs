//! The pass over time: what a row sees, and what it leaves behind.

use std::collections::BTreeMap;

use crate::table::{FastMap, Interaction, Item};

use super::state::Expected;
use super::{
    Categories, Context, Device, ItemState, ItemVector, UserState, UserVector, item_vector, user_vector,
};

/// Imagined rows, half of them clicks, with which the rate of everybody begins.
const START_WEIGHT: f64 = 20.0;
const START_RATE: f64 = 0.5;

/// The key under which the views hold the state of a newcomer.
pub const NEWCOMER: u64 = u64::MAX;

/// An interaction, reduced to what features are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Who.
    pub user_id: i64,
    /// Saw what.
    pub item_id: i64,
    /// When: seconds since the Unix epoch.
    pub timestamp: i64,
    /// 1 for a click.
    pub click: f64,
    /// 1 for a like.
    pub like: f64,
    /// 1 for a share.
    pub share: f64,
    /// `ln(1 + dwell seconds)`.
    pub dwell: f64,
    /// A rating, where there is one.
    pub rating: Option<f64>,
    /// On what.
    pub context: Context,
    /// The item's categories as the row names them, a bit for each.
    pub categories: u32,
}

impl Row {
    /// None for an interaction of which it is not known whether it was a click.
    pub fn new(from: &Interaction<'_>, categories: &Categories) -> Option<Self> {
        let flag = |value: Option<i32>| f64::from(u8::from(value.is_some_and(|value| value > 0)));
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Some(Self {
            user_id: from.user_id,
            item_id: from.item_id,
            timestamp: from.timestamp,
            click: flag(Some(from.click?)),
            like: flag(from.like),
            share: flag(from.share),
            dwell: finite(from.dwell_seconds).unwrap_or(0.0).max(0.0).ln_1p(),
            rating: finite(from.rating),
            context: Context {
                device: from.device.and_then(Device::from_name),
            },
            categories: from.category.map_or(0, |text| categories.bits(text)),
        })
    }

    /// The order of rows: by time, and by ids where the time is the same.
    pub fn order(&self) -> (i64, i64, i64) {
        (self.timestamp, self.user_id, self.item_id)
    }
}

/// A row of the training set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// Who.
    pub user_id: i64,
    /// Saw what.
    pub item_id: i64,
    /// When.
    pub timestamp: i64,
    /// 1 for a click.
    pub label: f32,
    /// The user's features just before.
    pub user: UserVector,
    /// The item's features just before.
    pub item: ItemVector,
}

/// Everything remembered of the rows so far.
///
/// # Contract
/// Rows come in time order. All rows of one timestamp are shown together, and none of them sees another: a
/// row's features depend on rows with a smaller timestamp, on its own user, item, time and device, and on the
/// catalogue, on nothing else.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    users: FastMap<i64, UserState>,
    items: FastMap<i64, ItemState>,
    /// Categories by item, from the catalogue.
    catalog: FastMap<i64, u32>,
    rows: f64,
    clicks: f64,
    graded: f64,
    grades: f64,
    expected: Vec<Expected>,
}

impl Engine {
    /// Remembers nothing but the catalogue.
    pub fn new(items: &[Item], categories: &Categories) -> Self {
        let bits = |item: &Item| item.categories.as_deref().map_or(0, |text| categories.bits(text));
        Self {
            catalog: items.iter().map(|item| (item.item_id, bits(item))).collect(),
            ..Self::default()
        }
    }

    /// Shows all rows of one timestamp; each one's example is given to `sink`.
    pub fn step<E>(
        &mut self,
        rows: &[Row],
        mut sink: impl FnMut(&Example) -> Result<(), E>,
    ) -> Result<(), E> {
        let (prior, grade_mean) = (self.prior(), self.grade_mean());
        self.expected.clear();
        for row in rows {
            let (user, item) = (self.user(row.user_id), self.item(row.item_id));
            self.expected.push(Expected::of(&user, &item, prior, grade_mean));
            sink(&Example {
                user_id: row.user_id,
                item_id: row.item_id,
                timestamp: row.timestamp,
                label: row.click as f32,
                user: user_vector(&user, row.timestamp, &row.context),
                item: item_vector(&item, row.timestamp),
            })?;
        }
        self.remember(rows);
        Ok(())
    }

    fn remember(&mut self, rows: &[Row]) {
        for (row, expected) in rows.iter().zip(&self.expected) {
            let (mut user, mut item) = (self.user(row.user_id), self.item(row.item_id));
            item.observe(row, expected);
            user.observe(row, expected);
            user.observe_categories(row, item.category_bits(), expected);
            self.users.insert(row.user_id, user);
            self.items.insert(row.item_id, item);
            self.rows += 1.0;
            self.clicks += row.click;
            self.graded += f64::from(u8::from(row.rating.is_some()));
            self.grades += row.rating.unwrap_or(0.0);
        }
    }

    /// What is remembered of a user, or of a newcomer.
    pub fn user(&self, id: i64) -> UserState {
        self.users
            .get(&id)
            .copied()
            .unwrap_or_else(|| UserState::new(self.prior()))
    }

    /// What is remembered of an item, or of a new one.
    pub fn item(&self, id: i64) -> ItemState {
        let new = || ItemState::new(self.prior(), self.catalog.get(&id).copied().unwrap_or(0));
        self.items.get(&id).copied().unwrap_or_else(new)
    }

    /// The view `users`: the newcomer and every user, by id. Ids below 0 cannot be asked for and are left out.
    pub fn user_rows(&self) -> BTreeMap<u64, UserState> {
        let known = self
            .users
            .iter()
            .filter_map(|(id, user)| Some((u64::try_from(*id).ok()?, *user)));
        known.chain([(NEWCOMER, UserState::new(self.prior()))]).collect()
    }

    /// The view `items`: the newcomer, every item of the catalogue and every item seen, by id.
    pub fn item_rows(&self) -> BTreeMap<u64, ItemState> {
        let ids = self.catalog.keys().chain(self.items.keys());
        let known = ids.filter_map(|id| Some((u64::try_from(*id).ok()?, self.item(*id))));
        known
            .chain([(NEWCOMER, ItemState::new(self.prior(), 0))])
            .collect()
    }

    /// The click rate of everybody.
    fn prior(&self) -> f64 {
        (self.clicks + START_WEIGHT * START_RATE) / (self.rows + START_WEIGHT)
    }

    fn grade_mean(&self) -> f64 {
        if self.graded > 0.0 {
            self.grades / self.graded
        } else {
            0.0
        }
    }
}
