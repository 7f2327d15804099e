//! The links with audit lines of jobs that are not done: a retried job hands out the same links again, and no link
//! has a second line.
//!
//! A job that signs and then finds its relay or its bucket down is retried. While its links are fresh, it is planned with
//! their [`Lifetime`], so that signing gives the same signatures. They are compared batch by batch: with other credentials, or
//! without an object that is gone, a batch differs and gets lines of its own. This state is in memory: after a restart the
//! jobs are signed again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::record::{Context, LinkKind};
use super::{AuditLog, AuditedLinks, RecordError};
use crate::bounds::MAX_ISSUED_BATCHES;
use crate::job::JobId;
use crate::links::Links;
use crate::links::portal::secret_of;
use crate::plan::Lifetime;

/// The links that have audit lines, by job. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Issued {
    jobs: Arc<Mutex<Jobs>>,
}

#[derive(Debug, Default)]
struct Jobs {
    by_id: HashMap<String, OfJob>,
    /// How many batches all of them have.
    batches: usize,
}

/// The links of one job.
#[derive(Debug)]
struct OfJob {
    lifetime: Lifetime,
    batches: HashSet<[u8; 32]>,
}

impl Issued {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lifetime of the links of a job that have audit lines.
    pub fn lifetime(&self, job: &JobId) -> Option<Lifetime> {
        let jobs = self.jobs();
        jobs.by_id.get(job.as_str()).map(|of_job| of_job.lifetime)
    }

    /// Forgets a job that is done.
    pub fn forget(&self, job: &JobId) {
        self.jobs().remove(job.as_str());
    }

    /// Like [`super::record()`], but writes no lines for a batch that has them.
    pub async fn record(
        &self,
        links: Links,
        context: &Context<'_>,
        log: &AuditLog,
    ) -> Result<AuditedLinks, RecordError> {
        let batch = digest(&links, context.kind);
        if self.jobs().has(context.job, &batch) {
            return Ok(AuditedLinks(links));
        }
        let audited = super::record(links, context, log).await?;
        self.jobs().add(context.job, audited.lifetime(), batch);
        Ok(audited)
    }
}

impl Jobs {
    fn has(&self, job: &str, batch: &[u8; 32]) -> bool {
        let of_job = self.by_id.get(job);
        of_job.is_some_and(|of_job| of_job.batches.contains(batch))
    }

    fn remove(&mut self, job: &str) {
        let batches = self.by_id.remove(job).map(|of_job| of_job.batches.len());
        self.batches -= batches.unwrap_or_default();
    }

    fn add(&mut self, job: &str, lifetime: Lifetime, batch: [u8; 32]) {
        if self.batches >= MAX_ISSUED_BATCHES {
            *self = Self::default();
        }
        if self
            .by_id
            .get(job)
            .is_some_and(|of_job| of_job.lifetime != lifetime)
        {
            self.remove(job);
        }
        let of_job = self.by_id.entry(job.to_owned()).or_insert_with(|| OfJob {
            lifetime,
            batches: HashSet::new(),
        });
        self.batches += usize::from(of_job.batches.insert(batch));
    }
}

/// Identifies a batch by its audience, and each link's id and signature. The id is derived from the job, the audience and
/// the object, so that links which share a signature are distinguished too.
fn digest(links: &Links, kind: LinkKind) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(kind.event());
    if let LinkKind::Zip(facts) = kind {
        digest.update(facts.directory);
    }
    digest.update([0]);
    digest.update(links.audience.canonical());
    for link in &links.links {
        digest.update(b"\n");
        digest.update(&link.id);
        digest.update(secret_of(&link.url));
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::log::tests::{clock, segments, settings};
    use crate::audit::record::Pseudonyms;
    use crate::keyring::Keyring;
    use crate::plan::Audience;
    use crate::plan::Bound;
    use crate::render::samples;
    use presign::PresignedUrl;

    fn lifetime(seconds: i64) -> Lifetime {
        let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
        Lifetime {
            signed_at: at(seconds),
            signed_for_secs: 3600,
            expires_at: at(seconds + 3600),
            bound: Bound::Asked,
            fresh_until: at(seconds + 1800),
        }
    }

    fn links(signatures: &[&str]) -> Links {
        let link = |signature: &&str| {
            let mut link = samples::link("a.pdf", 1);
            link.url = PresignedUrl::new(format!(
                "https://x.example/a?a=b&X-Amz-Signature={signature}"
            ));
            link
        };
        Links {
            links: signatures.iter().map(link).collect(),
            unavailable: Vec::new(),
            audience: Audience::Everyone,
            lifetime: lifetime(0),
            access_key_id: "AKIDEXAMPLE".into(),
        }
    }

    /// How many lines of the log are about a link.
    fn lines(dir: &Path) -> usize {
        let texts = segments(dir).unwrap().into_iter();
        let texts = texts.map(|path| std::fs::read_to_string(path).unwrap());
        let of_links = ["\"ev\":\"issue\"", "\"ev\":\"gallery\""];
        texts
            .map(|text| {
                of_links
                    .map(|word| text.matches(word).count())
                    .iter()
                    .sum::<usize>()
            })
            .sum()
    }

    #[tokio::test]
    async fn the_same_links_have_one_line_and_others_have_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let (log, writer) = AuditLog::open(&settings(dir.path()), "test", clock).unwrap();
        let names = Pseudonyms::new(&Keyring::new([1; 32]), false);
        let issued = Issued::default();
        let record = async |job, kind, signatures: &[&str]| {
            let before = lines(dir.path());
            let context = Context {
                job,
                connection: "reports",
                role: None,
                message_id: None,
                attempt: 1,
                kind,
                names: &names,
            };
            let recorded = issued.record(links(signatures), &context, &log).await;
            assert_eq!(recorded.unwrap().links().len(), signatures.len());
            lines(dir.path()) - before
        };
        for (job, kind, signatures, new) in [
            ("a", LinkKind::Object, &["1", "2"][..], 2),
            ("a", LinkKind::Object, &["1", "2"], 0),
            ("a", LinkKind::Object, &["1", "3"], 2),
            ("a", LinkKind::Object, &["1"], 1),
            ("a", LinkKind::Gallery, &["1"], 1),
            ("b", LinkKind::Object, &["1", "2"], 2),
            ("b", LinkKind::Object, &["1", "2"], 0),
            ("a", LinkKind::Object, &["1", "2"], 0),
        ] {
            assert_eq!(
                record(job, kind, signatures).await,
                new,
                "{job} {signatures:?}"
            );
        }
        let job: JobId = "a".parse().unwrap();
        assert_eq!(issued.lifetime(&job), Some(lifetime(0)));
        issued.forget(&job);
        assert_eq!(issued.lifetime(&job), None);
        assert_eq!(record("a", LinkKind::Object, &["1", "2"]).await, 2);
        drop(log);
        writer.close();
    }

    #[test]
    fn links_of_another_lifetime_take_the_place_of_a_jobs_links_and_memory_is_bounded() {
        let mut jobs = Jobs::default();
        for n in 0..3 {
            jobs.add("a", lifetime(0), [n; 32]);
        }
        jobs.add("b", lifetime(0), [0; 32]);
        assert_eq!(jobs.batches, 4);
        jobs.add("a", lifetime(1), [9; 32]);
        assert!(!jobs.has("a", &[0; 32]) && jobs.has("a", &[9; 32]));
        assert_eq!(jobs.batches, 2);
        for n in 0..=MAX_ISSUED_BATCHES {
            let mut batch = [0; 32];
            batch[..8].copy_from_slice(&n.to_le_bytes());
            jobs.add("c", lifetime(1), batch);
        }
        assert!(jobs.batches <= MAX_ISSUED_BATCHES);
    }
}
