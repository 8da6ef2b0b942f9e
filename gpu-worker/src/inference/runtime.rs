//! Finds and loads ONNX Runtime's library, once a process, when it is first needed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;

/// Names the library; set by the host from its configuration.
const SETTING: &str = "TIDEGATE_ORT";
/// Names the library for any program that uses it.
const COMMON: &str = "ORT_DYLIB_PATH";
/// Where the set-up puts the library, below the cache folder.
const CACHED: &str = "tidegate/onnxruntime/lib/libonnxruntime.so";

/// The process's ONNX Runtime; the error is for people and stays the same until the process ends.
pub fn environment() -> Result<&'static Environment, String> {
    static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();
    let loaded = ENVIRONMENT.get_or_init(|| {
        let library = find()?;
        load(&library).map_err(|e| format!("`{}` cannot be used as ONNX Runtime: {e}", library.display()))
    });
    loaded.as_ref().map_err(Clone::clone)
}

fn load(library: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(library).map_err(|e| e.to_string())?;
    builder
        .with_name("tidegate")
        .with_telemetry(false)
        .build()
        .map_err(|e| e.to_string())
}

/// The library's path: `TIDEGATE_ORT`, else `ORT_DYLIB_PATH`, else the cache folder.
pub fn find() -> Result<PathBuf, String> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    resolve(set(SETTING), set(COMMON), cache().map(|cache| cache.join(CACHED)))
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
}

fn resolve(
    setting: Option<PathBuf>,
    common: Option<PathBuf>,
    cached: Option<PathBuf>,
) -> Result<PathBuf, String> {
    let mut tried = Vec::new();
    let variables = [(SETTING, setting), (COMMON, common)];
    for (name, path) in variables {
        match path {
            Some(path) if path.exists() => return Ok(path),
            Some(path) => tried.push(format!(
                "`{name}` names `{}`, which does not exist",
                path.display()
            )),
            None => tried.push(format!("`{name}` is not set")),
        }
    }
    match cached {
        Some(path) if path.exists() => return Ok(path),
        Some(path) => tried.push(format!("`{}` does not exist", path.display())),
        None => {
            tried.push("there is no cache folder (neither `XDG_CACHE_HOME` nor `HOME` is set)".to_owned())
        }
    }
    Err(format!(
        "ONNX Runtime's library was not found: {}",
        tried.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_comes_first_then_the_common_variable_then_the_cache() {
        let here = |name: &str| Some(tempfile::env::temp_dir().join(name));
        let real = Some(std::env::current_exe().unwrap());
        assert_eq!(resolve(real.clone(), here("no"), None).ok(), real);
        assert_eq!(resolve(None, real.clone(), here("no")).ok(), real);
        assert_eq!(resolve(here("no"), None, real.clone()).ok(), real);
    }

    #[test]
    fn a_missing_library_is_told_with_all_three_places() {
        let message = resolve(Some("/nowhere/a.so".into()), None, Some("/nowhere/b.so".into())).unwrap_err();
        assert!(
            message.contains("`TIDEGATE_ORT` names `/nowhere/a.so`, which does not exist"),
            "{message}"
        );
        assert!(
            message.contains("`ORT_DYLIB_PATH` is not set") && message.contains("`/nowhere/b.so`"),
            "{message}"
        );
    }
}
