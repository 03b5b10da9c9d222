//! What can be told about a running plugin: state, counters, queues.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use macula_wire::{Mcid, PluginName};
use serde::{Deserialize, Serialize};

use crate::latency::{Latencies, Latency};

/// Where a plugin is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PluginState {
    /// `init` has not returned yet.
    Starting,
    /// Handles what comes.
    Running,
    /// Has crashed, or its `init` is not ready yet: the next try is waiting for its time.
    BackingOff,
    /// Idle, and its memory given back; the next message, call or tick brings it back.
    Evicted,
    /// Given up after too many crashes; somebody has to see to it.
    Failed,
    /// Stopped by somebody.
    Stopped,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What has been counted since the plugin started.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, while counting.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            pub(crate) message_latency: Latency,
            pub(crate) call_latency: Latency,
            pub(crate) tick_latency: Latency,
        }

        impl Counters {
            pub(crate) fn metrics(&self) -> Metrics {
                Metrics { $($name: self.$name.value(),)* }
            }

            pub(crate) fn latencies(&self) -> Latencies {
                Latencies {
                    messages: self.message_latency.histogram(),
                    calls: self.call_latency.histogram(),
                    ticks: self.tick_latency.histogram(),
                }
            }
        }
    };
}

counters! {
    /// Messages handled to the end, whatever the handler said.
    messages,
    /// Calls answered, with an answer or a handler's error.
    calls,
    /// Ticks of timers handled.
    ticks,
    /// Messages published.
    published,
    /// Messages that a handler asked to have again.
    retries,
    /// Messages that a handler refused for good.
    rejected,
    /// Messages put aside for a person to look at.
    dead_letters,
    /// Errors returned by handlers.
    errors,
    /// Instances ended by a trap or by running out of time.
    traps,
    /// Instances begun after the first.
    restarts,
    /// Things asked for without the right to them.
    denied,
    /// Messages dropped because a subscription's queue was full.
    dropped,
    /// Log entries above the quota.
    log_dropped,
    /// Functions of the host that the plugin has called.
    host_calls,
    /// Instances let go because they were idle.
    evictions,
    /// Time that the plugin's own code has run, in nanoseconds.
    guest_ns,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One subscription or offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionStatus {
    /// The number that messages carry; 0 for those of the manifest.
    pub id: u32,
    /// What is received.
    pub pattern: String,
    /// Handed to a handler, each once.
    pub delivered: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Waiting now.
    pub queued: u32,
}

/// A plugin at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: PluginName,
    /// Its version; empty when it has none.
    pub version: String,
    /// The component it runs.
    pub mcid: Mcid,
    /// Where it is in its life.
    pub state: PluginState,
    /// Why, when it is backing off or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it last said about its health, when that was not `healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// How this version lost the state of an instance the last time, while it was to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_state: Option<String>,
    /// Instances it has.
    pub instances: u32,
    /// Linear memory of all instances.
    pub memory_bytes: u64,
    /// What it receives.
    pub subscriptions: Vec<SubscriptionStatus>,
    /// What it offers.
    pub procedures: Vec<String>,
    /// Timers set.
    pub timers: u32,
    /// Messages taken and waiting: for a retry, or behind one.
    pub held_messages: u32,
    /// What it may do, by operation: `publish` and so on.
    #[serde(default)]
    pub granted: BTreeMap<String, Vec<String>>,
    /// What has been counted.
    pub metrics: Metrics,
    /// How long its handlers took.
    #[serde(default)]
    pub latencies: Latencies,
}

/// Linear memory, by instance.
#[derive(Debug)]
pub(crate) struct MemoryGauges(Vec<Arc<AtomicU64>>);

impl MemoryGauges {
    pub(crate) fn new(instances: u32) -> Self {
        Self((0..instances).map(|_| Arc::default()).collect())
    }

    pub(crate) fn of(&self, shard: u32) -> Arc<AtomicU64> {
        Arc::clone(&self.0[shard as usize])
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|gauge| gauge.load(Ordering::Relaxed)).sum()
    }
}
