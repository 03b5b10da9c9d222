//! Call procedures and offer them. Procedures are named like topics.

use crate::payload::{self, DecodeError};
use crate::pubsub::borrowed;
use crate::{Error, HandlerError, error::milliseconds, host};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::time::Duration;

/// Why a call gave no answer, sorted by what the caller has to know first: did the handler run?
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It ran and said no.
    #[error("{0}")]
    Handler(HandlerError),
    /// It did not run. Trying again cannot make it run twice.
    #[error("the call did not run: {0}")]
    NotRun(Error),
    /// It may have run. Try again only what may happen twice, or with an
    /// [`idempotency_key`](Call::idempotency_key).
    #[error("the call may have run: {0}")]
    MaybeRun(Error),
    /// It ran, and its answer is not what [`send_json`](Call::send_json) was asked to read.
    #[error("the answer cannot be read: {0}")]
    BadAnswer(DecodeError),
}

/// Begins a call of a procedure; [`Call::send`] makes it.
///
/// ```
/// use macula_plugin::prelude::*;
/// use std::time::Duration;
///
/// fn total(values: &[f64]) -> Result<f64> {
///     Ok(call("math.add").json(values).timeout(Duration::from_secs(1)).send_json()?)
/// }
/// ```
pub fn call<'a>(procedure: impl Into<Cow<'a, str>>) -> Call<'a> {
    Call {
        procedure: procedure.into(),
        payload: Ok(Cow::Borrowed(&[])),
        timeout: None,
        content_type: Cow::Borrowed(""),
        idempotency_key: Cow::Borrowed(""),
        metadata: Vec::new(),
    }
}

/// A call about to be made: see [`call`].
#[derive(Debug)]
#[must_use = "a call is made by `send` or `send_json`"]
pub struct Call<'a> {
    procedure: Cow<'a, str>,
    payload: Result<Cow<'a, [u8]>, Error>,
    timeout: Option<Duration>,
    content_type: Cow<'a, str>,
    idempotency_key: Cow<'a, str>,
    metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// What the contract gives a call without options.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

impl<'a> Call<'a> {
    /// The arguments as they are, at most 1 MiB: borrowed when given as a slice, not copied.
    pub fn payload(mut self, payload: impl Into<Cow<'a, [u8]>>) -> Self {
        self.payload = Ok(payload.into());
        self
    }

    /// The arguments as JSON, with the content type `application/json`. A value that cannot be written makes the call
    /// fail with [`Error::Invalid`], not run.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.payload = crate::to_json(value).map(Cow::Owned);
        self.content_type("application/json")
    }

    /// From now until an answer is no longer wanted: 1 ms to 10 min, cut to the time left to the current handler.
    /// Without it, 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Media type of the arguments.
    pub fn content_type(mut self, content_type: impl Into<Cow<'a, str>>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// At most 64 bytes, the same for every try of what is to happen once. With a key the mesh may itself try another
    /// provider after [`CallError::MaybeRun`].
    pub fn idempotency_key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.idempotency_key = key.into();
        self
    }

    /// Adds a named value for the handler.
    pub fn meta(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// Makes the call and waits for the answer (at most 1 MiB). The instance handles nothing else meanwhile; a call that
    /// could only come back to this waiting instance fails at once.
    ///
    /// # Errors
    /// [`CallError`] says whether the handler ran.
    pub fn send(self) -> Result<Vec<u8>, CallError> {
        let payload = self.payload.map_err(CallError::NotRun)?;
        let plain = self.timeout.is_none()
            && self.content_type.is_empty()
            && self.idempotency_key.is_empty()
            && self.metadata.is_empty();
        if plain {
            return host::call(&self.procedure, &payload, None);
        }
        let timeout = self.timeout.unwrap_or(TIMEOUT_DEFAULT);
        let metadata = borrowed(&self.metadata);
        let options = CallOptions {
            timeout_ms: milliseconds("timeout", timeout).map_err(CallError::NotRun)?,
            content_type: &self.content_type,
            idempotency_key: &self.idempotency_key,
            metadata: &metadata,
        };
        host::call(&self.procedure, &payload, Some(options))
    }

    /// Makes the call and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`CallError::BadAnswer`].
    pub fn send_json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let answer = self.send()?;
        payload::decode_json("answer", &answer).map_err(CallError::BadAnswer)
    }
}

pub(crate) struct CallOptions<'a> {
    pub(crate) timeout_ms: u32,
    pub(crate) content_type: &'a str,
    pub(crate) idempotency_key: &'a str,
    pub(crate) metadata: &'a [(&'a str, &'a str)],
}

/// Begins to offer a procedure; [`Advertise::open`] offers it. Calls arrive at
/// [`CallHandler`](crate::CallHandler).
///
/// Offer in [`Lifecycle::init`](crate::Lifecycle::init), or let the manifest do it.
pub fn advertise(procedure: &str) -> Advertise<'_> {
    Advertise { procedure, in_flight_max: None, metadata: Vec::new() }
}

/// An offer about to be made: see [`advertise`].
#[derive(Debug)]
#[must_use = "an offer begins with `open`"]
pub struct Advertise<'a> {
    procedure: &'a str,
    in_flight_max: Option<u32>,
    metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Advertise<'a> {
    /// Calls waiting or running here at most, 1 to 65,536; relays send further ones elsewhere.
    pub fn in_flight_max(mut self, calls: u32) -> Self {
        self.in_flight_max = Some(calls);
        self
    }

    /// Adds a named value, shown to those who look for providers.
    pub fn meta(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// Makes the offer. Takes effect when the current handler returns.
    ///
    /// # Errors
    /// `Denied`; `Invalid`; `QuotaExceeded` (too many offers); `Conflict` (this instance already offers it).
    pub fn open(self) -> Result<Advertisement, Error> {
        let metadata = borrowed(&self.metadata);
        let plain = self.in_flight_max.is_none() && metadata.is_empty();
        let options = AdvertiseOptions { in_flight_max: self.in_flight_max, metadata: &metadata };
        host::advertise(self.procedure, (!plain).then_some(options)).map(Advertisement)
    }
}

pub(crate) struct AdvertiseOptions<'a> {
    pub(crate) in_flight_max: Option<u32>,
    pub(crate) metadata: &'a [(&'a str, &'a str)],
}

/// A procedure on offer, until [`withdraw`](Self::withdraw) or the end of the instance: **dropping this handle changes
/// nothing**.
#[derive(Debug)]
pub struct Advertisement(host::Advertisement);

impl Advertisement {
    /// The procedure as given.
    pub fn procedure(&self) -> String {
        self.0.procedure()
    }

    /// Takes the offer back; calls already taken are still answered. Twice is once.
    pub fn withdraw(&self) {
        self.0.withdraw();
    }
}
