//! Who gets in, what a relay says of itself, and how revocations get around.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use macula_auth::{
    Issuing, Scope, Terms, issue, proof_of,
    ucan::{Chain, Revocation},
};
use macula_relay::{Peer, RelayConfig};
use macula_wire::{Operation, control::Subscribe, hello::Role};

use super::*;

const START: u64 = 1_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> NodeId {
    key(seed).verifying_key().into()
}

fn access(name: &str, root: u8) -> RealmAccess {
    RealmAccess::by_root(name.parse().unwrap(), key(root))
}

/// A relay of the realm `io.example` under key 200, and its peers.
struct Bench {
    admission: Admission,
    relay: Relay,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let rights = RealmRights {
            config: AuthorityConfig::default(),
            realms: vec![access("io.example", 200)],
            revocations: Vec::new(),
            log: None,
        };
        let now = Now { instant: Instant::now(), moment: Moment::at(START) };
        Self { admission: Admission::new(now, id(100), rights), relay: Relay::new(RelayConfig::default()), now }
    }

    fn pass(&mut self, time: Duration) {
        let Moment { unix, running } = self.now.moment;
        let moment = Moment { unix: unix + time.as_secs(), running: running + time };
        self.now = Now { instant: self.now.instant + time, moment };
        self.admission.tick(self.now);
        self.admission.settle(&mut self.relay, self.now.instant);
    }

    /// The date leaps, and a second passes.
    fn leap(&mut self, by: Duration) {
        self.now.moment.unix += by.as_secs();
        self.pass(Duration::from_secs(1));
    }

    fn open(&mut self, seed: u8) -> LinkKey {
        self.relay.link_opened(Peer { node: id(seed), epoch: 1, role: Role::Host })
    }

    /// Hands in a message of the peer with this seed, and takes what is said to it.
    fn say(&mut self, link: LinkKey, seed: u8, message: Control) -> Vec<Control> {
        self.admission.handle_control(&mut self.relay, self.now, link, id(seed), message).expect("no violation");
        self.admission.settle(&mut self.relay, self.now.instant);
        self.heard(link)
    }

    fn heard(&mut self, link: LinkKey) -> Vec<Control> {
        std::iter::from_fn(|| self.relay.poll_control(link)).collect()
    }

    /// The fault of the answer to a request.
    fn fault(&mut self, link: LinkKey, seed: u8, message: Control) -> Option<Fault> {
        let said = self.say(link, seed, message);
        let done =
            said.into_iter().find_map(|message| if let Control::Done(done) = message { Some(done) } else { None });
        done.expect("every request is answered").fault
    }
}

fn granted(to: u8, expires: u64) -> Chain {
    let terms = Terms { scope: Scope::new(["a.**".parse().unwrap()]).unwrap(), ..Terms::all() };
    let (audience, command, nonce) = (id(to), Operation::Subscribe.command().parse().unwrap(), vec![to; 12]);
    let issuing = Issuing { audience, command, terms, expires: Some(expires), nonce, meta: Default::default() };
    issue(&key(200), None, issuing, START).unwrap()
}

fn join(slot: u32, root: u8, name: &str, proofs: Vec<Proof>) -> Control {
    Control::Join(Join { id: 1, slot, name: name.parse().unwrap(), root: id(root), proofs })
}

fn subscribe(slot: u32, subscription: u32) -> Control {
    Control::Subscribe(Subscribe {
        id: 2,
        slot,
        subscription,
        pattern: "a.b".parse().unwrap(),
        when_full: Default::default(),
        queue_messages: 10,
        credit: 10,
        retained: false,
        resumed: false,
    })
}

/// Goal: a realm that is not served, one that is not there, and the right name under another root are all the same answer.
#[test]
fn what_is_not_served_does_not_exist() {
    let mut bench = Bench::new();
    let link = bench.open(1);
    let proof = vec![proof_of(&granted(1, START + 100))];
    let here = RealmId::new(&id(200), &"io.example".parse().unwrap());
    let show = |realm| Control::Show(Show { id: 9, realm });
    assert_eq!(bench.fault(link, 1, show(here)), None);
    let unknown = bench.fault(link, 1, show(RealmId::new(&id(201), &"io.example".parse().unwrap())));
    assert_eq!(unknown, Some(not_served()));
    for (root, name) in [(201, "io.example"), (200, "io.other")] {
        assert_eq!(bench.fault(link, 1, join(0, root, name, proof.clone())), unknown);
    }
    assert_eq!(bench.fault(link, 1, join(0, 200, "io.example", proof)), None);
}

/// Goal: a proof is somebody's own, holds for its time, and its number is taken once.
#[test]
fn a_proof_lets_its_owner_in_for_its_time() {
    let mut bench = Bench::new();
    let (link, thief) = (bench.open(1), bench.open(2));
    let proofs = vec![proof_of(&granted(1, START + 100))];
    let stolen = bench.fault(thief, 2, join(0, 200, "io.example", proofs.clone()));
    assert!(matches!(stolen, Some(Fault::Denied(why)) if why.contains("InvalidAudience")));
    let many = vec![Proof::default(); PROOFS_PER_MESSAGE_MAX + 1];
    assert!(matches!(bench.fault(link, 1, join(0, 200, "io.example", many)), Some(Fault::QuotaExceeded(_))));
    assert_eq!(bench.fault(link, 1, join(0, 200, "io.example", proofs.clone())), None);
    assert!(matches!(bench.fault(link, 1, join(0, 200, "io.example", proofs)), Some(Fault::Conflict(_))));
    assert_eq!(bench.fault(link, 1, subscribe(0, 1)), None);
    // It expires: put off at first, then ended.
    bench.pass(Duration::from_secs(101));
    assert!(bench.relay.is_suspended(link));
    assert!(matches!(bench.fault(link, 1, subscribe(0, 2)), Some(Fault::Unavailable(_))));
    bench.pass(Duration::from_secs(31));
    assert!(!bench.relay.is_suspended(link));
    assert!(bench.heard(link).iter().any(|message| matches!(message, Control::Ended(_))));
    assert!(matches!(bench.fault(link, 1, subscribe(0, 3)), Some(Fault::Denied(_))));
}

/// Goal: a date that leaps far beyond the end of a right leaves the peer its time to renew it, and then nothing has ended.
#[test]
fn a_date_that_leaps_leaves_time_to_renew() {
    let mut bench = Bench::new();
    let link = bench.open(1);
    assert_eq!(bench.fault(link, 1, join(0, 200, "io.example", vec![proof_of(&granted(1, START + 100))])), None);
    assert_eq!(bench.fault(link, 1, subscribe(0, 1)), None);
    bench.leap(Duration::from_secs(25 * 3600));
    assert!(bench.relay.is_suspended(link));
    bench.pass(Duration::from_secs(29));
    let renewed = vec![proof_of(&granted(1, START + 50 * 3600))];
    assert_eq!(bench.fault(link, 1, Control::Present(Present { id: 3, slot: 0, proofs: renewed })), None);
    assert!(!bench.relay.is_suspended(link));
    bench.pass(Duration::from_secs(60));
    assert!(!bench.heard(link).iter().any(|message| matches!(message, Control::Ended(_))));
    assert_eq!(bench.relay.stats().subscriptions, 1);
}

/// Goal: a revocation is in force when it is answered, and every member of the realm hears of it, also those that join later.
#[test]
fn revocations_get_around() {
    let mut bench = Bench::new();
    let (first, second) = (bench.open(1), bench.open(2));
    let chain = granted(1, START + 100);
    assert_eq!(bench.fault(first, 1, join(0, 200, "io.example", vec![proof_of(&chain)])), None);
    assert_eq!(bench.fault(second, 2, join(7, 200, "io.example", vec![proof_of(&granted(2, START + 100))])), None);
    assert_eq!(bench.fault(first, 1, subscribe(0, 1)), None);
    let token = ByteBuf::from(Revocation::sign(&key(200), chain.last().cid()).bytes());
    let revoke = |slot| Control::Revoke(Revoke { id: 3, slot, revocations: vec![token.clone()] });
    assert!(matches!(bench.fault(second, 2, revoke(8)), Some(Fault::Denied(_))), "no such number");
    assert_eq!(bench.fault(second, 2, revoke(7)), None);
    let heard = bench.heard(first);
    let revoked = Control::Revoked(Revoked { slot: 0, revocations: vec![token.clone()] });
    assert!(heard.contains(&revoked), "{heard:?}");
    assert!(heard.iter().any(|message| matches!(message, Control::Ended(_))), "{heard:?}");
    let third = bench.open(3);
    let said = bench.say(third, 3, join(4, 200, "io.example", vec![proof_of(&granted(3, START + 100))]));
    assert!(said.contains(&Control::Revoked(Revoked { slot: 4, revocations: vec![token] })), "{said:?}");
    // A link that has closed leaves nothing.
    bench.admission.link_closed(first);
    bench.relay.link_closed(bench.now.instant, first);
    assert!(bench.admission.realm_of(first, 0).is_none());
}
