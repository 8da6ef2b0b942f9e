//! What is made of files, and made anew when one of them has changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// What tells one state of a file from another: the file itself, its size, and when it was written.
type Stamp = Option<(u64, u64, i64, i64)>;
type Make<T> = dyn Fn() -> Result<T> + Send + Sync;

/// What is made of files. Whoever needs it asks for it each time, which costs a look at each file.
pub struct Watched<T>(Arc<Inner<T>>);

struct Inner<T> {
    files: Vec<PathBuf>,
    make: Box<Make<T>>,
    made: Mutex<(Vec<Stamp>, Arc<T>)>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_tuple("Watched").field(&self.0.files).finish()
    }
}

impl<T> Watched<T> {
    /// Makes it for the first time.
    pub fn new(files: Vec<PathBuf>, make: impl Fn() -> Result<T> + Send + Sync + 'static) -> Result<Self> {
        let stamps = stamps(&files);
        let made = Mutex::new((stamps, Arc::new(make()?)));
        Ok(Self(Arc::new(Inner {
            files,
            make: Box::new(make),
            made,
        })))
    }

    /// What else is made of it, of the same files.
    pub fn then<U>(self, make: impl Fn(&T) -> Result<U> + Send + Sync + 'static) -> Result<Watched<U>>
    where
        T: Send + Sync + 'static,
    {
        let files = self.0.files.clone();
        Watched::new(files, move || make(&self.get()))
    }

    /// As the files say now. Where they make no sense, such as one of two that is not written yet, as they said before.
    pub fn get(&self) -> Arc<T> {
        let inner = &self.0;
        let now = stamps(&inner.files);
        let mut made = inner.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != now {
            match (inner.make)() {
                Ok(new) => {
                    tracing::info!(files = ?inner.files, "certificates are read again");
                    made.1 = Arc::new(new);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "certificates changed and are of no use; those before are kept"
                    );
                }
            }
            made.0 = now;
        }
        made.1.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let told = std::fs::metadata(file).ok()?;
        Some((told.ino(), told.len(), told.mtime(), told.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}
