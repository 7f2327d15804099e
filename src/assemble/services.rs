//! What jobs are worked with, as one value that is built from the configuration.

use crate::cancellation::Cancellation;
use crate::clock::Clock;
use crate::deliver::DeliveryLedger;
use crate::edge::health::Edges;
use crate::error::JobError;
use crate::links::listing::Listing;
use crate::mail_trial::{self, MailTrial, Tried};
use crate::media::PictureLoader;
use crate::plan::{Plan, Shortage};
use crate::progress::Progress;
use crate::publication::Publishing;
use crate::results::Results;
use crate::run::delivery::Deliveries;
use crate::run::{JobRun, Presenting, Sending, Signing};

/// What jobs are worked with.
#[derive(Debug, Clone)]
pub struct Services {
    /// What signs links.
    pub signing: Signing,
    /// What records links and deliveries: the ledger and the audit log.
    pub recording: DeliveryLedger,
    /// What renders mails and pages.
    pub presenting: Presenting,
    /// What sends mails.
    pub sending: Sending,
    /// How many audiences of a job are served at once.
    pub at_once: usize,
    /// Where the ends of jobs are told.
    pub results: Results,
    /// How far everything is.
    pub progress: Progress,
    /// The health of every dependency.
    pub edges: Edges,
    /// How many jobs may wait for a store or a relay that is silent, so that others have slots too.
    pub share: usize,
    /// Which messages were worked when the process died.
    pub deliveries: Deliveries,
    /// Of which jobs it is known whether their mails have room for all files.
    pub(crate) tried: Tried,
    /// What time it is.
    pub clock: Clock,
}

impl Services {
    /// The pictures of a plan's gallery.
    pub(crate) fn album<'a>(
        &'a self,
        plan: &'a Plan,
        stop: &'a Cancellation,
    ) -> Result<PictureLoader<'a>, JobError> {
        let store = &*self.signing.connection(&plan.connection)?.store;
        let shelf = self.recording.ledger.shelf();
        Ok(PictureLoader::new(
            plan,
            store,
            shelf,
            self.presenting.pictures,
            stop,
        ))
    }

    /// A trial of the mails of a plan.
    pub(crate) async fn mail_trial<'a>(
        &'a self,
        plan: &'a Plan,
        listing: &'a Listing,
    ) -> Result<MailTrial<'a>, JobError> {
        MailTrial::new(plan, listing, &self.signing, &self.presenting).await
    }

    /// Finds whether a mail of the plan neither shows all files nor links what has them.
    pub(crate) async fn mail_shortage(
        &self,
        plan: &Plan,
        listing: &Listing,
        stop: &Cancellation,
    ) -> Result<Option<Shortage>, JobError> {
        let parts = (&self.signing, &self.presenting);
        mail_trial::shortage(plan, listing, stop, parts, &self.tried).await
    }

    /// What a run publishes with.
    pub(crate) const fn publishing<'a>(
        &'a self,
        run: &'a JobRun,
        plan: &'a Plan,
    ) -> Publishing<'a> {
        Publishing::new(run, plan, &self.signing, &self.recording, &self.presenting)
    }
}
