//! The plugin contract as Rust types: what `bindgen!` makes of `wit/`, and what it cannot make.
//!
//! Host functions that may wait are async, all others plain. An error that the guest sees and a fault that ends the
//! guest stay apart: host functions return [`HostError`](crate::host::HostError), which is either.
//!
//! [`MessageRef`] and [`RequestRef`] are `types.message` and `types.request` that borrow: handing a message to a guest
//! then copies it once, into the guest's memory, and allocates nothing here.

#[allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::needless_pass_by_value, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../../wit",
        world: "plugin",
        imports: {
            "macula:plugin/pubsub.publish": async | trappable,
            "macula:plugin/pubsub.subscribe": async | trappable,
            "macula:plugin/pubsub.retained": async | trappable,
            "macula:plugin/rpc.call": async | trappable,
            "macula:plugin/rpc.advertise": async | trappable,
            "macula:plugin/content.put": async | trappable,
            "macula:plugin/content.create": async | trappable,
            "macula:plugin/content.open": async | trappable,
            "macula:plugin/content.fetch-all": async | trappable,
            "macula:plugin/content.has": async | trappable,
            "macula:plugin/content.pin": async | trappable,
            "macula:plugin/content.unpin": async | trappable,
            "macula:plugin/content.[method]blob.read": async | trappable,
            "macula:plugin/content.[method]writer.write": async | trappable,
            "macula:plugin/content.[static]writer.finish": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        trappable_error_type: {
            "macula:plugin/types.error" => crate::host::HostError,
            "macula:plugin/rpc.call-error" => crate::host::CallFailure,
        },
        with: {
            "macula:plugin/pubsub.subscription": crate::host::pubsub::SubscriptionHandle,
            "macula:plugin/rpc.advertisement": crate::host::rpc::AdvertisementHandle,
            "macula:plugin/content.blob": crate::host::content::BlobHandle,
            "macula:plugin/content.writer": crate::host::content::WriterHandle,
            "macula:plugin/content.fetch": crate::host::content::FetchHandle,
        },
    });
}

use wasmtime::component::{ComponentType, Lower};

pub(crate) use self::generated::{
    Plugin,
    exports::macula::plugin::{call_handler, config_handler, lifecycle, message_handler, state_handler, timer_handler},
    macula::plugin::{config, content, identity, kv, log, pubsub, rpc, timers, trace, types},
};

/// `types.message`, borrowed.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct MessageRef<'a> {
    #[component(name = "topic")]
    pub(crate) topic: &'a str,
    #[component(name = "payload")]
    pub(crate) payload: &'a [u8],
    #[component(name = "content-type")]
    pub(crate) content_type: &'a str,
    #[component(name = "publisher")]
    pub(crate) publisher: &'a str,
    #[component(name = "epoch")]
    pub(crate) epoch: u64,
    #[component(name = "seq")]
    pub(crate) seq: u64,
    #[component(name = "timestamp-ms")]
    pub(crate) timestamp_ms: u64,
    #[component(name = "attempt")]
    pub(crate) attempt: u32,
    #[component(name = "retained")]
    pub(crate) retained: bool,
    #[component(name = "subscription")]
    pub(crate) subscription: u32,
    #[component(name = "metadata")]
    pub(crate) metadata: &'a [(String, String)],
}

/// `types.request`, borrowed.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct RequestRef<'a> {
    #[component(name = "procedure")]
    pub(crate) procedure: &'a str,
    #[component(name = "payload")]
    pub(crate) payload: &'a [u8],
    #[component(name = "content-type")]
    pub(crate) content_type: &'a str,
    #[component(name = "caller")]
    pub(crate) caller: &'a str,
    #[component(name = "time-left-ms")]
    pub(crate) time_left_ms: u32,
    #[component(name = "idempotency-key")]
    pub(crate) idempotency_key: &'a str,
    #[component(name = "metadata")]
    pub(crate) metadata: &'a [(String, String)],
}
