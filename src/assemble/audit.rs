//! Builds the audit log and its signing key from `[audit]`.

use crate::audit::note::SigningKey;
use crate::audit::remembered::Memory;
use crate::audit::retention::RetentionSettings;
use crate::audit::{ArchiveBucket, AuditSettings};
use crate::clock::Clock;
use crate::config::{AuditArchivePlace, Config, Secret};
use crate::config_error::ConfigError;
use crate::edge::health::{Edge, EdgeKind};
use crate::environment::Environment;
use crate::keyring::{Keyring, Purpose};
use crate::links::connection::Connections;

impl Config {
    /// The settings of the audit log, and the key that signs it.
    pub fn audit_settings(
        &self,
        keyring: &Keyring,
        environment: &Environment,
    ) -> Result<AuditSettings, ConfigError> {
        Ok(AuditSettings {
            dir: self.audit_place(),
            key: self.checkpoint_key(keyring, environment)?,
            rotate_size: self.audit.rotate_size,
            min_free: self.audit.min_free,
            memory: Some(self.audit_memory()),
        })
    }

    /// Whether sealed segments are compressed.
    pub const fn compresses_audit(&self) -> bool {
        let audit = &self.audit;
        audit.compress || audit.keep.is_some() || audit.archive.is_some()
    }

    /// What becomes of sealed segments; `None` if they stay as they are.
    ///
    /// # Errors
    /// The archive's connection is unknown.
    pub fn audit_retention(
        &self,
        log: AuditSettings,
        connections: &Connections,
        clock: Clock,
    ) -> Result<Option<RetentionSettings>, ConfigError> {
        if !self.compresses_audit() {
            return Ok(None);
        }
        let archive = match self.audit_archive()? {
            None => None,
            Some(place) => Some(self.archive_bucket(place, connections, clock)?),
        };
        Ok(Some(RetentionSettings {
            log,
            keep: self.audit.keep,
            compresses: true,
            archive,
        }))
    }

    /// The archive at a place, with an edge of its own.
    ///
    /// # Errors
    /// Its connection is unknown.
    pub fn archive_bucket(
        &self,
        place: AuditArchivePlace,
        connections: &Connections,
        clock: Clock,
    ) -> Result<ArchiveBucket, ConfigError> {
        let AuditArchivePlace {
            connection,
            bucket,
            prefix,
        } = place;
        let connection = connections.get(&connection).ok_or_else(|| {
            ConfigError::value("audit.archive_connection", "names an unknown connection")
        })?;
        let subject = format!("the archive of the audit log in s3://{bucket}/{prefix}");
        let edge = Edge::new(EdgeKind::Archive, "audit", subject);
        let s3 = connection.s3.clone().with_edge(edge);
        let lock = self.audit.archive_lock;
        let lock = lock.map(|span| (self.audit.archive_lock_mode, span));
        Ok(ArchiveBucket::new(s3, bucket, &prefix, lock, clock))
    }

    /// The file outside the log's directory that records that the log has a registry.
    pub fn audit_memory(&self) -> Memory {
        Memory::new(&self.state_dir, &self.audit_dir())
    }

    /// The key of `checkpoint_key_file`, or else one derived from the installation's secret.
    pub fn checkpoint_key(
        &self,
        keyring: &Keyring,
        environment: &Environment,
    ) -> Result<SigningKey, ConfigError> {
        const KEY: &str = "audit.checkpoint_key_file";
        let Some(path) = &self.audit.checkpoint_key_file else {
            let seed = keyring.deriver(Purpose::CheckpointKey).derive(&[]);
            return Ok(SigningKey::from_seed(&seed));
        };
        let pem = Secret::read(KEY, path, environment)?;
        SigningKey::from_pem(pem.expose()).map_err(|error| {
            ConfigError::value(KEY, format!("names {}, which {error}", path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_key_is_derived_or_comes_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::default();
        let keyring = Keyring::new([1; 32]);
        let mut config = Config::default();
        let derived = config.checkpoint_key(&keyring, &environment).unwrap();
        let again = config.checkpoint_key(&keyring, &environment).unwrap();
        assert_eq!(derived.public(), again.public());

        config.audit.checkpoint_key_file = Some(dir.path().join("audit-key"));
        std::fs::write(dir.path().join("audit-key"), "no key\n").unwrap();
        let error = config.checkpoint_key(&keyring, &environment).unwrap_err();
        assert_eq!(
            error
                .to_string()
                .replace(&*dir.path().to_string_lossy(), "DIR"),
            "the configuration's audit.checkpoint_key_file names DIR/audit-key, which is not an Ed25519 key in PEM: make one with `openssl genpkey -algorithm ed25519 -out FILE`"
        );
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcXFxcX\n-----END PRIVATE KEY-----\n";
        std::fs::write(dir.path().join("audit-key"), pem).unwrap();
        let named = config.checkpoint_key(&keyring, &environment).unwrap();
        assert_ne!(named.public(), derived.public());
    }
}
