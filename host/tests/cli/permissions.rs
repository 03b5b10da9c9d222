//! Realms, tokens and what they let do: the walk of `docs/operating/permissions.md`, and each refusal by its name.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::process::{Home, Node, prebuilt};

/// A realm with an owner who runs its relay, an operator, and a host with tokens for its plugin.
struct Realm {
    owner: Home,
    operator: Home,
    host: Home,
    root: String,
    host_key: String,
    /// Owner to operator, and that with operator to host.
    ops_token: PathBuf,
    host_token: PathBuf,
    relay: Node,
}

/// The first did:key that a command has printed.
fn did(output: &str) -> String {
    output.split_whitespace().find(|word| word.starts_with("did:key:")).expect("a did:key").to_owned()
}

fn save(home: &Home, name: &str, token: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, token).unwrap();
    path
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

fn mcid(home: &Home, file: &str) -> String {
    let inspected: Value = serde_json::from_str(&home.output(&["inspect", file, "--json"]).succeeded()).unwrap();
    inspected["mcid"].as_str().unwrap().to_owned()
}

impl Realm {
    /// Follows the page, up to the running relay: a host may do everything with these names, or only that component on it.
    fn new(names: &str, component: Option<&str>) -> Self {
        let (owner, operator, host) = (Home::new(), Home::new(), Home::new());
        let root = did(&owner.output(&["realm", "new", "io.example"]).succeeded());
        for home in [&operator, &host] {
            home.output(&["realm", "pin", "io.example", &root]).succeeded();
        }
        let ops_key = did(&operator.output(&["key", "new", "ops"]).succeeded());
        let host_key = did(&host.output(&["key", "new", "host"]).succeeded());
        let issue = |home: &Home, to: &str, more: &[&str]| {
            let arguments = ["token", "issue", "--realm", "io.example", "--to", to, "--can", "/mesh", "--topic", names];
            home.output(&[&arguments, more].concat()).succeeded()
        };
        let ops_token = save(&operator, "ops.token", &issue(&owner, &ops_key, &["--expires", "720h"]));
        let mut more = vec!["--proof", text(&ops_token)];
        let id = component.map(|component| mcid(&host, component));
        if let Some(id) = &id {
            more.extend(["--plugin", id]);
        }
        let host_token = save(&host, "host.token", &issue(&operator, &host_key, &more));
        let relay = owner.node(&["relay"]);
        Self { owner, operator, host, root, host_key, ops_token, host_token, relay }
    }

    fn host(&self, arguments: &[&str]) -> Node {
        let url = self.relay.relay();
        let fixed = ["--realm", "io.example", "--token", text(&self.host_token), "--relay", &url];
        self.host.node(&[&["run"], arguments, &fixed[..]].concat())
    }

    /// A verb of the owner, who may do everything.
    fn owner(&self, arguments: &[&str]) -> crate::process::Finished {
        self.owner.output(&[arguments, &["--realm", "io.example"]].concat())
    }
}

/// Goal: a plugin in production does what it was granted, on the host it was granted on; revoking a delegation in the middle
/// of its chain takes the right before the command returns; the plugin runs on without it.
#[test]
fn a_plugin_runs_by_what_its_component_was_granted() {
    let calculator = prebuilt("calculator");
    let realm = Realm::new("math.**", Some(&calculator));
    let mut host = realm.host(&[&calculator]);
    assert_eq!(realm.owner(&["call", "math.add", "[2, 3]"]).succeeded().trim(), "5");
    // What the root has given, and so in the middle of the plugin's chain.
    let listed = realm.owner.output(&["token", "list", "--json"]).succeeded();
    let listed: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&listed["command"], &listed["state"]), (&"/mesh".into(), &"valid".into()));
    let cid = listed["cid"].as_str().unwrap();
    realm.owner(&["token", "revoke", cid]).succeeded();
    // The relay has it in force when the command returns.
    realm.owner(&["call", "math.add", "[2, 3]"]).failed(4, "nobody offers math.add");
    assert!(realm.owner.output(&["token", "list"]).succeeded().contains("revoked"));
    host.process.note("\"event\":\"lost\"");
    // It runs on, without what it may not do any more.
    let (head, health) = host.page("/health", "localhost");
    assert!(head.contains("200") && health.contains("plugin calculator"), "{head}{health}");
    host.stop();
    // It is never undone: not for the same token, and not by starting again.
    let url = realm.relay.relay();
    let arguments = ["run", &calculator, "--realm", "io.example", "--token", text(&realm.host_token), "--relay", &url];
    realm.host.output(&[&arguments[..], &["--health", "127.0.0.1:0"]].concat()).failed(3, "revoked");
    realm.relay.stop();
}

/// Goal: what is granted to one component is nothing to another, although both run on the same host; the log says what is
/// missing, and with which command it would be granted.
#[test]
fn what_is_one_components_is_no_others() {
    let realm = Realm::new("**", Some(&prebuilt("calculator")));
    let mut host = realm.host(&[&prebuilt("calculator"), &prebuilt("echo")]);
    assert_eq!(realm.owner(&["call", "math.add", "[2, 3]"]).succeeded().trim(), "5");
    let line = host.process.note("denied /mesh/");
    let echo = mcid(&realm.host, &prebuilt("echo"));
    for part in ["token issue --realm io.example", &realm.host_key, "--can /mesh/", &echo] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let (_, metrics) = host.page("/metrics", "localhost");
    let denied = metrics.lines().find(|line| line.starts_with("macula_audit_events_total") && line.contains("denied"));
    assert!(denied.is_some_and(|line| line.contains("host") && !line.ends_with(" 0")), "{metrics}");
    host.stop();
    realm.relay.stop();
}

/// Goal: verbs of a home act by tokens for its keys, exactly as far as these go; a denial names the right, who can grant it,
/// and how.
#[test]
fn verbs_do_what_their_tokens_say() {
    let realm = Realm::new("io.example.user.**", None);
    let node = realm.relay.relay();
    let common = ["--realm", "io.example", "--node", &node];
    let with_token = [&common[..], &["--token", text(&realm.host_token)]].concat();
    let verb = |arguments: &[&str], more: &[&str]| realm.host.output(&[arguments, more].concat());
    verb(&["publish", "io.example.user.door", "x"], &with_token).succeeded();
    verb(&["publish", "io.example.userevil.door", "x"], &with_token)
        .failed(3, "/mesh/publish io.example.userevil.door");
    verb(&["subscribe", "**"], &with_token).failed(3, "/mesh/subscribe **");
    verb(&["call", "io.example.other"], &with_token).failed(3, "/mesh/call io.example.other");
    verb(&["publish", "io.example.user.door", "x"], &common).failed(3, "nothing lets this node into realm io.example");
    let hint = format!("at least the realm's root {}, can grant it: macula-host token issue", realm.root);
    verb(&["publish", "io.example.other", "x"], &with_token).failed(3, &hint);
    verb(&["publish", "a.b", "x"], &["--realm", "io.unknown", "--node", &node]).failed(3, "realm pin io.unknown DID");
    // The same token in the home needs no flag.
    fs::create_dir(realm.host.path().join("tokens")).unwrap();
    fs::copy(&realm.host_token, realm.host.path().join("tokens/mine.ucan")).unwrap();
    verb(&["publish", "io.example.user.door", "x"], &common).succeeded();
    realm.relay.stop();
}

/// Goal: realms on one relay know nothing of one another, whoever asks.
#[test]
fn two_realms_on_one_relay_are_apart() {
    let home = Home::new();
    home.output(&["realm", "new", "io.one"]).succeeded();
    home.output(&["realm", "new", "io.two"]).succeeded();
    home.output(&["realm", "new", "io.one"]).failed(1, "a realm's root never changes");
    let relay = home.node(&["relay"]);
    let serves = relay.ready["serves"].as_array().unwrap().len();
    assert_eq!(serves, 3, "local.dev and both");
    let mut two = home.subscriber(&["**", "--count", "1", "--realm", "io.two"]);
    home.output(&["publish", "a.b", "one", "--retain", "--realm", "io.one"]).succeeded();
    home.output(&["publish", "a.b", "two", "--realm", "io.two"]).succeeded();
    assert_eq!(two.line(), "a.b two");
    let mut one = home.subscriber(&["**", "--count", "1", "--realm", "io.one"]);
    assert_eq!(one.line(), "a.b one");
    relay.stop();
}

/// Goal: `token verify` says each error by its name, and exits with 3.
#[test]
fn every_refusal_of_a_token_has_its_name() {
    let realm = Realm::new("io.example.user.**", None);
    let (operator, token, ops) = (&realm.operator, text(&realm.host_token), text(&realm.ops_token));
    let verify = |file: &str, more: &[&str]| operator.output(&[&["token", "verify", file], more].concat());
    let is = |file: &str, more: &[&str], name: &str| {
        let finished = verify(file, more);
        assert_eq!(
            (finished.out.trim(), finished.code),
            (name, Some(if name == "valid" { 0 } else { 3 })),
            "{more:?}: {}",
            finished.err
        );
    };
    is(token, &[], "valid");
    is(token, &["--root", &realm.root, "--audience", &realm.host_key, "--can", "/mesh/publish"], "valid");
    is(token, &["--topic", "io.example.user.door"], "valid");
    is(token, &["--topic", "io.example.userevil.door"], "MatchError");
    is(token, &["--can", "/mesh/publisher"], "InvalidCommand");
    is(token, &["--can", "/other"], "InvalidCommand");
    is(token, &["--root", &realm.host_key], "InvalidSubject");
    is(token, &["--audience", &realm.root], "InvalidAudience");
    is(token, &["--at", "4000000000"], "Expired");
    let inspected = operator.output(&["token", "inspect", ops, "--json"]).succeeded();
    let inspected: Value = serde_json::from_str(inspected.lines().next().unwrap()).unwrap();
    is(token, &["--revoked", inspected["cid"].as_str().unwrap()], "Revoked");
    let mut bytes = fs::read(token).unwrap();
    let damaged = |bytes: &[u8], name: &str| {
        let path = operator.path().join("damaged.token");
        fs::write(&path, bytes).unwrap();
        is(text(&path), &[], name);
    };
    damaged(b"", "Malformed");
    damaged(b"not a token", "Malformed");
    let cut = save(operator, "cut.token", std::str::from_utf8(&bytes[..bytes.len() / 2]).unwrap());
    // Where the cut falls within a letter's bits decides which it is.
    let cut = verify(text(&cut), &[]);
    assert!(["Malformed", "Truncated", "NotCanonical"].contains(&cut.out.trim()) && cut.code == Some(3), "{}", cut.out);
    // A letter of base64 in the last token's payload.
    let place = bytes.len() - 40;
    bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
    let path = save(operator, "flipped.token", std::str::from_utf8(&bytes).unwrap());
    let flipped = verify(text(&path), &[]);
    let is_refused = flipped.out.trim() != "valid" && flipped.out.trim().chars().all(char::is_alphabetic);
    assert!(flipped.code == Some(3) && is_refused, "{}", flipped.out);
    operator.output(&["token", "verify", "nowhere.token"]).failed(4, "nowhere.token");
    operator.output(&["token", "inspect", text(&path)]).failed(3, "flipped.token");
    realm.relay.stop();
}

/// Goal: `token verify` says `valid` of what a node takes and of nothing else: what is bound to a plugin, what is not, and what is not
/// in the mesh's own form.
#[test]
fn a_verdict_is_a_nodes() {
    let owner = Home::new();
    let root = did(&owner.output(&["realm", "new", "io.example"]).succeeded());
    let key = did(&owner.output(&["key", "new", "ops"]).succeeded());
    let (calculator, echo) = (mcid(&owner, &prebuilt("calculator")), mcid(&owner, &prebuilt("echo")));
    let issue = |name: &str, more: &[&str]| {
        let fixed = ["token", "issue", "--realm", "io.example", "--to", &key];
        save(&owner, name, &owner.output(&[&fixed[..], more].concat()).succeeded())
    };
    let is = |file: &PathBuf, more: &[&str], name: &str| {
        let finished = owner.output(&[&["token", "verify", text(file), "--root", &root], more].concat());
        assert_eq!(finished.out.trim(), name, "{more:?}: {}", finished.err);
    };
    let nodes = issue("nodes.token", &["--can", "/mesh", "--topic", "a.**"]);
    is(&nodes, &["--topic", "a.b"], "valid");
    is(&nodes, &["--plugin", &calculator], "MatchError");
    is(&nodes, &["--topic", "a.b", "--plugin", &calculator], "MatchError");
    is(&nodes, &["--can", "/mesh/relay"], "MatchError");
    is(&nodes, &["--can", "/mesh/admin", "--topic", "_mesh.admin.x.status"], "MatchError");
    let bound = issue("bound.token", &["--can", "/mesh", "--topic", "a.**", "--plugin", &calculator]);
    is(&bound, &["--plugin", &calculator, "--topic", "a.b"], "valid");
    is(&bound, &["--plugin", &calculator, "--topic", "b"], "MatchError");
    is(&bound, &["--plugin", &echo], "MatchError");
    is(&bound, &["--plugin", &calculator, "--slot", "io.example.app/main"], "MatchError");
    let slots = issue("slots.token", &["--can", "/mesh", "--topic", "a.**", "--slot", "io.example.app/main"]);
    is(&slots, &["--plugin", &echo, "--slot", "io.example.app/main", "--topic", "a.b"], "valid");
    is(&slots, &["--plugin", &echo, "--slot", "io.example.app/other"], "MatchError");
    is(&slots, &["--plugin", &echo], "MatchError");
    let relays = issue("relays.token", &["--can", "/mesh/relay"]);
    is(&relays, &["--can", "/mesh/relay"], "valid");
    let claim = issue("claim.token", &["--can", "/mesh/own", "--topic", "io.example.user"]);
    is(&claim, &[], "valid");
}

/// Goal: what cannot be granted is refused when it is issued, with the way out.
#[test]
fn issuing_refuses_what_would_not_hold() {
    let realm = Realm::new("io.example.user.**", None);
    let to = &realm.host_key;
    let issue = |can: &str, more: &[&str]| {
        let fixed =
            ["token", "issue", "--realm", "io.example", "--to", to, "--can", can, "--proof", text(&realm.ops_token)];
        realm.operator.output(&[&fixed[..], more].concat())
    };
    issue("/mesh/publish", &["--topic", "io.example.user.*.x"]).failed(2, "io.example.user.** would cover it");
    issue("/mesh/publish", &["--topic", "io.example.userevil.**"]).failed(3, "has only io.example.user.**");
    issue("/mesh/publisher", &[]).failed(2, "/mesh/publisher is no right");
    issue("mesh", &[]).failed(2, "no command");
    issue("/mesh/own", &["--topic", "io.Example"]).failed(2, "'E'");
    issue("/mesh/own", &["--topic", "io.ex\u{430}mple"]).failed(2, "\u{430}");
    issue("/mesh/relay", &["--topic", "io.**"]).failed(2, "whole realm");
    issue("/mesh/publish", &["--plugin", "bafkr4i"]).failed(2, "content id");
    issue("/mesh/call", &["--topic", "a..b"]).failed(2, "empty segment");
    realm
        .operator
        .output(&["token", "issue", "--realm", "io.example", "--to", "did:key:z", "--can", "/mesh"])
        .failed(2, "did:key:z");
    let nobody = Home::new();
    nobody.output(&["realm", "pin", "io.example", &realm.root]).succeeded();
    nobody.output(&["realm", "pin", "io.example", to]).failed(1, "a realm's root never changes");
    nobody
        .output(&["token", "issue", "--realm", "io.example", "--to", to, "--can", "/mesh"])
        .failed(3, "neither its root key");
    nobody
        .output(&[
            "token",
            "revoke",
            "bafyreigyftnzjf4rcu7glp5kfop53vqlopc3zcldauoqdxqlz7t4343gr4",
            "--realm",
            "io.example",
        ])
        .failed(4, "--token");
    nobody.output(&["token", "revoke", "x"]).failed(2, "x");
    nobody
        .output(&["token", "revoke", "bafyreigyftnzjf4rcu7glp5kfop53vqlopc3zcldauoqdxqlz7t4343gr4"])
        .failed(2, "name its file with --token, or its realm with --realm");
    let issue = ["token", "issue", "--to", to, "--can", "/mesh", "--expires", "0s"];
    nobody.output(&issue).failed(2, "for a second at least");
    realm.relay.stop();
}

/// Goal: a namespace's owner grants in it, by the command line alone, and moves to another key with a higher epoch.
#[test]
fn a_namespace_has_an_owner() {
    let realm = Realm::new("**", None);
    let user = Home::new();
    user.output(&["realm", "pin", "io.example", &realm.root]).succeeded();
    let user_key = did(&user.output(&["key", "new", "user"]).succeeded());
    let own = ["token", "issue", "--to", &user_key, "--can", "/mesh/own", "--topic", "io.example.user"];
    let claim = save(&user, "claim.token", &realm.owner(&own).succeeded());
    let grant = |names: &str| {
        let fixed = ["token", "issue", "--realm", "io.example", "--to", &realm.host_key, "--can", "/mesh/publish"];
        user.output(&[&fixed[..], &["--topic", names, "--proof", text(&claim)]].concat())
    };
    grant("io.example.other.**").failed(3, "cannot grant");
    let token = save(&realm.host, "from-user.token", &grant("io.example.user.**").succeeded());
    let verify = ["token", "verify", text(&token), "--root", &realm.root, "--topic", "io.example.user.door"];
    assert_eq!(realm.host.output(&verify).succeeded().trim(), "valid");
    let node = realm.relay.relay();
    let publish = |topic: &str| {
        let fixed = ["publish", topic, "x", "--realm", "io.example", "--node", &node, "--token", text(&token)];
        realm.host.output(&fixed)
    };
    publish("io.example.user.door").succeeded();
    publish("io.example.other").failed(3, "/mesh/publish io.example.other");
    // The name moves to another key: whoever shows that ends what the old one has granted.
    let heir = did(&user.output(&["key", "new", "heir"]).succeeded());
    let moved = ["token", "issue", "--to", &heir, "--can", "/mesh/own", "--topic", "io.example.user", "--epoch", "1"];
    let moved = save(&user, "moved.token", &realm.owner(&moved).succeeded());
    let by_heir = ["token", "issue", "--realm", "io.example", "--to", &heir, "--can", "/mesh/publish"];
    let by_heir = [&by_heir[..], &["--topic", "io.example.user.**", "--proof", text(&moved)]].concat();
    let heirs = save(&user, "heirs.token", &user.output(&by_heir).succeeded());
    let fixed = ["publish", "io.example.user.door", "x", "--realm", "io.example", "--node", &node];
    user.output(&[&fixed[..], &["--token", text(&heirs)]].concat()).succeeded();
    publish("io.example.user.door").failed(3, "owns nothing in this realm");
    realm.relay.stop();
}

/// Goal: keys and revocations are private, and what lies about in the home disturbs nothing.
#[test]
fn the_home_is_private_and_forgiving() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.output(&["realm", "new", "io.example"]).succeeded();
    let key = did(&home.output(&["key", "new", "host"]).succeeded());
    home.output(&["token", "issue", "--realm", "io.example", "--to", &key, "--can", "/mesh"]).succeeded();
    fs::write(home.path().join("tokens/broken.ucan"), "x").unwrap();
    let listed = home.output(&["token", "list"]);
    assert!(
        listed.err.contains("broken.ucan") && listed.out.contains("valid /mesh on **"),
        "{}{}",
        listed.out,
        listed.err
    );
    let cid = listed.out.split_whitespace().next().unwrap().to_owned();
    home.output(&["token", "revoke", &cid, "--realm", "local.dev"]).failed(2, "is about realm io.example");
    // The delegation says which realm it is about.
    let revoked = home.output(&["token", "revoke", &cid]);
    assert!(revoked.err.contains("told to the mesh when one does"), "{}", revoked.err);
    assert_eq!(revoked.code, Some(0));
    for file in ["realms/io.example.key", "realms/io.example.revocations", &format!("tokens/{cid}.ucan")] {
        let mode = fs::metadata(home.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    fs::set_permissions(home.path().join("realms/io.example.key"), fs::Permissions::from_mode(0o644)).unwrap();
    home.output(&["realm", "list"]).failed(1, "chmod 600");
}

/// Goal: a proof that is named is what the grant rests on, or nothing is granted; what is printed names the realm.
#[test]
fn a_named_proof_is_used_or_refused() {
    let realm = Realm::new("a.**", None);
    let (ops, owner) = (&realm.operator, &realm.owner);
    let token = text(&realm.ops_token);
    let issue =
        ["token", "issue", "--to", &realm.host_key, "--can", "/mesh/publish", "--topic", "a.b", "--proof", token];
    ops.output(&issue).failed(3, "in realm local.dev");
    owner.output(&[&issue[..], &["--realm", "io.example"]].concat()).failed(3, "for a key of this home");
    ops.output(&[&issue[..], &["--realm", "io.example"]].concat()).succeeded();
    let listed = ops.output(&["token", "list"]).succeeded();
    assert!(listed.contains("/mesh/publish on a.b (realm io.example)"), "{listed}");
    assert!(ops.output(&["token", "inspect", token]).succeeded().contains("(realm io.example)"));
    // Somebody else's token is nothing here, and the log says why.
    let stranger = Home::new();
    stranger.output(&["realm", "pin", "io.example", &realm.root]).succeeded();
    let url = realm.relay.relay();
    let run = ["publish", "a.b", "x", "--realm", "io.example", "--token", token, "--node", &url];
    stranger.output(&run).failed(3, "which is no key of this home");
    // What this home has revoked is not valid here.
    owner.output(&["token", "verify", token, "--root", &realm.root]).succeeded();
    let listed = owner.output(&["token", "list", "--json"]).succeeded();
    let listed: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let ops_cid = listed["cid"].as_str().unwrap().to_owned();
    owner.output(&["token", "revoke", &ops_cid]).succeeded();
    owner.output(&["token", "verify", token, "--root", &realm.root]).failed(3, "revoked");
    realm.relay.stop();
}

/// Goal: a realm that was pinned wrongly is pinned anew, and each message leads there.
#[test]
fn a_wrong_pin_is_mended() {
    let realm = Realm::new("a.**", None);
    let (home, other) = (Home::new(), did(&realm.host.output(&["key", "new", "other"]).succeeded()));
    home.output(&["realm", "pin", "io.example", &other]).succeeded();
    let url = realm.relay.relay();
    let key = did(&home.output(&["key", "new", "me"]).succeeded());
    let issued = realm.owner(&["token", "issue", "--to", &key, "--can", "/mesh/publish"]).succeeded();
    let token = save(&home, "me.token", &issued);
    let publish = ["publish", "a.b", "x", "--realm", "io.example", "--token", text(&token), "--node", &url];
    home.output(&publish).failed(3, &format!("under root {other}"));
    home.output(&["realm", "pin", "io.example", &realm.root]).failed(1, "macula-host realm unpin io.example");
    home.output(&["realm", "unpin", "io.example"]).succeeded();
    home.output(&["realm", "unpin", "io.example"]).failed(4, "not pinned here");
    home.output(&["realm", "pin", "io.example", &realm.root]).succeeded();
    home.output(&publish).succeeded();
    realm.relay.stop();
}
