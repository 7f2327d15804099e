//! `[access]`: what is kept of the requests in access logs.

use serde::{Deserialize, Serialize};

use super::{AddressDetail, Config, ConfigError};
use crate::quantity::Span;

/// Reports from access logs.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// What is kept of a client's network address.
    pub addresses: AddressDetail,
    /// How long requests are kept.
    pub keep: Span,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            addresses: AddressDetail::Keyed,
            keep: Span::days(180),
        }
    }
}

impl Config {
    pub(super) fn check_access(&self) -> Result<(), ConfigError> {
        match self.access.keep < Span::days(1) {
            true => Err(ConfigError::value(
                "access.keep",
                format!("is {}: it must be at least 1d", self.access.keep),
            )),
            false => Ok(()),
        }
    }
}
