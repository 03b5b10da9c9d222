//! A node of the mesh, for programs and for the `macula-host` binary.
//!
//! [`Mesh`] is the handle that applications use: it publishes, subscribes, calls and answers over links that it opens
//! and re-opens by itself. [`RelayServer`] runs a relay. [`RealmAccess`] is what lets a node into a realm, [`Home`] keeps
//! keys and state on disk.
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
//! let relay = RelayServer::start(RelayConfig::local(home.node("relay")?, realm.clone())?)?;
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
//!
//! Calls, and a stream that waits for its slowest subscriber instead of losing messages:
//!
//! ```
//! use std::time::Duration;
//! use macula_node::{CallOptions, Home, Mesh, MeshConfig, RelayConfig, RelayServer, Subscribe};
//! use macula_node::wire::{CallError, ContentType, HandlerError, WhenFull};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let directory = tempfile::tempdir()?;
//! # let home = Home::open(directory.path())?;
//! # let relay = RelayServer::start(RelayConfig::local(home.node("relay")?, home.local_realm()?)?)?;
//! let connect = || Mesh::connect(MeshConfig::new(relay.url(), home.local_realm().expect("a home")));
//! let (provider, caller) = (connect().await?, connect().await?);
//!
//! // One answers …
//! let mut greetings = provider.advertise("greet.name".parse()?).await?;
//! tokio::spawn(async move {
//!     while let Some(call) = greetings.next().await {
//!         let answer = match std::str::from_utf8(&call.request.payload) {
//!             Ok(name) => Ok(format!("hello {name}").into()),
//!             Err(_) => Err(HandlerError::new("no-text", "a name is text")),
//!         };
//!         call.responder.answer(answer);
//!     }
//! });
//! // … and the other learns whether trying again is safe.
//! let options = CallOptions { timeout: Duration::from_secs(2), ..CallOptions::default() };
//! assert_eq!(&caller.call(&"greet.name".parse()?, b"Ada", &options).await?[..], b"hello Ada");
//! let nobody = caller.call(&"greet.nobody".parse()?, b"", &options).await;
//! assert!(matches!(nobody, Err(CallError::NotRun(_))));
//!
//! let options = Subscribe { when_full: WhenFull::Block, ..Subscribe::default() };
//! let mut lines = provider.subscribe_with("lines.*".parse()?, options).await?;
//! let mut publisher = caller.publisher(&"lines.one".parse()?, &ContentType::EMPTY);
//! for n in 0..1000 {
//!     publisher.publish(format!("{n}").as_bytes()).await?;
//! }
//! publisher.confirm()?.wait().await?; // the relay has them all
//! for n in 0..1000 {
//!     assert_eq!(lines.next().await.expect("the mesh is up").payload, format!("{n}"));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod audit;
mod clock;
mod content_store;
mod content_stream;
mod home;
mod mesh;
mod pulse;
mod realm_access;
mod relay;
mod revocation_log;

pub use audit::Audit;
pub use clock::{KeptClock, begin as begin_clock, unix_now, wall_now};
pub use content_store::{
    ContentReader, ContentUsage, ContentWriter, FetchState, NodeContent, OwnedContent, OwnedFetch, Pinner,
};
pub use home::{
    Home, HomeError, LOCAL_REALM, NodeState, PackageFiles, RealmEntry, RealmError, Run, RunningNode, StateFile,
    StoredClock, StoredTokens, TokenFileError, read_tokens,
};
pub use macula_auth as auth;
pub use macula_content as content;
pub use macula_deploy as deploy;
pub use macula_relay::Stats as RelayStats;
pub use macula_transport::{BindError, Certificate, DialError, LocalNode, RelayUrl, RelayUrlError, TlsMode};
pub use macula_wire as wire;
pub use mesh::{
    Advertise, AuthLevel, CallOptions, ConfirmError, Confirmation, ConnectError, ContentBytes, ContentSink,
    ContentSource, FetchError, FetchOptions, Fetching, IncomingCall, Link, LinkState, Mesh, MeshConfig, Offer,
    OutOfForce, Outlook, Publish, Publisher, Responder, Subscribe, Subscription, SubscriptionStats,
};
pub use realm_access::{RealmAccess, TokenSource, nonce};
pub use relay::{RelayConfig, RelayServer, RelayStartError};
pub use revocation_log::{LoggedRevocation, RevocationLog};
