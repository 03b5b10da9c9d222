//! Where records are handed in: any host takes them for the whole realm.
//!
//! A record is taken when its signature and rights hold, nothing newer is known, and its component is here: so once a deployer
//! has been told, the component can be had without it.

use std::time::Duration;

use data_encoding::BASE64;
use macula_node::{
    IncomingCall, Mesh, Publish,
    auth::{Slot, Validity, ucan::Cid},
    content::store::Owner,
    deploy::{Deployment, Held, SEQ_AHEAD_MAX},
    wire::{Delivery, Fault, Operation},
};
use serde::{Deserialize, Serialize};

use super::{Parts, deploy_procedure};
use crate::answering;

/// How long a component is looked for.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// What is asked at the desk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Asked {
    /// The newest record of a slot, as far as the relay knows: in base64, or nothing.
    Current { slot: String },
    /// Take this record (in base64): nothing, once it is taken.
    Deploy { slot: String, record: String },
}

/// A record of a slot that holds, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) seq: u64,
    pub(crate) id: Cid,
    pub(crate) held: Held,
    pub(crate) before: Option<Held>,
    /// Its bytes.
    pub(crate) record: Vec<u8>,
}

impl Current {
    /// Reads a record, if it holds. Nobody's word is taken for what it says: deployers sign what comes of it.
    pub(crate) fn read(mesh: &Mesh, slot: &Slot, record: Vec<u8>, validity: Validity) -> Result<Self, Fault> {
        let signed = mesh.check_record(&record, Operation::Deploy, &slot.topic(), validity)?;
        let deployment = Deployment::read(&signed, slot, mesh.realm());
        let Deployment { seq, held, before, .. } = deployment.map_err(|error| Fault::Invalid(error.to_string()))?;
        Ok(Self { seq, id: signed.id, held, before, record })
    }
}

/// Takes records for as long as the node runs.
pub(super) async fn serve(parts: Parts) {
    let mesh = parts.mesh.clone();
    answering::serve(mesh, deploy_procedure(), move |call| answer(parts.clone(), call)).await;
}

async fn answer(parts: Parts, call: IncomingCall) {
    let answered = match serde_json::from_slice(&call.request.payload) {
        Ok(Asked::Current { slot }) => {
            let current = current(&parts, &slot).await;
            current.map(|current| json(&current.map(|current| BASE64.encode(&current.record))))
        }
        Ok(Asked::Deploy { slot, record }) => deploy(&parts, &slot, &record).await.map(|()| json(&())),
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
    let read = |record: Vec<u8>| Current::read(&parts.mesh, &slot, record, Validity::AsMade).ok();
    Ok([stored, own].into_iter().flatten().filter_map(read).max_by_key(|current| current.seq))
}

async fn deploy(parts: &Parts, slot: &str, record: &str) -> Result<(), Fault> {
    let topic = parse(slot)?;
    let bytes =
        BASE64.decode(record.as_bytes()).map_err(|_| Fault::Invalid("the record is not in base64".to_owned()))?;
    let new = Current::read(&parts.mesh, &topic, bytes, Validity::Now)?;
    if is_known(parts, slot, &new).await? {
        return Ok(());
    }
    let obtained = parts
        .content
        .obtain(Owner::Operator, &new.held.mcid, FETCH_PATIENCE, macula_runtime::COMPONENT_BYTES_MAX)
        .await;
    obtained.map_err(|error| error.fault())?;
    // One at a time from here on: another record may have come while this one's component was fetched.
    let _alone = parts.handing_in.lock().await;
    if is_known(parts, slot, &new).await? {
        return Ok(());
    }
    let topic = topic.record_topic().ok_or_else(|| Fault::Invalid(format!("{slot} has too many labels")))?;
    let options = Publish { retain: true, delivery: Delivery::Acked, ..Publish::default() };
    parts.mesh.publish_with(&topic, &new.record, &options).await.map(drop)
}

/// Whether it is what the slot holds already. One that something newer, or something else with its number, has forestalled
/// is refused.
async fn is_known(parts: &Parts, slot: &str, new: &Current) -> Result<bool, Fault> {
    let Some(known) = current(parts, slot).await? else { return Ok(false) };
    if known.id == new.id {
        return Ok(true);
    }
    if known.seq >= new.seq {
        return Err(Fault::Conflict(format!(
            "record {} of {slot} is here already; somebody else deploys to it as well",
            known.seq
        )));
    }
    if new.seq - known.seq > SEQ_AHEAD_MAX {
        return Err(Fault::Invalid(format!("record {} is too far from {}, which {slot} holds", new.seq, known.seq)));
    }
    Ok(false)
}
