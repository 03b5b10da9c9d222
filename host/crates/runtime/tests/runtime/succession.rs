//! One version after another: nothing is lost, and what fails leaves the old one as it was.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use macula_runtime::{
    ActivityEvent, CrashPolicy, Grant, InitError, PluginHandle, PluginState, ReplaceError, ReplaceOptions,
    RuntimeConfig, StateTransfer, StopReason,
};

use super::support::{Fixture, MANIFEST, logged, until};

/// The manifest of another version: `config` has the lines of its settings.
fn version(number: u32, config: &str) -> String {
    format!("version = \"{number}\"\n{}", MANIFEST.replace("[config]\n", &format!("[config]\n{config}\n")))
}

fn probation(crashes_max: usize) -> ReplaceOptions {
    let policy = CrashPolicy { crashes_max, ..CrashPolicy::default() };
    ReplaceOptions { probation: Some(policy), ..ReplaceOptions::default() }
}

#[tokio::test]
async fn the_state_passes_to_the_next_version() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    assert_eq!(fixture.ask("handled").await, "handled 1");
    fixture.replace(&plugin, &version(2, "")).await.unwrap();
    assert_eq!(plugin.status().version, "2");
    let reports = fixture.mesh.wait_for("report", 5).await;
    let expected = ["init StartReason::Fresh", "handled 1", "init StartReason::Replacing", "init restored from 1"];
    assert_eq!(reports[..4], expected);
    assert!(reports[4].starts_with("shutdown StopReason::Replaced"), "{reports:?}");
    assert_eq!(fixture.ask("handled").await, "handled 2");
    assert_eq!(plugin.metrics().messages, 2, "counters are the plugin's");
    assert_eq!(fixture.runtime.plugins().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_versions_under_load_lose_and_repeat_nothing() {
    const VERSIONS: u32 = 1000;
    let fixture = Fixture::new();
    let pattern = "pattern = \"in.**\"";
    let manifest = |number| version(number, "").replace(pattern, &format!("{pattern}\nqueue-messages = 65536"));
    let plugin = fixture.start("probe", &manifest(0)).await;
    let (mesh, is_over) = (fixture.mesh.clone(), Arc::new(AtomicBool::new(false)));
    let publisher = tokio::task::spawn_blocking({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    mesh.publish("in.load", format!("publish out {sent}"));
                    sent += 1;
                }
                // The queue is bounded, and this test is not about that.
                while sent > 10_000 + mesh.published_count("out") && !is_over.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            }
            sent
        }
    });
    let options = ReplaceOptions::default();
    for number in 1..=VERSIONS {
        let prepared = fixture.prepare(&manifest(number)).await;
        fixture.runtime.replace(&plugin, prepared, &Grant::AsAsked, &options).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let sent = publisher.await.unwrap();
    let handled = fixture.mesh.wait_for("out", sent).await;
    assert!(handled.iter().enumerate().all(|(index, text)| *text == index.to_string()), "lost, repeated or reordered");
    assert_eq!(handled.len(), sent);
    assert_eq!(plugin.status().version, VERSIONS.to_string());
    assert_eq!(plugin.metrics().dropped, 0);
}

#[tokio::test]
async fn what_does_not_start_leaves_the_old_version_alone() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    fixture.ask("subscribe own.a").await;
    let patterns = fixture.mesh.patterns();
    let refused = fixture.replace(&plugin, &version(2, "init = \"subscribe own.b\\nafter t 0\\ndenied\"")).await;
    assert!(
        matches!(&refused, Err(ReplaceError::Init(InitError::Refused(text))) if text.contains("as told")),
        "{refused:?}"
    );
    let crashed = fixture.replace(&plugin, &version(3, "init = \"trap\"")).await;
    assert!(matches!(crashed, Err(ReplaceError::Init(InitError::Crashed(_)))), "{crashed:?}");
    let sick = fixture.replace(&plugin, &version(4, "sick = true")).await;
    assert!(
        matches!(&sick, Err(ReplaceError::Init(InitError::Unhealthy(text))) if text.contains("as told")),
        "{sick:?}"
    );
    let restored = fixture.replace(&plugin, &version(5, "restore = \"denied\"")).await;
    assert!(matches!(restored, Err(ReplaceError::Restore(_))), "{restored:?}");
    let fell = fixture.replace(&plugin, &version(6, "restore = \"trap\"")).await;
    assert!(matches!(fell, Err(ReplaceError::Restore(_))), "{fell:?}");
    let renamed = fixture.replace(&plugin, &format!("name = \"other\"\n{}", version(7, ""))).await;
    assert!(matches!(renamed, Err(ReplaceError::Renamed { .. })), "{renamed:?}");
    let more = fixture.replace(&plugin, &format!("{}\n[limits]\ninstances = 2", version(8, ""))).await;
    assert!(matches!(more, Err(ReplaceError::Instances { was: 1, is: 2 })), "{more:?}");

    assert_eq!(fixture.mesh.patterns(), patterns);
    assert_eq!((plugin.status().version.as_str(), plugin.status().timers), ("1", 0));
    assert!(plugin.state() == PluginState::Running);
    fixture.mesh.publish("own.a", "handled");
    until(&plugin, |status| status.metrics.messages == 2).await;
}

#[tokio::test]
async fn a_version_that_cannot_give_its_state_stays() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &version(1, "snapshot = \"denied\"")).await;
    let refused = fixture.replace(&plugin, &version(2, "")).await;
    assert!(matches!(&refused, Err(ReplaceError::Snapshot(text)) if text.contains("as told")), "{refused:?}");
    assert_eq!(fixture.ask("handled").await, "handled 1");
    fixture.stop(&plugin).await;
    let plugin = fixture.start("probe", &version(1, &format!("snapshot = {}", (16 << 20) + 1))).await;
    let refused = fixture.replace(&plugin, &version(2, "")).await;
    assert!(matches!(&refused, Err(ReplaceError::Snapshot(text)) if text.contains("16777216")), "{refused:?}");
    fixture.stop(&plugin).await;
    let plugin = fixture.start("probe", &version(1, &format!("snapshot = {}", 16 << 20))).await;
    fixture.replace(&plugin, &version(2, "")).await.unwrap();
    assert!(fixture.mesh.published_texts("report").contains(&"restored 16777216 bytes".to_owned()));
}

#[tokio::test]
async fn what_the_new_version_asks_for_begins_when_it_takes_over() {
    let fixture = Fixture::new();
    let plugin = fixture
        .start("probe", &version(1, "init = \"subscribe own.old\\nsubscribe own.both\\nadvertise do.old\""))
        .await;
    let next = version(2, "init = \"subscribe own.both\\nsubscribe own.new\\nadvertise do.new\\nevery tick 3600000\"");
    let next = next.replace("pattern = \"in.**\"", "pattern = \"in.**\"\n[[subscriptions]]\npattern = \"more.**\"");
    fixture.replace(&plugin, &next).await.unwrap();
    let mut patterns = fixture.mesh.patterns();
    patterns.sort();
    assert_eq!(patterns, ["in.**", "more.**", "own.both", "own.new"]);
    let mut procedures = fixture.mesh.procedures();
    procedures.sort();
    assert_eq!(procedures, ["do.new", "probe.do"]);
    assert_eq!(plugin.status().timers, 1);
    for topic in ["own.new", "own.both", "more.x"] {
        fixture.mesh.publish(topic, "publish out x");
    }
    fixture.mesh.wait_for("out", 3).await;
    // Numbers that the instance was given are those that messages carry.
    let before = fixture.mesh.published("report").len();
    fixture.mesh.publish("own.new", "describe");
    let described = fixture.mesh.wait_for("report", before + 1).await.remove(before);
    let id = plugin.status().subscriptions.iter().find(|one| one.pattern == "own.new").unwrap().id;
    assert_eq!(described.split(' ').nth(5), Some(&*id.to_string()), "{described}");
}

#[tokio::test]
async fn what_waits_waits_for_the_new_version() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "init = \"every tick 3600000\"")).await;
    fixture.mesh.publish("in.a", "retry-once 400");
    fixture.mesh.publish("in.a", "publish out behind");
    until(&plugin, |status| status.metrics.retries == 1).await;
    fixture.replace(&plugin, &version(2, "")).await.unwrap();
    assert_eq!(fixture.mesh.wait_for("out", 1).await, ["behind"]);
    assert_eq!(plugin.status().timers, 1, "timers go on");
    assert_eq!(plugin.metrics().dead_letters, 0);
}

#[tokio::test]
async fn a_version_that_is_busy_is_not_replaced() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    fixture.mesh.hold_acks();
    fixture.tell("publish-acked out x");
    while fixture.mesh.held_acks() == 0 {
        tokio::task::yield_now().await;
    }
    let options = ReplaceOptions { handover: Duration::from_millis(20), ..ReplaceOptions::default() };
    let busy = fixture.replace_with(&plugin, &version(2, ""), options).await;
    assert!(matches!(busy, Err(ReplaceError::Busy(_))), "{busy:?}");
    fixture.mesh.release_acks();
    assert_eq!(fixture.ask("handled").await.split(' ').next(), Some("Ok(Receipt"));
    assert_eq!(plugin.status().version, "1");
}

/// Goal: an instance that was too busy to hand over is not asked for its state afterwards, when nobody takes it any more.
#[tokio::test]
async fn nobody_is_asked_for_a_state_that_nobody_takes() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "snapshot = \"trap\"")).await;
    fixture.mesh.hold_acks();
    fixture.tell("publish-acked out x");
    while fixture.mesh.held_acks() == 0 {
        tokio::task::yield_now().await;
    }
    let options = ReplaceOptions { handover: Duration::from_millis(20), ..ReplaceOptions::default() };
    let busy = fixture.replace_with(&plugin, &version(2, ""), options).await;
    assert!(matches!(busy, Err(ReplaceError::Busy(_))), "{busy:?}");
    fixture.mesh.release_acks();
    fixture.ask("handled").await;
    assert_eq!(fixture.mesh.call("probe.do", "handled").await.unwrap(), "handled 2", "it is the same instance");
    assert_eq!((plugin.metrics().traps, plugin.status().lost_state), (0, None));
}

/// Goal: a state is encoded and decoded by instances that have no memory left of what their handlers may have.
#[tokio::test]
async fn a_state_is_handed_over_when_memory_is_full() {
    let fixture = Fixture::new();
    let small = |number, config: &str| format!("{}\n[limits]\nmemory-mib = 16", version(number, config));
    let plugin = fixture.start("probe", &small(1, &format!("snapshot = {}", 16 << 20))).await;
    assert_eq!(fixture.ask("grow 16").await, "grow refused");
    fixture.replace(&plugin, &small(2, "")).await.unwrap();
    assert!(fixture.mesh.published_texts("report").contains(&"restored 16777216 bytes".to_owned()));
    // What was there for the state is for the state alone.
    assert!(fixture.mesh.call("probe.do", "grow 80").await.unwrap() == "grow refused");
    assert_eq!((plugin.metrics().traps, plugin.status().lost_state), (0, None));
}

#[tokio::test]
async fn a_version_that_crashes_on_probation_waits_to_be_replaced() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    fixture.replace_with(&plugin, &version(2, ""), probation(2)).await.unwrap();
    fixture.mesh.publish("in.bad", "trap-once");
    fixture.mesh.publish("in.bad", "trap");
    fixture.mesh.publish("in.bad", "publish out behind");
    assert_eq!(plugin.wait_for(&[PluginState::Failed]).await, PluginState::Failed);
    assert_eq!(plugin.metrics().dead_letters, 0, "nothing is given up with it");
    fixture.mesh.publish("in.good", "publish out good");
    fixture.replace(&plugin, &version(1, "")).await.unwrap();
    let mut handled = fixture.mesh.wait_for("out", 2).await;
    handled.sort();
    assert_eq!(handled, ["behind", "good"]);
    assert_eq!(plugin.status().version, "1");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_has_stood_the_test_may_crash_as_any_other() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    fixture.replace_with(&plugin, &version(2, ""), probation(2)).await.unwrap();
    plugin.end_probation();
    for round in 1..=5 {
        fixture.tell("trap-once");
        fixture.mesh.wait_for("report", 2).await;
        until(&plugin, |status| status.metrics.traps == round).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(plugin.state(), PluginState::Running);
}

#[tokio::test(start_paused = true)]
async fn attempts_to_replace_a_version_do_not_bring_it_down() {
    let fixture = Fixture::with(RuntimeConfig {
        crash_policy: CrashPolicy { crashes_max: 2, ..CrashPolicy::default() },
        ..RuntimeConfig::default()
    });
    let plugin = fixture.start("probe", &version(1, "snapshot = \"trap\"")).await;
    for _ in 0..5 {
        let refused = fixture.replace(&plugin, &version(2, "")).await;
        assert!(matches!(&refused, Err(ReplaceError::StateLost(text)) if text.contains("trapped")), "{refused:?}");
        plugin.wait_for(&[PluginState::Running]).await;
    }
    let lost = plugin.status().lost_state.unwrap();
    assert!(lost.starts_with("its state was lost: its snapshot trapped"), "{lost}");
    let without = ReplaceOptions { state: StateTransfer::None, ..ReplaceOptions::default() };
    fixture.replace_with(&plugin, &version(2, ""), without).await.unwrap();
    assert_eq!(plugin.status().lost_state, None, "another version has lost nothing");
    assert_eq!((plugin.status().version.as_str(), plugin.metrics().traps), ("2", 5));
}

#[tokio::test]
async fn a_version_that_backs_off_is_replaced() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    for _ in 0..3 {
        fixture.tell("trap-once");
    }
    logged(&plugin, "a new instance starts").await;
    fixture.replace(&plugin, &version(2, "")).await.unwrap();
    until(&plugin, |status| status.version == "2" && status.state == PluginState::Running).await;
}

#[tokio::test]
async fn a_plugin_that_stops_is_not_replaced() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    let prepared = fixture.prepare(&version(2, "")).await;
    plugin.stop(StopReason::Stopped, Duration::ZERO).await;
    let options = ReplaceOptions::default();
    let refused = fixture.runtime.replace(&plugin, prepared.clone(), &Grant::AsAsked, &options).await;
    assert!(matches!(refused, Err(ReplaceError::NotRunning)), "{refused:?}");
    let plugin = fixture.runtime.start_prepared(prepared, &Grant::AsAsked).await.unwrap();
    assert_eq!(plugin.status().version, "2");
}

#[tokio::test]
async fn all_instances_pass_on_their_own_state() {
    let fixture = Fixture::new();
    let sharded = |number| format!("{}\n[limits]\ninstances = 4", version(number, ""));
    let plugin = fixture.start("probe", &sharded(1)).await;
    for number in 0..32 {
        fixture.mesh.publish(&format!("in.t{number}"), format!("publish out {number}"));
    }
    fixture.mesh.wait_for("out", 32).await;
    fixture.replace(&plugin, &sharded(2)).await.unwrap();
    let before = fixture.mesh.published("report").len();
    for number in 0..32 {
        fixture.mesh.publish(&format!("in.t{number}"), "handled");
    }
    let mut handled: Vec<u32> = fixture.mesh.wait_for("report", before + 32).await[before..]
        .iter()
        .filter_map(|text| text.strip_prefix("handled ").and_then(|number| number.parse().ok()))
        .collect();
    handled.sort_unstable();
    assert!(handled[0] >= 2, "{handled:?}");
}

/// Lets another version have a share of the work.
async fn canary(fixture: &Fixture, plugin: &PluginHandle, manifest: &str, percent: u32) -> Result<(), ReplaceError> {
    let prepared = fixture.prepare(manifest).await;
    fixture.runtime.start_canary(plugin, prepared, &Grant::AsAsked, percent, &probation(3)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_gets_its_share_and_nothing_is_lost_or_reordered() {
    const TOPICS: usize = 200;
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    let mut round = 0;
    let mut send = |count: usize| {
        for _ in 0..count {
            for topic in 0..TOPICS {
                fixture.mesh.publish(&format!("in.t{topic}"), format!("publish out.t{topic} {round}"));
            }
            round += 1;
        }
        round
    };
    send(2);
    canary(&fixture, &plugin, &version(2, ""), 30).await.unwrap();
    let rounds = send(3);
    for topic in 0..TOPICS {
        fixture.mesh.wait_for(&format!("out.t{topic}"), rounds).await;
    }
    let status = plugin.canary().unwrap();
    assert_eq!((status.version.as_str(), status.state), ("2", PluginState::Running));
    // Three rounds at least, and what had not been taken of the first two.
    let share = status.metrics.messages as f64 / TOPICS as f64;
    assert!((3.0 * 0.15..5.0 * 0.45).contains(&share), "{share}");
    assert_eq!(plugin.status().version, "1");
    // Of calls every so many.
    let mut versions = [0, 0];
    for _ in 0..50 {
        let who = fixture.mesh.call("probe.do", "who").await.unwrap();
        let who = String::from_utf8_lossy(&who).into_owned();
        versions[usize::from(who.starts_with("probe 2 "))] += 1;
    }
    assert_eq!(versions, [35, 15]);
    // It goes in the middle of work, and what it had is handled all the same.
    send(2);
    let ending = plugin.end_canary();
    send(2);
    ending.await;
    let rounds = send(1);
    for topic in 0..TOPICS {
        let handled = fixture.mesh.wait_for(&format!("out.t{topic}"), rounds).await;
        assert!(handled.iter().enumerate().all(|(index, text)| *text == index.to_string()), "t{topic}: {handled:?}");
    }
    assert!(plugin.canary().is_none());
    assert_eq!(plugin.metrics().dropped, 0);
}

/// To those who watch: a handler and all that it does are of one instance, and what a version does that is not at work yet is
/// nobody's.
#[tokio::test]
async fn what_a_canary_does_is_told_as_its_own() {
    const MESSAGES: usize = 60;
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    let begun = plugin.activity().watch();
    canary(&fixture, &plugin, &version(2, ""), 50).await.unwrap();
    for topic in 0..MESSAGES {
        fixture.mesh.publish(&format!("in.t{topic}"), "publish out x");
    }
    let (mut handling, mut handled, mut next) = ([0, 0], [0, 0], begun);
    while handled[0] + handled[1] < MESSAGES {
        let events;
        (events, next) = plugin.activity().follow(next).await;
        for activity in &events {
            let instance = activity.instance as usize;
            match &activity.event {
                ActivityEvent::Message { .. } => handling[instance] += 1,
                ActivityEvent::Handled { .. } => {
                    handling[instance] -= 1;
                    handled[instance] += 1;
                }
                ActivityEvent::Publish { .. } => assert_eq!(handling[instance], 1, "{activity:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(handled[0] > 0 && handled[1] > 0, "{handled:?}");
    // The one that goes says good-bye, and the one that comes has begun.
    fixture.replace(&plugin, &version(3, "")).await.unwrap();
    fixture.ask("handled").await;
    let (events, _) = plugin.activity().events_from(next);
    assert!(matches!(events[0].event, ActivityEvent::Message { .. }), "{events:?}");
}

#[tokio::test]
async fn what_a_canary_fails_at_is_done_by_the_version_that_runs() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &version(1, "")).await;
    assert!(canary(&fixture, &plugin, &version(2, "init = \"denied\""), 50).await.is_err());
    assert!(canary(&fixture, &plugin, &version(2, "restore = \"denied\""), 50).await.is_err());
    assert!(plugin.canary().is_none());
    let config = "bad = true\ninit = \"subscribe own.new\\nevery t 10\"";
    canary(&fixture, &plugin, &version(2, config), 50).await.unwrap();
    assert_eq!((fixture.mesh.patterns(), plugin.status().timers), (vec!["in.**".to_owned(), "own.new".to_owned()], 0));
    for topic in 0..40 {
        fixture.mesh.publish(&format!("in.t{topic}"), "publish out x");
    }
    loop {
        let canary = plugin.canary().unwrap();
        if canary.state == PluginState::Failed {
            assert!(canary.metrics.traps >= 3, "{canary:?}");
            break;
        }
        tokio::task::yield_now().await;
    }
    plugin.end_canary().await;
    fixture.mesh.wait_for("out", 40).await;
    assert_eq!(plugin.metrics().dead_letters, 0);
    assert_eq!(fixture.mesh.patterns(), ["in.**"]);
}

#[tokio::test]
async fn a_canary_that_has_stood_the_test_takes_over() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &version(1, "")).await;
    fixture.ask("handled").await;
    canary(&fixture, &plugin, &version(2, ""), 50).await.unwrap();
    fixture.replace(&plugin, &version(2, "")).await.unwrap();
    assert!(plugin.canary().is_none());
    assert_eq!(fixture.mesh.call("probe.do", "handled").await.unwrap(), "handled 1");
    fixture.stop(&plugin).await;
    let plugin = fixture.start("probe", &version(1, "")).await;
    canary(&fixture, &plugin, &version(2, ""), 50).await.unwrap();
    fixture.stop(&plugin).await;
    assert!(plugin.canary().is_none() && fixture.mesh.patterns().is_empty());
}

#[tokio::test]
async fn a_canary_goes_whatever_its_state_is() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &version(1, "")).await;
    for snapshot in ["trap", "denied"] {
        canary(&fixture, &plugin, &version(2, &format!("snapshot = \"{snapshot}\"")), 50).await.unwrap();
        plugin.end_canary().await;
        assert!(plugin.canary().is_none());
    }
    assert_eq!((plugin.status().version.as_str(), plugin.metrics().traps), ("1", 0));
    assert_eq!(fixture.ask("publish report here").await, "here", "it works on");
}

#[tokio::test]
async fn going_back_needs_nothing_of_the_version_that_failed() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &version(1, "")).await;
    fixture.replace(&plugin, &version(2, "snapshot = \"denied\"")).await.unwrap();
    let refused = fixture.replace(&plugin, &version(1, "")).await.unwrap_err();
    assert!(matches!(refused, ReplaceError::Snapshot(_)), "{refused}");
    let options = ReplaceOptions { state: StateTransfer::None, ..ReplaceOptions::default() };
    fixture.replace_with(&plugin, &version(1, ""), options).await.unwrap();
    assert_eq!(plugin.status().version, "1");
    assert_eq!(fixture.ask("publish report here").await, "here", "it works on");
}
