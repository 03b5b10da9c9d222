//! The host of one plugin: starts it, runs its handlers, replaces it.

use super::fake::{self, Abilities, Offer, State, Subscribed};
use super::incoming::{message, request};
use super::manifest::Manifest;
use super::outgoing::{Logged, Published, read_json};
use super::pattern;
use super::rights::{Rights, Verdict};
use crate::export::Instance;
use crate::log::Level;
use crate::pubsub::SubscriptionStats;
use crate::rpc::CallError;
use crate::trace::Context;
use crate::{Disposition, Error, HandlerError, Health, Message, Request, StartReason, StopReason, to_json};
use serde::{Serialize, de::DeserializeOwned};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time a plugin has to shut down in tests.
const GRACE: Duration = Duration::from_secs(5);

/// A host that runs one plugin: see the [module](super).
pub struct Host<P> {
    plugin: P,
    state: Rc<RefCell<State>>,
    delivered: u64,
}

/// A host before its plugin starts: see [`Host::setup`].
#[must_use = "the plugin begins with `start`"]
pub struct Setup<P> {
    state: Rc<RefCell<State>>,
    plugin: PhantomData<P>,
}

impl<P: Instance> Setup<P> {
    /// Gives a setting, over the manifest's default.
    pub fn config(self, key: &str, value: &str) -> Self {
        self.state.borrow_mut().settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Grants a right that the manifest does not ask for.
    pub fn allow(self, command: &str, pattern: &str) -> Self {
        self.state.borrow_mut().rights.rule(command, pattern, Verdict::Allow);
        self
    }

    /// Denies a right that the manifest asks for: `deny("/mesh/publish", "alerts.**")`.
    pub fn deny(self, command: &str, pattern: &str) -> Self {
        self.state.borrow_mut().rights.rule(command, pattern, Verdict::Deny);
        self
    }

    /// Answers the plugin's calls of a procedure: see [`Host::answer`].
    pub fn answer(self, procedure: &str, answer: impl FnMut(&Request) -> Result<Vec<u8>, CallError> + 'static) -> Self {
        self.state.borrow_mut().answers.insert(procedure.to_owned(), Rc::new(RefCell::new(answer)));
        self
    }

    /// Starts the plugin.
    ///
    /// # Panics
    /// When its `init` fails.
    #[track_caller]
    pub fn start(self) -> Host<P> {
        self.try_start().unwrap_or_else(|error| panic!("the plugin does not start: {error}"))
    }

    /// Starts the plugin.
    ///
    /// # Errors
    /// Those of its `init`.
    pub fn try_start(self) -> Result<Host<P>, Error> {
        let mut host = Host { plugin: P::default(), state: self.state, delivered: 0 };
        host.init(StartReason::Fresh)?;
        Ok(host)
    }
}

impl<P: Instance> Host<P> {
    /// Starts the plugin with its manifest's settings and rights.
    ///
    /// # Panics
    /// When its `init` fails, or a host would refuse the manifest.
    #[track_caller]
    pub fn start() -> Self {
        Self::setup().start()
    }

    /// Prepares a start with other settings and rights.
    ///
    /// # Panics
    /// When a host would refuse the manifest.
    pub fn setup() -> Setup<P> {
        #[cfg(feature = "log")]
        crate::log::install_facade();
        let manifest = Manifest::parse(P::MANIFEST);
        let handlers = P::handlers();
        let abilities = Abilities {
            message: handlers.message.is_some(),
            call: handlers.call.is_some(),
            timer: handlers.timer.is_some(),
        };
        assert!(
            abilities.message || manifest.subscriptions.is_empty(),
            "macula.toml has [[subscriptions]], but `message` is not listed in export!"
        );
        assert!(
            abilities.call || manifest.procedures.is_empty(),
            "macula.toml has [[procedures]], but `call` is not listed in export!"
        );
        let state = State {
            now_ms: fake::BEGIN_MS,
            abilities,
            rights: Rights::asked_by(&manifest),
            settings: manifest.settings(),
            subscriptions: manifest.subscriptions.iter().map(|asked| subscribed_by_manifest(&asked.pattern)).collect(),
            offers: manifest.procedures.iter().map(|asked| offered_by_manifest(&asked.procedure)).collect(),
            manifest,
            retained: BTreeMap::new(),
            published: Vec::new(),
            published_count: 0,
            answers: BTreeMap::new(),
            called: Vec::new(),
            timers: Default::default(),
            buckets: BTreeMap::new(),
            content: Default::default(),
            logged: Vec::new(),
            log_level: Level::Trace,
            trace: None,
        };
        Setup { state: Rc::new(RefCell::new(state)), plugin: PhantomData }
    }

    /// The plugin's own state.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// Delivers a message to each subscription that matches its topic, and gives what became of it: the first that is
    /// not [`Disposition::Ack`].
    ///
    /// # Panics
    /// When the plugin is not subscribed to the topic.
    #[track_caller]
    pub fn deliver(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Disposition {
        self.deliver_message(message(topic, payload))
    }

    /// Delivers a message that has more than a topic and a payload: see [`message`]. Its `seq`, `timestamp_ms` and
    /// `subscription` are filled in, the first two when they are 0.
    ///
    /// # Panics
    /// When the plugin is not subscribed to the topic.
    #[track_caller]
    pub fn deliver_message(&mut self, mut message: Message) -> Disposition {
        assert!(pattern::is_topic(&message.topic), "{:?} is not a topic", message.topic);
        self.delivered += 1;
        if message.seq == 0 {
            message.seq = self.delivered;
        }
        if message.timestamp_ms == 0 {
            message.timestamp_ms = self.state.borrow().now_ms;
        }
        let subscriptions = self.state.borrow_mut().count_delivery(&message);
        assert!(
            !subscriptions.is_empty(),
            "the plugin is not subscribed to {}, only to {:?}",
            message.topic,
            self.subscriptions()
        );
        let handle = P::handlers().message.expect("without a handler, subscriptions are refused");
        let mut outcome = Disposition::Ack;
        for subscription in subscriptions {
            let message = Message { subscription, ..message.clone() };
            let disposition = self.run(|plugin| handle(plugin, message));
            if outcome == Disposition::Ack {
                outcome = disposition;
            }
        }
        outcome
    }

    /// Calls a procedure of the plugin.
    ///
    /// # Errors
    /// Those of the plugin's handler.
    ///
    /// # Panics
    /// When the plugin does not offer the procedure, or its answer is beyond what the contract allows.
    #[track_caller]
    pub fn call(&mut self, procedure: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>, HandlerError> {
        self.call_request(request(procedure, payload))
    }

    /// Calls a procedure of the plugin with JSON, and reads its answer.
    ///
    /// # Errors
    /// Those of the plugin's handler.
    ///
    /// # Panics
    /// As [`call`](Self::call), and when the answer is not of the type's form.
    #[track_caller]
    pub fn call_json<T: DeserializeOwned>(
        &mut self,
        procedure: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<T, HandlerError> {
        let payload = to_json(arguments).expect("the test's arguments can be written as JSON");
        self.call(procedure, payload).map(|answer| read_json("the answer", &answer))
    }

    /// Makes a call that has more than a procedure and a payload: see [`request`].
    ///
    /// # Errors
    /// Those of the plugin's handler.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    #[track_caller]
    pub fn call_request(&mut self, request: Request) -> Result<Vec<u8>, HandlerError> {
        let offers = self.offers();
        assert!(
            offers.contains(&request.procedure),
            "the plugin does not offer {}, only {offers:?}",
            request.procedure
        );
        let handle = P::handlers().call.expect("without a handler, offers are refused");
        let outcome = self.run(|plugin| handle(plugin, request));
        check_outcome(&outcome);
        outcome
    }

    /// Lets this much time pass. Timers that fall due tick in order, each at its own time; gives how many did.
    ///
    /// # Errors
    /// The first that a tick gave; the others tick nevertheless.
    pub fn advance(&mut self, by: Duration) -> Result<usize, Error> {
        let until_ms = self.state.borrow().now_ms + u64::try_from(by.as_millis()).expect("a test of bounded length");
        let mut ticks = 0;
        let mut outcome = Ok(());
        loop {
            let due = self.state.borrow_mut().timers.take_due(until_ms);
            let Some(tick) = due else { break };
            self.state.borrow_mut().now_ms = tick.due_ms;
            ticks += 1;
            let handle = P::handlers().timer.expect("without a handler, timers are refused");
            outcome = outcome.and(self.run(|plugin| handle(plugin, tick)));
        }
        self.state.borrow_mut().now_ms = until_ms;
        outcome.map(|()| ticks)
    }

    /// The virtual time.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.state.borrow().now_ms)
    }

    /// Answers the plugin's calls of a procedure from now on. Without an answer a call fails with
    /// [`CallError::NotRun`] (not found); without a right to call, it is denied whatever the answer.
    pub fn answer(&mut self, procedure: &str, answer: impl FnMut(&Request) -> Result<Vec<u8>, CallError> + 'static) {
        self.state.borrow_mut().answers.insert(procedure.to_owned(), Rc::new(RefCell::new(answer)));
    }

    /// Changes a setting, as an operator does. A plugin without config handler is replaced by a new instance.
    ///
    /// # Errors
    /// Those of the config handler, which refuse the change, or of the new instance.
    pub fn set_config(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let before = self.state.borrow().settings.clone();
        self.state.borrow_mut().settings.insert(key.to_owned(), value.to_owned());
        let outcome = match P::handlers().config {
            Some(handle) => {
                let keys = [key.to_owned()];
                self.run(|plugin| (handle.config_changed)(plugin, &keys))
            }
            None => self.swap(),
        };
        if outcome.is_err() {
            self.state.borrow_mut().settings = before;
        }
        outcome
    }

    /// Grants a right, and tells the plugin.
    pub fn allow(&mut self, command: &str, pattern: &str) {
        self.change_rights(command, pattern, Verdict::Allow);
    }

    /// Withdraws a right, ends what is no longer allowed, and tells the plugin.
    pub fn deny(&mut self, command: &str, pattern: &str) {
        self.change_rights(command, pattern, Verdict::Deny);
    }

    /// What the plugin thinks of itself.
    pub fn health(&mut self) -> Health {
        match P::handlers().lifecycle {
            Some(handle) => self.run(|plugin| (handle.health)(plugin)),
            None => Health::Healthy,
        }
    }

    /// Replaces the instance as by a new version: new `init` and `health`, old `snapshot`, new `restore`, old
    /// `shutdown`. What the new one did not ask for again ends.
    ///
    /// # Errors
    /// Those of the steps, and [`Error::Other`] when the new instance is unhealthy; the old one then works on.
    pub fn swap(&mut self) -> Result<(), Error> {
        let claims = self.state.borrow_mut().release_claims();
        let old = std::mem::take(&mut self.plugin);
        let outcome = self.take_over(old);
        if outcome.is_err() {
            self.state.borrow_mut().restore_claims(&claims);
        }
        outcome
    }

    /// Ends the instance as by a panic, and starts the next.
    ///
    /// # Errors
    /// Those of its `init`.
    pub fn crash(&mut self) -> Result<(), Error> {
        self.state.borrow_mut().release_claims();
        self.plugin = P::default();
        self.init(StartReason::Restarted)?;
        self.state.borrow_mut().end_unclaimed();
        Ok(())
    }

    /// Stops the plugin, and gives what is left of it.
    pub fn stop(mut self, reason: StopReason) -> P {
        if let Some(handle) = P::handlers().lifecycle {
            self.run(|plugin| (handle.shutdown)(plugin, reason, GRACE));
        }
        self.plugin
    }

    /// Takes what the plugin published since last asked, in order.
    pub fn take_published(&mut self) -> Vec<Published> {
        std::mem::take(&mut self.state.borrow_mut().published)
    }

    /// Takes the calls the plugin made since last asked, in order; not those that were denied.
    pub fn take_called(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.state.borrow_mut().called)
    }

    /// Takes what the plugin logged since last asked, in order.
    pub fn take_logged(&mut self) -> Vec<Logged> {
        std::mem::take(&mut self.state.borrow_mut().logged)
    }

    /// Keeps only entries of this level and above; without it, all.
    pub fn set_log_level(&mut self, level: Level) {
        self.state.borrow_mut().log_level = level;
    }

    /// Sets the trace of what is handled from now on.
    pub fn set_trace(&mut self, trace: Option<Context>) {
        self.state.borrow_mut().trace = trace;
    }

    /// The patterns the plugin is subscribed to.
    pub fn subscriptions(&self) -> Vec<String> {
        self.state.borrow().subscriptions.iter().map(|subscribed| subscribed.pattern.clone()).collect()
    }

    /// The procedures the plugin offers.
    pub fn offers(&self) -> Vec<String> {
        self.state.borrow().offers.iter().map(|offer| offer.procedure.clone()).collect()
    }

    /// The names of the timers that run.
    pub fn timers(&self) -> Vec<String> {
        self.state.borrow().timers.names()
    }

    /// Stores a last value, as another publisher would: [`pubsub::retained`](crate::pubsub::retained) reads it.
    pub fn retain(&mut self, mut message: Message) {
        message.retained = true;
        self.state.borrow_mut().retained.insert(message.topic.clone(), message);
    }

    /// Stores content, and gives its id: of the right form, but not the real one.
    pub fn put_content(&mut self, data: &[u8]) -> String {
        self.state.borrow_mut().content.put(data)
    }

    /// Whether the plugin keeps content from being evicted.
    pub fn is_pinned(&self, mcid: &str) -> bool {
        self.state.borrow().content.is_pinned(mcid)
    }

    /// Reads a key of a bucket of the plugin.
    pub fn stored(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        state.buckets.get(bucket)?.get(key, state.now_ms).map(|entry| entry.value)
    }

    fn run<R>(&mut self, handler: impl FnOnce(&mut P) -> R) -> R {
        let _entered = fake::enter(&self.state);
        handler(&mut self.plugin)
    }

    fn init(&mut self, reason: StartReason) -> Result<(), Error> {
        match P::handlers().lifecycle {
            Some(handle) => self.run(|plugin| (handle.init)(plugin, reason)),
            None => Ok(()),
        }
    }

    /// The new instance is in `self.plugin`; on an error, the old one is put back.
    fn take_over(&mut self, mut old: P) -> Result<(), Error> {
        let outcome = self.init(StartReason::Replacing).and_then(|()| self.hand_over(&mut old));
        if outcome.is_err() {
            self.plugin = old;
            return outcome;
        }
        self.state.borrow_mut().end_unclaimed();
        if let Some(handle) = P::handlers().lifecycle {
            let _entered = fake::enter(&self.state);
            (handle.shutdown)(&mut old, StopReason::Replaced, GRACE);
        }
        Ok(())
    }

    fn hand_over(&mut self, old: &mut P) -> Result<(), Error> {
        if let Health::Unhealthy(text) = self.health() {
            return Err(Error::Other(format!("unhealthy: {text}")));
        }
        let Some(handle) = P::handlers().state else { return Ok(()) };
        let version = self.state.borrow().manifest.version.clone();
        self.run(|new| (handle.restore)(new, (handle.snapshot)(old)?, &version))
    }

    fn change_rights(&mut self, command: &str, pattern: &str, verdict: Verdict) {
        self.state.borrow_mut().rights.rule(command, pattern, verdict);
        self.state.borrow_mut().end_disallowed();
        if let Some(handle) = P::handlers().config {
            self.run(|plugin| (handle.rights_changed)(plugin));
        }
    }
}

// By hand: a plugin need not be `Debug`.
impl<P> fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Setup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("state", &self.state).finish_non_exhaustive()
    }
}

fn subscribed_by_manifest(pattern: &str) -> Subscribed {
    Subscribed { id: 0, pattern: pattern.to_owned(), stats: SubscriptionStats::default(), claimed: true }
}

fn offered_by_manifest(procedure: &str) -> Offer {
    Offer { procedure: procedure.to_owned(), from_manifest: true, claimed: true }
}

/// What the contract says of answers.
#[track_caller]
fn check_outcome(outcome: &Result<Vec<u8>, HandlerError>) {
    match outcome {
        Ok(answer) => assert!(
            answer.len() <= fake::PAYLOAD_BYTES_MAX as usize,
            "an answer of {} bytes: at most 1 MiB",
            answer.len()
        ),
        Err(HandlerError { code, data, .. }) => {
            let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(
                (1..=64).contains(&code.len()) && code.bytes().all(is_part),
                "the code {code:?}: 1 to 64 characters of [a-z0-9-]"
            );
            assert!(data.len() <= 65_536, "details of {} bytes: at most 64 KiB", data.len());
        }
    }
}
