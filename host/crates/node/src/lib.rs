//! A node of the mesh, for programs and for the `macula-host` binary.
//!
//! [`Mesh`] is the handle that applications use: it publishes, subscribes, calls and answers over links that it opens
//! and re-opens by itself. [`RelayServer`] runs a relay. [`Home`] keeps keys and state on disk.
//!
//! Drivers only: what a relay decides is in `macula-relay`, how bytes travel in `macula-transport`, what they mean in
//! `macula-wire`, which is re-exported as [`wire`].
//!
//! ```
//! use macula_node::{Home, Mesh, MeshConfig, RelayConfig, RelayServer};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let directory = tempfile::tempdir()?;
//! let home = Home::open(directory.path())?;
//! let realm = home.local_realm()?;
//! let relay = RelayServer::start(RelayConfig::local(home.node("relay")?)?)?;
//!
//! let mesh = Mesh::connect(MeshConfig::new(relay.url(), realm)).await?;
//! let mut alerts = mesh.subscribe("alerts.*".parse()?).await?;
//! mesh.publish(&"alerts.kitchen".parse()?, b"too warm").await?;
//!
//! let message = alerts.next().await.expect("the mesh is up");
//! assert_eq!(&message.payload[..], b"too warm");
//! mesh.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod home;
mod mesh;
mod realm;
mod relay;

pub use home::{Home, HomeError, NodeState, RunningNode};
pub use macula_relay::Stats as RelayStats;
pub use macula_transport::{BindError, Certificate, DialError, LocalNode, RelayUrl, RelayUrlError, TlsMode};
pub use macula_wire as wire;
pub use mesh::{
    Advertise, CallOptions, Confirmation, ConnectError, IncomingCall, Link, LinkState, Mesh, MeshConfig, Offer,
    Publish, Publisher, Responder, Subscribe, Subscription, SubscriptionStats,
};
pub use realm::RealmKeys;
pub use relay::{RelayConfig, RelayServer, RelayStartError};
