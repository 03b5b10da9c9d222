//! Every bound of this crate. What is beyond one is refused; nothing is cut.

/// One token. A delegation with a policy of the usual length has 300 to 500 bytes, so this leaves room for thirty times it.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Delegations in a chain: more levels of trust than anybody keeps in mind, and few enough
/// signatures (some 40 µs each) that a stranger's chain is cheap to refuse.
pub const CHAIN_MAX: usize = 8;

/// A container after unpacking: some five hundred tokens.
pub const CONTAINER_BYTES_MAX: usize = 256 << 10;

/// Lists and maps within one another in a token. The deepest policy takes 20 of them, which leaves 12 for the values in it.
pub const NESTING_MAX: usize = 32;

/// Statements of a policy, those within others included. A grant names a handful of topics; whoever needs more issues
/// several delegations.
pub const POLICY_STATEMENTS_MAX: usize = 64;

/// Statements within one another.
pub const POLICY_DEPTH_MAX: usize = 8;

/// A selector or glob of a policy: four times the longest topic.
pub const POLICY_TEXT_BYTES_MAX: usize = 1024;

/// Values that are looked at to evaluate a policy, which is about a millisecond. Honest policies need some dozens; one
/// that was made to take long does not hold.
pub const POLICY_WORK_MAX: usize = 1 << 16;

/// A command.
pub const COMMAND_BYTES_MAX: usize = 256;

/// A nonce; the specification recommends 12 bytes, and no suite needs more than a hash.
pub const NONCE_BYTES_MAX: usize = 64;

/// Proofs that an invocation may name; longer lists are no chain.
pub const PROOFS_MAX: usize = CHAIN_MAX;

/// Largest time that everybody reads alike: 2^53 − 1 (UCAN 1.0.0, “Time Bounds”).
pub const INTEGER_MAX: i128 = (1 << 53) - 1;

/// Chains that are looked for in a set of tokens.
pub const ASSEMBLED_MAX: usize = 64;

/// Links that are tried to find them: far beyond what an honest set takes, and some milliseconds.
pub const ASSEMBLY_STEPS_MAX: usize = 1 << 14;
