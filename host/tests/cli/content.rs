//! Content from the command line: stored, found, fetched and run by its id.

use std::fs;

use serde_json::Value;

use crate::process::{Home, prebuilt};

const UNKNOWN: &str = "bafkr4iaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Files beside their places that are not complete.
fn drafts(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("draft") || name.contains("part")).collect()
}

/// Goal: what one stores on a node, everybody of the realm gets by its id, the same to the byte; and it outlives the node.
#[test]
fn content_is_stored_and_fetched() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let file = home.path().join("file");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let mcid = home.output(&["content", "add", file.to_str().unwrap()]).succeeded().trim().to_owned();
    assert!(mcid.starts_with("bafkr4i"), "{mcid}");
    assert_eq!(
        home.output_with(&["content", "add", "-"], &bytes).succeeded().trim(),
        mcid,
        "the same bytes, the same id"
    );
    let listed: Value = serde_json::from_str(home.output(&["content", "ls", "--json"]).succeeded().trim()).unwrap();
    assert_eq!(
        (&listed["mcid"], &listed["bytes"], &listed["complete"]),
        (&mcid.as_str().into(), &3_000_000.into(), &true.into())
    );
    let copy = home.path().join("copy");
    home.output(&["content", "get", &mcid, "-o", copy.to_str().unwrap()]).succeeded();
    assert!(fs::read(&copy).unwrap() == bytes);
    assert_eq!(drafts(&home), Vec::<String>::new());
    assert_eq!(home.output(&["content", "providers", &mcid]).succeeded().lines().count(), 1);
    home.output(&["content", "pin", &mcid]).succeeded();
    assert!(home.output(&["status"]).succeeded().contains("content 2.88 MiB of 10.00 GiB, 1 stored"));
    let (_, metrics) = node.page("/metrics", "localhost");
    assert!(metrics.contains("macula_content_contents 1") && metrics.contains("macula_relay_contents 1"), "{metrics}");
    assert!(home.output(&["content", "ls"]).succeeded().contains("complete, pinned"));
    node.stop();
    let node = home.node(&["run"]);
    home.output(&["content", "verify"]).succeeded();
    let text = home.output_with(&["content", "add", "-"], b"hello").succeeded();
    assert_eq!(home.output(&["content", "get", text.trim()]).succeeded(), "hello");
    home.output(&["content", "rm", &mcid]).succeeded();
    home.output(&["content", "get", &mcid, "--timeout", "1s"]).failed(4, "nobody provides");
    node.stop();
}

/// Goal: who gives up waiting has nothing half done.
#[test]
fn a_get_that_is_interrupted_leaves_nothing() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let target = home.path().join("target");
    fs::write(&target, "as it was").unwrap();
    let arguments = ["content", "get", UNKNOWN, "-o", target.to_str().unwrap(), "--json"];
    let mut getting = crate::process::Process::start(home.command(&arguments));
    // It says how far it is: not far.
    getting.line();
    getting.signal("-INT");
    let finished = getting.wait();
    assert_eq!(finished.code, Some(1), "{}", finished.err);
    assert!(finished.err.contains("interrupted; nothing was written"), "{}", finished.err);
    assert_eq!(drafts(&home), Vec::<String>::new());
    assert_eq!(fs::read_to_string(&target).unwrap(), "as it was");
    node.stop();
}

/// Goal: a component runs by its id on a host that does not have it.
#[test]
fn a_component_runs_by_its_id() {
    let home = Home::new();
    let first = home.node(&["run"]);
    let mcid = home.output(&["content", "add", &prebuilt("calculator")]).succeeded().trim().to_owned();
    let url = first.relay();
    let second = home.node(&["run", &mcid, "--name", "second", "--relay", &url]);
    assert_eq!(home.output(&["call", "math.add", "[2, 3]"]).succeeded().trim(), "5");
    second.stop();
    first.stop();
}

/// Goal: bad input is one sentence and the documented exit code, and nothing is left behind.
#[test]
fn what_is_not_there_says_so() {
    let home = Home::new();
    home.output(&["content", "ls"]).failed(4, "no host runs here");
    home.output(&["content", "get", "bafkr4i"]).failed(2, "no content id");
    home.output(&["run", "bafkr4inonsense"]).failed(2, "no content id");
    let node = home.node(&["run"]);
    home.output(&["content", "add", "/nowhere"]).failed(4, "/nowhere");
    home.output(&["content", "add", home.path().to_str().unwrap()])
        .failed(1, "it is a folder; a regular file is needed");
    let target = home.path().join("target");
    let arguments = ["content", "get", UNKNOWN, "-o", target.to_str().unwrap(), "--timeout", "300ms"];
    home.output(&arguments).failed(4, "nobody provides");
    assert!(!target.exists());
    assert_eq!(drafts(&home), Vec::<String>::new());
    home.output(&["content", "get", UNKNOWN, "-o", "/nowhere/x"]).failed(1, "cannot write /nowhere/x");
    home.output(&["content", "pin", UNKNOWN]).failed(4, "is not here");
    home.output(&["content", "providers", UNKNOWN]).failed(4, "nobody provides");
    let arguments = ["run", UNKNOWN, "--name", "second", "--relay", &node.relay(), "--health", "127.0.0.1:0"];
    home.output(&arguments).failed(4, "nobody provides");
    node.stop();
}

/// Goal: bytes that have changed on the disk reach nobody; the node says so and can get them again.
#[test]
fn spoiled_bytes_reach_nobody() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let bytes = vec![7; 100_000];
    let mcid = home.output_with(&["content", "add", "-"], &bytes).succeeded().trim().to_owned();
    let path = home.path().join(format!("nodes/host/content/data/{}/{mcid}.data", &mcid[mcid.len() - 2..]));
    let mut spoiled = fs::read(&path).unwrap();
    spoiled[50_000] ^= 1;
    fs::write(&path, &spoiled).unwrap();
    home.output(&["content", "verify"]).failed(1, "damaged");
    assert!(home.output(&["content", "ls"]).succeeded().contains("in part"));
    home.output(&["content", "get", &mcid, "--timeout", "1s"]).failed(4, "nobody provides");
    home.output(&["content", "providers", &mcid]).failed(4, "nobody provides");
    assert_eq!(home.output_with(&["content", "add", "-"], &bytes).succeeded().trim(), mcid);
    home.output(&["content", "verify"]).succeeded();
    assert_eq!(home.output(&["content", "providers", &mcid]).succeeded().lines().count(), 1, "again");
    node.stop();
}

/// Goal: two processes never write to one store, whatever has become of the lock of the node.
#[test]
fn a_store_is_had_by_one_process_at_a_time() {
    let home = Home::new();
    home.node(&["run"]).stop();
    let lock = fs::File::open(home.path().join("nodes/host/content/lock")).unwrap();
    lock.try_lock().expect("nobody has it any more");
    let refused = home.output(&["run", "--health", "127.0.0.1:0"]);
    refused.failed(1, "another process has it open");
    drop(lock);
    home.node(&["run"]).stop();
}

/// Goal: a host that is killed while it takes content in has nothing false afterwards, and ends up with all of it.
#[test]
fn killed_in_the_middle_of_it() {
    let home = Home::new();
    let file = home.path().join("file");
    let bytes: Vec<u8> = (0..64_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let add = ["content", "add", file.to_str().unwrap(), "--json"];
    for _ in 0..3 {
        let node = home.node(&["run"]);
        let mut adding = crate::process::Process::start(home.command(&add));
        // It has begun, or is through already.
        while serde_json::from_str::<Value>(&adding.line()).is_ok_and(|line| line["bytes"] == 0) {}
        node.process.signal("-KILL");
        drop((adding, node.process.wait()));
        let node = home.node(&["run"]);
        home.output(&["content", "verify"]).succeeded();
        node.stop();
    }
    let node = home.node(&["run"]);
    let added = home.output(&add).succeeded();
    let last: Value = serde_json::from_str(added.lines().last().unwrap()).unwrap();
    let copy = home.path().join("copy");
    home.output(&["content", "get", last["mcid"].as_str().unwrap(), "-o", copy.to_str().unwrap()]).succeeded();
    assert!(fs::read(&copy).unwrap() == bytes);
    home.output(&["content", "verify"]).succeeded();
    node.stop();
}

/// Goal: plugins on different hosts have one another's content by its id, read parts of what is still coming, keep what they
/// pin, and have nothing without the right.
#[test]
fn plugins_have_content_by_its_id() {
    let home = Home::new();
    let plugin = |name: &str, asks: &str| {
        let path = home.path().join(format!("{name}.wasm"));
        fs::copy(crate::process::project().join("host/crates/runtime/tests/probe.wasm"), &path).unwrap();
        let manifest = format!("advertise = [\"{name}.do\"]\n{asks}\n[[procedures]]\nprocedure = \"{name}.do\"\n");
        fs::write(path.with_extension("toml"), manifest).unwrap();
        path.display().to_string()
    };
    let first = home.node(&["run", &plugin("one", "fetch = [\"**\"]")]);
    let relay = ["--relay", &first.relay()];
    let second = home.node(&["run", &plugin("two", "fetch = [\"**\"]"), "--name", "second", relay[0], relay[1]]);
    let third = home.node(&["run", &plugin("three", ""), "--name", "third", relay[0], relay[1]]);
    let ask = |name: &str, command: &str| {
        let answer = home.output(&["call", "--raw", &format!("{name}.do"), command, "--timeout", "60s"]).succeeded();
        answer.trim().to_owned()
    };
    let stored = ask("one", "put hello");
    let mcid = stored.split('"').nth(1).unwrap().to_owned();
    assert_eq!(ask("two", &format!("open {mcid}")), "5 hello");
    assert_eq!(ask("two", &format!("has {mcid}")), "Ok(true)");
    assert_eq!(ask("two", &format!("pin {mcid}")), "Ok(())");
    assert!(home.output(&["content", "ls"]).succeeded().contains(&mcid));
    assert_eq!(ask("three", &format!("has {mcid}")), "Ok(false)");
    assert!(ask("three", &format!("open {mcid}")).contains("Denied"));

    // The tail of something large, wherever the fetch is.
    let large = home.path().join("large");
    let bytes: Vec<u8> = (0..48_u32 << 20).map(|at| b'a' + (at.wrapping_mul(2_654_435_761) >> 28) as u8).collect();
    fs::write(&large, &bytes).unwrap();
    let large = home.output(&["content", "add", large.to_str().unwrap()]).succeeded().trim().to_owned();
    let tail = bytes.len() - 10;
    let expected = format!("read {}", String::from_utf8_lossy(&bytes[tail..]));
    assert_eq!(ask("two", &format!("read {large} {tail} 100")), expected);
    assert_eq!(ask("two", &format!("fetch {large}")), "fetching");
    while ask("two", "fetch-state") != "FetchState::Done" {}
    assert_eq!(ask("two", &format!("has {large}")), "Ok(true)");

    second.stop();
    // What it pinned is there again, and needs nobody.
    first.stop();
    third.stop();
    let second = home.node(&["run", &home.path().join("two.wasm").display().to_string(), "--name", "second"]);
    assert_eq!(ask("two", &format!("open {mcid}")), "5 hello");
    second.stop();
}

/// Goal: a host keeps as much content as it was told, and the flag counts before the file.
#[test]
fn a_host_keeps_as_much_as_it_was_told() {
    let home = Home::new();
    let config = home.path().join("macula.toml");
    fs::write(&config, "[node]\ncontent-max = \"lots\"\n").unwrap();
    home.output(&["run"]).failed(2, "content-max in the config file: \"lots\" is no size");
    home.output(&["run", "--content-max", "1G"]).failed(2, "is no size");
    fs::write(&config, "[node]\ncontent-max = \"1GiB\"\n").unwrap();
    let node = home.node(&["run", "--content-max", "1MiB"]);
    assert!(home.output(&["status"]).succeeded().contains("of 1.00 MiB"));
    home.output_with(&["content", "add", "-"], &vec![7; 2 << 20]).failed(1, "");
    home.output_with(&["content", "add", "-"], &vec![7; 500_000]).succeeded();
    node.stop();
}
