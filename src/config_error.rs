//! Why the configuration cannot be used.
//!
//! A module of its own below all others: authorities, proxies and keys are read where they are used, and what is wrong with
//! them is told with the key of the configuration that names them.

use std::path::PathBuf;
use std::{fmt, io};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file anywhere.
    #[error(
        "there is no configuration: no --config was given, and neither config.toml nor /etc/handout/config.toml exists"
    )]
    Nowhere,
    /// The file in the working directory is one that another user may have put there.
    #[error(
        "config.toml in the working directory is not used, since {reason}: name it with --config if it is meant, or run the command in another directory"
    )]
    Planted {
        /// Whose it is.
        reason: &'static str,
    },
    /// The file cannot be read.
    #[error("could not read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {} is wrong: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The variables alone are not what they should be.
    #[error("the environment is wrong: {reason}")]
    Variables {
        /// Which, and why.
        reason: String,
    },
    /// No region is configured, and the metadata service of the instance, which may know it, did not say one.
    #[error(
        "the configuration's {key} is missing, and neither the environment nor the profile nor the metadata service of the instance says one: set it, or AWS_EC2_METADATA_DISABLED=true where there is no such service"
    )]
    NoRegion {
        /// The key, such as `connections.reports.region`.
        key: String,
    },
    /// A file that a key names is on a file system that does not answer.
    #[error("the configuration's {key} names a file that does not come")]
    Late {
        /// The key, such as `mail.smtp.password_file`.
        key: String,
        /// Which file, and for how long.
        source: io::Error,
    },
    /// A key has a value that cannot be used.
    #[error("the configuration's {key} {reason}")]
    Value {
        /// The key, such as `queue.url`.
        key: String,
        /// What is wrong with it and what would be right.
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

    /// A file that a key names was not read; `reason` says so where it is there no more, or no such file.
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
