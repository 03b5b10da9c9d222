//! Deployment: what all hosts that follow a slot run changes, under load and whatever is killed, and nothing is lost.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Stdio},
};

use macula_node::{
    Home as NodeHome, Mesh, MeshConfig, Publish,
    wire::{Delivery, Topic},
};
use serde_json::Value;

use crate::process::{Home, Node, PATIENCE, Process, prebuilt, project};

const SLOT: &str = "demo/probe";

/// The scripted plugin of the runtime's tests, with a manifest of its own for each version.
struct Probe {
    home: Home,
    folder: PathBuf,
}

impl Probe {
    fn new() -> Self {
        let home = Home::new();
        let folder = home.path().join("probe");
        fs::create_dir(&folder).unwrap();
        fs::copy(project().join("host/crates/runtime/tests/probe.wasm"), folder.join("probe.wasm")).unwrap();
        Self { home, folder }
    }

    /// Deploys a version; `config` has the lines of its settings, and the arguments end the command.
    fn deploy(&self, version: u32, config: &str, arguments: &[&str]) -> crate::process::Finished {
        let component = self.version(version, config);
        let all: Vec<&str> = [&["deploy", SLOT, component.to_str().unwrap()], arguments].concat();
        self.home.output(&all)
    }

    fn version(&self, version: u32, config: &str) -> PathBuf {
        let manifest = format!(
            "version = \"{version}\"\nsubscribe = [\"in.**\"]\npublish = [\"**\"]\nadvertise = [\"probe.*\"]\n[config]\n\
             report = \"report\"\n{config}\n[[subscriptions]]\npattern = \"in.**\"\nqueue-messages = 65536\n\
             [[procedures]]\nprocedure = \"probe.do\"\n"
        );
        fs::write(self.folder.join("probe.toml"), manifest).unwrap();
        self.folder.join("probe.wasm")
    }

    fn host(&self, name: &str, relay: &str) -> Node {
        self.home.node(&["run", "--follow", SLOT, "--name", name, "--relay", relay])
    }

    /// What hosts say, by host.
    fn rollouts(&self) -> BTreeMap<String, Value> {
        let lines = self.home.output(&["slots", "--json"]).succeeded();
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        lines.lines().map(parse).map(|rollout| (rollout["node"].as_str().unwrap().to_owned(), rollout)).collect()
    }

    /// Waits until so many hosts say that what they are to run, runs.
    #[track_caller]
    fn until_running(&self, hosts: usize) {
        let begin = std::time::Instant::now();
        let count = || self.rollouts().values().filter(|rollout| rollout["state"] == "running").count();
        while count() < hosts {
            assert!(begin.elapsed() < PATIENCE, "{:?}", self.rollouts());
        }
    }

    /// The version that runs, as the plugin itself tells.
    fn running(&self) -> String {
        self.home.output(&["call", "--raw", "probe.do", "who"]).succeeded().split(' ').nth(1).unwrap().to_owned()
    }
}

/// Lines that are published as they are written.
struct Lines {
    child: Child,
    input: Option<ChildStdin>,
}

impl Lines {
    fn to(home: &Home, topic: &str) -> Self {
        let arguments = ["publish", "--lines", topic];
        let mut child = home.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take();
        Self { child, input }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// Goal: on three hosts behind one relay, deployments change what all three run, and each handles every message exactly
/// once and in order, whichever version is there.
#[test]
fn three_hosts_change_what_they_run_under_load() {
    const AHEAD: usize = 300;
    let probe = Probe::new();
    let relay = probe.home.node(&["relay"]);
    let url = relay.relay();
    let hosts = ["a", "b", "c"].map(|name| probe.host(name, &url));
    let shown = probe.deploy(1, "", &["--wait"]).succeeded();
    assert_eq!(shown.matches(" running").count(), 3, "{shown}");

    let mut handled = probe.home.subscriber(&["out", "--json"]);
    let mut lines = Lines::to(&probe.home, "in.load");
    let (mut sent, mut received) = (0, 0);
    let mut by_host: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut take = |received: &mut usize| {
        let message: Value = serde_json::from_str(&handled.line()).unwrap();
        let number = message["payload"].as_str().unwrap().parse().unwrap();
        by_host.entry(message["publisher"].as_str().unwrap().to_owned()).or_default().push(number);
        *received += 1;
    };
    for version in 2..=3 {
        let component = probe.version(version, "");
        let arguments = ["deploy", SLOT, component.to_str().unwrap(), "--wait"];
        let mut deploying = probe.home.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
        loop {
            lines.write(&format!("publish out {sent}"));
            sent += 1;
            while received + 3 * AHEAD < 3 * sent {
                take(&mut received);
            }
            if let Some(status) = deploying.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
        }
    }
    lines.end();
    while received < 3 * sent {
        take(&mut received);
    }
    assert_eq!(by_host.len(), 3);
    for (host, numbers) in by_host {
        assert!(numbers.iter().copied().eq(0..sent), "{host} lost, repeated or reordered some of {sent}");
    }
    assert_eq!(probe.running(), "3");
    for host in hosts {
        host.stop();
    }
    relay.stop();
}

/// Goal: a version that does not start, or does worse than the one before, goes; what ran before runs on, and everybody is
/// told why. One goes back by hand as well.
#[test]
fn what_is_worse_goes_and_says_why() {
    let probe = Probe::new();
    let host = probe.home.node(&["run", "--follow", SLOT]);
    probe.deploy(1, "", &["--wait"]).succeeded();
    for (version, config, why) in [
        (2, "init = \"denied\"", "refused to start"),
        (3, "init = \"trap\"", "trapped"),
        (4, "sick = true", "unhealthy"),
        (5, "restore = \"denied\"", "could not take over the state"),
    ] {
        probe.deploy(version, config, &["--wait"]).failed(1, why);
        assert_eq!(probe.running(), "1");
    }
    // On trial it crashes at each message, which the version before handles.
    let component = probe.version(6, "");
    let arguments = ["deploy", SLOT, component.to_str().unwrap(), "--wait"];
    let mut deploying = Process::start(probe.home.command(&arguments));
    while !deploying.line().contains("on-trial") {}
    probe.home.output(&["publish", "in.x", "trap"]).succeeded();
    deploying.wait().failed(1, "trapped");
    assert_eq!(probe.running(), "1");
    let rollouts = probe.rollouts();
    let rollout = rollouts.values().next().unwrap();
    assert_eq!((&rollout["state"], &rollout["seq"], &rollout["running_seq"]), (&"failed".into(), &6.into(), &1.into()));

    probe.deploy(7, "", &["--wait"]).succeeded();
    assert_eq!(probe.running(), "7");
    probe.home.output(&["rollback", SLOT, "--wait"]).succeeded();
    assert_eq!(probe.running(), "1");
    host.stop();
}

/// Goal: a version that loses its state when it is asked for it goes on, and the deployer reads why. To go on without, forward or
/// back, is the deployer's choice.
#[test]
fn a_state_that_is_lost_is_told_and_left_behind_by_choice() {
    let probe = Probe::new();
    let host = probe.home.node(&["run", "--follow", SLOT]);
    probe.deploy(1, "snapshot = \"trap\"", &["--wait"]).succeeded();
    let told = probe.deploy(2, "", &["--wait"]);
    assert!(told.err.contains("lost its state") && told.err.contains("deploy with --drop-state"), "{}", told.err);
    told.failed(1, "trapped");
    assert_eq!(probe.running(), "1");
    let status = probe.home.output(&["status"]).succeeded();
    assert!(status.contains("its state was lost: its snapshot trapped"), "{status}");
    probe.deploy(3, "snapshot = \"denied\"", &["--drop-state", "--wait"]).succeeded();
    assert_eq!(probe.running(), "3");
    probe.home.output(&["rollback", SLOT, "--wait"]).failed(1, "could not hand over its state");
    assert_eq!(probe.running(), "3");
    let component = probe.version(1, "snapshot = \"trap\"");
    probe.home.output(&["deploy", SLOT, component.to_str().unwrap(), "--drop-state", "--wait"]).succeeded();
    assert_eq!(probe.running(), "1");
    probe.home.output(&["rollback", SLOT, "--drop-state", "--wait"]).succeeded();
    assert_eq!(probe.running(), "3");
    host.stop();
}

/// Goal: a canary gets its share beside the version that runs; one that does worse goes, and nobody has noticed.
#[test]
fn a_canary_that_does_worse_goes() {
    let probe = Probe::new();
    let host = probe.home.node(&["run", "--follow", SLOT]);
    probe.deploy(1, "", &["--wait"]).succeeded();
    let mut handled = probe.home.subscriber(&["out"]);
    let component = probe.version(2, "bad = true");
    let arguments = ["deploy", SLOT, component.to_str().unwrap(), "--canary", "50%", "--wait"];
    let mut deploying = Process::start(probe.home.command(&arguments));
    while !deploying.line().contains(" canary") {}
    for topic in 0..40 {
        probe.home.output(&["publish", &format!("in.t{topic}"), "publish out x"]).succeeded();
    }
    deploying.wait().failed(1, "trapped");
    for _ in 0..40 {
        handled.line();
    }
    assert_eq!(probe.running(), "1");
    probe.deploy(3, "", &["--canary", "60%"]).failed(2, "1% to 50%");
    host.stop();
}

/// Goal: a host that is killed at any moment of a deployment runs a right version when it is started again, without anybody
/// else, and ends up with the newest.
#[test]
fn the_plug_is_pulled_at_every_step() {
    let probe = Probe::new();
    let relay = probe.home.node(&["relay"]);
    let host = probe.host("a", &relay.relay());
    probe.deploy(1, "", &["--wait"]).succeeded();
    let mut host = Some(host);
    for (version, step) in [(2, "fetching"), (3, "preparing"), (4, "starting"), (5, "on-trial")] {
        let component = probe.version(version, "");
        let arguments = ["deploy", SLOT, component.to_str().unwrap(), "--wait"];
        let mut deploying = Process::start(probe.home.command(&arguments));
        while !deploying.line().contains(step) {}
        let killed = host.take().unwrap();
        killed.process.signal("-KILL");
        drop(killed.process.wait());
        host = Some(probe.host("a", &relay.relay()));
        // Who waits sees it through.
        let finished = deploying.wait();
        assert_eq!(finished.code, Some(0), "{step}: {}{}", finished.out, finished.err);
        assert_eq!(probe.running(), version.to_string(), "{step}");
    }
    host.unwrap().stop();
    // Without its relay's memory, and without the network, it runs what it ran.
    relay.stop();
    let host = probe.home.node(&["run", "--follow", SLOT, "--name", "a"]);
    probe.until_running(1);
    assert_eq!(probe.running(), "5");
    // And tells who follows the slot as well what it holds.
    let other = probe.host("b", &host.relay());
    probe.until_running(2);
    other.stop();
    host.stop();
}

/// Goal: a relay that is killed and started anew has forgotten everything, and nobody else has: deployments go on where they were,
/// and who comes later gets what the slot holds.
#[test]
fn a_relay_that_forgets_is_told_again() {
    let probe = Probe::new();
    let relay = probe.home.node(&["relay"]);
    let (url, address) = (relay.relay(), format!("127.0.0.1:{}", relay.port()));
    let hosts = ["a", "b"].map(|name| probe.host(name, &url));
    probe.deploy(1, "", &["--wait"]).succeeded();
    relay.process.signal("-KILL");
    drop(relay.process.wait());
    let relay = probe.home.node(&["relay", "--listen", &address]);
    // At once, when perhaps nobody has told it anything yet.
    let begin = std::time::Instant::now();
    while probe.home.output(&["call", "--raw", "probe.do", "who"]).code != Some(0) {
        assert!(begin.elapsed() < PATIENCE);
    }
    let deployed = probe.deploy(2, "", &["--wait"]).succeeded();
    assert!(deployed.contains("seq 2"), "{deployed}");
    let late = probe.host("c", &url);
    probe.until_running(3);
    let running: Vec<Value> = probe.rollouts().into_values().map(|rollout| rollout["running_seq"].clone()).collect();
    assert_eq!(running, [2, 2, 2]);
    late.stop();
    for host in hosts {
        host.stop();
    }
    relay.stop();
}

/// Goal: outside this machine's own realm the deployer grants nothing: what asks for more waits for the host's operator, who
/// is shown what, and what asks for no more inherits.
#[test]
fn who_asks_for_more_waits_for_the_hosts_operator() {
    let probe = Probe::new();
    let realm = ["--realm", "io.example"];
    let run = |arguments: &[&str]| probe.home.output(&[arguments, &realm[..]].concat());
    run(&["realm", "new", "io.example"]).succeeded();
    let host = probe.home.node(&["run", "--follow", SLOT, "--realm", "io.example"]);
    let mut deploying = Process::start({
        let component = probe.version(1, "");
        probe.home.command(&["deploy", SLOT, component.to_str().unwrap(), "--wait", realm[0], realm[1]])
    });
    while !deploying.line().contains("macula-host slots grant demo/probe") {}
    run(&["slots", "grant", "demo/other"]).failed(4, "does not follow");
    let granted = run(&["slots", "grant", SLOT]).succeeded();
    assert!(granted.contains("subscribe = [\"in.**\"]") && granted.contains("publish = [\"**\"]"), "{granted}");
    assert_eq!(deploying.wait().code, Some(0));
    run(&["slots", "grant", SLOT]).failed(1, "nothing waits");
    let who = run(&["call", "--raw", "probe.do", "can /mesh/publish a.b"]).succeeded();
    assert_eq!(who.trim(), "true");
    probe.deploy(2, "", &["--wait", realm[0], realm[1]]).succeeded();
    host.stop();
}

/// Goal: bad input is one sentence and the documented exit code, and changes nothing.
#[test]
fn what_cannot_be_deployed_is_refused() {
    let home = Home::new();
    let echo = prebuilt("echo");
    home.output(&["deploy", "demo/echo", &echo]).failed(5, "no node is running");
    let host = home.node(&["run", "--follow", "demo/echo"]);
    home.output(&["deploy", "Demo/echo", &echo]).failed(2, "Demo");
    home.output(&["deploy", "demo", &echo]).failed(2, "is no slot");
    home.output(&["deploy", &format!("{}/x", ["a"; 15].join(".")), &echo]).failed(2, "too many labels");
    home.output(&["deploy", "demo/echo", "/nowhere.wasm"]).failed(4, "/nowhere.wasm");
    home.output(&["deploy", "demo/echo", "bafkr4i"]).failed(2, "content id");
    let unknown = "bafkr4iaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    home.output(&["deploy", "demo/echo", unknown]).failed(4, "nobody provides");
    let text = home.path().join("text.wasm");
    fs::write(&text, "hello").unwrap();
    home.output(&["deploy", "demo/echo", text.to_str().unwrap()]).failed(1, "no WebAssembly");
    let long = home.path().join("long.toml");
    fs::write(&long, format!("# {}", "x".repeat(7000))).unwrap();
    home.output(&["deploy", "demo/echo", &echo, "--manifest", long.to_str().unwrap()]).failed(2, "at most 6144");
    let wide = home.path().join("wide.toml");
    fs::write(&wide, "subscribe = [\"**\"]").unwrap();
    home.output(&["deploy", "demo/echo", &echo, "--manifest", wide.to_str().unwrap()]).failed(2, "may only narrow");
    home.output(&["rollback", "demo/echo"]).failed(4, "nothing was deployed");
    home.output(&["slots", "grant", "demo/echo"]).failed(1, "nothing waits");
    // What is no component is refused by the host as well, when it comes by its id.
    let mcid = home.output_with(&["content", "add", "-"], b"hello").succeeded().trim().to_owned();
    home.output(&["deploy", "demo/echo", &mcid, "--wait"]).failed(1, "no WebAssembly");
    let huge = home.path().join("huge");
    fs::File::create(&huge).unwrap().set_len((128 << 20) + 1).unwrap();
    let mcid = home.output(&["content", "add", huge.to_str().unwrap()]).succeeded().trim().to_owned();
    home.output(&["deploy", "demo/echo", &mcid, "--wait"]).failed(1, "at most 134217728 bytes");
    home.output(&["deploy", "demo/echo", &echo, "--wait"]).succeeded();
    home.output(&["rollback", "demo/echo"]).failed(4, "held nothing before");
    host.stop();
}

/// Goal: a host that says nonsense of a slot or a package brings nobody to run anything, and those who know better say it again for
/// those who come later.
#[test]
fn nonsense_is_said_over() {
    let home = Home::new();
    let host = home.node(&["run", "--follow", "demo/echo"]);
    let echo = prebuilt("echo");
    home.output(&["deploy", "demo/echo", &echo, "--wait"]).succeeded();
    home.output(&["registry", "push", "demo.echo@1.0.0", &echo]).succeeded();
    let topics = ["_mesh.slots.demo.echo", "_mesh.packages.demo.echo.1_0_0"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let known = NodeHome::open(home.path()).unwrap();
        let state = known.node("rogue").unwrap();
        let config = MeshConfig::host(host.relay().parse().unwrap(), known.local_realm().unwrap(), &state);
        let mesh = Mesh::connect(config).await.unwrap();
        for topic in topics {
            let topic: Topic = topic.parse().unwrap();
            let before = mesh.retained(&topic).await.unwrap().unwrap().payload;
            let options = Publish { retain: true, delivery: Delivery::Acked, ..Publish::default() };
            mesh.publish_with(&topic, b"nonsense", &options).await.unwrap();
            let begin = std::time::Instant::now();
            while mesh.retained(&topic).await.unwrap().is_none_or(|message| message.payload != before) {
                assert!(begin.elapsed() < PATIENCE, "{topic}");
            }
        }
        mesh.close().await;
    });
    let late = home.node(&["run", "--follow", "demo/echo", "--name", "late", "--relay", &host.relay()]);
    let begin = std::time::Instant::now();
    while home.output(&["slots", "--json"]).succeeded().matches("\"state\":\"running\"").count() < 2 {
        assert!(begin.elapsed() < PATIENCE);
    }
    late.stop();
    host.stop();
}

/// Who takes deployments could be anybody with a link: deployers sign nothing that such a host only says.
#[test]
fn what_a_host_says_is_not_signed() {
    let home = Home::new();
    let relay = home.node(&["relay"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let liar = runtime.block_on(async {
        let known = NodeHome::open(home.path()).unwrap();
        let state = known.node("rogue").unwrap();
        let config = MeshConfig::host(relay.relay().parse().unwrap(), known.local_realm().unwrap(), &state);
        let mesh = Mesh::connect(config).await.unwrap();
        for procedure in ["_mesh.deploy", "_mesh.registry"] {
            let mut offer = mesh.advertise(procedure.parse().unwrap()).await.unwrap();
            tokio::spawn(async move {
                while let Some(call) = offer.next().await {
                    // A string in base64, as a record would be.
                    call.responder.answer(Ok("\"bm9uc2Vuc2U=\"".into()));
                }
            });
        }
        mesh
    });
    for arguments in [
        &["rollback", "demo/echo"][..],
        &["deploy", "demo/echo", "demo.echo@^1"],
        &["registry", "yank", "demo.echo@1.0.0"],
    ] {
        let output = home.output(arguments);
        output.failed(1, "does not hold");
    }
    runtime.block_on(liar.close());
    relay.stop();
}
