//! Links: WebTransport sessions over HTTP/3, on which both ends have proved who they are.
//!
//! Owns sockets, TLS, the Hello exchange and how long to wait before dialling again; leaves what flows on a link to
//! others. A [`Listener`] accepts and a [`Dialler`] opens; both give a [`Link`] only after the peer's Hello has verified,
//! and read nothing else before. Specified in `docs/protocol/links.md`.

mod address;
mod backoff;
mod dialler;
mod endpoint;
mod link;
mod listener;
mod race;
mod reset;
mod stream;
mod tls;

pub use address::{RelayUrl, RelayUrlError};
pub use backoff::Backoff;
pub use dialler::{DialError, Dialler};
pub use endpoint::EndpointConfig;
pub use link::{ControlReadError, ControlReader, ControlWriter, LaneReader, LaneWriter, Link, LinkError, LocalNode};
pub use listener::{BindError, Handshake, Listener};
pub use stream::{StreamError, StreamReader, StreamWriter};
pub use tls::{Certificate, CertificateError, TlsMode};
