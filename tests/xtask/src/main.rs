//! `cargo xtask`: the one way to build, try and test Tidegate from a clean clone.
//!
//! One file per subcommand; `setup/` finds or makes what a machine lacks and says what it does.

mod bench;
mod build;
mod ci;
mod demo;
mod functions;
mod fuzz;
mod package;
mod setup;
mod sim;
mod test;

use anyhow::{Result, bail};

const HELP: &str = "\
Builds, tries and tests Tidegate from a clean clone; finds or makes what this machine lacks.

Usage: cargo xtask <COMMAND> [ARGS]

Commands:
  demo        run the whole pipeline once, from an uploaded file to an HTTPS prediction
  test        format, lints, build and every test
  functions   build the functions (WebAssembly components)
  bench       measure, beside the peers and the limits the project set itself
  package     write the package of a Lambda function
  sim         simulate the dispatcher with seeds: crashes, failing calls, deliveries that come twice
  fuzz        let libFuzzer look for bytes that the manifest, events, components or S3 do not stand
  ci          what CI runs: `test`, with output for a log and the lock file fixed

`cargo xtask <COMMAND> --help` says more.

Environment:
  TIDEGATE_TARGET_DIR        build outputs (default: $XDG_CACHE_HOME or ~/.cache, then tidegate/target)
  TIDEGATE_GUEST_TOOLCHAIN   `rustup` or `debian`: how functions are compiled (default: whichever works)
  TIDEGATE_ORT               path of libonnxruntime.so, 1.24 or later (default: fetched into the cache)
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = run(&args) {
        eprintln!("\nerror: {error:#}");
        std::process::exit(1);
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match command.as_str() {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "functions" => functions::run(rest),
        "bench" => bench::run(rest),
        "package" => package::run(rest),
        "sim" => sim::run(rest),
        "fuzz" => fuzz::run(rest),
        "ci" => ci::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            bail!(
                "no command `{other}`; there are `demo`, `test`, `functions`, `bench`, `package`, `sim`, `fuzz` and `ci`"
            )
        }
    }
}

/// Prints `help` and says so, when the arguments before `--` ask for it.
fn asks_for_help(args: &[String], help: &str) -> bool {
    let asked = args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--help" || arg == "-h");
    if asked {
        print!("{help}");
    }
    asked
}
