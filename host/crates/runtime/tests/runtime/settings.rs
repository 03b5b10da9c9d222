//! Settings that change while a plugin runs.

use std::time::Duration;

use macula_runtime::{
    Grant, ManifestSource, PluginHandle, PluginSource, PluginState, ReconfigureError, Reconfigured, StartOptions,
    StopReason,
};

use super::support::{Fixture, MANIFEST, logged, until};

impl Fixture {
    async fn reconfigure(&self, plugin: &PluginHandle, manifest: &str) -> Result<Reconfigured, ReconfigureError> {
        let beside = ManifestSource::Text { origin: "the test".to_owned(), text: manifest.to_owned() };
        self.runtime.reconfigure(plugin, Some(beside), &Grant::AsAsked).await
    }

    /// What a command on this topic gives, whatever else is reported meanwhile.
    async fn answer(&self, topic: &str, command: &str) -> String {
        let is_answer = |report: &String| !report.starts_with("changed");
        let before = self.mesh.published_texts("report").into_iter().filter(is_answer).count();
        self.mesh.publish(topic, command.to_owned());
        let mut needed = 1;
        loop {
            let reports = self.mesh.wait_for("report", needed).await;
            needed = reports.len() + 1;
            if let Some(answer) = reports.into_iter().filter(is_answer).nth(before) {
                return answer;
            }
        }
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
    // Both are asked, and the one that had taken them is told of the old ones, before its next handler at the latest.
    assert!(changes.contains(&on(0)) && changes.contains(&on(1)), "{changes:?}");
    for topic in ["in.a", "in.b", "in.c", "in.d"] {
        assert_eq!(fixture.answer(topic, "config a").await, "Some(\"1\")");
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
    let told = fixture.reconfigure(&plugin, &evicted("a = 2")).await.unwrap();
    assert_eq!(told, Reconfigured::Told(vec!["a".into()]));
    assert_eq!(fixture.mesh.published_texts("report").last().unwrap(), "changed a on instance 0");
    plugin.wait_for(&[PluginState::Evicted]).await;
    assert_eq!(fixture.mesh.call("probe.do", "config a").await.unwrap(), "Some(\"2\")");
    // It has its say, and is none the worse for it.
    plugin.wait_for(&[PluginState::Evicted]).await;
    fixture.reconfigure(&plugin, &evicted("a = 3\ntake = \"refuse\"")).await.unwrap_err();
    assert_eq!(fixture.mesh.call("probe.do", "config a").await.unwrap(), "Some(\"2\")");
    assert_eq!(fixture.mesh.call("probe.do", "handled").await.unwrap(), "handled 1");
    assert_eq!((plugin.metrics().traps, plugin.metrics().restarts), (0, 0));
}

/// One that has taken them, and would not take the old ones back, gets them all the same.
#[tokio::test]
async fn what_one_instance_refuses_none_has() {
    let fixture = Fixture::new();
    let sharded = |settings: &str| format!("{}\n[limits]\ninstances = 3", with(settings));
    let plugin = fixture.start("probe", &sharded("a = 1\ntake = \"refuse\"")).await;
    fixture.reconfigure(&plugin, &sharded("a = 2\ntake = \"refuse-last\"")).await.unwrap_err();
    for number in 0..9 {
        assert_eq!(fixture.answer(&format!("in.{number}"), "config a").await, "Some(\"1\")");
    }
    logged(&plugin, "although it refuses them: invalid: as told").await;
}

/// Whoever asks gives up, and what the instance says later changes nothing.
#[tokio::test]
async fn who_is_busy_for_too_long_keeps_the_old_ones() {
    let fixture = Fixture::new();
    let slow = |settings: &str| format!("{}\n[limits]\nhandler-ms = 600000", with(settings));
    let plugin = fixture.start("probe", &slow("a = 1")).await;
    // Waits for an answer that nobody gives yet.
    fixture.mesh.answer("slow".parse().unwrap(), Ok("late".into()), Duration::from_secs(100));
    tokio::time::pause();
    // Each gives up after five seconds.
    fixture.tell(&"call slow x\n".repeat(20));
    let busy = fixture.reconfigure(&plugin, &slow("a = 2")).await.unwrap_err();
    assert!(matches!(busy, ReconfigureError::Busy(_)), "{busy}");
    let answer = fixture.mesh.call_as("probe.do".parse().unwrap(), "config a".into(), Duration::from_secs(300), 0);
    assert_eq!(answer.await.unwrap(), "Some(\"1\")");
}

#[tokio::test]
async fn a_plugin_that_is_to_stop_does_not_wait_for_them() {
    let fixture = Fixture::new();
    let slow = |settings: &str| format!("{}\n[limits]\nhandler-ms = 600000", with(settings));
    let plugin = fixture.start("probe", &slow("a = 1")).await;
    fixture.mesh.answer("slow".parse().unwrap(), Ok("late".into()), Duration::from_secs(100));
    let begun = plugin.activity().watch();
    fixture.tell("call slow x");
    plugin.activity().follow(begun).await;
    let (runtime, asked, manifest) = (fixture.runtime.clone(), plugin.clone(), slow("a = 2"));
    let changing = tokio::spawn(async move {
        let beside = ManifestSource::Text { origin: "the test".to_owned(), text: manifest };
        runtime.reconfigure(&asked, Some(beside), &Grant::AsAsked).await
    });
    tokio::task::yield_now().await;
    plugin.stop(StopReason::Stopped, Duration::from_millis(50)).await;
    let told = changing.await.unwrap().unwrap_err();
    assert!(matches!(told, ReconfigureError::NotRunning), "{told}");
}

/// A version that has taken over meanwhile is not replaced by the one before with new settings.
#[tokio::test]
async fn settings_of_a_version_are_not_put_into_the_next() {
    let fixture = Fixture::new();
    let version = |number: u32, settings: &str| format!("version = \"{number}\"\n{}", with(settings));
    let plugin = fixture.start("probe", &version(1, "a = 1")).await;
    let (next, changed) = (version(2, "a = 1"), version(1, "a = 2"));
    let (one, other) = tokio::join!(fixture.replace(&plugin, &next), fixture.reconfigure(&plugin, &changed));
    one.unwrap();
    // Which of them was first is open; what is not is that version 2 has its own settings in the end.
    if let Err(error) = other {
        assert!(matches!(error, ReconfigureError::NotRunning | ReconfigureError::Restart(_)), "{error}");
    }
    assert_eq!((plugin.status().version.as_str(), &*plugin.manifest().config["a"]), ("2", "1"));
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
