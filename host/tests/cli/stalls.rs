//! Pipes that stall: whatever standard input and output do, for however long, the link stays and nothing is lost.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::process::{Home, Node, PATIENCE, Process, prebuilt};

fn links(node: &Node) -> u64 {
    let (_, metrics) = node.page("/metrics", "localhost");
    let line =
        metrics.lines().find(|line| line.starts_with("macula_relay_links ")).unwrap_or_else(|| panic!("{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Asks until a relay has so many links.
fn until_links(node: &Node, count: u64) {
    let begin = Instant::now();
    while links(node) != count {
        assert!(begin.elapsed() < PATIENCE, "{} links, and {count} were expected", links(node));
        thread::sleep(Duration::from_millis(100));
    }
}

fn started(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Goal: verbs whose pipes stall keep their links for longer than a relay waits for a process that is frozen, and lose nothing.
///
/// Method: one subscriber is frozen as a measure. When the relay has given it up, the verbs that stall beside it must still
/// be linked; then their pipes go on, and each has to end well.
#[test]
fn a_stalled_pipe_does_not_cost_the_link() {
    const MESSAGES: usize = 2000;
    let home = Home::new();
    let node = home.node(&["run", &prebuilt("sensor-alert")]);
    let own = links(&node);
    // Standard input that does not end: stored content, lines, and an argument.
    let mut adding = started(&home, &["content", "add", "-"]);
    let mut publishing = started(&home, &["publish", "lines.in", "--lines", "--json"]);
    // Standard output that nobody reads: a pipe holds 64 KiB, and these print more.
    let count = MESSAGES.to_string();
    let mut subscribing = started(&home, &["subscribe", "s.**", "--when-full", "block", "--count", &count]);
    let mut notes = BufReader::new(subscribing.stderr.take().unwrap());
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    assert!(note.contains("subscribed"), "{note}");
    let lines: String = (0..MESSAGES).map(|n| format!("{n:0200}\n")).collect();
    home.output_with(&["publish", "s.a", "--lines"], lines.as_bytes()).succeeded();
    // A log that nobody reads either: each of these makes a warning.
    let bad: String = "no number\n".repeat(1500);
    home.output_with(&["publish", "sensors.a.temperature", "--lines"], bad.as_bytes()).succeeded();
    let mut logging = started(&home, &["logs", "sensor-alert", "-f", "--json"]);
    let frozen = home.subscriber(&["frozen.a"]);
    until_links(&node, own + 5);
    frozen.signal("-STOP");
    // The frozen one alone loses its link.
    until_links(&node, own + 4);
    // Everything goes on.
    adding.stdin.take().unwrap().write_all(b"hello").unwrap();
    let mut mcid = String::new();
    adding.stdout.take().unwrap().read_to_string(&mut mcid).unwrap();
    assert!(adding.wait().unwrap().success() && mcid.starts_with("bafkr4i"), "{mcid}");
    publishing.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let mut told = String::new();
    publishing.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(publishing.wait().unwrap().success() && told.contains("\"messages\":2"), "{told}");
    let printed: Vec<String> =
        BufReader::new(subscribing.stdout.take().unwrap()).lines().map(|line| line.unwrap()).collect();
    assert!(subscribing.wait().unwrap().success());
    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("s.a {n:0200}")).collect();
    assert!(printed == expected, "{} lines", printed.len());
    let mut rest = String::new();
    notes.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "nothing was lost, and no link");
    home.output(&["publish", "sensors.late.temperature", "no number"]).succeeded();
    let logged = BufReader::new(logging.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let before: usize =
        logged.take_while(|line| !line.contains("sensors.late.temperature")).map(|line| line.len()).sum();
    assert!(before > 64 << 10, "{before} bytes are no more than a pipe holds");
    logging.kill().unwrap();
    logging.wait().unwrap();
    frozen.signal("-KILL");
    node.stop();
}

/// Goal: who is interrupted while nobody reads its output ends.
#[test]
fn a_subscriber_that_nobody_reads_can_be_interrupted() {
    let home = Home::new();
    let node = home.node(&["relay"]);
    let mut subscribing = started(&home, &["subscribe", "s.a"]);
    let mut notes = BufReader::new(subscribing.stderr.take().unwrap());
    notes.read_line(&mut String::new()).unwrap();
    let lines = "x".repeat(500) + "\n";
    home.output_with(&["publish", "s.a", "--lines"], lines.repeat(2000).as_bytes()).succeeded();
    let id = subscribing.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(subscribing.wait().unwrap().code(), Some(0));
    node.stop();
}

/// Goal: with `--lines` each option applies to every line.
#[test]
fn options_apply_to_every_line() {
    let home = Home::new();
    let node = home.node(&["relay"]);
    let mut live = home.subscriber(&["a.b", "--count", "2", "--json"]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = [
        "publish",
        "a.b",
        "--lines",
        "--retain",
        "--meta",
        "color=red",
        "--traceparent",
        trace,
        "--tracestate",
        "rojo=1,congo=2",
        "--content-type",
        "text/plain",
        "--delivery",
        "acked",
        "--priority",
        "high",
    ];
    home.output_with(&options, b"one\ntwo\n").succeeded();
    for payload in ["one", "two"] {
        let message: serde_json::Value = serde_json::from_str(&live.line()).unwrap();
        assert_eq!(message["payload"], payload);
        assert_eq!(message["metadata"]["color"], "red");
        assert_eq!((&message["traceparent"], &message["tracestate"]), (&trace.into(), &"rojo=1,congo=2".into()));
        assert_eq!(message["content_type"], "text/plain");
    }
    let kept = home.output(&["subscribe", "a.b", "--count", "1"]).succeeded();
    assert_eq!(kept.trim(), "a.b two", "each was retained, the last one stays");
    let latest = ["publish", "a.c", "--lines", "--delivery", "latest"];
    let mut newest = Process::start(home.command(&["subscribe", "a.c", "--for", "60s"]));
    newest.note("subscribed");
    let many: String = (0..5000).map(|n| format!("{n}\n")).collect();
    home.output_with(&latest, many.as_bytes()).succeeded();
    // Values that were overtaken need not arrive; the last one does.
    while newest.line() != "a.c 4999" {}
    newest.signal("-INT");
    node.stop();
}
