//! The README's commands, word by word: those in `sh` blocks are run in their order against the binary under test.

use std::process::Command;

use crate::process::{Home, Process, project};

/// The lines of all `sh` blocks.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
    let mut commands = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

/// What is on this machine; what is not is skipped with a reason, never silently.
fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|found| found.status.success())
}

/// A command of the README in a shell, with the binary on the path as the README sets it.
fn shell(home: &Home, command: &str) -> Command {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_macula-host")).parent().unwrap().display().to_string();
    let path = format!("{binary}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    // Processes that go on are ended by killing the shell: it becomes the last program.
    shell.args(["-c", command]).env("MACULA_HOME", home.path()).env("PATH", path).current_dir(project());
    shell.env_remove("RUST_LOG");
    shell
}

#[test]
fn every_command_does_what_the_tour_says() {
    let home = Home::new();
    // Ports that nobody else on a test machine uses; the README's own are the defaults.
    let free = |socket: std::net::UdpSocket| socket.local_addr().unwrap().port();
    let port = free(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let prepared = |command: &str| {
        command
            .replace("cargo run --release -- run", "exec macula-host run")
            .replace("127.0.0.1:9443", &format!("127.0.0.1:{port}"))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{health}"))
    };
    let start = |command: &str| {
        let mut shell = shell(&home, &prepared(command));
        shell.env("MACULA_QUIC_PORT", port.to_string()).env("HEALTH_PORT", health.to_string());
        Process::start(shell)
    };
    let mut running: Vec<Process> = Vec::new();
    let mut seen = Vec::new();
    let mut alerts = None;
    for command in commands() {
        let kind = match command.as_str() {
            "cargo test --workspace" => "this test is part of it",
            c if c.starts_with("export PATH") => "the path is set for each command",
            c if c.starts_with("cargo run --release -- run") => {
                let mut node = start(&command);
                assert!(node.line().starts_with("ready:"), "{}", node.log());
                running.push(node);
                "run"
            }
            c if c.starts_with("macula-host run") => {
                if c.contains("examples/word-count") && !has("rustc") {
                    eprintln!("skipped: {c}: no Rust compiler");
                    continue;
                }
                let mut second =
                    start(&format!("{command} --health 127.0.0.1:0").replacen("macula-host", "exec macula-host", 1));
                assert!(second.line().starts_with("ready:"), "{}", second.log());
                running.push(second);
                "host"
            }
            c if c.starts_with("macula-host subscribe") => {
                let mut listener = start(&format!("exec {command}"));
                listener.note("subscribed");
                alerts = Some(listener);
                "subscribe"
            }
            c if c.starts_with("vmstat") => {
                if !has("vmstat") {
                    eprintln!("skipped: {c}: no vmstat (Debian: procps)");
                    continue;
                }
                let mut lines = home.subscriber(&["metrics.vmstat", "--count", "1"]);
                running.push(start(&command));
                assert!(lines.line().starts_with("metrics.vmstat "));
                "lines"
            }
            c if c.starts_with("curl") && !has("curl") => {
                eprintln!("skipped: {c}: no curl");
                continue;
            }
            _ => {
                let finished = start(&command).wait();
                assert_eq!(finished.code, Some(0), "{command}: {}{}", finished.out, finished.err);
                if command.contains("publish") {
                    let alert = alerts.as_mut().expect("the tour listens before it publishes").line();
                    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
                    assert!(text.contains(&alert), "the README shows another line than {alert}");
                }
                "run to the end"
            }
        };
        seen.push((command, kind));
    }
    assert!(seen.len() >= 9, "the README's tour is shorter than it was: {seen:?}");
}
