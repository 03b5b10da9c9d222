//! Fetches from simulated providers, in simulated time.
//!
//! Each provider has a rate, a latency each way, and perhaps a fault. It serves its requests one after the other, a group at a
//! time, and a group is a number: what bytes are right is the decoder's matter. A loop jumps from event to event. All is
//! determined by the setting, so a failure comes again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
};

use proptest::prelude::*;

use super::*;

const MB: f64 = 1e6;
const SIZE: u64 = 64 << 20;
const LATENCY: Duration = Duration::from_millis(20);

/// What is wrong with a provider.
#[derive(Debug, Clone, PartialEq)]
enum Trouble {
    None,
    /// Sends this many groups, and then a wrong one.
    Corrupt(u64),
    /// Ends a request after this many groups in all.
    Short(u64),
    /// Sends nothing more after this many groups.
    Stalls(u64),
    /// Breaks off after this many groups, and is not there again.
    Dies(u64),
    /// Claims another size.
    Lies(u64),
    /// Is busy until then.
    Busy(Duration),
    /// Has only these at first, and more of them later.
    Partial(GroupSet, Duration, GroupSet),
    Denies,
    /// Loses its link after every so many groups.
    Breaks(u64),
    /// Says that it has all, and sends none but the last.
    Stingy,
    /// Is said to have it, and does not.
    Lacks,
}

#[derive(Debug, Clone)]
struct Sim {
    rate: f64,
    latency: Duration,
    trouble: Trouble,
}

impl Sim {
    fn new(rate: f64, trouble: Trouble) -> Self {
        Self { rate, latency: LATENCY, trouble }
    }
}

/// What reaches whom.
#[derive(Debug, Clone, PartialEq)]
enum Arrival {
    /// At a provider.
    Asked(usize, Request),
    Cancelled(usize, RequestId),
    /// A provider has sent a group and turns to the next.
    Turn(usize),
    /// Here.
    Answered(RequestId, Answer),
    Group(RequestId, u64),
    Ended(RequestId, Result<(), Failure>),
}

/// A provider at work.
struct Serving {
    sim: Sim,
    queue: VecDeque<(RequestId, VecDeque<u64>)>,
    is_busy: bool,
    sent: u64,
}

struct World {
    begin: Instant,
    now: Instant,
    size: u64,
    fetch: Fetch,
    providers: Vec<Serving>,
    arrivals: BinaryHeap<Reverse<(Instant, u64)>>,
    by_number: HashMap<u64, Arrival>,
    number: u64,
    /// Requests that the driver has open, and who has them.
    open: BTreeMap<RequestId, usize>,
    written: GroupSet,
    events: Vec<FetchEvent>,
    /// Groups that came for requests that were cancelled on the way.
    late: u64,
    asked: u64,
}

fn id(index: usize) -> NodeId {
    ed25519_dalek::SigningKey::from_bytes(&[index as u8 + 1; 32]).verifying_key().into()
}

impl World {
    fn new(size: u64, sims: &[Sim]) -> Self {
        Self::resumed(size, sims, GroupSet::new(), None)
    }

    fn resumed(size: u64, sims: &[Sim], already: GroupSet, proved: Option<u64>) -> Self {
        let begin = Instant::now();
        let content = Mcid::of(b"whatever");
        let mut world = Self {
            begin,
            now: begin,
            size,
            fetch: Fetch::new(FetchConfig::default(), &content, already.clone(), proved),
            providers: sims
                .iter()
                .map(|sim| Serving { sim: sim.clone(), queue: VecDeque::new(), is_busy: false, sent: 0 })
                .collect(),
            arrivals: BinaryHeap::new(),
            by_number: HashMap::new(),
            number: 0,
            open: BTreeMap::new(),
            written: already,
            events: Vec::new(),
            late: 0,
            asked: 0,
        };
        let ids: Vec<_> = (0..sims.len()).map(id).collect();
        world.fetch.handle_providers(begin, &ids);
        world
    }

    /// Runs until it is done, nobody is left, or `limit` has passed; how long it took.
    fn run(&mut self, limit: Duration) -> Duration {
        let mut same = 0;
        loop {
            self.drain();
            if self.events.contains(&FetchEvent::Done) || self.events.last() == Some(&FetchEvent::NoProvider) {
                return self.now - self.begin;
            }
            let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
            let timeout = self.fetch.poll_timeout();
            let next = [arrival, timeout].into_iter().flatten().min().expect("a fetch never waits for nothing");
            if next > self.begin + limit {
                return limit;
            }
            same = if next > self.now { 0 } else { same + 1 };
            assert!(same < 10_000, "it does not go on");
            self.now = next.max(self.now);
            if timeout.is_some_and(|at| at <= self.now) {
                self.fetch.handle_timeout(self.now);
            }
            if arrival.is_some_and(|at| at <= self.now) {
                let Reverse((_, number)) = self.arrivals.pop().unwrap();
                let arrival = self.by_number.remove(&number).unwrap();
                self.arrive(arrival);
            }
        }
    }

    /// What a driver does after each input.
    fn drain(&mut self) {
        while let Some(request) = self.fetch.poll_cancel() {
            if let Some(provider) = self.open.remove(&request) {
                self.send(self.providers[provider].sim.latency, Arrival::Cancelled(provider, request));
            }
        }
        while let Some(request) = self.fetch.poll_request(self.now) {
            assert!(request.groups.pairs().len() <= 512);
            let provider = (0..self.providers.len()).find(|index| id(*index) == request.provider).unwrap();
            self.open.insert(request.id, provider);
            assert!(self.fetch.open_of(&request.provider).count() <= REQUESTS_EACH);
            self.send(self.providers[provider].sim.latency, Arrival::Asked(provider, request));
            // Stealing cancels.
            while let Some(request) = self.fetch.poll_cancel() {
                if let Some(provider) = self.open.remove(&request) {
                    self.send(self.providers[provider].sim.latency, Arrival::Cancelled(provider, request));
                }
            }
        }
        while let Some(event) = self.fetch.poll_event() {
            self.events.push(event);
        }
        self.assert_consistent();
    }

    /// Each group is here, missing, or expected of one or two.
    #[track_caller]
    fn assert_consistent(&self) {
        let fetch = &self.fetch;
        let Some(geometry) = fetch.geometry else { return };
        let (mut once, mut twice) = (GroupSet::new(), GroupSet::new());
        for open in &fetch.open {
            assert!(open.left.intersection(&twice).is_empty(), "expected of three");
            twice.insert(&open.left.intersection(&once));
            once.insert(&open.left);
        }
        assert!(once.intersection(&fetch.missing).is_empty() && once.intersection(&fetch.have).is_empty());
        assert!(fetch.missing.intersection(&fetch.have).is_empty());
        assert_eq!(once.union(&fetch.missing).union(&fetch.have), (0..geometry.groups()).into());
    }

    fn send(&mut self, after: Duration, arrival: Arrival) {
        self.number += 1;
        self.arrivals.push(Reverse((self.now + after, self.number)));
        self.by_number.insert(self.number, arrival);
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Asked(provider, request) => self.asked(provider, &request),
            Arrival::Cancelled(provider, request) => {
                self.providers[provider].queue.retain(|(queued, _)| *queued != request);
            }
            Arrival::Turn(provider) => {
                self.providers[provider].is_busy = false;
                self.turn(provider);
            }
            Arrival::Answered(request, answer) if self.open.contains_key(&request) => {
                self.fetch.handle_answer(self.now, request, &answer);
                if answer.outcome.is_err() {
                    self.open.remove(&request);
                }
            }
            Arrival::Group(request, group) if self.open.contains_key(&request) => {
                self.fetch.handle_bytes(self.now, request, GROUP_BYTES as usize);
                if self.fetch.handle_group(self.now, request, group) == Verdict::Write {
                    assert!(!self.written.contains(group), "written twice");
                    assert!(self.fetch.size().is_some(), "written before the size is known");
                    self.written.insert(&(group..group + 1).into());
                }
            }
            Arrival::Group(..) => self.late += 1,
            Arrival::Ended(request, how) => {
                if self.open.remove(&request).is_some() {
                    match how {
                        Ok(()) => self.fetch.handle_done(self.now, request),
                        Err(failure) => self.fetch.handle_failed(self.now, request, failure),
                    }
                }
            }
            Arrival::Answered(..) => {}
        }
    }

    /// A request has reached a provider, which answers at once.
    fn asked(&mut self, provider: usize, request: &Request) {
        let (sim, sent) = (self.providers[provider].sim.clone(), self.providers[provider].sent);
        let elapsed = self.now - self.begin;
        self.asked += 1;
        let refuse = |fault| Answer::refused(fault);
        let mut size = self.size;
        let mut has = None;
        let refusal = match sim.trouble {
            Trouble::Busy(until) if elapsed < until => Some(refuse(Fault::Unavailable("busy".into()))),
            Trouble::Denies => Some(refuse(Fault::Denied("no".into()))),
            Trouble::Lacks => Some(refuse(Fault::NotFound("it is not here".into()))),
            Trouble::Dies(after) if sent >= after => {
                return self.send(sim.latency, Arrival::Ended(request.id, Err(Failure::Lost)));
            }
            Trouble::Stalls(after) if sent >= after => return,
            Trouble::Lies(other) => {
                size = other;
                None
            }
            Trouble::Partial(ref first, until, ref later) => {
                has = Some(if elapsed < until { first.clone() } else { first.union(later) });
                None
            }
            _ => None,
        };
        if let Some(answer) = refusal {
            return self.send(sim.latency, Arrival::Answered(request.id, answer));
        }
        let geometry = Geometry::of(size);
        let mut groups = request.groups.intersection(&(0..geometry.groups()).into());
        if request.prove_size {
            groups.insert(&(geometry.last_group()..geometry.groups()).into());
        }
        if let Some(has) = &has {
            groups = groups.intersection(has);
        }
        if sim.trouble == Trouble::Stingy && !request.prove_size {
            groups = GroupSet::new();
        }
        let order = groups.iter().collect();
        self.send(sim.latency, Arrival::Answered(request.id, Sending { size, groups, has }.into()));
        self.providers[provider].queue.push_back((request.id, order));
        self.turn(provider);
    }

    /// A provider that is not busy sends its next group.
    fn turn(&mut self, provider: usize) {
        if self.providers[provider].is_busy {
            return;
        }
        let serving = &mut self.providers[provider];
        let latency = serving.sim.latency;
        let Some((request, groups)) = serving.queue.front_mut() else { return };
        let request = *request;
        let Some(group) = groups.pop_front() else {
            serving.queue.pop_front();
            self.send(latency, Arrival::Ended(request, Ok(())));
            return self.turn(provider);
        };
        let needs = Duration::from_secs_f64(GROUP_BYTES as f64 / serving.sim.rate);
        let failure = match serving.sim.trouble {
            Trouble::Stalls(after) if serving.sent >= after => return,
            Trouble::Dies(after) if serving.sent >= after => Some(Failure::Lost),
            Trouble::Breaks(every) if serving.sent % every == every - 1 => Some(Failure::Lost),
            Trouble::Corrupt(after) if serving.sent >= after => Some(Failure::Corrupt),
            Trouble::Short(after) if serving.sent >= after => Some(Failure::Short),
            // It can only send what does not verify.
            Trouble::Lies(_) => Some(Failure::Corrupt),
            _ => None,
        };
        serving.sent += 1;
        serving.is_busy = true;
        if let Some(failure) = failure {
            serving.queue.pop_front();
            self.send(needs + latency, Arrival::Ended(request, Err(failure)));
        } else {
            self.send(needs + latency, Arrival::Group(request, group));
        }
        self.send(needs, Arrival::Turn(provider));
    }

    #[track_caller]
    fn assert_complete(&self) {
        let groups = Geometry::of(self.size).groups();
        assert!(self.events.contains(&FetchEvent::Done), "{:?}", self.events);
        assert_eq!(self.written, (0..groups).into());
        let progress = self.fetch.progress(self.now);
        assert_eq!((progress.bytes_done, progress.bytes_total), (self.size, Some(self.size)));
        assert!(self.fetch.poll_timeout().is_none());
        assert!(self.waste() < 0.02, "{} of the bytes came in vain", self.waste());
    }

    /// What came twice, or after it was cancelled, as a part of all.
    fn waste(&self) -> f64 {
        let in_vain = self.fetch.progress(self.now).bytes_duplicate + self.late * GROUP_BYTES;
        in_vain as f64 / self.size.max(1) as f64
    }

    fn banned(&self) -> Vec<(NodeId, Failure)> {
        let banned = self.events.iter().filter_map(|event| match event {
            FetchEvent::ProviderBanned { provider, why } => Some((*provider, why.clone())),
            _ => None,
        });
        banned.collect()
    }
}

fn time_of(size: u64, sims: &[Sim]) -> Duration {
    let mut world = World::new(size, sims);
    let time = world.run(Duration::from_secs(3600));
    world.assert_complete();
    time
}

fn honest(count: usize) -> Vec<Sim> {
    vec![Sim::new(12.5 * MB, Trouble::None); count]
}

fn with(count: usize, trouble: Trouble) -> Vec<Sim> {
    let mut sims = honest(count);
    sims.push(Sim::new(12.5 * MB, trouble));
    sims
}

#[test]
fn one_provider_is_used_to_its_full() {
    let ideal = SIZE as f64 / (12.5 * MB);
    let time = time_of(SIZE, &honest(1)).as_secs_f64();
    assert!(time < ideal * 1.03, "{time} s, {ideal} s ideally");
}

#[test]
fn four_are_nearly_four_times_as_fast() {
    let (one, four) = (time_of(SIZE, &honest(1)), time_of(SIZE, &honest(4)));
    let speedup = one.as_secs_f64() / four.as_secs_f64();
    assert!(speedup >= 3.5, "{speedup}: {one:?}, {four:?}");
}

#[test]
fn small_content() {
    for size in [0, 1, GROUP_BYTES, GROUP_BYTES + 1, 3 * GROUP_BYTES] {
        let time = time_of(size, &honest(4));
        assert!(time < 5 * LATENCY, "{size}: {time:?}");
    }
}

/// One bad provider among four costs little more than if it were not there, however it is bad.
#[test]
fn a_bad_provider_costs_little() {
    let three = time_of(SIZE, &honest(3));
    let troubles = [
        Trouble::Corrupt(0),
        Trouble::Corrupt(5),
        Trouble::Corrupt(300),
        Trouble::Short(100),
        Trouble::Dies(512),
        Trouble::Dies(0),
        Trouble::Stalls(1),
        Trouble::Stalls(200),
        Trouble::Lies(SIZE / 2),
        Trouble::Lies(SIZE + 1),
        Trouble::Denies,
    ];
    for trouble in troubles {
        let is_banned = !matches!(trouble, Trouble::Dies(_) | Trouble::Stalls(_));
        let mut world = World::new(SIZE, &with(3, trouble.clone()));
        let time = world.run(Duration::from_secs(3600));
        world.assert_complete();
        assert!(time.as_secs_f64() < three.as_secs_f64() * 1.05, "{trouble:?}: {time:?}, three alone {three:?}");
        if is_banned {
            assert_eq!(world.banned().len(), 1, "{trouble:?}");
            assert_eq!(world.banned()[0].0, id(3));
        } else {
            assert_eq!(world.banned(), [], "not yet");
        }
    }
}

/// The first that is asked for the size is the bad one.
#[test]
fn the_size_is_proved_by_whoever_can() {
    let three = time_of(SIZE, &honest(3));
    for trouble in [Trouble::Lies(1 << 40), Trouble::Lies(0), Trouble::Corrupt(0), Trouble::Stalls(0), Trouble::Denies]
    {
        let mut sims = with(3, trouble.clone());
        sims.rotate_right(1);
        let mut world = World::new(SIZE, &sims);
        let time = world.run(Duration::from_secs(3600));
        world.assert_complete();
        assert!(time < three + Duration::from_millis(650), "{trouble:?}: {time:?}, three alone {three:?}");
    }
}

#[test]
fn a_slow_provider_does_not_hold_up_the_end() {
    let three = time_of(SIZE, &honest(3));
    let mut sims = honest(3);
    sims.push(Sim::new(1.25 * MB, Trouble::None));
    let time = time_of(SIZE, &sims);
    assert!(time.as_secs_f64() < three.as_secs_f64() * 1.03, "{time:?}, three alone {three:?}");
    // And it helps, if there is time for it.
    let (two, both) = (time_of(8 * SIZE, &honest(2)), time_of(8 * SIZE, &[&honest(2)[..], &sims[3..]].concat()));
    assert!(both < two, "{both:?}, two alone {two:?}");
}

#[test]
fn providers_of_all_kinds_share_the_work() {
    let rates = [1.0, 3.0, 10.0, 30.0, 100.0];
    let sims: Vec<_> = rates
        .iter()
        .zip([5, 300, 40, 10, 80])
        .map(|(rate, latency)| Sim { rate: rate * MB, latency: Duration::from_millis(latency), trouble: Trouble::None })
        .collect();
    let size = 1 << 30;
    let ideal = size as f64 / (rates.iter().sum::<f64>() * MB);
    let time = time_of(size, &sims).as_secs_f64();
    assert!(time < ideal * 1.15, "{time} s, {ideal} s ideally");
}

#[test]
fn those_who_are_busy_are_asked_again() {
    let busy = Trouble::Busy(Duration::from_millis(2500));
    let time = time_of(SIZE, &[Sim::new(50.0 * MB, busy)]);
    assert!((3.0..5.0).contains(&time.as_secs_f64()), "{time:?}");
}

#[test]
fn parts_are_fetched_from_those_who_have_them() {
    let half = SIZE / GROUP_BYTES / 2;
    let never = Duration::MAX;
    let lower = Trouble::Partial((0..half).into(), never, GroupSet::new());
    let upper = Trouble::Partial((half..2 * half).into(), never, GroupSet::new());
    let rate = 12.5 * MB;
    let time = time_of(SIZE, &[Sim::new(rate, lower.clone()), Sim::new(rate, upper)]);
    let two = time_of(SIZE, &honest(2));
    assert!(time.as_secs_f64() < two.as_secs_f64() * 1.1, "{time:?}, {two:?} if both had all");

    // A part that nobody has is waited for.
    let grows = Trouble::Partial((half..half + 9).into(), Duration::from_secs(30), (half..2 * half).into());
    let time = time_of(SIZE, &[Sim::new(rate, lower), Sim::new(rate, grows)]);
    assert!((30.0..36.0).contains(&time.as_secs_f64()), "{time:?}");
}

#[test]
fn goes_on_where_it_was() {
    let groups = SIZE / GROUP_BYTES;
    let already: GroupSet = (0..groups / 10).map(|index| 10 * index..10 * index + 9).collect();
    let mut world = World::resumed(SIZE, &honest(2), already, Some(SIZE));
    let time = world.run(Duration::from_secs(60));
    world.assert_complete();
    assert!(time < Duration::from_millis(700), "{time:?}");
    let mut done = World::resumed(SIZE, &[], (0..groups).into(), Some(SIZE));
    done.run(Duration::from_secs(1));
    done.assert_complete();
}

#[test]
fn only_bad_providers_never_make_it() {
    let rate = 12.5 * MB;
    let sims = [
        Trouble::Corrupt(200),
        Trouble::Short(100),
        Trouble::Lies(5),
        Trouble::Denies,
        Trouble::Stalls(60),
        Trouble::Dies(70),
    ]
    .map(|trouble| Sim::new(rate, trouble));
    let mut world = World::new(SIZE, &sims);
    world.run(Duration::from_secs(3600));
    assert_eq!(world.events.last(), Some(&FetchEvent::NoProvider));
    assert_eq!(world.banned().len(), sims.len());
    assert!(world.open.is_empty(), "all are closed");
    assert!(!world.fetch.is_done() && !world.events.contains(&FetchEvent::Done));
    // What they sent before is kept, and somebody who comes later brings the rest.
    assert_eq!(world.written, *world.fetch.have());
    assert!(world.written.count() > 100);
    world.providers.push(Serving {
        sim: Sim::new(rate, Trouble::None),
        queue: VecDeque::new(),
        is_busy: false,
        sent: 0,
    });
    world.fetch.handle_providers(world.now, &[id(0), id(sims.len())]);
    world.events.clear();
    world.run(Duration::from_secs(7200));
    world.assert_complete();
}

/// Those who turn out to have nothing are given up in the end, so that others can be looked for.
#[test]
fn those_who_have_nothing_are_given_up() {
    let nothing = Sim::new(MB, Trouble::Lacks);
    let mut world = World::new(SIZE, &[nothing.clone(), nothing]);
    let time = world.run(Duration::from_secs(3600));
    assert_eq!(world.events.last(), Some(&FetchEvent::NoProvider));
    assert!((30..40).contains(&time.as_secs()), "{time:?}");
}

/// What is lost again and again, and gets on between, is put up with.
#[test]
fn a_bad_link_gets_there() {
    let time = time_of(SIZE / 4, &[Sim::new(12.5 * MB, Trouble::Breaks(60))]);
    assert!((8..30).contains(&time.as_secs()), "{time:?}");
}

#[test]
fn who_sends_nothing_is_not_asked_in_a_loop() {
    let mut world = World::new(SIZE, &[Sim::new(12.5 * MB, Trouble::Stingy)]);
    assert_eq!(world.run(Duration::from_secs(60)), Duration::from_secs(60));
    assert!(world.asked < 70, "{}", world.asked);
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let now = Instant::now();
    let (size, last) = (5 * GROUP_BYTES, GroupSet::from(4..5));
    let answer = |size, groups: &GroupSet| Answer::from(Sending { size, groups: groups.clone(), has: None });
    let start = |proved| {
        let mut fetch = Fetch::new(FetchConfig::default(), &Mcid::of(b""), GroupSet::new(), proved);
        fetch.handle_providers(now, &[id(0)]);
        let request = fetch.poll_request(now).unwrap();
        (fetch, request)
    };
    for (proved, claimed, sent, why) in [
        (None, size, GroupSet::from(3..5), Failure::Unasked),
        (Some(size), size, GroupSet::from(0..6), Failure::Unasked),
        (Some(size), size + 1, last.clone(), Failure::OtherSize { claimed: size + 1, proved: size }),
    ] {
        let (mut fetch, request) = start(proved);
        fetch.handle_answer(now, request.id, &answer(claimed, &sent));
        assert_eq!(fetch.poll_cancel(), Some(request.id));
        let events: Vec<_> = std::iter::from_fn(|| fetch.poll_event()).collect();
        assert_eq!(events, [FetchEvent::ProviderBanned { provider: id(0), why }, FetchEvent::NoProvider]);
    }
    // The last group, and only it, proves the size.
    let (mut fetch, request) = start(None);
    assert!(request.prove_size && request.groups.is_empty());
    fetch.handle_answer(now, request.id, &answer(size, &last));
    assert_eq!(fetch.handle_group(now, request.id, 3), Verdict::Drop);
    assert_eq!((fetch.size(), fetch.handle_group(now, request.id, 4)), (None, Verdict::Write));
    assert_eq!(fetch.poll_event(), Some(FetchEvent::SizeProved { size }));
    fetch.handle_done(now, request.id);
    assert_eq!(fetch.poll_request(now).unwrap().groups, (0..4).into());
}

/// A request of which the end was taken over is cancelled when the rest is here.
#[test]
fn what_was_taken_over_is_not_sent_on() {
    let begin = Instant::now();
    let size = 128 * GROUP_BYTES;
    let mut fetch = Fetch::new(FetchConfig::default(), &Mcid::of(b""), GroupSet::new(), Some(size));
    fetch.handle_providers(begin, &[id(0)]);
    let asked = [fetch.poll_request(begin).unwrap(), fetch.poll_request(begin).unwrap()];
    assert_eq!(asked.clone().map(|request| request.groups), [(0..64).into(), (64..128).into()]);
    assert_eq!(fetch.poll_request(begin), None);
    fetch.handle_providers(begin, &[id(1)]);
    let stolen = fetch.poll_request(begin).unwrap();
    assert_eq!((stolen.provider, stolen.groups.pairs()[1]), (id(1), 128), "the end of it");
    assert!(stolen.groups.pairs()[0] > 64);
    for request in asked {
        fetch.handle_answer(begin, request.id, &Sending { size, groups: request.groups.clone(), has: None }.into());
        for group in request.groups.iter() {
            assert_eq!(fetch.poll_cancel(), (group == stolen.groups.pairs()[0]).then_some(request.id));
            let verdict = fetch.handle_group(begin, request.id, group);
            assert_eq!(verdict, Verdict::Write, "what still comes is as good");
        }
    }
    assert!(fetch.is_done());
    assert_eq!(fetch.poll_cancel(), Some(stolen.id));
}

#[test]
fn bounded_in_providers() {
    let mut fetch = Fetch::new(FetchConfig::default(), &Mcid::of(b""), GroupSet::new(), None);
    let now = Instant::now();
    fetch.handle_providers(now, &[]);
    assert_eq!(fetch.poll_event(), Some(FetchEvent::NoProvider));
    fetch.handle_providers(now, &(0..100).map(id).collect::<Vec<_>>());
    assert_eq!((fetch.providers.len(), fetch.poll_event()), (32, None));
}

/// SHA-256: one provider at a time, from the beginning each time, and what is too large is refused.
#[test]
fn whole_content_is_fetched_from_one_at_a_time() {
    let now = Instant::now();
    let mut fetch = Fetch::new(FetchConfig::default(), &Digest::Sha256([1; 32]).into(), GroupSet::new(), None);
    fetch.handle_providers(now, &[id(0), id(1), id(2)]);
    let answer = |size| Answer::from(Sending { size, groups: (0..u64::MAX).into(), has: None });
    let first = fetch.poll_request(now).unwrap();
    assert_eq!((first.provider, first.groups, first.prove_size), (id(0), (0..u64::MAX).into(), false));
    assert_eq!(fetch.poll_request(now), None);
    fetch.handle_answer(now, first.id, &answer(WHOLE_BYTES_MAX + 1));
    assert_eq!(fetch.poll_cancel(), Some(first.id));
    let banned = FetchEvent::ProviderBanned { provider: id(0), why: Failure::TooLarge(WHOLE_BYTES_MAX + 1) };
    assert_eq!(fetch.poll_event(), Some(banned));

    let second = fetch.poll_request(now).unwrap();
    fetch.handle_answer(now, second.id, &answer(30_000));
    fetch.handle_bytes(now, second.id, 20_000);
    assert_eq!(fetch.progress(now).bytes_done, 20_000);
    let later = fetch.poll_timeout().unwrap();
    assert_eq!(later, now + Duration::from_secs(10));
    fetch.handle_timeout(later);
    assert_eq!(fetch.poll_cancel(), Some(second.id), "it has stalled");

    let third = fetch.poll_request(later).unwrap();
    assert_eq!(third.provider, id(2));
    fetch.handle_answer(later, third.id, &answer(30_000));
    fetch.handle_done(later, third.id);
    assert_eq!(fetch.poll_event(), Some(FetchEvent::Done));
    assert_eq!((fetch.size(), fetch.progress(later).bytes_done), (Some(30_000), 30_000));
    assert_eq!((fetch.poll_request(later), fetch.poll_timeout()), (None, None));
}

fn troubles(groups: u64) -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => Just(Trouble::None),
        1 => (0..groups).prop_map(Trouble::Corrupt),
        1 => (0..groups).prop_map(Trouble::Short),
        1 => (0..groups).prop_map(Trouble::Stalls),
        1 => (0..groups).prop_map(Trouble::Dies),
        1 => (0..2 * groups * GROUP_BYTES).prop_map(Trouble::Lies),
        1 => (0..9000_u64).prop_map(|ms| Trouble::Busy(Duration::from_millis(ms))),
        1 => (0..groups, 0..9000_u64).prop_map(move |(some, ms)| {
            Trouble::Partial((0..some).into(), Duration::from_millis(ms), (some..groups).into())
        }),
        1 => Just(Trouble::Denies),
        1 => Just(Trouble::Lacks),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whoever else takes part: if one is honest, all comes, each group is written once, and the honest are never banned.
    #[test]
    fn one_honest_provider_is_enough(
        size in (0..1500_u64, 0..GROUP_BYTES).prop_map(|(groups, bytes)| groups * GROUP_BYTES + bytes),
        others in prop::collection::vec((0.05..80_f64, 0..300_u64, troubles(1500)), 0..7),
        at: prop::sample::Index,
        had in prop::collection::vec((0..1500_u64, 0..300_u64), 0..4),
    ) {
        let mut sims: Vec<_> = others
            .into_iter()
            .map(|(rate, ms, trouble)| Sim { rate: rate * MB, latency: Duration::from_millis(ms), trouble })
            .collect();
        sims.insert(at.index(sims.len() + 1), Sim::new(5.0 * MB, Trouble::None));
        let already: GroupSet = had.into_iter().map(|(start, count)| start..start + count).collect();
        let already = already.intersection(&(0..Geometry::of(size).groups()).into());
        let proved = (!already.is_empty()).then_some(size);
        let mut world = World::resumed(size, &sims, already, proved);
        let time = world.run(Duration::from_secs(3600));
        prop_assert!(world.events.contains(&FetchEvent::Done), "{:?}", world.events);
        prop_assert_eq!(&world.written, &(0..Geometry::of(size).groups()).into());
        for (banned, why) in world.banned() {
            let index = (0..sims.len()).find(|index| id(*index) == banned).unwrap();
            let is_honest = matches!(sims[index].trouble, Trouble::None | Trouble::Busy(_) | Trouble::Partial(..));
            prop_assert!(!is_honest, "{:?}: {}", sims[index], why);
        }
        // Five seconds for its bytes, ten for those who have to be given up, and some to go round.
        prop_assert!(time < Duration::from_secs(20), "{:?}", time);
    }
}
