//! Where a relay is, and which node it must be.

use std::{fmt, net::IpAddr, str::FromStr};

use macula_wire::NodeId;
use url::{Host, Url};

/// `quic://host[:9443][#node-id]` or `https://host[:443][#node-id]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl {
    host: String,
    port: u16,
    pin: Option<NodeId>,
}

/// Why text is no [`RelayUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayUrlError {
    /// Not a URL with a host.
    #[error("{0:?} is no relay address (expected quic://HOST[:PORT][#NODE-ID])")]
    Form(String),
    /// Another scheme.
    #[error("{0:?} is no scheme for a relay (expected quic or https)")]
    Scheme(String),
    /// A fragment that is no node id.
    #[error("after '#': {0}")]
    Pin(#[from] macula_wire::NodeIdError),
}

/// Port of `quic://` addresses that name none.
const QUIC_PORT: u16 = 9443;
/// Port of `https://` addresses that name none.
const HTTPS_PORT: u16 = 443;

impl RelayUrl {
    /// An address on this machine whose node is known.
    pub fn local(address: std::net::SocketAddr, node: NodeId) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), pin: Some(node) }
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The node that must answer.
    pub fn pin(&self) -> Option<NodeId> {
        self.pin
    }

    /// The same address, for this node only.
    pub fn pinned(self, node: NodeId) -> Self {
        Self { pin: Some(node), ..self }
    }

    /// Whether it names this machine, so that nothing leaves it.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Host and port as URLs want them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for RelayUrl {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        let form = || RelayUrlError::Form(text.chars().take(120).collect());
        let url = Url::parse(text).map_err(|_| form())?;
        let default_port = match url.scheme() {
            "quic" => QUIC_PORT,
            "https" => HTTPS_PORT,
            other => return Err(RelayUrlError::Scheme(other.to_owned())),
        };
        // The url crate leaves hosts of schemes it does not know unparsed.
        let host = match url.host().ok_or_else(form)? {
            Host::Domain(name) => name.to_ascii_lowercase(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty();
        if host.is_empty() || has_more || url.port() == Some(0) {
            return Err(form());
        }
        let pin = url.fragment().map(str::parse).transpose()?;
        Ok(Self { host, port: url.port().unwrap_or(default_port), pin })
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quic://{}", self.authority())?;
        match &self.pin {
            Some(node) => write!(f, "#{}", node.segment()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let id = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
        for (text, host, port, loopback) in [
            ("quic://relay.example", "relay.example", 9443, false),
            ("https://relay.example", "relay.example", 443, false),
            ("quic://127.0.0.1:4433", "127.0.0.1", 4433, true),
            ("quic://[::1]", "::1", 9443, true),
            ("quic://localhost:1", "localhost", 1, true),
        ] {
            let url: RelayUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.is_loopback(), url.pin()), (host, port, loopback, None), "{text}");
            let pinned: RelayUrl = format!("{text}#{id}").parse().unwrap();
            assert_eq!(pinned.pin(), Some(id.parse().unwrap()));
            assert_eq!(pinned.to_string().parse::<RelayUrl>().unwrap(), pinned);
            let did: RelayUrl = format!("{text}#did:key:{id}").parse().unwrap();
            assert_eq!(did, pinned);
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "relay.example",
            "quic://",
            "http://a",
            "quic://a/path",
            "quic://a?x=1",
            "quic://a:0",
            "quic://a:99999",
            "quic://a#nobody",
        ] {
            assert!(text.parse::<RelayUrl>().is_err(), "{text}");
        }
    }
}
