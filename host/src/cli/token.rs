//! `macula-host token issue|inspect|verify|revoke|list`

mod describe;
mod inspect;
mod issue;
mod list;
mod revoke;
mod verify;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use macula_node::{
    Home, StoredTokens,
    auth::ucan::{Delegation, Token as AnyToken},
    unix_now,
};

use super::CommonFlags;
use crate::{config::token_failure, failure::Failure};

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Grant a right to somebody; prints the delegation with its proofs
    Issue(issue::Issue),
    /// Show who grants what to whom, until when
    Inspect(inspect::Inspect),
    /// Check delegations; prints `valid` or the error's name
    Verify(verify::Verify),
    /// Take a delegation back, here and on the mesh
    Revoke(revoke::Revoke),
    /// Print the delegations that are kept here
    List(list::List),
}

impl Token {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        match self.action {
            Action::Issue(issue) => issue.run(common),
            Action::Inspect(inspect) => inspect.run(common),
            Action::Verify(verify) => verify.run(common),
            Action::Revoke(revoke) => revoke.run(common),
            Action::List(list) => list.run(common),
        }
    }
}

/// The tokens of a file that somebody named.
fn tokens_of(path: &Path) -> Result<Vec<AnyToken>, Failure> {
    StoredTokens::read(path).tokens.map_err(|error| token_failure(path, &error))
}

/// The delegations of the named files.
fn delegations_of(files: &[PathBuf]) -> Result<Vec<Arc<Delegation>>, Failure> {
    let mut all = Vec::new();
    for path in files {
        all.extend(delegations(tokens_of(path)?));
    }
    Ok(all)
}

fn delegations(tokens: Vec<AnyToken>) -> impl Iterator<Item = Arc<Delegation>> {
    tokens.into_iter().filter_map(|token| match token {
        AnyToken::Delegation(delegation) => Some(Arc::new(delegation)),
        AnyToken::Invocation(_) => None,
    })
}

/// All delegations of the named files, and of the home.
fn known(home: &Home, files: &[PathBuf]) -> Result<Vec<Arc<Delegation>>, Failure> {
    let mut known = delegations_of(files)?;
    known.extend(home.tokens()?.into_iter().flat_map(StoredTokens::into_delegations));
    Ok(known)
}
