//! Which plugins there are, by name.

use std::{collections::BTreeMap, sync::Arc};

use macula_wire::PluginName;
use parking_lot::Mutex;

use crate::plugin::PluginHandle;

/// The plugins of one runtime. A name is taken from the moment its plugin's start begins until it has stopped.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<PluginName, Slot>>);

enum Slot {
    /// By a plugin whose start has begun.
    Reserved,
    Plugin(PluginHandle),
}

impl Registry {
    /// All plugins, by name.
    pub(crate) fn plugins(&self) -> Vec<PluginHandle> {
        let slots = self.0.lock();
        let started = slots.values().filter_map(|slot| match slot {
            Slot::Plugin(handle) => Some(handle.clone()),
            Slot::Reserved => None,
        });
        started.collect()
    }

    /// Takes a name; `None` when it is taken.
    pub(crate) fn reserve(self: &Arc<Self>, name: &PluginName) -> Option<Reservation> {
        let mut slots = self.0.lock();
        if slots.contains_key(name) {
            return None;
        }
        slots.insert(name.clone(), Slot::Reserved);
        Some(Reservation { registry: Arc::clone(self), name: name.clone(), is_filled: false })
    }

    /// Frees the name of a plugin, unless another one has it by now.
    pub(crate) fn remove(&self, plugin: &PluginHandle) {
        let mut slots = self.0.lock();
        let is_this = |slot: &Slot| matches!(slot, Slot::Plugin(other) if other.is_same(plugin));
        if slots.get(plugin.name()).is_some_and(is_this) {
            slots.remove(plugin.name());
        }
    }
}

/// A name held while its plugin is being started; given back unless it is filled.
pub(crate) struct Reservation {
    registry: Arc<Registry>,
    name: PluginName,
    is_filled: bool,
}

impl Reservation {
    pub(crate) fn fill(mut self, handle: PluginHandle) {
        self.is_filled = true;
        self.registry.0.lock().insert(self.name.clone(), Slot::Plugin(handle));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_filled {
            self.registry.0.lock().remove(&self.name);
        }
    }
}
