//! Terraform, or OpenTofu, on a copy of the modules, so that nothing is left among them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidegate_cloud::Settings;
use tidegate_harness::workspace_root;
use tokio::process::Command;

/// Where the set-up found the program.
const PROGRAM: &str = "TIDEGATE_TERRAFORM";

/// The program, and a copy of `infra/terraform`.
pub struct Terraform {
    program: PathBuf,
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Terraform {
    /// Finds the program. Where there is none, or no provider for it, that is said, and the test has nothing to do.
    pub fn find() -> Result<Option<Self>> {
        let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
            eprintln!(
                "skipped: `{PROGRAM}` is not set, as the set-up found no Terraform with the AWS provider"
            );
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("tidegate-terraform-").tempdir()?;
        copy(&workspace_root().join("infra/terraform"), folder.path())?;
        Ok(Some(Self {
            program,
            folder,
            env: Vec::new(),
        }))
    }

    /// Speaks to local servers instead of Amazon's, as whoever uses the variables of the AWS SDKs does; `others` is
    /// the address of all services but the store's.
    pub fn at(mut self, settings: &Settings) -> Self {
        let endpoints = &settings.endpoints;
        let address = |given: &Option<String>| given.clone().unwrap_or_default();
        let variables = [
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL", address(&endpoints.sqs)),
            ("AWS_ENDPOINT_URL_S3", address(&endpoints.s3)),
            ("AWS_ENDPOINT_URL_DYNAMODB", address(&endpoints.dynamodb)),
        ];
        self.env
            .extend(variables.map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// A folder below `infra/terraform`, in the copy.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into a root module, which may be a new one.
    pub fn write(&self, root: &str, file: &str, text: &str) -> Result<()> {
        let folder = self.path(root);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Writes the values of variables.
    pub fn variables(&self, root: &str, values: &Value) -> Result<()> {
        self.write(root, "test.auto.tfvars.json", &values.to_string())
    }

    /// Runs a command that must succeed, and hands back what it said.
    pub async fn run(&self, root: &str, args: &[&str]) -> Result<String> {
        let (ended, said) = self.try_run(root, args).await?;
        ensure!(ended, "`{}` in `{root}` failed:\n{said}", args.join(" "));
        Ok(said)
    }

    /// Runs a command that must fail, and hands back what it said.
    pub async fn fail(&self, root: &str, args: &[&str]) -> Result<String> {
        let (ended, said) = self.try_run(root, args).await?;
        ensure!(!ended, "`{}` in `{root}` succeeded:\n{said}", args.join(" "));
        // The boxes and line breaks around messages are for people.
        Ok(said
            .replace(['│', '\n'], " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "))
    }

    /// Runs a command; whether it succeeded, and what it said.
    pub async fn try_run(&self, root: &str, args: &[&str]) -> Result<(bool, String)> {
        let folder = self.path(root);
        let mut command = Command::new(&self.program);
        command.args(args).arg("-no-color").current_dir(&folder);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            .env("CHECKPOINT_DISABLE", "1");
        let output = command.kill_on_drop(true).output().await;
        let output = output.with_context(|| format!("cannot run `{}`", self.program.display()))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("no folder `{}`", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else {
            bail!("`{}` has no name", path.display());
        };
        // What somebody's own use of a module left there.
        if name.to_string_lossy().starts_with(".terraform") {
            continue;
        }
        let place = to.join(name);
        if path.is_dir() {
            std::fs::create_dir_all(&place)?;
            copy(&path, &place)?;
        } else {
            std::fs::copy(&path, &place)?;
        }
    }
    Ok(())
}
