//! `tidegate alias`: which versions of a function an alias points at.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use tidegate_runtime::trigger::Split;

use super::{Target, client, text, versions};

/// Points aliases at versions; `live` takes the events and requests
#[derive(Args)]
pub struct Alias {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    /// Points an alias at one or two versions, each with its share of 100
    Set {
        /// The function
        function: String,
        /// `live`, or a name of your own
        alias: String,
        /// Such as `4`, or `3=90,4=10`
        #[arg(value_parser = split)]
        versions: Split,
    },
    /// Removes an alias other than `live`
    Remove {
        /// The function
        function: String,
        /// The alias
        alias: String,
    },
}

impl Alias {
    pub(super) async fn run(self) -> Result<()> {
        let (method, function, alias, split) = match self.command {
            Command::Set {
                function,
                alias,
                versions,
            } => (Method::PUT, function, alias, Some(versions)),
            Command::Remove { function, alias } => (Method::DELETE, function, alias, None),
        };
        let client = self.target.client()?;
        let (function, alias) = (client::part(&function), client::part(&alias));
        let mut request = client.request(method, &format!("/api/v1/functions/{function}/aliases/{alias}"));
        if let Some(split) = split {
            let shares: BTreeMap<u64, u64> = split.shares().collect();
            request = request.json(&json!({ "versions": shares }));
        }
        let answer = client.json(request).await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        versions::say(&answer)
    }
}

/// Versions with their shares, or one version that gets all.
pub(super) fn split(text: &str) -> Result<Split, String> {
    let number = |text: &str| {
        let number = text.trim().trim_end_matches('%').parse::<u64>();
        number.map_err(|_| {
            format!("found `{text}`, expected a version such as `4`, or shares such as `3=90,4=10`")
        })
    };
    let mut shares = BTreeMap::new();
    for share in text.split(',') {
        let (version, weight) = share.split_once('=').unwrap_or((share, "100"));
        if shares.insert(number(version)?, number(weight)?).is_some() {
            return Err(format!("found version {version} twice"));
        }
    }
    Split::try_from(shares).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_version_or_shares_of_a_hundred() {
        assert_eq!(split("4"), Ok(Split::whole(4)));
        assert_eq!(split("3=90,4=10").unwrap().to_string(), "4=10,3=90");
        for (wrong, told) in [
            ("3=90,4=20", "sum to 110"),
            ("3,4", "sum to 200"),
            ("3=50,3=50", "twice"),
            ("1=30,2=30,3=40", "one or two"),
            ("latest", "`latest`"),
        ] {
            let error = split(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
