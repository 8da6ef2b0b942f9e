//! Running other programs: each step says what it does and how long it took, and missing Debian packages
//! are installed where that is allowed, or named where it is not.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `work` under a headline, and prints how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    eprintln!("==> {what}");
    let done = work().with_context(|| format!("{what}: failed after {}", human(started.elapsed())))?;
    eprintln!("    {}", human(started.elapsed()));
    Ok(done)
}

/// A remark on what the set-up found or does.
pub fn note(what: &str) {
    eprintln!("    {what}");
}

/// Runs a command with this terminal as its own; an error when it does not end in success.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run `{line}`"))?;
    check(status, &line)
}

/// Runs a command for what it prints; its own complaints become the error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command silently for at most `limit`; whether it ended in success within that time.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    // Too late, or no longer ours to ask: nothing is owed to this child but its end.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Where a program lies on the search path.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Installs Debian packages when this is root on a machine with apt; says what to run where it is not.
pub fn apt_install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if which("apt-get").is_none() {
        bail!("{why} needs the Debian packages `{list}` or their like, and this machine has no `apt-get`");
    }
    if !is_root() {
        bail!("{why} needs some packages; run `sudo apt-get install {list}`, then this command again");
    }
    note(&format!("installing Debian packages for {why}: {list}"));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        output(&mut command).map(drop)
    };
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-qq", "-y", "--no-install-recommends"];
    install.extend_from_slice(packages);
    apt(&install)
}

/// Puts Python packages into a folder of their own, with what they need.
pub fn pip_install(packages: &[&str], place: &Path) -> Result<()> {
    pip(packages, place, &[])
}

/// Puts Python packages into a folder, and nothing of what they need.
pub fn pip_install_alone(packages: &[&str], place: &Path) -> Result<()> {
    pip(packages, place, &["--no-deps"])
}

fn pip(packages: &[&str], place: &Path, options: &[&str]) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--no-input"]);
    pip.args(["--upgrade", "--target"]).arg(place);
    pip.args(options).args(packages);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    output(&mut pip).map(drop)
}

/// The cargo that started this, or the one on the search path. It learns nothing of the package that started it: build
/// scripts of crates look at those variables, and would run anew whenever somebody calls cargo by hand in between.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// A duration as a person reads it.
pub fn human(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|itself| itself.uid() == 0)
}

fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

fn check(status: ExitStatus, line: &str) -> Result<()> {
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}
