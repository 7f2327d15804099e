//! The errors of the configuration.
//!
//! This module is below all others: authorities, proxies and keys are read where they are used, and their errors name the key of
//! the configuration.

use std::path::PathBuf;
use std::{fmt, io};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no configuration file.
    #[error(
        "no configuration was found: name one with --config, create config.toml or /etc/handout/config.toml, or set HANDOUT_… variables"
    )]
    Nowhere,
    /// The file in the working directory may have been put there by another user.
    #[error(
        "config.toml in the working directory is not used, since {reason}: name it with --config to use it, or run the command in another directory"
    )]
    Planted {
        /// Why it is not trusted.
        reason: &'static str,
    },
    /// The file cannot be read.
    #[error("could not read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The file is not a valid configuration.
    #[error("the configuration {} is wrong: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The position and the error.
        reason: String,
    },
    /// The environment variables are not a valid configuration.
    #[error("the environment is wrong: {reason}")]
    Variables {
        /// The variable and the error.
        reason: String,
    },
    /// No region is configured, and the instance's metadata service, which may know it, returned none.
    #[error(
        "the configuration's {key} is missing, and neither the environment, the profile nor the metadata service of the instance names a region: set it, or set AWS_EC2_METADATA_DISABLED=true on a machine without that service"
    )]
    NoRegion {
        /// The key, such as `connections.reports.region`.
        key: String,
    },
    /// A file that a key names is on a file system that does not respond.
    #[error("the configuration's {key} names a file that could not be read in time")]
    Late {
        /// The key, such as `mail.smtp.password_file`.
        key: String,
        /// The file, and how long it was waited for.
        source: io::Error,
    },
    /// The value of a key is not usable.
    #[error("the configuration's {key} {reason}")]
    Value {
        /// The key, such as `queue.url`.
        key: String,
        /// The error, and a correct form.
        reason: String,
    },
}

impl ConfigError {
    pub(crate) fn value(key: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Value {
            key: key.into(),
            reason: reason.to_string(),
        }
    }

    /// The error for an unreadable file that a key names; `reason` formats it, except for timeouts.
    pub(crate) fn unread(
        key: impl Into<String>,
        source: io::Error,
        reason: impl FnOnce(&io::Error) -> String,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::TimedOut => Self::Late {
                key: key.into(),
                source,
            },
            _ => Self::value(key, reason(&source)),
        }
    }
}
