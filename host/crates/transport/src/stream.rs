//! Bidirectional streams of a link: one for each request that is too large for a frame.

use bytes::Bytes;
use web_transport_quinn::{RecvStream, SendStream, Session};

use crate::LinkError;

/// Below all lanes: what is large waits for what is short.
const PRIORITY: i32 = -3;
/// Streams that the peer may have open once it has begun to use them. At first there are fewer: each costs memory on every
/// link, also on those that never have one.
const STREAMS_IN_USE: u32 = 48;
/// Error code of a stream that is given up.
const GIVEN_UP: u32 = 3;

/// This end's half of a stream. Dropping it before [`StreamWriter::finish`] resets the stream, so that the peer does not take
/// a part for the whole.
#[derive(Debug)]
pub struct StreamWriter {
    stream: SendStream,
    is_finished: bool,
}

/// The peer's half of a stream. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct StreamReader {
    stream: RecvStream,
    is_ended: bool,
}

/// Why a stream gives or takes no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer has given it up.
    #[error("the peer gave the stream up")]
    GivenUp,
    /// The link is gone.
    #[error("the link ended: {0}")]
    Link(String),
}

pub(crate) async fn open(session: &Session) -> Result<(StreamWriter, StreamReader), LinkError> {
    let opened = session.open_bi().await.map_err(|error| LinkError::Ended(error.to_string()))?;
    Ok(halves(opened))
}

pub(crate) async fn accept(session: &Session) -> Result<(StreamWriter, StreamReader), LinkError> {
    let accepted = session.accept_bi().await.map_err(|error| LinkError::Ended(error.to_string()))?;
    (**session).set_max_concurrent_bi_streams(STREAMS_IN_USE.into());
    Ok(halves(accepted))
}

fn halves((send, recv): (SendStream, RecvStream)) -> (StreamWriter, StreamReader) {
    // Fails only on a stream that is closed, which the next write tells.
    let _ = send.set_priority(PRIORITY);
    (StreamWriter { stream: send, is_finished: false }, StreamReader { stream: recv, is_ended: false })
}

impl StreamWriter {
    /// Writes a piece; it is not copied. Waits while the peer takes no more. A future that is dropped midway has written a
    /// part.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn write(&mut self, piece: Bytes) -> Result<(), StreamError> {
        self.stream.write_chunk(piece).await.map_err(|error| match error {
            web_transport_quinn::WriteError::Stopped(_) => StreamError::GivenUp,
            other => StreamError::Link(other.to_string()),
        })
    }

    /// Says that nothing follows. What was written is still sent.
    pub fn finish(mut self) {
        self.is_finished = true;
        // Fails only when the peer has given the stream up.
        let _ = self.stream.finish();
    }

    /// Waits until the peer has given the stream up, or the link has ended.
    pub async fn given_up(&self) {
        let _ = self.stream.stopped().await;
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.stream.reset(GIVEN_UP);
        }
    }
}

impl StreamReader {
    /// The next piece, of at most `bytes_max`, as it has arrived; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn read(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StreamError> {
        match self.stream.read_chunk(bytes_max, true).await {
            Ok(Some(chunk)) => Ok(Some(chunk.bytes)),
            Ok(None) => {
                self.is_ended = true;
                Ok(None)
            }
            Err(web_transport_quinn::ReadError::Reset(_)) => Err(StreamError::GivenUp),
            Err(other) => Err(StreamError::Link(other.to_string())),
        }
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        if !self.is_ended {
            // Fails only on a stream that has ended.
            let _ = self.stream.stop(GIVEN_UP);
        }
    }
}
