//! What the binary is for.

use std::fs;

use serde_json::Value;

use crate::process::{Home, prebuilt, project};

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

/// The runtime's own test plugin, which does what its calls say, under a name and with rights of its own.
fn scripted(home: &Home, name: &str, offers: &str, calls: &str) -> String {
    let component = home.path().join(format!("{name}.wasm"));
    fs::copy(project().join("host/crates/runtime/tests/probe.wasm"), &component).unwrap();
    let manifest = format!(
        "publish = [\"out\"]\nadvertise = [{offers:?}]\ncall = [{calls:?}]\n[[procedures]]\nprocedure = {offers:?}\n"
    );
    fs::write(home.path().join(format!("{name}.toml")), manifest).unwrap();
    component.display().to_string()
}

#[test]
fn plugins_on_two_hosts_call_one_another() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let (url, alice, bob) =
        (relay.relay(), scripted(&home, "alice", "alice.ask", "bob.ask"), scripted(&home, "bob", "bob.ask", "math.*"));
    let first = home.node(&["run", &alice, "--relay", &url, "--name", "first"]);
    let second = home.node(&["run", &bob, &prebuilt("calculator"), "--relay", &url, "--name", "second"]);
    // The command line asks Alice to ask Bob, on the other host, to ask the calculator beside him.
    let chain = home.output(&["call", "alice.ask", "--raw", "call bob.ask call math.add [2,3]"]).succeeded();
    assert_eq!(chain.trim(), "answer answer 5");
    let denied = home.output(&["call", "alice.ask", "--raw", "call math.add [2,3]"]).succeeded();
    assert!(denied.contains("Denied") && denied.contains("/mesh/call math.add"), "{denied}");
    // What is traced stays so, from hop to hop.
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut published = home.subscriber(&["out", "--count", "2", "--json"]);
    let publish = "call bob.ask publish out x";
    home.output(&["call", "alice.ask", "--traceparent", trace, "--tracestate", "rojo=1", "--raw", publish]).succeeded();
    home.output(&["publish", "out", "--traceparent", trace, "x"]).succeeded();
    let messages = [published.line(), published.line()].map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let traces = messages.each_ref().map(|message| message["traceparent"].as_str().unwrap_or_default().to_owned());
    assert_eq!(messages.each_ref().map(|message| message["tracestate"].as_str()), [Some("rojo=1"), None]);
    assert!(traces[0].starts_with(&trace[..36]) && traces[0] != trace, "the same trace, a later part: {traces:?}");
    assert_eq!(traces[1], trace);
    home.output(&["publish", "out", "x", "--traceparent", "01-x"]).failed(2, "00-<trace id>-<span id>-<flags>");
    // A trap reaches the caller as such, and the plugin is there again for the next call.
    home.output(&["call", "bob.ask", "--raw", "trap"]).failed(1, "may have run");
    assert_eq!(home.output(&["call", "bob.ask", "--raw", "call math.add [1,1]"]).succeeded().trim(), "answer 2");
    second.stop();
    first.stop();
    relay.stop();
}

/// What the three examples do, as their users see it.
fn what_they_do(home: &Home, plugins: [&str; 3]) -> Vec<String> {
    let settings = home.path().join("macula.toml");
    let windows = "[plugin.\"word-count\".config]\nwindow-ms = 50\n[plugin.word_count.config]\nwindow-ms = 50\n";
    fs::write(&settings, windows).unwrap();
    let node = home.node(&[&["run"], &plugins[..]].concat());
    let mut alerts = home.subscriber(&["alerts.**", "--count", "2"]);
    let mut counts = home.subscriber(&["words.counts", "--count", "1"]);
    let mut seen = Vec::new();
    for arguments in ["[1, 2, 3]", "[1]", "[]", "{}", "[\"x\"]", "[1, 0]"] {
        for operation in ["add", "sub", "mul", "div"] {
            let called = home.output(&["call", &format!("math.{operation}"), arguments]);
            seen.push(format!("{operation} {arguments}: {:?} {}{}", called.code, called.out, called.err));
        }
    }
    for celsius in ["20", "30.1", "29.5", "31", "28.9"] {
        home.output(&["publish", "sensors.attic.temperature", celsius]).succeeded();
    }
    home.output(&["publish", "words.lines", "the cat and the hat"]).succeeded();
    seen.extend([alerts.line(), alerts.line()]);
    seen.push(home.output(&["call", "sensors.summary"]).succeeded());
    let window: Value = serde_json::from_str(counts.line().split_once(' ').unwrap().1).unwrap();
    seen.push(window["counts"].to_string());
    node.stop();
    seen
}

#[test]
fn examples_built_from_source_do_what_the_prebuilt_ones_do() {
    let rustc =
        std::process::Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip2"]).output();
    let libraries = rustc.map(|found| String::from_utf8_lossy(&found.stdout).trim().to_owned()).unwrap_or_default();
    if !std::path::Path::new(&libraries).is_dir() {
        eprintln!(
            "skipped: examples are not rebuilt: rustc lacks wasm32-wasip2 (guest-sdk/rust/wasm-target.sh adds it)"
        );
        return;
    }
    let names = ["calculator", "sensor-alert", "word-count"];
    let sources = names.map(|name| project().join("examples").join(name).display().to_string());
    let components = names.map(prebuilt);
    let rebuilt = what_they_do(&Home::new(), sources.each_ref().map(String::as_str));
    let shipped = what_they_do(&Home::new(), components.each_ref().map(String::as_str));
    assert_eq!(rebuilt, shipped);
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
    fs::write(&settings, "[plugin.\"word-count\".config]\nwindow-ms = 50\n").unwrap();
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
