//! What is published for a job whose mails have no room for all of its files.

use super::{
    AllowRule, GalleryPlan, ManifestPlan, PlanError, Policy, PublishTarget, PublishedPlaces, fill,
};
use crate::bounds::MAX_TITLE_BYTES;
use crate::job::{Job, ManifestFormat};

/// How many files the mails of a job lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// How many files the job links.
    pub links: u64,
    /// How many of them the shortest of its mails shows.
    pub shown: u64,
}

impl PublishedPlaces {
    /// Whether any of it is in a bucket, and opened by a link to S3 that is signed when the job runs.
    pub(super) fn is_in_bucket(&self, has_portal: bool) -> bool {
        let gallery = self.gallery.as_ref().map(|gallery| &gallery.place);
        let manifest = self.manifest.as_ref().map(|manifest| &manifest.place);
        let zip = self.zip.as_ref().and_then(|zip| zip.place.as_ref());
        // The portal signs the link to a ZIP when it is opened.
        let zip = zip.filter(|_| !has_portal);
        let mut places = gallery.into_iter().chain(manifest).chain(zip);
        places.any(|place| matches!(place, PublishTarget::Bucket(..)))
    }

    /// Adds a page with all files that a mail can link, or a list where the job already has a page of its own.
    pub(super) fn supplement(
        &mut self,
        job: &Job,
        policy: &Policy,
        rule: &AllowRule,
        shortage: Shortage,
    ) -> Result<(), PlanError> {
        let no_room = || PlanError::NoRoom(shortage);
        let place = policy.spare_place(rule).ok_or_else(no_room)?;
        match (&self.gallery, &self.manifest) {
            (None, _) => {
                self.gallery = Some(GalleryPlan {
                    title: title(job, policy)?,
                    template: "gallery".parse().expect("the name is one"),
                    place,
                    page_size: policy.page_size,
                });
                Ok(())
            }
            (Some(_), None) => {
                let format = ManifestFormat::Csv;
                self.manifest = Some(ManifestPlan { format, place });
                Ok(())
            }
            (Some(_), Some(_)) => Err(no_room()),
        }
    }
}

/// The title of a page that the job gives none: the mail's subject where it is the same for all.
pub(super) fn title(job: &Job, policy: &Policy) -> Result<Option<String>, PlanError> {
    let subject = job.email.as_ref().and_then(|email| email.subject.as_ref());
    let subject = subject.filter(|subject| !subject.names_recipient());
    let scope = job.scope(policy.time_zone(job));
    let filled = subject.map(|subject| fill("email.subject", subject, &scope, MAX_TITLE_BYTES));
    filled.transpose()
}
