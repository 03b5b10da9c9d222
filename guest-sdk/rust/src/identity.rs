//! Ask who this plugin is, where it runs, and what it may do. Needs no right.

use crate::host;

/// Instance `index` (from 0) of `count`. Topics are divided among instances; each has state and timers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

/// The plugin's name, from its manifest.
pub fn plugin_name() -> String {
    host::plugin_name()
}

/// The plugin's version, from its manifest; empty when it has none.
pub fn plugin_version() -> String {
    host::plugin_version()
}

/// The content id of the running component.
pub fn component() -> String {
    host::component()
}

/// The `did:key` that this plugin's messages and calls carry.
pub fn principal() -> String {
    host::principal()
}

/// The `did:key` of the host it runs on.
pub fn node() -> String {
    host::node()
}

/// The realm's name, for example `local.dev`.
pub fn realm() -> String {
    host::realm()
}

/// Which instance this is.
pub fn instance() -> Shard {
    host::instance()
}

/// Whether the plugin holds a right now: a command such as `/mesh/publish`, and a topic, pattern, procedure or content
/// id. An unknown command or a malformed target is false. The answer may change:
/// [`ConfigHandler::on_rights_changed`](crate::ConfigHandler::on_rights_changed).
pub fn can(command: &str, target: &str) -> bool {
    host::can(command, target)
}
