//! What can be allowed on the mesh, as delegations, manifests and denials name it.

use std::fmt;

use serde::Serialize;

/// Something that needs a right. The first five are about names inside a realm, the others about the realm itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Operation {
    /// Receive the messages of a pattern, or read a topic's last value.
    Subscribe,
    /// Send messages to a topic.
    Publish,
    /// Offer a procedure.
    Advertise,
    /// Call a procedure.
    Call,
    /// Fetch content.
    Fetch,
    /// Publish what a deployment slot holds.
    Deploy,
    /// Own a namespace: grant rights to the names in it.
    Own,
    /// Forward the realm's messages for others, and read them.
    Relay,
    /// Look after nodes: read their status, and the realm's system topics.
    Admin,
}

impl Operation {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Subscribe,
        Self::Publish,
        Self::Advertise,
        Self::Call,
        Self::Fetch,
        Self::Deploy,
        Self::Own,
        Self::Relay,
        Self::Admin,
    ];

    /// The command that a delegation names, for example `/mesh/publish`.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Subscribe => "/mesh/subscribe",
            Self::Publish => "/mesh/publish",
            Self::Advertise => "/mesh/advertise",
            Self::Call => "/mesh/call",
            Self::Fetch => "/mesh/fetch",
            Self::Deploy => "/mesh/deploy",
            Self::Own => "/mesh/own",
            Self::Relay => "/mesh/relay",
            Self::Admin => "/mesh/admin",
        }
    }

    /// The operation of a command; `None` for any other text.
    pub fn from_command(command: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.command() == command)
    }

    /// The command's last segment, which is the key in a manifest: for example `publish`.
    pub fn word(self) -> &'static str {
        &self.command()["/mesh/".len()..]
    }

    /// Its place in [`Operation::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.index(), index);
            assert_eq!(Operation::from_command(operation.command()), Some(operation));
            assert!(operation.command().ends_with(operation.word()));
        }
        for other in ["/mesh", "/mesh/publisher", "publish", "/mesh/publish/"] {
            assert_eq!(Operation::from_command(other), None, "{other}");
        }
    }
}
