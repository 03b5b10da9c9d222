//! What a table of permissions allows and nothing else; what ends when another comes; what suspension holds up.

use macula_auth::Permissions;
use macula_wire::{CallError, Fault, Operation, control::EndedWhat, frame::Lane, hello::Role};

use super::harness::{Name, SLOT, Sim, id_of, wanted};
use crate::Denial;

/// A host that may do what these say, on the names of `io.example.user`.
fn restricted(sim: &mut Sim, seed: u8, operations: &[Operation]) -> Name {
    let name = sim.open(seed, Role::Host, 1);
    let permissions = Permissions::on(operations, &["io.example.user.**".parse().unwrap()]);
    sim.join_with(name, SLOT, 200, "local.dev", permissions).unwrap();
    name
}

fn denials(sim: &mut Sim) -> Vec<(Operation, String)> {
    std::iter::from_fn(|| sim.relay.poll_denial()).map(|Denial { operation, name, .. }| (operation, name)).collect()
}

/// Goal: each of the five ways to use a name is held against the table, by the relay itself.
#[test]
fn each_operation_needs_its_own_right_to_the_name() {
    use Operation::{Advertise, Call, Publish, Subscribe};
    let (inside, outside) = ("io.example.user.door", "io.example.userevil.door");
    for held in [Subscribe, Publish, Advertise, Call] {
        let mut sim = Sim::new();
        let (watcher, provider, host) = (sim.host(1), sim.host(2), restricted(&mut sim, 3, &[held]));
        let number = sim.subscribe(watcher, wanted("io.**"));
        sim.advertise(provider, inside, 10);
        sim.advertise(provider, outside, 10);
        for (name, is_inside) in [(inside, true), (outside, false)] {
            let may = |operation| held == operation && is_inside;
            assert_eq!(sim.try_subscribe(host, wanted(name)).is_ok(), may(Subscribe), "{held} {name}");
            assert_eq!(sim.try_retained(host, name).is_ok(), may(Subscribe), "{held} {name}");
            assert_eq!(sim.try_advertise(host, name, 1).is_ok(), may(Advertise), "{held} {name}");
            sim.publish(host, name, "x");
            assert_eq!(sim.payloads(watcher, number), if may(Publish) { vec!["x"] } else { vec![] }, "{held} {name}");
            let denied = sim.outcome(host, name);
            assert_eq!(
                denied,
                (!may(Call)).then(|| Err(CallError::NotRun(Fault::Denied(format!("/mesh/call {name}"))))),
                "{held} {name}"
            );
        }
        assert!(!sim.hosts[host].refused.is_empty() || held == Publish);
        assert!(denials(&mut sim).iter().all(|(operation, name)| *operation != held || name == outside));
        sim.relay.assert_consistent();
    }
}

/// Goal: a subscription is never narrowed to what is allowed.
#[test]
fn a_pattern_must_be_covered_as_a_whole() {
    let mut sim = Sim::new();
    let host = restricted(&mut sim, 1, &[Operation::Subscribe]);
    for pattern in ["**", "io.**", "io.example.*", "io.example.*.door", "*.example.user.door"] {
        let refused = sim.try_subscribe(host, wanted(pattern)).unwrap_err();
        assert_eq!(refused, Fault::Denied(format!("/mesh/subscribe {pattern}")));
    }
    sim.subscribe(host, wanted("io.example.user.*.temperature"));
    assert_eq!(denials(&mut sim).len(), 5);
    assert_eq!(sim.relay.stats().denied, 5);
}

/// Goal: two realms on one relay know nothing of one another, whatever they have in common.
#[test]
fn realms_are_apart() {
    let mut sim = Sim::new();
    let one = sim.host(1);
    let other = sim.open(2, Role::Host, 1);
    sim.join(other, SLOT, 201, "local.dev").unwrap();
    let (at_one, at_other) = (sim.subscribe(one, wanted("**")), sim.subscribe(other, wanted("**")));
    sim.advertise(one, "math.add", 10);
    sim.publish_retained(one, "a.b", "kept");
    assert_eq!(sim.payloads(one, at_one), ["kept"]);
    assert_eq!(sim.payloads(other, at_other), [""; 0]);
    assert_eq!(sim.retained(other, "a.b"), None);
    let (one_answer, other_answer) = (sim.outcome(other, "math.add"), sim.outcome(other, "math.nothing"));
    assert!(matches!(one_answer, Some(Err(CallError::NotRun(Fault::NotFound(_))))), "{one_answer:?}");
    assert!(matches!(other_answer, Some(Err(CallError::NotRun(Fault::NotFound(_))))));
}

/// Goal: with a smaller table what is not allowed any more ends at once, and its owner is told; the rest goes on.
#[test]
fn what_a_new_table_does_not_allow_ends() {
    let mut sim = Sim::new();
    let (watcher, host) = (sim.host(1), sim.host(2));
    let at_watcher = sim.subscribe(watcher, wanted("**"));
    let (kept, lost) = (sim.subscribe(host, wanted("io.example.user.*")), sim.subscribe(host, wanted("io.**")));
    let offer = sim.advertise(host, "math.add", 10);
    sim.publish(host, "other.topic", "before");
    let all = [Operation::Subscribe, Operation::Publish];
    let permissions = Permissions::on(&all, &["io.example.user.**".parse().unwrap()]);
    sim.set_permissions(host, permissions);
    let ended: Vec<EndedWhat> = sim.hosts[host].ended.iter().map(|ended| ended.what).collect();
    assert_eq!(ended, [EndedWhat::Subscription(lost), EndedWhat::Offer(offer)]);
    let refused: Vec<&str> = sim.hosts[host].refused.iter().map(|refused| refused.name.as_str()).collect();
    assert_eq!(refused, ["other.topic"], "and of the channel that has closed");
    sim.publish(host, "other.topic", "after");
    sim.sync(host, Lane::Normal, 1);
    sim.sync(host, Lane::Normal, 2);
    assert_eq!(sim.hosts[host].denied_receipts, [(Lane::Normal, 1)], "a receipt does not hide what was denied");
    sim.publish(host, "io.example.user.a", "mine");
    assert_eq!(sim.payloads(watcher, at_watcher), ["before", "mine"]);
    assert_eq!(sim.payloads(host, kept), ["mine"]);
    assert_eq!(sim.relay.stats().messages_denied, 1);
    // With the right back, the channel opens again; what ended stays ended.
    sim.set_permissions(host, Permissions::all());
    sim.publish(host, "other.topic", "again");
    assert_eq!(sim.payloads(watcher, at_watcher), ["again"]);
    sim.relay.assert_consistent();
}

/// Goal: while a link is suspended nothing is given to it, no call is sent its way, and nothing is lost.
#[test]
fn suspension_holds_up_and_loses_nothing() {
    let mut sim = Sim::new();
    let (publisher, host) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(host, wanted("a"));
    sim.advertise(host, "math.add", 10);
    let key = sim.hosts[host].key;
    sim.relay.suspend(key, SLOT);
    sim.relay.suspend(key, SLOT);
    assert!(sim.relay.is_suspended(key));
    sim.publish(publisher, "a", "1");
    sim.publish(publisher, "a", "2");
    assert_eq!(sim.payloads(host, number), [""; 0]);
    assert!(matches!(sim.outcome(publisher, "math.add"), Some(Err(CallError::NotRun(Fault::Unavailable(_))))));
    sim.relay.assert_consistent();
    sim.relay.resume(key, SLOT);
    sim.pump();
    assert!(!sim.relay.is_suspended(key));
    assert_eq!(sim.payloads(host, number), ["1", "2"]);
}

/// Goal: a request of a suspended link is put off, as nobody knows yet whether it may; calls that wait for it do so still.
#[test]
fn requests_of_a_suspended_link_are_put_off() {
    let mut sim = Sim::new();
    let (caller, host) = (sim.host(1), sim.host(2));
    sim.advertise(host, "math.add", 10);
    let key = sim.hosts[host].key;
    sim.stall(host, &[Lane::Calls]);
    sim.call(caller, 1, "math.add", "x");
    sim.relay.suspend(key, SLOT);
    sim.resume(host);
    assert_eq!(sim.hosts[host].calls.len(), 0, "nothing is given to it");
    assert!(matches!(sim.try_subscribe(host, wanted("a")), Err(Fault::Unavailable(_))));
    assert!(matches!(sim.try_advertise(host, "math.sub", 1), Err(Fault::Unavailable(_))));
    assert!(matches!(sim.try_retained(host, "a"), Err(Fault::Unavailable(_))));
    sim.relay.resume(key, SLOT);
    sim.pump();
    assert_eq!(sim.take_call(host).payload, "x");
    sim.subscribe(host, wanted("a"));
    sim.relay.assert_consistent();
}

/// Goal: a call that waits for a provider goes to another when its offer ends, and nowhere when its caller may not call any more.
#[test]
fn calls_that_wait_follow_the_rights() {
    let mut sim = Sim::new();
    let (caller, first, second) = (sim.host(1), sim.host(2), sim.host(3));
    let offer = sim.advertise(first, "math.add", 10);
    sim.advertise(first, "math.sub", 10);
    sim.stall(first, &[Lane::Calls]);
    sim.call(caller, 1, "math.add", "moved");
    sim.call(caller, 2, "math.sub", "stays");
    sim.call(caller, 3, "math.add", "moved too");
    sim.advertise(second, "math.add", 10);
    sim.withdraw(first, offer);
    let moved: Vec<String> = sim.hosts[second].calls.drain(..).map(|call| call.payload).collect();
    assert_eq!(moved, ["moved", "moved too"]);
    sim.relay.assert_consistent();
    sim.set_permissions(caller, Permissions::on(&[Operation::Call], &["math.add".parse().unwrap()]));
    let answers = sim.answers(caller);
    assert!(
        matches!(&answers[..], [(2, Err(CallError::NotRun(Fault::Denied(what))))] if what == "/mesh/call math.sub"),
        "{answers:?}"
    );
    sim.relay.assert_consistent();
    sim.resume(first);
    assert_eq!(sim.hosts[first].calls.len(), 0);
}

/// Goal: a node answers for itself under its own name, and for nobody else.
#[test]
fn administration_is_offered_under_ones_own_name_only() {
    let mut sim = Sim::new();
    let host = restricted(&mut sim, 7, &[]);
    let status = |seed: u8| format!("_mesh.admin.{}.status", id_of(seed).segment());
    sim.advertise(host, &status(7), 1);
    assert!(matches!(sim.try_advertise(host, &status(8), 1), Err(Fault::Denied(_))));
    assert!(matches!(sim.try_advertise(host, "_mesh.admin", 1), Err(Fault::Denied(_))));
}

/// Goal: how far a node is with a deployment only the node says, whatever else it may do, also after its rights changed.
#[test]
fn a_node_tells_of_its_own_rollouts_only() {
    let mut sim = Sim::new();
    let (watcher, host) = (sim.host(1), sim.open(7, Role::Host, 1));
    let fetches = || Permissions::on(&[Operation::Fetch], &["**".parse().unwrap()]);
    sim.join_with(host, SLOT, 200, "local.dev", fetches()).unwrap();
    let rollout = |seed: u8| format!("_mesh.rollouts.{}.io.example.app", id_of(seed).segment());
    let number = sim.subscribe(watcher, wanted("_mesh.rollouts.**"));
    let tell = |sim: &mut Sim, seed: u8| {
        sim.publish(host, &rollout(seed), "told");
        sim.payloads(watcher, number).len()
    };
    assert_eq!(tell(&mut sim, 8), 0);
    sim.set_permissions(host, fetches());
    assert_eq!(tell(&mut sim, 8), 0);
    assert_eq!(tell(&mut sim, 7), 1);
    sim.relay.assert_consistent();
}
