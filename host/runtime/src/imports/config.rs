//! `config`: variables of the manifest, and granted secrets.

use super::Error;
use super::bindings::tidegate::function::config;
use crate::sandbox::Guest;

impl config::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.call.spec.variables.get(&name).cloned())
    }

    fn secret(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        self.count_call()?;
        if let Err(denied) = self.call.spec.grants.allows_secret(&self.call.spec.name, &name) {
            return Ok(Err(Error::Denied(denied)));
        }
        let variable = format!(
            "TIDEGATE_SECRET_{}",
            name.to_uppercase().replace(['-', '.', '/'], "_")
        );
        Ok(std::env::var(&variable).map_err(|_| {
            Error::NotFound(format!(
                "secret `{name}`: the host's environment has no `{variable}`"
            ))
        }))
    }
}
