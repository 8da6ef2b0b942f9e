//! `config`: variables of the manifest, and granted secrets.

use super::Error;
use super::bindings::tidegate::function::config;
use crate::sandbox::{Call, Guest};

impl config::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.call.spec.variables.get(&name).cloned())
    }

    fn secret(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        Ok(self.call.secret(&name))
    }
}

impl Call {
    /// A granted secret, from the host's environment.
    pub(super) fn secret(&self, name: &str) -> Result<String, Error> {
        self.spec
            .grants
            .allows_secret(&self.spec.name, name)
            .map_err(Error::Denied)?;
        let variable = format!(
            "TIDEGATE_SECRET_{}",
            name.to_uppercase().replace(['-', '.', '/'], "_")
        );
        std::env::var(&variable).map_err(|_| {
            Error::NotFound(format!(
                "secret `{name}`: the host's environment has no `{variable}`"
            ))
        })
    }
}
