//! `rpc`: call procedures and offer them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use macula_wire::{
    CallError, ContentType, Fault, Operation, Topic,
    frame::Extras,
    limits::{CALL_TIMEOUT_MAX, IDEMPOTENCY_KEY_BYTES_MAX},
};
use wasmtime::component::Resource;

use super::{
    CallFailure, HostError, InstanceState,
    pubsub::{check_payload, content_type, extras},
};
use crate::{
    activity::{ActivityEvent, CallOutcome, Sample},
    bindings::{rpc, types},
    mailbox::Joined,
    mesh::Call,
};

/// Without options.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How much later than the mesh this host gives up by itself.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(500);
/// Calls in flight when an offer does not say.
pub(crate) const IN_FLIGHT_DEFAULT: u32 = 64;
/// What an offer may ask for.
const IN_FLIGHT_MAX: u32 = 65_536;

/// A plugin's handle of an offer. Dropping it changes nothing.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub struct AdvertisementHandle {
    procedure: Topic,
}

fn topic(text: &str) -> Result<Topic, types::Error> {
    text.parse().map_err(|error: macula_wire::TopicError| types::Error::Invalid(error.to_string()))
}

impl InstanceState {
    /// Checks a call; an error means that nothing was sent.
    fn prepare_call(
        &self,
        procedure: &str,
        payload: Vec<u8>,
        options: Option<rpc::CallOptions>,
    ) -> Result<Call, types::Error> {
        let procedure = topic(procedure)?;
        if !self.plugin.rights.current().allows(Operation::Call, &procedure) {
            return Err(self.denied(Operation::Call, &procedure));
        }
        check_payload(&payload)?;
        let cause_depth = self.next_cause_depth()?;
        if self.would_call_itself(&procedure) {
            return Err(types::Error::Unavailable(format!(
                "{procedure} is offered by this plugin itself, whose only instance would wait for itself"
            )));
        }
        let (wanted, content_type, mut extras) = call_options(options.as_ref())?;
        self.go_on_with_trace(&mut extras);
        extras.idempotency_key = options
            .map(|options| options.idempotency_key)
            .filter(|key| !key.is_empty())
            .map(|key| Arc::from(key.as_str()));
        let timeout = self.time_left().map_or(wanted, |left| left.min(wanted));
        if timeout.is_zero() {
            return Err(types::Error::Timeout);
        }
        Ok(Call { procedure, payload: Bytes::from(payload), content_type, timeout, cause_depth, extras })
    }

    /// With one instance, which waits, nobody is left to answer. Other providers may exist elsewhere; that the mesh would
    /// choose one of them cannot be known here, and a certain error is better than a possible standstill.
    fn would_call_itself(&self, procedure: &Topic) -> bool {
        self.plugin.manifest.limits.instances == 1
            // The version that runs answers those of one that is to take over.
            && !self.plugin.is_candidate()
            && (self.plugin.mailbox.lock().offers(procedure)
                || self.staged.offers.iter().any(|(offered, _)| offered == procedure))
    }

    async fn open_offer(
        &mut self,
        procedure: &Topic,
        options: Option<rpc::AdvertiseOptions>,
    ) -> Result<(), types::Error> {
        self.require_call_handler()?;
        if !self.plugin.rights.current().allows(Operation::Advertise, procedure) {
            return Err(self.denied(Operation::Advertise, procedure));
        }
        let in_flight_max = advertise_options(options)?;
        if self.plugin.is_candidate() {
            return self.stage_offer(procedure, in_flight_max);
        }
        let taken = || Err(types::Error::Conflict(format!("{procedure} is offered already")));
        if self.staged.offers.iter().any(|(staged, _)| staged == procedure) {
            return taken();
        }
        {
            let mut mailbox = self.plugin.mailbox.lock();
            match mailbox.join_offer(self.shard as usize, procedure) {
                // One that this instance had, and that ended because the right to it did, may be made again.
                Joined::Yes(_) if self.wanted.procedures.contains(procedure) => return taken(),
                Joined::Yes(_) => return Ok(()),
                Joined::IsManifests => {
                    return Err(types::Error::Conflict(format!("{procedure} is offered by the manifest already")));
                }
                Joined::No => {}
            }
            let max = self.plugin.manifest.limits.subscriptions as usize;
            if mailbox.offer_count() + self.staged.offers.len() >= max {
                return Err(types::Error::QuotaExceeded(format!("offers: {max} are open")));
            }
        }
        let advertising = self.plugin.mesh.advertise(procedure, in_flight_max);
        let patience = self.patience();
        let offer = self.wait(patience, advertising).await.ok_or(types::Error::Timeout)??;
        self.staged.offers.push((procedure.clone(), offer));
        Ok(())
    }
}

impl rpc::Host for InstanceState {
    async fn call(
        &mut self,
        procedure: String,
        payload: Vec<u8>,
        options: Option<rpc::CallOptions>,
    ) -> Result<Vec<u8>, CallFailure> {
        let call = self.prepare_call(&procedure, payload, options).map_err(rpc::CallError::NotRun)?;
        let limit = call.timeout + TIMEOUT_MARGIN;
        // Kept only where it is going to be told again.
        let watched = self.plugin.activity.is_watched().then(|| call.procedure.clone());
        self.note(|| ActivityEvent::OutgoingCall {
            procedure: call.procedure.clone(),
            payload: Sample::of(&call.payload),
        });
        let calling = self.plugin.mesh.call(call);
        let outcome = self.wait(limit, calling).await.unwrap_or(Err(CallError::MaybeRun(Fault::Timeout)));
        if let Some(procedure) = watched {
            self.note(|| ActivityEvent::OutgoingCallEnded { procedure, outcome: CallOutcome::of(&outcome) });
        }
        Ok(outcome.map_err(rpc::CallError::from)?.into())
    }

    async fn advertise(
        &mut self,
        procedure: String,
        options: Option<rpc::AdvertiseOptions>,
    ) -> Result<Resource<AdvertisementHandle>, HostError> {
        let procedure = topic(&procedure)?;
        self.take_handle()?;
        match self.open_offer(&procedure, options).await {
            Ok(()) => {
                self.wanted.procedures.insert(procedure.clone());
                Ok(self.table.push(AdvertisementHandle { procedure })?)
            }
            Err(error) => {
                self.handles -= 1;
                Err(error.into())
            }
        }
    }

    fn convert_call_error(&mut self, failure: CallFailure) -> wasmtime::Result<rpc::CallError> {
        match failure {
            CallFailure::Guest(error) => Ok(error),
            CallFailure::Trap(error) => Err(error),
        }
    }
}

impl rpc::HostAdvertisement for InstanceState {
    fn procedure(&mut self, handle: Resource<AdvertisementHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.procedure.to_string())
    }

    fn withdraw(&mut self, handle: Resource<AdvertisementHandle>) -> wasmtime::Result<()> {
        let AdvertisementHandle { procedure } = self.table.get(&handle)?;
        if self.wanted.procedures.remove(procedure) {
            self.staged.offers.retain(|(staged, _)| staged != procedure);
            self.staged.later_offers.retain(|(staged, _)| staged != procedure);
            if !self.plugin.is_candidate() {
                self.plugin.mailbox.lock().leave_offer(self.shard as usize, procedure);
            }
        }
        Ok(())
    }

    fn drop(&mut self, handle: Resource<AdvertisementHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.handles -= 1;
        Ok(())
    }
}

fn call_options(options: Option<&rpc::CallOptions>) -> Result<(Duration, ContentType, Extras), types::Error> {
    let Some(options) = options else { return Ok((TIMEOUT_DEFAULT, ContentType::EMPTY, Extras::default())) };
    let timeout = Duration::from_millis(u64::from(options.timeout_ms));
    if timeout.is_zero() || timeout > CALL_TIMEOUT_MAX {
        let max = CALL_TIMEOUT_MAX.as_millis();
        return Err(types::Error::Invalid(format!("timeout-ms is 1 to {max}, not {}", options.timeout_ms)));
    }
    if options.idempotency_key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(types::Error::Invalid(format!("an idempotency key has at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes")));
    }
    Ok((timeout, content_type(&options.content_type)?, extras(&options.metadata)?.unwrap_or_default()))
}

fn advertise_options(options: Option<rpc::AdvertiseOptions>) -> Result<u32, types::Error> {
    let Some(options) = options else { return Ok(IN_FLIGHT_DEFAULT) };
    // Checked although nobody shows it yet: what is wrong today must not become right by accident.
    extras(&options.metadata)?;
    match options.in_flight_max {
        None => Ok(IN_FLIGHT_DEFAULT),
        Some(number) if (1..=IN_FLIGHT_MAX).contains(&number) => Ok(number),
        Some(number) => Err(types::Error::Invalid(format!("in-flight-max is 1 to {IN_FLIGHT_MAX}, not {number}"))),
    }
}
