//! Reloads the configuration while jobs run: rules, templates, secrets and certificates.
//!
//! All new services are built before any of them is used. Running jobs keep the services that they started with. Services whose
//! configuration is unchanged keep their connections, limits and health.

use super::changes::{Changes, ConfigReading, with_what_stays};
use super::{Changeable, Fixed, OpenError, Opened, edges};
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::deliver::Mailer;
use crate::edge::Egress;
use crate::edge::health::EdgeKind;
use crate::environment::Environment;

/// Reads each file that a configuration names, for at most its deadline.
///
/// It does so on a thread that holds no service: the end of the program waits for those. Afterwards a file of a mount that does not respond fails at once.
pub async fn look_at_files(config: &Config) {
    drop(ConfigReading::aside(config).await);
}

impl Opened {
    /// Refuses a configuration without rules in place of one with rules: a file that is being written, or was cut by a full disk, would
    /// park each job that waits.
    fn leaves_rules(&self, new: &Config) -> Result<(), ConfigError> {
        if !new.allow.is_empty() || self.config.allow.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Value {
            key: "allow".to_owned(),
            reason: "has no rule, and the configuration in use has some: a reload does not remove the last rule, since all waiting jobs would be refused; check that the file is whole, or restart".to_owned(),
        })
    }

    /// Applies a new configuration, except for keys that are only read at start.
    ///
    /// # Errors
    ///
    /// The configuration or a file that it names is invalid. Nothing has changed then.
    pub async fn reload(
        &mut self,
        new: &Config,
        environment: &Environment,
    ) -> Result<Changes, OpenError> {
        self.leaves_rules(new)?;
        let mixed = with_what_stays(new, &self.config);
        let (wanted, reading) = ConfigReading::of_both(new, &mixed).await;
        mixed.check()?;
        // The clients of queues are kept, and read these files for their next connection.
        for (section, file) in [
            ("queue", &mixed.queue.ca_file),
            ("results", &mixed.results.ca_file),
        ] {
            Egress::of(section, file.as_deref(), environment)?;
        }
        let changes = Changes::between(&self.reading, &reading);
        let told = Changes::between(&self.reading, &wanted);
        let fixed = Fixed {
            keyring: &self.services.signing.keyring,
            progress: &self.services.progress,
            spool_dir: &self.services.presenting.spool_dir,
            address: self.embedded_address(),
            clock: self.services.clock,
        };
        let old = Some((&self.services, &changes));
        let changeable = Box::pin(Changeable::open(&mixed, environment, &fixed, old)).await?;
        let schedules = mixed.scheduled_jobs()?;
        let queue = self.services.edges.of(EdgeKind::Queue);
        self.schedules = schedules;
        self.rules = changeable.signing.policy.triggers.clone();
        let mailer = self.services.sending.mailer.clone();
        self.services = changeable.with(&self.services);
        mailer.hand_over_to(&self.services.sending.mailer);
        if let Mailer::Smtp(relays) = &self.services.sending.mailer {
            relays.set_rates(&mixed.mail)?;
        }
        let handed_to = self.services.results.edge().into_iter();
        let handed_to = handed_to.chain(self.queue.parked_edge());
        let handed_to = handed_to.chain(self.queue.deletions_edge()).cloned();
        let services = &self.services;
        let others = edges(
            &services.signing.connections,
            &*services.recording.ledger,
            &services.sending.mailer,
        );
        // The portal replaces those of its providers itself; the others stay as they were at the start.
        let edges = &self.services.edges;
        let stays = |kind| {
            matches!(
                kind,
                EdgeKind::Audit | EdgeKind::Oidc | EdgeKind::Archive | EdgeKind::Feedback
            )
        };
        let staying: Vec<_> = edges.iter().filter(|edge| stays(edge.kind())).collect();
        let all = queue.into_iter().chain(others).chain(handed_to);
        let all = all.chain(staying);
        self.services.edges.exchange(all.collect());
        *self.config = mixed;
        self.reading = reading;
        Ok(told)
    }
}
