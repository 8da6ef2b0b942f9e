//! Properties of the pass over time.

use std::sync::Arc;

use proptest::prelude::*;

use super::training::TrainingReader;
use super::*;
use crate::table::{Interaction, Interactions, Item};

fn catalog() -> Vec<Item> {
    let item = |(id, text): (i64, &str)| Item {
        item_id: id,
        title: None,
        categories: Some(text.to_owned()),
    };
    [(0, "Drama"), (1, "Comedy|Drama"), (2, "Action")]
        .map(item)
        .to_vec()
}

fn row() -> impl Strategy<Value = Row> {
    let what = (
        0..5i64,
        0..6i64,
        0..40i64,
        0..4u8,
        proptest::option::of(1..6u8),
        0..3usize,
        0..8u32,
    );
    what.prop_map(
        |(user_id, item_id, time, flags, rating, device, categories)| Row {
            user_id,
            item_id,
            timestamp: 1_700_000_000 + time * 3600,
            click: f64::from(flags & 1),
            like: f64::from(flags >> 1),
            share: 0.0,
            dwell: f64::from(flags) / 2.0,
            rating: rating.map(f64::from),
            context: Context {
                device: Device::ALL.get(device).copied(),
            },
            categories,
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(row(), 1..60)
}

fn engine() -> Engine {
    Engine::new(&catalog(), &Categories::of_catalog(&catalog()))
}

/// The example of every row, in order of time.
fn examples(mut rows: Vec<Row>) -> Vec<Example> {
    rows.sort_by_key(Row::order);
    let mut engine = engine();
    let mut examples = Vec::new();
    for ties in rows.chunk_by(|a, b| a.timestamp == b.timestamp) {
        engine
            .step(ties, |example| {
                examples.push(*example);
                Ok::<_, ()>(())
            })
            .unwrap();
    }
    examples
}

/// `example` without its label, comparable bit by bit.
fn bits(example: &Example) -> (i64, i64, i64, Vec<u32>) {
    let values = example
        .user
        .iter()
        .chain(&example.item)
        .map(|value| value.to_bits())
        .collect();
    (example.timestamp, example.user_id, example.item_id, values)
}

proptest! {
    #[test]
    fn no_feature_of_a_row_changes_when_later_rows_change(past in rows(), future in rows(), other in rows()) {
        let end = past.iter().map(|row| row.timestamp).max().unwrap();
        let later = |rows: Vec<Row>| rows.into_iter().map(move |row| Row { timestamp: row.timestamp - 1_700_000_000 + end + 1, ..row });
        let with = |rows: Vec<Row>| examples(past.iter().copied().chain(later(rows)).collect());
        let (one, two) = (with(future), with(other));
        for (a, b) in one.iter().zip(&two).take(past.len()) {
            prop_assert_eq!(bits(a), bits(b));
        }
    }

    #[test]
    fn a_row_sees_no_other_row_of_its_timestamp(rows in rows(), other in row(), index in any::<prop::sample::Index>()) {
        let chosen = *index.get(&rows);
        let find = |examples: Vec<Example>| {
            let same = |example: &&Example| (example.timestamp, example.user_id, example.item_id) == chosen.order();
            bits(examples.iter().find(same).unwrap())
        };
        let before = find(examples(rows.clone()));
        let mut with = rows;
        with.push(Row { timestamp: chosen.timestamp, user_id: chosen.user_id, item_id: 77, ..other });
        with.push(Row { timestamp: chosen.timestamp, item_id: chosen.item_id, user_id: 77, ..other });
        prop_assert_eq!(find(examples(with)), before);
    }

    #[test]
    fn the_label_of_a_row_is_not_in_its_features(rows in rows(), index in any::<prop::sample::Index>()) {
        let mut sorted = rows;
        sorted.sort_by_key(Row::order);
        let chosen = index.index(sorted.len());
        let mut flipped = sorted.clone();
        let row = &mut flipped[chosen];
        (row.click, row.like, row.dwell, row.rating) = (1.0 - row.click, 1.0 - row.like, row.dwell + 1.0, None);
        prop_assert_eq!(bits(&examples(sorted)[chosen]), bits(&examples(flipped)[chosen]));
    }

    #[test]
    fn the_online_state_gives_the_offline_features(rows in rows(), next in row()) {
        let mut rows = rows;
        rows.sort_by_key(Row::order);
        let mut engine = engine();
        for ties in rows.chunk_by(|a, b| a.timestamp == b.timestamp) {
            engine.step(ties, |_| Ok::<_, ()>(())).unwrap();
        }
        let now = rows.last().unwrap().timestamp + next.timestamp - 1_700_000_000;
        let (users, items) = (engine.user_rows(), engine.item_rows());
        let user = users.get(&(next.user_id as u64)).unwrap_or(&users[&NEWCOMER]);
        let item = items.get(&(next.item_id as u64)).unwrap_or(&items[&NEWCOMER]);
        let (mut user_row, mut item_row) = (Vec::new(), Vec::new());
        user.write_row(&mut user_row);
        item.write_row(&mut item_row);
        let online = (
            user_vector(&UserState::from_row(&user_row).unwrap(), now, &next.context),
            item_vector(&ItemState::from_row(&item_row).unwrap(), now),
        );
        let next = Row { timestamp: now, ..next };
        engine.step(&[next], |offline| {
            assert_eq!((offline.user, offline.item), online);
            Ok::<_, ()>(())
        }).unwrap();
    }
}

fn interactions(count: i64) -> Interactions {
    let row = |n: i64| Interaction {
        user_id: n % 13,
        item_id: n * n % 31,
        timestamp: 1_700_000_000 + n / 3 * 600,
        click: (n % 50 != 7).then_some((n * 7 % 5 > 2).into()),
        dwell_seconds: Some(n as f64),
        device: Some("phone"),
        category: Some("news"),
        ..Interaction::default()
    };
    (0..count).map(row).collect()
}

fn built(count: i64) -> Result<Built<Vec<u8>>, BuildError> {
    let sinks = Sinks {
        train: Vec::new(),
        validation: Vec::new(),
        test: Vec::new(),
    };
    let all = interactions(count);
    let mut build = Build::new(all.len() as u64, &[], sinks)?;
    let mut rows = Vec::new();
    build.reduce(&all, &mut rows);
    rows.reverse();
    build.partition("all", rows, all.len() as u64)?;
    build.finish("d")
}

#[test]
fn the_parts_follow_each_other_in_time_and_are_read_back() {
    let built = built(3000).unwrap();
    let manifest = &built.manifest;
    let rows = manifest.rows;
    assert_eq!(
        (rows.train + rows.validation + rows.test, built.unlabelled),
        (2940, 60)
    );
    assert!(
        rows.train.abs_diff(2058) <= 60 && rows.test.abs_diff(441) <= 60,
        "{rows:?}"
    );
    let reader = TrainingReader::open(
        Arc::new(bytes::Bytes::from(built.sinks.test)),
        &manifest.signature(),
    );
    let batch = reader.unwrap().next_batch().unwrap().unwrap();
    assert_eq!(batch.label.len() as u64, rows.test);
    assert_eq!(batch.user.len(), batch.label.len() * USER_FEATURES);
    assert_eq!(batch.item.len(), batch.label.len() * ITEM_FEATURES);
    assert!(batch.user.iter().all(|value| value.is_finite()));
}

#[test]
fn the_normalisation_is_that_of_the_train_part() {
    let built = built(3000).unwrap();
    let manifest = built.manifest;
    let source = Arc::new(bytes::Bytes::from(built.sinks.train));
    let batch = TrainingReader::open(source, &manifest.signature())
        .unwrap()
        .next_batch()
        .unwrap()
        .unwrap();
    let column = |index: usize| {
        batch
            .user
            .iter()
            .skip(index)
            .step_by(USER_FEATURES)
            .map(|value| f64::from(*value))
    };
    for index in 0..USER_FEATURES {
        let count = batch.label.len() as f64;
        let mean = column(index).sum::<f64>() / count;
        let std = (column(index).map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        let (found_mean, found_std) = (
            manifest.normalisation.user.mean[index],
            manifest.normalisation.user.std[index],
        );
        assert!((mean - found_mean).abs() < 1e-6, "{index}: {mean} {found_mean}");
        assert!(
            found_std == 1.0 || (std - found_std).abs() < 1e-6,
            "{index}: {std} {found_std}"
        );
    }
}

#[test]
fn the_same_rows_give_the_same_digest_and_other_rows_another() {
    let digest = |count| built(count).unwrap().manifest.digest;
    assert_eq!(digest(900), digest(900));
    assert_ne!(digest(900), digest(903));
    assert_eq!(digest(900).len(), 64);
}

#[test]
fn too_few_rows_and_partitions_out_of_order_are_errors_that_say_so() {
    let error = built(2).err().unwrap().to_string();
    assert!(error.contains("2 rows"), "{error}");
    let sinks = Sinks {
        train: Vec::new(),
        validation: Vec::new(),
        test: Vec::new(),
    };
    let mut build = Build::new(10, &[], sinks).unwrap();
    let at = |timestamp| {
        vec![Row {
            timestamp,
            ..Row::default()
        }]
    };
    build.partition("date=2", at(20), 1).unwrap();
    let error = build.partition("date=1", at(10), 1).unwrap_err().to_string();
    assert!(error.contains("`date=1`") && error.contains("20"), "{error}");
}

#[test]
fn files_of_one_folder_are_one_partition() {
    let file = |key: &str| crate::messages::DataFile {
        key: key.to_owned(),
        rows: 1,
    };
    let files = [file("v/d/date=2/b"), file("v/d/date=1/a"), file("v/d/date=2/a")];
    let found: Vec<_> = partitions(&files)
        .into_iter()
        .map(|(name, files)| (name, files.len()))
        .collect();
    assert_eq!(found, [("v/d/date=1", 1), ("v/d/date=2", 2)]);
}
