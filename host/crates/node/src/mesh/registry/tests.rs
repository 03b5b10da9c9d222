//! What stands while rights come and go, and what the relay is told of it.

use macula_wire::WhenFull;

use super::*;

struct Bench {
    registry: Registry,
    said: mpsc::Receiver<Control>,
    subscription: Arc<SubscriptionState>,
    offer: Arc<OfferState>,
}

fn topic(text: &str) -> Topic {
    text.parse().unwrap()
}

fn options(pattern: &str) -> SubscriptionOptions {
    SubscriptionOptions {
        pattern: pattern.parse().unwrap(),
        when_full: WhenFull::DropOldest,
        queue_messages: 10,
        retained: true,
    }
}

fn join(id: u64, proofs: Vec<Proof>) -> Join {
    let root = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into();
    Join { id, slot: REALM_SLOT, name: "local.dev".parse().unwrap(), root, proofs }
}

impl Bench {
    /// A subscription and an offer that the relay has taken.
    fn new() -> Self {
        let registry = Registry::default();
        let (link, said) = mpsc::channel(CONTROL_QUEUE_MAX);
        registry.0.lock().link = Some(link);
        let (subscription, _) = registry.subscribe(options("a.**"));
        let (offer, ..) = registry.advertise(topic("a.add"), Advertise::default()).unwrap();
        let mut bench = Self { registry, said, subscription, offer };
        assert_eq!(bench.answered(None), ["subscribe 1", "advertise 2"]);
        bench
    }

    /// What the relay has been told, and that it has answered each request so.
    fn answered(&mut self, fault: Option<&Fault>) -> Vec<String> {
        let mut said = Vec::new();
        while let Ok(message) = self.said.try_recv() {
            let (id, text) = match message {
                Control::Subscribe(request) => {
                    assert!(!request.resumed || request.subscription == 1, "what came meanwhile is not asked for");
                    (request.id, format!("subscribe {}", request.subscription))
                }
                Control::Advertise(request) => (request.id, format!("advertise {}", request.offer)),
                Control::Unsubscribe(request) => (request.id, format!("unsubscribe {}", request.subscription)),
                Control::Withdraw(request) => (request.id, format!("withdraw {}", request.offer)),
                other => panic!("{other:?}"),
            };
            let done = match fault {
                None => Done::ok(id),
                Some(fault) => Done::failed(id, fault.clone()),
            };
            self.registry.done(done);
            said.push(text);
        }
        said
    }

    fn hold(&self, hold: Hold) {
        self.registry.hold(|_| hold, |_| hold);
    }

    fn out_of_force(&self) -> (usize, usize) {
        let OutOfForce { subscriptions, offers } = self.registry.out_of_force();
        (subscriptions, offers)
    }
}

/// Goal: what has lapsed is taken back from the relay, waits over a new link too, and is asked for under other numbers when
/// the right is there again.
#[test]
fn what_has_lapsed_comes_back() {
    let mut bench = Bench::new();
    bench.hold(Hold::Allowed);
    assert_eq!((bench.answered(None).len(), bench.out_of_force()), (0, (0, 0)));
    bench.hold(Hold::Lapsed);
    bench.hold(Hold::Lapsed);
    assert_eq!(bench.answered(None), ["unsubscribe 1", "withdraw 2"], "once");
    assert_eq!(bench.out_of_force(), (1, 1));
    bench.registry.ask_again();
    assert_eq!(bench.answered(None).len(), 0, "nobody may ask");
    bench.registry.link_down();
    let (link, said) = mpsc::channel(CONTROL_QUEUE_MAX);
    bench.said = said;
    let join = |id, proofs| Join {
        id,
        slot: REALM_SLOT,
        name: "io.example".parse().unwrap(),
        root: ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into(),
        proofs,
    };
    drop(bench.registry.link_up(link, Vec::new(), join));
    assert!(matches!(bench.said.try_recv(), Ok(Control::Join(_))));
    assert_eq!(bench.answered(None).len(), 0, "nor on a new link");
    bench.hold(Hold::Allowed);
    assert_eq!(bench.answered(None), ["subscribe 3", "advertise 4"]);
    assert_eq!(bench.out_of_force(), (0, 0));
    assert_eq!((bench.subscription.number(), bench.offer.number()), (3, 4));
    assert!(bench.registry.subscription(3).is_some() && bench.registry.offer(&topic("a.add")).is_some());
    bench.registry.unsubscribe(&bench.subscription);
    bench.registry.withdraw(&bench.offer);
    assert_eq!(bench.answered(None), ["unsubscribe 3", "withdraw 4"]);
}

/// Goal: what the relay ends, or refuses when it is asked again, stands: it is counted, and asked for now and then. What the relay
/// still says of an earlier number means nothing.
#[test]
fn what_the_relay_ends_is_asked_for_again() {
    let mut bench = Bench::new();
    let ended = |what| Ended { what, fault: Fault::Denied("/mesh/subscribe a.**".into()) };
    assert!(bench.registry.ended(&ended(EndedWhat::Subscription(1))));
    assert_eq!(bench.out_of_force(), (1, 0));
    bench.registry.ask_again();
    assert_eq!(bench.answered(Some(&Fault::Denied("still".into()))), ["subscribe 3"]);
    assert_eq!(bench.out_of_force(), (1, 0));
    bench.hold(Hold::Allowed);
    assert_eq!(bench.answered(None), ["subscribe 4"]);
    assert!(!bench.registry.ended(&ended(EndedWhat::Subscription(1))));
    assert!(bench.registry.ended(&ended(EndedWhat::Offer(2))));
    assert_eq!(bench.out_of_force(), (0, 1));
    bench.registry.ask_again();
    assert_eq!((bench.answered(None), bench.out_of_force()), (vec!["advertise 5".to_owned()], (0, 0)));
}

/// Goal: what is lost ends for good, in force or not, and its procedure can be offered anew.
#[test]
fn what_is_lost_ends() {
    for waits in [Hold::Allowed, Hold::Lapsed] {
        let mut bench = Bench::new();
        bench.hold(waits);
        bench.answered(None);
        bench.hold(Hold::Lost);
        assert_eq!(bench.answered(None), ["unsubscribe 1", "withdraw 2"]);
        assert_eq!(bench.out_of_force(), (0, 0));
        bench.hold(Hold::Allowed);
        assert_eq!(bench.answered(None).len(), 0);
        assert!(bench.registry.advertise(topic("a.add"), Advertise::default()).is_ok());
    }
}

/// Goal: a program that subscribes and takes back without waiting does not pile up messages for a relay that does not read;
/// the next link is told of what is still wanted, and of nothing else.
#[test]
fn a_relay_that_does_not_read_loses_the_link() {
    let registry = Registry::default();
    let (queue, mut queued) = mpsc::channel(CONTROL_QUEUE_MAX);
    drop(registry.link_up(queue, Vec::new(), join));
    let (kept, _first) = registry.subscribe(options("a.*"));
    for _ in 0..CONTROL_QUEUE_MAX {
        let (state, _) = registry.subscribe(options("a.*"));
        registry.unsubscribe(&state);
    }
    let mut waiting = 0;
    while queued.try_recv().is_ok() {
        waiting += 1;
    }
    assert_eq!(waiting, CONTROL_QUEUE_MAX);
    assert!(queued.is_closed(), "the writer is told to end");
    registry.link_down();
    let (queue, mut queued) = mpsc::channel(CONTROL_QUEUE_MAX);
    drop(registry.link_up(queue, Vec::new(), join));
    assert!(matches!(queued.try_recv(), Ok(Control::Join(_))));
    assert!(matches!(queued.try_recv(), Ok(Control::Subscribe(again)) if again.subscription == kept.number()));
    assert!(queued.try_recv().is_err());
}

/// Goal: what the relay ends after it has lapsed here is not asked for: the two found out at the same time.
#[test]
fn what_has_lapsed_is_not_asked_for_when_the_relay_ends_it_too() {
    let mut bench = Bench::new();
    bench.hold(Hold::Lapsed);
    bench.answered(None);
    for what in [EndedWhat::Subscription(1), EndedWhat::Offer(2)] {
        bench.registry.ended(&Ended { what, fault: Fault::Denied("it has expired".into()) });
    }
    bench.registry.ask_again();
    assert_eq!(bench.answered(None).len(), 0);
    bench.hold(Hold::Allowed);
    assert_eq!(bench.answered(None), ["subscribe 3", "advertise 4"]);
}

/// Goal: what comes into force again while there is no link is new to the next: what came meanwhile is not asked for.
#[test]
fn what_comes_back_without_a_link_is_new() {
    let mut bench = Bench::new();
    bench.hold(Hold::Lapsed);
    bench.answered(None);
    bench.registry.link_down();
    bench.hold(Hold::Allowed);
    bench.registry.ask_again();
    let (link, said) = mpsc::channel(CONTROL_QUEUE_MAX);
    bench.said = said;
    drop(bench.registry.link_up(link, Vec::new(), join));
    assert!(matches!(bench.said.try_recv(), Ok(Control::Join(_))));
    let Ok(Control::Subscribe(again)) = bench.said.try_recv() else { panic!("it is asked for") };
    assert!(!again.resumed);
}

/// Goal: what stands is bounded, so that a new link can be told of all of it.
#[test]
fn what_stands_is_bounded() {
    let registry = Registry::default();
    let states: Vec<_> = (0..ENTRIES_MAX)
        .map(|_| {
            registry.check_room().unwrap();
            registry.subscribe(options("a.*")).0
        })
        .collect();
    assert!(matches!(registry.check_room(), Err(Fault::QuotaExceeded(_))));
    let (queue, queued) = mpsc::channel(CONTROL_QUEUE_MAX);
    drop(registry.link_up(queue, Vec::new(), join));
    assert!(!queued.is_closed(), "all of it could be said");
    registry.unsubscribe(&states[0]);
    registry.check_room().unwrap();
}
