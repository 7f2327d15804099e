//! A configuration that is read again while jobs are worked: rules, templates, secrets and certificates.
//!
//! All of it is made before any of it counts. Jobs that have begun go on with what they began with; what nobody touched keeps
//! its connections, its limits and what is known of its health.

use super::changes::{Changes, ConfigReading, with_what_stays};
use super::{Changeable, Fixed, OpenError, Opened, edges};
use crate::config::Config;
use crate::edge::Egress;
use crate::edge::health::EdgeKind;
use crate::environment::Environment;

impl Opened {
    /// Takes a new configuration over, but for what only a start can change.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration or the files that it names; then nothing has changed.
    pub async fn reload(
        &mut self,
        new: &Config,
        environment: &Environment,
    ) -> Result<Changes, OpenError> {
        let mixed = with_what_stays(new, &self.config);
        let (wanted, reading) = (ConfigReading::of(new), ConfigReading::of(&mixed));
        mixed.check()?;
        // The clients of queues stay, and read these files at their next connection.
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
        let queue = self.services.edges.of(EdgeKind::Queue);
        self.rules = changeable.signing.policy.triggers.clone();
        self.services = changeable.with(&self.services);
        let handed_to = self.services.results.edge().into_iter();
        let handed_to = handed_to.chain(self.queue.parked_edge()).cloned();
        let services = &self.services;
        let others = edges(
            &services.signing.connections,
            &*services.recording.ledger,
            &services.sending.mailer,
        );
        let all = queue.into_iter().chain(others).chain(handed_to);
        self.services.edges.exchange(all.collect());
        self.config = mixed;
        self.reading = reading;
        Ok(told)
    }
}
