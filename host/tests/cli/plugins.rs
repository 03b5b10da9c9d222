//! The way of a plugin from nothing to a host, in each language: new, build, test, dev; and what is seen of it there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::process::{Finished, Home, PATIENCE, Process, prebuilt, project};

/// Whether a program is here, and does this.
fn works(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Languages whose toolchain is here; of the others, says so.
fn languages(home: &Home) -> Vec<&'static str> {
    let mut found = Vec::new();
    if works("bash", &[project().join("guest-sdk/rust/wasm-target.sh").to_str().unwrap()]) {
        found.push("rust");
    } else {
        eprintln!("skipped: plugins in Rust: the target wasm32-wasip2 is not here and cannot be added");
    }
    if works("go", &["version"]) {
        found.push("go");
    } else {
        eprintln!("skipped: plugins in Go: there is no go");
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_macula-host")).with_file_name("macula-build-js");
    if std::env::var_os("MACULA_BUILD_JS").is_some() || beside.is_file() {
        found.push("js");
    } else {
        eprintln!("skipped: plugins in JavaScript: no macula-build-js beside macula-host or in MACULA_BUILD_JS");
    }
    assert!(home.path().is_dir());
    found
}

fn built(home: &Home, folder: &Path) -> (PathBuf, String) {
    built_by(&mut home.command(&["build", folder.to_str().unwrap(), "--json"]))
}

fn built_by(build: &mut Command) -> (PathBuf, String) {
    let report: Value =
        serde_json::from_str(&Finished::of(&build.stdin(Stdio::null()).output().unwrap()).succeeded()).unwrap();
    let text = |name: &str| report[name].as_str().unwrap().to_owned();
    (text("component").into(), text("mcid"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            if !["build", "target"].contains(&entry.file_name().to_str().unwrap()) {
                copy(&path, &target);
            }
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

#[test]
fn from_nothing_to_a_tested_plugin() {
    let home = Home::new();
    for language in languages(&home) {
        let folder = home.path().join(format!("greet-{language}"));
        let path = folder.to_str().unwrap();
        home.output(&["new", "--lang", language, path]).succeeded();
        home.output(&["new", "--lang", language, path]).failed(1, "is there already, and not empty");
        let tested = home.output(&["test", path, "--json"]).succeeded();
        let tested: Value = serde_json::from_str(tested.lines().last().unwrap()).unwrap();
        assert_eq!((&tested["scenario"], &tested["passed"]), (&"greets".into(), &true.into()), "{language}");
        // Elsewhere the same source is the same component.
        let (component, mcid) = built(&home, &folder);
        let elsewhere = home.path().join("else where").join(language);
        copy(&folder, &elsewhere);
        // Programs beside it, and flags for programs of the machine, change nothing of it.
        let program = match language {
            "rust" => Some(("src/bin/aaa.rs", "fn main() { compile_error!(\"this is not the plugin\") }")),
            "go" => Some(("cmd/aaa/main.go", "package main\n\nfunc main() { thisIsNotThePlugin() }\n")),
            _ => None,
        };
        if let Some((file, text)) = program {
            fs::create_dir_all(elsewhere.join(file).parent().unwrap()).unwrap();
            fs::write(elsewhere.join(file), text).unwrap();
        }
        let go_env = home.path().join("go-env");
        fs::write(&go_env, "GOFLAGS=-gcflags=-N\n").unwrap();
        let mut build = home.command(&["build", elsewhere.to_str().unwrap(), "--json"]);
        build.env("RUSTFLAGS", "-C link-arg=-fuse-ld=mold").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        assert_eq!(built_by(build.env("GOENV", &go_env)).1, mcid, "{language}");
        // It imports what its source uses, and exports what it handles.
        let inspected = home.output(&["inspect", component.to_str().unwrap(), "--json"]).succeeded();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let imports: Vec<&str> = inspected["imports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(imports.contains(&"macula:plugin/pubsub@0.1.0"), "{language}: {imports:?}");
        assert!(
            !imports.iter().any(|import| import.contains("plugin/rpc") || import.contains("plugin/kv")),
            "{imports:?}"
        );
        let abilities = &inspected["abilities"];
        assert!(!abilities.as_array().unwrap().contains(&"timer-handler".into()), "{language}: {abilities}");
    }
}

#[test]
fn the_same_scenarios_pass_in_every_language() {
    let home = Home::new();
    let scenarios = project().join("examples/sensor-alert/scenarios");
    let report = home.path().join("report.xml");
    for example in ["sensor-alert", "sensor-alert-go", "sensor-alert-js"] {
        let arguments = ["test", &prebuilt(example), "--scenario", scenarios.to_str().unwrap(), "--junit"];
        let passed = home.output(&[&arguments[..], &[report.to_str().unwrap()]].concat()).succeeded();
        assert!(passed.ends_with("4 scenarios passed\n"), "{example}: {passed}");
        assert!(fs::read_to_string(&report).unwrap().contains("tests=\"4\" failures=\"0\""));
    }
}

/// Go's own timers run on the clocks of WASI.
#[test]
fn a_handler_that_sleeps_does_so_in_the_scenarios_time() {
    let home = Home::new();
    if !languages(&home).contains(&"go") {
        return;
    }
    let folder = home.path().join("sleeper");
    home.output(&["new", "--lang", "go", folder.to_str().unwrap()]).succeeded();
    let source = r#"package main

import (
	"context"
	"fmt"
	"time"

	"macula.host/macula"
)

func main() {}

func init() {
	macula.Handle(func(ctx context.Context, message *macula.Message) error {
		begin := time.Now()
		time.Sleep(3 * time.Second)
		text := fmt.Sprintf("%s, %v later", begin.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Second))
		return macula.Publish(ctx, "greetings.sleeper", []byte(text))
	})
}
"#;
    fs::write(folder.join("main.go"), source).unwrap();
    fs::remove_file(folder.join("main_test.go")).unwrap();
    let manifest = fs::read_to_string(folder.join("macula.toml")).unwrap();
    fs::write(folder.join("macula.toml"), manifest.split("[[procedures]]").next().unwrap()).unwrap();
    let scenario = "[[steps]]\nadvance = \"1h\"\n[[steps]]\nmessage = { topic = \"hello.a\" }\n[[steps]]\nadvance = \"5s\"\n\
                    publishes = [{ topic = \"greetings.sleeper\", text = \"2026-01-01T01:00:00Z, 3s later\" }]\n";
    fs::write(folder.join("scenarios/greets.toml"), scenario).unwrap();
    home.output(&["test", folder.to_str().unwrap()]).succeeded();
}

#[test]
fn what_an_example_is_answered_by_others_is_in_its_scenarios() {
    let home = Home::new();
    for (example, number) in [("invoice-js", 4), ("tax-go", 4)] {
        let scenarios = project().join("examples").join(example).join("scenarios");
        let arguments = ["test", &prebuilt(example), "--scenario", scenarios.to_str().unwrap()];
        let passed = home.output(&arguments).succeeded();
        assert!(passed.ends_with(&format!("{number} scenarios passed\n")), "{example}: {passed}");
    }
}

/// JavaScript on the first host calls Go on the second, which calls Rust on the first.
#[test]
fn a_call_goes_through_three_languages_on_two_hosts() {
    let home = Home::new();
    // A rate that the calculator cannot use.
    fs::write(home.path().join("macula.toml"), "[plugin.tax-go.config.rates]\nZZ = 1.7e308\n").unwrap();
    let relay = home.node(&["relay"]);
    let url = relay.relay();
    let first = home.node(&["run", &prebuilt("invoice-js"), &prebuilt("calculator"), "--relay", &url]);
    let total = |country: &str, price: &str| {
        let lines = r#"[{"price": PRICE, "quantity": 3}, {"price": 50, "quantity": 1}]"#.replace("PRICE", price);
        let arguments = format!(r#"{{"country": {country:?}, "lines": {lines}}}"#);
        home.output(&["call", "invoice.total", &arguments])
    };
    // The one in the middle is not there yet.
    total("DE", "19.9").failed(1, "no-tax: nobody here knows taxes: the call did not run: not found");
    let second = home.node(&["run", &prebuilt("tax-go"), "--relay", &url, "--name", "second"]);
    let answer: Value = serde_json::from_str(&total("DE", "19.9").succeeded()).unwrap();
    let expected: Value =
        serde_json::from_str(r#"{"country":"DE","net":109.7,"rate":0.19,"tax":20.84,"gross":130.54}"#).unwrap();
    assert_eq!(answer, expected);
    // Codes come through from the second language, and from the third.
    let unknown = "unknown-country: an invoice to XX cannot be added up: there is no tax rate for \"XX\"";
    total("XX", "19.9").failed(1, unknown);
    total("ZZ", "19.9").failed(1, "overflow: the result is beyond the range of 64-bit floats");
    total("DE", "\"much\"").failed(1, "bad-arguments: line 1");
    second.stop();
    total("DE", "19.9").failed(1, "no-tax");
    first.stop();
    relay.stop();
}

#[test]
fn typescript_is_built_as_javascript_is() {
    let home = Home::new();
    if !languages(&home).contains(&"js") {
        return;
    }
    let folder = home.path().join("typed");
    home.output(&["new", "--lang", "ts", folder.to_str().unwrap()]).succeeded();
    let tested = home.output(&["test", folder.to_str().unwrap()]);
    // Its types are checked by the project's own compiler, which is not there yet.
    assert!(tested.err.contains("no TypeScript yet: npm install"), "{}", tested.err);
    assert!(tested.succeeded().ends_with("1 scenario passed\n"));
    fs::write(folder.join("src/rooms.json"), "\u{feff}{\"kitchen\": 1}").unwrap();
    fs::write(folder.join("src/old.js"), "module.exports = 1").unwrap();
    let build = |source: &str| {
        fs::write(folder.join("src/index.ts"), source).unwrap();
        home.output(&["build", folder.to_str().unwrap()])
    };
    build(
        "import rooms from './rooms.json' with { type: 'json' };
        export default { onCall(): object { console.log(crypto.randomUUID()); return rooms } }",
    )
    .succeeded();
    // What an import leads to is part of what decides whether anything has changed: here a package beside the project, by
    // a name of package.json, and one of tsconfig.json.
    let package = |rooms: &str| {
        let imports = format!(r##"{{ "main": "src/index.ts", "imports": {{ "#rooms": "{rooms}" }} }}"##);
        fs::write(folder.join("package.json"), imports).unwrap();
    };
    package("./src/rooms.json");
    let config = folder.join("tsconfig.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"paths\": {", "\"paths\": { \"~/*\": [\"./src/*\"],")).unwrap();
    let lib = home.path().join("node_modules/lib");
    fs::create_dir_all(&lib).unwrap();
    fs::write(lib.join("package.json"), r#"{ "name": "lib", "exports": "./index.js" }"#).unwrap();
    fs::write(lib.join("index.js"), "export default 1").unwrap();
    let source = "import a from '#rooms'; import b from '~/rooms.json'; import c from 'lib';
        export default { onCall() { return [a, b, c] } }";
    build(source).succeeded();
    let (_, first) = built(&home, &folder);
    fs::write(folder.join("src/other.json"), "2").unwrap();
    assert_eq!(built(&home, &folder).1, first);
    package("./src/other.json");
    let (_, second) = built(&home, &folder);
    assert_ne!(second, first);
    fs::write(lib.join("index.js"), "export default 2").unwrap();
    assert_ne!(built(&home, &folder).1, second);
    for (source, expected) in [
        ("import old from './old'; export default { onCall() { return old } }", "old.js: this is CommonJS"),
        ("@d class A {} export default { onCall() { return A } }", "decorators are not available"),
    ] {
        let finished = build(source);
        assert!(finished.err.contains(expected), "{source}: {}", finished.err);
        finished.failed(1, "does not compile");
    }
}

/// A plugin with the other engine does the same: its tool is got as its author would get it.
#[test]
fn the_same_scenarios_pass_with_starlingmonkey() {
    const TOOL: &str = "@bytecodealliance/componentize-js@0.23.0";
    let home = Home::new();
    if !languages(&home).contains(&"js") {
        return;
    }
    let example = project().join("examples/sensor-alert-js");
    let with_engine = |folder: &Path, engine: &str| {
        copy(&example, folder);
        let file = folder.join("package.json");
        let mut package: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        package["macula"]["engine"] = engine.into();
        fs::write(&file, package.to_string()).unwrap();
    };
    let folder = home.path().join("monkey");
    with_engine(&folder, "v8");
    home.output(&["build", folder.to_str().unwrap()])
        .failed(2, "it may be \"quickjs\", the default, or \"starlingmonkey\"");
    with_engine(&folder, "starlingmonkey");
    let without = home.command(&["build", folder.to_str().unwrap()]).env("NODE", "/nowhere/node").output().unwrap();
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(said.contains("there is no `node` here; get it with:"), "{said}");
    let works = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !works("node", &["--version"]) {
        eprintln!("skipped: StarlingMonkey: there is no node");
        return;
    }
    home.output(&["build", folder.to_str().unwrap()]).failed(1, &format!("get it with: npm install --save-dev {TOOL}"));
    let install = ["install", "--save-dev", "--no-audit", "--no-fund", "--fetch-retries=0", TOOL];
    if !works("npm", &install) {
        eprintln!("skipped: StarlingMonkey: npm cannot get {TOOL} here");
        return;
    }
    // What is drawn while it is built would be in it: for this engine as for the other.
    let source = folder.join("src/index.js");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{text}\nglobalThis.id = crypto.randomUUID();\n")).unwrap();
    home.output(&["build", folder.to_str().unwrap()]).failed(1, "crypto draws in handlers only");
    fs::write(&source, text).unwrap();
    let (component, mcid) = built(&home, &folder);
    // Elsewhere the same source is the same component.
    let elsewhere = home.path().join("else where/monkey");
    with_engine(&elsewhere, "starlingmonkey");
    std::os::unix::fs::symlink(folder.join("node_modules"), elsewhere.join("node_modules")).unwrap();
    assert_eq!(built(&home, &elsewhere).1, mcid);
    // It imports what its source uses, and no network.
    let inspected = home.output(&["inspect", component.to_str().unwrap()]).succeeded();
    assert!(inspected.contains("may ask for config, log, pubsub\n"), "{inspected}");
    assert!(inspected.contains("which lead to clocks and randomness alone"), "{inspected}");
    let scenarios = project().join("examples/sensor-alert/scenarios");
    let arguments = ["test", component.to_str().unwrap(), "--scenario", scenarios.to_str().unwrap()];
    assert!(home.output(&arguments).succeeded().ends_with("4 scenarios passed\n"));
}

#[test]
fn what_is_not_as_expected_is_shown() {
    let home = Home::new();
    let scenario = home.path().join("wrong.toml");
    let test = |text: &str| {
        fs::write(&scenario, text).unwrap();
        home.output(&["test", &prebuilt("sensor-alert"), "--scenario", scenario.to_str().unwrap()])
    };
    let finished = test(
        "[[steps]]\nmessage = { topic = \"sensors.a.temperature\", json = 50 }\npublishes = []\n[[steps]]\nadvance = \"1s\"",
    );
    assert!(finished.out.contains("FAILED"), "{}", finished.out);
    assert!(finished.out.contains("step 1: publishes: expected 0 [], got 1"), "{}", finished.out);
    assert!(finished.out.contains("log: alert"), "{}", finished.out);
    finished.failed(1, "1 of 1 scenario failed");
    test("[[steps]]\nadvance = \"1s\"\nexpects = []").failed(2, "unknown field `expects`");
    test("[config]\nthreshold = \"hot\"\n[[steps]]\nadvance = \"1s\"").failed(1, "1 of 1 scenario failed");
    home.output(&["test", &prebuilt("sensor-alert"), "--scenario", "/nowhere.toml"]).failed(4, "/nowhere.toml");
}

#[test]
fn settings_are_read_again_when_that_is_asked_for() {
    let home = Home::new();
    let component = home.path().join("probe.wasm");
    fs::copy(project().join("host/crates/runtime/tests/probe.wasm"), &component).unwrap();
    let manifest = "advertise = [\"ask\"]\n[[procedures]]\nprocedure = \"ask\"\n[config]\ncolour = \"red\"\n";
    fs::write(home.path().join("probe.toml"), manifest).unwrap();
    let config = |text: &str| fs::write(home.path().join("macula.toml"), text).unwrap();
    let mut node = home.node(&["run", component.to_str().unwrap(), &prebuilt("sensor-alert")]);
    let ask = |command: &str| home.output(&["call", "ask", "--raw", command]).succeeded().trim().to_owned();
    let mut reload = |expected: &[&str]| {
        node.process.signal("-HUP");
        expected.iter().for_each(|what| drop(node.process.note(what)));
    };
    assert_eq!(ask("handled"), "handled 0");
    reload(&["its settings have not changed", "its settings have not changed"]);
    config("[plugin.probe.config]\ncolour = \"blue\"\n[plugin.sensor-alert.config]\nthreshold = 20\n");
    // One is told, and the other cannot be.
    reload(&["it has new settings", "it was begun anew with new settings"]);
    assert_eq!(ask("config colour"), "Some(\"blue\")");
    config("[plugin.probe.config]\ncolour = \"green\"\ntake = \"refuse\"\n");
    reload(&["the plugin refuses them: invalid: as told", "it was begun anew with new settings"]);
    assert_eq!(ask("config colour"), "Some(\"blue\")");
    config("[plugin.probe.limits]\nmemory-mib = 0\n");
    reload(&["memory-mib"]);
    config("nonsense");
    reload(&["the settings stay as they are"]);
    config("");
    assert_eq!(ask("config colour"), "Some(\"blue\")");
    node.stop();
}

/// By the SDKs: told, and asked whether it takes them. In Rust, the scripted plugin of the runtime's tests does that.
#[test]
fn plugins_in_go_and_javascript_follow_their_settings() {
    let home = Home::new();
    for language in languages(&home) {
        let (file, changes) = match language {
            "go" => (
                "main.go",
                [
                    ("import (\n", "import (\n\t\"errors\"\n"),
                    (
                        "\tmacula.HandleCall(",
                        "\tmacula.OnConfigChange(func(_ context.Context, keys []string) error {
                            if greeting, _ := macula.Setting(\"greeting\"); greeting == \"\" || keys[0] != \"greeting\" {
                                return errors.New(\"a greeting says something\")
                            }
                            return nil
                        })\n\tmacula.HandleCall(",
                    ),
                ],
            ),
            "js" => (
                "src/index.js",
                [
                    ("import { publish", "import { setting, publish"),
                    (
                        "    onCall() {",
                        "    onConfigChange(keys) {
                            if (setting('greeting') === '' || keys[0] !== 'greeting') throw new Error('a greeting says something');
                        },\n    onCall() {",
                    ),
                ],
            ),
            _ => continue,
        };
        let folder = home.path().join(language);
        home.output(&["new", "--lang", language, folder.to_str().unwrap()]).succeeded();
        let source = fs::read_to_string(folder.join(file)).unwrap();
        let changed = changes.iter().fold(source, |text, (from, to)| text.replacen(from, to, 1));
        fs::write(folder.join(file), changed).unwrap();
        let step = |step: &str| format!("[[steps]]\n{step}\n");
        let hello = |text: &str| {
            let json = format!("{{ text = \"{text}, ada!\" }}");
            step(&format!(
                "message = {{ topic = \"hello.ada\" }}\npublishes = [{{ topic = \"greetings.ada\", json = {json} }}]"
            ))
        };
        let steps = [
            hello("Hello"),
            step("config = { greeting = \"Hi\" }"),
            hello("Hi"),
            step("config = { greeting = \"\" }\nrefuses = \"a greeting says something\""),
            hello("Hi"),
            // Nothing was begun anew.
            step(&format!("call = {{ procedure = \"{language}.count\" }}\nreply = {{ json = 3 }}")),
        ];
        fs::write(folder.join("scenarios/greets.toml"), steps.concat()).unwrap();
        home.output(&["test", folder.to_str().unwrap()]).succeeded();
    }
}

/// The same in a scenario.
#[test]
fn settings_change_in_a_scenario() {
    let home = Home::new();
    let scenario = home.path().join("settings.toml");
    let steps = "[config]\nreport = \"report\"\n\
        [[steps]]\nconfig = { colour = \"blue\" }\npublishes = [{ topic = \"report\", text = \"changed colour on instance 0\" }]\n\
        [[steps]]\nconfig = { take = \"refuse\", colour = \"red\" }\nrefuses = \"as told\"\n\
        [[steps]]\nreplace = true\n\
        [[steps]]\nmessage = { topic = \"in\", text = \"config colour\" }\npublishes = [{ topic = \"report\", text = \"Some(\\\"blue\\\")\" }]\n";
    fs::copy(project().join("host/crates/runtime/tests/probe.wasm"), home.path().join("probe.wasm")).unwrap();
    let manifest = "subscribe = [\"in\"]\npublish = [\"report\"]\n[[subscriptions]]\npattern = \"in\"\n";
    fs::write(home.path().join("probe.toml"), manifest).unwrap();
    let test = |steps: &str| {
        fs::write(&scenario, steps).unwrap();
        let component = home.path().join("probe.wasm");
        home.output(&["test", component.to_str().unwrap(), "--scenario", scenario.to_str().unwrap()])
    };
    test(steps).succeeded();
    let finished = test(&steps.replace("refuses = \"as told\"\n", ""));
    assert!(finished.out.contains("step 2: it refuses its new settings: invalid: as told"), "{}", finished.out);
    finished.failed(1, "1 of 1 scenario failed");
    let finished = test(&steps.replace("take = \"refuse\"", "take = \"them\""));
    assert!(finished.out.contains("step 2: refuses: expected \"as told\", and it takes them"), "{}", finished.out);
}

/// What happens at a plugin that runs becomes a scenario, and the plugin passes it.
#[test]
fn what_happens_is_recorded_and_played_again() {
    let home = Home::new();
    let plugins = ["tax-go", "calculator", "sensor-alert"].map(prebuilt);
    let host = home.node(&["run", &plugins[0], &plugins[1], &plugins[2]]);
    let record = |plugin: &str| {
        let file = home.path().join(format!("{plugin}.recorded.toml"));
        let arguments = ["test", &prebuilt(plugin), "--record", file.to_str().unwrap(), "--for", "10min"];
        let mut process = Process::start(home.command(&arguments));
        process.note("recording");
        (process, file)
    };
    let finished = |process: Process, steps: &str| {
        process.signal("-INT");
        let ended = process.wait();
        assert!(ended.err.lines().all(|line| !line.contains("not in the scenario")), "{}", ended.err);
        let told = ended.succeeded();
        assert!(told.starts_with(steps), "{told}");
    };
    let ((tax, tax_file), (alert, alert_file)) = (record("tax-go"), record("sensor-alert"));
    for country in ["DE", "NL", "XX"] {
        home.output(&["call", "tax.of", &format!(r#"{{"country": "{country}", "net": 100}}"#)]);
    }
    // What it publishes says that it has been given that.
    let mut alerts = home.subscriber(&["alerts.**", "--count", "1"]);
    for celsius in ["20.5", "no number", "41.5"] {
        home.output(&["publish", "sensors.kitchen.temperature", celsius]).succeeded();
    }
    alerts.line();
    home.output(&["call", "sensors.summary"]).succeeded();
    finished(tax, "3 steps in ");
    finished(alert, "4 steps in ");
    host.stop();
    let text = fs::read_to_string(&tax_file).unwrap();
    for part in ["procedure = \"math.mul\"", "\n\"math.mul\" = { json = ", "error = \"unknown-country\""] {
        assert!(text.contains(part), "{text}");
    }
    let text = fs::read_to_string(&alert_file).unwrap();
    for part in
        ["outcome = \"ack\"", "outcome = \"reject\"", "topic = \"alerts.kitchen.temperature\"", "\nreply = { json = "]
    {
        assert!(text.contains(part), "{text}");
    }
    for (plugin, file, count) in [("tax-go", tax_file, 3), ("sensor-alert", alert_file, 4)] {
        let passed = home.output(&["test", &prebuilt(plugin), "--scenario", file.to_str().unwrap()]).succeeded();
        assert!(passed.ends_with("1 scenario passed\n"), "{plugin}, {count} steps: {passed}");
    }
    let nowhere = home.path().join("none/x.toml");
    home.output(&["test", &prebuilt("echo"), "--record", nowhere.to_str().unwrap()]).failed(4, "cannot write ");
    let file = home.path().join("x.toml");
    fs::write(&file, "as it was").unwrap();
    home.output(&["test", &prebuilt("echo"), "--record", file.to_str().unwrap()]).failed(4, "no host runs here");
    assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
}

/// With several hosts on a machine, the one is asked on which the plugin runs.
#[test]
fn a_plugin_is_found_on_the_host_where_it_runs() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let url = relay.relay();
    let first = home.node(&["run", &prebuilt("echo"), &prebuilt("calculator"), "--relay", &url]);
    let second = home.node(&["run", &prebuilt("lookup"), &prebuilt("calculator"), "--relay", &url, "--name", "second"]);
    for plugin in ["echo", "lookup"] {
        assert_eq!(home.output(&["deadletters", "ls", plugin]).succeeded(), "");
        home.output(&["logs", plugin]).succeeded();
        assert!(home.output(&["inspect", plugin]).succeeded().contains(&format!("as {plugin}")));
    }
    home.output(&["logs", "calculator"]).failed(2, "calculator runs on host and on second; say which with --name");
    home.output(&["logs", "calculator", "--name", "second"]).succeeded();
    home.output(&["logs", "lookup", "--name", "host"]).failed(4, "no plugin named lookup runs here");
    home.output(&["logs", "nobody"]).failed(4, "no plugin named nobody runs here, on host, second");
    home.output(&["logs", "echo", "--name", "third"]).failed(4, "no host named third runs here");
    second.stop();
    first.stop();
    // A relay runs none.
    home.output(&["logs", "echo"]).failed(4, "no host runs here");
    relay.stop();
}

#[test]
fn a_scenario_that_has_no_end_is_ended() {
    let home = Home::new();
    let scenario = home.path().join("endless.toml");
    let text = "[config]\ninit = \"after x 0\"\non-x = \"after x 0\"\n[[steps]]\nadvance = \"1s\"\n";
    fs::write(&scenario, text).unwrap();
    let probe = project().join("host/crates/runtime/tests/probe.wasm");
    let arguments = ["test", probe.to_str().unwrap(), "--scenario", scenario.to_str().unwrap(), "--patience", "1s"];
    let finished = home.output(&arguments);
    assert!(finished.out.contains("had not come to its end after 1 s of real time"), "{}", finished.out);
    finished.failed(1, "1 of 1 scenario failed");
}

/// By itself QuickJS draws the same numbers in every instance.
#[test]
fn instances_in_javascript_draw_their_own_numbers() {
    let home = Home::new();
    if !languages(&home).contains(&"js") {
        return;
    }
    let folder = home.path().join("dice");
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("package.json"), r#"{"name": "dice", "type": "module"}"#).unwrap();
    let manifest = "name = \"dice\"\nadvertise = [\"dice.throw\"]\n";
    fs::write(folder.join("macula.toml"), manifest).unwrap();
    let source = |text: &str| fs::write(folder.join("src/index.js"), text).unwrap();
    source(
        "const { random } = Math;
        const made = Math['random']();
        const values = () => Array.from(crypto.getRandomValues(new Uint16Array(8)));
        const drawn = () => ({ made, numbers: [Math['random'](), random()], id: crypto.randomUUID(), values: values() });
        export default { procedures: { 'dice.throw': drawn } };",
    );
    let (component, mcid) = built(&home, &folder);
    let drawn = || {
        let host = home.node(&["run", component.to_str().unwrap()]);
        let answer = home.output(&["call", "dice.throw", "null"]).succeeded();
        host.stop();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let (one, other) = (drawn(), drawn());
    // What stands outside of handlers is part of the component.
    assert_eq!(one["made"], other["made"]);
    for key in ["numbers", "id", "values"] {
        assert_ne!(one[key], other[key]);
    }
    let id = one["id"].as_str().unwrap();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert!(groups == [8, 4, 4, 4, 12] && id.as_bytes()[14] == b'4', "{id}");
    let is_fraction = |number: &Value| number.as_f64().is_some_and(|number| (0.0..1.0).contains(&number));
    assert!(one["numbers"].as_array().unwrap().iter().all(is_fraction), "{one}");
    // The same source is the same component still, and a secret that would be in it is refused.
    fs::remove_dir_all(folder.join("build")).unwrap();
    assert_eq!(built(&home, &folder).1, mcid);
    source("const id = crypto.randomUUID(); export default { procedures: { 'dice.throw': () => id } };");
    home.output(&["build", folder.to_str().unwrap()]).failed(1, "crypto draws in handlers only");
}

#[test]
fn a_component_that_was_damaged_is_built_again() {
    let home = Home::new();
    if !languages(&home).contains(&"js") {
        return;
    }
    let folder = home.path().join("damaged");
    home.output(&["new", "--lang", "js", folder.to_str().unwrap()]).succeeded();
    let (component, mcid) = built(&home, &folder);
    let whole = fs::read(&component).unwrap();
    for damage in [&whole[..1000], &[]] {
        fs::write(&component, damage).unwrap();
        assert_eq!(built(&home, &folder), (component.clone(), mcid.clone()));
    }
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    let home = Home::new();
    let folder = home.path().join("project");
    let path = folder.to_str().unwrap();
    home.output(&["build", path]).failed(4, "there is no folder");
    fs::create_dir(&folder).unwrap();
    home.output(&["build", path]).failed(4, "holds no plugin");
    home.output(&["dev", path]).failed(4, "holds no plugin");
    fs::write(folder.join("go.mod"), "module x\n").unwrap();
    fs::write(folder.join("package.json"), "{}").unwrap();
    home.output(&["build", path]).failed(2, "say which to build: --lang go or --lang js");
    home.output(&["build", path, "--lang", "cobol"]).failed(2, "cobol");
    home.output(&["build", path, "--lang", "js"]).failed(2, "there is none of src/index.ts");
    fs::write(folder.join("macula.toml"), "name = \"x\"\nsubscrib = [\"a\"]\n").unwrap();
    home.output(&["build", path, "--lang", "go"]).failed(2, "macula.toml, line 2: unknown field `subscrib`");
    fs::remove_file(folder.join("macula.toml")).unwrap();
    home.output(&["new", "--lang", "go", "Not_A_Name"]).failed(2, "is no name for a plugin");
    // Without the tool, the command that gets it.
    let missing = home.command(&["build", path, "--lang", "go"]).env("GO", "/nowhere/go").output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no `go` here; get it with:"), "{said}");
    for language in languages(&home) {
        let folder = home.path().join(format!("broken-{language}"));
        home.output(&["new", "--lang", language, folder.to_str().unwrap()]).succeeded();
        let source = folder
            .join(["src/lib.rs", "main.go", "src/index.js"].iter().find(|file| folder.join(file).is_file()).unwrap());
        let text = fs::read_to_string(&source).unwrap();
        fs::write(&source, format!("{text}\nbroken(((\n")).unwrap();
        let finished = home.output(&["build", folder.to_str().unwrap()]);
        assert!(finished.err.contains(source.file_name().unwrap().to_str().unwrap()), "{}", finished.err);
        finished.failed(1, "does not compile");
    }
}

#[test]
fn what_javascript_cannot_do_is_said_where_it_is_built() {
    let home = Home::new();
    if !languages(&home).contains(&"js") {
        return;
    }
    let folder = home.path().join("odd");
    home.output(&["new", "--lang", "js", folder.to_str().unwrap()]).succeeded();
    for (source, expected) in [
        ("export default { onMessages() {} }", "a plugin has no `onMessages`; it may have"),
        ("export default {}", "this plugin handles nothing"),
        ("export const x = 1", "a plugin is an object: export default"),
        ("import fs from 'node:fs'; export default { onCall() { return fs } }", "plugins run without Node"),
        ("import { fly } from 'macula'; export default { onCall() { return fly } }", "macula has no fly"),
        ("import x from './none.js'; export default { onCall() { return x } }", "./none.js"),
        ("export default { onCall() { return import('./a.js') } }", "import() is not available"),
        ("throw new Error('at build time'); export default { onCall() {} }", "at build time"),
        ("console.log('hello'); export default { onCall() {} }", "the host is called outside of handlers (log: "),
    ] {
        fs::write(folder.join("src/index.js"), source).unwrap();
        let finished = home.output(&["build", folder.to_str().unwrap()]);
        assert!(finished.err.contains(expected), "{source}: {}", finished.err);
        finished.failed(1, "does not compile");
    }
    // What throws or promises when it is called disturbs nothing else.
    fs::write(
        folder.join("src/index.js"),
        "export default { onMessage(m) { if (m.text() === 'throw') null.x; if (m.text() === 'promise') return Promise.reject(1); } }",
    )
    .unwrap();
    let scenario = folder.join("scenarios/greets.toml");
    fs::write(
        scenario,
        r#"
        [[steps]]
        message = { topic = "hello.a", text = "throw" }
        outcome = "dead-letter"
        logs = ["TypeError"]
        [[steps]]
        message = { topic = "hello.a", text = "promise" }
        outcome = "dead-letter"
        logs = ["without async"]
        [[steps]]
        message = { topic = "hello.a", text = "fine" }
        outcome = "ack"
        "#,
    )
    .unwrap();
    let manifest = fs::read_to_string(folder.join("macula.toml")).unwrap();
    let without_offer = manifest.split("[[procedures]]").next().unwrap();
    fs::write(folder.join("macula.toml"), without_offer).unwrap();
    home.output(&["test", folder.to_str().unwrap()]).succeeded();
}

#[test]
fn a_project_runs_while_it_is_changed() {
    let home = Home::new();
    for language in languages(&home) {
        let folder = home.path().join(format!("dev-{language}"));
        home.output(&["new", "--lang", language, folder.to_str().unwrap()]).succeeded();
        let arguments = ["dev", folder.to_str().unwrap(), "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"];
        let mut dev = Process::start(home.command(&arguments));
        let mut shows = |what: &str| {
            let begin = std::time::Instant::now();
            while !dev.line().contains(what) {
                assert!(begin.elapsed() < PATIENCE, "{language}: {what:?}");
            }
        };
        shows(&format!("dev-{language} runs"));
        home.output(&["publish", "hello.ada"]).succeeded();
        shows("Hello, ada!");
        let source = ["src/lib.rs", "main.go", "src/index.js"].map(|file| folder.join(file));
        let source = source.iter().find(|file| file.is_file()).unwrap();
        let text = fs::read_to_string(source).unwrap();
        fs::write(source, format!("{text}\nbroken(((\n")).unwrap();
        shows("the last good version serves on");
        home.output(&["publish", "hello.eve"]).succeeded();
        shows("Hello, eve!");
        fs::write(source, text.replace("greetings.", "greetings.dear-")).unwrap();
        shows("runs");
        let manifest = folder.join("macula.toml");
        fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("\"Hello\"", "\"Good day\"")).unwrap();
        shows("runs");
        home.output(&["publish", "hello.bob"]).succeeded();
        shows("greetings.dear-bob");
        dev.signal("-TERM");
        assert_eq!(dev.wait().code, Some(0));
    }
}

#[test]
fn logs_reach_those_who_collect_them() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let mut collected = home.subscriber(&["_mesh.logs.*", "--count", "1", "--json"]);
    let node = home.node(&["run", &prebuilt("sensor-alert"), "--relay", &relay.relay(), "--publish-logs", "warn"]);
    home.output(&["publish", "sensors.kitchen.temperature", "hot"]).succeeded();
    let message: Value = serde_json::from_str(&collected.line()).unwrap();
    assert_eq!(message["topic"], "_mesh.logs.sensor-alert");
    let entry: Value = serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
    assert_eq!((&entry["level"], &entry["source"]), (&"warn".into(), &"host".into()), "{entry}");
    assert!(entry["message"].as_str().unwrap().contains("sensors.kitchen.temperature"), "{entry}");
    home.output(&["run", "--publish-logs", "loud"]).failed(2, "expected trace, debug, info, warn or error");
    node.stop();
    relay.stop();
}

#[test]
fn an_idle_plugin_gives_its_memory_back_until_it_is_needed() {
    let home = Home::new();
    // The runtime's own test plugin, which does what it is told and counts messages.
    let component = home.path().join("probe.wasm");
    fs::copy(project().join("host/crates/runtime/tests/probe.wasm"), &component).unwrap();
    let manifest = "subscribe = [\"in\"]\nadvertise = [\"ask\"]\n[limits]\nevict-after-s = 1\n\
                    [[subscriptions]]\npattern = \"in\"\n[[procedures]]\nprocedure = \"ask\"\n";
    fs::write(home.path().join("probe.toml"), manifest).unwrap();
    let node = home.node(&["run", component.to_str().unwrap()]);
    let plugin = || {
        let status: Value = serde_json::from_str(home.output(&["status", "--json"]).succeeded().trim()).unwrap();
        status["plugins"][0].clone()
    };
    home.output(&["publish", "in", "ack"]).succeeded();
    let mut follower = Process::start(home.command(&["logs", "probe", "-f", "--json"]));
    while !follower.line().contains("evicted") {}
    let evicted = plugin();
    assert_eq!((&evicted["state"], &evicted["memory_bytes"]), (&"evicted".into(), &0.into()), "{evicted}");
    home.output(&["status"]).succeeded().lines().find(|line| line.contains("evicted")).unwrap();
    // A call finds what was there before.
    assert_eq!(home.output(&["call", "ask", "--raw", "handled"]).succeeded().trim(), "handled 1");
    assert_eq!(plugin()["metrics"]["evictions"], 1);
    node.stop();
}

#[test]
fn logs_and_dead_letters_are_seen_and_letters_handled_again() {
    let home = Home::new();
    let manifest = home.path().join("narrow.toml");
    fs::write(&manifest, "publish = []\n").unwrap();
    let plugin = prebuilt("sensor-alert");
    let host = home.node(&["run", &plugin, "--manifest", manifest.to_str().unwrap()]);
    let mut follower = Process::start(home.command(&["logs", "sensor-alert", "-f", "--json"]));
    home.output(&["publish", "sensors.kitchen.temperature", "41.5"]).succeeded();
    let mut seen = String::new();
    while !seen.contains("dead letter") {
        seen = follower.line();
    }
    drop(follower);
    let logs = home.output(&["logs", "sensor-alert"]).succeeded();
    assert!(logs.contains("denied /mesh/publish alerts.kitchen.temperature"), "{logs}");
    home.output(&["logs", "nobody"]).failed(4, "no plugin named nobody runs here");
    let listed = home.output(&["deadletters", "ls"]).succeeded();
    assert!(listed.contains("sensor-alert 1 ") && listed.contains("sensors.kitchen.temperature"), "{listed}");
    let shown = home.output(&["deadletters", "show", "sensor-alert", "1"]).succeeded();
    assert!(shown.contains("denied: /mesh/publish") && shown.ends_with("41.5\n"), "{shown}");
    home.output(&["deadletters", "show", "sensor-alert", "7"]).failed(4, "there is no dead letter 7");
    host.stop();
    // With the right, and over a restart, it is handled after all.
    let host = home.node(&["run", &plugin]);
    let mut alerts = home.subscriber(&["alerts.**", "--count", "1"]);
    home.output(&["deadletters", "replay", "sensor-alert", "--all"]).succeeded();
    assert!(alerts.line().contains("raised"));
    assert_eq!(home.output(&["deadletters", "ls", "sensor-alert"]).succeeded(), "");
    host.stop();
}

/// The tutorials' commands, word by word, in their order.
#[test]
fn the_tutorials_lead_to_two_hosts() {
    let home = Home::new();
    for (language, page) in [("rust", "rust.md"), ("go", "go.md"), ("js", "javascript.md")] {
        if !languages(&home).contains(&language) {
            continue;
        }
        let folder = home.path().join(format!("tutorial-{language}"));
        fs::create_dir(&folder).unwrap();
        let text = fs::read_to_string(project().join("docs/plugins").join(page)).unwrap();
        let mut blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().trim());
        let mut hosts: Vec<crate::process::Node> = Vec::new();
        let mut unit_test = None;
        for command in blocks.by_ref() {
            let words: Vec<&str> = command.split_whitespace().collect();
            let Some(arguments) = words.strip_prefix(&["macula-host"]) else {
                unit_test = Some(words);
                continue;
            };
            let arguments: Vec<String> = arguments
                .iter()
                .map(|word| match *word {
                    "greeter" => folder.join("greeter").display().to_string(),
                    word if word.starts_with("quic://") => hosts[0].relay(),
                    word => word.to_owned(),
                })
                .collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            if arguments[0] == "run" {
                hosts.push(home.node(&arguments));
            } else {
                home.output(&arguments).succeeded();
            }
        }
        assert_eq!(hosts.len(), 2, "{page}");
        hosts.into_iter().rev().for_each(crate::process::Node::stop);
        if let Some(words) = unit_test {
            if words[0] == "node" && !works("node", &["--version"]) {
                eprintln!("skipped: {page}: there is no node for unit tests");
                continue;
            }
            let status = Command::new(words[0]).args(&words[1..]).current_dir(&folder).status().unwrap();
            assert!(status.success(), "{page}: {words:?}");
        }
    }
}

#[test]
fn a_component_is_inspected_wherever_it_is() {
    let home = Home::new();
    let plugin = prebuilt("sensor-alert");
    let host = home.node(&["run", &plugin]);
    let by_name = home.output(&["inspect", "sensor-alert"]).succeeded();
    for expected in
        ["may ask for pubsub, log, config", "may publish   alerts.*.temperature", "limits  64 MiB", "macula:manifest"]
    {
        assert!(by_name.contains(expected), "{expected}: {by_name}");
    }
    let mcid = home.output(&["content", "add", &plugin]).succeeded();
    let by_id = home.output(&["inspect", mcid.trim(), "--json"]).succeeded();
    let by_id: Value = serde_json::from_str(&by_id).unwrap();
    assert_eq!(
        (by_id["mcid"].as_str().unwrap(), &by_id["granted"]["sensor-alert"]["publish"][0]),
        (mcid.trim(), &"alerts.*.temperature".into())
    );
    let world = home.output(&["inspect", &plugin, "--wit"]).succeeded();
    assert!(world.contains("export macula:plugin/message-handler@0.1.0"), "{world}");
    home.output(&["inspect", "nobody"]).failed(4, "no plugin named nobody runs here");
    host.stop();
}
