//! The normalised table of interactions: what `staging/` and `validated/` hold.

use super::{Column, TextColumn};

/// The columns, in order: the first three are never null.
pub const COLUMNS: [&str; 10] = [
    "user_id",
    "item_id",
    "timestamp",
    "click",
    "like",
    "share",
    "dwell_seconds",
    "rating",
    "device",
    "category",
];

/// One row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interaction<'a> {
    /// Who.
    pub user_id: i64,
    /// Saw what.
    pub item_id: i64,
    /// When: seconds since the Unix epoch.
    pub timestamp: i64,
    /// 1 where the user clicked.
    pub click: Option<i32>,
    /// 1 where the user liked.
    pub like: Option<i32>,
    /// 1 where the user shared.
    pub share: Option<i32>,
    /// How long the user stayed.
    pub dwell_seconds: Option<f64>,
    /// A rating, on the source's scale.
    pub rating: Option<f64>,
    /// What on.
    pub device: Option<&'a str>,
    /// The item's categories, separated by `|`.
    pub category: Option<&'a str>,
}

/// A batch of rows, column by column.
#[derive(Clone, Debug, Default)]
pub struct Interactions {
    /// See [`Interaction::user_id`].
    pub user_id: Vec<i64>,
    /// See [`Interaction::item_id`].
    pub item_id: Vec<i64>,
    /// See [`Interaction::timestamp`].
    pub timestamp: Vec<i64>,
    /// See [`Interaction::click`].
    pub click: Column<i32>,
    /// See [`Interaction::like`].
    pub like: Column<i32>,
    /// See [`Interaction::share`].
    pub share: Column<i32>,
    /// See [`Interaction::dwell_seconds`].
    pub dwell_seconds: Column<f64>,
    /// See [`Interaction::rating`].
    pub rating: Column<f64>,
    /// See [`Interaction::device`].
    pub device: TextColumn,
    /// See [`Interaction::category`].
    pub category: TextColumn,
}

impl Interactions {
    /// Rows.
    pub fn len(&self) -> usize {
        self.user_id.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.user_id.is_empty()
    }

    /// Appends a row.
    pub fn push(&mut self, row: &Interaction<'_>) {
        self.user_id.push(row.user_id);
        self.item_id.push(row.item_id);
        self.timestamp.push(row.timestamp);
        self.click.push(row.click);
        self.like.push(row.like);
        self.share.push(row.share);
        self.dwell_seconds.push(row.dwell_seconds);
        self.rating.push(row.rating);
        self.device.push(row.device);
        self.category.push(row.category);
    }

    /// The row at `row`, where there is one.
    pub fn get(&self, row: usize) -> Option<Interaction<'_>> {
        Some(Interaction {
            user_id: *self.user_id.get(row)?,
            item_id: *self.item_id.get(row)?,
            timestamp: *self.timestamp.get(row)?,
            click: self.click.get(row),
            like: self.like.get(row),
            share: self.share.get(row),
            dwell_seconds: self.dwell_seconds.get(row),
            rating: self.rating.get(row),
            device: self.device.get(row),
            category: self.category.get(row),
        })
    }

    /// Every row, in order.
    pub fn rows(&self) -> impl Iterator<Item = Interaction<'_>> {
        (0..self.len()).filter_map(|row| self.get(row))
    }
}

impl<'a> FromIterator<Interaction<'a>> for Interactions {
    fn from_iter<I: IntoIterator<Item = Interaction<'a>>>(rows: I) -> Self {
        let mut batch = Self::default();
        rows.into_iter().for_each(|row| batch.push(&row));
        batch
    }
}
