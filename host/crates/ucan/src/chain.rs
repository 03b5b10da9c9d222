//! Chains: delegations that lead from the subject to whoever acts (UCAN delegation 1.0.0, “Validation”).
//!
//! Owns what makes delegations a chain, and the questions that are asked of one. Leaves to others what time it is and who
//! has revoked what: both come in as arguments, so that a chain can be kept and asked again.
//!
//! What holds of every [`Chain`]: it has one to eight links, none twice; the first is issued by the subject; each further
//! one by the audience of the one before, about the same subject or, as a powerline, about whatever comes; and none has a
//! command that the one before does not cover; and there is a second in which all are in force. So the last link's command is the chain's, while policies and times are
//! those of all links together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cid::Cid;
use ipld_core::ipld::Ipld;
use macula_wire::NodeId;

use crate::{
    Command, Delegation,
    limits::{ASSEMBLED_MAX, ASSEMBLY_STEPS_MAX, CHAIN_MAX},
};

/// What time it is, as the verifier sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970.
    pub now: u64,
    /// Seconds by which `nbf` may lie ahead, because clocks differ. An end is an end.
    pub skew: u64,
}

/// Delegations, the root's first, each passing on what the one before gave. Cheap to clone.
///
/// What does not depend on time has been checked: the root's issuer is the subject, each issuer is the audience before,
/// the subject stays, no command is wider than the one before, no link begins after another has ended. Times, revocations and policies are asked separately.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    links: Arc<[Arc<Delegation>]>,
    subject: NodeId,
}

/// Why delegations are no chain, or a chain does not allow something. Links are counted from the root, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No delegation at all, and the issuer is not the subject.
    #[error("there is no proof, and the issuer is not the subject")]
    NoProof,
    /// The first delegation is not the subject's own.
    #[error("the chain does not begin at its subject")]
    NotRooted,
    /// More than [`CHAIN_MAX`] links.
    #[error("a chain of {0} links, at most {CHAIN_MAX} are allowed")]
    TooLong(usize),
    /// A delegation that is there twice.
    #[error("link {0} is there twice")]
    Duplicate(usize),
    /// A proof that nobody has, or in whose place came another.
    #[error("proof {0} is not available")]
    UnavailableProof(Cid),
    /// A link that was issued by another than the one before lets.
    #[error("link {0} was issued by another than the one before lets")]
    Audience(usize),
    /// A link about another subject.
    #[error("link {0} has another subject")]
    Subject(usize),
    /// A link whose command is wider than the one before.
    #[error("link {0} has a command that the one before does not cover")]
    Escalation(usize),
    /// A link that begins after it, or another, has ended: there is no second in which all are in force.
    #[error("link {0} begins after another link has ended: the chain is never in force")]
    NeverInForce(usize),
    /// A link's time has passed, or the invocation's.
    #[error("it has expired")]
    Expired,
    /// A link's time has not come.
    #[error("link {0} is not in force yet")]
    TooEarly(usize),
    /// A link was revoked by somebody at or above it.
    #[error("{0} was revoked")]
    Revoked(Cid),
    /// The command is not covered.
    #[error("the chain is for {0}")]
    Command(Command),
    /// A link's policy does not hold of the arguments.
    #[error("the policy of link {0} does not hold")]
    Policy(usize),
}

impl ChainError {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoProof | Self::NotRooted => "InvalidClaim",
            Self::TooLong(_) => "ChainTooLong",
            Self::Duplicate(_) => "DuplicateProof",
            Self::UnavailableProof(_) => "UnavailableProof",
            Self::Audience(_) => "InvalidAudience",
            Self::Subject(_) => "InvalidSubject",
            Self::Escalation(_) => "Escalation",
            Self::NeverInForce(_) => "InvalidTime",
            Self::Expired => "Expired",
            Self::TooEarly(_) => "TooEarly",
            Self::Revoked(_) => "Revoked",
            Self::Command(_) => "InvalidCommand",
            Self::Policy(_) => "MatchError",
        }
    }
}

impl Chain {
    /// Puts delegations together, the root's first.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub fn new(links: Vec<Arc<Delegation>>) -> Result<Self, ChainError> {
        if links.len() > CHAIN_MAX {
            return Err(ChainError::TooLong(links.len()));
        }
        let root = links.first().ok_or(ChainError::NoProof)?;
        for (index, link) in links.iter().enumerate() {
            if links[..index].iter().any(|before| before.cid() == link.cid()) {
                return Err(ChainError::Duplicate(index + 1));
            }
        }
        let subject = *root.subject().filter(|subject| *subject == root.issuer()).ok_or(ChainError::NotRooted)?;
        for (index, pair) in links.windows(2).enumerate() {
            let (number, before, link) = (index + 2, &pair[0], &pair[1]);
            if link.issuer() != before.audience() {
                return Err(ChainError::Audience(number));
            }
            if link.subject().is_some_and(|own| *own != subject) {
                return Err(ChainError::Subject(number));
            }
            if !before.command().covers(link.command()) {
                return Err(ChainError::Escalation(number));
            }
        }
        let chain = Self { links: links.into(), subject };
        if let Some(end) = chain.expires() {
            let late = |link: &Arc<Delegation>| link.not_before().is_some_and(|not_before| not_before > end);
            if let Some(index) = chain.links.iter().position(late) {
                return Err(ChainError::NeverInForce(index + 1));
            }
        }
        Ok(chain)
    }

    /// The delegations, the root's first; at least one.
    pub fn links(&self) -> &[Arc<Delegation>] {
        &self.links
    }

    /// The last delegation, by which the chain is known.
    pub fn last(&self) -> &Delegation {
        self.links.last().expect("a chain has a link")
    }

    /// Whose the matter is.
    pub fn subject(&self) -> &NodeId {
        &self.subject
    }

    /// Who is let, in the end.
    pub fn audience(&self) -> &NodeId {
        self.last().audience()
    }

    /// What may be done: the narrowest, which is the last.
    pub fn command(&self) -> &Command {
        self.last().command()
    }

    /// The last second in which all links hold; `None` when none ends.
    pub fn expires(&self) -> Option<u64> {
        self.links.iter().filter_map(|link| link.expires()).min()
    }

    /// The first second in which all links hold; `None`: from the beginning.
    pub fn not_before(&self) -> Option<u64> {
        self.links.iter().filter_map(|link| link.not_before()).max()
    }

    /// Whether all links hold now. The second that is named belongs to the time, at both ends.
    ///
    /// # Errors
    /// [`ChainError::Expired`], [`ChainError::TooEarly`].
    pub fn check_time(&self, clock: &Clock) -> Result<(), ChainError> {
        for (index, link) in self.links.iter().enumerate() {
            if link.expires().is_some_and(|expires| clock.now > expires) {
                return Err(ChainError::Expired);
            }
            if link.not_before().is_some_and(|not_before| clock.now.saturating_add(clock.skew) < not_before) {
                return Err(ChainError::TooEarly(index + 1));
            }
        }
        Ok(())
    }

    /// Whether no link is revoked. `revoked` says whether the key has revoked the delegation; it is asked for each link and
    /// all who issued it or a link before: nobody else has a say.
    ///
    /// # Errors
    /// [`ChainError::Revoked`].
    pub fn check_revoked(&self, revoked: impl Fn(&Cid, &NodeId) -> bool) -> Result<(), ChainError> {
        for (index, link) in self.links.iter().enumerate() {
            if self.links[..=index].iter().any(|above| revoked(link.cid(), above.issuer())) {
                return Err(ChainError::Revoked(*link.cid()));
            }
        }
        Ok(())
    }

    /// Whether a command with these arguments is covered by every link.
    ///
    /// # Errors
    /// [`ChainError::Command`], [`ChainError::Policy`].
    pub fn check(&self, command: &Command, arguments: &Ipld) -> Result<(), ChainError> {
        if !self.command().covers(command) {
            return Err(ChainError::Command(self.command().clone()));
        }
        match self.links.iter().position(|link| !link.policy().matches(arguments)) {
            Some(index) => Err(ChainError::Policy(index + 1)),
            None => Ok(()),
        }
    }
}

/// All chains in a set of tokens that end at `audience`, for files and containers, which hold tokens in no order. The same
/// set in the same order gives the same chains in the same order; a token that is there twice counts once.
///
/// Searches from the end to the roots, and gives up what is beyond [`ASSEMBLED_MAX`] chains or [`ASSEMBLY_STEPS_MAX`] links:
/// sets can be made in which there are more chains than anybody could list.
pub fn assemble(tokens: &[Arc<Delegation>], audience: &NodeId) -> Vec<Chain> {
    let mut seen = HashSet::new();
    let mut by_audience = HashMap::<_, Vec<_>>::new();
    for token in tokens.iter().filter(|token| seen.insert(token.cid())) {
        by_audience.entry(token.audience()).or_default().push(token);
    }
    let mut search = Search { by_audience, found: Vec::new(), steps_left: ASSEMBLY_STEPS_MAX };
    search.extend(audience, &mut Vec::new());
    search.found
}

struct Search<'a> {
    by_audience: HashMap<&'a NodeId, Vec<&'a Arc<Delegation>>>,
    found: Vec<Chain>,
    steps_left: usize,
}

impl<'a> Search<'a> {
    /// `path` leads from the end towards the root; what comes next is for `audience`. Its depth is that of a chain.
    fn extend(&mut self, audience: &NodeId, path: &mut Vec<&'a Arc<Delegation>>) {
        if path.len() == CHAIN_MAX {
            return;
        }
        for token in self.by_audience.get(audience).cloned().unwrap_or_default() {
            if self.found.len() == ASSEMBLED_MAX || self.steps_left == 0 {
                return;
            }
            self.steps_left -= 1;
            if path.iter().any(|on_path| on_path.cid() == token.cid()) {
                continue;
            }
            path.push(token);
            if token.subject() == Some(token.issuer()) {
                self.found.extend(Chain::new(path.iter().rev().copied().cloned().collect()).ok());
            } else {
                self.extend(token.issuer(), path);
            }
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests;
