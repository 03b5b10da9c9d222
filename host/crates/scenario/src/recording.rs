//! A scenario from what happened at a plugin: what it was given becomes steps, and what it did then is expected of them.
//!
//! A scenario has one instance and one thing at a time. What several instances did at once comes one after the other, in
//! the order in which it began. Time passes between the steps only where it matters: when timers came or messages were
//! tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use macula_runtime::{Activity, ActivityEvent, CallOutcome, Sample};
use macula_wire::Topic;

use crate::{
    Payload,
    run::REST,
    scenario::{Answer, Call, Message, Published, Reply, Scenario, Step, Timing},
};

/// What was made of what happened.
#[derive(Debug, Default, PartialEq)]
pub struct Recording {
    /// The steps, with what is expected of them.
    pub scenario: Scenario,
    /// What a scenario cannot say, and is not in it; a sentence each.
    pub left_out: Vec<String>,
}

impl Recording {
    /// Makes a scenario of events, in their order.
    pub fn of(events: &[Activity]) -> Self {
        let mut recorder = Recorder {
            passes_time: events.iter().any(|activity| needs_time(&activity.event)),
            expects_calls: events.iter().any(|activity| matches!(activity.event, ActivityEvent::OutgoingCall { .. })),
            recording: Self {
                scenario: Scenario { description: "Recorded".to_owned(), ..Scenario::default() },
                ..Self::default()
            },
            ..Recorder::default()
        };
        for activity in events {
            recorder.note(activity);
        }
        recorder.finish()
    }
}

/// Whether a scenario comes to the same only when time passes.
fn needs_time(event: &ActivityEvent) -> bool {
    matches!(event, ActivityEvent::Tick { .. })
        || matches!(event, ActivityEvent::Message { attempt, .. } if *attempt > 1)
}

/// A scenario in the making.
#[derive(Default)]
struct Recorder {
    passes_time: bool,
    expects_calls: bool,
    recording: Recording,
    /// The step that each instance is at.
    open: BTreeMap<u32, usize>,
    /// Steps that have come to their end.
    ended: Vec<bool>,
    /// What others answer, as of now.
    answers: BTreeMap<Topic, Answer>,
    /// When the first step began.
    begun_ms: Option<u64>,
    /// Time that passes in the steps so far.
    passed_ms: u64,
    /// Messages that are in the scenario: they are tried again there as well.
    given: BTreeSet<(Topic, Vec<u8>)>,
    /// The number of the next event, when none is missing.
    next_number: Option<u64>,
}

impl Recorder {
    fn note(&mut self, activity: &Activity) {
        if let Some(missing) = self.next_number.and_then(|next| activity.number.checked_sub(next)).filter(|n| *n > 0) {
            self.leave_out(format!("{missing} events that came faster than they were read, and what they belonged to"));
            // What was missed may have been the end of any of these.
            for index in std::mem::take(&mut self.open).into_values() {
                self.ended[index] = false;
            }
        }
        self.next_number = Some(activity.number + 1);
        let (instance, at_ms) = (activity.instance, activity.at_ms);
        match &activity.event {
            ActivityEvent::Message { topic, payload, content_type, metadata, attempt: 1 } => {
                let Some(written) = self.given(instance, topic, payload) else { return };
                self.given.insert((topic.clone(), payload.start.clone()));
                let message = Message {
                    topic: topic.clone(),
                    payload: written,
                    content_type: content_type.clone(),
                    metadata: metadata.iter().cloned().collect(),
                };
                self.begin(instance, at_ms, Step { message: Some(message), ..Step::default() });
            }
            ActivityEvent::Call { procedure, payload, .. } => {
                let Some(payload) = self.given(instance, procedure, payload) else { return };
                let call = Call { procedure: procedure.clone(), payload, timeout: None };
                self.begin(instance, at_ms, Step { call: Some(call), ..Step::default() });
            }
            ActivityEvent::Message { topic, payload, .. } => {
                if self.given.contains(&(topic.clone(), payload.start.clone())) {
                    self.let_happen(instance, at_ms);
                } else {
                    self.open.remove(&instance);
                    self.leave_out(format!("what came of messages on {topic} that it had been given before"));
                }
            }
            ActivityEvent::Settings { keys } => {
                self.leave_out(format!(
                    "that its settings changed ({}); add that as a step with config",
                    keys.join(", ")
                ));
            }
            ActivityEvent::Tick { .. } => self.let_happen(instance, at_ms),
            event => self.expect(instance, event),
        }
    }

    /// The payload of something that it is given, if all of it is known.
    fn given(&mut self, instance: u32, name: &Topic, payload: &Sample) -> Option<Payload> {
        if payload.is_whole() {
            return Some(Payload::exactly(&payload.start));
        }
        self.open.remove(&instance);
        self.leave_out(format!("what came of {} bytes on {name}, which are too many for a scenario", payload.bytes));
        None
    }

    fn begin(&mut self, instance: u32, at_ms: u64, step: Step) {
        let behind = self.behind(at_ms);
        if self.passes_time && !behind.is_zero() {
            self.advance(behind);
        }
        let calls = self.expects_calls.then(Vec::new);
        self.push(Step { publishes: Some(Vec::new()), calls, ..step });
        self.open.insert(instance, self.ended.len() - 1);
    }

    /// What nobody gives it comes when it is time: a step in which time passes up to this moment.
    fn let_happen(&mut self, instance: u32, at_ms: u64) {
        let behind = self.behind(at_ms);
        match self.recording.scenario.steps.last() {
            // Before the first thing that it is given.
            None => return,
            // At the same time as another one.
            Some(last) if last.advance.is_some() && behind.is_zero() => {}
            Some(_) => self.advance(behind.max(REST)),
        }
        let index = self.ended.len() - 1;
        self.recording.scenario.steps[index].publishes.get_or_insert_default();
        self.ended[index] = false;
        self.open.insert(instance, index);
    }

    /// By how much the time that passes in the scenario lags behind.
    fn behind(&mut self, at_ms: u64) -> Duration {
        let begun_ms = *self.begun_ms.get_or_insert(at_ms);
        Duration::from_millis(at_ms.saturating_sub(begun_ms).saturating_sub(self.passed_ms))
    }

    fn advance(&mut self, time: Duration) {
        self.passed_ms += u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.push(Step { advance: Some(Timing(time)), ..Step::default() });
    }

    fn push(&mut self, step: Step) {
        // After each step the scenario rests.
        self.passed_ms += u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
        // Time that passes has no end; what comes when it is time has.
        self.ended.push(step.advance.is_some());
        self.recording.scenario.steps.push(step);
    }

    /// Something that the plugin did, or that came of it.
    fn expect(&mut self, instance: u32, event: &ActivityEvent) {
        // What happens before the first thing that it is given belongs to no step.
        let Some(index) = self.open.get(&instance).copied() else { return };
        let step = &mut self.recording.scenario.steps[index];
        match event {
            ActivityEvent::Publish { topic, payload, retain } => {
                let published =
                    Published { topic: topic.clone(), payload: expected(payload), retain: retain.then_some(true) };
                step.publishes.get_or_insert_default().push(published);
            }
            ActivityEvent::Handled { outcome } => {
                if step.message.is_some() {
                    step.outcome = Some(outcome.word().to_owned());
                }
                self.ended[index] = true;
                // What it does between two handlers belongs to no step.
                self.open.remove(&instance);
            }
            ActivityEvent::Answered { outcome, .. } => {
                step.reply = Some(reply(outcome));
                self.ended[index] = true;
                self.open.remove(&instance);
            }
            ActivityEvent::OutgoingCall { procedure, payload } => {
                let call = Call { procedure: procedure.clone(), payload: expected(payload), timeout: None };
                step.calls.get_or_insert_default().push(call);
            }
            ActivityEvent::OutgoingCallEnded { procedure, outcome } => self.answer(index, procedure, outcome),
            _ => {}
        }
    }

    /// What somebody answered, who answers so from here on.
    fn answer(&mut self, index: usize, procedure: &Topic, outcome: &CallOutcome) {
        let answer = match outcome {
            CallOutcome::Answer(payload) if payload.is_whole() => {
                Answer { payload: Payload::of(&payload.start), ..Answer::default() }
            }
            CallOutcome::Error { code, .. } => Answer { error: Some(code.clone()), ..Answer::default() },
            CallOutcome::Answer(payload) => {
                let bytes = payload.bytes;
                return self.leave_out(format!("an answer of {bytes} bytes from {procedure}, too many for a scenario"));
            }
            CallOutcome::Failed(error) => {
                return self.leave_out(format!("that {procedure} did not answer ({error})"));
            }
        };
        match self.answers.insert(procedure.clone(), answer.clone()) {
            None => drop(self.recording.scenario.answers.insert(procedure.clone(), answer)),
            Some(before) if before == answer => {}
            Some(_) => {
                let step = &mut self.recording.scenario.steps[index];
                let calls = step.calls.iter().flatten().filter(|call| call.procedure == *procedure).count();
                step.answers.insert(procedure.clone(), answer);
                if calls > 1 {
                    self.leave_out(format!("that {procedure} answered differently within step {}", index + 1));
                }
            }
        }
    }

    fn leave_out(&mut self, what: String) {
        if !self.recording.left_out.contains(&what) {
            self.recording.left_out.push(what);
        }
    }

    /// Without what had not come to its end: nothing can be expected of it.
    fn finish(mut self) -> Recording {
        if self.ended.contains(&false) {
            self.leave_out("what was still being handled".to_owned());
        }
        let mut ended = self.ended.iter();
        self.recording.scenario.steps.retain(|_| ended.next() == Some(&true));
        self.recording
    }
}

/// A payload that the plugin has sent; anything, when it is too long to be kept.
fn expected(payload: &Sample) -> Payload {
    if payload.is_whole() { Payload::of(&payload.start) } else { Payload::default() }
}

fn reply(outcome: &CallOutcome) -> Reply {
    match outcome {
        CallOutcome::Answer(payload) => Reply { payload: expected(payload), ..Reply::default() },
        CallOutcome::Error { code, .. } => Reply { error: Some(code.clone()), ..Reply::default() },
        CallOutcome::Failed(error) => Reply { fails: Some(error.clone()), ..Reply::default() },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use macula_runtime::HandlerOutcome;

    use super::*;

    fn sample(text: &str) -> Sample {
        Sample { start: text.as_bytes().to_vec(), bytes: text.len() }
    }

    fn message(topic: &str, text: &str, attempt: u32) -> ActivityEvent {
        ActivityEvent::Message {
            topic: topic.parse().unwrap(),
            payload: sample(text),
            content_type: String::new(),
            metadata: Vec::new(),
            attempt,
        }
    }

    fn handled(outcome: HandlerOutcome) -> ActivityEvent {
        ActivityEvent::Handled { outcome }
    }

    fn publish(topic: &str, text: &str) -> ActivityEvent {
        ActivityEvent::Publish { topic: topic.parse().unwrap(), payload: sample(text), retain: false }
    }

    fn call(procedure: &str, text: &str) -> ActivityEvent {
        ActivityEvent::Call { procedure: procedure.parse().unwrap(), payload: sample(text), time_left_ms: 5000 }
    }

    fn answered(outcome: CallOutcome) -> ActivityEvent {
        ActivityEvent::Answered { procedure: "p".parse().unwrap(), outcome }
    }

    fn asks(procedure: &str, answer: &str) -> [ActivityEvent; 2] {
        let procedure: Topic = procedure.parse().unwrap();
        let outcome = CallOutcome::Answer(sample(answer));
        [
            ActivityEvent::OutgoingCall { procedure: procedure.clone(), payload: sample("1") },
            ActivityEvent::OutgoingCallEnded { procedure, outcome },
        ]
    }

    /// At one instance; milliseconds and what happens then.
    fn recording(events: impl IntoIterator<Item = (u64, ActivityEvent)>) -> Recording {
        let numbered = events.into_iter().zip(0..);
        let events: Vec<Activity> = numbered
            .map(|((at_ms, event), number)| Activity { number, at_ms: 1000 + at_ms, instance: 0, event })
            .collect();
        Recording::of(&events)
    }

    /// The steps as they are written.
    fn steps(toml: &str) -> Vec<Step> {
        Scenario::parse(toml, Path::new("expected.toml")).unwrap().steps
    }

    #[test]
    fn what_it_is_given_becomes_steps_and_what_it_does_is_expected() {
        let recording = recording([
            (0, publish("before.the", "first")),
            (5, message("in", "7", 1)),
            (6, publish("out", "{\"n\":7}")),
            (7, handled(HandlerOutcome::Ack)),
            (900, call("p", "x")),
            (901, answered(CallOutcome::Error { code: "no".into(), message: "not today".into() })),
        ]);
        let expected = steps(
            r#"
            [[steps]]
            message = { topic = "in", json = 7 }
            publishes = [{ topic = "out", json = { n = 7 } }]
            outcome = "ack"
            [[steps]]
            call = { procedure = "p", text = "x" }
            publishes = []
            reply = { error = "no" }
            "#,
        );
        assert_eq!((recording.scenario.steps, recording.left_out), (expected, Vec::<String>::new()));
    }

    #[test]
    fn time_passes_where_something_is_due() {
        let recording = recording([
            (0, message("in", "7", 1)),
            (1, handled(HandlerOutcome::Retry)),
            (1001, message("in", "7", 2)),
            (1002, publish("out", "7")),
            (1002, handled(HandlerOutcome::Ack)),
            (1500, message("in", "8", 1)),
            (1501, handled(HandlerOutcome::Ack)),
            (2000, ActivityEvent::Tick { timer: "second".into() }),
            (2000, publish("out", "tick")),
            (2001, handled(HandlerOutcome::Ack)),
        ]);
        let expected = steps(
            r#"
            [[steps]]
            message = { topic = "in", json = 7 }
            publishes = []
            outcome = "retry"
            [[steps]]
            advance = "1s"
            publishes = [{ topic = "out", json = 7 }]
            [[steps]]
            advance = "498ms"
            [[steps]]
            message = { topic = "in", json = 8 }
            publishes = []
            outcome = "ack"
            [[steps]]
            advance = "498ms"
            publishes = [{ topic = "out", text = "tick" }]
            "#,
        );
        assert_eq!(recording.scenario.steps, expected);
    }

    #[test]
    fn what_others_answer_is_kept_and_changes_with_the_step() {
        let handled = || (3, handled(HandlerOutcome::Ack));
        let [ask, told] = asks("stock.count", "3");
        let [ask_again, told_same] = asks("stock.count", "3");
        let [ask_last, told_new] = asks("stock.count", "4");
        let recording = recording([
            (1, message("in", "1", 1)),
            (1, ask),
            (2, told),
            handled(),
            (3, message("in", "2", 1)),
            (3, ask_again),
            (3, told_same),
            handled(),
            (3, message("in", "3", 1)),
            (3, ask_last),
            (3, told_new),
            handled(),
        ]);
        let answers = &recording.scenario.answers[&"stock.count".parse::<Topic>().unwrap()];
        assert_eq!(answers.payload, Payload::of(b"3"));
        let changed: Vec<usize> = recording.scenario.steps.iter().map(|step| step.answers.len()).collect();
        assert_eq!(changed, [0, 0, 1]);
        assert_eq!(recording.scenario.steps[0].calls.as_ref().unwrap()[0].payload, Payload::of(b"1"));
        assert_eq!(recording.left_out, Vec::<String>::new());
    }

    #[test]
    fn what_a_scenario_cannot_say_is_said() {
        let long = Sample { start: vec![0; 10], bytes: 1 << 20 };
        let mut events = vec![
            (0, message("in", "1", 1)),
            (0, ActivityEvent::OutgoingCall { procedure: "gone".parse().unwrap(), payload: sample("") }),
            (
                1,
                ActivityEvent::OutgoingCallEnded {
                    procedure: "gone".parse().unwrap(),
                    outcome: CallOutcome::Failed("not found".into()),
                },
            ),
            (1, handled(HandlerOutcome::Ack)),
        ];
        let topic = "in".parse().unwrap();
        let (content_type, metadata) = (String::new(), Vec::new());
        events.push((2, ActivityEvent::Message { topic, payload: long, content_type, metadata, attempt: 1 }));
        events.push((2, publish("out", "of what is left out")));
        events.push((2, handled(HandlerOutcome::Ack)));
        events.push((3, message("in", "unfinished", 1)));
        let recording = recording(events);
        assert_eq!(recording.scenario.steps.len(), 1);
        assert!(recording.left_out[0].contains("gone did not answer (not found)"), "{:?}", recording.left_out);
        assert!(recording.left_out[1].contains("1048576 bytes on in"), "{:?}", recording.left_out);
        assert_eq!(recording.left_out[2], "what was still being handled");
    }

    #[test]
    fn what_happens_between_two_handlers_belongs_to_none() {
        let recording = recording([
            (0, message("in", "1", 1)),
            (0, handled(HandlerOutcome::Reject)),
            // As `health` may, or what it says when rights change.
            (0, publish("out", "by itself")),
            (0, ActivityEvent::Tick { timer: "now".into() }),
            (0, publish("out", "of the tick")),
            (0, handled(HandlerOutcome::Ack)),
            (0, publish("out", "by itself again")),
        ]);
        let expected = steps(
            r#"
            [[steps]]
            message = { topic = "in", json = 1 }
            publishes = []
            outcome = "reject"
            [[steps]]
            advance = "1ms"
            publishes = [{ topic = "out", text = "of the tick" }]
            "#,
        );
        assert_eq!(recording.scenario.steps, expected);
    }

    #[test]
    fn what_is_tried_again_was_given_before() {
        let recording = recording([
            (0, message("in", "of before", 3)),
            (0, publish("out", "of before")),
            (1, handled(HandlerOutcome::Ack)),
            (2, message("in", "1", 1)),
            (2, handled(HandlerOutcome::Ack)),
        ]);
        assert_eq!(recording.scenario.steps.len(), 1);
        assert_eq!(recording.left_out, ["what came of messages on in that it had been given before"]);
    }

    #[test]
    fn instances_have_their_steps_to_themselves() {
        let at = |number, instance, event| Activity { number, at_ms: 1000, instance, event };
        let recording = Recording::of(&[
            at(0, 0, message("in", "1", 1)),
            at(1, 1, message("in", "2", 1)),
            at(2, 0, publish("out", "1")),
            at(3, 1, publish("out", "2")),
            at(4, 1, handled(HandlerOutcome::Ack)),
            at(5, 0, handled(HandlerOutcome::Ack)),
        ]);
        let published = |step: &Step| step.publishes.as_ref().unwrap()[0].payload.clone();
        let steps = &recording.scenario.steps;
        assert_eq!((published(&steps[0]), published(&steps[1])), (Payload::of(b"1"), Payload::of(b"2")));
        assert_eq!(recording.left_out, Vec::<String>::new());
    }

    #[test]
    fn what_was_missed_is_not_taken_for_nothing() {
        let at = |number, event| Activity { number, at_ms: 1000, instance: 0, event };
        let recording = Recording::of(&[
            at(0, message("in", "1", 1)),
            at(1, handled(HandlerOutcome::Ack)),
            at(2, message("in", "2", 1)),
            // Its end and the beginning of another are missing.
            at(6, publish("out", "3")),
            at(7, handled(HandlerOutcome::Ack)),
            at(8, message("in", "4", 1)),
            at(9, handled(HandlerOutcome::Ack)),
        ]);
        let given: Vec<_> = recording.scenario.steps.iter().map(|step| step.message.clone().unwrap().payload).collect();
        assert_eq!(given, [Payload::of(b"1"), Payload::of(b"4")]);
        assert!(recording.left_out[0].starts_with("3 events that came faster"), "{:?}", recording.left_out);
    }
}
