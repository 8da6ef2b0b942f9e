//! `cargo xtask functions`: builds functions into components, gathered in one folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::Machine;
use crate::setup::guest_toolchain::{GuestToolchain, TARGET};
use crate::setup::target_dir::Folders;
use crate::setup::{tools, workspace_root};

const HELP: &str = "\
Builds functions into WebAssembly components and gathers them in <target>/functions.

Usage: cargo xtask functions [FOLDER]...

Without a folder: everything under functions/, the odd components of tests/guests, and the apps of tests/spin.
With folders: the packages in them, which need not be part of this workspace.
";

/// The workspace of apps that were written for Spin; its dependencies are not ours.
const SPIN_APPS: &str = "tests/spin";
/// Packages, and folders of packages, that hold functions.
const WORKSPACE_FUNCTIONS: [&str; 4] = ["functions", "functions/feed-ranking", "tests", "tests/guests"];

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let root = workspace_root()?;
    let folders = Folders::find()?;
    let guests = tools::step("looking for a compiler for functions", || {
        let found = GuestToolchain::find(&folders)?;
        tools::note(&found.describe());
        Ok(found)
    })?;
    if args.is_empty() {
        return build_all(&root, &folders, &guests, false);
    }
    for folder in args {
        let folder = std::path::absolute(folder).with_context(|| format!("`{folder}` is no usable path"))?;
        let package = Package::read(&folder)?
            .with_context(|| format!("`{}` has no Cargo.toml with a `cdylib`", folder.display()))?;
        // Members of this workspace share its profile for functions, others surely have `release`.
        let shares_profile = folder.starts_with(&root) && !folder.starts_with(root.join(SPIN_APPS));
        let profile = if shares_profile { "guest" } else { "release" };
        build_one(&folder, &package, profile, &folders, &guests)?;
    }
    Ok(())
}

/// Builds all functions of this workspace, and the apps that were written for Spin.
pub fn build(machine: &Machine) -> Result<()> {
    build_all(&machine.root, &machine.folders, &machine.guests, machine.locked)
}

fn build_all(root: &Path, folders: &Folders, guests: &GuestToolchain, locked: bool) -> Result<()> {
    let functions = packages(root, &WORKSPACE_FUNCTIONS)?;
    build_workspace(root, &functions, "guest", folders, guests, locked)?;
    let apps = packages(root, &[SPIN_APPS])?;
    build_workspace(&root.join(SPIN_APPS), &apps, "release", folders, guests, locked)
}

fn build_workspace(
    root: &Path,
    packages: &[Package],
    profile: &str,
    folders: &Folders,
    guests: &GuestToolchain,
    locked: bool,
) -> Result<()> {
    tools::step(&format!("building {} functions", packages.len()), || {
        let mut cargo = guests.cargo("build", folders);
        cargo.current_dir(root).args(["--profile", profile]);
        if locked {
            cargo.arg("--locked");
        }
        for package in packages {
            cargo.args(["--package", &package.name]);
        }
        tools::run(&mut cargo)?;
        gather(packages, profile, folders)
    })
}

fn build_one(
    folder: &Path,
    package: &Package,
    profile: &str,
    folders: &Folders,
    guests: &GuestToolchain,
) -> Result<()> {
    tools::step(&format!("building {}", package.name), || {
        tools::run(
            guests
                .cargo("build", folders)
                .current_dir(folder)
                .args(["--profile", profile]),
        )?;
        gather(std::slice::from_ref(package), profile, folders)
    })
}

/// Copies what was built to the one folder that hosts look in; by rename, as a host may be reading there.
fn gather(packages: &[Package], profile: &str, folders: &Folders) -> Result<()> {
    let to = folders.functions();
    std::fs::create_dir_all(&to).with_context(|| format!("cannot make `{}`", to.display()))?;
    for package in packages {
        let name = format!("{}.wasm", package.name.replace('-', "_"));
        let built = folders.guests.join(TARGET).join(profile).join(&name);
        let (fresh, place) = (to.join(format!(".{name}.new")), to.join(&name));
        std::fs::copy(&built, &fresh).with_context(|| format!("`{}` was not built", built.display()))?;
        std::fs::rename(&fresh, &place).with_context(|| format!("cannot replace `{}`", place.display()))?;
    }
    tools::note(&format!("components: {}", to.display()));
    Ok(())
}

/// A package that becomes a component.
struct Package {
    name: String,
}

impl Package {
    /// Reads the package of a folder; none when there is none, or when it is no component.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read `{}`", manifest.display()))?;
        if !text
            .lines()
            .any(|line| line.starts_with("crate-type") && line.contains("cdylib"))
        {
            return Ok(None);
        }
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .map(|name| name.trim().trim_matches('"'));
        let name = name.with_context(|| format!("`{}` names no package", manifest.display()))?;
        Ok(Some(Self {
            name: name.to_owned(),
        }))
    }
}

fn packages(root: &Path, parents: &[&str]) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for parent in parents {
        for folder in subfolders(&root.join(parent))? {
            packages.extend(Package::read(&folder)?);
        }
    }
    if packages.is_empty() {
        bail!("no function found under `{}`", root.display());
    }
    Ok(packages)
}

fn subfolders(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(parent).with_context(|| format!("cannot list `{}`", parent.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    Ok(found)
}
