//! What the binary is for.

use serde_json::Value;

use crate::process::{Home, prebuilt};

#[test]
fn a_plugin_answers_a_message_with_another() {
    let home = Home::new();
    let node = home.node(&["run", &prebuilt("sensor-alert")]);
    assert_eq!(node.ready["plugins"][0]["name"], "sensor-alert");
    assert_eq!(node.ready["plugins"][0]["state"], "running");
    let mut alerts = home.subscriber(&["alerts.**", "--count", "2", "--json"]);
    home.output(&["publish", "sensors.kitchen.temperature", "20"]).succeeded();
    home.output(&["publish", "sensors.kitchen.temperature", "41.5"]).succeeded();
    home.output(&["publish", "sensors.kitchen.temperature", "42"]).succeeded();
    home.output_with(&["publish", "sensors.kitchen.temperature", "-"], b"{\"celsius\": 12}").succeeded();
    let states: Vec<Value> = (0..2)
        .map(|_| {
            let message: Value = serde_json::from_str(&alerts.line()).unwrap();
            assert_eq!(message["topic"], "alerts.kitchen.temperature");
            assert_eq!(message["plugin"], "sensor-alert");
            serde_json::from_str(message["payload"].as_str().unwrap()).unwrap()
        })
        .collect();
    assert_eq!(states[0]["state"], "raised");
    assert_eq!(states[1]["state"], "cleared");
    assert_eq!(alerts.wait().code, Some(0));

    let summary: Value = serde_json::from_str(&home.output(&["call", "sensors.summary"]).succeeded()).unwrap();
    assert_eq!(summary["kitchen"]["count"], 4);
    assert_eq!(summary["kitchen"]["max"], 42.0);
    node.stop();
}

#[test]
fn two_hosts_on_one_relay_call_one_another() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let url = relay.relay();
    let first = home.node(&["run", &prebuilt("calculator"), "--relay", &url, "--name", "first"]);
    let second = home.node(&["run", &prebuilt("sensor-alert"), "--relay", &url, "--name", "second"]);
    assert!(first.ready.get("relay").is_none(), "a host behind a relay opens no port");
    assert_eq!(home.output(&["call", "math.add", "[2, 3.5]"]).succeeded().trim(), "5.5");
    assert_eq!(home.output(&["call", "sensors.summary"]).succeeded().trim(), "{}");
    let status = home.output(&["status", "--json"]).succeeded();
    let names: Vec<Value> =
        status.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["first", "relay", "second"]);
    second.stop();
    first.stop();
    relay.stop();
}

#[test]
fn lines_arrive_in_order_and_complete() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let mut lines = home.subscriber(&["log.*", "--count", "5000", "--when-full", "block"]);
    let input: String = (0..5000).map(|n| format!("line {n}\n")).collect();
    home.output_with(&["publish", "--lines", "log.test"], input.as_bytes()).succeeded();
    for n in 0..5000 {
        assert_eq!(lines.line(), format!("log.test line {n}"));
    }
    node.stop();
}

#[test]
fn a_word_count_window_comes_from_a_timer() {
    let home = Home::new();
    let settings = home.path().join("macula.toml");
    std::fs::write(&settings, "[plugin.\"word-count\".config]\nwindow-ms = 50\n").unwrap();
    let node = home.node(&["run", &prebuilt("word-count")]);
    let mut counts = home.subscriber(&["words.counts", "--count", "1"]);
    home.output_with(&["publish", "--lines", "words.lines"], b"one two\ntwo\n").succeeded();
    let line = counts.line();
    assert!(line.contains("two"), "{line}");
    node.stop();
}

#[test]
fn retained_values_wait_for_subscribers_to_come() {
    let home = Home::new();
    let node = home.node(&["relay"]);
    home.output(&["publish", "--retain", "config.kitchen", "warm"]).succeeded();
    home.output(&["publish", "--retain", "config.kitchen", "cold"]).succeeded();
    let mut values = home.subscriber(&["config.*", "--count", "1", "--json"]);
    let message: Value = serde_json::from_str(&values.line()).unwrap();
    assert_eq!((message["payload"].as_str(), message["retained"].as_bool()), (Some("cold"), Some(true)));
    home.output(&["publish", "--retain", "config.kitchen", ""]).succeeded();
    home.output(&["subscribe", "config.*", "--count", "1", "--for", "1ms"]).failed(5, "0 of 1");
    node.stop();
}
