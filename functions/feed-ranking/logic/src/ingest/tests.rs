//! Whole files taken in, in every format, good and bad.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::table::{InteractionsReader, MemoryStage, read_items};

fn object(key: &str) -> SourceObject {
    SourceObject {
        bucket: "data".into(),
        key: key.into(),
        etag: "e1".into(),
    }
}

fn take(key: &str, content: impl Into<Vec<u8>>) -> (Result<Outcome, IngestError>, MemoryStage) {
    let mut stage = MemoryStage::default();
    let bytes = Arc::new(Bytes::from(content.into()));
    let outcome = ingest(bytes, &object(key), &Settings::default(), &mut stage);
    (outcome, stage)
}

fn ready(key: &str, content: impl Into<Vec<u8>>) -> (DataReady, MemoryStage) {
    match take(key, content) {
        (Ok(Outcome::Interactions(ready)), stage) => (ready, stage),
        (other, _) => panic!("{other:?}"),
    }
}

fn reason(key: &str, content: impl Into<Vec<u8>>) -> String {
    match take(key, content).0 {
        Err(IngestError::Rejected(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn rows(stage: &MemoryStage, ready: &DataReady) -> Vec<String> {
    let mut rows = Vec::new();
    for file in &ready.files {
        let source = Arc::new(Bytes::from(stage.objects[&file.key].clone()));
        let mut reader = InteractionsReader::open(source).unwrap();
        while let Some(batch) = reader.next_batch(1000).unwrap() {
            rows.extend(batch.rows().map(|row| format!("{row:?}")));
        }
    }
    rows
}

const CSV: &str = "user_id,item_id,timestamp,category,device,click,like,share,dwell_seconds\n\
    1,10,1700000000,sport,phone,1,0,0,12.5\n\
    2,20,1700100000,music,desktop,0,0,0,\n\
    3,30,1700100001,\"a,b\",phone,1,1,0,3\n";

#[test]
fn the_same_rows_come_out_of_csv_json_lines_and_parquet() {
    let (from_csv, csv_stage) = ready("raw/a.csv", CSV);
    assert_eq!((from_csv.rows, from_csv.skipped, from_csv.files.len()), (3, 0, 2));
    assert!(
        from_csv.files[0]
            .key
            .ends_with("/date=2023-11-14/part-000.parquet")
    );
    let wanted = rows(&csv_stage, &from_csv);
    assert!(wanted[2].contains("Some(\"a,b\")") && wanted[1].contains("dwell_seconds: None"));

    let json = r#"{"user_id":1,"item_id":"10","timestamp":"2023-11-14T22:13:20Z","category":"sport","device":"phone","click":true,"like":0,"share":0,"dwell_seconds":12.5}
{"x":{"y":[1]},"user_id":2,"item_id":20,"timestamp":1700100000,"category":"music","device":"desktop","click":0,"like":0,"share":0,"dwell_seconds":null}

{"user_id":3,"item_id":30,"timestamp":1700100001000,"category":"a,b","device":"phon\u0065","click":1,"like":1,"share":0,"dwell_seconds":3}"#;
    let (from_json, json_stage) = ready("raw/a.jsonl", json);
    assert_eq!(rows(&json_stage, &from_json), wanted);

    let parquet = csv_stage.objects[&from_csv.files[1].key].clone();
    let (from_parquet, parquet_stage) = ready("raw/a.parquet", parquet);
    assert_eq!(rows(&parquet_stage, &from_parquet), wanted[1..]);
}

#[test]
fn ratings_become_clicks_and_films_become_the_catalogue() {
    let (ready, stage) = ready(
        "raw/ratings.csv",
        "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,32,4.0,1260759179\n",
    );
    let rows = rows(&stage, &ready);
    assert!(
        rows[0].contains("click: Some(0)") && rows[1].contains("click: Some(1)"),
        "{rows:?}"
    );
    let films = "movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n11,\"American President, The (1995)\",Drama\n";
    let (outcome, stage) = take("raw/movies.csv", films);
    assert!(matches!(outcome, Ok(Outcome::Catalog(ready)) if ready.rows == 2));
    let source = Arc::new(Bytes::from(stage.objects["catalog/items.parquet"].clone()));
    let items = read_items(source, 10).unwrap();
    assert_eq!(items[1].title.as_deref(), Some("American President, The (1995)"));
}

#[test]
fn malformed_rows_go_to_quarantine_with_line_and_reason() {
    let mut content = CSV.to_owned();
    for n in 0..20 {
        content += &format!("{n},1,1700000000,c,phone,0,0,0,1\n");
    }
    content += "abc,1,1700000000,c,phone,0,0,0,1\n5,1\n6,1,tomorrow,c,phone,0,0,0,1\n";
    let (ready, stage) = ready("raw/a.csv", content);
    assert_eq!((ready.rows, ready.skipped), (23, 3));
    let kept = &stage.objects[&format!("quarantine/{}/ingest.jsonl", ready.dataset)];
    let lines: Vec<serde_json::Value> = kept
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines[0]["line"], 25);
    assert_eq!(lines[0]["reason"], "`user_id` is `abc`, wanted is an integer");
    assert_eq!(lines[1]["reason"], "found 2 fields, wanted are 9");
    assert!(
        lines[2]["reason"]
            .as_str()
            .unwrap()
            .contains("`timestamp` is `tomorrow`")
    );
}

#[test]
fn bad_files_are_rejected_with_what_was_found_and_what_is_allowed() {
    for (key, content, words) in [
        ("raw/a.csv", "", ["raw/a.csv", "empty"]),
        (
            "raw/a.csv",
            "user_id,item_id,timestamp,click\n",
            ["raw/a.csv", "no rows"],
        ),
        (
            "raw/a.csv",
            "a,b\n1,2\n",
            ["found `a`, `b`", "allowed are `user_id`"],
        ),
        (
            "raw/a.csv",
            "user_id,item_id,timestamp\n1,2,3\n",
            ["no column for `click`", "`rating`"],
        ),
        (
            "raw/a.csv",
            "user_id,item_id,timestamp,click\n1,2,3,1\nx,2,3,1\n",
            ["1 of the first 2 rows", "20 %"],
        ),
        (
            "raw/a.jsonl",
            "{\"user_id\":1}\n",
            ["no column for `item_id`", "`movieId`"],
        ),
        (
            "raw/a.jsonl",
            "{oops\n",
            ["no line is a JSON object", "line 1: key must be a string"],
        ),
    ] {
        let reason = reason(key, content);
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    }
}

#[test]
fn an_unclosed_quote_ends_at_a_bound_and_not_with_the_file() {
    let mut content = b"user_id,item_id,timestamp,click\n1,2,\"3,1\n".to_vec();
    content.resize(32 << 20, b'x');
    assert!(reason("raw/a.csv", content).contains("quote"));
}

#[test]
fn a_parquet_file_cut_anywhere_is_rejected_and_never_a_panic() {
    let (ready, stage) = ready("raw/a.csv", CSV);
    let whole = stage.objects[&ready.files[1].key].clone();
    for len in (1..whole.len()).step_by(11) {
        let mut cut = whole[..len].to_vec();
        assert!(
            take("raw/a.parquet", cut.clone()).0.is_err(),
            "{len} bytes were accepted"
        );
        cut.extend_from_slice(b"PAR1");
        assert!(
            take("raw/a.parquet", cut).0.is_err(),
            "{len} bytes and magic were accepted"
        );
    }
}

#[test]
fn a_parquet_file_with_a_flipped_bit_is_read_or_rejected_and_never_a_panic() {
    let (ready, stage) = ready("raw/a.csv", CSV);
    let whole = stage.objects[&ready.files[1].key].clone();
    let (mut read, mut rejected) = (0, 0);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            match take("raw/a.parquet", flipped).0 {
                Ok(_) => read += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty(), "byte {at}, bit {bit}");
                    rejected += 1;
                }
            }
        }
    }
    assert!(read > 0 && rejected > 0, "{read} read, {rejected} rejected");
}

#[test]
fn the_dataset_id_changes_with_key_and_version() {
    let id = dataset_id(&object("raw/a.csv"));
    assert_eq!(id.len(), 16);
    assert_eq!(id, dataset_id(&object("raw/a.csv")));
    assert_ne!(id, dataset_id(&object("raw/b.csv")));
    assert_ne!(
        id,
        dataset_id(&SourceObject {
            etag: "e2".into(),
            ..object("raw/a.csv")
        })
    );
}

#[test]
fn movielens_goes_in_as_it_is() {
    let Some(folder) = shared() else { return };
    let ratings = std::fs::File::open(folder.join("data/ml-latest-small/ratings.csv")).unwrap();
    let mut stage = MemoryStage::default();
    let outcome = ingest(
        Arc::new(ratings),
        &object("raw/ratings.csv"),
        &Settings::default(),
        &mut stage,
    )
    .unwrap();
    let Outcome::Interactions(ready) = outcome else {
        panic!()
    };
    assert!(
        ready.rows > 100_000 && ready.skipped == 0 && ready.files.len() <= 64,
        "{ready:?}"
    );
    let films = std::fs::read(folder.join("data/ml-latest-small/movies.csv")).unwrap();
    assert!(matches!(take("raw/movies.csv", films).0, Ok(Outcome::Catalog(ready)) if ready.rows > 9_000));
}

fn shared() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared");
    let folder = PathBuf::from(std::env::var("TIDEGATE_SHARED").unwrap_or_else(|_| default.into()));
    folder
        .join("data/ml-latest-small/ratings.csv")
        .exists()
        .then_some(folder)
}
