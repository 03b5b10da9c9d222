//! QUIC settings shared by both ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{TransportConfig, VarInt};

/// How a link uses memory and time.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Bytes of one stream that may arrive before they are read. Bounds throughput to this per round trip.
    pub stream_window_bytes: u32,
    /// The same for a whole link, and so the memory that one peer can make this end hold.
    pub link_window_bytes: u32,
    /// Bytes sent and not yet acknowledged, per link.
    pub send_window_bytes: u64,
    /// Without a packet for this long the link is gone.
    pub idle_timeout: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            stream_window_bytes: 4 << 20,
            link_window_bytes: 16 << 20,
            send_window_bytes: 8 << 20,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// Streams that a peer may have open: HTTP/3's own three, six lanes, and room.
const UNI_STREAMS: u32 = 16;
/// The session's own, control, and room.
const BIDI_STREAMS: u32 = 16;
/// Bytes asked of the kernel for the socket's buffers; a burst of a busy link fits. Less is accepted.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

impl EndpointConfig {
    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.link_window_bytes))
            .send_window(self.send_window_bytes)
            .max_concurrent_uni_streams(UNI_STREAMS.into())
            .max_concurrent_bidi_streams(BIDI_STREAMS.into())
            .max_idle_timeout(self.idle_timeout.try_into().ok());
        Arc::new(transport)
    }
}

/// A UDP socket with large buffers.
pub(crate) fn socket(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel may give less; then bursts are lost and sent again, which costs speed, not correctness.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
