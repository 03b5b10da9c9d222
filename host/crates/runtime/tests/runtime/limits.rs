//! What a plugin may use: time, stack, memory, log.

use std::time::{Duration, Instant};

use macula_runtime::Histogram;

use super::support::{Fixture, MANIFEST, logged, until};

fn with_limits(limits: &str) -> String {
    format!("{MANIFEST}\n[limits]\n{limits}")
}

#[tokio::test]
async fn an_endless_loop_is_stopped_while_others_go_on() {
    let fixture = Fixture::forgiving();
    let looping = fixture.start("looping", &with_limits("handler-ms = 300").replace("in.**", "loop.**")).await;
    fixture.start("other", &MANIFEST.replace("probe.do", "other.do")).await;
    fixture.mesh.publish("loop.x", "loop");
    until(&looping, |status| status.subscriptions[0].delivered == 1).await;
    // One thread runs both: the other's answer proves that the loop gives way.
    assert_eq!(fixture.ask("handled").await, "handled 1");
    assert_eq!(looping.metrics().traps, 0, "the loop was still running");
    let text = logged(&looping, "guest time").await;
    assert!(text.starts_with("used up its 300 ms of guest time"), "{text}");
    assert!(looping.metrics().guest_ns >= 300_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_endless_loops_as_threads_stop_nobody() {
    let fixture = Fixture::forgiving();
    for number in 0..4 {
        let (name, pattern) = (format!("loop{number}"), format!("loop{number}.**"));
        let manifest = with_limits("handler-ms = 2000").replace("in.**", &pattern).replace("probe.do", &name);
        let plugin = fixture.start(&name, &manifest).await;
        fixture.mesh.publish(&format!("loop{number}.x"), "loop");
        until(&plugin, |status| status.subscriptions[0].delivered == 1).await;
    }
    fixture.probe().await;
    assert_eq!(fixture.ask("handled").await, "handled 1");
    // Timers of the async runtime go on as well.
    tokio::time::timeout(Duration::from_secs(60), tokio::time::sleep(Duration::from_millis(20))).await.unwrap();
}

#[tokio::test]
async fn endless_recursion_is_a_trap() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.probe().await;
    fixture.tell("recurse");
    let text = logged(&plugin, "trapped").await;
    // Which of the guest's two stacks ends first depends on what it keeps there.
    assert!(text.contains("stack") || text.contains("out of bounds"), "{text}");
    fixture.mesh.publish("in.other", "handled");
    assert_eq!(fixture.reports(1).await, ["handled 1"]);
}

#[tokio::test]
async fn memory_ends_at_the_limit() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with_limits("memory-mib = 16")).await;
    assert_eq!(fixture.ask("grow 4").await, "grown");
    let before = plugin.status().memory_bytes;
    assert!((4 << 20..16 << 20).contains(&before), "{before}");
    assert_eq!(fixture.ask("grow 100").await, "grow refused");
    assert!(plugin.status().memory_bytes <= 16 << 20);
    assert_eq!(plugin.metrics().traps, 0);
}

#[tokio::test]
async fn too_little_memory_to_begin_with_is_said() {
    let fixture = Fixture::new();
    let refused = fixture.try_start("probe", &with_limits("memory-mib = 1")).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("could not be set up") && text.contains("memory"), "{text}");
}

#[tokio::test]
async fn a_flood_of_log_is_counted_and_dropped() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with_limits("log-bytes-per-s = 20000")).await;
    assert_eq!(fixture.ask("flood 5000").await, "flooded");
    let kept = plugin.log().lines_from(0).0.iter().filter(|line| line.target == "flood").count();
    let dropped = plugin.metrics().log_dropped;
    assert!((15..500).contains(&kept), "{kept}");
    assert_eq!(dropped, 5000 - kept as u64);
}

#[tokio::test]
async fn waiting_in_the_host_is_not_charged() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with_limits("handler-ms = 200")).await;
    // Together longer than the handler may run.
    let begin = Instant::now();
    fixture.tell("sleep 150\nsleep 150");
    assert_eq!(fixture.reports(2).await, ["slept", "slept"]);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let metrics = plugin.metrics();
    assert!(metrics.guest_ns < 100_000_000 && metrics.traps == 0, "{metrics:?}");
}

#[tokio::test]
async fn running_is_charged() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.ask("spin 60").await;
    let spun = Duration::from_nanos(until(&plugin, |status| status.metrics.messages == 1).await.metrics.guest_ns);
    assert!(spun >= Duration::from_millis(20), "{spun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_publish_waits_no_longer_than_a_handler_may() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.mesh.hold_acks();
    let begin = tokio::time::Instant::now();
    assert!(fixture.ask("publish-acked out.x y").await.contains("Timeout"));
    assert!((4..=5).contains(&begin.elapsed().as_secs()), "what was left of 5 s of guest time");
    assert_eq!(plugin.metrics().traps, 0);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_longer_than_a_handler_may_take_ends_it() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.probe().await;
    fixture.tell("sleep 3600000");
    assert!(logged(&plugin, "trapped").await.contains("wasi:io/poll"));
}

#[tokio::test]
async fn an_endless_loop_ends_wherever_it_is() {
    let limits = "[limits]\nhandler-ms = 50";
    let with = |config: &str| format!("{}\n{limits}", MANIFEST.replace("[config]", &format!("[config]\n{config}")));
    let fixture = Fixture::forgiving();
    let refused = fixture.try_start("probe", &with("init = \"loop\"")).await.unwrap_err().to_string();
    assert!(refused.contains("used up its 50 ms of guest time"), "{refused}");

    let plugin = fixture.start("probe", &with("on-tick = \"loop\"")).await;
    fixture.ask("after tick 1").await;
    logged(&plugin, "used up its 50 ms of guest time").await;
    // The next instance works, and the tick is not given again.
    assert_eq!(fixture.mesh.call("probe.do", "handled").await.unwrap(), "handled 0");
    assert_eq!(plugin.metrics().traps, 1);
    fixture.stop(&plugin).await;

    let plugin = fixture.start("probe", &with("shutdown = \"loop\"")).await;
    fixture.stop(&plugin).await;
    logged(&plugin, "its shutdown used up its 50 ms of guest time").await;
}

#[tokio::test]
async fn handles_are_bounded() {
    let fixture = Fixture::new();
    fixture.start("probe", &with_limits("subscriptions = 3\ntimers = 2")).await;
    assert_eq!(fixture.ask("subscribe a").await, "subscribed 1");
    assert_eq!(fixture.ask("subscribe b").await, "subscribed 2");
    assert!(fixture.ask("subscribe c").await.contains("QuotaExceeded(\"subscriptions: 3 are open\")"));
    assert_eq!(fixture.ask("after a 100000").await, "Ok(())");
    assert_eq!(fixture.ask("after b 100000").await, "Ok(())");
    assert!(fixture.ask("after c 100000").await.contains("QuotaExceeded(\"timers: 2 are set already\")"));
}

#[tokio::test]
async fn who_runs_too_much_rests_and_loses_nothing() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with_limits("cpu-ms-per-s = 20")).await;
    // More than a second's worth: what comes behind it has to wait.
    assert_eq!(fixture.ask("spin 60").await, "spun");
    let begin = Instant::now();
    assert_eq!(fixture.ask("handled").await, "handled 2");
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    // It stops without having rested.
    fixture.tell("spin 200");
    until(&plugin, |status| status.metrics.guest_ns > 150_000_000).await;
    fixture.stop(&plugin).await;
    assert!(fixture.mesh.published_texts("report").last().unwrap().starts_with("shutdown StopReason::Stopped "));
}

#[tokio::test(start_paused = true)]
async fn who_calls_the_host_too_much_rests_and_loses_nothing() {
    let fixture = Fixture::new();
    let plugin = fixture.start("probe", &with_limits("host-calls-per-s = 100")).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(fixture.ask("publish-many out 500").await, "published 500");
    assert!(plugin.metrics().host_calls >= 500);
    fixture.ask("handled").await;
    let rested = begin.elapsed().as_secs();
    assert!((3..=5).contains(&rested), "500 calls are worth 5 s, of which one was saved up: {rested}");
}

#[tokio::test]
async fn how_long_handlers_take_is_counted() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.ask("sleep 20").await;
    fixture.ask("handled").await;
    fixture.mesh.call("probe.do", "handled").await.unwrap();
    fixture.ask("after now 1").await;
    until(&plugin, |status| status.metrics.ticks == 1).await;
    let latencies = plugin.status().latencies;
    let total = |histogram: &Histogram| histogram.counts.iter().sum::<u64>();
    assert_eq!((total(&latencies.messages), total(&latencies.calls), total(&latencies.ticks)), (3, 1, 1));
    assert!(latencies.messages.quantile_us(1.0).is_none_or(|us| us >= 20_000), "waits are part of it");
    assert!(latencies.messages.sum_ns >= 20_000_000);
}

#[tokio::test(start_paused = true)]
async fn who_publishes_too_much_is_told() {
    let fixture = Fixture::new();
    // One of them is for its report that `init` has run.
    fixture.start("probe", &with_limits("publish-per-s = 5")).await;
    let publish = async || {
        let answer = fixture.mesh.call("probe.do", "publish out x").await.unwrap();
        String::from_utf8(answer.into()).unwrap()
    };
    for _ in 0..4 {
        assert!(publish().await.starts_with("Ok("));
    }
    assert!(publish().await.contains("QuotaExceeded(\"publish-per-s\")"));
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(publish().await.starts_with("Ok("));
    assert!(publish().await.contains("QuotaExceeded"));
    assert_eq!(fixture.mesh.published_count("out"), 5);
}
