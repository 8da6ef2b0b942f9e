//! Writing: a stream of a tar file's bytes, which is broken off where the store fails.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::Stream;
use sha2::{Digest as _, Sha256};
use tidegate_runtime::store::{Frozen, ObjectReader, Part};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::format::{BLOCK, END, FORMAT, LAST, Summary, hex};

/// Pieces that are read ahead of whoever takes them.
const AHEAD: usize = 4;
/// Bytes of a blob that are read in one go.
const PIECE: usize = 4 << 20;

/// A back-up of a store, as the bytes of a file.
pub fn stream(frozen: Box<dyn Frozen>) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let (to, pieces) = channel(AHEAD);
    tokio::spawn(async move {
        let written = Writer::new(to.clone()).write(frozen).await;
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), "a back-up is broken off");
            // Whoever asked may have gone: then that is why.
            let _ = to.send(Err(error)).await;
        }
    });
    ReceiverStream::new(pieces)
}

struct Writer {
    to: Sender<Result<Bytes>>,
    /// The sums of the present part.
    sums: String,
    all_sums: Sha256,
    summary: Summary,
}

impl Writer {
    fn new(to: Sender<Result<Bytes>>) -> Self {
        Self {
            to,
            sums: String::new(),
            all_sums: Sha256::new(),
            summary: Summary {
                format: FORMAT,
                tidegate: env!("CARGO_PKG_VERSION").to_owned(),
                store: String::new(),
                moment: 0,
                parts: 0,
                rows: 0,
                blobs: 0,
                bytes: 0,
                sums: String::new(),
            },
        }
    }

    async fn write(mut self, mut frozen: Box<dyn Frozen>) -> Result<()> {
        frozen.layout().clone_into(&mut self.summary.store);
        self.summary.moment = frozen.moment();
        while let Some(part) = frozen.next().await? {
            self.part(part, frozen.as_ref()).await?;
        }
        self.summary.sums = hex(std::mem::take(&mut self.all_sums).finalize());
        let last = serde_json::to_vec(&self.summary)?;
        self.plain(LAST, last.into()).await?;
        self.send(Bytes::from_static(&END)).await
    }

    async fn part(&mut self, part: Part, frozen: &dyn Frozen) -> Result<()> {
        self.summary.parts += 1;
        self.summary.rows += part.rows.len() as u64;
        let number = self.summary.parts;
        let mut rows = part.rows.join("\n");
        rows.push('\n');
        self.summary.bytes += rows.len() as u64;
        let path = format!("rows/{number:08}.jsonl");
        self.note(&path, Sha256::digest(&rows));
        self.plain(&path, rows.into()).await?;
        for name in part.blobs {
            let blob = frozen.blob(&name).await?;
            self.blob(&format!("blobs/{name}"), blob).await?;
        }
        let sums = std::mem::take(&mut self.sums);
        self.all_sums.update(&sums);
        self.plain(&format!("sums/{number:08}.sha256"), sums.into()).await
    }

    /// Notes the digest of an entry, as `sha256sum` writes it.
    fn note(&mut self, path: &str, digest: impl AsRef<[u8]>) {
        self.sums.push_str(&format!("{}  {path}\n", hex(digest)));
    }

    async fn blob(&mut self, path: &str, blob: Arc<dyn ObjectReader>) -> Result<()> {
        let size = blob.meta().size;
        self.head(path, size).await?;
        let (mut at, mut digest) = (0, Sha256::new());
        while at < size {
            let piece = blob.read_at(at, PIECE).await?;
            ensure!(!piece.is_empty(), "`{path}` is cut short at {at}");
            at += piece.len() as u64;
            digest.update(&piece);
            self.send(piece).await?;
        }
        self.fill_up(size).await?;
        self.note(path, digest.finalize());
        self.summary.blobs += 1;
        self.summary.bytes += size;
        Ok(())
    }

    async fn plain(&mut self, path: &str, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        self.head(path, size).await?;
        self.send(bytes).await?;
        self.fill_up(size).await
    }

    async fn head(&self, path: &str, size: u64) -> Result<()> {
        let mut head = tar::Header::new_gnu();
        head.set_path(path)?;
        head.set_size(size);
        head.set_mode(0o600);
        head.set_mtime(self.summary.moment / 1000);
        head.set_cksum();
        self.send(Bytes::copy_from_slice(head.as_bytes())).await
    }

    async fn fill_up(&self, size: u64) -> Result<()> {
        let over = (size % BLOCK as u64) as usize;
        match over {
            0 => Ok(()),
            over => self.send(vec![0; BLOCK - over].into()).await,
        }
    }

    async fn send(&self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.to
            .send(Ok(bytes))
            .await
            .ok()
            .context("nobody takes it any more")
    }
}
