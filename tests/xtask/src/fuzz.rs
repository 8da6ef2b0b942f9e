//! `cargo xtask fuzz`: lets libFuzzer look for bytes that the product does not stand.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::setup::target_dir::Folders;
use crate::setup::{tools, workspace_root};

const HELP: &str = "\
Fuzzes what takes bytes from outside, starting from the corpus in tests/fuzz/corpus. What it finds lies in the cache
folder and is printed; put it into the corpus with the fix.

Usage: cargo xtask fuzz TARGET [--seconds N]

  TARGET        manifest, event, component or s3
  --seconds N   how long (default: 60)

It needs a C++ compiler for libFuzzer. The first build is a long one: every crate is built anew, with coverage.
";

const TARGETS: [&str; 4] = ["manifest", "event", "component", "s3"];
/// What libFuzzer needs to see which code ran; `cargo fuzz` passes the same.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares";
/// Seconds for one input.
const SLOW: u32 = 30;

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let (target, seconds) = match args {
        [target] => (target, 60_u64),
        [target, flag, seconds] if flag == "--seconds" => {
            let seconds = seconds
                .parse()
                .with_context(|| format!("`{seconds}` is no number of seconds"))?;
            (target, seconds)
        }
        _ => bail!("`fuzz` takes a target and `--seconds N`"),
    };
    if !TARGETS.contains(&target.as_str()) {
        bail!("no target `{target}`; there are {}", TARGETS.join(", "));
    }
    let folders = Folders::find()?;
    let root = workspace_root()?;
    let host = host_triple()?;
    build(&root, &folders, &host)?;
    let found = folders.cache.join("fuzz").join(target);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make `{}`", found.display()))?;
    let program = folders
        .target
        .join("fuzz")
        .join(&host)
        .join("debug")
        .join(format!("fuzz-{target}"));
    tools::step(&format!("fuzzing {target} for {seconds} s"), || {
        let mut fuzz = std::process::Command::new(program);
        fuzz.arg(&found)
            .arg(root.join("tests/fuzz/corpus").join(target))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={SLOW}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", found.display()));
        tools::run(&mut fuzz)
    })
}

/// Build scripts and macros run without coverage, as the target is named.
fn build(root: &Path, folders: &Folders, host: &str) -> Result<()> {
    tools::step("building the fuzzers", || {
        let mut build = tools::cargo();
        build
            .args([
                "build",
                "--package",
                "tidegate-fuzz",
                "--features",
                "libfuzzer",
                "--bins",
            ])
            .args(["--target", host])
            .env("CARGO_TARGET_DIR", folders.target.join("fuzz"))
            .env("RUSTFLAGS", COVERAGE)
            .current_dir(root);
        tools::run(&mut build)
    })
}

fn host_triple() -> Result<String> {
    let version = tools::output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
