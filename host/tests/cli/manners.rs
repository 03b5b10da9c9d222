//! What programs and shells rely on: errors in JSON, colours, completion, manual pages, names.

use std::fs;

use serde_json::Value;

use crate::process::{Home, prebuilt};

/// Goal: with `--json` every failure is a line of JSON, also that of arguments; and so is the version.
#[test]
fn failures_are_json_where_that_was_asked_for() {
    let home = Home::new();
    for (arguments, kind) in [
        (&["publish", "bad..topic", "x", "--json"][..], "usage"),
        (&["--json", "nonsense"], "usage"),
        (&["call", "--json"], "usage"),
        (&["status", "--json"], "not-found"),
    ] {
        let output = home.output(arguments);
        let line: Value =
            serde_json::from_str(output.err.trim()).unwrap_or_else(|error| panic!("{error}: {}", output.err));
        assert_eq!((&line["kind"], output.out.as_str()), (&kind.into(), ""), "{line}");
        assert!(!line["error"].as_str().unwrap().is_empty());
        assert_eq!(output.code, Some(if kind == "usage" { 2 } else { 4 }));
    }
    let version: Value = serde_json::from_str(home.output(&["--version", "--json"]).succeeded().trim()).unwrap();
    assert_eq!(version["name"], "macula-host");
    // What follows `--` is no flag.
    assert!(home.output(&["nonsense", "--", "--json"]).err.starts_with("error:"));
}

/// Goal: results that cannot be written are failures, for every verb that prints.
#[test]
fn a_full_output_is_a_failure() {
    let home = Home::new();
    let node = home.node(&["run", &prebuilt("calculator")]);
    let calculator = prebuilt("calculator");
    for arguments in [
        &["status"][..],
        &["--version"],
        &["--help"],
        &["--version", "--json"],
        &["inspect", &calculator],
        &["call", "math.add", "[1, 2]"],
        &["completion", "bash"],
        &["logs", "calculator"],
        &["realm", "list"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = home.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("cannot write to standard output"), "{arguments:?}: {said}");
    }
    node.stop();
}

/// Goal: a shell completes verbs by itself, and plugins, procedures and topics as the node here knows them.
#[test]
fn shells_complete_what_the_node_knows() {
    let home = Home::new();
    let completed = |words: &[&str]| {
        let mut command = home.command(&[]);
        command.env("MACULA_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.env("_CLAP_IFS", "\n").arg("--").args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(completed(&["macula-host", "con"]).trim(), "content");
    assert_eq!(completed(&["macula-host", "logs", "cal"]).trim(), "", "nothing runs");
    let node = home.node(&["run", &prebuilt("calculator")]);
    assert_eq!(completed(&["macula-host", "logs", "cal"]).trim(), "calculator");
    assert!(completed(&["macula-host", "call", "math."]).lines().any(|line| line == "math.add"));
    home.output(&["publish", "rooms.kitchen.light", "on", "--retain"]).succeeded();
    assert_eq!(completed(&["macula-host", "subscribe", "rooms"]).trim(), "rooms.kitchen.light");
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.output(&["completion", shell]).succeeded().contains("MACULA_COMPLETE"));
    }
    node.stop();
}

#[test]
fn every_verb_has_a_manual_page() {
    let home = Home::new();
    let folder = home.path().join("man1");
    home.output(&["man", folder.to_str().unwrap()]).succeeded();
    let page = fs::read_to_string(folder.join("macula-host-content-get.1")).unwrap();
    assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
    for verb in ["run", "publish", "deploy", "slots-grant", "token-verify"] {
        assert!(folder.join(format!("macula-host-{verb}.1")).is_file(), "{verb}");
    }
}

/// Goal: no colours where the environment asks for none, or the terminal has none. `script` gives it a terminal.
#[test]
fn no_colours_where_none_are_wanted() {
    let home = Home::new();
    let binary = env!("CARGO_BIN_EXE_macula-host");
    let logged = |name: &str, value: &str| {
        let line = format!("{binary} run /nowhere.wasm -v --listen 127.0.0.1:0 --health 127.0.0.1:0");
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("MACULA_HOME", home.path()).env("TERM", "xterm").env(name, value);
        script.output().ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(coloured) = logged("COLUMNS", "80") else {
        eprintln!("skipped: colours: there is no `script` to make a terminal with");
        return;
    };
    assert!(coloured.contains('\u{1b}'), "a terminal has colours: {coloured}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = logged(name, value).unwrap();
        assert!(plain.contains("nowhere.wasm") && !plain.contains('\u{1b}'), "{name}: {plain}");
    }
}

/// Goal: people read names first; ids are short, and whole for those who ask. A host elsewhere is named by its id.
#[test]
fn names_come_before_ids() {
    let home = Home::new();
    let echo = prebuilt("echo");
    let node = home.node(&["run", "--follow", "demo/echo", "--name", "kitchen"]);
    home.output(&["deploy", "demo/echo", &echo, "--wait"]).succeeded();
    let status: Value = serde_json::from_str(home.output(&["status", "--json"]).succeeded().trim()).unwrap();
    let id = status["node"].as_str().unwrap();
    let short = &id[id.len() - 8..];
    let (told, told_whole) = (home.output(&["status"]).succeeded(), home.output(&["status", "-v"]).succeeded());
    assert!(told.starts_with(&format!("kitchen ({short})")) && !told.contains(id), "{told}");
    assert!(told_whole.starts_with(&format!("kitchen ({id})")), "{told_whole}");
    let slots = home.output(&["slots"]).succeeded();
    assert!(slots.contains(&format!("kitchen ({short}) echo 0.1.0 seq 1")) && !slots.contains(id), "{slots}");
    let whole: Value = serde_json::from_str(home.output(&["slots", "--json"]).succeeded().trim()).unwrap();
    assert_eq!((&whole["host"], whole["node"].as_str()), (&"kitchen".into(), Some(id)));
    let relay = node.relay();
    home.output(&["logs", "echo", "--node", &relay, "--name", id]).succeeded();
    let inspected = home.output(&["inspect", "echo", "--node", &relay, "--name", id]).succeeded();
    assert!(inspected.contains("message-handler") || inspected.contains("call-handler"), "{inspected}");
    home.output(&["logs", "echo", "--node", &relay, "--name", "did:key:nonsense"]).failed(4, "no host named");
    node.stop();
}
