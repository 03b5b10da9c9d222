//! Starting, stopping, dying and coming back.

use crate::process::{Home, Process, prebuilt};

#[test]
fn killing_the_relay_loses_no_subscription() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let (url, port) = (relay.relay(), relay.port());
    let host = home.node(&["run", &prebuilt("calculator"), &prebuilt("sensor-alert"), "--relay", &url]);
    let mut alerts = home.subscriber(&["alerts.**", "--count", "1", "-v", "--node", &url]);
    relay.process.signal("-KILL");
    drop(relay);
    let relay = home.node(&["relay", "--listen", &format!("127.0.0.1:{port}")]);
    // Both come back by themselves, and say again what they want and offer.
    alerts.note("linked");
    let mut host = host;
    host.process.note("linked");
    host.process.note("linked");
    assert_eq!(home.output(&["call", "math.add", "[1, 1]", "--node", &url]).succeeded().trim(), "2");
    home.output(&["publish", "sensors.attic.temperature", "50", "--node", &url]).succeeded();
    assert!(alerts.line().starts_with("alerts.attic.temperature"));
    host.stop();
    relay.stop();
}

/// Goal: after a relay was killed and started again, commands for a host do not fail because they find the way to it faster
/// than the host does.
#[test]
fn commands_wait_for_a_host_that_is_on_its_way_back() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let (url, port) = (relay.relay(), relay.port());
    let host = home.node(&["run", "--relay", &url]);
    let file = home.path().join("file");
    std::fs::write(&file, "content").unwrap();
    relay.process.signal("-KILL");
    drop(relay);
    let relay = home.node(&["relay", "--listen", &format!("127.0.0.1:{port}")]);
    // All at once, as the first that succeeds shows that the host is back.
    let file = file.to_str().unwrap();
    let commands = [&["content", "add", file][..], &["registry", "search", "x"], &["content", "ls"]];
    let commands = commands.map(|command| Process::start(home.command(&[command, &["--timeout", "30s"]].concat())));
    for command in commands {
        command.wait().succeeded();
    }
    host.stop();
    relay.stop();
}

#[test]
fn a_node_says_how_it_is() {
    let home = Home::new();
    let node = home.node(&["run", &prebuilt("calculator")]);
    assert!(node.page("/live", "localhost").0.contains("200"));
    let (status, body) = node.page("/ready", "localhost");
    assert!(status.contains("200"), "{body}");
    assert!(node.page("/health", "127.0.0.1").1.contains("healthy"));
    let (_, metrics) = node.page("/metrics", "localhost");
    assert!(metrics.contains("macula_plugin_running{plugin=\"calculator\"} 1"), "{metrics}");
    assert!(metrics.contains("macula_link_up 1"));
    let (status, _) = node.page("/metrics", "evil.example");
    assert!(status.contains("421"), "{status}");
    let text = home.output(&["status"]).succeeded();
    assert!(text.contains("plugin calculator"), "{text}");
    node.stop();
    home.output(&["status"]).failed(4, "no node is running here");
}

/// The second one dials a relay that is not there yet, and knows it when it is.
#[test]
fn hosts_that_start_in_the_same_moment_find_each_other() {
    let home = Home::new();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (listen, url) = (format!("127.0.0.1:{port}"), format!("quic://127.0.0.1:{port}"));
    let second = ["run", "--relay", &url, "--name", "second", "--health", "127.0.0.1:0", "--json"];
    let mut second = Process::start(home.command(&second));
    let first = home.node(&["run", "--listen", &listen]);
    let ready = second.line();
    assert!(ready.contains("\"ready\":true"), "{ready}");
    second.signal("-TERM");
    assert_eq!(second.wait().code, Some(0));
    first.stop();
}

#[test]
fn those_that_answer_are_told_of_beside_one_that_does_not() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let lost = home.node(&["run", "--relay", &relay.relay(), "--name", "a-lost-one"]);
    let host = home.node(&["run"]);
    relay.stop();
    let status = home.output(&["status", "--timeout", "1s"]);
    assert!(status.out.starts_with("host "), "{}", status.out);
    status.failed(5, "node a-lost-one (process ");
    host.stop();
    lost.stop();
}

#[test]
fn an_interrupt_drains_and_ends_in_peace() {
    let home = Home::new();
    let node = home.node(&["run", &prebuilt("sensor-alert")]);
    node.process.signal("-INT");
    let finished = node.process.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert!(!home.path().join("nodes/host/run.json").exists());
}

#[test]
fn a_node_that_was_killed_leaves_nothing_in_the_way() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let id = node.ready["node"].clone();
    node.process.signal("-KILL");
    node.process.wait();
    home.output(&["publish", "a.b", "x", "--timeout", "5s"]).failed(5, "no node is running here");
    let node = home.node(&["run"]);
    assert_eq!(node.ready["node"], id, "the key stays");
    node.stop();
}

#[test]
fn settings_come_from_flag_then_environment_then_file() {
    let home = Home::new();
    std::fs::write(home.path().join("macula.toml"), "[node]\nname = \"from-file\"\n").unwrap();
    let node = home.node(&["run"]);
    assert_eq!(node.ready["name"], "from-file");
    node.stop();
    let node = home.node(&["run", "--name", "from-flag"]);
    assert_eq!(node.ready["name"], "from-flag");
    node.stop();
    let mut command = home.command(&["run", "--json", "--listen", "127.0.0.1:0"]);
    let mut process = crate::process::Process::start({
        command.env("HEALTH_PORT", "0").env("MACULA_REALM", "local.dev").env("CLUSTER_SECRET", "x");
        command
    });
    process.note("CLUSTER_SECRET is set, but clustering is not built yet");
    assert!(process.line().contains("\"ready\":true"));
    let mut command = home.command(&["key", "list"]);
    let output = command.env("MACULA_QUIC_PORT", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
