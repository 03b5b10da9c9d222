//! What a handler gives up with, and what becomes of the message or call then.

use crate::payload::DecodeError;
use crate::rpc::CallError;
use crate::{Disposition, Error, HandlerError};
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// What handlers return: `Ok` or a [`Failure`].
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// What a handler gives up with. `?` makes one of any error.
///
/// What happens then, unless the handler says otherwise:
///
/// | error | message handler | call handler: code |
/// |---|---|---|
/// | [`DecodeError`], and those of `serde_json`, UTF-8 and number parsing | reject | `bad-arguments` |
/// | [`Error::Timeout`], [`Unavailable`](Error::Unavailable), [`QuotaExceeded`](Error::QuotaExceeded), [`NotFound`](Error::NotFound), [`Conflict`](Error::Conflict), [`Cancelled`](Error::Cancelled), [`Other`](Error::Other) | retry | [`Error::code`] |
/// | [`Error::Invalid`], [`TooLarge`](Error::TooLarge) | reject | [`Error::code`] |
/// | [`Error::Denied`] | dead letter: replay it when the right is there | `denied` |
/// | [`CallError::NotRun`] | as its [`Error`] | as its [`Error`] |
/// | [`CallError::MaybeRun`] | dead letter: a retry could run it twice | as its [`Error`] |
/// | [`CallError::Handler`], [`HandlerError`] | reject | unchanged |
/// | any other error, [`Failure::new`] | dead letter | `failed` |
///
/// In the other handlers an [`Error`] goes to the host as it is, everything else as [`Error::Other`] with the text.
///
/// A handler says otherwise with [`Failure::retry`], [`retry_after`](Failure::retry_after),
/// [`reject`](Failure::reject), [`dead_letter`](Failure::dead_letter) and [`code`](Failure::code), or behind any
/// result with [`OrElse`]:
///
/// ```
/// use macula_plugin::prelude::*;
///
/// fn store(message: &Message) -> Result {
///     let reading: f64 = message.json().or_dead_letter()?;
///     if reading < -273.15 {
///         return Err(Failure::reject(format!("{reading} °C is below absolute zero")));
///     }
///     kv::open("readings").or_retry()?.set(&message.topic, &message.payload)?;
///     Ok(())
/// }
/// ```
pub struct Failure(Box<Inner>);

struct Inner {
    cause: Box<dyn StdError>,
    context: Vec<String>,
    remedy: Option<Remedy>,
    code: Option<String>,
}

/// What the handler itself said is to become of the message.
#[derive(Clone, Copy)]
enum Remedy {
    Retry(Option<Duration>),
    Reject,
    DeadLetter,
}

/// A cause that is only a text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Text(String);

impl Failure {
    /// A failure with a text. A message becomes a dead letter, a call is answered with the code `failed`.
    pub fn new(text: impl Into<String>) -> Self {
        Self::from(Text(text.into()))
    }

    /// Deliver the message again after the host's growing delay; after the last attempt it becomes a dead letter.
    /// Messages of the same publisher and topic wait behind it.
    pub fn retry(text: impl Into<String>) -> Self {
        Self::new(text).with(Remedy::Retry(None))
    }

    /// Deliver the message again after this delay.
    pub fn retry_after(delay: Duration, text: impl Into<String>) -> Self {
        Self::new(text).with(Remedy::Retry(Some(delay)))
    }

    /// This plugin will never handle the message: it is counted and logged with the text, then dropped.
    pub fn reject(text: impl Into<String>) -> Self {
        Self::new(text).with(Remedy::Reject)
    }

    /// Keep the message for a person to look at and to replay, with the text as the reason.
    pub fn dead_letter(text: impl Into<String>) -> Self {
        Self::new(text).with(Remedy::DeadLetter)
    }

    /// Answer the call with this code and text.
    pub fn code(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self::from(HandlerError::new(code, text))
    }

    /// The answer to a call of a procedure that this plugin does not know.
    pub fn unknown_procedure(procedure: &str) -> Self {
        Self::code("unknown-procedure", format!("this plugin has no procedure {procedure}"))
    }

    /// The error this was made of, when it is of that type.
    pub fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.cause.downcast_ref()
    }

    /// What becomes of a message whose handler fails with this.
    pub fn into_disposition(self) -> Disposition {
        match self.0.remedy.unwrap_or_else(|| usual_remedy(&*self.0.cause)) {
            Remedy::Retry(delay) => Disposition::Retry(delay),
            Remedy::Reject => Disposition::Reject(self.to_string()),
            Remedy::DeadLetter => Disposition::DeadLetter(self.to_string()),
        }
    }

    /// What a caller gets whose call's handler fails with this.
    pub fn into_handler_error(self) -> HandlerError {
        let text = self.to_string();
        let unchanged = self.0.context.is_empty();
        let mut error = match self.0.cause.downcast::<HandlerError>() {
            Ok(own) if unchanged => *own,
            Ok(own) => HandlerError { message: HandlerError::new("", text).message, ..*own },
            Err(cause) => match cause.downcast_ref::<CallError>() {
                Some(CallError::Handler(upstream)) if unchanged => upstream.clone(),
                _ => HandlerError::new(usual_code(&*cause), text),
            },
        };
        if let Some(code) = self.0.code {
            error.code = code;
        }
        error
    }

    /// What the host is told when a handler of no message and no call fails with this.
    pub fn into_error(self) -> Error {
        let text = self.to_string();
        let inner = *self.0;
        match inner.cause.downcast::<Error>() {
            Ok(error) if inner.context.is_empty() => *error,
            Ok(error) if matches!(*error, Error::Timeout) => Error::Timeout,
            Ok(error) if matches!(*error, Error::Unavailable(_)) => Error::Unavailable(text),
            Ok(_) => Error::Other(text),
            Err(cause) => match cause.downcast_ref::<CallError>() {
                Some(CallError::NotRun(error) | CallError::MaybeRun(error)) => error.clone(),
                _ => Error::Other(text),
            },
        }
    }

    fn with(mut self, remedy: Remedy) -> Self {
        self.0.remedy = Some(remedy);
        self
    }
}

fn usual_remedy(cause: &(dyn StdError + 'static)) -> Remedy {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return usual_remedy_of(error);
    }
    match cause.downcast_ref::<CallError>() {
        Some(CallError::NotRun(error)) => usual_remedy_of(error),
        Some(CallError::MaybeRun(_)) => Remedy::DeadLetter,
        Some(CallError::Handler(_) | CallError::BadAnswer(_)) => Remedy::Reject,
        None if cause.is::<HandlerError>() || is_decoding(cause) => Remedy::Reject,
        None => Remedy::DeadLetter,
    }
}

fn usual_remedy_of(error: &Error) -> Remedy {
    match error {
        Error::Invalid(_) | Error::TooLarge(_) => Remedy::Reject,
        Error::Denied(_) => Remedy::DeadLetter,
        Error::Timeout
        | Error::Unavailable(_)
        | Error::QuotaExceeded(_)
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::Cancelled
        | Error::Other(_) => Remedy::Retry(None),
    }
}

fn usual_code(cause: &(dyn StdError + 'static)) -> &'static str {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return error.code();
    }
    match cause.downcast_ref::<CallError>() {
        Some(CallError::NotRun(error) | CallError::MaybeRun(error)) => error.code(),
        None if is_decoding(cause) => "bad-arguments",
        _ => "failed",
    }
}

fn is_decoding(cause: &(dyn StdError + 'static)) -> bool {
    cause.is::<DecodeError>()
        || cause.is::<serde_json::Error>()
        || cause.is::<std::str::Utf8Error>()
        || cause.is::<std::string::FromUtf8Error>()
        || cause.is::<std::num::ParseIntError>()
        || cause.is::<std::num::ParseFloatError>()
}

impl<E: StdError + 'static> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self(Box::new(Inner { cause: Box::new(cause), context: Vec::new(), remedy: None, code: None }))
    }
}

/// The texts added by [`OrElse::context`], the error, and what caused it, joined by colons.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for text in self.0.context.iter().rev() {
            write!(f, "{text}: ")?;
        }
        write!(f, "{}", self.0.cause)?;
        let mut source = self.0.cause.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says behind a result what is to become of the message or call when it failed.
pub trait OrElse<T> {
    /// Deliver the message again after the host's growing delay.
    ///
    /// # Errors
    /// Those of the result, like all methods here.
    fn or_retry(self) -> Result<T>;
    /// Deliver the message again after this delay.
    ///
    /// # Errors
    /// Those of the result.
    fn or_retry_after(self, delay: Duration) -> Result<T>;
    /// Count and log the message, then drop it.
    ///
    /// # Errors
    /// Those of the result.
    fn or_reject(self) -> Result<T>;
    /// Keep the message for a person.
    ///
    /// # Errors
    /// Those of the result.
    fn or_dead_letter(self) -> Result<T>;
    /// Answer the call with this code.
    ///
    /// # Errors
    /// Those of the result.
    fn or_code(self, code: &str) -> Result<T>;
    /// Puts a text before the error's own: `context("reading the last value")`.
    ///
    /// # Errors
    /// Those of the result.
    fn context(self, text: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Failure>> OrElse<T> for std::result::Result<T, E> {
    fn or_retry(self) -> Result<T> {
        self.map_err(|error| error.into().with(Remedy::Retry(None)))
    }

    fn or_retry_after(self, delay: Duration) -> Result<T> {
        self.map_err(|error| error.into().with(Remedy::Retry(Some(delay))))
    }

    fn or_reject(self) -> Result<T> {
        self.map_err(|error| error.into().with(Remedy::Reject))
    }

    fn or_dead_letter(self) -> Result<T> {
        self.map_err(|error| error.into().with(Remedy::DeadLetter))
    }

    fn or_code(self, code: &str) -> Result<T> {
        self.map_err(|error| {
            let mut failure: Failure = error.into();
            failure.0.code = Some(code.to_owned());
            failure
        })
    }

    fn context(self, text: impl Into<String>) -> Result<T> {
        self.map_err(|error| {
            let mut failure: Failure = error.into();
            failure.0.context.push(text.into());
            failure
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(error: impl Into<Failure>) -> Disposition {
        error.into().into_disposition()
    }

    #[test]
    fn each_kind_of_error_has_its_usual_disposition() {
        assert_eq!(disposition(Error::Timeout), Disposition::Retry(None));
        assert_eq!(disposition(Error::Invalid("topic".into())), Disposition::Reject("invalid: topic".into()));
        assert_eq!(disposition(Error::Denied("right".into())), Disposition::DeadLetter("denied: right".into()));
        assert_eq!(disposition(CallError::NotRun(Error::Timeout)), Disposition::Retry(None));
        assert!(matches!(disposition(CallError::MaybeRun(Error::Timeout)), Disposition::DeadLetter(_)));
        assert!(matches!(disposition("x".parse::<f64>().unwrap_err()), Disposition::Reject(_)));
        assert_eq!(disposition(Failure::new("odd")), Disposition::DeadLetter("odd".into()));
    }

    #[test]
    fn a_handler_may_say_otherwise() {
        let denied = || std::result::Result::<(), Error>::Err(Error::Denied("right".into()));
        assert_eq!(disposition(denied().or_retry().unwrap_err()), Disposition::Retry(None));
        let delay = Duration::from_secs(3);
        assert_eq!(disposition(denied().or_retry_after(delay).unwrap_err()), Disposition::Retry(Some(delay)));
        assert_eq!(
            disposition(denied().context("saving").context("room 7").or_reject().unwrap_err()),
            Disposition::Reject("room 7: saving: denied: right".into())
        );
    }

    #[test]
    fn callers_get_a_code() {
        let code = |failure: Failure| failure.into_handler_error().code;
        assert_eq!(code("x".parse::<f64>().unwrap_err().into()), "bad-arguments");
        assert_eq!(code(Error::NotFound("x".into()).into()), "not-found");
        assert_eq!(code(Failure::new("odd")), "failed");
        assert_eq!(code(Failure::code("own", "text")), "own");
        assert_eq!(code(std::result::Result::<(), _>::Err(Error::Timeout).or_code("slow").unwrap_err()), "slow");
        let upstream = HandlerError::new("own", "text").with_data("details");
        assert_eq!(Failure::from(CallError::Handler(upstream.clone())).into_handler_error(), upstream);
    }

    #[test]
    fn the_host_gets_the_error_that_lets_it_try_again() {
        assert_eq!(Failure::from(Error::Timeout).into_error(), Error::Timeout);
        let late = std::result::Result::<(), _>::Err(Error::Timeout).context("starting").unwrap_err();
        assert_eq!(late.into_error(), Error::Timeout);
        assert_eq!(Failure::new("odd").into_error(), Error::Other("odd".into()));
    }
}
