//! `pubsub`: publish and subscribe.

use std::sync::Arc;

use macula_wire::{
    ContentType, Delivery, Message, Metadata, Operation, Pattern, Priority, Receipt, ReceiptLevel, Topic, Traceparent,
    TraceparentError, Tracestate, WhenFull,
    frame::Extras,
    limits::{PAYLOAD_BYTES_MAX, QUEUE_MESSAGES_MAX},
};
use wasmtime::{
    AsContext, StoreContextMut,
    component::{Linker, Resource, WasmList, WasmStr},
};

use super::{HostError, InstanceState, did};
use crate::{
    activity::{ActivityEvent, Sample},
    bindings::{pubsub, types},
    inspect::Ability,
    mailbox::Joined,
    mesh::{Publication, Publishing, SubscribeOptions},
};

/// A plugin's handle of a subscription. Dropping it changes nothing.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub struct SubscriptionHandle {
    id: u32,
    pattern: Pattern,
}

/// `publish`, without the copies that lifting its arguments would make: topic and payload are read where the guest has
/// them. It takes the place of the generated one.
pub(super) fn link_publish(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    linker.instance("macula:plugin/pubsub@0.1.0")?.func_wrap_async(
        "publish",
        |mut store, (topic, payload, options): (WasmStr, WasmList<u8>, Option<pubsub::PublishOptions>)| {
            store.data_mut().host_calls += 1;
            let begun = begin_in_place(&store, &topic, &payload, options.as_ref());
            Box::new(async move {
                let outcome = match begun? {
                    Ok(publishing) => store.data_mut().finish_publish(publishing).await,
                    Err(error) => Err(error),
                };
                Ok((outcome,))
            })
        },
    )
}

fn begin_in_place(
    store: &StoreContextMut<'_, InstanceState>,
    topic: &WasmStr,
    payload: &WasmList<u8>,
    options: Option<&pubsub::PublishOptions>,
) -> wasmtime::Result<Result<Publishing, types::Error>> {
    let topic = topic.to_str(store)?;
    let payload = payload.as_le_slice(store);
    Ok(store.as_context().data().begin_publish(&topic, payload, options))
}

impl InstanceState {
    /// Checks and hands over. Allocates nothing when the topic is known and there is no metadata.
    fn begin_publish(
        &self,
        topic: &str,
        payload: &[u8],
        options: Option<&pubsub::PublishOptions>,
    ) -> Result<Publishing, types::Error> {
        let mut topics = self.topics.lock();
        let (topic, is_allowed) =
            topics.resolve(&self.plugin.rights, topic).map_err(|error| types::Error::Invalid(error.to_string()))?;
        if !is_allowed {
            return Err(self.denied(Operation::Publish, topic));
        }
        check_payload(payload)?;
        let cause_depth = self.next_cause_depth()?;
        if !self.plugin.quotas.take_publish() {
            return Err(types::Error::QuotaExceeded("publish-per-s".to_owned()));
        }
        let (delivery, retain) = match options {
            Some(options) => (delivery(options.delivery), options.retain),
            None => (Delivery::Ordered, false),
        };
        let (content_type, mut extras) = match options {
            Some(options) => (content_type(&options.content_type)?, extras(&options.metadata)?),
            None => (ContentType::EMPTY, None),
        };
        if self.handling.trace.is_some() || extras.is_some() {
            self.go_on_with_trace(extras.get_or_insert_default());
        }
        let publishing = self.plugin.mesh.publish(Publication {
            topic,
            payload,
            content_type: &content_type,
            delivery,
            priority: Priority::Normal,
            retain,
            cause_depth,
            extras: extras.as_ref(),
        });
        if !matches!(publishing, Publishing::Now(Err(_))) {
            self.note(|| ActivityEvent::Publish { topic: topic.clone(), payload: Sample::of(payload), retain });
        }
        Ok(publishing)
    }

    /// What a handler sends belongs to the trace of what it handles, unless the plugin says otherwise. What was noted about that
    /// trace goes with it, unless the plugin has noted something itself; it does not go with another trace.
    pub(super) fn go_on_with_trace(&self, extras: &mut Extras) {
        if let (Some(trace), None) = (&self.handling.trace, &extras.traceparent) {
            extras.traceparent = Some(trace.clone());
            extras.tracestate = extras.tracestate.take().or_else(|| self.handling.tracestate.clone());
        }
        if extras.traceparent.is_none() {
            extras.tracestate = None;
        }
    }

    async fn finish_publish(&mut self, publishing: Publishing) -> Result<pubsub::Receipt, types::Error> {
        let outcome = match publishing {
            Publishing::Now(outcome) => outcome,
            Publishing::Later(pending) => {
                let patience = self.patience();
                self.wait(patience, pending).await.ok_or(types::Error::Timeout)?
            }
        };
        let receipt = outcome?;
        self.plugin.counters.published.one();
        Ok(receipt.into())
    }

    /// Whether the plugin could handle what it asks for.
    fn require(&self, ability: Ability, what: &str) -> Result<(), types::Error> {
        if self.plugin.program.has(ability) {
            return Ok(());
        }
        Err(types::Error::Invalid(format!("{what} needs the export {}, which this plugin lacks", ability.interface())))
    }

    pub(super) fn require_call_handler(&self) -> Result<(), types::Error> {
        self.require(Ability::CallHandler, "an offer")
    }

    pub(super) fn require_timer_handler(&self) -> Result<(), types::Error> {
        self.require(Ability::TimerHandler, "a timer")
    }

    /// Makes a subscription, or joins the one of an instance before; gives its number.
    async fn open_subscription(
        &mut self,
        pattern: &Pattern,
        options: Option<pubsub::SubscribeOptions>,
    ) -> Result<u32, types::Error> {
        self.require(Ability::MessageHandler, "a subscription")?;
        if !self.plugin.rights.current().allows_all(Operation::Subscribe, pattern) {
            return Err(self.denied(Operation::Subscribe, pattern));
        }
        let options = subscribe_options(options, self.plugin.manifest.limits.queue_messages)?;
        if self.plugin.is_candidate() {
            return self.stage_subscription(pattern, options).await;
        }
        let taken = || Err(types::Error::Conflict(format!("{pattern} is subscribed to already")));
        if self.staged.inboxes.iter().any(|(_, staged, _)| staged == pattern) {
            return taken();
        }
        let id = {
            let mut mailbox = self.plugin.mailbox.lock();
            match mailbox.join_subscription(self.shard as usize, pattern) {
                // One that this instance had, and that ended because the right to it did, may be made again.
                Joined::Yes(id) if self.wanted.patterns.get(pattern) == Some(&id) => return taken(),
                Joined::Yes(id) => return Ok(id),
                Joined::IsManifests => {
                    return Err(types::Error::Conflict(format!("{pattern} is subscribed to by the manifest already")));
                }
                Joined::No => {}
            }
            let max = self.plugin.manifest.limits.subscriptions as usize;
            if mailbox.subscription_count() + self.staged.inboxes.len() >= max {
                return Err(types::Error::QuotaExceeded(format!("subscriptions: {max} are open")));
            }
            mailbox.reserve_id()
        };
        let subscribing = self.plugin.mesh.subscribe(pattern, options);
        let patience = self.patience();
        let inbox = self.wait(patience, subscribing).await.ok_or(types::Error::Timeout)??;
        self.staged.inboxes.push((id, pattern.clone(), inbox));
        Ok(id)
    }
}

impl pubsub::Host for InstanceState {
    async fn publish(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        options: Option<pubsub::PublishOptions>,
    ) -> Result<pubsub::Receipt, HostError> {
        let publishing = self.begin_publish(&topic, &payload, options.as_ref())?;
        Ok(self.finish_publish(publishing).await?)
    }

    async fn subscribe(
        &mut self,
        pattern: String,
        options: Option<pubsub::SubscribeOptions>,
    ) -> Result<Resource<SubscriptionHandle>, HostError> {
        let pattern: Pattern =
            pattern.parse().map_err(|error: macula_wire::TopicError| types::Error::Invalid(error.to_string()))?;
        self.take_handle()?;
        match self.open_subscription(&pattern, options).await {
            Ok(id) => {
                self.wanted.patterns.insert(pattern.clone(), id);
                Ok(self.table.push(SubscriptionHandle { id, pattern })?)
            }
            Err(error) => {
                self.handles -= 1;
                Err(error.into())
            }
        }
    }

    async fn retained(&mut self, topic: String) -> Result<Option<types::Message>, HostError> {
        let topic: Topic =
            topic.parse().map_err(|error: macula_wire::TopicError| types::Error::Invalid(error.to_string()))?;
        if !self.plugin.rights.current().allows(Operation::Subscribe, &topic) {
            return Err(self.denied(Operation::Subscribe, &topic).into());
        }
        let reading = self.plugin.mesh.retained(&topic);
        let patience = self.patience();
        let message = self.wait(patience, reading).await.ok_or(types::Error::Timeout)??;
        Ok(message.map(|message| retained_message(&message)))
    }
}

impl pubsub::HostSubscription for InstanceState {
    fn id(&mut self, handle: Resource<SubscriptionHandle>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&handle)?.id)
    }

    fn pattern(&mut self, handle: Resource<SubscriptionHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.pattern.to_string())
    }

    fn stats(&mut self, handle: Resource<SubscriptionHandle>) -> wasmtime::Result<pubsub::SubscriptionStats> {
        let id = self.table.get(&handle)?.id;
        let status = self.plugin.mailbox.lock().subscription_status(id);
        Ok(match status {
            Some(status) => pubsub::SubscriptionStats {
                delivered: status.delivered,
                dropped: status.dropped,
                queued: status.queued,
            },
            None => pubsub::SubscriptionStats { delivered: 0, dropped: 0, queued: 0 },
        })
    }

    fn unsubscribe(&mut self, handle: Resource<SubscriptionHandle>) -> wasmtime::Result<()> {
        let SubscriptionHandle { id, pattern } = self.table.get(&handle)?;
        // The handle of a subscription that has ended before does nothing to a later one of the same pattern.
        if self.wanted.patterns.get(pattern) == Some(id) {
            self.wanted.patterns.remove(pattern);
            self.staged.inboxes.retain(|(staged, ..)| staged != id);
            if !self.plugin.is_candidate() {
                self.plugin.mailbox.lock().leave_subscription(self.shard as usize, *id);
            }
        }
        Ok(())
    }

    fn drop(&mut self, handle: Resource<SubscriptionHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.handles -= 1;
        Ok(())
    }
}

pub(super) fn check_payload(payload: &[u8]) -> Result<(), types::Error> {
    // The limit is a constant far below 4 GiB.
    if payload.len() > PAYLOAD_BYTES_MAX { Err(types::Error::TooLarge(PAYLOAD_BYTES_MAX as u32)) } else { Ok(()) }
}

pub(super) fn content_type(text: &str) -> Result<ContentType, types::Error> {
    text.parse().map_err(|error: macula_wire::ContentTypeError| types::Error::Invalid(error.to_string()))
}

/// Metadata as the mesh carries it: the trace travels apart.
pub(super) fn extras(metadata: &types::Metadata) -> Result<Option<Extras>, types::Error> {
    if metadata.is_empty() {
        return Ok(None);
    }
    let (mut traceparent, mut tracestate) = (None, None);
    let mut pairs = Vec::with_capacity(metadata.len());
    for (name, value) in metadata {
        match name.as_str() {
            "traceparent" => {
                let trace: Traceparent =
                    value.parse().map_err(|error: TraceparentError| types::Error::Invalid(error.to_string()))?;
                traceparent = Some(trace);
            }
            // The trace is as good without one that is malformed or too long (section 3.3 of Trace Context).
            "tracestate" => tracestate = value.parse::<Tracestate>().ok(),
            _ => pairs.push((name.clone(), value.clone())),
        }
    }
    let metadata = Metadata::new(pairs).map_err(|error| types::Error::Invalid(error.to_string()))?;
    let metadata = (!metadata.is_empty()).then(|| Arc::new(metadata));
    Ok(Some(Extras { metadata, traceparent, tracestate, idempotency_key: None }))
}

fn delivery(delivery: pubsub::Delivery) -> Delivery {
    match delivery {
        pubsub::Delivery::Ordered => Delivery::Ordered,
        pubsub::Delivery::Latest => Delivery::Latest,
        pubsub::Delivery::Acked => Delivery::Acked,
    }
}

fn subscribe_options(
    options: Option<pubsub::SubscribeOptions>,
    queue_messages_default: u32,
) -> Result<SubscribeOptions, types::Error> {
    let Some(options) = options else {
        return Ok(SubscribeOptions {
            when_full: WhenFull::DropOldest,
            queue_messages: queue_messages_default,
            retained: true,
        });
    };
    let queue_messages = options.queue_messages.unwrap_or(queue_messages_default);
    if !(1..=QUEUE_MESSAGES_MAX).contains(&queue_messages) {
        return Err(types::Error::Invalid(format!(
            "queue-messages is 1 to {QUEUE_MESSAGES_MAX}, not {queue_messages}"
        )));
    }
    let when_full = match options.when_full {
        pubsub::WhenFull::DropOldest => WhenFull::DropOldest,
        pubsub::WhenFull::LatestOnly => WhenFull::LatestOnly,
        pubsub::WhenFull::Block => WhenFull::Block,
    };
    Ok(SubscribeOptions { when_full, queue_messages, retained: options.retained })
}

fn retained_message(message: &Message) -> types::Message {
    types::Message {
        topic: message.topic.to_string(),
        payload: message.payload.to_vec(),
        content_type: message.content_type.to_string(),
        publisher: did(&message.publisher),
        epoch: message.epoch,
        seq: message.seq,
        timestamp_ms: message.timestamp_ms,
        attempt: 1,
        retained: true,
        subscription: 0,
        metadata: message.metadata.as_ref().map(|metadata| metadata.pairs().to_vec()).unwrap_or_default(),
    }
}

impl From<Receipt> for pubsub::Receipt {
    fn from(receipt: Receipt) -> Self {
        let level = match receipt.level {
            ReceiptLevel::RelayDisk => pubsub::ReceiptLevel::RelayDisk,
            ReceiptLevel::RelayMemory => pubsub::ReceiptLevel::RelayMemory,
            // A level that this version does not know is promised as the weakest.
            _ => pubsub::ReceiptLevel::Host,
        };
        Self { epoch: receipt.epoch, seq: receipt.seq, level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_travel_apart_from_metadata() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let metadata = vec![("traceparent".to_owned(), traceparent.to_owned()), ("unit".to_owned(), "c".to_owned())];
        let extras = extras(&metadata).unwrap().unwrap();
        assert_eq!(extras.traceparent.as_ref().map(Traceparent::as_str), Some(traceparent));
        assert_eq!(extras.metadata.unwrap().pairs(), [("unit".to_owned(), "c".to_owned())]);
        for (text, kept) in [("rojo=1", Some("rojo=1")), ("", None), ("rojo", None), (&*"a=1,".repeat(200), None)] {
            let extras = super::extras(&vec![("tracestate".to_owned(), text.to_owned())]).unwrap().unwrap();
            assert_eq!(extras.tracestate.as_ref().map(Tracestate::as_str), kept, "{text}");
        }
        for bad in ["", "00-xy", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"] {
            assert!(bad.parse::<Traceparent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_metadata_is_refused() {
        let refused = extras(&vec![("macula-ttl".to_owned(), "1".to_owned())]).unwrap_err();
        assert!(matches!(refused, types::Error::Invalid(text) if text.contains("macula-ttl")));
    }
}
