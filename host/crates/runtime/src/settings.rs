//! Settings that change while a plugin runs.
//!
//! A plugin that exports `config-handler` is asked, all instances at once, and may refuse: the settings come into force when
//! all of them have taken them. Whoever runs on others than those in force, because another instance refused or because it
//! began in between, is put right before its next handler; then it is told and not asked. Any other plugin is begun anew with
//! its state, as a new version would be; so is one of which more than the settings has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    activity::ActivityEvent,
    inspect::Ability,
    log::LogLevel,
    manifest::Manifest,
    orders::Order,
    plugin::{PluginCore, PluginHandle},
    runtime::{Grant, ManifestSource, Prepared, Runtime, StartError},
    succession::{ReplaceError, ReplaceOptions},
};

/// How long an instance may take to finish what it is at and to take new settings, or to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// Values by dotted key.
pub(crate) type Settings = Arc<BTreeMap<String, String>>;

/// The settings that are in force.
#[derive(Debug)]
pub(crate) struct SettingsCell {
    current: Mutex<Settings>,
    /// Changes when instances may run on others than those in force.
    generation: AtomicU64,
}

impl SettingsCell {
    pub(crate) fn new(settings: BTreeMap<String, String>) -> Self {
        Self { current: Mutex::new(Arc::new(settings)), generation: AtomicU64::new(0) }
    }

    pub(crate) fn current(&self) -> Settings {
        Arc::clone(&self.current.lock())
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn replace(&self, settings: Settings) {
        *self.current.lock() = settings;
    }

    /// Every instance looks whether it runs on those in force.
    fn call_to_order(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// To one instance slot: take these settings, or refuse them.
pub(crate) struct ChangeSettings {
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
    /// The plugin has taken what is different in these keys, and goes on.
    Told(Vec<String>),
    /// It was begun anew, with its state.
    Restarted,
}

/// Why new settings are not in force. The old ones are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// There are none: the manifest cannot be read, or breaks its rules. Nothing has happened.
    #[error(transparent)]
    Manifest(StartError),
    /// The plugin does not take them. It works on; an instance that has trapped over them is begun anew, and that counts as
    /// a crash.
    #[error("the plugin refuses them: {0}")]
    Refused(String),
    /// An instance did not come to an end of what it was at, and goes on with that.
    #[error("the plugin was busy for more than {} s", .0.as_secs())]
    Busy(Duration),
    /// The plugin was stopped or given up, or another version has taken over.
    #[error("the plugin does not run any more as it did")]
    NotRunning,
    /// It could not be begun anew. See [`ReplaceError`] for what is left.
    #[error(transparent)]
    Restart(#[from] ReplaceError),
}

impl Runtime {
    /// Puts what is beside the component now in force, `None` for nothing: the settings, and everything else that may
    /// change while the plugin's name and its number of instances stay.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn reconfigure(
        &self,
        plugin: &PluginHandle,
        beside: Option<ManifestSource>,
        grant: &Grant,
    ) -> Result<Reconfigured, ReconfigureError> {
        let core = plugin.core();
        let (program, name) = (Arc::clone(&core.program), plugin.name().to_string());
        // Whose manifest gives it no name has kept the one that it got from its file.
        let resolving = tokio::task::spawn_blocking(move || Prepared::resolve(program, beside, name.clone(), &name));
        let prepared = resolving.await.unwrap_or(Err(StartError::Stopping)).map_err(ReconfigureError::Manifest)?;
        let is = prepared.manifest();
        let are_settings_all = core.manifest == Manifest { config: core.manifest.config.clone(), ..is.clone() };
        if are_settings_all && *core.settings.current() == is.config {
            return Ok(Reconfigured::Unchanged);
        }
        if are_settings_all && prepared.inspection().abilities.contains(&Ability::ConfigHandler) {
            let (plugin, config) = (plugin.clone(), is.config.clone());
            // Not left half way when whoever asked for it has gone.
            let changing = tokio::spawn(async move { plugin.change_settings(&core, config).await });
            return changing.await.unwrap_or(Err(ReconfigureError::NotRunning)).map(Reconfigured::Told);
        }
        let keys = different(&core.settings.current(), &is.config);
        self.replace_from(plugin, Some(core), prepared, grant, &ReplaceOptions::default()).await?;
        plugin.activity().note(0, || ActivityEvent::Settings { keys });
        Ok(Reconfigured::Restarted)
    }
}

impl PluginHandle {
    /// Asks the version that runs, unless another has taken over from it; gives the keys that are different.
    async fn change_settings(
        &self,
        core: &Arc<PluginCore>,
        config: BTreeMap<String, String>,
    ) -> Result<Vec<String>, ReconfigureError> {
        let _alone = self.succession().await;
        if core.life.is_stopping() || !Arc::ptr_eq(core, &self.core()) {
            return Err(ReconfigureError::NotRunning);
        }
        let keys = different(&core.settings.current(), &config);
        let (settings, told): (Settings, Arc<[String]>) = (Arc::new(config), keys.as_slice().into());
        let outcome = tokio::select! {
            outcome = core.ask_all(&settings, &told) => outcome,
            () = self.stop_wanted() => Err(ReconfigureError::NotRunning),
        };
        match &outcome {
            Ok(()) => {
                core.settings.replace(settings);
                core.log.host(LogLevel::Info, format!("has new settings: {}", keys.join(", ")));
                core.activity.note(0, || ActivityEvent::Settings { keys: keys.clone() });
            }
            Err(error) => core.log.host(LogLevel::Warn, format!("the old settings hold: {error}")),
        }
        core.settings.call_to_order();
        core.bell.ring_all();
        outcome.map(|()| keys)
    }
}

impl PluginCore {
    /// Asks all instances whether they take these settings, and waits for what they say.
    async fn ask_all(&self, settings: &Settings, keys: &Arc<[String]>) -> Result<(), ReconfigureError> {
        let answers: Vec<_> = (0..self.manifest.limits.instances)
            .map(|shard| {
                let (told, answer) = oneshot::channel();
                let change = ChangeSettings { settings: Arc::clone(settings), keys: Arc::clone(keys), told };
                self.orders.give(shard as usize, Order::ChangeSettings(change));
                tokio::time::timeout(PATIENCE, answer)
            })
            .collect();
        self.bell.ring_all();
        let said = join_all(answers).await.into_iter().map(|answer| match answer {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(ReconfigureError::Refused(why)),
            // It has ended, and will not begin again.
            Ok(Err(_)) => Err(ReconfigureError::NotRunning),
            Err(_) => Err(ReconfigureError::Busy(PATIENCE)),
        });
        said.collect()
    }
}

/// Keys that are in one only, or have another value.
pub(crate) fn different(was: &BTreeMap<String, String>, is: &BTreeMap<String, String>) -> Vec<String> {
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
