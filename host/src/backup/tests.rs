//! A back-up is restored as a whole, or refused with the reason.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tempfile::TempDir;
use tidegate_runtime::store::{Extent, Frozen, ObjectMeta, ObjectReader, Part, Refill, StoreError};

use super::*;

/// A store of some rows; blobs hold their own names.
struct Few(Vec<Part>);

struct Named(ObjectMeta);

#[async_trait]
impl ObjectReader for Named {
    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let name = self.0.key.as_bytes().iter();
        Ok(name.skip(offset as usize).take(len).copied().collect())
    }
}

#[async_trait]
impl Frozen for Few {
    fn layout(&self) -> &'static str {
        "few-1"
    }

    fn moment(&self) -> u64 {
        1_700_000_000_000
    }

    async fn next(&mut self) -> Result<Option<Part>, StoreError> {
        Ok(self.0.pop())
    }

    async fn blob(&self, name: &str) -> Result<Arc<dyn ObjectReader>, StoreError> {
        Ok(Arc::new(Named(ObjectMeta {
            key: name.to_owned(),
            size: name.len() as u64,
            etag: String::new(),
            content_type: None,
            modified: 0,
            sequencer: 0,
            user: Default::default(),
        })))
    }
}

/// What a store took in, in order.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Refill for Taken {
    async fn rows(&mut self, rows: Vec<String>) -> Result<(), StoreError> {
        self.0.lock().unwrap().extend(rows);
        Ok(())
    }

    async fn blob(&mut self, name: &str, bytes: Extent<'_>) -> Result<(), StoreError> {
        let file = std::fs::read(bytes.file).unwrap();
        let (from, len) = (bytes.offset as usize, bytes.len as usize);
        let text = String::from_utf8_lossy(&file[from..from + len]).into_owned();
        self.0.lock().unwrap().push(format!("{name}={text}"));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.0.lock().unwrap().push("finished".into());
        Ok(())
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

async fn written(folder: &Path) -> (PathBuf, Vec<u8>) {
    let parts = vec![
        Part {
            rows: texts(["third"]),
            blobs: texts(["c"]),
        },
        Part {
            rows: texts(["first", "second"]),
            blobs: texts(["a", "bb"]),
        },
    ];
    let pieces: Vec<_> = stream(Box::new(Few(parts))).collect().await;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap()).collect();
    let file = folder.join("back-up.tar");
    std::fs::write(&file, &bytes).unwrap();
    (file, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_what_a_store_takes_in() {
    let folder = TempDir::new().unwrap();
    let (file, _) = written(folder.path()).await;
    let summary = check(&file).unwrap();
    assert_eq!(
        (summary.store.as_str(), summary.parts, summary.rows, summary.blobs),
        ("few-1", 2, 3, 3)
    );
    let taken = Taken::default();
    restore(&file, Box::new(taken.clone())).await.unwrap();
    let taken = taken.0.lock().unwrap();
    assert_eq!(
        *taken,
        ["first", "second", "a=a", "bb=bb", "third", "c=c", "finished"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_up_that_was_broken_off_anywhere_is_refused() {
    let folder = TempDir::new().unwrap();
    let (file, bytes) = written(folder.path()).await;
    // The last entry is a block and its head, and two empty blocks follow it.
    let whole = bytes.len() - 4 * 512;
    for len in (0..=whole).step_by(128) {
        std::fs::write(&file, &bytes[..len]).unwrap();
        let refused = check(&file).unwrap_err();
        assert!(matches!(refused, Unreadable::BrokenOff(_)), "{len}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_not_what_was_written_is_found_and_named() {
    let folder = TempDir::new().unwrap();
    let (file, bytes) = written(folder.path()).await;
    let changed = |of: &[u8], to: &[u8]| {
        let at = bytes.windows(of.len()).position(|window| window == of).unwrap();
        let mut changed = bytes.clone();
        changed[at..at + to.len()].copy_from_slice(to);
        std::fs::write(&file, changed).unwrap();
        check(&file).unwrap_err().to_string()
    };
    let row = changed(b"second", b"secind");
    assert!(
        row.contains("`rows/00000001.jsonl` is not what was written"),
        "{row}"
    );
    let last = changed(b"\"rows\":3", b"\"rows\":x");
    assert!(last.contains("damaged") && last.contains("backup.json"), "{last}");
    let format = changed(b"\"format\":1", b"\"format\":9");
    assert!(format.contains("has format 9, this tidegate reads 1"), "{format}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_breaks_its_back_up_off() {
    struct Failing;

    #[async_trait]
    impl Frozen for Failing {
        fn layout(&self) -> &'static str {
            "failing-1"
        }

        fn moment(&self) -> u64 {
            0
        }

        async fn next(&mut self) -> Result<Option<Part>, StoreError> {
            Err(StoreError("gone".into()))
        }

        async fn blob(&self, _name: &str) -> Result<Arc<dyn ObjectReader>, StoreError> {
            Err(StoreError("gone".into()))
        }
    }

    let pieces: Vec<_> = stream(Box::new(Failing)).collect().await;
    assert!(pieces.last().unwrap().is_err());
}
