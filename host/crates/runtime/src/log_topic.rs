//! Logs for those who are elsewhere: entries published to `_mesh.logs.<plugin>`, as JSON ([`LogLine`](crate::LogLine)),
//! where whoever runs the host wants that. What cannot be published is not waited for long; a gap in the entries' numbers
//! tells.

use std::{sync::Arc, time::Duration};

use macula_wire::{ContentType, Delivery, Pattern, PluginName, Priority, Topic, limits::CAUSE_DEPTH_MAX};
use tokio::{sync::Notify, task::JoinHandle};
use tracing::Instrument;

use crate::{
    log::{LogLevel, LogLine, PluginLog},
    mesh::{Mesh, Publication},
};

/// How long an entry waits for room in the node's queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the log of a plugin is published; `None` for a name that no plugin can have.
pub fn log_topic(plugin: &PluginName) -> Option<Topic> {
    format!("_mesh.logs.{plugin}").parse().ok()
}

/// The logs of all plugins.
pub fn log_pattern() -> Pattern {
    "_mesh.logs.*".parse().expect("a constant of the grammar")
}

/// Publishes a plugin's log until it is finished or dropped.
pub(crate) struct LogPublisher {
    task: JoinHandle<()>,
    end: Arc<Notify>,
}

impl LogPublisher {
    /// Publishes entries from `level` on, from the first that is kept.
    pub(crate) fn start(
        plugin: &PluginName,
        log: Arc<PluginLog>,
        mesh: Arc<dyn Mesh>,
        level: LogLevel,
    ) -> Option<Self> {
        let topic = log_topic(plugin)?;
        let end = Arc::new(Notify::new());
        let ended = Arc::clone(&end);
        let span = tracing::debug_span!("log publisher", %plugin);
        let publishing = async move {
            let mut next = 0;
            let mut is_last = false;
            while !is_last {
                let lines;
                (lines, next) = tokio::select! {
                    biased;
                    () = ended.notified() => {
                        is_last = true;
                        log.lines_from(next)
                    }
                    followed = log.follow(next) => followed,
                };
                let wanted = |line: &&Arc<LogLine>| line.level >= level && line.cause_depth < CAUSE_DEPTH_MAX;
                for line in lines.iter().filter(wanted) {
                    publish(&topic, line, &*mesh).await;
                }
            }
        };
        let task = tokio::spawn(publishing.instrument(span));
        Some(Self { task, end })
    }

    /// Publishes what is left.
    pub(crate) async fn finish(mut self) {
        self.end.notify_one();
        let _ = tokio::time::timeout(PATIENCE, &mut self.task).await;
    }
}

impl Drop for LogPublisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An entry that cannot be published is in the log all the same. To say so there would be one more.
async fn publish(topic: &Topic, line: &LogLine, mesh: &dyn Mesh) {
    let payload = serde_json::to_vec(line).expect("plain data");
    let content_type: ContentType = "application/json".parse().expect("a constant");
    let publishing = mesh.publish(Publication {
        topic,
        payload: &payload,
        content_type: &content_type,
        delivery: Delivery::Ordered,
        priority: Priority::Normal,
        retain: false,
        // One who logs what it reads in logs comes to an end, as with any other feedback.
        cause_depth: line.cause_depth + 1,
        extras: None,
    });
    if let Err(fault) = publishing.within(PATIENCE).await {
        tracing::debug!(%topic, number = line.number, %fault, "a log entry was not published");
    }
}
