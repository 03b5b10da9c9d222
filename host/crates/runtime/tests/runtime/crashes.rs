//! Traps, restarts, giving up.

use std::time::Duration;

use macula_runtime::{CrashPolicy, InitError, PluginState, RuntimeConfig, StartError};

use super::support::{Fixture, MANIFEST, logged};

#[tokio::test]
async fn a_trap_loses_nothing() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("trap-once");
    fixture.tell("publish after x");
    assert_eq!(fixture.reports(1).await[0], "survived, attempt 2");
    fixture.mesh.wait_for("after", 1).await;
    assert_eq!(fixture.mesh.published_texts("report")[..2], ["init StartReason::Fresh", "init StartReason::Restarted"]);
    let metrics = plugin.metrics();
    assert_eq!((metrics.traps, metrics.restarts, metrics.retries, metrics.dead_letters), (1, 1, 1, 0));
    let text = logged(&plugin, "trapped").await;
    assert!(text.contains("unreachable") && text.contains("new instance starts in 10 ms"), "{text}");
    assert!(logged(&plugin, "panicked").await.contains("as told") || logged(&plugin, "as told").await.len() > 3);
}

#[tokio::test(start_paused = true)]
async fn a_poisonous_message_becomes_a_dead_letter_and_the_plugin_goes_on() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("trap");
    fixture.tell("publish after x");
    fixture.mesh.wait_for("after", 1).await;
    let letter = fixture.mesh.published("_mesh.deadletters.probe").remove(0);
    let reason = letter.metadata.unwrap().value("reason").unwrap().to_owned();
    assert!(reason.starts_with("5 attempts failed; the last time the handler trapped: "), "{reason}");
    assert_eq!(plugin.metrics().traps, 5);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_ends_and_is_remembered() {
    let fixture = Fixture::with(RuntimeConfig {
        crash_policy: CrashPolicy { crashes_max: 4, ..CrashPolicy::default() },
        ..RuntimeConfig::default()
    });
    let plugin = fixture.probe().await;
    for _ in 0..3 {
        fixture.mesh.publish("in.a", "trap");
        fixture.mesh.publish("in.b", "trap");
    }
    assert_eq!(plugin.wait_for(&[PluginState::Failed]).await, PluginState::Failed);
    let status = plugin.status();
    assert!(status.reason.as_deref().is_some_and(|reason| reason.contains("unreachable")), "{status:?}");
    assert_eq!((status.metrics.traps, status.held_messages), (4, 0));
    assert_eq!(fixture.mesh.patterns(), [""; 0], "it receives nothing any more");
    logged(&plugin, "given up").await;
    // What it had taken is not lost.
    fixture.mesh.wait_for("_mesh.deadletters.probe", 1).await;

    fixture.stop(&plugin).await;
    let StartError::CrashLoop { source, .. } = fixture.try_start("probe", MANIFEST).await.unwrap_err() else {
        panic!("it started")
    };
    assert!(source.to_string().contains("crashed 4 times"), "{source}");
}

#[tokio::test]
async fn a_trap_in_init_stops_the_start() {
    let fixture = Fixture::new();
    let refused = fixture.try_start("probe", &MANIFEST.replace("[config]", "[config]\ninit = \"trap\"")).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("\"probe\" did not start: it failed before it was ready: trapped: "), "{text}");
    assert!(fixture.runtime.plugins().is_empty());
    assert_eq!(fixture.mesh.patterns(), [""; 0]);
    fixture.probe().await;
}

#[tokio::test]
async fn an_error_in_init_stops_the_start() {
    let fixture = Fixture::new();
    let refused = fixture.try_start("probe", &MANIFEST.replace("[config]", "[config]\ninit = \"denied\"")).await;
    let Err(StartError::Init { source: InitError::Refused(text), .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(text, "denied: as told");
}

#[tokio::test(start_paused = true)]
async fn an_init_that_is_not_ready_is_asked_again() {
    let fixture = Fixture::new();
    let manifest = MANIFEST.replace("[config]", "[config]\ninit = \"unavailable\"");
    let begin = tokio::time::Instant::now();
    let starting = fixture.try_start("probe", &manifest);
    assert!(tokio::time::timeout(Duration::from_secs(10), starting).await.is_err());
    let plugin = fixture.runtime.plugin("probe").unwrap();
    assert_eq!(plugin.state(), PluginState::BackingOff);
    let (lines, _) = plugin.log().lines_from(0);
    // After 0, 0.2, 0.6, 1.4, 3.0 and 6.2 s.
    assert_eq!(lines.iter().filter(|line| line.message.contains("init is not ready")).count(), 6);
    assert_eq!(begin.elapsed().as_secs(), 10);
    fixture.stop(&plugin).await;
    assert_eq!(plugin.state(), PluginState::Stopped);
}

#[tokio::test]
async fn what_a_new_instance_does_not_ask_for_ends() {
    let fixture = Fixture::forgiving();
    let manifest = MANIFEST.replace("[config]", "[config]\ninit = \"subscribe kept.*\\nadvertise kept\"");
    let plugin = fixture.start("probe", &manifest).await;
    fixture.ask("subscribe lost.*").await;
    fixture.ask("advertise lost").await;
    assert_eq!(fixture.mesh.patterns(), ["in.**", "kept.*", "lost.*"]);
    let id = plugin.status().subscriptions[1].id;
    let before = fixture.mesh.published("report").len();
    fixture.tell("trap-once");
    // The report of `init`, and of having survived.
    fixture.mesh.wait_for("report", before + 2).await;
    fixture.mesh.publish("kept.x", "publish still x");
    fixture.mesh.wait_for("still", 1).await;
    assert_eq!(fixture.mesh.patterns(), ["in.**", "kept.*"]);
    assert_eq!(fixture.mesh.procedures(), ["probe.do", "kept"]);
    assert_eq!(plugin.status().subscriptions[1].id, id, "it went on where it was");
}

#[tokio::test(start_paused = true)]
async fn three_times_unhealthy_is_replaced() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("health sick");
    logged(&plugin, "unhealthy: sick").await;
    assert_eq!(plugin.status().health.as_deref(), Some("unhealthy: sick"));
    logged(&plugin, "was unhealthy 3 times in a row").await;
    assert_eq!(
        fixture.mesh.wait_for("report", 3).await[1..],
        ["shutdown StopReason::Other 0", "init StartReason::Restarted"]
    );
    let metrics = plugin.metrics();
    assert_eq!((metrics.traps, metrics.restarts), (0, 1));
}
