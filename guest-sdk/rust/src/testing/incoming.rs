//! What a plugin is given, made by the test.

use crate::{Message, Request};
use std::time::Duration;

/// Who publishes and calls in tests, when the test does not say.
const PEER: &str = "did:key:z6MkfakePeer";

/// A message for [`Host::deliver_message`](super::Host::deliver_message): a first, live delivery from some publisher. Change what matters to the test.
pub fn message(topic: &str, payload: impl AsRef<[u8]>) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: payload.as_ref().to_vec(),
        content_type: String::new(),
        publisher: PEER.to_owned(),
        epoch: 1,
        seq: 0,
        timestamp_ms: 0,
        attempt: 1,
        retained: false,
        subscription: 0,
        metadata: Vec::new(),
    }
}

/// A call for [`Host::call_request`](super::Host::call_request), from some caller who waits 5 s. Change what matters to the test.
pub fn request(procedure: &str, payload: impl AsRef<[u8]>) -> Request {
    Request {
        procedure: procedure.to_owned(),
        payload: payload.as_ref().to_vec(),
        content_type: String::new(),
        caller: PEER.to_owned(),
        time_left: Duration::from_secs(5),
        idempotency_key: String::new(),
        metadata: Vec::new(),
    }
}
