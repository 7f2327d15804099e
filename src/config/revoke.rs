//! `[revoke]`: what `handout revoke` may do by itself.

use serde::{Deserialize, Serialize};

/// What `handout revoke` may do by itself; it prints commands for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevokeConfig {
    /// The means that the command applies.
    pub apply: Vec<RevokeMeans>,
}

/// A means that the command can apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RevokeMeans {
    /// A record in the ledger, which every portal follows.
    Ledger,
    /// A tag of the objects, with `--apply`.
    Tag,
}

impl Default for RevokeConfig {
    fn default() -> Self {
        Self {
            apply: vec![RevokeMeans::Ledger],
        }
    }
}

impl RevokeConfig {
    /// Whether the command may apply a means.
    pub fn allows(&self, means: RevokeMeans) -> bool {
        self.apply.contains(&means)
    }
}
