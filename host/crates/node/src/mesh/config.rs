//! What a mesh handle needs to know, and what it tells of its link.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use macula_transport::{EndpointConfig, LocalNode, RelayUrl, TlsMode};
use macula_wire::{NodeId, hello::Role};

use crate::{LoggedRevocation, NodeState, RealmAccess, RevocationLog};

/// How to take part in the mesh.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// Relays to dial; the first that answers is used, the others when it is lost.
    pub relays: Vec<RelayUrl>,
    /// Key, role and epoch of this node.
    pub node: LocalNode,
    /// The realm that everything happens in.
    pub realm: RealmAccess,
    /// Which certificates are taken where no pin says.
    pub tls: TlsMode,
    /// Longest that a request waits for its answer, and a publish for room in the queue.
    pub timeout: Duration,
    /// Bytes that may wait to be sent, or be kept until a relay confirms them, per priority. What comes on top waits. 2 MiB hold
    /// what a stream of small messages has under way between confirmations, and as much that waits.
    pub outbox_bytes_max: usize,
    /// QUIC windows.
    pub endpoint: EndpointConfig,
    /// How messages must be vouched for to be taken.
    pub auth_min: AuthLevel,
    /// Revocations that are known already.
    pub revocations: Vec<LoggedRevocation>,
    /// Where those that come are kept; without it, they are in force until the handle is closed.
    pub revocation_log: Option<RevocationLog>,
}

/// How a message is vouched for: the `auth` byte of its frame. Never negotiated down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum AuthLevel {
    /// By the relays that it came through, which the realm's root has let in.
    #[default]
    Attested = 0,
    /// By its publisher's signature. No publisher of this version signs, so nothing is taken.
    Signed = 1,
    /// Sealed to a key of the realm. Likewise.
    Sealed = 2,
}

impl std::str::FromStr for AuthLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "attested" => Ok(Self::Attested),
            "signed" => Ok(Self::Signed),
            "sealed" => Ok(Self::Sealed),
            _ => Err(format!("{text:?} is no way to vouch for messages (expected attested, signed or sealed)")),
        }
    }
}

impl MeshConfig {
    /// A short-lived client with a fresh key that is kept in memory only.
    pub fn new(relay: RelayUrl, realm: RealmAccess) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system has randomness");
        let epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_millis() as u64);
        Self::with_node(relay, realm, LocalNode { key: SigningKey::from_bytes(&seed), role: Role::Client, epoch })
    }

    /// A node with a key and an epoch of its own.
    pub fn host(relay: RelayUrl, realm: RealmAccess, state: &NodeState) -> Self {
        Self::with_node(relay, realm, state.local(Role::Host))
    }

    fn with_node(relay: RelayUrl, realm: RealmAccess, node: LocalNode) -> Self {
        Self {
            relays: vec![relay],
            node,
            realm,
            tls: TlsMode::default(),
            timeout: Duration::from_secs(10),
            outbox_bytes_max: 2 << 20,
            endpoint: EndpointConfig::default(),
            auth_min: AuthLevel::default(),
            revocations: Vec::new(),
            revocation_log: None,
        }
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A relay answered, and trying again would not help: the wrong node, its certificate.
    #[error("{0}")]
    Refused(String),
    /// A relay answered, and a right is missing: its own to the realm, or this node's.
    #[error("{0}")]
    Denied(String),
    /// No relay could be reached in time.
    #[error("no relay could be reached: {0}")]
    Unreachable(String),
}

/// The link that a handle uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where the relay is.
    pub url: RelayUrl,
    /// Which node it is.
    pub relay: NodeId,
    /// Counts links of this handle from 1.
    pub generation: u64,
}

/// What to expect of further tries for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// They may succeed at any time.
    Hopeful,
    /// They will not: the wrong node answers, or its certificate is not taken.
    Refused,
    /// They will not until somebody grants a right: the relay's to the realm, or this node's.
    Denied,
}

/// Whether the handle has a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not yet, or not at the moment; it is being tried.
    Down {
        /// Why the last try failed.
        reason: String,
        /// Whether trying again, which goes on in any case, is expected to help.
        outlook: Outlook,
    },
    /// Up.
    Up(Link),
    /// The handle was closed.
    Closed,
}
