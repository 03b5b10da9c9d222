//! A link: a session on which both ends have proved who they are, and its streams.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use macula_wire::{
    NodeId,
    control::{Control, ControlError},
    frame::Lane,
    hello::{EXPORTER_LABEL, Expect, Hello, HelloError, Role, Side, VERSION},
    limits::HELLO_BYTES_MAX,
};
use web_transport_quinn::{RecvStream, SendStream, Session};

use crate::stream::{self, StreamReader, StreamWriter};

/// Path of the WebTransport session: the mesh protocol, version 1.
pub(crate) const PATH: &str = "/mesh/1";

/// What this end says of itself on every link.
#[derive(Debug, Clone)]
pub struct LocalNode {
    /// Its key.
    pub key: SigningKey,
    /// What it is.
    pub role: Role,
    /// Of this run.
    pub epoch: u64,
}

impl LocalNode {
    /// Its id.
    pub fn id(&self) -> NodeId {
        self.key.verifying_key().into()
    }
}

/// A verified session. Cheap to clone; dropping all its parts closes it.
#[derive(Debug, Clone)]
pub struct Link(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    session: Session,
    peer: Hello,
    exporter: [u8; 32],
    control: Mutex<Option<(SendStream, RecvStream)>>,
}

/// Why a session did not become a link, or stopped being one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// QUIC could not connect: address, certificate, or nobody there.
    #[error("{}", describe_connection_error(.0))]
    Connection(#[from] quinn::ConnectionError),
    /// This end could not even try.
    #[error("cannot connect: {0}")]
    Connect(#[from] quinn::ConnectError),
    /// The peer does not speak WebTransport over HTTP/3, or not at this path.
    #[error("the peer is no relay: {0}")]
    WebTransport(String),
    /// A session for something else.
    #[error("a session at {0:?}, expected {PATH}")]
    Path(String),
    /// The Hello was refused.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The session ended during the Hello exchange.
    #[error("the session ended before its Hello: {0}")]
    Ended(String),
    /// The peer did not finish its part in time.
    #[error("the peer did not complete its handshake in time")]
    Slow,
}

fn describe_connection_error(error: &quinn::ConnectionError) -> String {
    match error {
        quinn::ConnectionError::TransportError(error) if error.reason.contains("certificate") => {
            format!(
                "the relay's certificate was refused: {} (pin its node id with #NODE-ID, or mend the certificate)",
                error.reason
            )
        }
        quinn::ConnectionError::TimedOut => "no answer".into(),
        other => other.to_string(),
    }
}

impl LinkError {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connection(quinn::ConnectionError::TransportError(error)) => !error.reason.contains("certificate"),
            Self::Connection(_) | Self::Ended(_) | Self::Slow | Self::Connect(_) => true,
            Self::WebTransport(_) | Self::Path(_) | Self::Hello(_) => false,
        }
    }
}

impl From<web_transport_quinn::ServerError> for LinkError {
    fn from(error: web_transport_quinn::ServerError) -> Self {
        Self::WebTransport(error.to_string())
    }
}

impl From<web_transport_quinn::ClientError> for LinkError {
    fn from(error: web_transport_quinn::ClientError) -> Self {
        Self::WebTransport(error.to_string())
    }
}

impl Link {
    /// Exchanges Hellos: the dialler opens the control stream, the listener speaks first.
    pub(crate) async fn establish(
        session: Session,
        side: Side,
        node: &LocalNode,
        pin: Option<NodeId>,
    ) -> Result<Self, LinkError> {
        let established = Self::exchange_hellos(&session, side, node, pin).await;
        if let Err(error) = &established {
            session.close(CLOSE_HELLO, error.to_string().as_bytes());
        }
        let (peer, exporter, control) = established?;
        Ok(Self(Arc::new(Verified { session, peer, exporter, control: Mutex::new(Some(control)) })))
    }

    async fn exchange_hellos(
        session: &Session,
        side: Side,
        node: &LocalNode,
        pin: Option<NodeId>,
    ) -> Result<(Hello, [u8; 32], (SendStream, RecvStream)), LinkError> {
        let ended = |error: &dyn std::fmt::Display| LinkError::Ended(error.to_string());
        let exporter = session_exporter(session)?;
        let hello = Hello {
            node: node.id(),
            versions: vec![VERSION],
            role: node.role,
            epoch: node.epoch,
            features: Vec::new(),
        };
        let ours = hello.seal(&node.key, side, &exporter);
        let expect = Expect { own: node.id(), peer: pin };
        let (mut send, mut recv) = match side {
            Side::Dialler => session.open_bi().await.map_err(|error| ended(&error))?,
            Side::Listener => session.accept_bi().await.map_err(|error| ended(&error))?,
        };
        if side == Side::Listener {
            write_hello(&mut send, &ours).await?;
        }
        let theirs = read_hello(&mut recv).await?;
        let peer = Hello::open(&theirs, side.peer(), &exporter, &expect)?;
        if side == Side::Dialler {
            write_hello(&mut send, &ours).await?;
        }
        Ok((peer, exporter, (send, recv)))
    }

    /// The peer's verified Hello.
    pub fn peer(&self) -> &Hello {
        &self.0.peer
    }

    /// Unique to this session; what realm proofs are made over.
    pub fn exporter(&self) -> &[u8; 32] {
        &self.0.exporter
    }

    /// Where the peer is, as this end sees it.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.session.remote_address()
    }

    /// Smoothed round trip time.
    pub fn round_trip(&self) -> Duration {
        self.0.session.rtt()
    }

    /// The control stream; can be taken once.
    ///
    /// # Panics
    /// When it is taken twice.
    pub fn take_control(&self) -> (ControlWriter, ControlReader) {
        let mut control = self.0.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (send, recv) = control.take().expect("the control stream is taken once");
        (ControlWriter { stream: send, buffer: Vec::new() }, ControlReader { stream: recv, buffer: Vec::new() })
    }

    /// Opens this end's stream of a lane. Dropping the future opens nothing.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn open_lane(&self, lane: Lane) -> Result<LaneWriter, LinkError> {
        let mut stream = self.0.session.open_uni().await.map_err(|error| LinkError::Ended(error.to_string()))?;
        stream.write_all(&[lane as u8]).await.map_err(|error| LinkError::Ended(error.to_string()))?;
        // Fails only on a stream that is closed, which the next write tells.
        let _ = stream.set_priority(lane.stream_priority());
        Ok(LaneWriter { stream })
    }

    /// The peer's next lane, in the order of their opening.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn accept_lane(&self) -> Result<LaneReader, LinkError> {
        let ended = |error: &dyn std::fmt::Display| LinkError::Ended(error.to_string());
        loop {
            let mut stream = self.0.session.accept_uni().await.map_err(|error| ended(&error))?;
            let mut number = [0];
            stream.read_exact(&mut number).await.map_err(|error| ended(&error))?;
            match Lane::from_number(number[0]) {
                Some(lane) => return Ok(LaneReader { stream, lane }),
                // Of a later version: not read, so it costs its window and nothing more.
                None => {
                    let _ = stream.stop(STOP_UNKNOWN_LANE);
                }
            }
        }
    }

    /// Opens a stream for one request. Waits while the peer allows no further one; dropping the future opens nothing.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn open_stream(&self) -> Result<(StreamWriter, StreamReader), LinkError> {
        stream::open(&self.0.session).await
    }

    /// The next stream that the peer has opened. From the first on, it may open more of them at a time.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn accept_stream(&self) -> Result<(StreamWriter, StreamReader), LinkError> {
        stream::accept(&self.0.session).await
    }

    /// Closes the link, telling the peer why.
    pub fn close(&self, reason: &str) {
        self.0.session.close(CLOSE_NORMAL, &reason.as_bytes()[..reason.len().min(512)]);
    }

    /// Waits for the link's end and says why.
    pub async fn closed(&self) -> String {
        self.0.session.closed().await.to_string()
    }

    /// Bytes and packets of the underlying connection, for measurements.
    pub fn statistics(&self) -> quinn::ConnectionStats {
        (*self.0.session).stats()
    }
}

/// Error code of a session that ends in peace.
const CLOSE_NORMAL: u32 = 0;
/// Error code of a session whose Hello was refused.
const CLOSE_HELLO: u32 = 1;
/// Error code for a lane that this version does not know.
const STOP_UNKNOWN_LANE: u32 = 2;

/// The TLS exporter as WebTransport wraps it (draft-ietf-webtrans-http3, “Use of Keying Material Exporters”):
/// label `EXPORTER-WebTransport`, context = session id (64 bits) ‖ label length ‖ label ‖ context length ‖ context.
/// Every connection here carries one session, whose id is that of the first request stream: 0.
fn session_exporter(session: &Session) -> Result<[u8; 32], LinkError> {
    let mut context = Vec::with_capacity(32);
    context.extend_from_slice(&0u64.to_be_bytes());
    context.push(EXPORTER_LABEL.len() as u8);
    context.extend_from_slice(EXPORTER_LABEL);
    context.push(0);
    let mut exporter = [0; 32];
    session
        .export_keying_material(&mut exporter, b"EXPORTER-WebTransport", &context)
        .map_err(|_| LinkError::WebTransport("TLS gives no keying material".into()))?;
    Ok(exporter)
}

async fn write_hello(stream: &mut SendStream, hello: &[u8]) -> Result<(), LinkError> {
    let message = [&(hello.len() as u32).to_le_bytes(), hello].concat();
    stream.write_all(&message).await.map_err(|error| LinkError::Ended(error.to_string()))
}

async fn read_hello(stream: &mut RecvStream) -> Result<Vec<u8>, LinkError> {
    let ended = |error: &dyn std::fmt::Display| LinkError::Ended(error.to_string());
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.map_err(|error| ended(&error))?;
    let len = u32::from_le_bytes(len) as usize;
    if len > HELLO_BYTES_MAX {
        return Err(HelloError::TooLong(len).into());
    }
    let mut hello = vec![0; len];
    stream.read_exact(&mut hello).await.map_err(|error| ended(&error))?;
    Ok(hello)
}

/// This end's half of the control stream.
#[derive(Debug)]
pub struct ControlWriter {
    stream: SendStream,
    buffer: Vec<u8>,
}

impl ControlWriter {
    /// Sends messages, in order. A future that is dropped midway leaves the stream unusable.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn send(&mut self, messages: impl IntoIterator<Item = Control>) -> Result<(), LinkError> {
        self.buffer.clear();
        for message in messages {
            message.encode(&mut self.buffer);
        }
        self.stream.write_all(&self.buffer).await.map_err(|error| LinkError::Ended(error.to_string()))
    }
}

/// The peer's half of the control stream.
#[derive(Debug)]
pub struct ControlReader {
    stream: RecvStream,
    buffer: Vec<u8>,
}

/// Why no further control message can be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ControlReadError {
    /// The peer sent something else.
    #[error(transparent)]
    Malformed(#[from] ControlError),
    /// The link is gone.
    #[error("the link ended: {0}")]
    Ended(String),
}

impl ControlReader {
    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ControlReadError`].
    pub async fn next(&mut self) -> Result<Control, ControlReadError> {
        loop {
            if let Some((message, used)) = Control::decode(&self.buffer)? {
                self.buffer.drain(..used);
                return Ok(message);
            }
            let chunk = self.stream.read_chunk(usize::MAX, true).await;
            match chunk.map_err(|error| ControlReadError::Ended(error.to_string()))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None => return Err(ControlReadError::Ended("the peer closed its control stream".into())),
            }
        }
    }
}

/// This end's stream of a lane.
#[derive(Debug)]
pub struct LaneWriter {
    stream: SendStream,
}

impl LaneWriter {
    /// Writes pieces, in order; they are not copied. A future that is dropped midway leaves the lane unusable.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), LinkError> {
        self.stream.write_all_chunks(pieces).await.map_err(|error| LinkError::Ended(error.to_string()))
    }

    /// Says that nothing follows, and waits until the peer has it all.
    ///
    /// # Errors
    /// The link was lost first.
    pub async fn finish(mut self) -> Result<(), LinkError> {
        // Fails only when it is finished already.
        let _ = self.stream.finish();
        self.stream.stopped().await.map(|_| ()).map_err(|error| LinkError::Ended(error.to_string()))
    }
}

/// The peer's stream of a lane.
#[derive(Debug)]
pub struct LaneReader {
    stream: RecvStream,
    lane: Lane,
}

impl LaneReader {
    /// Which lane it is.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Fills `pieces` with what is at hand, waiting for the first; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn read(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, LinkError> {
        self.stream.read_chunks(pieces).await.map_err(|error| LinkError::Ended(error.to_string()))
    }
}
