//! `tidegate new`: a function to start from, in a folder that needs nothing but public packages.
//!
//! The contract (`wit/`) and, for Rust, the SDK are part of this program and written into the folder: they fit this
//! host, and the folder builds wherever it lies.

mod files;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::text;
use files::{File, of};

/// Makes a folder with a function to start from
#[derive(Args)]
pub struct New {
    /// The function's name, and the folder's
    name: String,
    /// The language that it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Python,
    Js,
}

impl New {
    pub(super) fn run(self) -> Result<()> {
        let name = &self.name;
        if !tidegate_runtime::manifest::is_name(name) {
            bail!(
                "found the name `{}`, expected 1 to 63 lower-case letters, digits, `-` and `_`, starting with a letter",
                text::tame(name)
            );
        }
        let folder = Path::new(name);
        std::fs::create_dir(folder).with_context(|| format!("cannot make the folder `{name}`"))?;
        for file in of(self.lang) {
            write(folder, &file, name)?;
        }
        text::say(&format!(
            "wrote `{name}/`, a function in {}. Build it, and try it out on a host (`tidegate up` runs one):\n\n{}\n",
            self.lang.shown(),
            self.lang.steps(name)
        ))
    }
}

impl Language {
    fn shown(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::Js => "JavaScript",
        }
    }

    /// The commands from the folder to an answer, one a line.
    fn steps(self, name: &str) -> String {
        let build: &[&str] = match self {
            Self::Rust => &[
                "rustup target add wasm32-wasip2",
                "cargo test",
                "cargo build --release --target wasm32-wasip2",
            ],
            Self::Python => &[
                "python3 -m venv .venv",
                ". .venv/bin/activate",
                "pip install --quiet componentize-py==0.25.1",
                "python3 -m unittest",
                "componentize-py --wit-path wit --world app componentize app -o {{name}}.wasm",
            ],
            Self::Js => &["npm install --silent", "npm test", "npm run build"],
        };
        let run = [
            "tidegate check",
            "tidegate deploy",
            "tidegate invoke {{name}} --data '{\"name\": \"ada\"}'",
            "tidegate logs",
        ];
        let steps = ["cd {{name}}"].iter().chain(build).chain(&run);
        let lines: Vec<String> = steps.map(|step| format!("    {}", filled(step, name))).collect();
        lines.join("\n")
    }
}

fn write(folder: &Path, file: &File, name: &str) -> Result<()> {
    let path = folder.join(file.path);
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&path, filled(file.text, name)));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

/// A template with its blanks filled.
fn filled(text: &str, name: &str) -> String {
    text.replace("{{name}}", name)
        .replace("{{crate}}", &name.replace('-', "_"))
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
}
