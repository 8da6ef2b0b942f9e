//! What a guest prints: kept up to a bound until it becomes log lines.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes that are kept of what one invocation prints.
const KEPT: usize = 64 << 10;

/// The standard output, or the standard error, of one instance.
#[derive(Clone, Default)]
pub(super) struct Printed(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Bytes beyond the bound, which are not kept.
    missing: usize,
}

impl Printed {
    /// Takes the lines that were printed since they were taken last.
    pub(super) fn take_lines(&self) -> Vec<String> {
        let Kept { bytes, missing } = std::mem::take(&mut *self.kept());
        let text = String::from_utf8_lossy(&bytes);
        let more = (missing > 0).then(|| format!("... and {missing} more bytes"));
        text.lines().map(str::to_owned).chain(more).collect()
    }

    fn print(&self, printed: &[u8]) {
        let mut kept = self.kept();
        let room = printed.len().min(KEPT - kept.bytes.len());
        let (fits, rest) = printed.split_at(room);
        kept.bytes.extend_from_slice(fits);
        kept.missing += rest.len();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(KEPT)
    }
}

#[async_trait::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, printed: &[u8]) -> Poll<io::Result<usize>> {
        self.print(printed);
        Poll::Ready(Ok(printed.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_told_but_not_kept() {
        let printed = Printed::default();
        printed.print(b"one\ntwo\n");
        printed.print(&vec![b'x'; KEPT]);
        let lines = printed.take_lines();
        assert_eq!((lines[0].as_str(), lines[1].as_str()), ("one", "two"));
        assert_eq!(lines[3], "... and 8 more bytes");
        assert!(printed.take_lines().is_empty());
    }
}
