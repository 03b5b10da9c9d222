//! `config`: read the plugin's settings.

use super::InstanceState;
use crate::bindings::config;

impl config::Host for InstanceState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.settings.get(&key).cloned())
    }

    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.settings.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
