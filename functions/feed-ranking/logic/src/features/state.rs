//! What is remembered of a user and of an item: enough to compute their features at any later moment.
//!
//! The offline pass and the online store keep the same numbers, so that `rank` computes exactly the features
//! that the model was trained on. A state is a row of numbers in the views `users` and `items`.

use super::vector::decayed;
use super::{CATEGORIES, Row};

/// Imagined interactions at the prior rate, added to every rate.
pub const PRIOR_WEIGHT: f64 = 5.0;
/// Steps of the moving averages over a user's interactions.
pub const FAST: f64 = 0.4;
/// See [`FAST`].
pub const MEDIUM: f64 = 0.15;
/// See [`FAST`].
pub const SLOW: f64 = 0.05;
/// Seconds after which a user's recent activity counts half.
pub const USER_HALF_LIFE: f64 = 86_400.0;
/// Seconds after which an item's recent popularity counts half.
pub const ITEM_HALF_LIFE: f64 = 7.0 * 86_400.0;

/// A struct of numbers and of one number per category, and its form as a row.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident),* $(,)? } per category { $($(#[$array_about:meta])* $array:ident),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$about])* pub $field: f64,)*
            $($(#[$array_about])* pub $array: [f64; CATEGORIES],)*
        }

        impl $name {
            /// Numbers of a row.
            pub const WIDTH: usize = <[&str]>::len(&[$(stringify!($field)),*])
                + CATEGORIES * <[&str]>::len(&[$(stringify!($array)),*]);

            /// Appends the state as a row.
            pub fn write_row(&self, to: &mut Vec<f64>) {
                $(to.push(self.$field);)*
                $(to.extend_from_slice(&self.$array);)*
            }

            /// The state of a row; none where the row is not of this width.
            pub fn from_row(row: &[f64]) -> Option<Self> {
                if row.len() != Self::WIDTH {
                    return None;
                }
                let mut values = row.iter().copied();
                Some(Self {
                    $($field: values.next()?,)*
                    $($array: {
                        let mut array = [0.0; CATEGORIES];
                        for slot in &mut array {
                            *slot = values.next()?;
                        }
                        array
                    },)*
                })
            }
        }
    };
}

row! {
    /// What is remembered of a user.
    UserState {
        /// The click rate of everybody when this was last touched.
        prior,
        /// Interactions.
        count,
        /// Clicks.
        clicks,
        /// Likes.
        likes,
        /// Shares.
        shares,
        /// Sum of `ln(1 + dwell seconds)`.
        dwell,
        /// Seconds since the Unix epoch of the first interaction.
        first,
        /// Of the last one.
        last,
        /// Interactions, each halved every [`USER_HALF_LIFE`].
        recent,
        /// Moving average of clicks, of step [`FAST`].
        fast,
        /// Of step [`MEDIUM`].
        medium,
        /// Of step [`SLOW`].
        slow,
        /// Sum of clicks beyond what the items' rates led to expect.
        surplus,
        /// Moving average of the same, of step [`MEDIUM`].
        surplus_medium,
        /// Of step [`SLOW`].
        surplus_slow,
        /// Ratings given.
        graded,
        /// Sum of ratings beyond what the items' ratings led to expect.
        grade_surplus,
        /// Moving average of the same, of step [`MEDIUM`].
        grade_medium,
        /// Moving average of the rates of the items seen.
        quality,
        /// Moving average of the popularity of the items seen.
        popularity,
    } per category {
        /// Interactions with items of the category.
        seen,
        /// Clicks on them beyond the user's own rate.
        liked
    }
}

row! {
    /// What is remembered of an item.
    ItemState {
        /// The click rate of everybody when this was last touched.
        prior,
        /// The categories, a bit for each.
        categories,
        /// Interactions.
        count,
        /// Clicks.
        clicks,
        /// Likes.
        likes,
        /// Shares.
        shares,
        /// Sum of `ln(1 + dwell seconds)`.
        dwell,
        /// Seconds since the Unix epoch of the first interaction.
        first,
        /// Of the last one.
        last,
        /// Interactions, each halved every [`ITEM_HALF_LIFE`].
        recent,
        /// Clicks, likewise.
        recent_clicks,
        /// Sum of clicks beyond what the users' rates led to expect.
        surplus,
        /// Ratings received.
        graded,
        /// Sum of ratings beyond everybody's mean.
        grade,
        /// Sum of ratings beyond everybody's mean and the users' habit.
        grade_surplus,
    } per category {}
}

/// What was known just before an interaction, from which its surprise is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    prior: f64,
    item_rate: f64,
    item_popularity: f64,
    user_rate: f64,
    grade_mean: f64,
    item_grade: f64,
    user_grade: f64,
}

impl Expected {
    pub(super) fn of(user: &UserState, item: &ItemState, prior: f64, grade_mean: f64) -> Self {
        Self {
            prior,
            item_rate: item.rate(),
            item_popularity: item.count.ln_1p(),
            user_rate: user.medium,
            grade_mean,
            item_grade: item.grade / (item.graded + PRIOR_WEIGHT),
            user_grade: user.grade_medium,
        }
    }
}

impl UserState {
    /// A user of whom nothing is known.
    pub fn new(prior: f64) -> Self {
        Self {
            prior,
            fast: prior,
            medium: prior,
            slow: prior,
            quality: prior,
            ..Self::default()
        }
    }

    /// The smoothed click rate.
    pub fn rate(&self) -> f64 {
        (self.clicks + PRIOR_WEIGHT * self.prior) / (self.count + PRIOR_WEIGHT)
    }

    pub(super) fn observe(&mut self, row: &Row, expected: &Expected) {
        let now = row.timestamp as f64;
        if self.count == 0.0 {
            self.first = now;
        }
        self.prior = expected.prior;
        self.recent = decayed(self.recent, now - self.last, USER_HALF_LIFE) + 1.0;
        self.count += 1.0;
        self.last = now;
        self.clicks += row.click;
        self.likes += row.like;
        self.shares += row.share;
        self.dwell += row.dwell;
        approach(&mut self.fast, row.click, FAST);
        approach(&mut self.medium, row.click, MEDIUM);
        approach(&mut self.slow, row.click, SLOW);
        let surplus = row.click - expected.item_rate;
        self.surplus += surplus;
        approach(&mut self.surplus_medium, surplus, MEDIUM);
        approach(&mut self.surplus_slow, surplus, SLOW);
        if let Some(rating) = row.rating {
            let surplus = rating - expected.grade_mean - expected.item_grade;
            self.graded += 1.0;
            self.grade_surplus += surplus;
            approach(&mut self.grade_medium, surplus, MEDIUM);
        }
        approach(&mut self.quality, expected.item_rate, MEDIUM);
        approach(&mut self.popularity, expected.item_popularity, MEDIUM);
    }

    pub(super) fn observe_categories(&mut self, row: &Row, categories: u32, expected: &Expected) {
        for category in (0..CATEGORIES).filter(|category| categories >> category & 1 == 1) {
            self.seen[category] += 1.0;
            self.liked[category] += row.click - expected.user_rate;
        }
    }
}

impl ItemState {
    /// An item of which nothing but its categories is known.
    pub fn new(prior: f64, categories: u32) -> Self {
        Self {
            prior,
            categories: categories.into(),
            ..Self::default()
        }
    }

    /// The smoothed click rate.
    pub fn rate(&self) -> f64 {
        (self.clicks + PRIOR_WEIGHT * self.prior) / (self.count + PRIOR_WEIGHT)
    }

    /// The categories, a bit for each.
    pub fn category_bits(&self) -> u32 {
        self.categories as u32
    }

    pub(super) fn observe(&mut self, row: &Row, expected: &Expected) {
        let now = row.timestamp as f64;
        if self.count == 0.0 {
            self.first = now;
        }
        self.prior = expected.prior;
        self.recent = decayed(self.recent, now - self.last, ITEM_HALF_LIFE) + 1.0;
        self.recent_clicks = decayed(self.recent_clicks, now - self.last, ITEM_HALF_LIFE) + row.click;
        self.count += 1.0;
        self.last = now;
        self.clicks += row.click;
        self.likes += row.like;
        self.shares += row.share;
        self.dwell += row.dwell;
        self.surplus += row.click - expected.user_rate;
        if let Some(rating) = row.rating {
            self.graded += 1.0;
            self.grade += rating - expected.grade_mean;
            self.grade_surplus += rating - expected.grade_mean - expected.user_grade;
        }
        self.categories = (self.category_bits() | row.categories).into();
    }
}

fn approach(average: &mut f64, value: f64, step: f64) {
    *average += step * (value - *average);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_row() {
        let user = UserState {
            seen: [2.5; CATEGORIES],
            slow: 0.1,
            ..UserState::new(0.3)
        };
        let mut row = Vec::new();
        user.write_row(&mut row);
        assert_eq!(row.len(), UserState::WIDTH);
        assert_eq!(UserState::from_row(&row), Some(user));
        let item = ItemState {
            last: 1.7e9,
            ..ItemState::new(0.3, 0x00ff_0001)
        };
        row.clear();
        item.write_row(&mut row);
        assert_eq!(ItemState::from_row(&row), Some(item));
        assert_eq!(item.category_bits(), 0x00ff_0001);
    }

    #[test]
    fn a_row_of_another_width_is_not_a_state() {
        assert_eq!(UserState::from_row(&[]), None);
        assert_eq!(ItemState::from_row(&[0.0; ItemState::WIDTH + 1]), None);
    }
}
