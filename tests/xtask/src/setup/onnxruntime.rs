//! ONNX Runtime's shared library: given, found in the cache, or taken out of PyPI's `onnxruntime` wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::target_dir::{Folders, non_empty};
use super::tools;

/// The release this project was tried with, and any it can do with.
const REQUIREMENTS: [&str; 2] = ["onnxruntime==1.31.*", "onnxruntime>=1.24,<2"];
const LIBRARY: &str = "libonnxruntime.so";

/// The library's path, fetched when this machine has none.
pub fn find(folders: &Folders) -> Result<PathBuf> {
    for name in ["TIDEGATE_ORT", "ORT_DYLIB_PATH"] {
        let Some(given) = non_empty(name) else { continue };
        if !Path::new(&given).is_file() {
            bail!("`{name}` names `{given}`, which is no file");
        }
        return Ok(PathBuf::from(given));
    }
    let home = folders.cache.join("onnxruntime");
    let library = home.join("lib").join(LIBRARY);
    if !library.is_file() {
        fetch(&home, &library).context(
            "cannot get ONNX Runtime; set `TIDEGATE_ORT` to the path of a `libonnxruntime.so`, 1.24 or later",
        )?;
    }
    Ok(library)
}

fn fetch(home: &Path, library: &Path) -> Result<()> {
    if !has_pip() {
        tools::apt_install(&["python3", "python3-pip"], "getting ONNX Runtime from PyPI")?;
    }
    let scratch = home.join(format!("fetch-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make `{}`", scratch.display()))?;
    let fetched = fetch_into(&scratch, library);
    // Whatever became of it, the wheel is of no more use.
    let _ = std::fs::remove_dir_all(&scratch);
    fetched
}

fn fetch_into(scratch: &Path, library: &Path) -> Result<()> {
    tools::note("fetching ONNX Runtime: PyPI's `onnxruntime` wheel, about 25 MB");
    let [wanted, any] = REQUIREMENTS;
    download(scratch, wanted).or_else(|first| {
        tools::note(&format!(
            "`{wanted}` is not to be had ({first:#}); trying `{any}`"
        ));
        download(scratch, any)
    })?;
    let wheel = entry(scratch, |name| name.ends_with(".whl"))?.context("pip left no wheel behind")?;
    tools::output(python().args(["-m", "zipfile", "-e"]).arg(&wheel).arg(scratch))?;
    let capi = scratch.join("onnxruntime/capi");
    let found = entry(&capi, |name| name.starts_with(LIBRARY))?
        .with_context(|| format!("the wheel holds no `{LIBRARY}`"))?;
    if let Some(folder) = library.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    // By rename, so that a library under this name is always whole.
    std::fs::rename(&found, library)
        .with_context(|| format!("cannot put `{}` in its place", library.display()))
}

fn download(scratch: &Path, requirement: &str) -> Result<()> {
    let mut pip = python();
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]);
    pip.args(["--only-binary", ":all:", "--dest"])
        .arg(scratch)
        .arg(requirement);
    tools::output(&mut pip).map(drop)
}

fn has_pip() -> bool {
    tools::output(python().args(["-m", "pip", "--version"])).is_ok()
}

fn python() -> Command {
    Command::new("python3")
}

fn entry(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    Ok(entries
        .flatten()
        .find(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path()))
}
