//! Stateless resets that outlive the process: a relay that was killed and started again tells peers of its former links
//! at once that they are gone (RFC 9000 section 10.3), instead of leaving them to their timeouts.
//!
//! For that, the token that proves a reset must be computed as the former process did: from the node's secret key and
//! the connection id. And connection ids must not be keyed by process.

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use quinn::{
    ConnectionId, ConnectionIdGenerator,
    crypto::{CryptoError, HmacKey},
};
use rustls::crypto::SecureRandom;

use crate::tls;

/// Bytes of a connection id: enough not to be guessed or to collide.
const CONNECTION_ID_BYTES: usize = 8;

/// Settings of an endpoint whose resets are this node's.
pub(crate) fn endpoint_config(node: &SigningKey) -> quinn::EndpointConfig {
    let mut config = quinn::EndpointConfig::new(Arc::new(ResetKey::new(node)));
    let random = tls::provider().secure_random;
    config.cid_generator(move || Box::new(RandomIds(random)));
    // Every peer of the former process is told, however many speak up at once. That needs no bound of its own: a reset is
    // smaller than the packet that it answers, so it neither multiplies traffic nor goes back and forth for ever, and it
    // costs less than reading that packet.
    config.min_reset_interval(Duration::ZERO);
    config
}

/// Signs connection ids: BLAKE3, keyed with what is derived from the node's key for this purpose alone.
struct ResetKey([u8; 32]);

impl ResetKey {
    fn new(node: &SigningKey) -> Self {
        Self(blake3::derive_key("macula stateless reset 1", &node.to_bytes()))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // `Hash` compares in constant time.
        let matches = <[u8; blake3::OUT_LEN]>::try_from(signature)
            .is_ok_and(|signature| blake3::keyed_hash(&self.0, data) == blake3::Hash::from_bytes(signature));
        if matches { Ok(()) } else { Err(CryptoError) }
    }
}

/// Random connection ids. (Quinn's default ones are keyed by process, and those of a former one would be ignored.)
struct RandomIds(&'static dyn SecureRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        self.0.fill(&mut bytes).expect("the provider has randomness");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use macula_wire::hello::Role;

    use super::*;
    use crate::{Certificate, EndpointConfig, Listener, LocalNode};

    /// Goal: however many peers of a former process speak up in the same moment, each is told.
    /// Method: packets of links that nobody knows, all sent before the listener can read any of them.
    #[tokio::test]
    async fn everybody_is_told_at_once() {
        // As many as fit into a socket's buffer at the smallest usual setting, with what the kernel adds to each.
        const PEERS: usize = 100;
        let node = LocalNode { key: SigningKey::from_bytes(&[7; 32]), epoch: 1, role: Role::Relay };
        let certificate = Certificate::SelfSigned { names: vec!["localhost".into()] };
        let listener =
            Listener::bind(([127, 0, 0, 1], 0).into(), certificate, &EndpointConfig::default(), &node).unwrap();
        let address = listener.address().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..PEERS {
            // A short header, a connection id, and what is to be taken for the rest.
            let mut packet = [0x40; 64];
            packet[1..9].copy_from_slice(&(n as u64).to_le_bytes());
            peer.send_to(&packet, address).unwrap();
        }
        // Bounds a failure, not a success.
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let told = tokio::task::spawn_blocking(move || {
            (0..PEERS).take_while(|_| peer.recv(&mut [0; 64]).is_ok_and(|bytes| bytes < 64)).count()
        });
        assert_eq!(told.await.unwrap(), PEERS);
    }

    #[test]
    fn tokens_depend_on_the_node_and_the_connection_only() {
        let sign = |seed: u8, data: &[u8]| {
            let mut out = [0; 32];
            ResetKey::new(&SigningKey::from_bytes(&[seed; 32])).sign(data, &mut out);
            out
        };
        assert_eq!(sign(1, b"cid"), sign(1, b"cid"));
        assert_ne!(sign(1, b"cid"), sign(2, b"cid"));
        assert_ne!(sign(1, b"cid"), sign(1, b"dic"));
        let key = ResetKey::new(&SigningKey::from_bytes(&[1; 32]));
        assert!(key.verify(b"cid", &sign(1, b"cid")).is_ok());
        assert!(key.verify(b"cid", &sign(2, b"cid")).is_err() && key.verify(b"cid", b"short").is_err());
    }
}
