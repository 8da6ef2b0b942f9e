//! The model's inputs for one user and many items.

use super::Ask;
use crate::features::{ITEM_FEATURES, ItemState, USER_FEATURES, UserState, item_vector, user_vector};

/// Tensors as little-endian bytes: one user, `items` items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// `user_id`, INT64, of shape [1].
    pub user_id: Vec<u8>,
    /// `user_features`, FP32, of shape [1, user features].
    pub user_features: Vec<u8>,
    /// `item_id`, INT64, of shape [items].
    pub item_id: Vec<u8>,
    /// `item_features`, FP32, of shape [items, item features].
    pub item_features: Vec<u8>,
    /// Items.
    pub items: usize,
}

impl Inputs {
    /// Computes the features at `now`, in seconds since the Unix epoch; `items` has a state for each id of `ask`.
    pub fn new<'a>(
        ask: &Ask,
        now: i64,
        user: &UserState,
        items: impl Iterator<Item = &'a ItemState>,
    ) -> Self {
        let count = ask.item_ids.len();
        let mut user_features = Vec::with_capacity(USER_FEATURES * 4);
        append(&mut user_features, &user_vector(user, now, &ask.context));
        let mut item_features = Vec::with_capacity(count * ITEM_FEATURES * 4);
        for item in items.take(count) {
            append(&mut item_features, &item_vector(item, now));
        }
        Self {
            user_id: ask.user_id.to_le_bytes().to_vec(),
            user_features,
            item_id: ask.item_ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
            item_features,
            items: count,
        }
    }
}

#[inline]
fn append(to: &mut Vec<u8>, values: &[f32]) {
    for value in values {
        to.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Context;

    #[test]
    fn the_bytes_are_those_of_the_vectors() {
        let ask = Ask {
            user_id: 3,
            item_ids: vec![9, 8],
            time: None,
            context: Context::default(),
        };
        let user = UserState::new(0.4);
        let items = [ItemState::new(0.4, 1), ItemState::new(0.4, 2)];
        let inputs = Inputs::new(&ask, 1_700_000_000, &user, items.iter());
        assert_eq!(
            (inputs.user_id.len(), inputs.item_id.len(), inputs.items),
            (8, 16, 2)
        );
        let floats: Vec<f32> = inputs
            .item_features
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let wanted = items.map(|item| item_vector(&item, 1_700_000_000)).concat();
        assert_eq!(floats, wanted);
        assert_eq!(inputs.user_features.len(), USER_FEATURES * 4);
    }
}
