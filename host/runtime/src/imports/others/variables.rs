//! `fermyon:spin/variables@2`, `spin:variables@3` and both tags of `wasi:config/store`.

use wasmtime::component::Accessor;

use super::bindings::fermyon::spin::variables as v2;
use super::bindings::spin::variables::variables as v3;
use super::bindings::wasi::config0_2_0_draft_2024_09_27::store as draft;
use super::bindings::wasi::config0_2_0_rc_1::store as candidate;
use super::{Error, Imports, reason};
use crate::sandbox::{Call, Guest};

impl Call {
    /// A variable of the manifest, or the granted secret of that name; none where there is neither.
    fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        if let Some(value) = self.spec.variables.get(name) {
            return Ok(Some(value.clone()));
        }
        match self.secret(self.spec.secrets.get(name).map_or(name, String::as_str)) {
            Ok(secret) => Ok(Some(secret)),
            Err(Error::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        let all = self.spec.variables.iter();
        all.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn undefined(name: &str) -> String {
    format!(
        "the function has no variable `{}`, and no granted secret",
        name.escape_debug()
    )
}

impl v2::Host for Guest {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, v2::Error>> {
        self.count_call()?;
        Ok(match self.call.setting(&name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(v2::Error::Undefined(undefined(&name))),
            Err(error) => Err(v2::Error::Provider(reason(error))),
        })
    }
}

impl v3::Host for Guest {}

impl<T: Send + 'static> v3::HostWithStore<T> for Imports {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> wasmtime::Result<Result<String, v3::Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(match call.setting(&name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(v3::Error::Undefined(undefined(&name))),
            Err(error) => Err(v3::Error::Provider(reason(error))),
        })
    }
}

impl draft::Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, draft::Error>> {
        self.count_call()?;
        let found = self.call.setting(&key);
        Ok(found.map_err(|error| draft::Error::Upstream(reason(error))))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, draft::Error>> {
        self.count_call()?;
        Ok(Ok(self.call.settings()))
    }
}

impl candidate::Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, candidate::Error>> {
        self.count_call()?;
        let found = self.call.setting(&key);
        Ok(found.map_err(|error| candidate::Error::Upstream(reason(error))))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, candidate::Error>> {
        self.count_call()?;
        Ok(Ok(self.call.settings()))
    }
}
