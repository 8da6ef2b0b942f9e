//! Programs that tests run: Redis, and what functions in Python and JavaScript are built with.

use std::process::Command;

use anyhow::Result;

use super::tools;

/// Finds them, or installs Debian's packages of them.
pub fn find() -> Result<()> {
    if tools::which("redis-server").is_none() {
        tools::apt_install(&["redis-server"], "testing components that call Redis")?;
    }
    let mut python = Command::new("python3");
    if tools::output(python.args(["-c", "import venv, ensurepip"])).is_err() {
        tools::apt_install(&["python3", "python3-venv"], "testing functions in Python")?;
    }
    if tools::which("npm").is_none() {
        tools::apt_install(&["nodejs", "npm"], "testing functions in JavaScript")?;
    }
    Ok(())
}
