//! The registry: components by name and version, for good.

use crate::process::{Home, prebuilt};

/// Goal: what is pushed is found and run by name on every host, the newest that fits; a version never changes; a yanked one is not
/// begun any more; and all of that outlives hosts and relays.
#[test]
fn packages_are_pushed_found_and_run() {
    let home = Home::new();
    let first = home.node(&["run"]);
    let push = |version: &str, component: &str| home.output(&["registry", "push", version, &prebuilt(component)]);
    push("demo.math@1.0.0", "echo").succeeded();
    let pushed = push("demo.math@1.2.0", "calculator").succeeded();
    push("demo.math@2.0.0-rc.1", "echo").succeeded();
    assert_eq!(push("demo.math@1.2.0", "calculator").succeeded(), pushed, "again is free");
    push("demo.math@1.2.0", "echo").failed(1, "for good; push a new version");
    let found = home.output(&["registry", "search", "math"]).succeeded();
    let versions: Vec<&str> = found.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(versions, ["demo.math@1.0.0", "demo.math@1.2.0", "demo.math@2.0.0-rc.1"]);
    assert_eq!(home.output(&["registry", "search", "other"]).succeeded(), "");

    let relay = first.relay();
    let run = |package: &str| home.node(&["run", package, "--name", "second", "--relay", &relay]);
    let second = run("demo.math@^1");
    assert_eq!(second.ready["plugins"][0]["name"], "calculator");
    assert_eq!(home.output(&["call", "math.add", "[2, 3]"]).succeeded().trim(), "5");
    second.stop();
    home.output(&["registry", "yank", "demo.math@1.2.0"]).succeeded();
    assert!(home.output(&["registry", "search"]).succeeded().contains("(yanked)"));
    let second = run("demo.math@^1");
    assert_eq!(second.ready["plugins"][0]["name"], "echo");
    second.stop();
    let mut second = run("demo.math@1.2.0");
    assert_eq!(second.ready["plugins"][0]["name"], "calculator", "who names it has it");
    home.output(&["registry", "unyank", "demo.math@1.2.0"]).succeeded();
    second.process.note("\"yanked\":false");
    second.stop();
    first.stop();

    // The second host has heard of all of it, and its own relay knows nothing.
    let second = home.node(&["run", "demo.math@^1", "--name", "second", "--follow", "demo/math"]);
    assert_eq!(second.ready["plugins"][0]["name"], "calculator");
    assert_eq!(home.output(&["registry", "search"]).succeeded().lines().count(), 3);
    home.output(&["registry", "push", "demo.math@1.2.0", &prebuilt("echo")]).failed(1, "for good");
    second.stop();
}

/// Goal: a package is deployed like a file.
#[test]
fn packages_are_deployed() {
    let home = Home::new();
    let host = home.node(&["run", "--follow", "demo/math"]);
    home.output(&["registry", "push", "demo.math@1.0.0", &prebuilt("calculator")]).succeeded();
    home.output(&["deploy", "demo/math", "demo.math@^1", "--wait"]).succeeded();
    assert_eq!(home.output(&["call", "math.add", "[2, 3]"]).succeeded().trim(), "5");
    home.output(&["deploy", "demo/math", "demo.math@^2"]).failed(4, "no version of demo.math fits");
    host.stop();
}

/// Goal: bad input is one sentence and the documented exit code.
#[test]
fn what_names_no_package_is_refused() {
    let home = Home::new();
    let echo = prebuilt("echo");
    home.output(&["registry", "search"]).failed(5, "no node is running");
    for bad in ["demo.math", "demo.math@1", "demo.math@1.0", "Demo@1.0.0", "../x@1.0.0", "demo@1.0.0+build"] {
        home.output(&["registry", "push", bad, &echo]).failed(2, "");
        home.output(&["registry", "yank", bad]).failed(2, "");
    }
    home.output(&["run", "demo.math@one"]).failed(2, "is no version");
    let host = home.node(&["run"]);
    home.output(&["registry", "push", "demo.math@1.0.0", "/nowhere.wasm"]).failed(4, "/nowhere.wasm");
    home.output(&["registry", "yank", "demo.math@1.0.0"]).failed(4, "is not in the registry");
    let arguments = ["run", "demo.math@^1", "--name", "second", "--relay", &host.relay(), "--health", "127.0.0.1:0"];
    home.output(&arguments).failed(4, "no version of demo.math fits");
    host.stop();
}
