//! Categories, bounded in number: names from the catalogue where there is one, slots by hash where not.

use std::collections::{BTreeMap, HashMap};

use crate::table::Item;

use super::CATEGORIES;

/// Which slot a category has.
#[derive(Clone, Debug, Default)]
pub struct Categories {
    /// Name in the features, by slot, where the slots are named.
    names: Vec<String>,
    slots: HashMap<String, usize>,
}

impl Categories {
    /// The categories of a catalogue, each with a slot of its own while there are enough: the most frequent
    /// ones then, and the last slot for the rest.
    pub fn of_catalog(items: &[Item]) -> Self {
        let mut counts = BTreeMap::<String, u64>::new();
        for category in items
            .iter()
            .filter_map(|item| item.categories.as_deref())
            .flat_map(split)
        {
            *counts.entry(slug(category)).or_default() += 1;
        }
        let mut by_count: Vec<_> = counts.into_iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        if by_count.len() > CATEGORIES {
            by_count.truncate(CATEGORIES - 1);
        }
        let mut names: Vec<String> = by_count.into_iter().map(|(name, _)| name).collect();
        names.sort();
        let slots = names
            .iter()
            .cloned()
            .enumerate()
            .map(|(slot, name)| (name, slot))
            .collect();
        Self { names, slots }
    }

    /// One bit for each category of a text such as `Comedy|Drama`.
    pub fn bits(&self, categories: &str) -> u32 {
        split(categories)
            .map(|category| 1 << self.slot(&slug(category)))
            .fold(0, |bits, bit| bits | bit)
    }

    fn slot(&self, slug: &str) -> usize {
        if self.names.is_empty() {
            return (fnv1a(slug.as_bytes()) % CATEGORIES as u64) as usize;
        }
        self.slots.get(slug).copied().unwrap_or(CATEGORIES - 1)
    }

    /// One name for each slot.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..CATEGORIES).map(|slot| match self.names.get(slot) {
            Some(name) => name.clone(),
            None => format!("{slot:02}"),
        })
    }
}

fn split(categories: &str) -> impl Iterator<Item = &str> {
    categories
        .split('|')
        .map(str::trim)
        .filter(|category| !category.is_empty())
}

/// `(no genres listed)` becomes `no_genres_listed`.
fn slug(category: &str) -> String {
    let words = category
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_lowercase()
}

/// The hash of Fowler, Noll and Vo: the same in every build, for it is part of the features' meaning.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(categories: impl IntoIterator<Item = String>) -> Categories {
        let item = |(id, categories)| Item {
            item_id: id,
            title: None,
            categories: Some(categories),
        };
        Categories::of_catalog(&(1..).zip(categories).map(item).collect::<Vec<_>>())
    }

    #[test]
    fn each_category_of_a_small_catalogue_has_its_slot_and_its_name() {
        let categories = catalog(["Drama|Comedy".into(), "Comedy|(no genres listed)".into()]);
        let names: Vec<_> = categories.names().take(4).collect();
        assert_eq!(names, ["comedy", "drama", "no_genres_listed", "03"]);
        assert_eq!(categories.bits("Drama|Comedy"), 0b11);
        assert_eq!(categories.bits(" comedy |"), 0b1);
        assert_eq!(categories.bits("Western"), 1 << (CATEGORIES - 1));
        assert_eq!(categories.bits(""), 0);
    }

    #[test]
    fn the_rare_categories_of_a_large_catalogue_share_the_last_slot() {
        let rows = (0..100).flat_map(|n| std::iter::repeat_n(format!("c{n:03}"), 200 - n));
        let categories = catalog(rows);
        assert_eq!(categories.bits("c000"), 1);
        assert_eq!(categories.bits("c090"), 1 << (CATEGORIES - 1));
        assert_eq!(categories.names().count(), CATEGORIES);
    }

    #[test]
    fn without_a_catalogue_a_hash_decides() {
        let categories = Categories::default();
        assert_eq!(categories.bits("sports").count_ones(), 1);
        assert_eq!(categories.bits("Sports"), categories.bits("sports"));
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
