use macula_wire::Operation;

use super::*;

const NODE: &str = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";

/// A host that does what its follower says, with a clock of its own.
struct Host {
    follower: Follower,
    now: u64,
    /// What is on its disk.
    journal: Journal,
    told: Vec<Rollout>,
    /// Components that can be had.
    available: Vec<&'static str>,
    counts: Counts,
    runs: Option<Mcid>,
    prepared: Option<Held>,
    on_trial: bool,
    /// Nothing can be opened: there is no relay.
    is_away: bool,
    /// What has a share of the work.
    canary: Option<Mcid>,
    /// What became of the state, each time that a version was started.
    handed: Vec<Handover>,
    /// Versions that run lose their state when they are asked for it.
    loses_state: bool,
    /// Stops before the next action of this kind.
    stop_at: Option<fn(&Action) -> bool>,
    /// What stopped it.
    stopped: Option<Action>,
}

fn mcid(name: &str) -> Mcid {
    Mcid::of(name.as_bytes())
}

fn deployment(seq: u64, name: &str) -> Deployment {
    Deployment {
        slot: "io.example/app".parse().unwrap(),
        realm: "io.example".parse().unwrap(),
        seq,
        prev: None,
        held: Held { mcid: mcid(name), manifest: None },
        before: None,
        canary: None,
        drop_state: false,
    }
}

/// What a component of this name asks for: `ask-x` asks to publish `x`.
fn asks_of(mcid_: &Mcid) -> Asks {
    let known = ["ask-x", "ask-y"];
    let asked = known.iter().filter(|name| mcid(name) == *mcid_).map(|name| name[4..].parse().unwrap()).collect();
    Asks::new([(Operation::Publish, asked)])
}

impl Host {
    fn new(config: Config, journal: Journal) -> Self {
        let follower =
            Follower::new(0, "io.example/app".parse().unwrap(), NODE.parse().unwrap(), config, journal.clone());
        let mut host = Self {
            follower,
            now: 0,
            journal,
            told: Vec::new(),
            available: vec!["one", "two", "three", "bad-code", "bad-init", "ask-x", "ask-y"],
            counts: Counts::default(),
            runs: None,
            prepared: None,
            on_trial: false,
            is_away: false,
            canary: None,
            handed: Vec::new(),
            loses_state: false,
            stop_at: None,
            stopped: None,
        };
        host.run();
        host
    }

    fn local() -> Self {
        Self::new(Config { grants_what_is_asked: true, ..Config::default() }, Journal::default())
    }

    fn run(&mut self) {
        while let Some(action) = self.follower.poll_action() {
            if self.stop_at.is_some_and(|stops| stops(&action)) {
                self.stopped = Some(action);
                return;
            }
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Store(journal) => self.journal = journal,
            Action::Fetch { ticket, mcid: wanted } => {
                let found = self.available.iter().any(|name| mcid(name) == wanted);
                let outcome = if found { Ok(()) } else { Err(Failure::ForNow("nobody has it".into())) };
                self.follower.fetched(self.now, ticket, outcome);
            }
            Action::Prepare { ticket, held } => {
                let outcome = if held.mcid == mcid("bad-code") {
                    Err(Failure::ForGood("no component".into()))
                } else {
                    Ok(asks_of(&held.mcid))
                };
                self.prepared = Some(held);
                self.follower.prepared(self.now, ticket, outcome);
            }
            Action::Start { ticket, on_trial, state } => {
                let held = self.prepared.clone().expect("prepared before it is started");
                let outcome = self.start_of(&held, state);
                if outcome.is_ok() {
                    self.canary = None;
                    (self.runs, self.on_trial) = (Some(held.mcid), on_trial);
                }
                self.follower.started(self.now, ticket, self.counts, outcome);
            }
            Action::StartCanary { ticket, state, .. } => {
                let held = self.prepared.clone().expect("prepared before it is started");
                let outcome = self.start_of(&held, state);
                if outcome.is_ok() {
                    self.canary = Some(held.mcid);
                }
                self.follower.canary_started(self.now, ticket, self.counts, outcome);
            }
            Action::EndCanary => self.canary = None,
            Action::EndTrial => self.on_trial = false,
            Action::Tell(rollout) => self.told.push(*rollout),
        }
    }

    fn start_of(&mut self, held: &Held, state: Handover) -> Result<(), Failure> {
        let is_chosen = self.follower.journal().accepted.as_ref().is_some_and(|accepted| accepted.drop_state);
        assert!(state != Handover::Dropped || is_chosen, "a state is dropped that nobody gave up");
        self.handed.push(state);
        if self.runs.is_some() && self.loses_state && state == Handover::Required {
            Err(Failure::ForGood("the state is lost".into()))
        } else if held.mcid == mcid("bad-init") {
            Err(Failure::ForGood("init refused".into()))
        } else if self.is_away {
            Err(Failure::ForNow("no link".into()))
        } else {
            Ok(())
        }
    }

    fn deploy(&mut self, seq: u64, name: &str) -> Result<bool, Refused> {
        let taken = self.follower.record(self.now, &format!("{seq} {name}"), 1000, &deployment(seq, name));
        self.run();
        taken
    }

    fn pass_to(&mut self, now: u64) {
        self.now = now;
        self.follower.handle_timeout(now);
        self.run();
        self.follower.look(now, self.counts, None);
        self.run();
        self.follower.look_canary(now, Counts::default(), None);
        self.run();
    }

    fn deploy_canary(&mut self, seq: u64, name: &str) {
        let deployment = Deployment { canary: Some(10), ..deployment(seq, name) };
        self.follower.record(self.now, &format!("{seq} {name}"), 1000, &deployment).unwrap();
        self.run();
    }

    /// The same, without the state of what runs.
    fn deploy_without_state(&mut self, seq: u64, name: &str, canary: Option<u8>) {
        let deployment = Deployment { canary, drop_state: true, ..deployment(seq, name) };
        self.follower.record(self.now, &format!("{seq} {name}"), 1000, &deployment).unwrap();
        self.run();
    }

    fn state(&self) -> RolloutState {
        self.told.last().unwrap().state
    }

    fn runs(&self, name: &str) -> bool {
        self.runs == Some(mcid(name)) && self.told.last().unwrap().running == Some(mcid(name))
    }
}

#[test]
fn a_version_runs_and_the_next_one_after_its_trial() {
    let mut host = Host::local();
    assert_eq!(host.state(), RolloutState::Empty);
    assert_eq!(host.deploy(1, "one"), Ok(true));
    assert_eq!((host.state(), host.on_trial, host.runs("one")), (RolloutState::Running, false, true));
    assert_eq!(host.deploy(1, "one"), Ok(false), "the same again");
    host.deploy(2, "two").unwrap();
    assert_eq!((host.state(), host.on_trial, host.runs("two")), (RolloutState::OnTrial, true, true));
    assert_eq!(host.journal.running.as_ref().unwrap().seq, 1, "until it has stood the test");
    host.pass_to(9_999);
    assert_eq!(host.state(), RolloutState::OnTrial);
    host.pass_to(10_000);
    assert_eq!((host.state(), host.on_trial), (RolloutState::Running, false));
    assert_eq!(host.journal.running.as_ref().unwrap().seq, 2);
    let states: Vec<RolloutState> = host.told.iter().map(|rollout| rollout.state).collect();
    use RolloutState::{Empty, Fetching, OnTrial, Preparing, Running, Starting};
    let first = [Empty, Fetching, Preparing, Starting, Running];
    assert_eq!(states, [&first[..], &[Fetching, Preparing, Starting, OnTrial, Running]].concat());
}

#[test]
fn old_and_conflicting_records_change_nothing() {
    let mut host = Host::local();
    host.deploy(5, "one").unwrap();
    let before = host.journal.clone();
    assert_eq!(host.deploy(4, "two"), Err(Refused::Older { seq: 4, known: 5 }));
    assert_eq!(host.deploy(5, "two"), Err(Refused::Conflict(5)));
    let far = 5 + SEQ_AHEAD_MAX + 1;
    assert_eq!(host.deploy(far, "two"), Err(Refused::TooFar { seq: far, known: 5 }));
    assert_eq!((host.journal.clone(), host.runs("one")), (before, true));
    host.deploy(far - 1, "two").unwrap();
    assert!(host.runs("two"), "who was away for long");
}

#[test]
fn a_host_without_its_relay_tries_again_and_gives_nothing_up() {
    let mut host = Host::local();
    host.deploy(1, "one").unwrap();
    // Started again, while the relay is away.
    let journal = host.journal.clone();
    let config = Config { grants_what_is_asked: true, ..Config::default() };
    let mut host = Host { is_away: true, ..Host::new(config, Journal::default()) };
    host.follower = Follower::new(
        0,
        "io.example/app".parse().unwrap(),
        NODE.parse().unwrap(),
        host.follower.config.clone(),
        journal,
    );
    host.run();
    assert_eq!((host.state(), host.runs.clone()), (RolloutState::Fetching, None));
    assert_eq!(host.journal.accepted, None, "nothing was stored, so nothing has failed");
    host.is_away = false;
    host.pass_to(host.follower.poll_timeout());
    assert_eq!((host.state(), host.runs("one")), (RolloutState::Running, true));
}

#[test]
fn what_was_given_up_is_told_and_can_be_deployed_again() {
    let mut host = Host::local();
    host.deploy(1, "one").unwrap();
    host.follower.fell(5, "it crashed too often");
    host.run();
    let told = host.told.last().unwrap();
    assert_eq!((told.state, told.running.clone()), (RolloutState::Failed, None));
    assert_eq!(told.reason.as_deref(), Some("it crashed too often"));
    host.runs = None;
    host.deploy(2, "one").unwrap();
    assert_eq!((host.state(), host.runs("one")), (RolloutState::Running, true));
}

#[test]
fn what_fails_leaves_what_runs() {
    for bad in ["bad-code", "bad-init"] {
        let mut host = Host::local();
        host.deploy(1, "one").unwrap();
        host.deploy(2, bad).unwrap();
        assert_eq!((host.state(), host.runs("one")), (RolloutState::Failed, true), "{bad}");
        assert!(host.told.last().unwrap().reason.is_some());
        // After a restart it is not tried again.
        let mut host = Host::new(Config { grants_what_is_asked: true, ..Config::default() }, host.journal);
        assert_eq!((host.state(), host.runs("one")), (RolloutState::Failed, true), "{bad}");
        host.deploy(3, "two").unwrap();
        assert!(host.runs("two"));
    }
    let mut host = Host::local();
    host.deploy(1, "bad-init").unwrap();
    assert_eq!((host.state(), host.runs.clone()), (RolloutState::Failed, None));
}

#[test]
fn what_is_worse_on_trial_is_rolled_back() {
    let mut host = Host::local();
    host.deploy(1, "one").unwrap();
    host.counts = Counts { handled: 100, wrong: 0 };
    host.deploy(2, "two").unwrap();
    host.counts = Counts { handled: 130, wrong: 10 };
    host.pass_to(500);
    assert_eq!((host.state(), host.runs("one"), host.on_trial), (RolloutState::Failed, true, false));
    assert!(host.told.last().unwrap().reason.as_ref().unwrap().contains("10 of 30"));
    assert!(host.told.iter().any(|rollout| rollout.state == RolloutState::RollingBack));
    assert_eq!(host.journal.running.as_ref().unwrap().seq, 1);
    // Crashing too often ends a trial as well.
    host.deploy(3, "three").unwrap();
    host.follower.look(600, host.counts, Some("it fell"));
    host.run();
    assert!(host.runs("one"));
}

#[test]
fn content_that_nobody_has_is_looked_for_again_and_again() {
    let mut host = Host::local();
    host.available.clear();
    host.deploy(1, "one").unwrap();
    let mut tries = Vec::new();
    for _ in 0..9 {
        tries.push(host.follower.poll_timeout() - host.now);
        host.pass_to(host.follower.poll_timeout());
    }
    assert_eq!(tries[..8], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert_eq!(host.state(), RolloutState::Fetching);
    assert_eq!(host.told.last().unwrap().reason.as_deref(), Some("nobody has it"));
    host.available.push("two");
    host.deploy(2, "two").unwrap();
    assert!(host.runs("two"), "a newer record does not wait");
    assert_eq!(host.told.last().unwrap().reason, None);
}

#[test]
fn who_asks_for_more_waits_for_this_hosts_operator() {
    let mut host = Host::new(Config::default(), Journal::default());
    host.deploy(1, "ask-x").unwrap();
    assert_eq!(host.state(), RolloutState::WaitingForGrant);
    assert_eq!(host.told.last().unwrap().beyond.lines().collect::<Vec<_>>(), ["publish = [\"x\"]"]);
    assert_eq!(host.follower.grant(0, 2), Err(Refused::NotWaiting(2)));
    host.follower.grant(0, 1).unwrap();
    host.run();
    assert!(host.runs("ask-x"));
    host.deploy(2, "ask-y").unwrap();
    assert_eq!((host.state(), host.runs("ask-x")), (RolloutState::WaitingForGrant, true));
    // Over a restart it still waits, and what runs comes up without asking.
    let mut host = Host::new(Config::default(), host.journal);
    assert_eq!((host.state(), host.runs("ask-x")), (RolloutState::WaitingForGrant, true));
    host.deploy(3, "one").unwrap();
    assert!(host.runs("one"), "what asks for nothing more inherits");
    assert_eq!(host.follower.grant(0, 2), Err(Refused::NotWaiting(2)));
}

#[test]
fn past_its_end_a_record_is_stale_and_what_runs_goes_on() {
    let mut host = Host::local();
    host.deploy(1, "one").unwrap();
    while host.now < 1_000_999 {
        host.pass_to(host.follower.poll_timeout());
    }
    assert_eq!((host.told.last().unwrap().stale, host.now, host.runs("one")), (true, 1_001_000, true));
}

#[test]
fn a_newer_record_takes_over_at_every_step() {
    let steps: [fn(&Action) -> bool; 3] = [
        |action| matches!(action, Action::Fetch { .. }),
        |action| matches!(action, Action::Prepare { .. }),
        |action| matches!(action, Action::Start { .. }),
    ];
    for (index, stops) in steps.into_iter().enumerate() {
        let mut host = Host::local();
        host.deploy(1, "one").unwrap();
        host.stop_at = Some(stops);
        host.deploy(2, "two").unwrap();
        host.stop_at = None;
        let late = host.stopped.take().unwrap();
        host.deploy(3, "three").unwrap();
        // What had begun comes to its end late.
        host.carry_out(late);
        host.run();
        host.pass_to(10_000);
        host.pass_to(20_000);
        assert!(host.runs("three"), "step {index}");
        assert_eq!(host.journal.running.as_ref().unwrap().seq, 3, "step {index}");
    }
}

#[test]
fn the_same_component_under_a_new_number_is_not_started_again() {
    let mut host = Host::local();
    host.deploy(1, "one").unwrap();
    host.runs = None;
    host.deploy(2, "one").unwrap();
    assert_eq!((host.state(), host.runs.clone()), (RolloutState::Running, None));
    assert_eq!(host.told.last().unwrap().running_seq, 2);
    // Unless it is to begin without its state.
    host.deploy_without_state(3, "one", None);
    assert_eq!((host.state(), host.runs("one")), (RolloutState::OnTrial, true));
    host.pass_to(10_000);
    assert_eq!((host.state(), host.told.last().unwrap().running_seq), (RolloutState::Running, 3));
    assert_eq!(host.handed.len(), 2, "once");
}

#[test]
fn a_canary_comes_first_and_takes_over_or_goes() {
    let mut host = Host::local();
    host.deploy_canary(1, "one");
    assert!(host.runs("one") && host.canary.is_none(), "there is nothing to share with");
    host.deploy_canary(2, "two");
    assert_eq!((host.state(), host.runs("one"), host.canary.clone()), (RolloutState::Canary, true, Some(mcid("two"))));
    host.pass_to(30_000);
    assert_eq!((host.state(), host.runs("two"), host.canary.clone()), (RolloutState::OnTrial, true, None));
    host.pass_to(40_000);
    assert_eq!(host.state(), RolloutState::Running);

    host.deploy_canary(3, "three");
    host.follower.look_canary(40_100, Counts { handled: 30, wrong: 20 }, None);
    host.run();
    assert_eq!((host.state(), host.runs("two"), host.canary.clone()), (RolloutState::Failed, true, None));
    host.deploy_canary(4, "three");
    host.follower.look_canary(40_200, Counts::default(), Some("it fell"));
    host.run();
    assert_eq!((host.state(), host.canary.clone()), (RolloutState::Failed, None));
    host.deploy_canary(5, "bad-init");
    assert_eq!((host.state(), host.canary.clone()), (RolloutState::Failed, None));
    // A newer record does not wait for a canary.
    host.deploy_canary(6, "one");
    host.deploy(7, "three").unwrap();
    assert!(host.runs("three") && host.canary.is_none());
}

/// Goal: a version that loses its state when it is asked for it goes on, and the deployment has failed; nobody goes on without a
/// state but by the record's word.
#[test]
fn a_state_that_is_lost_fails_the_deployment() {
    let mut host = Host { loses_state: true, ..Host::local() };
    host.deploy(1, "one").unwrap();
    host.deploy(2, "two").unwrap();
    let told = host.told.last().unwrap();
    assert_eq!((told.state, told.reason.as_deref()), (RolloutState::Failed, Some("the state is lost")));
    assert!(host.runs("one"));
    host.pass_to(600_000);
    assert_eq!(host.handed, [Handover::Required; 2], "it is not tried again by itself");
    host.deploy_without_state(3, "two", None);
    assert_eq!((host.state(), host.runs("two")), (RolloutState::OnTrial, true));
    assert_eq!(host.handed[2..], [Handover::Dropped]);
    // One who is not right is asked for its state, and gone back from without.
    host.follower.look(host.now, host.counts, Some("it fell"));
    host.run();
    assert!(host.runs("one"));
    assert_eq!(host.handed[3..], [Handover::IfPossible]);
}

/// Goal: the choice holds for the canary and for what takes over after it, over a restart, and not for the record after it.
#[test]
fn a_state_is_dropped_for_one_record() {
    let mut host = Host::local();
    host.deploy(1, "one").unwrap();
    host.deploy_without_state(2, "two", Some(10));
    host.pass_to(30_000);
    assert_eq!(host.handed[1..], [Handover::Dropped; 2]);
    let mut host = Host::new(host.follower.config, host.journal);
    // What ran is brought up again, and then it has its share again.
    assert_eq!(host.handed, [Handover::Required, Handover::Dropped]);
    host.deploy(3, "three").unwrap();
    assert_eq!(host.handed[2..], [Handover::Required]);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Event {
        Deploy(usize),
        Canary(usize),
        WithoutState(usize),
        Replay(u64),
        Crash,
        Pass(u64),
        Wrong(u64),
        Restart,
        /// The plug is pulled before the n-th action from now.
        PullThePlug(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..5_usize).prop_map(Event::Deploy),
            2 => (0..5_usize).prop_map(Event::Canary),
            1 => (0..5_usize).prop_map(Event::WithoutState),
            1 => (1..5_u64).prop_map(Event::Replay),
            1 => Just(Event::Crash),
            4 => (0..15_000_u64).prop_map(Event::Pass),
            1 => (0..40_u64).prop_map(Event::Wrong),
            1 => Just(Event::Restart),
            2 => (0..8_usize).prop_map(Event::PullThePlug),
        ]
    }

    proptest! {
        /// Whatever happens, and wherever the plug is pulled: numbers never go back, what runs after a restart has stood the
        /// test, and when everything is quiet the newest record that works is what runs.
        #[test]
        fn the_right_version_runs(events in prop::collection::vec(event(), 1..40)) {
            let config = Config { grants_what_is_asked: true, ..Config::default() };
            let mut host = Host::new(config.clone(), Journal::default());
            let names = ["one", "two", "three", "bad-code", "bad-init"];
            let (mut seq, mut highest) = (0, 0);
            for event in events {
                match event {
                    Event::Deploy(index) => {
                        seq += 1;
                        host.deploy(seq, names[index]).unwrap();
                    }
                    Event::Canary(index) => {
                        seq += 1;
                        host.deploy_canary(seq, names[index]);
                    }
                    Event::WithoutState(index) => {
                        seq += 1;
                        host.deploy_without_state(seq, names[index], (seq % 2 == 0).then_some(10));
                    }
                    Event::Replay(back) => {
                        if let Some(old) = seq.checked_sub(back).filter(|old| *old > 0) {
                            prop_assert!(host.deploy(old, "replayed").is_err());
                        }
                    }
                    Event::Crash => {
                        let (now, counts) = (host.now, host.counts);
                        host.follower.look(now, counts, Some("it fell"));
                        host.run();
                    }
                    Event::Pass(time) => host.pass_to(host.now + time),
                    Event::Wrong(count) => {
                        host.counts.handled += count;
                        host.counts.wrong += count;
                    }
                    Event::Restart => {
                        let (available, now) = (host.available.clone(), host.now);
                        host = Host::new(config.clone(), host.journal);
                        (host.available, host.now) = (available, now);
                    }
                    Event::PullThePlug(actions) => {
                        seq += 1;
                        let _ = host.follower.record(host.now, &format!("{seq} two"), 1000, &deployment(seq, "two"));
                        for _ in 0..actions {
                            match host.follower.poll_action() {
                                Some(action) => host.carry_out(action),
                                None => break,
                            }
                        }
                        let now = host.now;
                        host = Host::new(config.clone(), host.journal);
                        host.now = now;
                        // The record is the topic's retained value: it comes again.
                        let _ = host.deploy(seq, "two");
                    }
                }
                let known = host.journal.accepted.as_ref().map_or(0, |accepted| accepted.version.seq);
                prop_assert!(known >= highest);
                highest = known;
                let running = host.journal.running.as_ref().map(|version| &version.held.mcid);
                prop_assert!(running.is_none_or(|running| *running != mcid("bad-code") && *running != mcid("bad-init")));
            }
            for _ in 0..4 {
                host.pass_to(host.now + 60_000);
            }
            if let Some(accepted) = &host.journal.accepted {
                let right = match &accepted.failed {
                    None => Some(&accepted.version),
                    Some(_) => host.journal.running.as_ref(),
                };
                prop_assert_eq!(host.runs.as_ref(), right.map(|version| &version.held.mcid));
                prop_assert!(host.state().is_final());
                prop_assert_eq!(host.canary.as_ref(), None);
            }
        }
    }
}
