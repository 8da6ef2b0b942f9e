//! Lends compiled components to fresh hosts.
//!
//! A host keeps machine code in its own data folder, and every test begins with a fresh one. Compiling the
//! app takes ten seconds and more, so a copy of what any host compiled is kept beside the components. Names
//! hold the component's and the engine's digests, so that nothing stale is ever taken.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

/// Where a host keeps machine code, in its data folder.
const CACHE: &str = "cache";
/// Where the copies are kept, in the folder of components.
const KEPT: &str = ".compiled";
const SUFFIX: &str = "cwasm";
/// Copies of components that have changed since pile up to this number.
const MOST: usize = 64;

/// Gives a fresh data folder what other hosts have compiled.
pub(crate) fn lend(functions: &Path, data_dir: &Path) -> Result<()> {
    let cache = data_dir.join(CACHE);
    if cache.exists() {
        return Ok(());
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot make `{}`", cache.display()))?;
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close `{}` to others", cache.display()))?;
    copy_missing(&functions.join(KEPT), &cache)
}

/// Keeps what a host has compiled.
pub(crate) fn keep(functions: &Path, data_dir: &Path) -> Result<()> {
    let kept = functions.join(KEPT);
    fs::create_dir_all(&kept).with_context(|| format!("cannot make `{}`", kept.display()))?;
    copy_missing(&data_dir.join(CACHE), &kept)?;
    forget_oldest(&kept);
    Ok(())
}

fn copy_missing(from: &Path, to: &Path) -> Result<()> {
    // Nothing was kept yet, or nothing compiled.
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let place = to.join(&name);
        if entry.path().extension().is_none_or(|suffix| suffix != SUFFIX) || place.exists() {
            continue;
        }
        // By rename: other tests do the same at the same time.
        let fresh = to.join(format!("{}.{}", name.to_string_lossy(), std::process::id()));
        let copied = fs::copy(entry.path(), &fresh).and_then(|_| fs::rename(&fresh, &place));
        copied.with_context(|| format!("cannot copy `{}` to `{}`", entry.path().display(), to.display()))?;
    }
    Ok(())
}

fn forget_oldest(kept: &Path) {
    let Ok(entries) = fs::read_dir(kept) else { return };
    let written = |entry: &fs::DirEntry| {
        entry
            .metadata()
            .and_then(|meta| meta.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| (written(&entry), entry.path()))
        .collect();
    files.sort();
    for (_, file) in files.iter().take(files.len().saturating_sub(MOST)) {
        // Another test may have been quicker.
        let _ = fs::remove_file(file);
    }
}
