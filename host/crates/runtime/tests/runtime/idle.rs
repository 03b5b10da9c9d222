//! Idle instances give their memory back, and come back as they were.

use std::time::Duration;

use macula_runtime::{CrashPolicy, LogLevel, Operation, PluginHandle, PluginState, Rights, RuntimeConfig};

use super::support::{Fixture, MANIFEST, logged};

const EVICTED: [PluginState; 1] = [PluginState::Evicted];

async fn start(fixture: &Fixture, config: &str) -> PluginHandle {
    let manifest = MANIFEST.replace("[config]", &format!("[config]\n{config}"));
    fixture.start("probe", &format!("{manifest}[limits]\nevict-after-s = 10\n")).await
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_comes_back_as_it_was() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "init = \"subscribe kept.*\\nadvertise kept\"").await;
    assert_eq!(fixture.ask("handled").await, "handled 1");
    plugin.wait_for(&EVICTED).await;
    let status = plugin.status();
    assert_eq!((status.memory_bytes, status.metrics.evictions, status.metrics.restarts), (0, 1, 0));
    assert_eq!(fixture.mesh.published_texts("report").last().unwrap(), "shutdown StopReason::Evicted 1000");
    assert_eq!(fixture.mesh.patterns(), ["in.**", "kept.*"]);

    // A message, on a subscription of the instance that has gone.
    fixture.mesh.publish("kept.x", "subscribe later.*\nadvertise later");
    let reports = fixture.reports(4).await;
    assert_eq!(reports[1..], ["shutdown StopReason::Evicted 1000", "subscribed 2", "advertised"]);
    assert!(fixture.mesh.published_texts("report").contains(&"init StartReason::Resumed".to_owned()));
    assert!(plugin.status().memory_bytes > 0);

    // A call, and a message on what a handler has opened; more than once.
    for _ in 0..2 {
        plugin.wait_for(&EVICTED).await;
        assert_eq!(fixture.mesh.patterns(), ["in.**", "kept.*", "later.*"]);
        assert_eq!(fixture.mesh.call("later", "handled").await.unwrap(), "handled 2");
    }
    plugin.wait_for(&EVICTED).await;
    fixture.mesh.publish("later.x", "handled");
    assert_eq!(fixture.reports(8).await[7], "handled 3");

    // A timer, set before it went.
    assert_eq!(fixture.ask("after late 60000").await, "Ok(())");
    plugin.wait_for(&EVICTED).await;
    assert_eq!(fixture.reports(11).await[8..], ["Ok(())", "shutdown StopReason::Evicted 1000", "tick late missed 0"]);
    assert_eq!(plugin.metrics().traps, 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_work_stays() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "").await;
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_secs(9)).await;
        fixture.ask("handled").await;
    }
    assert_eq!(plugin.metrics().evictions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_version_gets_the_state_of_an_evicted_instance() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "").await;
    fixture.ask("handled").await;
    plugin.wait_for(&EVICTED).await;
    fixture.replace(&plugin, MANIFEST).await.unwrap();
    assert_eq!(fixture.ask("handled").await, "handled 2");
    let reports = fixture.mesh.published_texts("report");
    assert!(!reports.contains(&"init StartReason::Resumed".to_owned()), "it was not woken for that: {reports:?}");
}

#[tokio::test(start_paused = true)]
async fn an_evicted_plugin_stops_at_once() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "").await;
    plugin.wait_for(&EVICTED).await;
    fixture.stop(&plugin).await;
    assert_eq!(plugin.state(), PluginState::Stopped);
    assert_eq!(fixture.reports(1).await, ["shutdown StopReason::Evicted 1000"], "it has said good-bye once");
    assert_eq!(fixture.mesh.patterns(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_it_is_stopped_is_handled() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "").await;
    fixture.tell("retry 60000");
    plugin.wait_for(&EVICTED).await;
    fixture.stop(&plugin).await;
    assert_eq!(plugin.metrics().retries, 2, "it had its last chance");
    let reports = fixture.mesh.published_texts("report");
    assert_eq!(reports.last().unwrap(), "shutdown StopReason::Stopped 5000", "{reports:?}");
}

#[tokio::test(start_paused = true)]
async fn new_rights_resume_an_instance() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "").await;
    plugin.wait_for(&EVICTED).await;
    plugin.replace_rights(&Rights::of(|operation| {
        let is_publish = operation == Operation::Publish;
        if is_publish { vec!["**".parse().unwrap()] } else { Vec::new() }
    }));
    let reports = fixture.reports(2).await;
    assert_eq!(reports, ["shutdown StopReason::Evicted 1000", "rights changed"]);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_give_its_state_stays() {
    let fixture = Fixture::new();
    let plugin = start(&fixture, "snapshot = \"denied\"").await;
    logged(&plugin, "stays in memory: its snapshot failed: denied: as told").await;
    assert_eq!((plugin.state(), plugin.metrics().evictions), (PluginState::Running, 0));
    assert_eq!(fixture.ask("handled").await, "handled 1");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_take_its_state_back_begins_empty_and_that_is_said() {
    for (how, begins) in [("trap", "restore: trapped"), ("denied", "restore: refused its state: denied: as told")] {
        let fixture = Fixture::new();
        let plugin = start(&fixture, &format!("restore = \"{how}\"")).await;
        assert_eq!(fixture.ask("handled").await, "handled 1");
        plugin.wait_for(&EVICTED).await;
        fixture.tell("handled");
        let text = logged(&plugin, "its state of before it was evicted is lost").await;
        assert!(text.contains(begins), "{text}");
        assert_eq!(fixture.reports(3).await[2], "handled 1", "it begins empty, and no message is lost");
        let metrics = plugin.metrics();
        assert_eq!(
            (metrics.restarts, fixture.mesh.published_texts("report").last().unwrap().as_str()),
            (0, "handled 1")
        );
        assert!(fixture.mesh.published_texts("report").contains(&"init StartReason::Restarted".to_owned()), "{how}");
    }
}

/// Gives up a plugin that has crashed as often.
fn strict(crashes_max: usize) -> Fixture {
    let crash_policy = CrashPolicy { crashes_max, ..CrashPolicy::default() };
    Fixture::with(RuntimeConfig { crash_policy, ..RuntimeConfig::default() })
}

/// Waits until there are so many entries with `part`.
async fn logged_times(plugin: &PluginHandle, part: &str, times: usize) {
    let (mut next, mut seen) = (0, 0);
    while seen < times {
        let (lines, after) = tokio::select! {
            entries = plugin.log().follow(next) => entries,
            _ = plugin.wait_for(&[PluginState::Failed]) => panic!("given up: {:?}", plugin.status().reason),
        };
        seen += lines.iter().filter(|line| line.message.contains(part)).count();
        next = after;
    }
}

/// Entries of this level with `part`.
fn said(plugin: &PluginHandle, level: LogLevel, part: &str) -> usize {
    let (lines, _) = plugin.log().lines_from(0);
    lines.iter().filter(|line| line.level == level && line.message.contains(part)).count()
}

/// Goal: an idle plugin whose snapshot traps is not given up for that, and is asked less and less often.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_traps_when_idle_brings_nobody_down() {
    let fixture = strict(2);
    let (plugin, started) = (start(&fixture, "snapshot = \"trap\"").await, tokio::time::Instant::now());
    for round in 1..=6 {
        logged_times(&plugin, "its state is lost", round).await;
        plugin.wait_for(&[PluginState::Running]).await;
        assert_eq!(fixture.ask("handled").await, "handled 1", "a new instance, without state");
    }
    let status = plugin.status();
    assert_eq!((status.state, status.metrics.evictions, status.metrics.dead_letters), (PluginState::Running, 0, 0));
    let lost = status.lost_state.unwrap();
    assert!(lost.starts_with("its state was lost: its snapshot trapped"), "{lost}");
    assert_eq!(said(&plugin, LogLevel::Warn, "was to be evicted"), 6, "each time that the respite grew");
    // Six respites of a minute and twice as much each time, and none is over before its time.
    let waited = started.elapsed();
    assert!(waited > Duration::from_secs(60 * (1 + 2 + 4 + 8 + 16)), "{waited:?}");
}

/// Goal: who cannot give its state is not asked for it at every period, and nothing of it is lost.
#[tokio::test(start_paused = true)]
async fn who_cannot_give_its_state_is_asked_less_and_less_often() {
    for snapshot in ["\"denied\"".to_owned(), ((16 << 20) + 1).to_string()] {
        let fixture = Fixture::new();
        let plugin = start(&fixture, &format!("snapshot = {snapshot}")).await;
        assert_eq!(fixture.ask("handled").await, "handled 1");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        // After 20 s, then with pauses of 1, 2, 4, 8, 16 and 32 minutes, where there are 360 periods.
        assert_eq!(said(&plugin, LogLevel::Warn, "stays in memory: its snapshot failed"), 6, "{snapshot}");
        assert_eq!(fixture.ask("handled").await, "handled 2");
        assert_eq!((plugin.metrics().traps, plugin.status().lost_state), (0, None));
    }
}

/// Goal: a state that cannot be taken back is lost, which is said, and that does not bring the plugin down either.
#[tokio::test(start_paused = true)]
async fn a_restore_that_traps_when_resumed_brings_nobody_down() {
    let fixture = strict(2);
    let plugin = start(&fixture, "restore = \"trap\"").await;
    for _ in 0..5 {
        plugin.wait_for(&EVICTED).await;
        assert_eq!(fixture.mesh.call("probe.do", "handled").await.unwrap(), "handled 0", "it begins empty");
    }
    assert_eq!((plugin.state(), plugin.metrics().traps), (PluginState::Running, 5));
    assert!(plugin.status().lost_state.unwrap().contains("restore: trapped"));
}
