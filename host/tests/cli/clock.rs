//! Clocks that leap and are set back under real processes, by a small library that is loaded into them.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::process::{Finished, Home, Node, PATIENCE, prebuilt};

const HOUR: i64 = 3600;

/// The clocks of all processes of its homes.
struct Machine {
    folder: tempfile::TempDir,
    shifts: File,
}

impl Machine {
    /// `None` where there is nothing to build the library with; said then.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("shifted_clock.c"), folder.path().join("shifted_clock.so"));
        fs::write(&source, include_str!("shifted_clock.c")).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        if !cfg!(target_os = "linux") || !built.is_ok_and(|status| status.success()) {
            eprintln!("skipped: the library that shifts clocks cannot be built here: it wants Linux and a C compiler");
            return None;
        }
        let shifts =
            File::options().write(true).create(true).truncate(true).open(folder.path().join("shifts")).unwrap();
        let machine = Self { folder, shifts };
        machine.shift(0, 0);
        Some(machine)
    }

    fn home(&self) -> Home {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        Home::with_environment(&[("LD_PRELOAD", path("shifted_clock.so")), ("SHIFTED_CLOCK", path("shifts"))])
    }

    /// From now on the date, and the clock that goes on while a machine sleeps, are ahead by so many seconds.
    fn shift(&self, date: i64, running: i64) {
        let bytes = [date.to_ne_bytes(), running.to_ne_bytes()].concat();
        self.shifts.write_all_at(&bytes, 0).unwrap();
    }

    /// The machine has slept, or time has passed: both clocks are ahead.
    fn pass(&self, seconds: i64) {
        self.shift(seconds, seconds);
    }
}

/// How often something was written to the audit.
fn audited(node: &Node, event: &str, at: &str) -> u64 {
    let (_, metrics) = node.page("/metrics", "localhost");
    let line = |line: &&str| {
        line.starts_with("macula_audit_events_total")
            && line.contains(&format!("event=\"{event}\""))
            && line.contains(&format!("at=\"{at}\""))
    };
    let line = metrics.lines().find(line).unwrap_or_else(|| panic!("no {event} at {at} in {metrics}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Waits until the node's pages say so: there is no event for it.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_ready(node: &Node) -> bool {
    node.page("/ready", "localhost").0.contains("200")
}

fn did(output: &str) -> String {
    output.split_whitespace().find(|word| word.starts_with("did:key:")).expect("a did:key").to_owned()
}

/// Goal: a host that has slept over a weekend goes on with its offers and subscriptions, without being started again: what
/// it holds the root key for is renewed before anything is taken from it.
#[test]
fn a_host_that_has_slept_goes_on() {
    let Some(machine) = Machine::new() else { return };
    let home = machine.home();
    let node = home.node(&["run", &prebuilt("calculator"), &prebuilt("sensor-alert")]);
    let call = || home.output(&["call", "math.add", "[2, 3]"]);
    assert_eq!(call().succeeded().trim(), "5");
    let mut alerts = home.subscriber(&["alerts.**", "--count", "1"]);
    let granted = audited(&node, "granted", "relay");
    machine.pass(60 * HOUR);
    // The host, and the client that has slept as well.
    until("both have renewed what they present", || audited(&node, "granted", "relay") >= granted + 2);
    assert_eq!(call().succeeded().trim(), "5");
    home.output(&["publish", "sensors.kitchen.temperature", "99"]).succeeded();
    assert!(alerts.line().contains("alerts."), "{}", alerts.log());
    assert!(is_ready(&node), "{:?}", node.page("/ready", "localhost"));
    assert_eq!((audited(&node, "lost", "relay"), audited(&node, "lost", "host")), (0, 0));
    node.stop();
}

/// Goal: what stands on a right that nobody renews in time waits, the host says that it is not ready, and all of it comes
/// back with a renewed token. A date that leaps leaves the whole grace, which is counted by the other clock.
#[test]
fn what_has_expired_comes_back_when_it_is_renewed() {
    let Some(machine) = Machine::new() else { return };
    let (owner, host) = (machine.home(), machine.home());
    let root = did(&owner.output(&["realm", "new", "io.example"]).succeeded());
    host.output(&["realm", "pin", "io.example", &root]).succeeded();
    let key = did(&host.output(&["key", "new", "host"]).succeeded());
    let token = host.path().join("host.token");
    let bound = host.output(&["inspect", &prebuilt("calculator"), "--json"]).succeeded();
    let bound: Value = serde_json::from_str(&bound).unwrap();
    let component = bound["mcid"].as_str().unwrap();
    let issue = || {
        let can = ["--can", "/mesh", "--topic", "math.**", "--expires", "24h", "--plugin", component];
        let issued = owner.output(&[&["token", "issue", "--realm", "io.example", "--to", &key][..], &can].concat());
        fs::write(&token, issued.succeeded()).unwrap();
    };
    issue();
    // Somebody who only listens, by a right of the same length.
    let listener = machine.home();
    listener.output(&["realm", "pin", "io.example", &root]).succeeded();
    let listeners = did(&listener.output(&["key", "new", "me"]).succeeded());
    let heard = listener.path().join("heard.token");
    let issue_to_listener = || {
        let can = ["--can", "/mesh/subscribe", "--topic", "math.**", "--expires", "24h"];
        let to = ["token", "issue", "--realm", "io.example", "--to", &listeners];
        fs::write(&heard, owner.output(&[&to[..], &can].concat()).succeeded()).unwrap();
    };
    issue_to_listener();
    let relay = owner.node(&["relay"]);
    let url = relay.relay();
    let fixed = ["--realm", "io.example", "--token", token.to_str().unwrap(), "--relay", &url];
    let mut node = host.node(&[&["run", &prebuilt("calculator")][..], &fixed].concat());
    let call = || -> Finished { owner.output(&["call", "math.add", "[2, 3]", "--realm", "io.example"]) };
    assert_eq!(call().succeeded().trim(), "5");
    assert!(is_ready(&node));
    let listens =
        ["math.**", "--count", "1", "--realm", "io.example", "--node", &url, "--token", heard.to_str().unwrap()];
    let mut listening = listener.subscriber(&listens);
    machine.pass(25 * HOUR);
    node.process.note("\"event\":\"suspended\"");
    machine.pass(25 * HOUR + 60);
    node.process.note("\"event\":\"lost\"");
    until("the host is not ready", || !is_ready(&node));
    listening.note("the right to subscribe to math.** has ended");
    let (_, health) = node.page("/ready", "localhost");
    assert!(health.contains("offers are not in force"), "{health}");
    call().failed(4, "nobody offers math.add");
    issue();
    issue_to_listener();
    machine.pass(25 * HOUR + 120);
    until("the host is ready", || is_ready(&node));
    assert_eq!(call().succeeded().trim(), "5");
    listening.note("is renewed");
    // Kept by the relay, for a subscription that may be on its way.
    owner.output(&["publish", "math.result", "7", "--retain", "--realm", "io.example"]).succeeded();
    assert_eq!(listening.line(), "math.result 7");
    node.stop();
    relay.stop();
}

/// Goal: a clock that is set back brings back nothing that has expired, in this process or in later ones, until a person says
/// that it is right; each is written to the audit.
#[test]
fn a_clock_that_is_set_back_brings_nothing_back() {
    let Some(machine) = Machine::new() else { return };
    let home = machine.home();
    home.output(&["realm", "new", "io.example"]).succeeded();
    let key = did(&home.output(&["key", "new", "ops"]).succeeded());
    let issue = ["token", "issue", "--realm", "io.example", "--to", &key, "--can", "/mesh", "--expires", "1h"];
    let token = home.path().join("ops.token");
    fs::write(&token, home.output(&issue).succeeded()).unwrap();
    let verify = || home.output(&["token", "verify", token.to_str().unwrap()]);
    assert_eq!(verify().succeeded().trim(), "valid");
    let node = home.node(&["relay"]);
    machine.pass(2 * HOUR);
    assert_eq!(verify().out.trim(), "Expired");
    // What a node has seen for ten minutes is kept.
    node.stop();
    machine.shift(0, 2 * HOUR);
    assert_eq!(verify().out.trim(), "Expired");
    let mut node = home.node(&["relay"]);
    assert!(node.process.note("behind by").contains("clock reset"));
    let shown: Value = serde_json::from_str(&home.output(&["clock", "show", "--json"]).succeeded()).unwrap();
    assert!(shown["floor"].as_i64().unwrap() - shown["clock"].as_i64().unwrap() > HOUR, "{shown}");
    assert!(shown["now"].as_i64() >= shown["floor"].as_i64(), "{shown}");
    let reset = home.output(&["clock", "reset"]);
    assert!(reset.err.contains("may be taken again"), "{}", reset.err);
    reset.succeeded();
    assert!(node.process.note("reset from").contains("\"event\":\"clock\""));
    assert_eq!(verify().succeeded().trim(), "valid");
    node.stop();
    assert_eq!(verify().succeeded().trim(), "valid", "the node has not raised it again");
}
