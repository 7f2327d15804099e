//! The services for jobs, as one value that is built from the configuration.

use std::sync::Arc;

use crate::archive::{self, Archive, ArchiveWork};
use crate::cancellation::Cancellation;
use crate::clock::Clock;
use crate::config::PortalConfig;
use crate::deliver::DeliveryLedger;
use crate::deliver::notice::Notices;
use crate::edge::health::Edges;
use crate::error::JobError;
use crate::job::{Job, Rehearsal};
use crate::ledger::LedgerError;
use crate::ledger::people::{PeopleRecords, Suppressed};
use crate::ledger::portal::PortalLedger;
use crate::links::listing::Listing;
use crate::mail_trial::{self, MailTrial, Tried};
use crate::media::PictureLoader;
use crate::plan::{Plan, Shortage};
use crate::portal_access::{AccessServices, PortalAccess};
use crate::progress::Progress;
use crate::publication::Publishing;
use crate::renditions::RenditionMaker;
use crate::results::Results;
use crate::run::delivery::Deliveries;
use crate::run::open_chunks::OpenChunks;
use crate::run::{JobRun, Payloads, Presenting, Sending, Signing};

/// The services for jobs.
#[derive(Debug, Clone)]
pub struct Services {
    /// Signs links.
    pub signing: Signing,
    /// The ledger and the audit log.
    pub recording: DeliveryLedger,
    /// Renders mails and pages.
    pub presenting: Presenting,
    /// Sends mails.
    pub sending: Sending,
    /// How many audiences of a job are delivered to concurrently.
    pub at_once: usize,
    /// Where the bodies of long messages are.
    pub payloads: Payloads,
    /// Where results of jobs are sent.
    pub results: Results,
    /// What is known of recipients beyond one job; `None` where nothing would be, and the ledger is in a bucket.
    pub people: Option<PeopleRecords>,
    /// The progress counters.
    pub progress: Progress,
    /// The health of every dependency.
    pub edges: Edges,
    /// How many jobs may wait for a silent store or relay, so that others keep slots.
    pub share: usize,
    /// The messages that were in progress when the process died.
    pub deliveries: Deliveries,
    /// What the chunks of jobs in parts came to that are not done.
    pub open_chunks: OpenChunks,
    /// The jobs whose mails were already tried for size.
    pub(crate) tried: Tried,
    /// The clock.
    pub clock: Clock,
}

impl Services {
    /// What opens links of the portal, with the same ledger, stores and audit log as the jobs.
    pub fn portal_access(&self, config: &PortalConfig) -> PortalAccess {
        let keyring = &self.signing.keyring;
        PortalAccess::new(AccessServices {
            config,
            keyring,
            names: &self.recording.names,
            records: PortalLedger::new(self.recording.ledger.portal_records(), keyring),
            connections: Arc::clone(&self.signing.connections),
            audit: self.recording.audit.clone(),
        })
    }

    /// What suppresses the mail of a job to a recipient, if anything does. In a rehearsal, another person gets the mail.
    pub(crate) async fn suppressed(
        &self,
        job: &Job,
        rid: &str,
    ) -> Result<Option<Suppressed>, LedgerError> {
        let Some(people) = &self.people else {
            return Ok(None);
        };
        if self.recording.rehearsed_to.is_some() {
            return Ok(None);
        }
        let list = self.sending.sender.list_tag(job);
        people.suppressed(rid, list, (self.clock)()).await
    }

    /// Sends all mails of jobs to one address, and no notices: the jobs are rehearsals.
    pub fn rehearse(&mut self, rehearsal: Rehearsal) {
        let Rehearsal { to, recipients } = rehearsal;
        self.recording.rehearsed_to = Some(self.recording.rid(&to));
        self.recording.rehearsed = recipients;
        self.sending.notices = Notices::default();
        self.sending.sender = self.sending.sender.clone().rehearsing(to);
    }

    /// The pictures of a plan's gallery.
    pub(crate) fn loader<'a>(
        &'a self,
        plan: &'a Plan,
        stop: &'a Cancellation,
    ) -> Result<PictureLoader<'a>, JobError> {
        let store = &*self.signing.connection(&plan.connection)?.store;
        let picture_cache = self.recording.ledger.picture_cache();
        Ok(PictureLoader::new(
            plan,
            store,
            picture_cache,
            self.presenting.pictures,
            stop,
        ))
    }

    /// The renditions of the pictures of a plan's gallery.
    pub(crate) fn renditions<'a>(
        &'a self,
        run: &'a JobRun,
        plan: &'a Plan,
    ) -> Result<RenditionMaker<'a>, JobError> {
        let settings = &self.presenting.renditions;
        RenditionMaker::new(run, plan, &self.signing, &self.recording, settings)
    }

    /// A trial of the mails of a plan.
    pub(crate) async fn mail_trial<'a>(
        &'a self,
        plan: &'a Plan,
        listing: &'a Listing,
    ) -> Result<MailTrial<'a>, JobError> {
        MailTrial::new(plan, listing, &self.signing, &self.presenting).await
    }

    /// Returns the shortage of the plan's mails, if a mail neither shows all files nor links a page or list of them.
    pub(crate) async fn mail_shortage(
        &self,
        plan: &Plan,
        listing: &Listing,
        stop: &Cancellation,
    ) -> Result<Option<Shortage>, JobError> {
        let parts = (&self.signing, &self.presenting);
        mail_trial::shortage(plan, listing, stop, parts, &self.tried).await
    }

    /// The services that publish a run's pages and manifests.
    pub(crate) const fn publishing<'a>(
        &'a self,
        run: &'a JobRun,
        plan: &'a Plan,
        archive: Option<&'a Archive>,
    ) -> Publishing<'a> {
        let (signing, recording, presenting) = (&self.signing, &self.recording, &self.presenting);
        Publishing::new(run, plan, signing, recording, presenting, archive)
    }

    /// Makes the ZIPs of a run's plan, or finds them; `None` if it asks for none.
    pub(crate) async fn archive(
        &self,
        run: &JobRun,
        plan: &Plan,
        listing: &Listing,
    ) -> Result<Option<Archive>, JobError> {
        let Some(wanted) = plan.zip.as_ref().filter(|_| !listing.is_empty()) else {
            return Ok(None);
        };
        let connection = self.signing.connection(&plan.connection)?;
        let work = ArchiveWork {
            plan,
            listing,
            store: &connection.store,
            memory: &connection.zip_memory,
            keyring: &self.signing.keyring,
            ledger: &*self.recording.ledger,
            spool_dir: &self.presenting.spool_dir,
            stop: &run.stop,
            got_on: &|| run.delivery.got_on(),
        };
        let made = Box::pin(archive::make(&work, wanted)).await?;
        let files: u64 = made.zips.iter().map(|zip| zip.made.files).sum();
        let bytes: u64 = made.zips.iter().map(|zip| zip.made.size_bytes).sum();
        tracing::info!(
            job.id = %run.job.id,
            zips = made.zips.len(),
            files,
            bytes,
            left_out = made.left_out,
            "the ZIP of the job's files is complete"
        );
        Ok(Some(made))
    }
}
