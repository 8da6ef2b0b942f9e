//! `tidegate package`: an app as the package of a Lambda function.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::text;
use crate::package::{Package, Sources};

/// Writes the package of a Lambda function: this host, an app with its components and their machine code
#[derive(Args)]
pub struct Pack {
    /// The app (`tidegate.toml`)
    manifest: PathBuf,
    /// The configuration of the host in it, whose store is in AWS
    #[arg(long)]
    config: PathBuf,
    /// The zip file
    #[arg(long, default_value = "lambda.zip")]
    out: PathBuf,
    /// The program that becomes its `bootstrap` [default: this one]
    #[arg(long)]
    bootstrap: Option<PathBuf>,
    /// A folder searched for components, after the manifest's own; may be repeated
    #[arg(long, env = "TIDEGATE_COMPONENTS", value_delimiter = ':')]
    components: Vec<PathBuf>,
}

impl Pack {
    pub(super) fn run(self) -> Result<()> {
        let bootstrap = match self.bootstrap {
            Some(given) => given,
            None => std::env::current_exe().context("cannot tell where this program lies")?,
        };
        let package = Package::gather(&Sources {
            manifest: self.manifest,
            components: self.components,
            config: self.config,
            bootstrap,
        })?;
        let out = self.out.display();
        let file = File::create(&self.out).with_context(|| format!("cannot write `{out}`"))?;
        package.write(BufWriter::new(file))?;
        let (files, bytes) = package
            .contents()
            .fold((0, 0), |(files, bytes), (_, len)| (files + 1, bytes + len));
        let zipped = std::fs::metadata(&self.out)?.len() as f64 / 1e6;
        let unzipped = bytes as f64 / 1e6;
        text::say(&format!(
            "{out}: {zipped:.1} MB, {unzipped:.1} MB in {files} files when unpacked\n"
        ))
    }
}
