//! The function's variables and secrets.

use std::fmt::Display;
use std::str::FromStr;

use crate::bindings::tidegate::function::config;
use crate::{Error, Failure};

/// A variable of the manifest.
pub fn variable(name: &str) -> Option<String> {
    config::get(name)
}

/// A variable that the function cannot do without.
pub fn required(name: &str) -> Result<String, Failure> {
    variable(name).ok_or_else(|| Failure::reject(format!("the variable `{name}` is not set")))
}

/// A variable as a value, or `default` where it is not set. What cannot be parsed is an error, not the default.
pub fn parse<T>(name: &str, default: T) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    match variable(name) {
        None => Ok(default),
        Some(text) => text.trim().parse().map_err(|error| {
            let wanted = std::any::type_name::<T>();
            Failure::reject(format!(
                "the variable `{name}` is `{text}`, not a `{wanted}`: {error}"
            ))
        }),
    }
}

/// A variable's comma-separated entries, trimmed, or `default` where it is not set.
pub fn list(name: &str, default: &str) -> Vec<String> {
    let text = variable(name).unwrap_or_else(|| default.to_owned());
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A secret, by a name that the manifest grants.
pub fn secret(name: &str) -> Result<String, Error> {
    config::secret(name)
}
