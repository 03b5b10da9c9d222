//! Bad input ends with one clear sentence and the documented exit code, and nothing else is disturbed.

use std::{fs, net::UdpSocket};

use crate::process::{Home, Process, prebuilt};

/// What cannot be said is no reason to end otherwise; a result that cannot be written is.
#[test]
fn full_disks_behind_the_outputs() {
    let home = Home::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let status = home.command(&["status"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(4));
    let output =
        home.command(&["new", "--lang", "js", home.path().join("made").to_str().unwrap()]).stdout(full()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output: "), "{said}");
}

/// Asked to read settings again while a plugin is still built, a host does so when it has started.
#[test]
fn who_asks_while_a_host_is_starting_is_heard() {
    let home = Home::new();
    let component = home.path().join("probe.wasm");
    fs::copy(crate::process::project().join("host/crates/runtime/tests/probe.wasm"), &component).unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // It waits for a relay that is not there yet.
    let url = format!("quic://127.0.0.1:{port}");
    let arguments = ["run", component.to_str().unwrap(), "--relay", &url, "--health", "127.0.0.1:0", "--json"];
    let mut host = Process::start(home.command(&arguments));
    host.note("waiting for ");
    host.signal("-HUP");
    let relay = home.node(&["relay", "--listen", &format!("127.0.0.1:{port}")]);
    assert!(host.line().contains("\"ready\":true"));
    host.note("its settings have not changed");
    host.signal("-TERM");
    assert_eq!(host.wait().code, Some(0));
    relay.stop();
}

#[test]
fn arguments_that_can_never_be_valid() {
    let home = Home::new();
    let huge = "x".repeat(64);
    for (arguments, what) in [
        (&["publish", "a b", "x"][..], "contains ' '"),
        (&["publish", "a..b", "x"], "empty segment"),
        (&["publish", "a.*", "x"], "wildcard"),
        (&["publish", &huge, "x"], "longer than 63"),
        (&["publish", "_mesh.x", "x"], "system name"),
        (&["publish", "a.b", "x", "--meta", "Unit=1", "--node", "quic://127.0.0.1:1"], "metadata name"),
        (&["publish", "a.b", "x", "--content-type", "a\u{7f}b"], "content type"),
        (&["subscribe", "a.**.b"], "comes last"),
        (&["subscribe", "a.b*"], "whole segment"),
        (&["subscribe", "a", "--count", "0"], "--count"),
        (&["call", "math.add", "[1, 2", "--node", "quic://127.0.0.1:1"], "no JSON"),
        (&["publish", "a.b", "x", "--node", "http://127.0.0.1:1"], "scheme"),
        (&["publish", "a.b", "x", "--node", "quic://127.0.0.1:1#nobody"], "did:key"),
        (&["publish", "a.b", "x", "--timeout", "soon"], "duration"),
        (&["run", "--name", "../up"], "node name"),
        (&["run", "--listen", "everywhere"], "--listen"),
        (&["run", "--realm", "Local"], "realm name"),
        (&["fly"], "fly"),
    ] {
        let finished = home.output(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.err);
        assert!(finished.err.contains(what), "{arguments:?}: {what:?} is not said in {}", finished.err);
    }
}

#[test]
fn payloads_above_the_limit() {
    let home = Home::new();
    let node = home.node(&["relay"]);
    let megabyte = vec![b'x'; 1 << 20];
    let mut listener = home.subscriber(&["big.one", "--count", "1"]);
    home.output_with(&["publish", "big.one", "-"], &megabyte).succeeded();
    assert_eq!(listener.line().len(), "big.one ".len() + (1 << 20));
    let above = [&megabyte[..], b"x"].concat();
    home.output_with(&["publish", "big.one", "-"], &above).failed(2, "1 MiB");
    home.output_with(&["publish", "--lines", "big.one"], &above).failed(2, "line 1 is above");
    node.stop();
}

#[test]
fn files_that_are_no_plugins() {
    let home = Home::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let text = file("text.wasm", b"hello");
    let module = file("module.wasm", &wat::parse_str("(module)").unwrap());
    let empty = file("empty.wasm", &wat::parse_str("(component)").unwrap());
    let sockets = "(component (import \"wasi:sockets/tcp@0.2.0\" (instance)))";
    let sockets = file("sockets.wasm", &wat::parse_str(sockets).unwrap());
    let newer = "(component (instance $i) (export \"macula:plugin/message-handler@0.9.0\" (instance $i)))";
    let newer = file("newer.wasm", &wat::parse_str(newer).unwrap());
    let cut = file("cut.wasm", &fs::read(prebuilt("echo")).unwrap()[..1000]);
    for (path, code, what) in [
        (&*text, 1, "no WebAssembly file"),
        (&module, 1, "core WebAssembly module"),
        (&empty, 1, "handler"),
        (&sockets, 1, "wasi:sockets/tcp"),
        (&newer, 1, "message-handler@0.9.0"),
        (&cut, 1, "damaged"),
        ("/nowhere/plugin.wasm", 4, "/nowhere/plugin.wasm"),
    ] {
        home.output(&["run", path, "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]).failed(code, what);
        home.output(&["inspect", path]).failed(code, what);
    }
    home.output(&["run", "bafkr4iexample"]).failed(2, "no content id");
    home.output(&["build", home.path().to_str().unwrap()]).failed(4, "no Cargo.toml");
}

#[test]
fn manifests_that_widen_or_misspell() {
    let home = Home::new();
    let component = home.path().join("echo.wasm");
    fs::copy(prebuilt("echo"), &component).unwrap();
    let (component, beside) = (component.display().to_string(), home.path().join("echo.toml"));
    for (text, what) in [
        ("publish = [\"**\"]\n", "publish"),
        ("[limits]\nmemory-mib = 1\nmemry-mib = 2\n", "memry-mib"),
        ("name = \"echo\"\nname = \"twice\"\n", "echo.toml"),
    ] {
        fs::write(&beside, text).unwrap();
        home.output(&["run", &component, "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]).failed(2, what);
    }
}

#[test]
fn what_a_manifest_does_not_allow_is_denied_named_and_put_aside() {
    let home = Home::new();
    let component = home.path().join("echo.wasm");
    fs::copy(prebuilt("echo"), &component).unwrap();
    fs::write(home.path().join("echo.toml"), "publish = []\n").unwrap();
    let mut node = home.node(&["run", &component.display().to_string(), &prebuilt("calculator")]);
    let mut aside = home.subscriber(&["_mesh.deadletters.*", "--count", "1", "--json"]);
    home.output(&["publish", "bench.in", "hello"]).succeeded();
    let letter = aside.line();
    assert!(letter.contains("_mesh.deadletters.echo") && letter.contains("hello"), "{letter}");
    node.process.note("/mesh/publish bench.out");
    assert_eq!(home.output(&["call", "math.add", "[1, 1]"]).succeeded().trim(), "2", "the other plugin goes on");
    node.stop();
}

/// Goal: standard input that cannot be read is named.
#[test]
fn standard_input_that_cannot_be_read_is_named() {
    let home = Home::new();
    for arguments in [&["publish", "a.b", "-"][..], &["call", "math.add", "-"], &["publish", "a.b", "--lines"]] {
        let node = home.node(&["relay"]);
        let folder = fs::File::open(home.path()).unwrap();
        let output = home.command(arguments).stdin(folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot read standard input: Is a directory"), "{said}");
        node.stop();
    }
    home.output(&["call", "math.add", "[1]", "--timeout", "0s"]).failed(2, "no time at all");
}

#[test]
fn config_files_that_are_wrong() {
    let home = Home::new();
    let path = home.path().join("other.toml");
    let config = path.display().to_string();
    home.output(&["run", "--config", &config]).failed(4, "other.toml");
    for (text, what) in [
        ("[node]\nlisten = \"127.0.0.1:0\"\nlissten = 1\n", "line 3"),
        ("[node]\nlisten = \"nowhere\"\n", "nowhere"),
        ("[nodes]\n", "nodes"),
        ("[relay]\nrealm = \"local.dev\"\n", "realm belongs in [node]"),
        ("[realm.\"io.example\"]\nroot = 1\n", "root"),
    ] {
        fs::write(&path, text).unwrap();
        home.output(&["run", "--config", &config]).failed(2, what);
    }
}

#[test]
fn a_home_that_cannot_be_used() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let output = home.command(&["run"]).env("MACULA_HOME", file.join("below")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("file/below"));
    drop(home.node(&["relay"]));
    let key = home.path().join("realms/local.dev.key");
    fs::write(&key, "damaged").unwrap();
    home.output(&["relay"]).failed(1, "local.dev.key is damaged");
}

#[test]
fn ports_and_names_in_use() {
    let home = Home::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.output(&["relay", "--listen", &address]).failed(1, "in use");
    // The hint is about the address that was asked for.
    let joined = format!("join it with --relay quic://{address}, or choose another port with --listen 127.0.0.1:0");
    home.output(&["relay", "--listen", &address]).failed(1, &joined);
    let node = home.node(&["run"]);
    home.output(&["run", "--listen", "127.0.0.1:0"]).failed(1, "already running");
    let health = node.ready["health"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    home.output(&["run", "--name", "other", "--listen", "127.0.0.1:0", "--health", &health]).failed(1, "cannot listen");
    node.stop();
}

#[test]
fn relays_that_do_not_answer_or_are_others() {
    let home = Home::new();
    // A bound port that says nothing, so that no other test's relay can turn up there.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let id = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
    let nobody = format!("quic://{}#{id}", silent.local_addr().unwrap());
    home.output(&["publish", "a.b", "x", "--node", &nobody, "--timeout", "300ms"])
        .failed(5, "no relay could be reached");
    let node = home.node(&["relay"]);
    let wrong = format!("quic://127.0.0.1:{}#{id}", node.port());
    home.output(&["publish", "a.b", "x", "--node", &wrong]).failed(1, "expected did:key:z6Mkha");
    home.output(&["run", "--relay", &wrong, "--health", "127.0.0.1:0"]).failed(1, "expected did:key:z6Mkha");
    home.output(&["call", "math.nope"]).failed(4, "nobody offers math.nope");
    let stranger = Home::new();
    let unpinned = format!("quic://localhost:{}", node.port());
    stranger.output(&["publish", "a.b", "x", "--node", &unpinned]).failed(1, "certificate");
    node.stop();
}

#[test]
fn another_users_realm_is_another_realm() {
    let (home, stranger) = (Home::new(), Home::new());
    let node = home.node(&["relay"]);
    let url = node.relay();
    let mut listener = home.subscriber(&["**", "--count", "1"]);
    // The same name under another root key: this relay has no right to it, so nothing of it is said here.
    let refused = "does not serve realm local.dev";
    stranger.output(&["publish", "a.b", "from a stranger", "--node", &url]).failed(3, refused);
    home.output(&["publish", "a.b", "from home"]).succeeded();
    assert_eq!(listener.line(), "a.b from home");
    stranger.output(&["publish", "a.b", "x", "--realm", "io.example", "--node", &url]).failed(3, "io.example");
    node.stop();
}

#[test]
fn native_code_that_was_altered_is_compiled_again() {
    let home = Home::new();
    home.node(&["run", &prebuilt("calculator")]).stop();
    let native = home.path().join("nodes/host/native");
    let cached = fs::read_dir(&native)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "native"))
        .unwrap();
    let mut bytes = fs::read(&cached).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&cached, &bytes).unwrap();
    let mut node = home.node(&["run", &prebuilt("calculator")]);
    assert!(node.process.log().contains("native"), "a warning names the cache");
    assert_eq!(home.output(&["call", "math.add", "[1, 1]"]).succeeded().trim(), "2");
    node.stop();
}

#[test]
fn a_reader_that_goes_away_ends_the_subscriber() {
    let home = Home::new();
    let node = home.node(&["relay"]);
    let mut command = home.command(&["subscribe", "a.b"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut notes = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(notes.next().unwrap().unwrap().contains("subscribed"));
    drop(child.stdout.take());
    home.output(&["publish", "a.b", "x"]).succeeded();
    assert!(child.wait().unwrap().success());
    drop(Process::start(home.command(&["key", "list"])));
    node.stop();
}
