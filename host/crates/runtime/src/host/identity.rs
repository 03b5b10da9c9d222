//! `identity`: who a plugin is, where it runs, what it may do.

use macula_wire::{Operation, Pattern};

use super::{InstanceState, did};
use crate::bindings::identity;

impl identity::Host for InstanceState {
    fn plugin_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin.manifest.name.to_string())
    }

    fn plugin_version(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin.manifest.version.clone())
    }

    fn component(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin.program.mcid().to_string())
    }

    fn principal(&mut self) -> wasmtime::Result<String> {
        // Messages are attested to the node that sends them; plugins have no key of their own.
        self.node()
    }

    fn node(&mut self) -> wasmtime::Result<String> {
        Ok(did(&self.plugin.mesh.node()))
    }

    fn realm(&mut self) -> wasmtime::Result<String> {
        Ok(self.plugin.mesh.realm().to_string())
    }

    fn instance(&mut self) -> wasmtime::Result<identity::Shard> {
        Ok(identity::Shard { index: self.shard, count: self.plugin.manifest.limits.instances })
    }

    fn can(&mut self, command: String, target: String) -> wasmtime::Result<bool> {
        let Some(operation) = Operation::from_command(&command) else { return Ok(false) };
        let Ok(target) = target.parse::<Pattern>() else { return Ok(false) };
        Ok(self.plugin.rights.current().allows_all(operation, &target))
    }
}
