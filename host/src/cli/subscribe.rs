//! `macula-host subscribe PATTERN [--count N]`

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use macula_node::{
    LinkState, Mesh, Subscribe as Options, Subscription,
    wire::{Message, Operation, Pattern, Traceparent, Tracestate, WhenFull},
};
use serde::Serialize;

use super::{ClientFlags, CommonFlags, client, client_runtime, completion};
use crate::{
    config::{self, Settings},
    failure::{Failure, Kind},
    output::{self, Printer, Unread},
};

#[derive(Debug, Args)]
pub(super) struct Subscribe {
    /// Which topics, for example 'alerts.*' or 'sensors.**' (quote it for the shell)
    #[arg(add = completion::patterns())]
    pattern: Pattern,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long; with --count, too few messages by then are a failure
    #[arg(long = "for", value_name = "DURATION", value_parser = config::duration)]
    span: Option<Duration>,
    /// What happens when messages come faster than they are printed
    #[arg(long, value_enum, default_value = "drop-oldest")]
    when_full: WhenFullFlag,
    /// Messages that may wait
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    queue: u32,
    /// Leave out the stored last values
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhenFullFlag {
    DropOldest,
    LatestOnly,
    Block,
}

/// A message as a line of JSON; a payload that is no text is in base64.
#[derive(Serialize)]
struct MessageLine<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    content_type: &'a str,
    publisher: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    plugin: &'a str,
    epoch: u64,
    seq: u64,
    timestamp_ms: u64,
    retained: bool,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    metadata: std::collections::BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
}

/// Whether there is the right to what is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Held,
    /// It has expired, or was revoked.
    Missing,
}

impl Subscribe {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        let when_full = match self.when_full {
            WhenFullFlag::DropOldest => WhenFull::DropOldest,
            WhenFullFlag::LatestOnly => WhenFull::LatestOnly,
            WhenFullFlag::Block => WhenFull::Block,
        };
        let options = Options { when_full, queue_messages: self.queue, retained: !self.live };
        client_runtime()?.block_on(async {
            let explained = |failure| client::with_grantor(failure, &settings, Operation::Subscribe, &self.pattern);
            let mesh = client::connect(&settings, &client).await.map_err(explained)?;
            let subscribed = mesh.subscribe_with(self.pattern.clone(), options).await;
            let mut subscription = subscribed.map_err(|fault| explained(fault.into()))?;
            if common.json {
                output::note(serde_json::json!({ "subscribed": self.pattern.as_str(), "realm": mesh.realm() }));
            } else {
                output::note(format!("subscribed to {} in {}", self.pattern, mesh.realm()));
            }
            let printer = Printer::to_stdout()?;
            let ended = self.print(&mut subscription, &mesh, &printer, common).await;
            let dropped = subscription.stats().dropped;
            if dropped > 0 {
                output::note(format!(
                    "{dropped} messages were dropped because they came faster than they were printed"
                ));
            }
            drop(subscription);
            // Nothing that would be sent matters to a relay that has gone.
            if matches!(*mesh.link().borrow(), LinkState::Up(_)) {
                mesh.close().await;
            }
            match ended {
                Ended::Interrupted => output::finish_soon(printer).await,
                Ended::Done | Ended::Failed(_) => output::finish(printer).await,
            }
            match ended {
                Ended::Failed(failure) => Err(failure),
                Ended::Done | Ended::Interrupted => Ok(()),
            }
        })
    }

    async fn print(
        &self,
        subscription: &mut Subscription,
        mesh: &Mesh,
        printer: &Printer,
        common: &CommonFlags,
    ) -> Ended {
        let (mut printed, mut outage, mut right) = (0, Outage::default(), Right::Held);
        let (mut link, mut permissions) = (mesh.link(), mesh.permissions());
        link.mark_unchanged();
        permissions.mark_unchanged();
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let end = async {
            match self.span {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        while self.count.is_none_or(|count| printed < count) {
            let message = tokio::select! {
                biased;
                _ = &mut interrupted => return Ended::Interrupted,
                message = subscription.next() => message,
                Ok(()) = link.changed() => {
                    let change = match &*link.borrow_and_update() {
                        LinkState::Up(_) => LinkChange::Back,
                        LinkState::Down { reason, .. } => LinkChange::Lost(reason.clone()),
                        LinkState::Closed => continue,
                    };
                    if let Some(text) = outage.noted(change, mesh.last_heard(), Instant::now()) {
                        note(&text, common);
                    }
                    continue;
                }
                Ok(()) = permissions.changed() => {
                    let is_held = permissions.borrow_and_update().covers(Operation::Subscribe, &self.pattern);
                    right = self.note_right(right, if is_held { Right::Held } else { Right::Missing }, common);
                    continue;
                }
                () = printer.unread() => return Ended::Done,
                () = &mut end => return self.ended(printed),
            };
            // The handle is here: what has ended is the right.
            let Some(message) = message else {
                let denied = format!("the right to subscribe to {} has ended: it was revoked", self.pattern);
                return Ended::Failed(Failure::new(Kind::Denied, denied));
            };
            // It waits for whoever reads, and with it the subscription; the link does not.
            tokio::select! {
                biased;
                _ = &mut interrupted => return Ended::Interrupted,
                outcome = print_message(&message, printer, common) => {
                    // Whoever read the output is gone: nothing is left to do.
                    if outcome == Err(Unread) {
                        return Ended::Done;
                    }
                }
            }
            printed += 1;
        }
        Ended::Done
    }

    /// What is published meanwhile is missing, and whoever reads has to know.
    fn note_right(&self, before: Right, now: Right, common: &CommonFlags) -> Right {
        let text = match (before, now) {
            (Right::Held, Right::Missing) => format!("the right to subscribe to {} has ended", self.pattern),
            (Right::Missing, Right::Held) => {
                format!(
                    "the right to subscribe to {} is renewed; messages of the time between are missing",
                    self.pattern
                )
            }
            _ => return now,
        };
        note(&text, common);
        now
    }

    fn ended(&self, printed: u64) -> Ended {
        match self.count {
            Some(count) => {
                let text = format!("{printed} of {count} messages came in time");
                Ended::Failed(Failure::new(Kind::Unreachable, text))
            }
            None => Ended::Done,
        }
    }
}

/// Why no more messages are printed.
enum Ended {
    /// All were, or nobody reads any more.
    Done,
    /// By whoever started it.
    Interrupted,
    Failed(Failure),
}

/// What has become of the link.
enum LinkChange {
    /// It is gone, and why.
    Lost(String),
    Back,
}

/// What was published while there is no link may be missing, and whoever reads has to know. The time counts from when the relay
/// was last heard: it may have been silent for a while before that was noticed.
#[derive(Default)]
struct Outage(Option<Instant>);

impl Outage {
    /// What is to be said of a change, if anything is new in it.
    fn noted(&mut self, change: LinkChange, last_heard: Instant, now: Instant) -> Option<String> {
        match (change, self.0) {
            (LinkChange::Lost(reason), None) => {
                self.0 = Some(last_heard);
                Some(format!("the link was lost: {reason}"))
            }
            (LinkChange::Back, Some(since)) => {
                self.0 = None;
                let seconds = now.saturating_duration_since(since).as_secs_f64();
                Some(format!("linked again after {seconds:.1} s; messages of that time may be missing"))
            }
            (LinkChange::Lost(_), Some(_)) | (LinkChange::Back, None) => None,
        }
    }
}

fn note(text: &str, common: &CommonFlags) {
    if common.json {
        output::note(serde_json::json!({ "note": text }));
    } else {
        output::note(text);
    }
}

async fn print_message(message: &Message, printer: &Printer, common: &CommonFlags) -> Result<(), Unread> {
    let text = std::str::from_utf8(&message.payload).ok();
    if !common.json {
        return match text {
            Some(text) => printer.line(format_args!("{} {}", message.topic, output::readable(text))).await,
            None => printer.line(format_args!("{} <{} bytes>", message.topic, message.payload.len())).await,
        };
    }
    let pairs = message.metadata.iter().flat_map(|metadata| metadata.pairs());
    let line = MessageLine {
        topic: &message.topic,
        payload: text,
        payload_base64: text.is_none().then(|| base64(&message.payload)),
        content_type: message.content_type.as_str(),
        publisher: message.publisher.to_string(),
        plugin: message.plugin.as_str(),
        epoch: message.epoch,
        seq: message.seq,
        timestamp_ms: message.timestamp_ms,
        retained: message.retained,
        metadata: pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        traceparent: message.traceparent.as_ref().map(Traceparent::as_str),
        tracestate: message.tracestate.as_ref().map(Tracestate::as_str),
    };
    printer.json(&line).await
}

fn base64(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: who reads is told how long messages may be missing, from when the relay was last heard.
    #[test]
    fn an_outage_counts_from_what_was_last_heard() {
        let heard = Instant::now();
        let at = |seconds| heard + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        assert_eq!(outage.noted(LinkChange::Back, heard, heard), None, "there was none");
        let lost = outage.noted(LinkChange::Lost("no answer".into()), heard, at(8));
        assert_eq!(lost.as_deref(), Some("the link was lost: no answer"));
        assert_eq!(outage.noted(LinkChange::Lost("still none".into()), heard, at(9)), None);
        let back = outage.noted(LinkChange::Back, at(9), at(9)).unwrap();
        assert!(back.starts_with("linked again after 9.0 s"), "{back}");
    }
}
