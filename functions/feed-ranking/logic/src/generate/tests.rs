//! What the rows must be like.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::ingest::{self, Outcome};
use crate::messages::SourceObject;
use crate::table::MemoryStage;

fn settings() -> Settings {
    Settings {
        users: 2_000,
        items: 5_000,
        interactions: 60_000,
        days: 30,
        seed: 7,
        format: Format::Csv,
    }
}

fn samples(settings: &Settings) -> Vec<Sample> {
    let mut rows = Rows::new(settings);
    std::iter::from_fn(|| rows.next()).collect()
}

fn auc(mut scored: Vec<(f64, bool)>) -> f64 {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let clicks = scored.iter().filter(|(_, click)| *click).count() as f64;
    let ranks: f64 = scored
        .iter()
        .enumerate()
        .filter(|(_, (_, click))| *click)
        .map(|(at, _)| at as f64 + 1.0)
        .sum();
    (ranks - clicks * (clicks + 1.0) / 2.0) / (clicks * (scored.len() as f64 - clicks))
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let bytes = |seed| {
        let mut stage = MemoryStage::default();
        let key = generate(
            &Settings {
                seed,
                interactions: 2_000,
                ..settings()
            },
            &mut stage,
        )
        .unwrap();
        stage.objects.remove(&key).unwrap()
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn rows_are_in_order_within_their_bounds_and_as_many_as_asked_for() {
    let samples = samples(&settings());
    assert_eq!(samples.len(), 60_000);
    assert!(samples.is_sorted_by_key(|sample| sample.time));
    let span = samples[samples.len() - 1].time - samples[0].time;
    assert!((29 * 86_400..30 * 86_400).contains(&span));
    assert!(
        samples
            .iter()
            .all(|sample| sample.user < 2_000 && sample.item < 5_000)
    );
}

#[test]
fn a_click_can_be_foretold_by_who_knows_the_truth() {
    let samples = samples(&settings());
    let rate = samples.iter().filter(|sample| sample.click).count() as f64 / samples.len() as f64;
    assert!((0.15..0.45).contains(&rate), "{rate}");
    let auc = auc(samples
        .iter()
        .map(|sample| (sample.probability, sample.click))
        .collect());
    assert!((0.82..0.95).contains(&auc), "{auc}");
}

#[test]
fn past_rates_of_user_item_and_taste_foretell_a_click() {
    let mut past: HashMap<(u8, u32, &str), (f64, f64)> = HashMap::new();
    let mut scored = Vec::new();
    for (at, sample) in samples(&Settings {
        users: 10_000,
        items: 50_000,
        interactions: 200_000,
        ..settings()
    })
    .iter()
    .enumerate()
    {
        let keys = [
            (0, sample.user, ""),
            (1, sample.item, ""),
            (2, sample.user, sample.category),
        ];
        let logit = |key| {
            let (clicks, shown) = past.get(&key).copied().unwrap_or_default();
            let rate: f64 = (clicks + 0.3 * 4.0) / (shown + 4.0);
            (rate / (1.0 - rate)).ln()
        };
        if at > 170_000 {
            scored.push((keys.map(logit).iter().sum(), sample.click));
        }
        for key in keys {
            let counts = past.entry(key).or_default();
            *counts = (counts.0 + f64::from(u8::from(sample.click)), counts.1 + 1.0);
        }
    }
    let auc = auc(scored);
    assert!(auc > 0.72, "{auc}");
}

#[test]
fn a_few_items_take_most_of_the_views_and_evenings_are_busier_than_nights() {
    let samples = samples(&settings());
    let mut views = vec![0_u32; 5_000];
    samples.iter().for_each(|sample| views[sample.item as usize] += 1);
    views.sort_unstable_by(|a, b| b.cmp(a));
    let top: u32 = views[..500].iter().sum();
    assert!(f64::from(top) > 0.5 * samples.len() as f64, "{top}");
    let at = |hours: std::ops::Range<i64>| {
        samples
            .iter()
            .filter(|sample| hours.contains(&(sample.time.rem_euclid(86_400) / 3_600)))
            .count()
    };
    assert!(at(19..22) > 4 * at(2..5));
}

#[test]
fn every_format_holds_the_same_rows_and_goes_through_ingest() {
    let taken = [Format::Csv, Format::JsonLines, Format::Parquet].map(|format| {
        let mut stage = MemoryStage::default();
        let key = generate(
            &Settings {
                format,
                interactions: 3_000,
                ..settings()
            },
            &mut stage,
        )
        .unwrap();
        let bytes = Arc::new(Bytes::from(stage.objects[&key].clone()));
        let object = SourceObject {
            bucket: "data".into(),
            key: "raw/x".into(),
            etag: String::new(),
        };
        let outcome = ingest::ingest(bytes, &object, &ingest::Settings::default(), &mut stage).unwrap();
        let Outcome::Interactions(ready) = outcome else {
            panic!()
        };
        assert_eq!((ready.rows, ready.skipped, ready.files.len()), (3_000, 0, 30));
        let mut files = stage.objects;
        files.retain(|key, _| key.starts_with("staging/"));
        files
    });
    assert!(taken[0] == taken[1] && taken[1] == taken[2]);
}

#[test]
fn an_event_goes_before_a_variable_and_both_have_bounds() {
    let variable = |name: &str| (name == "users").then(|| "50".to_owned());
    let request = GenerateRequested {
        items: Some(9),
        ..GenerateRequested::default()
    };
    let found = Settings::new(&request, variable).unwrap();
    assert_eq!((found.users, found.items, found.interactions), (50, 9, 200_000));
    let request = GenerateRequested {
        days: Some(0),
        ..GenerateRequested::default()
    };
    assert!(
        Settings::new(&request, variable)
            .unwrap_err()
            .contains("`days` is 0")
    );
    assert!(Settings::new(&GenerateRequested::default(), |_| Some("many".into())).is_err());
}
