//! The package of a Lambda function: the host, an app with its components and their machine code, a configuration.
//!
//! It is reproducible: the same input makes the same bytes, as every entry has one time and the names are sorted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Seek, Write};
use std::path::{Component as Part, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tidegate_runtime::deploy::{self, Deployable, Places, packaged_code};
use tidegate_runtime::sandbox::{Pool, Sandbox, portable_code};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::config::Config;

/// Where the host is in a package, by the name that Lambda starts.
pub const BOOTSTRAP: &str = "bootstrap";
/// Its configuration.
pub const CONFIG: &str = "config.toml";
/// The app.
pub const MANIFEST: &str = "tidegate.toml";
/// The folder of components.
pub const COMPONENTS: &str = "components";
/// The folder of their machine code.
pub const CODE: &str = "aot";

/// Instances of the engine that checks the components; none is made.
const INSTANCES: u32 = 1;

/// What goes into a package.
pub struct Sources {
    /// The app.
    pub manifest: PathBuf,
    /// Folders searched for components, after the manifest's own.
    pub components: Vec<PathBuf>,
    /// The configuration.
    pub config: PathBuf,
    /// The host.
    pub bootstrap: PathBuf,
}

/// A package, by the paths within it.
pub struct Package(BTreeMap<String, Vec<u8>>);

impl Package {
    /// Gathers a package; the mistakes of the manifest, its components and the configuration are told.
    pub fn gather(sources: &Sources) -> Result<Self> {
        if Config::load(&sources.config)?.store.is_embedded() {
            let config = sources.config.display();
            bail!(
                "{config}: `store.kind` is `\"embedded\"`, expected `\"aws\"`: a Lambda function keeps nothing"
            );
        }
        let mut entries = BTreeMap::from([
            (BOOTSTRAP.to_owned(), read(&sources.bootstrap)?),
            (CONFIG.to_owned(), read(&sources.config)?),
            (MANIFEST.to_owned(), read(&sources.manifest)?),
        ]);
        for function in checked(sources)? {
            let component = &function.spec.component;
            entries.insert(place(component)?, function.bytes.to_vec());
            let code = packaged_code(Path::new(CODE), &function.component.code.digest)
                .display()
                .to_string();
            if let Entry::Vacant(place) = entries.entry(code) {
                let compiled = portable_code(&function.bytes);
                place.insert(compiled.with_context(|| format!("component `{}`", component.display()))?);
            }
        }
        Ok(Self(entries))
    }

    /// Writes it as a zip file.
    pub fn write(&self, to: impl Write + Seek) -> Result<()> {
        let mut zip = ZipWriter::new(to);
        for (name, bytes) in &self.0 {
            let mode = if name == BOOTSTRAP { 0o755 } else { 0o644 };
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .last_modified_time(DateTime::default())
                .unix_permissions(mode);
            zip.start_file(name.as_str(), options)?;
            zip.write_all(bytes)?;
        }
        zip.finish()?;
        Ok(())
    }

    /// What is in it, with the bytes of each.
    pub fn contents(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.len()))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))
}

/// The app's functions, once each is sound.
fn checked(sources: &Sources) -> Result<Vec<Deployable>> {
    let sandbox = Sandbox::new(Pool {
        instances: INSTANCES,
        ..Pool::default()
    });
    let sandbox = sandbox.map_err(|error| anyhow::anyhow!("WebAssembly engine: {error:#}"))?;
    let places = Places {
        components: sources.components.clone(),
        ..Places::default()
    };
    let (_, functions) = deploy::load(&sandbox, &sources.manifest, &places)?;
    Ok(functions)
}

/// Where a component lies in a package, so that the manifest finds it as it is.
fn place(component: &Path) -> Result<String> {
    if !component
        .components()
        .all(|part| matches!(part, Part::Normal(_) | Part::CurDir))
    {
        bail!(
            "component `{}`: expected a path below the manifest's folder",
            component.display()
        );
    }
    let parts = component
        .components()
        .filter(|part| matches!(part, Part::Normal(_)));
    Ok(Path::new(COMPONENTS)
        .join(parts.collect::<PathBuf>())
        .display()
        .to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn zipped(entries: &[(&str, &str)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
        let mut written = Cursor::new(Vec::new());
        Package(entries.collect()).write(&mut written).unwrap();
        written.into_inner()
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let (one, other) = (("bootstrap", "host"), ("aot/x.cwasm", "code"));
        assert_eq!(zipped(&[one, other]), zipped(&[other, one]));
        let mut zip = zip::ZipArchive::new(Cursor::new(zipped(&[one, other]))).unwrap();
        let names: Vec<String> = zip.file_names().map(str::to_owned).collect();
        assert_eq!(names, ["aot/x.cwasm", "bootstrap"]);
        assert_eq!(
            zip.by_name("bootstrap")
                .unwrap()
                .unix_mode()
                .map(|mode| mode & 0o777),
            Some(0o755)
        );
    }

    #[test]
    fn a_component_lies_where_the_manifest_names_it() {
        assert_eq!(
            place(Path::new("./build/x.wasm")).unwrap(),
            "components/build/x.wasm"
        );
        let refused = place(Path::new("../x.wasm")).unwrap_err().to_string();
        assert_eq!(
            refused,
            "component `../x.wasm`: expected a path below the manifest's folder"
        );
    }
}
