//! Training sets that are not as they must be.

use std::fs::File;
use std::io::Seek;
use std::sync::Arc;

use parquet::column::writer::ColumnWriter;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::train::scaling::FEATURE_CLIP;
use crate::train::two_tower::tests::manifest;

/// A Parquet file of one column after another; ids are their row numbers.
fn parquet(columns: &[(&str, &[f32])]) -> File {
    let fields: String = columns
        .iter()
        .map(|(name, _)| format!("required float {name};"))
        .collect();
    write(
        &format!("message m {{ required int64 user_id; required int64 item_id; {fields} }}"),
        columns,
    )
}

fn write(schema: &str, columns: &[(&str, &[f32])]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let rows = columns.first().map_or(0, |(_, values)| values.len());
    let ids: Vec<i64> = (0..rows as i64).collect();
    let mut writer =
        SerializedFileWriter::new(file.try_clone().unwrap(), schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut values = columns.iter();
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::Int64ColumnWriter(ids_out) => ids_out.write_batch(&ids, None, None).unwrap(),
            ColumnWriter::FloatColumnWriter(out) => {
                out.write_batch(values.next().unwrap().1, None, None).unwrap()
            }
            _ => panic!("no such column here"),
        };
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    file.rewind().unwrap();
    file
}

fn refusal(columns: &[(&str, &[f32])]) -> String {
    Split::read("train", parquet(columns), &manifest())
        .unwrap_err()
        .to_string()
}

const LABEL: (&str, &[f32]) = ("label", &[0.0, 1.0]);

#[test]
fn rows_are_read_and_normalised() {
    let columns: &[(&str, &[f32])] = &[
        LABEL,
        ("user.rate", &[0.5, 0.7]),
        ("user.count", &[3.0, 1000.0]),
        ("item.rate", &[0.4, 0.9]),
    ];
    let split = Split::read("train", parquet(columns), &manifest()).unwrap();
    assert_eq!(
        (split.len(), &split.user_id[..], &split.item_id[..]),
        (2, &[0, 1][..], &[0, 1][..])
    );
    let near = |found: &[f32], wanted: &[f32]| found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(
        near(&split.user, &[0.0, 0.0, 1.0, FEATURE_CLIP]),
        "{:?}",
        split.user
    );
    assert!(near(&split.item, &[0.0, 0.5]), "{:?}", split.item);
}

#[test]
fn all_missing_columns_are_named_with_what_was_found() {
    let message = refusal(&[LABEL, ("user.rate", &[0.5, 0.7])]);
    assert!(
        message.contains("`train.parquet` lacks column(s) `user.count`, `item.rate`; found `user_id`"),
        "{message}"
    );
}

#[test]
fn a_number_that_is_none_is_named_with_its_place() {
    let columns: &[(&str, &[f32])] = &[
        LABEL,
        ("user.rate", &[0.5, 0.7]),
        ("user.count", &[3.0, f32::NAN]),
        ("item.rate", &[0.4, 0.9]),
    ];
    let message = refusal(columns);
    assert!(
        message.contains("has NaN in column `user.count`, row 1; only finite numbers are allowed"),
        "{message}"
    );
}

#[test]
fn labels_must_be_zero_and_one_and_both_occur() {
    let with = |label: &'static [f32]| {
        refusal(&[
            ("label", label),
            ("user.rate", &[0.5, 0.7]),
            ("user.count", &[3.0, 1.0]),
            ("item.rate", &[0.4, 0.9]),
        ])
    };
    assert!(with(&[0.0, 0.5]).contains("has `label` 0.5 in row 1, allowed are 0 and 1"));
    assert!(with(&[1.0, 1.0]).contains("has only label 1 in 2 rows, both classes are needed"));
    assert!(with(&[0.0, 0.0]).contains("has only label 0 in 2 rows"));
    let empty = refusal(&[
        ("label", &[]),
        ("user.rate", &[]),
        ("user.count", &[]),
        ("item.rate", &[]),
    ]);
    assert!(empty.contains("has no rows"), "{empty}");
}

#[test]
fn a_file_that_is_no_parquet_is_refused() {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"user_id,item_id\n1,2\n").unwrap();
    file.rewind().unwrap();
    let message = Split::read("validation", file, &manifest())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`validation.parquet` cannot be read"),
        "{message}"
    );
    assert!(Split::read("train", tempfile::tempfile().unwrap(), &manifest()).is_err());
}

#[test]
fn a_manifest_whose_lists_differ_in_length_is_refused() {
    let text = r#"{"dataset":"d","digest":"x","user_features":["a"],"item_features":[],
        "normalisation":{"user":{"mean":[],"std":[]},"item":{"mean":[],"std":[]}}}"#;
    let message = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(
        message.contains("has 1 user features but 0 means and 0 deviations"),
        "{message}"
    );
    assert!(
        Manifest::parse(b"{}")
            .unwrap_err()
            .to_string()
            .contains("`dataset.json` is malformed")
    );
}
