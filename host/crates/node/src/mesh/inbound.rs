//! Reads what the relay sends: batches to subscriptions, calls to offers, answers to callers.

use std::sync::Arc;

use bytes::Bytes;
use macula_transport::LaneReader;
use macula_wire::{
    CallError, Channel, Fault,
    frame::{Frame, Frames, Lane, Outcome, Piece, Reassembly},
    limits::BATCH_BYTES_MAX,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{handle::Shared, offer, subscription::Batch};

/// Pieces of a stream that are read at a time.
const PIECES: usize = 32;

/// One lane of a link, as read.
pub(super) struct Inbound {
    shared: Arc<Shared>,
    link: u64,
    channels: FxHashMap<u64, Arc<Channel>>,
}

/// Why a lane cannot be read any further; the link is closed.
pub(super) type Ended = String;

impl Inbound {
    pub(super) fn new(shared: Arc<Shared>, link: u64) -> Self {
        Self { shared, link, channels: FxHashMap::default() }
    }

    /// Reads until the lane or the link ends.
    pub(super) async fn read(mut self, mut reader: LaneReader) -> Result<(), Ended> {
        let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
        let mut reassembly = Reassembly::default();
        while let Some(count) = reader.read(&mut pieces).await.map_err(|error| error.to_string())? {
            for piece in &mut pieces[..count] {
                let piece = std::mem::take(piece);
                let mut at = 0;
                while let Some(frame) =
                    reassembly.next(&piece, &mut at, BATCH_BYTES_MAX).map_err(|error| error.to_string())?
                {
                    let bytes = match frame {
                        Piece::InPlace(range) => piece.slice(range),
                        Piece::Assembled(buffer) => Bytes::from(buffer),
                    };
                    self.handle(&bytes)?;
                }
            }
            self.shared.heard();
        }
        reassembly.end().map_err(|error| error.to_string())
    }

    fn handle(&mut self, bytes: &Bytes) -> Result<(), Ended> {
        match Frame::parse(bytes).map_err(|error| error.to_string())? {
            Frame::Batch { subscription, count, frames } => self.batch(subscription, count, bytes.slice_ref(frames)),
            Frame::Channel { number, body } => {
                let channel = Channel::from_bytes(body).map_err(|error| error.to_string())?;
                self.channels.insert(number, Arc::new(channel));
                Ok(())
            }
            Frame::Forget { number } => {
                self.channels.remove(&number);
                Ok(())
            }
            Frame::Call { header, extras, payload } => {
                let channel = self.channels.get(&header.channel).ok_or("a call on an unknown channel")?;
                let call = offer::incoming(&self.shared, self.link, channel, header, extras, bytes.slice_ref(payload));
                self.call(channel, header.id, call);
                Ok(())
            }
            Frame::Reply { call, outcome } => {
                let outcome = match outcome {
                    Outcome::Answer(answer) => Ok(bytes.slice_ref(answer)),
                    Outcome::Error(error) => Err(Outcome::decode_error(error)),
                };
                self.shared.calls.answer(call, outcome);
                Ok(())
            }
            Frame::Cancel { call } => {
                self.shared.incoming.cancel(self.link, call);
                Ok(())
            }
            Frame::Receipt { lane, taken, token } => {
                if let Some(lane) = Lane::from_number(lane) {
                    self.shared.receipt(lane, taken, token);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn call(&self, channel: &Channel, number: u64, call: Option<offer::IncomingCall>) {
        let not_run = |fault| {
            self.shared.outbox.reply(self.link, number, &Err(CallError::NotRun(fault)));
        };
        match (self.shared.registry.offer(&channel.name), call) {
            (Some(offer), Some(call)) => offer.deliver(call),
            (None, Some(call)) => {
                let fault = Fault::NotFound(format!("{} was withdrawn", channel.name));
                call.responder.fail(CallError::NotRun(fault));
            }
            (_, None) => not_run(Fault::Invalid("the call's metadata is malformed".into())),
        }
    }

    /// Hands a batch to its subscription with the channels that its frames name, so that it can be decoded there.
    fn batch(&mut self, subscription: u32, count: u32, frames: Bytes) -> Result<(), Ended> {
        let mut channels: SmallVec<[(u64, Arc<Channel>); 2]> = SmallVec::new();
        for frame in Frames::new(&frames) {
            let frame = frame.map_err(|error| error.to_string())?;
            let Frame::Message { header, .. } = Frame::parse(frame).map_err(|error| error.to_string())? else {
                continue;
            };
            if header.auth < self.shared.auth_min as u8 {
                // The whole batch: who sends one such message has not looked at the realm's rule.
                self.shared.not_vouched_for(count);
                return Ok(());
            }
            if channels.last().is_some_and(|(number, _)| *number == header.channel)
                || channels.iter().any(|(number, _)| *number == header.channel)
            {
                continue;
            }
            let channel = self.channels.get(&header.channel).ok_or("a message on an unknown channel")?;
            channels.push((header.channel, Arc::clone(channel)));
        }
        // A subscription that has just ended may still get messages.
        if let Some(state) = self.shared.registry.subscription(subscription) {
            state.deliver(Batch { link: self.link, number: subscription, frames, count, channels });
        }
        Ok(())
    }
}
