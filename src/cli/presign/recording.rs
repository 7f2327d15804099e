//! The audit log of links without a job.

use handout::assemble::{OpenError, PROGRAM, private_dir};
use handout::audit::AuditLog;
use handout::audit::log::Writer;
use handout::audit::record::Pseudonyms;
use handout::clock;
use handout::config::{Config, RecipientNames};
use handout::environment::Environment;
use handout::keyring::Keyring;

use super::errors::PresignError;

/// The audit log, in a separate stream: the daemon continues to write its own.
pub(super) struct PresignBooks {
    pub(super) keyring: Keyring,
    pub(super) names: Pseudonyms,
    /// The role whose credentials sign, if the connection assumes one.
    pub(super) role: Option<String>,
    pub(super) log: AuditLog,
    writer: Writer,
}

impl PresignBooks {
    pub(super) fn open(
        config: &Config,
        connection: Option<&str>,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        private_dir(&config.state_dir).map_err(|error| match error {
            OpenError::StateDir { path, source } => PresignError::NoPlace { path, source }.into(),
            other => anyhow::Error::new(other),
        })?;
        let keyring = Keyring::open(&config.secret_key_file())?;
        let settings = config.audit_settings(&keyring, environment)?;
        let (log, writer) = AuditLog::open(&settings, PROGRAM, clock::system)?;
        Ok(Self {
            names: Pseudonyms::new(&keyring, config.audit.recipients == RecipientNames::Clear),
            keyring,
            role: connection.and_then(|name| config.connections.get(name)?.assume_role.clone()),
            log,
            writer,
        })
    }

    pub(super) fn close(self) {
        drop(self.log);
        self.writer.close();
    }
}
