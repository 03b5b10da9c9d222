//! That every flag of every verb is in some test, and the flags that no other module is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::Stdio,
};

use crate::process::{Home, prebuilt, project};

/// Verbs with so many flags in common share them: they are tested once.
const SHARED_BY: usize = 5;

/// The flags of a verb and the verbs below it, as `--help` tells them.
fn flags(home: &Home, verb: &[&str], found: &mut BTreeMap<String, BTreeSet<String>>) {
    let help = home.output(&[verb, &["--help"]].concat()).succeeded();
    let mut section = "";
    for line in help.lines() {
        let is_heading = !line.starts_with(' ') && line.ends_with(':');
        let word = line.split_whitespace().next().unwrap_or_default();
        if is_heading {
            section = line;
        } else if section == "Commands:" && line.starts_with("  ") && !line.starts_with("   ") && word != "help" {
            flags(home, &[verb, &[word]].concat(), found);
        } else if section == "Options:" && line.trim_start().starts_with('-') {
            let long = line.split_whitespace().find_map(|word| word.strip_prefix("--"));
            let name = long.map(|long| long.trim_end_matches(['.', ',']).to_owned());
            found.entry(verb.join(" ")).or_default().extend(name);
        }
    }
}

/// Goal: a flag that is taken and does nothing is found out, since each has to be in a test of its verb.
#[test]
fn every_flag_of_every_verb_is_in_a_test() {
    let home = Home::new();
    let mut found = BTreeMap::new();
    flags(&home, &[], &mut found);
    let folder = project().join("host/tests/cli");
    let texts: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(Path::new("rs").as_os_str()))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let shared = |flag: &str| found.values().filter(|flags| flags.contains(flag)).count() >= SHARED_BY;
    let quoted = |word: &str| format!("\"{word}\"");
    let mut missing = Vec::new();
    for (verb, flags) in &found {
        let last = quoted(verb.rsplit(' ').next().unwrap_or_default());
        for flag in flags {
            let flag_text = quoted(&format!("--{flag}"));
            let is_tested = |text: &String| text.contains(&flag_text) && (shared(flag) || text.contains(&last));
            if !texts.iter().any(is_tested) {
                missing.push(format!("{verb} --{flag}"));
            }
        }
    }
    assert!(found.len() > 40 && missing.is_empty(), "no test has {missing:?}");
}

/// The last value of a topic is left out with `--live`, and comes without.
#[test]
fn live_leaves_out_what_is_stored() {
    let home = Home::new();
    let node = home.node(&["relay"]);
    home.output(&["publish", "a.b", "stored", "--retain"]).succeeded();
    let mut live = home.subscriber(&["a.b", "--live", "--count", "1"]);
    home.output(&["publish", "a.b", "new", "--verbose"]).succeeded();
    assert_eq!(live.line(), "a.b new");
    node.stop();
}

/// Who lets only one message wait, and reads none, loses the rest and is told so.
#[test]
fn a_short_queue_drops_more() {
    const MESSAGES: usize = 20_000;
    let home = Home::new();
    let node = home.node(&["relay"]);
    let mut command = home.command(&["subscribe", "a.b", "--queue", "1"]);
    let mut slow = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut notes = BufReader::new(slow.stderr.take().unwrap());
    notes.read_line(&mut String::new()).unwrap();
    let line = "x".repeat(100) + "\n";
    home.output_with(&["publish", "a.b", "--lines"], line.repeat(MESSAGES).as_bytes()).succeeded();
    // It reads again: what comes next says what was dropped before.
    home.output(&["publish", "a.b", "end"]).succeeded();
    let mut lines = BufReader::new(slow.stdout.take().unwrap()).lines();
    let printed = lines.by_ref().take_while(|line| line.as_ref().is_ok_and(|line| line != "a.b end")).count();
    assert!(printed < MESSAGES, "{printed} lines");
    assert!(std::process::Command::new("kill").args(["-INT", &slow.id().to_string()]).status().unwrap().success());
    let mut told = String::new();
    notes.read_to_string(&mut told).unwrap();
    assert!(slow.wait().unwrap().success() && told.contains("messages were dropped"), "{told}");
    node.stop();
}

/// What one plugin may keep of content is a setting of its own; a call may say that it is the same again.
#[test]
fn a_plugin_keeps_as_much_content_as_it_was_told() {
    let home = Home::new();
    let component = home.path().join("probe.wasm");
    fs::copy(project().join("host/crates/runtime/tests/probe.wasm"), &component).unwrap();
    fs::write(home.path().join("probe.toml"), "advertise = [\"ask\"]\n[[procedures]]\nprocedure = \"ask\"\n").unwrap();
    let node = home.node(&["run", component.to_str().unwrap(), "--plugin-content-max", "100kB"]);
    let ask = |what: &str| home.output(&["call", "ask", "--raw", what, "--idempotency-key", what]).succeeded();
    assert!(ask("put-size 50000").contains("Ok"), "{}", ask("put-size 50000"));
    assert!(ask("put-size 150000").contains("QuotaExceeded"), "{}", ask("put-size 150000"));
    home.output(&["call", "ask", "x", "--raw", "--idempotency-key", &"k".repeat(65)]).failed(2, "above 64 bytes");
    node.stop();
}

#[test]
fn logs_follow_from_a_level() {
    let home = Home::new();
    let node = home.node(&["run", &prebuilt("sensor-alert")]);
    home.output(&["publish", "sensors.kitchen.temperature", "hot"]).succeeded();
    let mut warnings = crate::process::Process::start(home.command(&[
        "logs",
        "sensor-alert",
        "--follow",
        "--level",
        "warn",
        "--json",
    ]));
    let entry: serde_json::Value = serde_json::from_str(&warnings.line()).unwrap();
    assert_eq!(entry["level"], "warn", "{entry}");
    warnings.signal("-TERM");
    assert_eq!(warnings.wait().code, Some(0));
    node.stop();
}
