//! A runtime, a mesh and the scripted plugin.

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use macula_runtime::{
    CrashPolicy, Grant, ManifestSource, PluginHandle, PluginSource, PluginStatus, Prepared, ReplaceError,
    ReplaceOptions, Runtime, RuntimeConfig, StartError, StartOptions, StopReason, testing::LocalMesh,
};
use tempfile::TempDir;

/// The scripted plugin: does what messages, calls and settings tell it, see `tests/guest/src/lib.rs`.
pub(crate) const PROBE: &[u8] = include_bytes!("../probe.wasm");

/// Allows everything the tests do, and subscribes to `in.**`.
pub(crate) const MANIFEST: &str = r#"
subscribe = ["**"]
publish = ["**"]
advertise = ["**"]
call = ["**"]
fetch = ["**"]
[config]
report = "report"
[[subscriptions]]
pattern = "in.**"
[[procedures]]
procedure = "probe.do"
"#;

pub(crate) struct Fixture {
    pub(crate) mesh: LocalMesh,
    pub(crate) runtime: Runtime,
    pub(crate) home: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(RuntimeConfig::default())
    }

    pub(crate) fn with(config: RuntimeConfig) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = RuntimeConfig {
            cache_dir: Some(home.path().join("native")),
            state_dir: Some(home.path().join("plugins")),
            ..config
        };
        let mesh = LocalMesh::new();
        let runtime = Runtime::new(config, std::sync::Arc::new(mesh.clone())).unwrap();
        Self { mesh, runtime, home }
    }

    /// With quick restarts and a breaker that never opens.
    pub(crate) fn forgiving() -> Self {
        let crash_policy = CrashPolicy { crashes_max: usize::MAX, ..CrashPolicy::default() };
        Self::with(RuntimeConfig { crash_policy, ..RuntimeConfig::default() })
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) async fn try_start(&self, name: &str, manifest: &str) -> Result<PluginHandle, StartError> {
        let manifest = Some(ManifestSource::Path(self.write(&format!("{name}.toml"), manifest)));
        let source = PluginSource::Bytes { name: name.to_owned(), bytes: Bytes::from_static(PROBE) };
        self.runtime.start(source, StartOptions { manifest, grant: Grant::AsAsked }).await
    }

    pub(crate) async fn start(&self, name: &str, manifest: &str) -> PluginHandle {
        self.try_start(name, manifest).await.unwrap()
    }

    /// Another version of the scripted plugin, ready to start.
    pub(crate) async fn prepare(&self, manifest: &str) -> Prepared {
        let source = PluginSource::Bytes { name: "probe".to_owned(), bytes: Bytes::from_static(PROBE) };
        let manifest = ManifestSource::Text { origin: "the test".to_owned(), text: manifest.to_owned() };
        self.runtime.prepare(source, Some(manifest)).await.unwrap()
    }

    /// Lets a version with this manifest take over.
    pub(crate) async fn replace(&self, plugin: &PluginHandle, manifest: &str) -> Result<(), ReplaceError> {
        self.replace_with(plugin, manifest, ReplaceOptions::default()).await
    }

    pub(crate) async fn replace_with(
        &self,
        plugin: &PluginHandle,
        manifest: &str,
        options: ReplaceOptions,
    ) -> Result<(), ReplaceError> {
        let prepared = self.prepare(manifest).await;
        self.runtime.replace(plugin, prepared, &Grant::AsAsked, &options).await
    }

    /// The scripted plugin with all rights.
    pub(crate) async fn probe(&self) -> PluginHandle {
        self.start("probe", MANIFEST).await
    }

    /// Tells the plugin something; it reports to `report`.
    pub(crate) fn tell(&self, command: &str) {
        self.mesh.publish("in.x", command.to_owned());
    }

    /// Tells it something and waits for the answer.
    pub(crate) async fn ask(&self, command: &str) -> String {
        let before = self.mesh.published("report").len();
        self.tell(command);
        self.mesh.wait_for("report", before + 1).await.remove(before)
    }

    /// Waits for the `count`th report that is not about `init`.
    pub(crate) async fn reports(&self, count: usize) -> Vec<String> {
        let mut needed = count;
        loop {
            let mut reports = self.mesh.wait_for("report", needed).await;
            needed = reports.len() + 1;
            reports.retain(|report| !report.starts_with("init"));
            if reports.len() >= count {
                return reports;
            }
        }
    }

    #[allow(clippy::unused_self, reason = "reads as what happens to the fixture")]
    pub(crate) async fn stop(&self, plugin: &PluginHandle) {
        plugin.stop(StopReason::Stopped, Duration::from_secs(5)).await;
    }
}

/// Waits for an entry in the plugin's log that contains `part`.
pub(crate) async fn logged(plugin: &PluginHandle, part: &str) -> String {
    let mut next = 0;
    loop {
        let (lines, after) = plugin.log().follow(next).await;
        if let Some(line) = lines.iter().find(|line| line.message.contains(part)) {
            return line.message.clone();
        }
        next = after;
    }
}

/// Waits until the status is as wished. Counters have nobody to tell of their changes, so this looks again and again.
pub(crate) async fn until(plugin: &PluginHandle, wish: impl Fn(&PluginStatus) -> bool) -> PluginStatus {
    loop {
        let status = plugin.status();
        if wish(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
}
