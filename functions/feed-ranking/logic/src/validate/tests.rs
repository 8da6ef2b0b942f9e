//! Whole datasets held against the shipped suite and others.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::messages::SourceObject;
use crate::table::MemoryStage;

fn good(count: i64) -> Vec<Interaction<'static>> {
    let row = |n| Interaction {
        user_id: n % 10,
        item_id: n % 7,
        timestamp: 1_700_000_000 + n,
        click: Some((n % 3 == 0).into()),
        like: Some(0),
        dwell_seconds: Some(n as f64),
        device: Some("phone"),
        ..Interaction::default()
    };
    (0..count).map(row).collect()
}

fn run(files: &[Vec<Interaction<'_>>], suite: &Suite) -> (Result<Verdict, ValidateError>, MemoryStage) {
    let mut stage = MemoryStage::default();
    let mut listed = Vec::new();
    for (day, rows) in files.iter().enumerate() {
        let key = format!("staging/d/date=2023-11-{:02}/part-000.parquet", day + 1);
        let mut writer = InteractionsWriter::new(stage.create(&key).unwrap()).unwrap();
        writer.write(&rows.iter().copied().collect()).unwrap();
        stage.finish(writer.finish().unwrap()).unwrap();
        listed.push(DataFile {
            key,
            rows: rows.len() as u64,
        });
    }
    let source = SourceObject {
        bucket: "data".into(),
        key: "raw/a.csv".into(),
        etag: "e".into(),
    };
    let rows = listed.iter().map(|file| file.rows).sum();
    let ready = DataReady {
        dataset: "d".into(),
        rows,
        skipped: 0,
        files: listed,
        source,
    };
    let staged = stage.objects.clone();
    let open = |key: &str| Ok(Arc::new(Bytes::from(staged[key].clone())));
    (validate(&ready, suite, open, &mut stage), stage)
}

fn shipped() -> Suite {
    Suite::shipped().unwrap()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn a_clean_dataset_passes_whole() {
    let (verdict, stage) = run(&[good(60), good(40)], &shipped());
    let Ok(Verdict::Validated(validated)) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(
        (validated.rows, validated.quarantined, validated.files.len()),
        (100, 0, 2)
    );
    assert!(validated.files[0].key.starts_with("validated/d/date=2023-11-01/"));
    assert_eq!(
        stage.objects[&validated.files[0].key],
        stage.objects["staging/d/date=2023-11-01/part-000.parquet"]
    );
    let report: Value = serde_json::from_slice(&stage.objects["reports/d.json"]).unwrap();
    assert_eq!(report["success"], true);
    assert_eq!(report["statistics"]["unsuccessful_expectations"], 0);
    assert!(!stage.objects.contains_key("quarantine/d/rows.jsonl"));
}

#[test]
fn bad_rows_go_to_quarantine_with_every_reason_and_the_others_pass() {
    let mut rows = good(50);
    rows[3].user_id = -1;
    rows[4].click = Some(7);
    rows[4].dwell_seconds = Some(-2.0);
    rows[9] = rows[8];
    rows[10].click = None;
    let (verdict, stage) = run(&[rows], &shipped());
    let Ok(Verdict::Validated(validated)) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!((validated.rows, validated.quarantined), (46, 4));
    let kept = lines(&stage.objects["quarantine/d/rows.jsonl"]);
    let rows: Vec<_> = kept.iter().map(|entry| entry["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [3, 4, 9, 10]);
    assert_eq!(
        kept[0]["reasons"][0],
        "`user_id` is `-1`, allowed is >= 0 and <= 9007199254740991"
    );
    assert_eq!(kept[1]["reasons"].as_array().unwrap().len(), 2);
    assert!(kept[2]["reasons"][0].as_str().unwrap().contains("an earlier row"));
    assert_eq!(kept[3]["data"]["user_id"], 0);
}

#[test]
fn a_dataset_with_too_many_bad_rows_is_rejected_and_nothing_of_it_is_validated() {
    let mut rows = good(50);
    rows.iter_mut().take(20).for_each(|row| row.click = Some(9));
    let (verdict, stage) = run(&[rows], &shipped());
    let Ok(Verdict::Rejected(rejected)) = verdict else {
        panic!("{verdict:?}")
    };
    let reasons = rejected.reasons.join("; ");
    assert!(
        reasons.contains("expect_column_values_to_be_in_set on `click`: 60.00 % are as expected"),
        "{reasons}"
    );
    assert!(
        stage.objects.contains_key("reports/d.json") && stage.objects.contains_key("quarantine/d/rows.jsonl")
    );
    assert!(!stage.objects.keys().any(|key| key.starts_with("validated/")));
}

#[test]
fn a_dataset_of_clicks_alone_cannot_be_learned_from() {
    let mut rows = good(10);
    rows.iter_mut().for_each(|row| row.click = Some(1));
    let (verdict, _) = run(&[rows], &shipped());
    let Ok(Verdict::Rejected(rejected)) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        rejected.reasons[0].contains("observed is 1.0, allowed is > 0 and < 1"),
        "{:?}",
        rejected.reasons
    );
}

#[test]
fn a_warning_neither_rejects_nor_quarantines() {
    let text = br#"{"name":"s","expectations":[{"expectation_type":"expect_column_values_to_be_in_set","severity":"warning",
        "kwargs":{"column":"device","value_set":["tablet"]}}]}"#;
    let (verdict, stage) = run(&[good(10)], &Suite::parse(text).unwrap());
    assert!(matches!(verdict, Ok(Verdict::Validated(validated)) if validated.quarantined == 0));
    let report: Value = serde_json::from_slice(&stage.objects["reports/d.json"]).unwrap();
    assert_eq!(report["results"][0]["success"], false);
    assert_eq!(report["results"][0]["result"]["unexpected_count"], 10);
}

#[test]
fn a_suite_that_cannot_be_put_to_work_says_why() {
    let reason = |text: &str| {
        let text = format!(r#"{{"name":"s","expectations":[{text}]}}"#);
        match Suite::parse(text.as_bytes()) {
            Ok(suite) => run(&[good(5)], &suite).0.unwrap_err().to_string(),
            Err(reason) => reason,
        }
    };
    for (expectation, words) in [
        (
            r#"{"type":"expect_magic","kwargs":{}}"#,
            "there is no expectation `expect_magic`",
        ),
        (
            r#"{"type":"expect_column_values_to_be_unique","kwargs":{"column":"x"}}"#,
            "there is no column `x`",
        ),
        (
            r#"{"type":"expect_column_values_to_be_unique","kwargs":{"column":"click","colour":1}}"#,
            "does not take `colour`",
        ),
        (
            r#"{"type":"expect_column_values_to_be_between","kwargs":{"column":"click"}}"#,
            "needs `min_value`",
        ),
        (r#"{"type":5}"#, "the suite is not one"),
    ] {
        let found = reason(expectation);
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn bits_are_given_back_as_they_were_pushed() {
    let mut bits = Bits::default();
    (0..200).for_each(|n| bits.push(n % 7 == 0));
    assert!((0..200).all(|n| bits.get(n) == (n % 7 == 0)) && !bits.get(5000));
}
