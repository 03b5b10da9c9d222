//! Finds a relay that answers among those that a node knows.
//!
//! They are tried in turn, each with a head start on the next, so that one that does not answer holds nobody up; the first that
//! answers wins, and the others are given up. Addresses of one name are raced in the same way by `macula-transport`.

use std::time::Duration;

use futures::{
    FutureExt, StreamExt,
    future::{Either, pending},
    stream::FuturesUnordered,
};
use macula_transport::{DialError, Dialler, Link, LocalNode, RelayUrl};
use tokio::time::{Instant, sleep_until};

/// Head start of a relay on the next: one that answers at all has answered by then. One that fails gives up the rest of it.
const HEAD_START: Duration = Duration::from_secs(1);

/// Relays to dial, and where to begin.
#[derive(Debug)]
pub(super) struct Relays {
    urls: Vec<RelayUrl>,
    /// The one that is tried first. After one that was linked to comes the next, and so it does after all have failed.
    first: usize,
}

/// No relay could be linked to: what went wrong with each. An error says which relay it is about.
#[derive(Debug)]
pub(super) struct AllFailed(pub(super) Vec<DialError>);

impl Relays {
    pub(super) fn new(urls: Vec<RelayUrl>) -> Self {
        Self { urls, first: 0 }
    }

    /// Links to the first that answers.
    pub(super) async fn dial(&mut self, dialler: &Dialler, node: &LocalNode) -> Result<(RelayUrl, Link), AllFailed> {
        let attempt = |index: usize| {
            let url = &self.urls[index];
            dialler.dial(url, node).map(move |outcome| (index, outcome))
        };
        let mut waiting = (0..self.urls.len()).map(|turn| (self.first + turn) % self.urls.len());
        let mut attempts = FuturesUnordered::new();
        let mut failed: Vec<DialError> = Vec::new();
        let (mut next, mut next_at) = (waiting.next(), Instant::now());
        let (index, link) = loop {
            let turn = match next {
                Some(index) => Either::Left(sleep_until(next_at).map(move |()| index)),
                None if attempts.is_empty() => {
                    self.first = (self.first + 1) % self.urls.len();
                    return Err(AllFailed(failed));
                }
                None => Either::Right(pending()),
            };
            tokio::select! {
                Some((index, outcome)) = attempts.next() => match outcome {
                    Ok(link) => break (index, link),
                    Err(error) => {
                        failed.push(error);
                        next_at = Instant::now();
                    }
                },
                index = turn => {
                    attempts.push(attempt(index));
                    (next, next_at) = (waiting.next(), Instant::now() + HEAD_START);
                }
            }
        };
        drop(attempts);
        self.first = (index + 1) % self.urls.len();
        Ok((self.urls[index].clone(), link))
    }
}
