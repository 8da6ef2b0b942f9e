//! Terraform, or OpenTofu, with the AWS provider, for tests of `infra/terraform`. A machine without them skips those tests:
//! nothing else needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::target_dir::Folders;
use super::tools;

/// A folder with unpacked providers, where the registry is out of reach.
const MIRROR: &str = "TIDEGATE_TERRAFORM_MIRROR";
/// What is looked for.
const PROVIDER: &str = "terraform {\n  required_providers {\n    aws = {\n      source  = \"hashicorp/aws\"\n      \
                        version = \"~> 5.0\"\n    }\n  }\n}\n";

/// The program, and the configuration by which it finds the provider.
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// For `TF_CLI_CONFIG_FILE`.
    pub config: PathBuf,
}

/// Finds both, or says that tests are skipped.
pub fn find(folders: &Folders) -> Result<Option<Found>> {
    let Some(program) = ["terraform", "tofu"].into_iter().find_map(tools::which) else {
        tools::note("neither `terraform` nor `tofu` is there: tests of infra/terraform are skipped");
        return Ok(None);
    };
    let home = folders.cache.join("terraform");
    let mirror = match std::env::var_os(MIRROR) {
        Some(given) => PathBuf::from(given),
        None => match fetched(&program, &home) {
            Ok(mirror) => mirror,
            Err(error) => {
                tools::note(&format!(
                    "no AWS provider, tests of infra/terraform are skipped; `{MIRROR}` may name a folder with it: {error:#}"
                ));
                return Ok(None);
            }
        },
    };
    let config = home.join("cli.tfrc");
    let text = format!("provider_installation {{\n  filesystem_mirror {{\n    path = {mirror:?}\n  }}\n}}\n");
    write(&config, &text)?;
    Ok(Some(Found { program, config }))
}

/// A mirror of the registry's provider, unpacked, so that no test asks the registry again.
fn fetched(program: &Path, home: &Path) -> Result<PathBuf> {
    let mirror = home.join("root/.terraform/providers");
    if mirror.join("registry.terraform.io/hashicorp/aws").is_dir()
        || mirror.join("registry.opentofu.org/hashicorp/aws").is_dir()
    {
        return Ok(mirror);
    }
    tools::note("fetching the AWS provider from the registry");
    write(&home.join("root/main.tf"), PROVIDER)?;
    let mut init = Command::new(program);
    init.args(["init", "-no-color"]).current_dir(home.join("root"));
    tools::output(&mut init).context("cannot get the AWS provider")?;
    Ok(mirror)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}
