//! The retention of an audit log: sealed segments are compressed, put into the archive, and removed after `audit.keep`.
//!
//! The archive is asked, and not remembered: a segment counts as shipped when the store says that it has an object of its size and its
//! SHA-256, and right before a removal it is asked again. What a kill interrupts is done at the next run, see [`super::retain`].

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::bucket::{ArchiveBucket, ArchiveState};
use super::compressed::compressed_name;
use super::directory::torn_name;
use super::log::{AuditSettings, RecordError};
use super::registry::REGISTRY;
use super::retain::{KeptLog, OldSegment, SegmentKeeper, SharedKeeper, StepError, without_gaps};
use super::tree::Hash;
use crate::clock::Clock;
use crate::failpoint::{self, Failpoint};
use crate::quantity::Span;
use crate::store::StoreError;
use crate::text::chain;

/// The pause between two runs of the daemon. A segment is sealed once a day, or when it is full.
const EVERY: Duration = Duration::from_secs(600);

/// The same after a run that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// What becomes of the segments of a log.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// The log.
    pub log: AuditSettings,
    /// How long a line is kept; `None`: for ever.
    pub keep: Option<Span>,
    /// Whether segments are compressed.
    pub compresses: bool,
    /// Where they are put.
    pub archive: Option<ArchiveBucket>,
}

/// A run of the retention.
#[derive(Debug, Default, Serialize)]
pub struct RetentionReport {
    /// The segments that were compressed.
    pub compressed: Vec<String>,
    /// The segments that were put into the archive.
    pub archived: Vec<String>,
    /// The segments that were removed.
    pub removed: Vec<String>,
    /// What could not be done.
    pub problems: Vec<RetentionProblem>,
    /// Whether another process does the same now, so that this one did nothing.
    pub is_busy: bool,
}

/// A segment that stays as it is, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RetentionProblem {
    /// The segment.
    pub segment: String,
    /// The reason.
    pub reason: String,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The log cannot be read, or its registry cannot be written.
    #[error(transparent)]
    Log(#[from] RecordError),
    /// The archive does not answer, or refuses.
    #[error("the archive of the audit log, {place}, cannot be used")]
    Archive {
        /// The archive.
        place: String,
        /// The store's error.
        source: Box<StoreError>,
    },
    /// The program ends.
    #[error("the retention of the audit log was interrupted; the next run goes on")]
    Stopped,
}

/// What the retention has done since the start. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct RetentionCounts {
    counters: Arc<[AtomicU64; 4]>,
}

impl RetentionCounts {
    fn add(&self, report: &RetentionReport, failures: usize) {
        let news = [
            report.compressed.len(),
            report.archived.len(),
            report.removed.len(),
            failures,
        ];
        for (counter, news) in self.counters.iter().zip(news) {
            counter.fetch_add(news as u64, Ordering::Relaxed);
        }
    }

    /// How many segments were compressed, archived and removed, and how many problems runs had.
    pub fn snapshot(&self) -> [u64; 4] {
        std::array::from_fn(|index| self.counters[index].load(Ordering::Relaxed))
    }
}

/// The retention of a log.
#[derive(Debug)]
pub struct Retention {
    settings: RetentionSettings,
    clock: Clock,
    counts: RetentionCounts,
    /// The files that the archive had when it was asked.
    shipped: HashSet<String>,
    /// The hash of the registry that was put there last.
    registry: Option<Hash>,
    /// The problems that were logged.
    told: HashSet<RetentionProblem>,
}

/// A compressed file of the log's directory.
struct WholeFile {
    bytes: Vec<u8>,
    sha256: Hash,
}

impl Retention {
    /// Does nothing before it is run.
    pub fn new(settings: RetentionSettings, clock: Clock, counts: RetentionCounts) -> Self {
        Self {
            settings,
            clock,
            counts,
            shipped: HashSet::new(),
            registry: None,
            told: HashSet::new(),
        }
    }

    /// Runs again and again, for as long as the future is polled. It may be dropped at any time.
    pub async fn run(mut self) {
        let mut is_failing = false;
        loop {
            match Box::pin(self.once(false)).await {
                Ok(report) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("the retention of the audit log goes on");
                    }
                    self.counts.add(&report, report.problems.len());
                    self.tell(report);
                }
                Err(error) => {
                    self.counts.add(&RetentionReport::default(), 1);
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            error = chain(&error),
                            "the retention of the audit log failed; it is tried again every minute"
                        );
                    }
                }
            }
            let pause = match is_failing {
                true => AFTER_FAILURE,
                false => EVERY,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Logs what was done, and each problem once.
    fn tell(&mut self, report: RetentionReport) {
        let (compressed, archived, removed) = (
            report.compressed.len(),
            report.archived.len(),
            report.removed.len(),
        );
        if compressed + archived + removed > 0 {
            tracing::info!(compressed, archived, removed, "segments of the audit log");
        }
        let problems: HashSet<RetentionProblem> = report.problems.into_iter().collect();
        for problem in problems.difference(&self.told) {
            tracing::warn!(
                segment = problem.segment,
                reason = problem.reason,
                "a segment of the audit log stays as it is"
            );
        }
        self.told = problems;
    }

    /// Runs once. With `dry`, nothing is changed, and the report says what would be done.
    ///
    /// # Errors
    /// The log, or the archive, cannot be used.
    pub async fn once(&mut self, dry: bool) -> Result<RetentionReport, RetentionError> {
        let stop = CancellationToken::new();
        // A step that reads a segment ends soon after this future is dropped.
        let _guard: DropGuard = stop.clone().drop_guard();
        let (log, keep, clock) = (self.settings.log.clone(), self.settings.keep, self.clock);
        let keeper = aside(move || {
            let keeper = SegmentKeeper::new(&log, keep, clock, stop)?;
            let lock = keeper.directory().lock_retention();
            let lock = lock.map_err(|source| super::log::open_failed(&log.dir, source))?;
            Ok::<_, RecordError>((Arc::new(keeper), lock))
        });
        let (keeper, lock) = keeper.await??;
        let mut report = RetentionReport::default();
        let Some(_lock) = lock else {
            report.is_busy = true;
            return Ok(report);
        };
        // First what makes room; then what was compressed and shipped now may be old enough to go, too.
        let log = look(&keeper).await?;
        let log = self.finish(&keeper, log, dry, &mut report).await?;
        let log = self.remove(&keeper, log, dry, &mut report).await?;
        let log = self.compress(&keeper, log, dry, &mut report).await?;
        self.ship(&keeper, &log, dry, &mut report).await?;
        if !(dry || report.compressed.is_empty() && report.archived.is_empty()) {
            let log = look(&keeper).await?;
            drop(self.remove(&keeper, log, dry, &mut report).await?);
        }
        if !dry {
            let has_news = !(report.archived.is_empty() && report.removed.is_empty());
            self.ship_registry(&keeper, log.id(), has_news).await?;
        }
        let mut seen = HashSet::new();
        report
            .problems
            .retain(|problem| seen.insert(problem.clone()));
        Ok(report)
    }

    /// Goes on with removals that were interrupted.
    async fn finish(
        &self,
        keeper: &SharedKeeper,
        log: Arc<KeptLog>,
        dry: bool,
        report: &mut RetentionReport,
    ) -> Result<Arc<KeptLog>, RetentionError> {
        let (its, of) = (Arc::clone(keeper), Arc::clone(&log));
        let (removed, wrong) = aside(move || its.finish_removals(&of, dry)).await?;
        let is_changed = !removed.is_empty() && !dry;
        report.removed.extend(removed);
        for (segment, error) in wrong {
            report.add(&segment, &error)?;
        }
        match is_changed {
            true => look(keeper).await,
            false => Ok(log),
        }
    }

    /// Removes what was kept long enough and is in the archive, if there is one.
    async fn remove(
        &self,
        keeper: &SharedKeeper,
        log: Arc<KeptLog>,
        dry: bool,
        report: &mut RetentionReport,
    ) -> Result<Arc<KeptLog>, RetentionError> {
        if self.settings.keep.is_none() {
            return Ok(log);
        }
        let (its, of) = (Arc::clone(keeper), Arc::clone(&log));
        let (old, wrong) = aside(move || its.old(&of)).await?;
        for (segment, error) in wrong {
            report.add(&segment, &error)?;
        }
        let old = match &self.settings.archive {
            None => old,
            Some(archive) => {
                let mut absent = HashSet::new();
                for segment in &old {
                    if !self.is_archived(keeper, archive, &log, segment).await? {
                        absent.insert(segment.name.clone());
                    }
                }
                without_gaps(old, |name| absent.contains(name))
            }
        };
        if old.is_empty() {
            return Ok(log);
        }
        let names = old.iter().map(|segment| segment.name.clone());
        report.removed.extend(names);
        if dry {
            return Ok(log);
        }
        let (its, are_archived) = (Arc::clone(keeper), self.settings.archive.is_some());
        aside(move || its.remove(&old, are_archived)).await??;
        look(keeper).await
    }

    /// Whether the archive has all of an old segment now.
    async fn is_archived(
        &self,
        keeper: &SharedKeeper,
        archive: &ArchiveBucket,
        log: &KeptLog,
        segment: &OldSegment,
    ) -> Result<bool, RetentionError> {
        for (name, is_required) in [
            (compressed_name(&segment.name), true),
            (torn_name(&segment.name), false),
        ] {
            let Some(file) = whole(keeper, &name).await? else {
                match is_required {
                    true => return Ok(false),
                    false => continue,
                }
            };
            let state = archive.compare(log.id(), &name, file.bytes.len() as u64, &file.sha256);
            let state = Box::pin(state).await;
            if state.map_err(|error| failed(archive, error))? != ArchiveState::Same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compresses sealed segments. Without room on the disk the others wait, too.
    async fn compress(
        &self,
        keeper: &SharedKeeper,
        log: Arc<KeptLog>,
        dry: bool,
        report: &mut RetentionReport,
    ) -> Result<Arc<KeptLog>, RetentionError> {
        if !self.settings.compresses {
            return Ok(log);
        }
        let plain = log.sealed().into_iter().filter(|name| log.is_plain(name));
        let plain: Vec<String> = plain.collect();
        let is_any = !plain.is_empty();
        for name in plain {
            if dry {
                report.compressed.push(name);
                continue;
            }
            let (its, of, which) = (Arc::clone(keeper), Arc::clone(&log), name.clone());
            match aside(move || its.compress(&which, &of)).await? {
                Ok(()) => report.compressed.push(name),
                Err(error) => {
                    report.add(&name, &error)?;
                    if error.lacks_room() {
                        break;
                    }
                }
            }
        }
        match is_any && !dry {
            true => look(keeper).await,
            false => Ok(log),
        }
    }

    /// Puts compressed segments into the archive, and verifies each there.
    async fn ship(
        &mut self,
        keeper: &SharedKeeper,
        log: &KeptLog,
        dry: bool,
        report: &mut RetentionReport,
    ) -> Result<(), RetentionError> {
        let Some(archive) = self.settings.archive.clone() else {
            return Ok(());
        };
        for segment in log.sealed() {
            if !log.is_compressed(&segment) || log.is_plain(&segment) {
                if dry {
                    report.archived.push(segment);
                }
                continue;
            }
            let mut is_new = false;
            for name in [compressed_name(&segment), torn_name(&segment)] {
                if self.shipped.contains(&name) {
                    continue;
                }
                let Some(file) = whole(keeper, &name).await? else {
                    continue;
                };
                let put = Box::pin(ship_file(&archive, log.id(), &name, file, dry));
                match put.await.map_err(|error| failed(&archive, error))? {
                    Shipped::WasThere => {}
                    Shipped::Now => is_new = true,
                    Shipped::Differs => {
                        report.problems.push(RetentionProblem {
                            segment: segment.clone(),
                            reason: format!(
                                "the archive has another file {}{}/{name}: compare the two before you remove one",
                                archive.place(),
                                log.id()
                            ),
                        });
                        continue;
                    }
                }
                if !dry {
                    self.shipped.insert(name);
                }
            }
            if is_new {
                report.archived.push(segment);
            }
        }
        Ok(())
    }

    /// Puts a copy of the registry beside the segments: with it, the archive alone can be verified.
    async fn ship_registry(
        &mut self,
        keeper: &SharedKeeper,
        log: &str,
        has_news: bool,
    ) -> Result<(), RetentionError> {
        let Some(archive) = self.settings.archive.clone().filter(|_| has_news) else {
            return Ok(());
        };
        let Some(file) = whole(keeper, REGISTRY).await? else {
            return Ok(());
        };
        if self.registry == Some(file.sha256) {
            return Ok(());
        }
        let put = archive.put(log, REGISTRY, (file.bytes, &file.sha256), false);
        Box::pin(put)
            .await
            .map_err(|error| failed(&archive, error))?;
        self.registry = Some(file.sha256);
        Ok(())
    }
}

impl RetentionReport {
    /// Adds a problem; the end of the program is none.
    fn add(&mut self, segment: &str, error: &StepError) -> Result<(), RetentionError> {
        if error.is_stop() {
            return Err(RetentionError::Stopped);
        }
        self.problems.push(RetentionProblem {
            segment: segment.to_owned(),
            reason: error.words(),
        });
        Ok(())
    }
}

/// What became of a file on its way into the archive.
enum Shipped {
    WasThere,
    Now,
    Differs,
}

async fn ship_file(
    archive: &ArchiveBucket,
    log: &str,
    name: &str,
    file: WholeFile,
    dry: bool,
) -> Result<Shipped, StoreError> {
    let WholeFile { bytes, sha256 } = file;
    let size = bytes.len() as u64;
    match archive.compare(log, name, size, &sha256).await? {
        ArchiveState::Same => return Ok(Shipped::WasThere),
        ArchiveState::Other => return Ok(Shipped::Differs),
        ArchiveState::Absent if dry => return Ok(Shipped::Now),
        ArchiveState::Absent => {}
    }
    archive.put(log, name, (bytes, &sha256), true).await?;
    failpoint::pass(Failpoint::SegmentShipped);
    Ok(match archive.compare(log, name, size, &sha256).await? {
        ArchiveState::Same => Shipped::Now,
        ArchiveState::Absent | ArchiveState::Other => Shipped::Differs,
    })
}

fn failed(archive: &ArchiveBucket, error: StoreError) -> RetentionError {
    RetentionError::Archive {
        place: archive.place(),
        source: Box::new(error),
    }
}

async fn look(keeper: &SharedKeeper) -> Result<Arc<KeptLog>, RetentionError> {
    let its = Arc::clone(keeper);
    Ok(Arc::new(aside(move || its.look()).await??))
}

/// A file of the directory; `None` if there is none.
async fn whole(keeper: &SharedKeeper, name: &str) -> Result<Option<WholeFile>, RetentionError> {
    let (its, which) = (Arc::clone(keeper), name.to_owned());
    let read = aside(move || {
        let directory = its.directory();
        let mut bytes = Vec::new();
        let read = directory
            .read(&which)
            .and_then(|mut file| std::io::copy(&mut file, &mut bytes));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(super::log::open_failed(&directory.path_of(&which), source)),
            Ok(_) => {
                let sha256 = Sha256::digest(&bytes).into();
                Ok(Some(WholeFile { bytes, sha256 }))
            }
        }
    });
    Ok(read.await??)
}

/// Runs a step on a thread that may wait for the disk.
async fn aside<T: Send + 'static>(
    step: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RetentionError> {
    let done = tokio::task::spawn_blocking(step).await;
    done.map_err(|_| RetentionError::Stopped)
}
