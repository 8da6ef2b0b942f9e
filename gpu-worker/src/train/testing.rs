//! What the tests of the trainers share: a session in memory, and tabular data that was made up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::column::writer::ColumnWriter;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::rng::Rng;
use crate::jobs::session::{JobError, Progress, Registered, Session, Variant};

/// A session in memory whose job is abandoned after a number of questions whether it is.
#[derive(Default)]
pub struct MemorySession {
    pub objects: Mutex<HashMap<String, Bytes>>,
    pub reported: Mutex<Option<Progress>>,
    pub registered: Mutex<Option<serde_json::Value>>,
    checkpoint: Mutex<Option<Bytes>>,
    questions: AtomicUsize,
    patience: Option<usize>,
}

impl MemorySession {
    pub fn until(&mut self, questions: usize) {
        self.questions = AtomicUsize::new(0);
        self.patience = Some(questions);
    }

    /// A session that has `data/d/train.parquet` and `data/d/validation.parquet`.
    pub fn with_tables(rows: [usize; 2]) -> Self {
        let session = Self::default();
        for (split, rows, seed) in [("train", rows[0], 1), ("validation", rows[1], 2)] {
            let key = format!("data/d/{split}.parquet");
            session
                .objects
                .lock()
                .unwrap()
                .insert(key, table(rows, seed).into());
        }
        session
    }
}

impl Session for MemorySession {
    fn read(&self, bucket: &str, key: &str) -> Result<Bytes, JobError> {
        let name = format!("{bucket}/{key}");
        let found = self.objects.lock().unwrap().get(&name).cloned();
        found.ok_or_else(|| JobError::Invalid(format!("object `{name}` does not exist")))
    }
    fn download(&self, bucket: &str, key: &str) -> Result<File, JobError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.read(bucket, key)?).unwrap();
        file.rewind().unwrap();
        Ok(file)
    }
    fn write(&self, bucket: &str, key: &str, content: Bytes) -> Result<(), JobError> {
        self.objects
            .lock()
            .unwrap()
            .insert(format!("{bucket}/{key}"), content);
        Ok(())
    }
    fn upload(&self, bucket: &str, key: &str, content: &File) -> Result<(), JobError> {
        let (mut content, mut bytes) = (content.try_clone().unwrap(), Vec::new());
        content.rewind().unwrap();
        content.read_to_end(&mut bytes).unwrap();
        self.write(bucket, key, bytes.into())
    }
    fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Vec<String>, JobError> {
        let objects = self.objects.lock().unwrap();
        let keys = objects
            .keys()
            .filter_map(|name| name.strip_prefix(&format!("{bucket}/")));
        let mut keys: Vec<String> = keys
            .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| *key > after))
            .map(str::to_owned)
            .collect();
        keys.sort_unstable();
        // As pages that are full come from a host.
        keys.truncate(2);
        Ok(keys)
    }
    fn model(&self, reference: &str) -> Result<Registered, JobError> {
        let (name, version) = reference.split_once('@').unwrap_or((reference, "1"));
        Ok(Registered {
            name: name.to_owned(),
            version: version.to_owned(),
            bucket: "models".to_owned(),
            key: format!("{name}/{version}.onnx"),
        })
    }
    fn register(&self, variant: &Variant<'_>) -> Result<u64, JobError> {
        *self.registered.lock().unwrap() = Some(serde_json::to_value(variant).unwrap());
        Ok(2)
    }
    fn load_checkpoint(&self) -> Result<Option<Bytes>, JobError> {
        Ok(self.checkpoint.lock().unwrap().clone())
    }
    fn save_checkpoint(&self, content: Bytes) -> Result<(), JobError> {
        *self.checkpoint.lock().unwrap() = Some(content);
        Ok(())
    }
    fn report(&self, progress: Progress) {
        *self.reported.lock().unwrap() = Some(progress);
    }
    fn abandoned(&self) -> bool {
        let asked = self.questions.fetch_add(1, Ordering::Relaxed);
        self.patience.is_some_and(|patience| asked >= patience)
    }
}

/// Rows of three features, of which `noise` says nothing: the label follows from where `x` and `y` are.
pub fn features(rows: usize, seed: u64) -> (Vec<[f32; 3]>, Vec<f32>) {
    let mut rng = Rng::derive(&[seed, 77]);
    let row = |_| {
        let (x, y) = (rng.normal() * 3.0, rng.uniform());
        let inside = (x > 0.0) != (y > 0.5);
        let label = if rng.uniform() < 0.1 { !inside } else { inside };
        ([x, y, rng.normal()], f32::from(u8::from(label)))
    };
    (0..rows).map(row).unzip()
}

/// Such rows as a Parquet file.
pub fn table(rows: usize, seed: u64) -> Vec<u8> {
    let (features, labels) = features(rows, seed);
    let column = |at: usize| features.iter().map(|row| row[at]).collect::<Vec<f32>>();
    columns(&[
        ("x", column(0)),
        ("noise", column(2)),
        ("y", column(1)),
        ("label", labels),
    ])
}

/// A Parquet file of columns of floats.
pub fn columns(columns: &[(&str, Vec<f32>)]) -> Vec<u8> {
    let fields: String = columns
        .iter()
        .map(|(name, _)| format!("required float {name};"))
        .collect();
    let schema = Arc::new(parse_message_type(&format!("message m {{ {fields} }}")).unwrap());
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, values) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let ColumnWriter::FloatColumnWriter(writer) = column.untyped() else {
            panic!("no column of floats");
        };
        writer.write_batch(values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    out
}
