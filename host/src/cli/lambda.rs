//! `tidegate lambda`: the host as a Lambda function.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::logging::{self, LogFormat};
use crate::config::Config;
use crate::lambda;
use crate::package::CONFIG;

/// Answers invocations of AWS Lambda; what a package's `bootstrap` does by itself
#[derive(Args)]
pub struct Lambda {
    /// The folder of the package: `config.toml`, `tidegate.toml`, `components` and `aot`
    #[arg(long, env = "LAMBDA_TASK_ROOT", default_value = "/var/task")]
    package: PathBuf,
    /// A configuration file, instead of the package's
    #[arg(long, env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The text of one instead, as Terraform hands it over
    #[arg(long, env = "TIDEGATE_CONFIG_TEXT", hide_env_values = true)]
    config_text: Option<String>,
    /// The folder for what is compiled, where the package has no machine code: the only one that Lambda lets it write
    #[arg(long, env = "TIDEGATE_DATA_DIR", default_value = "/tmp/tidegate")]
    data_dir: PathBuf,
    /// How log lines on the standard error output look
    #[arg(long, env = "TIDEGATE_LOG", default_value = "json")]
    log: LogFormat,
}

impl Lambda {
    pub(super) async fn run(self) -> Result<()> {
        logging::start(self.log);
        let config = match (&self.config_text, self.config) {
            (Some(text), _) => Config::parse(text, "the configuration's text")?,
            (None, file) => Config::load(&file.unwrap_or_else(|| self.package.join(CONFIG)))?,
        };
        let config = Config {
            data_dir: self.data_dir,
            ..config
        };
        lambda::run(config, self.package).await
    }
}
