//! `[intake]`: jobs and events by HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::quantity::Rate;

/// Jobs and events by HTTP, for what cannot reach the queue.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    /// The address of `POST /jobs` and `POST /events`; without it, nothing is served.
    pub listen: Option<SocketAddr>,
    /// A file with the tokens that callers send, one a line.
    pub token_file: Option<PathBuf>,
    /// The certificate chain, as PEM; without it, a proxy in front ends TLS.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate, as PEM.
    pub tls_key_file: Option<PathBuf>,
    /// How many requests are taken.
    pub rate: Rate,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        Self {
            listen: None,
            token_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            rate: Rate::per_second(50),
        }
    }
}

impl Config {
    pub(super) fn check_intake(&self) -> Result<(), ConfigError> {
        let intake = &self.intake;
        if intake.listen.is_some() && intake.token_file.is_none() {
            let reason = "is missing: name a file with the token that callers send, such as one from `openssl rand -hex 32`";
            return Err(ConfigError::value("intake.token_file", reason));
        }
        if intake.tls_cert_file.is_some() != intake.tls_key_file.is_some() {
            let reason = "is set without the other of tls_cert_file and tls_key_file";
            return Err(ConfigError::value("intake.tls_cert_file", reason));
        }
        Ok(())
    }
}
