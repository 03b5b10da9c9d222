//! What happens at a plugin, as a line for people.

use macula_runtime::{ActivityEvent, CallOutcome, HandlerOutcome, Sample};

use crate::output::readable;

/// Bytes of a payload that are shown.
const SHOWN_MAX: usize = 200;

/// The line; none for what goes without saying.
pub(super) fn event_line(event: &ActivityEvent) -> Option<String> {
    let (sign, name, shown) = match event {
        ActivityEvent::Message { topic, payload, .. } => ("message", topic.as_str(), shown(payload)),
        ActivityEvent::Handled { outcome: HandlerOutcome::Ack } => return None,
        ActivityEvent::Handled { outcome } => ("outcome", outcome.word(), String::new()),
        ActivityEvent::Call { procedure, payload, .. } => ("call", procedure.as_str(), shown(payload)),
        ActivityEvent::Answered { procedure, outcome } => ("answer", procedure.as_str(), ended(outcome)),
        ActivityEvent::Settings { keys } => ("settings", "have changed:", keys.join(", ")),
        ActivityEvent::Tick { timer } => ("tick", timer.as_str(), String::new()),
        ActivityEvent::Publish { topic, payload, .. } => ("publish", topic.as_str(), shown(payload)),
        ActivityEvent::OutgoingCall { procedure, payload } => ("calls", procedure.as_str(), shown(payload)),
        ActivityEvent::OutgoingCallEnded { procedure, outcome } => ("is told", procedure.as_str(), ended(outcome)),
        // One that this view does not know yet.
        _ => return None,
    };
    Some(format!("{sign:<7} {} {shown}", readable(name)).trim_end().to_owned())
}

fn ended(outcome: &CallOutcome) -> String {
    match outcome {
        CallOutcome::Answer(answer) => shown(answer),
        CallOutcome::Error { code, message } => format!("failed: {}: {}", readable(code), readable(message)),
        CallOutcome::Failed(error) => format!("failed: {}", readable(error)),
    }
}

fn shown(payload: &Sample) -> String {
    match std::str::from_utf8(&payload.start) {
        Ok(text) if payload.bytes <= SHOWN_MAX => readable(text).into_owned(),
        Ok(text) => {
            let cut: String = text.chars().take(SHOWN_MAX).collect();
            format!("{}… ({} bytes)", readable(&cut), payload.bytes)
        }
        Err(_) => format!("({} bytes)", payload.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &[u8]) -> Sample {
        Sample { start: text.to_vec(), bytes: text.len() }
    }

    #[test]
    fn a_line_says_what_happened_and_with_what() {
        let topic = "a.b".parse().unwrap();
        let event = ActivityEvent::Publish { topic, payload: sample(b"{\"n\":1}"), retain: false };
        assert_eq!(event_line(&event).unwrap(), "publish a.b {\"n\":1}");
        let outcome = CallOutcome::Error { code: "no-such-room".into(), message: "there is none".into() };
        let event = ActivityEvent::Answered { procedure: "p.q".parse().unwrap(), outcome };
        assert_eq!(event_line(&event).unwrap(), "answer  p.q failed: no-such-room: there is none");
        assert_eq!(event_line(&ActivityEvent::Tick { timer: "minute".into() }).unwrap(), "tick    minute");
        assert_eq!(event_line(&ActivityEvent::Handled { outcome: HandlerOutcome::Ack }), None);
    }

    #[test]
    fn long_payloads_are_cut_and_others_counted() {
        assert_eq!(shown(&sample(&[0xff; 3])), "(3 bytes)");
        let long = "x".repeat(300);
        assert_eq!(shown(&sample(long.as_bytes())), format!("{}… (300 bytes)", "x".repeat(SHOWN_MAX)));
    }
}
