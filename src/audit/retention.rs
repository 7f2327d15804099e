//! The retention of an audit log: sealed segments are compressed, put into the archive, and removed after `audit.keep`.
//!
//! The archive is asked, and not remembered: a segment counts as shipped when the store says that it has an object of its size and its
//! SHA-256, and right before a removal it is asked again. What a kill interrupts is done at the next run, see [`super::retain`]. Beside
//! the segments is a copy of the registry, which says how many of them the archive must have. It is put there before a segment is removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::bucket::{ArchiveBucket, ArchiveState};
use super::compressed::compressed_name;
use super::directory::{segment_of, torn_name};
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
#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, schemars::JsonSchema)]
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
        let is_archived = self.settings.archive.is_some();
        let log = look(&keeper).await?;
        let (mut log, unfinished) = self.finish(&keeper, log, dry, &mut report).await?;
        let its = Arc::clone(&keeper);
        let clock = aside(move || its.judge_clock(dry)).await??;
        let is_believed = clock.is_ok();
        report
            .problems
            .extend(clock.err().map(|reason| RetentionProblem {
                segment: "each segment".to_owned(),
                reason,
            }));
        let removing = (dry, is_believed, &unfinished);
        if !is_archived {
            // First what makes room; what is compressed below may be old enough to go, too.
            log = self.remove(&keeper, log, removing, &mut report).await?;
        }
        log = self.compress(&keeper, log, dry, &mut report).await?;
        let shipped = self.ship(&keeper, &log, dry, &mut report).await?;
        if is_archived && !dry {
            self.ship_registry(&keeper, &log, &shipped).await?;
        }
        if is_archived || !(dry || report.compressed.is_empty()) {
            log = look(&keeper).await?;
            log = self.remove(&keeper, log, removing, &mut report).await?;
        }
        if is_archived && !dry {
            self.ship_registry(&keeper, &log, &shipped).await?;
        }
        let mut seen = HashSet::new();
        report
            .problems
            .retain(|problem| seen.insert(problem.clone()));
        Ok(report)
    }

    /// Goes on with removals that were interrupted, and returns the streams of which something is left.
    async fn finish(
        &self,
        keeper: &SharedKeeper,
        log: Arc<KeptLog>,
        dry: bool,
        report: &mut RetentionReport,
    ) -> Result<(Arc<KeptLog>, BTreeSet<String>), RetentionError> {
        let (its, of) = (Arc::clone(keeper), Arc::clone(&log));
        let finished = aside(move || its.finish_removals(&of, dry)).await?;
        let is_changed = !finished.removed.is_empty() && !dry;
        report.removed.extend(finished.removed);
        for (segment, error) in finished.wrong {
            report.add(&segment, &error)?;
        }
        let log = match is_changed {
            true => look(keeper).await?,
            false => log,
        };
        Ok((log, finished.unfinished))
    }

    /// Removes what was kept long enough and is in the archive, if there is one.
    async fn remove(
        &mut self,
        keeper: &SharedKeeper,
        log: Arc<KeptLog>,
        (dry, is_believed, unfinished): (bool, bool, &BTreeSet<String>),
        report: &mut RetentionReport,
    ) -> Result<Arc<KeptLog>, RetentionError> {
        if self.settings.keep.is_none() || !is_believed {
            return Ok(log);
        }
        let (its, of, except) = (Arc::clone(keeper), Arc::clone(&log), unfinished.clone());
        let (old, wrong) = aside(move || its.old(&of, &except)).await?;
        for (segment, error) in wrong {
            report.add(&segment, &error)?;
        }
        let old = match self.settings.archive.clone() {
            None => old,
            Some(archive) => {
                let mut absent = HashSet::new();
                for segment in &old {
                    let missing = self.missing_of(keeper, &archive, &log, segment).await?;
                    let Some(name) = missing else {
                        continue;
                    };
                    absent.insert(segment.name.clone());
                    // The archive lost it: it is shipped again, like a segment that was never there.
                    if self.shipped.remove(&name) {
                        report.problems.push(RetentionProblem {
                            segment: segment.name.clone(),
                            reason: format!(
                                "the archive does not have {}{}/{name} any more as it was put there: the next run puts it there again, unless there is another file",
                                archive.place(),
                                log.id()
                            ),
                        });
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

    /// The first file of an old segment that the archive does not have now.
    async fn missing_of(
        &self,
        keeper: &SharedKeeper,
        archive: &ArchiveBucket,
        log: &KeptLog,
        segment: &OldSegment,
    ) -> Result<Option<String>, RetentionError> {
        for (name, is_required) in [
            (compressed_name(&segment.name), true),
            (torn_name(&segment.name), false),
        ] {
            let Some(file) = whole(keeper, &name).await? else {
                match is_required {
                    true => return Ok(Some(name)),
                    false => continue,
                }
            };
            let state = archive.compare(log.id(), &name, file.bytes.len() as u64, &file.sha256);
            let state = Box::pin(state).await;
            if state.map_err(|error| failed(archive, error))? != ArchiveState::Same {
                return Ok(Some(name));
            }
        }
        Ok(None)
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

    /// Puts compressed segments into the archive, and verifies each there. Returns how many segments of each stream the archive has, from
    /// the first on.
    async fn ship(
        &mut self,
        keeper: &SharedKeeper,
        log: &KeptLog,
        dry: bool,
        report: &mut RetentionReport,
    ) -> Result<BTreeMap<String, u32>, RetentionError> {
        let mut there = log.gone_of_all();
        let Some(archive) = self.settings.archive.clone() else {
            return Ok(there);
        };
        for segment in log.sealed() {
            if !log.is_compressed(&segment) || log.is_plain(&segment) {
                if dry {
                    report.archived.push(segment);
                }
                continue;
            }
            let (mut is_new, mut is_there) = (false, true);
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
                    state @ (Shipped::Differs | Shipped::Lost) => {
                        let file = format!("{}{}/{name}", archive.place(), log.id());
                        let reason = match state {
                            Shipped::Lost => format!(
                                "the archive took {file}, and does not have it now: the next run tries again"
                            ),
                            _ => format!(
                                "the archive has another file {file}: compare the two before you remove one"
                            ),
                        };
                        let segment = segment.clone();
                        report.problems.push(RetentionProblem { segment, reason });
                        is_there = false;
                        continue;
                    }
                }
                if !dry {
                    self.shipped.insert(name);
                }
            }
            if let Some((stream, number)) = segment_of(&segment).filter(|_| is_there) {
                let count = there.entry(stream.to_owned()).or_default();
                // A segment that is missing before it ends the count.
                if *count + 1 == number {
                    *count = number;
                }
            }
            if is_new {
                report.archived.push(segment);
            }
        }
        Ok(there)
    }

    /// Puts a copy of the registry beside the segments, unless the archive has it: with it, the archive alone can be verified.
    async fn ship_registry(
        &mut self,
        keeper: &SharedKeeper,
        log: &KeptLog,
        shipped: &BTreeMap<String, u32>,
    ) -> Result<(), RetentionError> {
        let Some(archive) = self.settings.archive.clone().filter(|_| log.is_saved()) else {
            return Ok(());
        };
        let bytes = keeper.archive_note(log, shipped.clone()).into_bytes();
        let sha256: Hash = Sha256::digest(&bytes).into();
        if self.registry == Some(sha256) {
            return Ok(());
        }
        // A kill or an outage may have come between the segments and the copy: the archive is asked, and not what this run did.
        let compared = archive.compare(log.id(), REGISTRY, bytes.len() as u64, &sha256);
        let compared = Box::pin(compared).await;
        if compared.map_err(|error| failed(&archive, error))? != ArchiveState::Same {
            let put = archive.put(log.id(), REGISTRY, (bytes, &sha256), false);
            let put = Box::pin(put).await;
            put.map_err(|error| failed(&archive, error))?;
        }
        self.registry = Some(sha256);
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
    /// The archive took it, and does not have it.
    Lost,
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
        ArchiveState::Absent => Shipped::Lost,
        ArchiveState::Other => Shipped::Differs,
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
