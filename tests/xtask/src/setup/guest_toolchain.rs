//! The compiler for functions: something that builds `wasm32-wasip2`, std included.
//!
//! Three ways, the first that works: the toolchain at hand already has the target; rustup adds it; Debian's
//! own compiler builds std on the spot, which needs nothing but Debian packages and crates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::target_dir::{Folders, non_empty};
use super::tools;

/// The target all functions are built for.
pub const TARGET: &str = "wasm32-wasip2";

const DEBIAN_PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19", "wasi-libc"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_WASM_LD: &str = "/usr/bin/wasm-ld-19";
const DEBIAN_STD_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";
const DEBIAN_WASI_LIBC: &str = "/usr/lib/wasm32-wasi";
const RUSTUP_PATIENCE: Duration = Duration::from_secs(60);

/// A way to compile functions.
#[derive(Debug, Clone)]
pub enum GuestToolchain {
    /// The toolchain that builds the host also has the target.
    Installed,
    /// Debian's compiler, with std built along; `linker` is a `wasm-component-ld`.
    Debian {
        /// Path of the linker that turns a module into a component.
        linker: PathBuf,
    },
}

impl GuestToolchain {
    /// Finds a way, or makes one.
    pub fn find(folders: &Folders) -> Result<Self> {
        let forced = non_empty("TIDEGATE_GUEST_TOOLCHAIN");
        match forced.as_deref() {
            None => Self::rustup().or_else(|reason| {
                tools::note(&format!("{reason:#}"));
                tools::note("taking the compiler from Debian's packages, which builds std on the spot");
                Self::debian(folders)
            }),
            Some("rustup") => Self::rustup(),
            Some("debian") => Self::debian(folders),
            Some(other) => {
                bail!("`TIDEGATE_GUEST_TOOLCHAIN` is `{other}`; allowed are `rustup` and `debian`")
            }
        }
    }

    /// A `cargo` that builds for [`TARGET`] into the guests' own target folder.
    pub fn cargo(&self, subcommand: &str, folders: &Folders) -> Command {
        let mut command = match self {
            Self::Installed => tools::cargo(),
            Self::Debian { .. } => Command::new(DEBIAN_CARGO),
        };
        command
            .arg(subcommand)
            .args(["--target", TARGET])
            .env("CARGO_TARGET_DIR", &folders.guests);
        if let Self::Debian { linker } = self {
            forget_rustup(&mut command);
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC", DEBIAN_RUSTC)
                .env(
                    "RUSTC_BOOTSTRAP",
                    non_empty("RUSTC_BOOTSTRAP").unwrap_or_else(|| "1".to_owned()),
                )
                .env("CARGO_TARGET_WASM32_WASIP2_LINKER", linker)
                .env("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", debian_rustflags());
        }
        command
    }

    /// How this way reads in a log.
    pub fn describe(&self) -> String {
        match self {
            Self::Installed => format!("the Rust toolchain at hand has `{TARGET}`"),
            Self::Debian { linker } => {
                format!(
                    "`{DEBIAN_CARGO}` from Debian with std built on the spot, linking by `{}`",
                    linker.display()
                )
            }
        }
    }

    fn rustup() -> Result<Self> {
        if has_std()? {
            return Ok(Self::Installed);
        }
        if tools::which("rustup").is_none() {
            bail!("the Rust toolchain at hand has no std for `{TARGET}`, and there is no rustup to add it");
        }
        tools::note(&format!("running `rustup target add {TARGET}`"));
        let mut add = Command::new("rustup");
        add.args(["target", "add", TARGET]);
        if tools::succeeds_within(&mut add, RUSTUP_PATIENCE) && has_std()? {
            return Ok(Self::Installed);
        }
        bail!("`rustup target add {TARGET}` did not work; it may be offline")
    }

    fn debian(folders: &Folders) -> Result<Self> {
        let needed = [
            DEBIAN_CARGO,
            DEBIAN_RUSTC,
            DEBIAN_WASM_LD,
            DEBIAN_STD_SOURCE,
            DEBIAN_WASI_LIBC,
        ];
        if needed.iter().any(|path| !Path::new(path).exists()) {
            tools::apt_install(&DEBIAN_PACKAGES, &format!("building functions for `{TARGET}`"))?;
        }
        if let Some(lacking) = needed.iter().find(|path| !Path::new(path).exists()) {
            bail!("Debian's packages are installed, and `{lacking}` is still missing");
        }
        Ok(Self::Debian {
            linker: component_linker(folders)?,
        })
    }
}

fn has_std() -> Result<bool> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    // A compiler that does not know the target at all says so by failing.
    let Ok(folder) = tools::output(rustc.args(["--print", "target-libdir", "--target", TARGET])) else {
        return Ok(false);
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(false);
    };
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

/// `wasm-component-ld`: rustup's toolchains carry one, crates.io has it otherwise.
fn component_linker(folders: &Folders) -> Result<PathBuf> {
    let name = "wasm-component-ld";
    let sysroot = tools::output(Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    let host_tools = Path::new(&sysroot).join("lib/rustlib");
    let carried = std::fs::read_dir(host_tools).into_iter().flatten().flatten();
    if let Some(found) = carried
        .map(|host| host.path().join("bin").join(name))
        .find(|file| file.is_file())
    {
        return Ok(found);
    }
    if let Some(found) = tools::which(name) {
        return Ok(found);
    }
    let root = folders.cache.join("tools");
    let installed = root.join("bin").join(name);
    if !installed.is_file() {
        tools::note(&format!("building `{name}` from crates.io, about a minute"));
        let mut install = tools::cargo();
        install
            .args(["install", "--quiet", "--locked", name, "--root"])
            .arg(&root);
        tools::run(install.env("CARGO_TARGET_DIR", folders.target.join("tools")))
            .with_context(|| format!("cannot build the linker `{name}`"))?;
    }
    Ok(installed)
}

fn debian_rustflags() -> String {
    format!("-Clink-self-contained=no -Lnative={DEBIAN_WASI_LIBC} -Clink-arg=--wasm-ld-path={DEBIAN_WASM_LD}")
}

/// What rustup's cargo put into our environment would send Debian's to the wrong compiler and libraries.
fn forget_rustup(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let cargo_own = name.starts_with("CARGO") && name != "CARGO_HOME" && !name.starts_with("CARGO_NET");
        let cargo_own = cargo_own && !name.starts_with("CARGO_REGISTR") && !name.starts_with("CARGO_HTTP");
        if cargo_own
            || name.starts_with("RUSTUP_")
            || ["RUSTC", "RUSTDOC", "LD_LIBRARY_PATH"].contains(&&*name)
        {
            // The target folder was set for this very command.
            if name != "CARGO_TARGET_DIR" {
                command.env_remove(&*name);
            }
        }
    }
}
