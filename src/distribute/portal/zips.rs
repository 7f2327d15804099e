//! The ZIPs of a job as the portal's records have them, and the links to them.

use std::sync::Arc;

use super::{PortalLinks, record};
use crate::archive::{Archive, FinishedZip, ZipOutput};
use crate::assemble::Services;
use crate::audit::record::{LinkKind, ZipFacts};
use crate::error::JobError;
use crate::job::ContentDisposition;
use crate::ledger::portal::{PortalLedger, PortalZip, PortalZipPlace, PortalZips, ZIP_FILES_PAGE};
use crate::links::Link;
use crate::links::portal::{link_id, link_ids};
use crate::plan::{Audience, Plan};
use crate::portal_token::JobRef;
use crate::render::{ZipLink, ZipLinks};
use crate::run::JobRun;

/// Stores the files of the ZIPs that are stored nowhere; returns what the job's record says of those that the portal opens.
pub(super) async fn store(
    run: &JobRun,
    archive: Option<&Archive>,
    reference: JobRef,
    ledger: &PortalLedger,
) -> Result<PortalZips, JobError> {
    let Some(archive) = archive else {
        return Ok(PortalZips::default());
    };
    let mut zips = Vec::new();
    for zip in &archive.zips {
        let FinishedZip {
            output,
            file_name,
            made,
        } = zip;
        let place = match output {
            ZipOutput::Stored(publisher) => match publisher.object(file_name) {
                Some((bucket, key)) => PortalZipPlace::Stored { bucket, key },
                // A web server serves it.
                None => continue,
            },
            ZipOutput::Streamed(files) => {
                let mut pages = 0;
                for some in files.chunks(ZIP_FILES_PAGE) {
                    run.stop.check()?;
                    let body = serde_json::to_vec(some).expect("files are plain data");
                    let place = (zips.len(), pages);
                    ledger.keep_zip_files(reference, place, body).await?;
                    pages += 1;
                }
                PortalZipPlace::Streamed { pages }
            }
        };
        zips.push(PortalZip {
            file_name: file_name.clone(),
            files: made.files,
            size_bytes: made.size_bytes,
            directory_sha256: made.directory_sha256(),
            place,
        });
    }
    Ok(PortalZips {
        zips,
        left_out: archive.left_out,
    })
}

impl PortalLinks {
    /// The links to the ZIPs of the job for an audience, each with its audit line.
    pub(in super::super) async fn zips(
        &self,
        run: &JobRun,
        plan: &Plan,
        audience: &Audience,
        services: &Services,
    ) -> Result<ZipLinks, JobError> {
        let mut links = ZipLinks {
            zips: Vec::new(),
            left_out: self.record.zips.left_out,
        };
        for (number, zip) in (0..).zip(&self.record.zips.zips) {
            let signer = self.signer(audience, services);
            let (url, rid) = (signer.zip_url(number), Arc::clone(&signer.rid));
            let signer = services.signing.portal_signer(signer);
            let (bucket, object) = zip.object(self.reference, &self.record);
            let ids = link_ids(&signer.link_ids, &plan.job.id, &rid, &bucket);
            let link = Link {
                id: link_id(&ids, &object),
                bucket,
                object,
                name: zip.file_name.clone(),
                disposition: ContentDisposition::Attachment,
                url,
            };
            let kind = LinkKind::Zip(ZipFacts {
                files: zip.files,
                directory: zip.directory(),
            });
            let recorded = record(run, plan, audience, &signer, (kind, link), services);
            let Some(url) = recorded.await? else {
                continue;
            };
            links.zips.push(ZipLink {
                url,
                file_name: zip.file_name.clone(),
                files: zip.files,
                size_bytes: zip.size_bytes,
            });
        }
        Ok(links)
    }
}
