//! The files of a new function, as this program carries them.

use super::Language;

/// A file, with blanks for the function's name.
pub(super) struct File {
    /// Its path in the folder.
    pub(super) path: &'static str,
    /// Its text.
    pub(super) text: &'static str,
}

/// Files of this repository at a place of the new folder.
macro_rules! files {
    ($from:literal => $to:literal: $($name:literal),* $(,)?) => {
        [$(File {
            path: concat!($to, $name),
            text: include_str!(concat!("../../../../", $from, $name)),
        }),*]
    };
}

/// The whole contract: the Rust SDK is made for all of it.
const CONTRACT: [File; 10] = files!("wit/" => "wit/":
    "config.wit", "events.wit", "features.wit", "inference.wit", "jobs.wit", "log.wit", "objects.wit", "state.wit",
    "types.wit", "world.wit");

const SDK: [File; 13] = files!("functions/sdk/src/" => "vendor/tidegate-sdk/src/":
    "blocking.rs", "config.rs", "events.rs", "failure.rs", "features.rs", "inference.rs", "jobs.rs", "lib.rs",
    "log.rs", "objects.rs", "prelude.rs", "search.rs", "state.rs");

const RUST: [File; 4] = [
    template("Cargo.toml", include_str!("../../../templates/rust/package.toml")),
    template("src/lib.rs", include_str!("../../../templates/rust/lib.rs")),
    template(
        "tidegate.toml",
        include_str!("../../../templates/rust/tidegate.toml"),
    ),
    template(
        "vendor/tidegate-sdk/Cargo.toml",
        include_str!("../../../templates/rust/sdk.toml"),
    ),
];

/// What a world of its own may `import`; the world names what this function does.
const INTERFACES: [File; 9] = files!("wit/" => "wit/":
    "config.wit", "events.wit", "features.wit", "inference.wit", "jobs.wit", "log.wit", "objects.wit", "state.wit",
    "types.wit");

const PYTHON: [File; 5] = [
    template("app.py", include_str!("../../../templates/python/app.py")),
    template(
        "greeting.py",
        include_str!("../../../templates/python/greeting.py"),
    ),
    template(
        "test_greeting.py",
        include_str!("../../../templates/python/test_greeting.py"),
    ),
    template(
        "tidegate.toml",
        include_str!("../../../templates/python/tidegate.toml"),
    ),
    template(
        "wit/world.wit",
        include_str!("../../../templates/python/world.wit"),
    ),
];

const JS: [File; 6] = [
    template("app.js", include_str!("../../../templates/js/app.js")),
    template("greeting.js", include_str!("../../../templates/js/greeting.js")),
    template(
        "greeting.test.js",
        include_str!("../../../templates/js/greeting.test.js"),
    ),
    template("package.json", include_str!("../../../templates/js/package.json")),
    template(
        "tidegate.toml",
        include_str!("../../../templates/js/tidegate.toml"),
    ),
    template("wit/world.wit", include_str!("../../../templates/js/world.wit")),
];

/// Stores that a function of JavaScript can call: the engine cannot call what is `async`.
const KEYVALUE: [File; 1] = files!("host/runtime/wit/deps/wasi-keyvalue@0.2.0-draft2/" => "wit/deps/wasi-keyvalue/":
    "store.wit");

const fn template(path: &'static str, text: &'static str) -> File {
    File { path, text }
}

/// Every file of a function in this language.
pub(super) fn of(language: Language) -> Vec<File> {
    match language {
        Language::Rust => RUST.into_iter().chain(CONTRACT).chain(SDK).collect(),
        Language::Python => PYTHON.into_iter().chain(INTERFACES).collect(),
        Language::Js => JS.into_iter().chain(INTERFACES).chain(KEYVALUE).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_new_rust_function_has_all_of_the_contract_and_of_the_sdk() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let carried: BTreeSet<_> = of(Language::Rust)
            .iter()
            .map(|file| file.path.to_owned())
            .collect();
        for (from, to) in [("wit", "wit"), ("functions/sdk/src", "vendor/tidegate-sdk/src")] {
            for entry in std::fs::read_dir(root.join(from)).unwrap() {
                let path = format!("{to}/{}", entry.unwrap().file_name().to_string_lossy());
                assert!(carried.contains(&path), "`{path}` is not carried");
            }
        }
    }

    #[test]
    fn manifests_of_new_functions_are_good_ones() {
        for language in [Language::Rust, Language::Python, Language::Js] {
            let files = of(language);
            let manifest = files.iter().find(|file| file.path == "tidegate.toml").unwrap();
            let text = super::super::filled(manifest.text, "my-first");
            tidegate_runtime::manifest::Manifest::parse(&text, "tidegate.toml").unwrap();
        }
    }
}
