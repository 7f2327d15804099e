//! The relays by name, the limits that apply before them, and the deferred recipients.
//!
//! A mail waits for the limits of its recipient's domain and of its job before it waits for a connection, so that a
//! slow domain takes no connection from others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::later::Later;
use super::smtp::{Relay, RelayPermit};
use super::{DeliverError, PacedBy};
use crate::clock::Clock;
use crate::config::MailConfig;
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::job::address::{AddressError, ascii_domain};
use crate::job::{JobId, Recipient, RelayName};
use crate::progress::Progress;
use crate::quantity::Rate;
use crate::rate_limit::KeyedRateLimiter;

/// The longest that a mail waits for a rate in its slot, which other jobs want.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many domains, and jobs, have a limiter in memory; about a megabyte.
const MAX_LIMITERS: usize = 10_000;

/// All relays of the configuration.
#[derive(Debug, Clone)]
pub struct Relays {
    by_name: Arc<BTreeMap<RelayName, Relay>>,
    limits: Limits,
    /// The deferred recipients.
    pub(super) later: Later,
}

/// The limits that apply to all relays.
#[derive(Debug, Clone)]
struct Limits {
    domain_rate: Option<Rate>,
    domain_rates: Arc<BTreeMap<String, Rate>>,
    domains: KeyedRateLimiter,
    job_rate: Option<Rate>,
    jobs: KeyedRateLimiter,
}

impl Relays {
    /// The relays of the configuration. This opens no connection.
    pub fn new(
        mail: &MailConfig,
        environment: &Environment,
        progress: &Progress,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        Self::opened(mail, environment, progress, clock, &|_, _| None, None)
    }

    /// As [`Self::new`], but reuses open relays that a new configuration left unchanged. Each is looked up by its
    /// section and its name. The limits of `former` hold for these, too.
    pub fn opened(
        mail: &MailConfig,
        environment: &Environment,
        progress: &Progress,
        clock: Clock,
        kept: &dyn Fn(&str, &RelayName) -> Option<Relay>,
        former: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let from = Recipient::parse(&mail.from);
        let from = from.map_err(|error| ConfigError::value("mail.from", error))?;
        let relays = mail.relays_by_name()?.into_iter().map(|(name, config)| {
            let section = MailConfig::section_of(&name);
            let relay = match kept(&section, &name) {
                Some(relay) => relay,
                None => {
                    let (from, progress) = (from.address.domain(), progress.clone());
                    let relay = Relay::new(&section, config, from, environment, progress, clock)?;
                    match former.and_then(|former| former.get(&name)) {
                        Some(former) => relay.limited_as(former),
                        None => relay,
                    }
                }
            };
            Ok((name, relay))
        });
        let domain_rates = mail.domain_rates.iter().map(|(written, rate)| {
            let domain = ascii_domain(written).ok_or_else(|| {
                let reason = format!("has the key {written:?}: {}", AddressError::Domain);
                ConfigError::value("mail.domain_rates", reason)
            })?;
            Ok((domain.to_ascii_lowercase(), *rate))
        });
        // The limits hold over a change of the configuration.
        let limiters = |of: fn(&Limits) -> &KeyedRateLimiter| {
            let former = former.map(|former| of(&former.limits).clone());
            former.unwrap_or_else(|| KeyedRateLimiter::new(MAX_LIMITERS))
        };
        Ok(Self {
            by_name: Arc::new(relays.collect::<Result<_, ConfigError>>()?),
            limits: Limits {
                domain_rate: mail.domain_rate,
                domain_rates: Arc::new(domain_rates.collect::<Result<_, ConfigError>>()?),
                domains: limiters(|limits| &limits.domains),
                job_rate: mail.job_rate,
                jobs: limiters(|limits| &limits.jobs),
            },
            later: Later::default(),
        })
    }

    /// Changes the rates to those of a configuration that is in effect now, also for jobs that go on with a former one.
    ///
    /// # Errors
    /// The configuration names no relays.
    pub(crate) fn set_rates(&self, mail: &MailConfig) -> Result<(), ConfigError> {
        for (name, config) in mail.relays_by_name()? {
            if let Some(relay) = self.by_name.get(&name) {
                relay.set_rate(config.rate);
            }
        }
        Ok(())
    }

    /// Each relay with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&RelayName, &Relay)> {
        self.by_name.iter()
    }

    /// The relay of that name.
    pub fn get(&self, name: &RelayName) -> Option<&Relay> {
        self.by_name.get(name)
    }

    /// Waits until a relay may be given one more mail of a job, to a recipient.
    pub(super) async fn turn(
        &self,
        name: &RelayName,
        job: &JobId,
        recipient: &Recipient,
    ) -> Result<RelayPermit<'_>, DeliverError> {
        let relay = self
            .by_name
            .get(name)
            .ok_or_else(|| DeliverError::NoRelay {
                name: name.to_string(),
            })?;
        // Before the limits: a mail does not wait for a permit of a relay that accepts nothing.
        let whole = whole(job);
        relay.may_be_tried(whole.as_str())?;
        relay.may_be_asked_about(std::iter::once(recipient.address.domain()))?;
        self.paced(job, recipient)?;
        self.limits.pass(job, recipient).await;
        Ok(relay.turn(whole.as_str()).await?)
    }

    /// Fails if the rates delay a mail for longer than its job may hold a slot.
    pub(super) fn paced(&self, job: &JobId, recipient: &Recipient) -> Result<(), DeliverError> {
        self.domain_paced(recipient)?;
        let after = self.limits.wait_of_job(job);
        paced(recipient, after, PacedBy::JobRate)
    }

    /// The same for the rate of the recipient's domain alone, which other recipients of the job need not wait for.
    pub(super) fn domain_paced(&self, recipient: &Recipient) -> Result<(), DeliverError> {
        let after = self.limits.wait_of_domain(recipient);
        paced(recipient, after, PacedBy::DomainRate)
    }
}

fn paced(recipient: &Recipient, after: Duration, by: PacedBy) -> Result<(), DeliverError> {
    if after <= PATIENCE {
        return Ok(());
    }
    let masked = recipient.masked();
    Err(DeliverError::Paced { masked, after, by })
}

impl Limits {
    fn domain_rate(&self, domain: &str) -> Option<Rate> {
        self.domain_rates.get(domain).copied().or(self.domain_rate)
    }

    /// How long a mail to the recipient's domain would wait now.
    fn wait_of_domain(&self, recipient: &Recipient) -> Duration {
        let domain = recipient.address.domain().to_ascii_lowercase();
        let rate = self.domain_rate(&domain);
        let wait = rate.map(|rate| self.domains.wait(&domain, rate));
        wait.unwrap_or_default()
    }

    /// How long a mail of the job would wait now.
    fn wait_of_job(&self, job: &JobId) -> Duration {
        let wait = |rate| self.jobs.wait(whole(job).as_str(), rate);
        self.job_rate.map(wait).unwrap_or_default()
    }

    async fn pass(&self, job: &JobId, recipient: &Recipient) {
        let domain = recipient.address.domain().to_ascii_lowercase();
        if let Some(rate) = self.domain_rate(&domain) {
            self.domains.pass(&domain, rate).await;
        }
        if let Some(rate) = self.job_rate {
            self.jobs.pass(whole(job).as_str(), rate).await;
        }
    }
}

/// The job of a part, or the job itself: all parts share its rate.
fn whole(job: &JobId) -> JobId {
    job.whole().unwrap_or_else(|| job.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn limits(domain: Option<&str>, job: Option<&str>) -> Limits {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        Limits {
            domain_rate: domain.map(rate),
            domain_rates: Arc::new(BTreeMap::from([("fast.example".to_owned(), rate("100/s"))])),
            domains: KeyedRateLimiter::new(MAX_LIMITERS),
            job_rate: job.map(rate),
            jobs: KeyedRateLimiter::new(MAX_LIMITERS),
        }
    }

    /// How long 11 mails to each of these addresses take, all at once, in milliseconds.
    async fn time(limits: &Limits, mails: &[(&str, &str)]) -> u128 {
        let began = Instant::now();
        let mails = mails.iter().flat_map(|mail| std::iter::repeat_n(mail, 11));
        let passing = mails.map(|(job, to)| async move {
            let (job, to) = (job.parse().unwrap(), Recipient::parse(to).unwrap());
            limits.pass(&job, &to).await;
        });
        futures_util::future::join_all(passing).await;
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_is_served_at_its_rate_for_all_jobs_and_others_do_not_wait() {
        let all = limits(Some("1/s"), None);
        let (ann, bo) = (("a", "ann@slow.example"), ("b", "bo@SLOW.example"));
        assert_eq!(
            time(&all, &[ann, bo]).await,
            21_000,
            "one domain, however it is spelled"
        );
        let others = limits(Some("1/s"), None);
        let cy = ("a", "cy@other.example");
        assert_eq!(
            time(&others, &[ann, cy]).await,
            10_000,
            "two domains, side by side"
        );
        assert_eq!(time(&others, &[("a", "di@fast.example")]).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_served_at_its_rate_beside_the_others() {
        let all = limits(None, Some("1/s"));
        let mails = [
            ("a", "ann@x.example"),
            ("a", "bo@y.example"),
            ("b", "cy@x.example"),
        ];
        assert_eq!(time(&all, &mails).await, 21_000);
        assert_eq!(time(&limits(None, None), &mails).await, 0);
        let job: JobId = "a".parse().unwrap();
        let parts = ["0", "1"].map(|digit| job.part(&digit.repeat(32)).to_string());
        let mails = parts
            .each_ref()
            .map(|part| (part.as_str(), "ann@x.example"));
        let all = limits(None, Some("1/s"));
        assert_eq!(time(&all, &mails).await, 21_000, "parts are one job");
    }
}
