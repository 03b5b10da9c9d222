//! One host's side of one slot: which version runs, which is to run, and what is done about it.
//!
//! ```text
//!            record                     more than granted        grant
//! Empty ──────────────► Fetching ──► Preparing ──► WaitingForGrant ──┐
//!                          ▲              └──────────────────────────┴──► Starting ──► OnTrial ──► Running
//!                          └── again, later                                  │            │ worse than before
//!                                                                            ▼            ▼
//!                                           what ran before runs on ◄──── Failed ◄── RollingBack
//! ```
//!
//! A record may want a share of the work for its version first (`Canary`, between `Preparing` and `Starting`).
//!
//! A newer record takes the place of an older one at any step; a start that is under way is waited for, and a trial goes on
//! until the newer version takes over. What is decided is stored before it is done, and a restart begins with the version
//! that has stood the test.

use std::collections::VecDeque;

use macula_auth::Slot;
use macula_wire::{Mcid, NodeId};

use crate::{
    Accepted, Asks, Counts, Deployment, Held, Journal, Rollout, RolloutState, SEQ_AHEAD_MAX, Trial, Verdict, Version,
};

/// How a host follows slots. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Versions get what they ask for: in a realm for development.
    pub grants_what_is_asked: bool,
    /// How long a new version is looked at closely.
    pub trial: u64,
    /// How long it has a share of the work before, when it is to.
    pub canary: u64,
    /// How often.
    pub look_interval: u64,
    /// Before a component that could not be fetched is looked for again; doubled each time.
    pub retry_min: u64,
    /// At most.
    pub retry_max: u64,
    /// How often what was told is told again, so that others know that this host still follows.
    pub heartbeat: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grants_what_is_asked: false,
            trial: 10_000,
            canary: 30_000,
            look_interval: 200,
            retry_min: 1_000,
            retry_max: 60_000,
            heartbeat: 60_000,
        }
    }
}

/// What is to be done. Those with a `ticket` are answered by the function named, with that ticket.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write the journal, and sync it, before the next action. Keep [`Journal::pinned`] from being evicted.
    Store(Journal),
    /// Get the component: [`Follower::fetched`]. An earlier fetch is not wanted any more.
    Fetch {
        /// Names this action.
        ticket: u64,
        /// The component.
        mcid: Mcid,
    },
    /// Read, compile, and put the manifest together: [`Follower::prepared`].
    Prepare {
        /// Names this action.
        ticket: u64,
        /// What.
        held: Held,
    },
    /// Let what was prepared last take over, or start it when nothing runs: [`Follower::started`].
    Start {
        /// Names this action.
        ticket: u64,
        /// When it crashes too often it waits to be replaced.
        on_trial: bool,
        /// What becomes of the state of the version from which it takes over.
        state: Handover,
    },
    /// Give what was prepared last a share of the work, beside the version that runs: [`Follower::canary_started`].
    StartCanary {
        /// Names this action.
        ticket: u64,
        /// Of a hundred.
        percent: u8,
        /// What becomes of the state of the version that runs: [`Handover::Required`] or [`Handover::Dropped`].
        state: Handover,
    },
    /// The version that runs has all of the work again.
    EndCanary,
    /// It has stood the test.
    EndTrial,
    /// Tell everybody.
    Tell(Box<Rollout>),
}

/// What becomes of a version's state when another takes over from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// The other takes over with it, or not at all.
    Required,
    /// The other takes over also without, when there is none to be had: the version that has it is not right.
    IfPossible,
    /// Nobody is asked for it: the deployer has chosen to go on without.
    Dropped,
}

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later.
    ForNow(String),
    /// It never will.
    ForGood(String),
}

/// Why a record or a grant is not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A newer one is known.
    #[error("record {seq} is older than {known}, which is known here")]
    Older {
        /// The record's.
        seq: u64,
        /// The newest here.
        known: u64,
    },
    /// Its number is too far from the newest one's: see [`SEQ_AHEAD_MAX`].
    #[error("record {seq} is too far from {known}, which is the newest here")]
    TooFar {
        /// The record's.
        seq: u64,
        /// The newest here.
        known: u64,
    },
    /// Another one with the same number was first: somebody else deploys to this slot as well.
    #[error("another record with number {0} was here first")]
    Conflict(u64),
    /// Nothing waits for a grant, or another record does.
    #[error("record {0} does not wait for a grant")]
    NotWaiting(u64),
}

/// What a follower is at.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing.
    Idle,
    /// See [`Action::Fetch`].
    Fetching,
    /// A fetch has failed; again at this time.
    Backoff(u64),
    /// See [`Action::Prepare`].
    Preparing,
    /// For what a version asks.
    WaitingForGrant(Asks),
    /// See [`Action::StartCanary`].
    StartingCanary,
    /// It has a share of the work.
    Canary(Trial),
    /// See [`Action::Start`].
    Starting,
}

/// What a version is brought up for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// The newest record says so.
    Deploy,
    /// It ran before the host was started.
    Resume,
    /// A newer one has failed, for this reason.
    RollBack(String),
}

/// A version on its way to run.
#[derive(Debug, Clone, PartialEq)]
struct Effort {
    version: Version,
    purpose: Purpose,
    /// Of the action that is waited for.
    ticket: u64,
    /// Fetches that have failed.
    failures: u32,
    /// The share of the work that it is to have first; none once it has had it.
    canary: Option<u8>,
    state: Handover,
}

/// See the module.
#[derive(Debug)]
pub struct Follower {
    slot: Slot,
    node: NodeId,
    config: Config,
    journal: Journal,
    step: Step,
    effort: Option<Effort>,
    /// What runs, on trial or not, and what had been counted when it began.
    active: Option<(Version, Counts)>,
    /// Of what runs, while it is looked at.
    trial: Option<Trial>,
    /// The last thing that went wrong, for people.
    reason: Option<String>,
    next_ticket: u64,
    told_at: u64,
    was_stale: bool,
    actions: VecDeque<Action>,
}

impl Follower {
    /// Begins with what the journal says: the version that ran is brought up again, then a newer one that was on its way.
    pub fn new(now: u64, slot: Slot, node: NodeId, config: Config, journal: Journal) -> Self {
        let mut follower = Self {
            slot,
            node,
            config,
            journal,
            step: Step::Idle,
            effort: None,
            active: None,
            trial: None,
            reason: None,
            next_ticket: 1,
            told_at: now,
            was_stale: false,
            actions: VecDeque::new(),
        };
        match follower.journal.running.clone() {
            Some(version) => follower.begin(now, version, Purpose::Resume),
            None => follower.go_on(now),
        }
        follower
    }

    /// The slot.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What is remembered.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What it is at.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Follower::handle_timeout`] wants to be called, in unix milliseconds.
    pub fn poll_timeout(&self) -> u64 {
        let step = match &self.step {
            Step::Backoff(until) => Some(*until),
            _ => None,
        };
        let heartbeat = self.told_at.saturating_add(self.config.heartbeat);
        let expiry = self.expires_ms().filter(|_| !self.was_stale).map(|expires| expires.saturating_add(1));
        [step, expiry].into_iter().flatten().fold(heartbeat, u64::min)
    }

    /// How soon [`Follower::look`] wants to be called, in milliseconds; `None` when there is nothing to look at.
    pub fn look_interval(&self) -> Option<u64> {
        let looks = self.trial.is_some() || matches!(self.step, Step::Canary(_));
        looks.then_some(self.config.look_interval)
    }

    // What comes in.

    /// A record that was verified: its id, and when it expires, in unix seconds. Whether it is news; the same again is not.
    ///
    /// # Errors
    /// [`Refused::Older`], [`Refused::Conflict`].
    pub fn record(&mut self, now: u64, id: &str, expires: u64, deployment: &Deployment) -> Result<bool, Refused> {
        let seq = deployment.seq;
        if let Some(accepted) = &self.journal.accepted {
            let known = accepted.version.seq;
            if seq < known {
                return Err(Refused::Older { seq, known });
            }
            if seq == known {
                return if accepted.id == id { Ok(false) } else { Err(Refused::Conflict(seq)) };
            }
            if seq - known > SEQ_AHEAD_MAX {
                return Err(Refused::TooFar { seq, known });
            }
        }
        let version = Version { seq, held: deployment.held.clone() };
        let Deployment { canary, drop_state, .. } = *deployment;
        self.journal.accepted =
            Some(Accepted { version, id: id.to_owned(), expires, canary, drop_state, failed: None });
        self.was_stale = false;
        self.store();
        match self.step {
            // It will be seen to when this has come to an end.
            Step::Starting | Step::StartingCanary => self.tell(now),
            _ => self.go_on(now),
        }
        Ok(true)
    }

    /// What came of [`Action::Fetch`].
    pub fn fetched(&mut self, now: u64, ticket: u64, outcome: Result<(), Failure>) {
        let Some(effort) = self.effort.as_ref().filter(|effort| effort.ticket == ticket) else { return };
        match outcome {
            Ok(()) => {
                self.reason = None;
                let held = effort.version.held.clone();
                self.act(now, Step::Preparing, |ticket| Action::Prepare { ticket, held });
            }
            Err(failure) => self.fall_back(now, failure),
        }
    }

    /// Tries again later, from the beginning, or not at all.
    fn fall_back(&mut self, now: u64, failure: Failure) {
        match (failure, &mut self.effort) {
            (Failure::ForNow(reason), Some(effort)) => {
                effort.failures += 1;
                let doubled = self.config.retry_min.saturating_mul(1 << (effort.failures - 1).min(20));
                self.step = Step::Backoff(now.saturating_add(doubled.min(self.config.retry_max)));
                self.reason = Some(reason);
                self.tell(now);
            }
            (Failure::ForNow(reason) | Failure::ForGood(reason), _) => self.give_up(now, &reason),
        }
    }

    /// The same, unless a newer record came meanwhile.
    fn fall_back_to_newest(&mut self, now: u64, failure: Failure) {
        if self.is_superseded() { self.go_on(now) } else { self.fall_back(now, failure) }
    }

    /// What came of [`Action::Prepare`]: what the version asks to be allowed.
    pub fn prepared(&mut self, now: u64, ticket: u64, outcome: Result<Asks, Failure>) {
        let Some(effort) = self.effort.as_ref().filter(|effort| effort.ticket == ticket) else { return };
        let asks = match outcome {
            Ok(asks) => asks,
            Err(failure) => return self.fall_back(now, failure),
        };
        // What has been running was granted what it has.
        let needs_grant = effort.purpose == Purpose::Deploy && !self.config.grants_what_is_asked;
        if needs_grant && !asks.beyond(&self.journal.granted).is_empty() {
            self.step = Step::WaitingForGrant(asks);
            self.tell(now);
        } else {
            self.launch(now);
        }
    }

    /// This host's operator grants what record `seq` asks for, for this version and all to come.
    ///
    /// # Errors
    /// [`Refused::NotWaiting`].
    pub fn grant(&mut self, now: u64, seq: u64) -> Result<(), Refused> {
        let waiting = self.effort.as_ref().is_some_and(|effort| effort.version.seq == seq);
        let Step::WaitingForGrant(asks) = &self.step else { return Err(Refused::NotWaiting(seq)) };
        if !waiting {
            return Err(Refused::NotWaiting(seq));
        }
        self.journal.granted = self.journal.granted.with(asks);
        self.store();
        self.launch(now);
        Ok(())
    }

    /// What came of [`Action::StartCanary`]; `counts` is what the plugin has done so far, in all its versions.
    pub fn canary_started(&mut self, now: u64, ticket: u64, counts: Counts, outcome: Result<(), Failure>) {
        let Some(effort) = self.effort.as_mut().filter(|effort| effort.ticket == ticket) else { return };
        if let Err(failure) = outcome {
            return self.fall_back_to_newest(now, failure);
        }
        effort.canary = None;
        let began = self.active.as_ref().map_or(Counts::default(), |(_, began)| *began);
        // It counts for itself, from nothing.
        let trial = Trial::new(now, self.config.canary, counts.since(began), Counts::default());
        self.step = Step::Canary(trial);
        if self.is_superseded() {
            return self.go_on(now);
        }
        self.tell(now);
    }

    /// Whether a newer record than the one that is worked on was taken.
    fn is_superseded(&self) -> bool {
        let wanted = self.journal.accepted.as_ref().map(|accepted| accepted.version.seq);
        self.effort
            .as_ref()
            .is_some_and(|effort| effort.purpose == Purpose::Deploy && Some(effort.version.seq) != wanted)
    }

    /// Looks at a version that has a share of the work: what it has done by itself, and why it has failed altogether, if it
    /// has.
    pub fn look_canary(&mut self, now: u64, counts: Counts, failed: Option<&str>) {
        let Step::Canary(trial) = &self.step else { return };
        match trial.look(now, counts, failed) {
            Verdict::Undecided => {}
            Verdict::Passed => self.launch(now),
            Verdict::Failed(reason) => self.give_up(now, &reason),
        }
    }

    /// What came of [`Action::Start`]; `counts` is what the plugin has done so far, in all its versions.
    pub fn started(&mut self, now: u64, ticket: u64, counts: Counts, outcome: Result<(), Failure>) {
        let Some(effort) = self.effort.take_if(|effort| effort.ticket == ticket) else { return };
        if let Err(failure) = outcome {
            self.effort = Some(effort);
            return self.fall_back_to_newest(now, failure);
        }
        let before = self.active.replace((effort.version.clone(), counts));
        (self.step, self.trial) = (Step::Idle, None);
        match (effort.purpose, before) {
            (Purpose::Deploy, Some((_, began))) => {
                self.trial = Some(Trial::new(now, self.config.trial, counts.since(began), counts));
            }
            (Purpose::Deploy, None) => self.settle(effort.version),
            (Purpose::Resume, _) => {}
            (Purpose::RollBack(reason), _) => self.reason = Some(reason),
        }
        self.go_on(now);
    }

    /// Looks at a version on trial: what the plugin has done so far, and why it has failed altogether, if it has.
    pub fn look(&mut self, now: u64, counts: Counts, failed: Option<&str>) {
        let (Some(trial), Some((version, _))) = (&self.trial, &self.active) else { return };
        // Another version is about to take over, or the one before again.
        if matches!(self.step, Step::Starting | Step::StartingCanary) || self.rolls_back() {
            return;
        }
        match trial.look(now, counts, failed) {
            Verdict::Undecided => {}
            Verdict::Passed => {
                let version = version.clone();
                self.trial = None;
                self.settle(version);
                self.actions.push_back(Action::EndTrial);
                self.tell(now);
            }
            Verdict::Failed(reason) => {
                self.note_failure(version.seq, &reason);
                // Only a version with one before it is on trial.
                if let Some(before) = self.journal.running.clone() {
                    self.begin(now, before, Purpose::RollBack(reason));
                }
            }
        }
    }

    /// What ran was given up, and handles nothing any more. Outside of a trial, which sees that by itself, and from a
    /// version that nobody has put in its place yet.
    pub fn fell(&mut self, now: u64, reason: &str) {
        if self.trial.is_none() && self.active.take().is_some() {
            self.reason = Some(reason.to_owned());
            self.tell(now);
        }
    }

    fn rolls_back(&self) -> bool {
        self.effort.as_ref().is_some_and(|effort| matches!(effort.purpose, Purpose::RollBack(_)))
    }

    /// A time of [`Follower::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: u64) {
        match self.step {
            Step::Backoff(until) if until <= now => {
                if let Some(effort) = &self.effort {
                    let mcid = effort.version.held.mcid.clone();
                    self.act(now, Step::Fetching, |ticket| Action::Fetch { ticket, mcid });
                }
            }
            _ if now >= self.poll_timeout() => self.tell(now),
            _ => {}
        }
    }

    // What is decided.

    /// Brings up what the newest record asks for, unless it runs, or was given up.
    fn go_on(&mut self, now: u64) {
        let wanted = self.journal.accepted.as_ref().filter(|accepted| accepted.failed.is_none());
        let Some(version) = wanted.map(|accepted| accepted.version.clone()) else {
            self.end_canary();
            (self.effort, self.step) = (None, Step::Idle);
            return self.tell(now);
        };
        if self.active.as_ref().is_some_and(|(active, _)| *active == version) {
            self.end_canary();
            (self.effort, self.step) = (None, Step::Idle);
            return self.tell(now);
        }
        let begins_anew = self.journal.accepted.as_ref().is_some_and(|accepted| accepted.drop_state);
        let runs = self.active.as_ref().is_some_and(|(active, _)| active.held == version.held);
        if runs && self.trial.is_none() && !begins_anew {
            // The same again under a new number.
            self.active = self.active.take().map(|(_, began)| (version.clone(), began));
            self.end_canary();
            (self.effort, self.step) = (None, Step::Idle);
            self.settle(version);
            return self.tell(now);
        }
        self.begin(now, version, Purpose::Deploy);
    }

    fn begin(&mut self, now: u64, version: Version, purpose: Purpose) {
        if purpose == Purpose::Deploy {
            self.reason = None;
        }
        self.end_canary();
        let mcid = version.held.mcid.clone();
        let accepted = self.journal.accepted.as_ref().filter(|accepted| accepted.version == version);
        let canary = accepted.and_then(|accepted| accepted.canary).filter(|_| purpose == Purpose::Deploy);
        let state = match purpose {
            Purpose::Deploy if accepted.is_some_and(|accepted| accepted.drop_state) => Handover::Dropped,
            Purpose::Deploy | Purpose::Resume => Handover::Required,
            Purpose::RollBack(_) => Handover::IfPossible,
        };
        self.effort = Some(Effort { version, purpose, ticket: 0, failures: 0, canary, state });
        self.act(now, Step::Fetching, |ticket| Action::Fetch { ticket, mcid });
    }

    /// No version has a share of the work any more.
    fn end_canary(&mut self) {
        if matches!(self.step, Step::Canary(_)) {
            self.step = Step::Idle;
            self.actions.push_back(Action::EndCanary);
        }
    }

    fn launch(&mut self, now: u64) {
        let Some(Effort { purpose, canary, state, .. }) = &self.effort else { return };
        let state = *state;
        // Without a version that runs there is nothing to share.
        if let Some(percent) = canary.filter(|_| self.active.is_some()) {
            return self.act(now, Step::StartingCanary, |ticket| Action::StartCanary { ticket, percent, state });
        }
        let on_trial = self.active.is_some() && *purpose == Purpose::Deploy;
        self.act(now, Step::Starting, |ticket| Action::Start { ticket, on_trial, state });
    }

    fn act(&mut self, now: u64, step: Step, action: impl FnOnce(u64) -> Action) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(effort) = &mut self.effort {
            effort.ticket = ticket;
        }
        self.step = step;
        self.tell(now);
        self.actions.push_back(action(ticket));
    }

    /// The effort has come to nothing. What runs goes on.
    fn give_up(&mut self, now: u64, reason: &str) {
        self.end_canary();
        self.step = Step::Idle;
        let Some(effort) = self.effort.take() else { return };
        match effort.purpose {
            Purpose::Deploy => self.note_failure(effort.version.seq, reason),
            Purpose::Resume => {
                self.reason = Some(format!("the version that ran before could not be started: {reason}"));
            }
            Purpose::RollBack(first) => {
                self.trial = None;
                // Nobody looks at it any more: it is to go on as any version does.
                self.actions.push_back(Action::EndTrial);
                self.reason = Some(format!("{first}; and the version before could not take over again: {reason}"));
            }
        }
        self.go_on(now);
    }

    fn note_failure(&mut self, seq: u64, reason: &str) {
        if let Some(accepted) = self.journal.accepted.as_mut().filter(|accepted| accepted.version.seq == seq) {
            accepted.failed = Some(reason.to_owned());
            self.store();
        }
        self.reason = Some(reason.to_owned());
    }

    fn settle(&mut self, version: Version) {
        self.reason = None;
        self.journal.promote(version);
        self.store();
    }

    fn store(&mut self) {
        self.actions.push_back(Action::Store(self.journal.clone()));
    }

    fn expires_ms(&self) -> Option<u64> {
        self.journal.accepted.as_ref().map(|accepted| accepted.expires.saturating_mul(1000).saturating_add(999))
    }

    fn tell(&mut self, now: u64) {
        self.told_at = now;
        self.was_stale = self.expires_ms().is_some_and(|expires| expires < now);
        self.actions.push_back(Action::Tell(Box::new(self.rollout(now))));
    }

    /// How far it is.
    pub fn rollout(&self, now: u64) -> Rollout {
        let accepted = self.journal.accepted.as_ref();
        let active = self.active.as_ref().map(|(version, _)| version);
        let failed = accepted.and_then(|accepted| accepted.failed.clone());
        let state = match &self.step {
            _ if self.rolls_back() => RolloutState::RollingBack,
            Step::Fetching | Step::Backoff(_) => RolloutState::Fetching,
            Step::Preparing => RolloutState::Preparing,
            Step::WaitingForGrant(_) => RolloutState::WaitingForGrant,
            Step::StartingCanary | Step::Canary(_) => RolloutState::Canary,
            Step::Starting => RolloutState::Starting,
            Step::Idle if self.trial.is_some() => RolloutState::OnTrial,
            Step::Idle if failed.is_some() => RolloutState::Failed,
            Step::Idle if active.is_some() => RolloutState::Running,
            Step::Idle if accepted.is_some() => RolloutState::Failed,
            Step::Idle => RolloutState::Empty,
        };
        let beyond = match &self.step {
            Step::WaitingForGrant(asks) => asks.beyond(&self.journal.granted),
            _ => Asks::default(),
        };
        Rollout {
            slot: self.slot.to_string(),
            node: self.node,
            host: None,
            plugin: None,
            state,
            seq: accepted.map_or(0, |accepted| accepted.version.seq),
            mcid: accepted.map(|accepted| accepted.version.held.mcid.clone()),
            running: active.map(|version| version.held.mcid.clone()),
            running_seq: active.map_or(0, |version| version.seq),
            reason: failed.filter(|_| state == RolloutState::Failed).or_else(|| self.reason.clone()),
            beyond,
            stale: self.expires_ms().is_some_and(|expires| expires < now),
            at: now,
        }
    }
}

#[cfg(test)]
mod tests;
