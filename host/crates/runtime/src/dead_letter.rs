//! Messages that no handler could deal with, put aside for a person: published to `_mesh.deadletters.<plugin>`.

use std::sync::Arc;

use macula_wire::{Delivery as Class, Metadata, Pattern, PluginName, Priority, Topic, frame::Extras};

use crate::{log::LogLevel, mailbox::Delivery, mesh::Publication, plugin::PluginCore};

/// How long a dead letter waits for room in the node's queue.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// Of the reason; the rest of the metadata needs room as well.
const REASON_BYTES_MAX: usize = 1024;

/// Where the dead letters of a plugin go; `None` for a name that no plugin can have.
pub fn dead_letter_topic(plugin: &PluginName) -> Option<Topic> {
    format!("_mesh.deadletters.{plugin}").parse().ok()
}

/// The dead letters of all plugins.
pub fn dead_letter_pattern() -> Pattern {
    "_mesh.deadletters.*".parse().expect("a constant of the grammar")
}

impl PluginCore {
    /// Puts a message aside. What cannot be published is logged, with all that names it.
    pub(crate) async fn bury(&self, delivery: &Delivery, reason: &str) {
        self.counters.dead_letters.one();
        let message = &delivery.message;
        self.note(
            LogLevel::Warn,
            format!(
                "dead letter: message {}.{} of {} on {}: {reason}",
                message.epoch,
                message.seq,
                message.publisher.short(),
                message.topic
            ),
        );
        if self.keep(delivery, reason).await {
            self.forget_letter(delivery).await;
        }
        let extras = Extras {
            metadata: Some(Arc::new(letter(delivery, reason))),
            traceparent: message.traceparent.clone(),
            tracestate: message.tracestate.clone(),
            ..Extras::default()
        };
        let Some(topic) = dead_letter_topic(&self.manifest.name) else { return };
        let publishing = self.mesh.publish(Publication {
            topic: &topic,
            payload: &message.payload,
            content_type: &message.content_type,
            delivery: Class::Ordered,
            priority: Priority::Normal,
            retain: false,
            cause_depth: message.cause_depth,
            extras: Some(&extras),
        });
        if let Err(fault) = publishing.within(PATIENCE).await {
            self.note(LogLevel::Error, format!("the dead letter could not be published: {fault}"));
        }
    }
}

impl PluginCore {
    /// A message that was a dead letter is done, one way or another.
    pub(crate) async fn forget_letter(&self, delivery: &Delivery) {
        let Some(id) = delivery.letter else { return };
        let Some(letters) = self.dead_letters.clone() else { return };
        // At worst it is handled once more.
        let _ = tokio::task::spawn_blocking(move || letters.remove(id)).await;
    }

    /// Keeps it on the disk, to be replayed. Whether it is there.
    async fn keep(&self, delivery: &Delivery, reason: &str) -> bool {
        let Some(letters) = self.dead_letters.clone() else { return false };
        let (delivery, reason) = (delivery.clone(), reason.to_owned());
        let keeping =
            tokio::task::spawn_blocking(move || letters.keep(crate::breaker::now_ms(), &delivery, &reason)).await;
        if let Ok(Err(error)) = &keeping {
            self.note(LogLevel::Error, format!("the dead letter could not be kept on the disk: {error}"));
        }
        matches!(keeping, Ok(Ok(())))
    }
}

/// What is known about the message, and what it carried itself as far as there is room.
fn letter(delivery: &Delivery, reason: &str) -> Metadata {
    let message = &delivery.message;
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut pairs: Vec<(String, String)> = [
        ("reason", reason.to_owned()),
        ("topic", message.topic.to_string()),
        ("publisher", message.publisher.to_string()),
        ("plugin", message.plugin.to_string()),
        ("epoch", message.epoch.to_string()),
        ("seq", message.seq.to_string()),
        ("timestamp-ms", message.timestamp_ms.to_string()),
        ("attempts", delivery.attempt.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let own = message.metadata.as_deref().map(Metadata::pairs).unwrap_or_default();
    for pair in own {
        pairs.push(pair.clone());
        // Too many, too long, or a name that is taken: it stays behind.
        if Metadata::new(pairs.clone()).is_err() {
            pairs.pop();
        }
    }
    Metadata::new(pairs).unwrap_or_default()
}
