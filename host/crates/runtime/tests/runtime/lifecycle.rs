//! Start, stop, identity, log.

use std::time::Duration;

use macula_runtime::{LogLevel, LogLine, LogSource, PluginState, RuntimeConfig, StartError, StopReason};

use super::support::{Fixture, MANIFEST, logged};

#[tokio::test]
async fn stopping_finishes_what_was_taken() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.ask("handled").await;
    fixture.runtime.stop_all(StopReason::HostStopping, Duration::from_millis(700)).await;
    assert_eq!(plugin.state(), PluginState::Stopped);
    assert!(fixture.runtime.plugins().is_empty());
    assert_eq!((fixture.mesh.patterns().len(), fixture.mesh.procedures().len()), (0, 0));
    let last = fixture.mesh.published_texts("report").pop().unwrap();
    let grace: u32 = last.strip_prefix("shutdown StopReason::HostStopping ").unwrap().parse().unwrap();
    assert!((500..=700).contains(&grace), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_has_its_last_chance_when_the_plugin_stops() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.mesh.publish("in.a", "retry-once 20000");
    fixture.mesh.publish("in.a", "publish done x");
    fixture.mesh.publish("in.b", "retry 20000");
    fixture.ask("handled").await;
    fixture.stop(&plugin).await;
    assert_eq!(fixture.mesh.published_texts("done"), ["x"]);
    let letter = fixture.mesh.published("_mesh.deadletters.probe").remove(0);
    let reason = letter.metadata.unwrap().value("reason").unwrap().to_owned();
    assert_eq!(reason, "the plugin was stopped before it could be tried again");
}

#[tokio::test]
async fn who_does_not_stop_is_ended() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &format!("{MANIFEST}\n[limits]\nhandler-ms = 600000")).await;
    fixture.ask("publish begun x\nhandled").await;
    let begun = plugin.activity().watch();
    fixture.tell("loop");
    plugin.activity().follow(begun).await;
    for _ in 0..10 {
        fixture.tell("handled");
    }
    plugin.stop(StopReason::Stopped, Duration::from_millis(50)).await;
    assert_eq!(plugin.state(), PluginState::Stopped);
    // Nothing goes without a word: what had been taken is a dead letter, and the rest is counted.
    let metrics = plugin.metrics();
    assert_eq!((metrics.dead_letters, metrics.dropped), (1, 10));
    logged(&plugin, "10 messages that had come and were not taken yet are lost: the plugin was stopped").await;
}

#[tokio::test]
async fn names_are_unique() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    let refused = fixture.try_start("probe", MANIFEST).await;
    assert!(matches!(refused, Err(StartError::NameTaken(name)) if name == "probe"));
    fixture.stop(&plugin).await;
    fixture.probe().await;
}

#[tokio::test]
async fn a_plugin_knows_who_it_is() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &format!("version = \"1.2.3\"\n{MANIFEST}")).await;
    let who = fixture.ask("who").await;
    let node = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
    assert_eq!(who, format!("probe 1.2.3 {} {node} local.dev 0/1", plugin.mcid()));
    assert_eq!(fixture.ask("can /mesh/publish a.b").await, "true");
    assert_eq!(fixture.ask("can /mesh/publish _mesh.x").await, "false");
    assert_eq!(fixture.ask("can /mesh/own a.b").await, "false");
    assert_eq!(fixture.ask("config report").await, "Some(\"report\")");
    assert_eq!(fixture.ask("config missing").await, "None");
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert!(fixture.ask("kv state").await.contains("kv is not available on this host yet"));
    assert_eq!(fixture.ask("trace").await, "false");
}

#[tokio::test]
async fn wasi_is_clocks_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert_eq!(fixture.ask("args").await, "0 0");
    assert_eq!(fixture.ask("files").await, "false");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(fixture.ask("clock").await.parse::<u64>().unwrap().abs_diff(now) < 60);
}

#[tokio::test]
async fn logs_and_prints_reach_the_log() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("log hello there");
    fixture.tell("print printed line");
    logged(&plugin, "printed line").await;
    let (lines, _) = plugin.log().lines_from(0);
    let line = lines.iter().find(|line| line.message == "hello there").unwrap();
    assert_eq!((line.level, line.source, line.target.as_str()), (LogLevel::Info, LogSource::Plugin, "probe"));
    assert_eq!(line.fields, [("field".to_owned(), "value".to_owned())]);
    let printed = lines.iter().find(|line| line.message == "printed line").unwrap();
    assert_eq!(printed.source, LogSource::Output);
}

#[tokio::test(start_paused = true)]
async fn a_log_reaches_those_who_are_elsewhere() {
    let fixture = Fixture::with(RuntimeConfig { publish_logs: Some(LogLevel::Info), ..RuntimeConfig::default() });
    let plugin = fixture.probe().await;
    fixture.ask("handled").await;
    fixture.tell("log hello all");
    fixture.tell("print printed text");
    fixture.mesh.wait_for("_mesh.logs.probe", 2).await;
    fixture.mesh.call("probe.do", "log last words").await.unwrap();
    fixture.stop(&plugin).await;
    let entries: Vec<LogLine> = fixture
        .mesh
        .published("_mesh.logs.probe")
        .iter()
        .map(|message| {
            assert_eq!(message.content_type.as_str(), "application/json");
            // One deeper than the handler that wrote it: who logs what it reads in logs comes to an end.
            assert_eq!(message.cause_depth, 1);
            serde_json::from_slice::<LogLine>(&message.payload).unwrap()
        })
        .filter(|entry| entry.source != LogSource::Host)
        .collect();
    let texts: Vec<&str> = entries.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!(texts, ["hello all", "printed text", "last words"]);
    assert_eq!((entries[0].source, entries[1].source), (LogSource::Plugin, LogSource::Output));
}
