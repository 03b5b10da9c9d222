//! What one chain of delegations says, as the mesh understands it.

use cid::Cid;
use macula_ucan::{Chain, ChainError, Command};
use macula_wire::{NodeId, Operation, Pattern};

use crate::{Binding, ProfileError, Scope, Terms};

/// A set of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations(u16);

/// One chain's rights: operations on names, for a node or a plugin on it, for a time.
#[derive(Debug, Clone)]
pub struct Grant {
    operations: Operations,
    terms: Terms,
    chain: Chain,
}

/// Why a chain grants nothing on the mesh.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The chain itself does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A policy of another form than the mesh knows.
    #[error("link {link}: {source}")]
    Profile {
        /// Which link, from the root, counted from 1.
        link: usize,
        /// What is wrong with it.
        source: ProfileError,
    },
    /// A command that the mesh does not have.
    #[error("{0} is no command of the mesh")]
    Command(Command),
    /// A link passes on what it was not given.
    #[error("link {link} grants {pattern}, and the link before has only {}", list(.had))]
    Overclaims {
        /// Which link, from the root, counted from 1.
        link: usize,
        /// What is too much.
        pattern: Pattern,
        /// What the link before has.
        had: Vec<Pattern>,
    },
    /// It is for somebody else.
    #[error("the chain ends at {0}, and was presented by another")]
    Audience(NodeId),
    /// It begins at a key that is neither the realm's root nor an owner of names in the realm.
    #[error("the chain begins at {0}, which owns nothing in this realm")]
    Subject(NodeId),
}

/// Patterns for a sentence; of many, the first ones.
fn list(patterns: &[Pattern]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = patterns.iter().take(SHOWN).map(Pattern::as_str).collect();
    let more = if patterns.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

impl GrantError {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Chain(error) => error.name(),
            Self::Profile { source, .. } => source.name(),
            Self::Command(_) => "InvalidCommand",
            Self::Overclaims { .. } => "Overclaims",
            Self::Audience(_) => "InvalidAudience",
            Self::Subject(_) => "InvalidSubject",
        }
    }
}

impl Operations {
    /// All of them.
    pub const ALL: Self = Self((1 << Operation::COUNT) - 1);

    /// Those that a command stands for: `/` and `/mesh` are all, `/mesh/publish` is one.
    pub fn of_command(command: &Command) -> Option<Self> {
        match command.as_str() {
            "/" | "/mesh" => Some(Self::ALL),
            other => Operation::from_command(other).map(|operation| Self(1 << operation.index())),
        }
    }

    /// Whether `operation` is among them.
    pub fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation.index()) != 0
    }

    /// Those that are not among `others`.
    #[must_use]
    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are there.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL.into_iter().filter(move |operation| self.contains(*operation))
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        Self(operations.into_iter().fold(0, |all, operation| all | 1 << operation.index()))
    }
}

impl Grant {
    /// Reads a chain. Times and revocations are not looked at: they change.
    ///
    /// A link may leave the names out, and then passes on what it has; what it does say must be covered by what it has.
    ///
    /// # Errors
    /// See [`GrantError`].
    pub fn read(chain: Chain) -> Result<Self, GrantError> {
        let command = chain.command();
        let operations = Operations::of_command(command).ok_or_else(|| GrantError::Command(command.clone()))?;
        let mut terms = Terms::all();
        for (index, delegation) in chain.links().iter().enumerate() {
            let link = index + 1;
            let profile = |source| GrantError::Profile { link, source };
            let said = Terms::read(delegation.policy()).map_err(profile)?;
            if said.scope != Scope::All {
                if let Some(pattern) = terms.scope.uncovered(&said.scope) {
                    return Err(GrantError::Overclaims { link, pattern, had: terms.scope.patterns() });
                }
                terms.scope = said.scope;
            }
            terms.binding = terms.binding.and(&said.binding).map_err(profile)?;
        }
        Ok(Self { operations, terms, chain })
    }

    /// What may be done.
    pub fn operations(&self) -> Operations {
        self.operations
    }

    /// With which names.
    pub fn scope(&self) -> &Scope {
        &self.terms.scope
    }

    /// For whom on the node.
    pub fn binding(&self) -> &Binding {
        &self.terms.binding
    }

    /// The chain that says so.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The last delegation's id, by which the grant is known.
    pub fn cid(&self) -> &Cid {
        self.chain.last().cid()
    }

    /// The last second in which it is in force; `None` when it does not end.
    pub fn expires(&self) -> Option<u64> {
        self.chain.expires()
    }

    /// Whether its time has passed.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires().is_some_and(|expires| expires < now)
    }
}
