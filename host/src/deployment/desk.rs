//! Where records are handed in: any host takes them for the whole realm.
//!
//! A record is taken when its signature and rights hold, nothing newer is known, and its component is here: so once a deployer
//! has been told, the component can be had without it.

use std::time::Duration;

use data_encoding::BASE64;
use macula_node::{
    IncomingCall, Publish,
    auth::{SignedRecord, Slot, Validity},
    content::store::Owner,
    deploy::{Deployment, Held},
    wire::{Delivery, Fault, Operation},
};
use serde::{Deserialize, Serialize};

use super::{Parts, deploy_procedure};
use crate::{answering, compose::COMPONENT_BYTES_MAX};

/// How long a component is looked for.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// What is asked at the desk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Asked {
    /// The newest record of a slot, as far as the relay knows: a [`Current`], or nothing.
    Current { slot: String },
    /// Take this record (in base64).
    Deploy { slot: String, record: String },
}

/// The newest record of a slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) held: Held,
    pub(crate) before: Option<Held>,
}

/// Takes records for as long as the node runs.
pub(super) async fn serve(parts: Parts) {
    let mesh = parts.mesh.clone();
    answering::serve(mesh, deploy_procedure(), move |call| answer(parts.clone(), call)).await;
}

async fn answer(parts: Parts, call: IncomingCall) {
    let answered = match serde_json::from_slice(&call.request.payload) {
        Ok(Asked::Current { slot }) => current(&parts, &slot).await.map(|current| json(&current)),
        Ok(Asked::Deploy { slot, record }) => deploy(&parts, &slot, &record).await.map(|current| json(&current)),
        Err(error) => Err(Fault::Invalid(format!("nothing that is asked here: {error}"))),
    };
    answering::give(call, answered);
}

fn json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer is plain data")
}

fn parse(slot: &str) -> Result<Slot, Fault> {
    slot.parse().map_err(|error: macula_node::auth::SlotError| Fault::Invalid(error.to_string()))
}

/// The newest record that the relay or this host knows, also when it has expired; one whose signer's right was revoked is
/// none.
async fn current(parts: &Parts, slot: &str) -> Result<Option<Current>, Fault> {
    let slot = parse(slot)?;
    let topic = slot.record_topic().ok_or_else(|| Fault::Invalid(format!("{slot} has too many labels")))?;
    let stored = parts.mesh.retained(&topic).await?.map(|message| message.payload.to_vec());
    // A relay that was started anew may not have been told yet.
    let own = parts.records.read().get(&slot).cloned();
    let read = |bytes: Vec<u8>| {
        let record = parts.mesh.check_record(&bytes, Operation::Deploy, &slot.topic(), Validity::AsMade).ok()?;
        read(parts, &slot, &record).ok()
    };
    Ok([stored, own].into_iter().flatten().filter_map(read).max_by_key(|current| current.seq))
}

fn read(parts: &Parts, slot: &Slot, record: &SignedRecord) -> Result<Current, Fault> {
    let deployment = Deployment::read(record, slot, parts.mesh.realm());
    let Deployment { seq, held, before, .. } = deployment.map_err(|error| Fault::Invalid(error.to_string()))?;
    Ok(Current { seq, id: record.id.to_string(), held, before })
}

async fn deploy(parts: &Parts, slot: &str, record: &str) -> Result<Current, Fault> {
    let known = current(parts, slot).await?;
    let slot = parse(slot)?;
    let bytes =
        BASE64.decode(record.as_bytes()).map_err(|_| Fault::Invalid("the record is not in base64".to_owned()))?;
    let new = parts.mesh.check_record(&bytes, Operation::Deploy, &slot.topic(), Validity::Now)?;
    let new = read(parts, &slot, &new)?;
    match known {
        Some(known) if known.id == new.id => return Ok(known),
        Some(known) if known.seq >= new.seq => {
            return Err(Fault::Conflict(format!(
                "record {} of {slot} is here already; somebody else deploys to it as well",
                known.seq
            )));
        }
        _ => {}
    }
    let obtained = parts.content.obtain(Owner::Operator, &new.held.mcid, FETCH_PATIENCE, COMPONENT_BYTES_MAX).await;
    obtained.map_err(|error| error.fault())?;
    let topic = slot.record_topic().ok_or_else(|| Fault::Invalid(format!("{slot} has too many labels")))?;
    let options = Publish { retain: true, delivery: Delivery::Acked, ..Publish::default() };
    parts.mesh.publish_with(&topic, &bytes, &options).await?;
    Ok(new)
}
