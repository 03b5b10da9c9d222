//! Settings that change while a plugin runs.
//!
//! A plugin that exports `config-handler` is told, instance by instance, and may refuse: then the old settings come back
//! everywhere. Any other plugin is begun anew with its state, as a new version would be; so is one of which more than the
//! settings has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    handover::Order,
    inspect::Ability,
    log::LogLevel,
    manifest::Manifest,
    plugin::{PluginCore, PluginHandle},
    runtime::{Grant, ManifestSource, Prepared, Runtime, StartError},
    succession::{ReplaceError, ReplaceOptions},
};

/// How long an instance may take to finish what it is at and to take new settings.
const PATIENCE: Duration = Duration::from_secs(60);

/// Values by dotted key.
pub(crate) type Settings = Arc<BTreeMap<String, String>>;

/// The settings that are in force for instances that begin.
#[derive(Debug)]
pub(crate) struct SettingsCell(Mutex<Settings>);

impl SettingsCell {
    pub(crate) fn new(settings: BTreeMap<String, String>) -> Self {
        Self(Mutex::new(Arc::new(settings)))
    }

    pub(crate) fn current(&self) -> Settings {
        Arc::clone(&self.0.lock())
    }

    fn replace(&self, settings: Settings) {
        *self.0.lock() = settings;
    }
}

/// To one instance slot: take these settings.
pub(crate) struct Change {
    pub(crate) settings: Settings,
    /// Those that are different.
    pub(crate) keys: Arc<[String]>,
    /// Takes what the plugin says: why it refuses them.
    pub(crate) told: oneshot::Sender<Result<(), String>>,
}

/// What was done about new settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconfigured {
    /// Nothing is different.
    Unchanged,
    /// The plugin was told of these keys, and goes on.
    Told(Vec<String>),
    /// It was begun anew, with its state.
    Restarted,
}

/// Why new settings are not in force. The old ones are, and the plugin works on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// There are none: the manifest cannot be read, or breaks its rules.
    #[error(transparent)]
    Manifest(StartError),
    /// The plugin does not take them.
    #[error("the plugin refuses them: {0}")]
    Refused(String),
    /// An instance did not come to an end of what it was at.
    #[error("the plugin was busy for more than {} s", .0.as_secs())]
    Busy(Duration),
    /// It could not be begun anew.
    #[error(transparent)]
    Restart(#[from] ReplaceError),
}

impl Runtime {
    /// Puts what is beside the component now in force, `None` for nothing: the settings, and everything else that may
    /// change while the plugin's name and its number of instances stay.
    ///
    /// # Errors
    /// See [`ReconfigureError`]; nothing has changed then.
    pub async fn reconfigure(
        &self,
        plugin: &PluginHandle,
        beside: Option<ManifestSource>,
        grant: &Grant,
    ) -> Result<Reconfigured, ReconfigureError> {
        let program = Arc::clone(&plugin.core().program);
        let name = plugin.name().to_string();
        // Whose manifest gives it no name has kept the one that it got from its file.
        let resolving = tokio::task::spawn_blocking(move || Prepared::resolve(program, beside, name.clone(), &name));
        let prepared = resolving.await.unwrap_or(Err(StartError::Stopping)).map_err(ReconfigureError::Manifest)?;
        let (was, is) = (plugin.manifest(), prepared.manifest().clone());
        if was == is {
            return Ok(Reconfigured::Unchanged);
        }
        let are_settings_all = was == Manifest { config: was.config.clone(), ..is.clone() };
        if are_settings_all && prepared.inspection().abilities.contains(&Ability::ConfigHandler) {
            let (plugin, keys) = (plugin.clone(), different(&was.config, &is.config));
            // Not left half way when whoever asked for it has gone.
            let changed = tokio::spawn(async move {
                plugin.change_settings(is.config, &keys).await.map(|()| Reconfigured::Told(keys))
            });
            return changed.await.unwrap_or(Err(ReconfigureError::Restart(ReplaceError::NotRunning)));
        }
        self.replace(plugin, prepared, grant, &ReplaceOptions::default()).await?;
        Ok(Reconfigured::Restarted)
    }
}

impl PluginHandle {
    async fn change_settings(&self, config: BTreeMap<String, String>, keys: &[String]) -> Result<(), ReconfigureError> {
        let _alone = self.succession().await;
        let core = self.core();
        if core.life.is_stopping() {
            return Err(ReplaceError::NotRunning.into());
        }
        let (old, keys): (Settings, Arc<[String]>) = (core.settings.current(), keys.into());
        // Instances that begin from here on have them from the start.
        core.settings.replace(Arc::new(config));
        let refused = core.tell_all(&keys).await;
        let Err(error) = refused else {
            core.log.host(LogLevel::Info, format!("has new settings: {}", keys.join(", ")));
            return Ok(());
        };
        core.log.host(LogLevel::Warn, format!("the old settings hold: {error}"));
        core.settings.replace(old);
        // Those that had taken them hear of the old ones; that an instance does not take back what it had is in its log.
        let _ = core.tell_all(&keys).await;
        Err(error)
    }
}

impl PluginCore {
    /// Tells one instance after another of the settings that are in force, up to the first that refuses.
    async fn tell_all(&self, keys: &Arc<[String]>) -> Result<(), ReconfigureError> {
        for shard in 0..self.manifest.limits.instances {
            let (told, answer) = oneshot::channel();
            let change = Change { settings: self.settings.current(), keys: Arc::clone(keys), told };
            self.handover.order(shard as usize, Order::Change(change));
            self.bell.ring_all();
            match tokio::time::timeout(PATIENCE, answer).await {
                // One that has ended has nothing to be told.
                Ok(Ok(Ok(())) | Err(_)) => {}
                Ok(Ok(Err(why))) => return Err(ReconfigureError::Refused(why)),
                Err(_) => return Err(ReconfigureError::Busy(PATIENCE)),
            }
        }
        Ok(())
    }
}

/// Keys that are in one only, or have another value.
fn different(was: &BTreeMap<String, String>, is: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    keys.into_iter().filter(|key| was.get(*key) != is.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_came_went_or_changed_are_different() {
        let settings = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let was = settings(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let is = settings(&[("b", "1"), ("c", "2"), ("d", "1")]);
        assert_eq!(different(&was, &is), ["a", "c", "d"]);
    }
}
