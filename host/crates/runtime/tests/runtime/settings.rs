//! Settings that change while a plugin runs.

use macula_runtime::{
    Grant, ManifestSource, PluginHandle, PluginSource, PluginState, ReconfigureError, Reconfigured, StartOptions,
};

use super::support::{Fixture, MANIFEST, until};

impl Fixture {
    async fn reconfigure(&self, plugin: &PluginHandle, manifest: &str) -> Result<Reconfigured, ReconfigureError> {
        let beside = ManifestSource::Text { origin: "the test".to_owned(), text: manifest.to_owned() };
        self.runtime.reconfigure(plugin, Some(beside), &Grant::AsAsked).await
    }
}

/// The usual manifest with more settings.
fn with(settings: &str) -> String {
    MANIFEST.replace("[config]", &format!("[config]\n{settings}"))
}

#[tokio::test]
async fn a_plugin_is_told_of_its_new_settings_and_goes_on() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with("a = 1\nb = 1")).await;
    assert_eq!(fixture.ask("handled").await, "handled 1");
    let told = fixture.reconfigure(&plugin, &with("b = 2\nc = \"x\"")).await.unwrap();
    assert_eq!(told, Reconfigured::Told(vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(fixture.mesh.published_texts("report").last().unwrap(), "changed a b c on instance 0");
    assert_eq!(fixture.ask("config a").await, "None");
    assert_eq!(fixture.ask("config b").await, "Some(\"2\")");
    assert_eq!(plugin.manifest().config["c"], "x");
    // It is the same instance.
    assert_eq!(fixture.ask("handled").await, "handled 4");
    assert_eq!(plugin.metrics().restarts, 0);
    assert_eq!(fixture.reconfigure(&plugin, &with("b = 2\nc = \"x\"")).await.unwrap(), Reconfigured::Unchanged);
}

#[tokio::test]
async fn who_refuses_keeps_the_old_ones() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with("a = 1")).await;
    let refused = fixture.reconfigure(&plugin, &with("a = 2\ntake = \"refuse\"")).await.unwrap_err();
    assert_eq!(refused.to_string(), "the plugin refuses them: invalid: as told");
    assert_eq!(fixture.ask("config a").await, "Some(\"1\")");
    assert_eq!(plugin.manifest().config["a"], "1");
    // What cannot be read changes nothing either.
    let wrong = fixture.reconfigure(&plugin, "[limits]\nmemory-mib = 0").await.unwrap_err();
    assert!(matches!(wrong, ReconfigureError::Manifest(_)), "{wrong}");
    assert_eq!(fixture.ask("config a").await, "Some(\"1\")");
}

/// When one of several instances refuses, those that had taken the settings get the old ones back.
#[tokio::test]
async fn all_instances_have_the_same_settings() {
    let fixture = Fixture::new();
    let sharded = |settings: &str| format!("{}\n[limits]\ninstances = 2", with(settings));
    let plugin = fixture.start("probe", &sharded("a = 1")).await;
    fixture.reconfigure(&plugin, &sharded("a = 2\ntake = \"refuse-last\"")).await.unwrap_err();
    let changes: Vec<String> =
        fixture.mesh.published_texts("report").into_iter().filter(|report| report.starts_with("changed")).collect();
    let on = |instance: u32| format!("changed a take on instance {instance}");
    assert_eq!(changes, [on(0), on(1), on(0), on(1)]);
    for topic in ["in.a", "in.b", "in.c", "in.d"] {
        let before = fixture.mesh.published("report").len();
        fixture.mesh.publish(topic, "config a");
        assert_eq!(fixture.mesh.wait_for("report", before + 1).await[before], "Some(\"1\")");
    }
}

#[tokio::test]
async fn who_traps_over_them_begins_anew_with_the_old_ones() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &with("a = 1")).await;
    let trapped = fixture.reconfigure(&plugin, &with("a = 2\ntake = \"trap\"")).await.unwrap_err();
    assert!(matches!(trapped, ReconfigureError::Refused(_)), "{trapped}");
    assert_eq!(fixture.mesh.call("probe.do", "config a").await.unwrap(), "Some(\"1\")");
}

#[tokio::test(start_paused = true)]
async fn an_evicted_plugin_has_them_when_it_comes_back() {
    let fixture = Fixture::new();
    let evicted = |settings: &str| format!("{}\n[limits]\nevict-after-s = 10", with(settings));
    let plugin = fixture.start("probe", &evicted("a = 1")).await;
    fixture.ask("handled").await;
    plugin.wait_for(&[PluginState::Evicted]).await;
    fixture.reconfigure(&plugin, &evicted("a = 2")).await.unwrap();
    assert_eq!(plugin.state(), PluginState::Evicted);
    assert_eq!(fixture.mesh.call("probe.do", "config a").await.unwrap(), "Some(\"2\")");
    assert_eq!(fixture.mesh.call("probe.do", "handled").await.unwrap(), "handled 1");
}

#[tokio::test]
async fn more_than_settings_begins_the_plugin_anew_with_its_state() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with("a = 1")).await;
    assert_eq!(fixture.ask("handled").await, "handled 1");
    let limits = format!("{}\n[limits]\nhandler-ms = 700", with("a = 2"));
    assert_eq!(fixture.reconfigure(&plugin, &limits).await.unwrap(), Reconfigured::Restarted);
    assert_eq!(fixture.ask("config a").await, "Some(\"2\")");
    assert_eq!(fixture.ask("handled").await, "handled 3");
    let refused = fixture.reconfigure(&plugin, &with("").replace("[config]", "name = \"other\"\n[config]")).await;
    assert!(matches!(refused, Err(ReconfigureError::Restart(_) | ReconfigureError::Manifest(_))), "{refused:?}");
}

/// A plugin that follows no changes.
#[tokio::test(start_paused = true)]
async fn who_cannot_be_told_begins_anew_with_its_state() {
    let fixture = Fixture::new();
    let path = format!("{}/../../../examples/prebuilt/word-count.wasm", env!("CARGO_MANIFEST_DIR"));
    let beside = |window_s: u32| {
        let text = format!("[config]\nwindow-s = {window_s}");
        Some(ManifestSource::Text { origin: "the test".to_owned(), text })
    };
    let options = StartOptions { manifest: beside(3600), grant: Grant::AsAsked };
    let plugin = fixture.runtime.start(PluginSource::Path(path.into()), options).await.unwrap();
    fixture.mesh.publish("words.lines", "before before");
    until(&plugin, |status| status.metrics.messages == 1).await;
    let restarted = fixture.runtime.reconfigure(&plugin, beside(5), &Grant::AsAsked).await.unwrap();
    assert_eq!(restarted, Reconfigured::Restarted);
    fixture.mesh.publish("words.lines", "after");
    let counts = fixture.mesh.wait_for("words.counts", 1).await.remove(0);
    assert!(counts.contains("\"before\":2") && counts.contains("\"after\":1"), "{counts}");
}
