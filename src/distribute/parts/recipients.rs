//! The recipients of a job in parts, frozen: read once from the job or its list, and stored in the ledger chunk by chunk.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use directory::{Location, read_mounted};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{MAX_CHUNKS, damaged, frozen};
use crate::assemble::Services;
use crate::assemble::connection::Connection;
use crate::audit::record::Pseudonyms;
use crate::bounds::{MAX_LIST_BYTES, MAX_VARS_BYTES};
use crate::cancellation::Cancellation;
use crate::error::JobError;
use crate::job::list::{self, BadRow, RecipientRows, RowsError, check_count};
use crate::job::wire::FullRecipient;
use crate::job::{Bucket, ConnectionName, JobId, Key, ListName, Recipient};
use crate::keyring::nonce;
use crate::ledger::{Ledger, LedgerError, Record};
use crate::mounted;
use crate::plan::lists::{ListError, ListSource, OnBadRow, RecipientList};
use crate::report::{MAX_NAMED_PARTS, PartsReport};
use crate::run::JobRun;
use crate::text::chain;

/// How many recipients a chunk has: so many parts are looked at again after a kill.
const CHUNK: usize = 100;

/// From which size on a chunk ends early, in bytes: recipients may have many variables.
const CHUNK_BYTES: usize = 16 * MAX_VARS_BYTES;

/// How much of a list in a bucket is read at once, in bytes.
const PIECE: u64 = 1024 * 1024;

/// Where the frozen recipients of a job are, and what was left out; part of its plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FrozenList {
    /// The name of its pages.
    listing: String,
    /// How many pages there are.
    pub(super) chunks: u32,
    /// How many recipients.
    pub(super) recipients: u64,
    /// How many rows repeat an address.
    repeated: u64,
    /// How many rows are no recipients.
    pub(super) bad_rows: u64,
    /// The first of them.
    rows: Vec<BadRow>,
}

/// A recipient and their id, as a page has them.
type FrozenRecipient = (String, FullRecipient);

impl FrozenList {
    /// The recipients of a plan.
    pub(super) fn of(plan: &Record) -> Result<Self, LedgerError> {
        let list = serde_json::from_value(plan.body["recipients"].clone());
        list.map_err(|_| damaged(plan))
    }

    /// What the report says of the list itself.
    pub(super) fn report(&self) -> PartsReport {
        PartsReport {
            recipients: self.recipients,
            repeated: self.repeated,
            bad_rows: self.bad_rows,
            rows: self.rows.clone(),
            ..PartsReport::default()
        }
    }

    /// The recipients of a chunk.
    pub(super) async fn chunk(
        &self,
        number: u32,
        job: &JobId,
        ledger: &dyn Ledger,
    ) -> Result<Vec<(String, Recipient)>, LedgerError> {
        let page = ledger.page(job, &self.listing, number).await?;
        let page = page.and_then(|page| read_page(&page));
        // The list may have changed since, and may name others now: it is not read again.
        page.ok_or_else(|| {
            let key = format!("objects/{job}/{}/{number}", self.listing);
            LedgerError::Unreadable { key }
        })
    }
}

fn read_page(page: &[u8]) -> Option<Vec<(String, Recipient)>> {
    let page: Vec<FrozenRecipient> = serde_json::from_slice(page).ok()?;
    let read = page.into_iter().map(|(rid, recipient)| {
        let recipient = Recipient::from_full(recipient).ok()?;
        Some((rid, recipient))
    });
    read.collect()
}

/// Reads the recipients of a job and stores them. They count when the job's plan names them.
pub(super) async fn freeze(run: &JobRun, services: &Services) -> Result<FrozenList, JobError> {
    let ledger = &services.recording.ledger;
    let (job, listing) = (&run.job.id, nonce());
    let mut chunks = 0;
    let storing = async {
        let mut reading = ListReading::begin(run, services).await?;
        while let Some(page) = reading.pages.recv().await {
            run.stop.check()?;
            if chunks == MAX_CHUNKS {
                return Err(
                    reading.whole("has too many recipients with too many variables: split it")
                );
            }
            let page = serde_json::to_vec(&page).expect("recipients are plain data");
            ledger.keep_page(job, &listing, chunks, page).await?;
            chunks += 1;
        }
        reading.end().await
    };
    let stored: Result<FrozenList, JobError> = Box::pin(storing).await;
    match stored {
        Ok(counted) => Ok(FrozenList {
            listing,
            chunks,
            ..counted
        }),
        Err(error) => {
            // No plan names these pages, which have addresses. What cannot be removed now goes with the next pruning.
            if chunks > 0
                && let Err(left) = ledger.forget_pages(job).await
            {
                tracing::debug!(job.id = %job, error = chain(&left), "could not remove the pages of a list that was rejected");
            }
            Err(error)
        }
    }
}

/// The first parts of a job, at most `most`, and what its report will say of its recipients: for a preview.
///
/// # Errors
/// The list cannot be read, or a row is no recipient and the job stops then.
pub(crate) async fn first_parts(
    run: &JobRun,
    services: &Services,
    most: usize,
) -> Result<(Vec<JobRun>, PartsReport), JobError> {
    let template = run.job.without_recipients();
    let mut parts = Vec::new();
    let mut reading = ListReading::begin(run, services).await?;
    while let Some(page) = reading.pages.recv().await {
        for (rid, recipient) in page {
            if parts.len() < most
                && let Ok(recipient) = Recipient::from_full(recipient)
            {
                parts.push(JobRun {
                    job: Arc::new(template.part(&rid, recipient)),
                    ..run.clone()
                });
            }
        }
    }
    let counted = reading.end().await?;
    Ok((parts, counted.report()))
}

/// Reads a whole list, and counts its recipients.
///
/// # Errors
/// The list cannot be read, it has no recipients, or a row is no recipient and jobs stop then.
pub async fn count_recipients(
    list: &RecipientList,
    services: &Services,
) -> Result<PartsReport, JobError> {
    let bad_rows = BadRows::of(list.on_bad_row);
    read_whole(list, bad_rows, services)
        .await?
        .end()
        .await
        .map(|counted| counted.report())
}

/// The addresses of a list's recipients whose ids are wanted, by their ids.
///
/// # Errors
/// The list cannot be read.
pub async fn addresses_in_list(
    list: &RecipientList,
    services: &Services,
    names: &Pseudonyms,
    wanted: &HashSet<String>,
) -> Result<Vec<(String, String)>, JobError> {
    let reader = ListReader {
        name: list.name.as_str(),
        stop: &Cancellation::default(),
        services,
    };
    // A wrong row says nothing about the recipients of the others.
    let bad_rows = BadRows::of(OnBadRow::Skip);
    let mut reading = ListReading::of(list, bad_rows, reader).await?;
    let mut found = Vec::new();
    while let Some(page) = reading.pages.recv().await {
        for (_, full) in page {
            // The services of a preview have ids of their own.
            if let Ok(recipient) = Recipient::from_full(full) {
                let address = recipient.canonical_address();
                let rid = names.recipient_id(&address);
                if wanted.contains(&rid) {
                    found.push((rid, address));
                }
            }
        }
    }
    reading.counted().await?;
    Ok(found)
}

/// The recipient of a job in parts, if its frozen recipients are stored still.
///
/// # Errors
/// The ledger does not answer, or a record cannot be read.
pub async fn recipient_of_job(
    ledger: &dyn Ledger,
    job: &JobId,
    rid: &str,
) -> Result<Option<Recipient>, LedgerError> {
    let Some(list) = frozen(&ledger.records_of(job, "").await?)? else {
        return Ok(None);
    };
    for number in 0..list.chunks {
        let page = match list.chunk(number, job, ledger).await {
            Ok(page) => page,
            // They are forgotten when the job has reached all.
            Err(LedgerError::Unreadable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = page.into_iter().find(|(id, _)| id == rid);
        if let Some((_, recipient)) = found {
            return Ok(Some(recipient));
        }
    }
    Ok(None)
}

/// Reads a whole list, and names each row that is no recipient, also where jobs stop at the first; of very many, the first
/// [`MAX_CHECKED_ROWS`].
///
/// # Errors
/// The list cannot be read.
pub async fn all_bad_rows(
    list: &RecipientList,
    services: &Services,
) -> Result<PartsReport, JobError> {
    let bad_rows = BadRows {
        on_bad_row: OnBadRow::Skip,
        named: MAX_CHECKED_ROWS,
    };
    let reading = read_whole(list, bad_rows, services).await?;
    Ok(reading.counted().await?.report())
}

/// Reads a list to its end.
async fn read_whole(
    list: &RecipientList,
    bad_rows: BadRows,
    services: &Services,
) -> Result<ListReading, JobError> {
    let reader = ListReader {
        name: list.name.as_str(),
        stop: &Cancellation::default(),
        services,
    };
    let mut reading = ListReading::of(list, bad_rows, reader).await?;
    while reading.pages.recv().await.is_some() {}
    Ok(reading)
}

/// How many rows that are no recipients a check of a list names.
pub const MAX_CHECKED_ROWS: usize = 10_000;

/// What to do about rows that are no recipients.
#[derive(Debug, Clone, Copy)]
struct BadRows {
    on_bad_row: OnBadRow,
    /// How many are named; more of them are only counted.
    named: usize,
}

impl BadRows {
    const fn of(on_bad_row: OnBadRow) -> Self {
        Self {
            on_bad_row,
            named: MAX_NAMED_PARTS,
        }
    }
}

/// The reading of a list on a blocking thread, which is a few chunks ahead.
struct ListReading {
    list: Option<ListName>,
    pages: mpsc::Receiver<Vec<FrozenRecipient>>,
    thread: tokio::task::JoinHandle<Result<FrozenList, RowsError>>,
    bad_rows: BadRows,
}

impl ListReading {
    async fn begin(run: &JobRun, services: &Services) -> Result<Self, JobError> {
        let Some(name) = run.job.list() else {
            let people = run.job.email.iter().flat_map(|email| email.to.clone());
            let people: Vec<Recipient> = people.collect();
            let rows = Box::new(people.into_iter().map(Ok));
            return Ok(Self::start(
                None,
                rows,
                BadRows::of(OnBadRow::Stop),
                services,
            ));
        };
        let list = services.signing.policy.list(&run.job, name)?;
        let reader = ListReader {
            name: run.job.id.as_str(),
            stop: &run.stop,
            services,
        };
        Self::of(list, BadRows::of(list.on_bad_row), reader).await
    }

    async fn of(
        list: &RecipientList,
        bad_rows: BadRows,
        reader: ListReader<'_>,
    ) -> Result<Self, JobError> {
        let rows = source(list, &reader).await?;
        let name = Some(list.name.clone());
        Ok(Self::start(name, rows, bad_rows, reader.services))
    }

    fn start(
        list: Option<ListName>,
        rows: RecipientRows,
        bad_rows: BadRows,
        services: &Services,
    ) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let names = services.recording.names.clone();
        let thread = tokio::task::spawn_blocking(move || divide(rows, &names, bad_rows, &sender));
        Self {
            list,
            pages,
            thread,
            bad_rows,
        }
    }

    /// What was read, when all pages were taken: of a list, at least one recipient.
    async fn end(self) -> Result<FrozenList, JobError> {
        let (list, on_bad_row) = (self.list.clone(), self.bad_rows.on_bad_row);
        let counted = self.counted().await?;
        let Some(list) = list.filter(|_| counted.recipients == 0) else {
            return Ok(counted);
        };
        let reason = match (counted.bad_rows, on_bad_row) {
            (1.., OnBadRow::Skip) => "has no row that is a recipient",
            _ => "has no recipients",
        };
        let reason = reason.to_owned();
        Err(ListError::Whole { list, reason }.into())
    }

    /// What was read, when all pages were taken.
    async fn counted(self) -> Result<FrozenList, JobError> {
        let read = self.thread.await.map_err(|_| JobError::Panicked)?;
        let Some(list) = self.list else {
            // The recipients of the job itself were read with the job.
            return read.map_err(|_| JobError::Panicked);
        };
        let read = read.map_err(|error| match error {
            RowsError::Bad(row) => ListError::Row {
                list: list.clone(),
                row,
            },
            RowsError::Whole(reason) => ListError::Whole {
                list: list.clone(),
                reason,
            },
            RowsError::Io(source) => ListError::File {
                list: list.clone(),
                source,
            },
        });
        Ok(read?)
    }

    fn whole(&self, reason: &str) -> JobError {
        match &self.list {
            Some(list) => ListError::Whole {
                list: list.clone(),
                reason: reason.to_owned(),
            }
            .into(),
            None => JobError::Panicked,
        }
    }
}

/// Divides the recipients into chunks, each address once.
fn divide(
    rows: RecipientRows,
    names: &Pseudonyms,
    bad_rows: BadRows,
    pages: &mpsc::Sender<Vec<FrozenRecipient>>,
) -> Result<FrozenList, RowsError> {
    let mut counted = FrozenList {
        listing: String::new(),
        chunks: 0,
        recipients: 0,
        repeated: 0,
        bad_rows: 0,
        rows: Vec::new(),
    };
    let mut seen: HashSet<u128> = HashSet::new();
    let (mut page, mut bytes, mut count) = (Vec::new(), 0, 0);
    for row in rows {
        count += 1;
        check_count(count)?;
        let recipient = match row {
            Ok(recipient) => recipient,
            Err(RowsError::Bad(row)) if bad_rows.on_bad_row == OnBadRow::Skip => {
                counted.bad_rows += 1;
                if counted.rows.len() < bad_rows.named {
                    counted.rows.push(row);
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let rid = names.recipient_id(&recipient.canonical_address());
        let number = u128::from_str_radix(&rid, 16).unwrap_or_default();
        if !seen.insert(number) {
            counted.repeated += 1;
            continue;
        }
        counted.recipients += 1;
        let full = recipient.to_full();
        bytes += full.size_bytes();
        page.push((rid, full));
        if page.len() == CHUNK || bytes >= CHUNK_BYTES {
            bytes = 0;
            // The receiver is gone if it failed; its error counts.
            if pages.blocking_send(std::mem::take(&mut page)).is_err() {
                return Ok(counted);
            }
        }
    }
    if !page.is_empty() {
        drop(pages.blocking_send(page));
    }
    Ok(counted)
}

/// What reads a list: a job, or a check.
struct ListReader<'a> {
    /// Its name at the store.
    name: &'a str,
    stop: &'a Cancellation,
    services: &'a Services,
}

/// The rows of a list.
async fn source(list: &RecipientList, reader: &ListReader<'_>) -> Result<RecipientRows, JobError> {
    let name = &list.name;
    let spool_dir = reader.services.presenting.spool_dir.clone();
    let failed = |source| ListError::File {
        list: name.clone(),
        source,
    };
    Ok(match &list.source {
        ListSource::Entries(entries) => list::entries(entries.to_vec()),
        ListSource::File(path) => {
            let from = path.clone();
            let copying = mounted::work_in_time(path, move || copy(&from, &spool_dir));
            let file = copying.await.map_err(failed)?;
            let file = file.ok_or_else(|| too_long(name))?;
            list::rows(list.format, file)
        }
        ListSource::Object {
            connection,
            bucket,
            key,
        } => {
            let at = (connection, bucket, key);
            let file = Box::pin(fetch(reader, name, at)).await?;
            list::rows(list.format, file)
        }
    })
}

fn too_long(list: &ListName) -> ListError {
    ListError::Whole {
        list: list.clone(),
        reason: format!(
            "has more than {} MiB: split it into several lists",
            MAX_LIST_BYTES / (1024 * 1024)
        ),
    }
}

/// Copies a file of the operator's; `None` if it is too long. A file that is being written is an error, and is read again later: its
/// last row may be cut off, and a recipient would have the variables of another.
fn copy(from: &std::path::Path, spool_dir: &Location) -> io::Result<Option<File>> {
    let file = read_mounted(from)?;
    let about = |file: &File| {
        let about = file.metadata()?;
        io::Result::Ok((about.len(), about.modified()?))
    };
    let before = about(&file)?;
    let mut copy = spool_dir.open_or_make(0o700)?.scratch()?;
    let bytes = io::copy(&mut Read::take(&file, MAX_LIST_BYTES + 1), &mut copy)?;
    if bytes > MAX_LIST_BYTES {
        return Ok(None);
    }
    let is_being_written = about(&file)? != before || bytes != before.0;
    if is_being_written || !ends_with_line_break(&mut copy)? {
        return Err(io::Error::other(match is_being_written {
            true => "it was changed while it was read; replace it by a rename",
            false => {
                "its last row has no line break at its end, so that it may be cut off; end the row, and replace the file by a rename"
            }
        }));
    }
    copy.rewind()?;
    Ok(Some(copy))
}

/// Whether a file is empty or ends with a line break.
fn ends_with_line_break(file: &mut File) -> io::Result<bool> {
    if file.seek(io::SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(io::SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(matches!(last, [b'\n' | b'\r']))
}

/// Copies an object into a file, piece by piece: a changed object is an error.
async fn fetch(
    reader: &ListReader<'_>,
    list: &ListName,
    (connection, bucket, key): (&ConnectionName, &Bucket, &Key),
) -> Result<File, JobError> {
    let ListReader { name, services, .. } = reader;
    let connection = services.signing.connection(connection)?;
    let edge = connection.s3.edge();
    let share = services.share();
    let at = edge.enter(name, share)?;
    let copying = Box::pin(copy_object(reader, list, connection, (bucket, key)));
    at.while_it_may(share, copying).await?
}

async fn copy_object(
    reader: &ListReader<'_>,
    list: &ListName,
    connection: &Connection,
    (bucket, key): (&Bucket, &Key),
) -> Result<File, JobError> {
    let ListReader { stop, services, .. } = reader;
    let edge = connection.s3.edge();
    let failed = |source| {
        let list = list.clone();
        JobError::from(ListError::Store { list, source }).or_outage(edge.outage())
    };
    let written = |source| ListError::File {
        list: list.clone(),
        source,
    };
    let store = &connection.store;
    let object = stop.or(store.head(bucket, key)).await?;
    let object = object.map_err(failed)?;
    if object.size_bytes > MAX_LIST_BYTES {
        return Err(too_long(list).into());
    }
    let spool_dir = services
        .presenting
        .spool_dir
        .open_or_make(0o700)
        .map_err(written)?;
    let mut file = spool_dir.scratch().map_err(written)?;
    let mut from = 0;
    while from < object.size_bytes {
        let to = (from + PIECE).min(object.size_bytes);
        let piece = stop.or(store.range(bucket, &object, from..to)).await?;
        file.write_all(&piece.map_err(failed)?).map_err(written)?;
        from = to;
    }
    file.rewind().map_err(written)?;
    Ok(file)
}
