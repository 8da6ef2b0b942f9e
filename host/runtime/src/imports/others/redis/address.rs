//! Addresses of Redis servers: `redis://user:password@host:port/database`.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Where a server is, and how one enters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The name or address of the host.
    pub(super) host: String,
    pub(super) port: u16,
    /// The words after `AUTH`; none without a password.
    pub(super) credentials: Vec<String>,
    /// The number of the database.
    pub(super) database: u32,
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What is wrong may hold a password: it is not shown.
        let wrong = || "found another address of Redis, expected `redis://host:port/database`".to_owned();
        let rest = text.strip_prefix("redis://").ok_or_else(wrong)?;
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (entry, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = entry.split_once(':').unwrap_or((entry, ""));
        let credentials = [user, password].into_iter().filter(|word| !word.is_empty());
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (host, "6379"),
        };
        let database = if database.is_empty() { "0" } else { database };
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| wrong())?,
            credentials: credentials.map(str::to_owned).collect(),
            database: database.parse().map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> String {
        text.parse::<Address>().unwrap().to_string()
    }

    #[test]
    fn an_address_has_a_port_a_database_and_credentials_or_their_defaults() {
        assert_eq!(host("redis://cache"), "cache:6379");
        assert_eq!(host("redis://cache:7000/"), "cache:7000");
        assert_eq!(host("redis://[::1]"), "[::1]:6379");
        let address: Address = "redis://ada:s3:cret@cache:1/7".parse().unwrap();
        assert_eq!((address.database, address.to_string()), (7, "cache:1".into()));
        assert_eq!(address.credentials, ["ada", "s3:cret"]);
        let address: Address = "redis://:secret@cache".parse().unwrap();
        assert_eq!(address.credentials, ["secret"]);
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for text in [
            "cache:6379",
            "redis://cache:secret",
            "rediss://:secret@cache",
            "redis://cache/secret",
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
