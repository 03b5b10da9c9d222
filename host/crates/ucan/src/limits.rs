//! Every bound of this crate.

/// One token. A delegation with a policy of the usual length has 300 to 500 bytes.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Delegations in a chain: more levels of trust than anybody keeps in mind.
pub const CHAIN_MAX: usize = 8;

/// A container after unpacking: some hundred tokens.
pub const CONTAINER_BYTES_MAX: usize = 256 << 10;

/// Lists and maps within one another in a token. The deepest honest ones are policies, with less than half of it.
pub const NESTING_MAX: usize = 32;

/// Statements of a policy, those within others included.
pub const POLICY_STATEMENTS_MAX: usize = 64;

/// A selector or glob of a policy.
pub const POLICY_TEXT_BYTES_MAX: usize = 1024;

/// A command.
pub const COMMAND_BYTES_MAX: usize = 256;

/// A nonce; the specification recommends 12 bytes.
pub const NONCE_BYTES_MAX: usize = 64;

/// Proofs that an invocation may name; longer lists are no chain.
pub const PROOFS_MAX: usize = CHAIN_MAX;

/// Largest integer that everybody reads alike: 2^53 − 1 (UCAN delegation, “Time”).
pub const INTEGER_MAX: i128 = (1 << 53) - 1;
