//! Which messages were being worked when the process died, and how often: recorded for the next process.
//!
//! A message that kills the process, for example by its memory use, would come back for ever, since a dead process
//! counts no failures. So each delivery writes a small file below the state directory when it begins, before the
//! message is parsed, and removes it when it ends in any way. A file that exists when a message is received was left by
//! a dead process. The file needs no sync: written data outlives the process, and a power loss is not the message's
//! fault. While the disk of the state directory does not respond, no delivery begins.
//!
//! All messages in progress are suspects, and one of them is the cause. So suspects are worked one at a time: the cause
//! then kills the process without the others. A suspect that would be parked for one more death is worked alone until
//! it has made progress, or for [`ALONE`]: the death by a new message would be counted against it. If the process died
//! while it parsed a message, that message is the cause, and not those that had been parsed before.

mod notes;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use directory::Directory;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::keyring::sha256_hex;
use crate::repeated::RepeatedLine;

use notes::Notes;

/// A message is parked after this many deliveries that ended in the death of the process.
pub const MAX_DEATHS: u32 = 3;

/// How long a message that would be parked for one more death is worked alone.
const ALONE: Duration = Duration::from_secs(30);

/// How long it waits for the others to make progress before it is worked beside them.
const WAIT_FOR_ALONE: Duration = Duration::from_secs(5 * 60);

/// How long a file is kept whose message never came back: as long as SQS keeps a message.
const KEEP: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The directory of the files, below the state directory.
const FOLDER: &str = "deliveries";

/// The deliveries of one worker.
#[derive(Debug, Clone)]
pub struct Deliveries {
    notes: Notes,
    /// The one place for a suspected message.
    quarantine: Arc<Semaphore>,
    company: Arc<Mutex<Company>>,
    /// The line about files that cannot be written, which each delivery would repeat.
    unrecorded: Arc<RepeatedLine>,
}

/// The deliveries that run at the same time.
#[derive(Debug, Default)]
struct Company {
    /// How many deliveries have made no progress yet.
    under_way: usize,
    /// Until when one of them runs alone.
    alone_until: Option<Instant>,
    /// Since when one waits to run alone.
    waiting_since: Option<Instant>,
}

impl Company {
    /// Whether a message that killed the process so often may begin now.
    fn admits(&mut self, deaths: u32) -> bool {
        let now = Instant::now();
        if self.under_way == 0 {
            self.alone_until = None;
        }
        if self.alone_until.is_some_and(|until| until > now) {
            return false;
        }
        if deaths + 1 == MAX_DEATHS {
            // A message that never came back waits no longer.
            let since = self
                .waiting_since
                .filter(|since| now - *since < 2 * WAIT_FOR_ALONE);
            let since = since.unwrap_or(now);
            self.waiting_since = Some(since);
            if self.under_way > 0 && now - since < WAIT_FOR_ALONE {
                return false;
            }
            self.waiting_since = None;
            self.alone_until = Some(now + ALONE);
        }
        true
    }
}

/// A worker's slot, held by the messages of a group one after the other.
#[derive(Debug, Clone)]
pub struct Slot {
    slots: Arc<Semaphore>,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Slot {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            slots: Arc::clone(permit.semaphore()),
            permit: Arc::new(Mutex::new(Some(permit))),
        }
    }

    /// Takes a slot again, if the message before gave it back.
    pub(crate) async fn take(&self) {
        if lock(&self.permit).is_none() {
            let permit = Arc::clone(&self.slots).acquire_owned().await;
            *lock(&self.permit) = permit.ok();
        }
    }

    /// Frees the slot for others.
    pub(crate) fn give_back(&self) {
        drop(lock(&self.permit).take());
    }
}

/// A delivery in progress. Its drop means that it has ended while the process lives.
#[derive(Debug, Clone)]
pub struct Delivery {
    inner: Arc<DeliveryInner>,
}

#[derive(Debug)]
struct DeliveryInner {
    /// The file; `None` if it could not be written, or for a job without a message.
    file: Option<(Notes, String)>,
    deaths: AtomicU32,
    is_kept: AtomicBool,
    is_waiting: AtomicBool,
    /// The place that it takes up until it makes progress.
    place: Mutex<Option<SuspectPlace>>,
    slot: Mutex<Option<Slot>>,
}

/// A delivery that has made no progress yet.
#[derive(Debug)]
struct SuspectPlace {
    company: Arc<Mutex<Company>>,
    _quarantine: Option<OwnedSemaphorePermit>,
}

impl Drop for SuspectPlace {
    fn drop(&mut self) {
        lock(&self.company).under_way -= 1;
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for DeliveryInner {
    fn drop(&mut self) {
        let is_kept = self.is_kept.load(Ordering::Relaxed);
        if let Some((notes, file)) = self.file.take().filter(|_| !is_kept) {
            // A file that stays counts a death too many; two more are needed to park.
            notes.do_briefly(move |dir| drop(dir.remove(&file)));
        }
    }
}

impl Deliveries {
    /// The deliveries below a state directory, which is locked. Files whose messages never came back are removed.
    /// Entries with another kind of name, and entries that are not files, are left alone.
    pub fn open(state: &Directory) -> io::Result<Self> {
        let dir = state.private_below(FOLDER)?;
        let names = dir.names()?.into_iter();
        let mut noted = Vec::new();
        for name in names.filter_map(|name| name.into_string().ok()) {
            let is_ours = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let modified = is_ours
                .then(|| dir.modified(&name).ok().flatten())
                .flatten();
            let age = modified.and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > KEEP) {
                dir.remove(&name)?;
            } else if modified.is_some()
                && let Ok(note) = read(&dir, &name)
            {
                noted.push((name, note));
            }
        }
        // The last process's files are judged once: the next process leaves notes of its own.
        let died_reading = noted
            .iter()
            .any(|(_, note)| note.step == DeliveryStep::Reading);
        for (name, note) in noted {
            match (note.step, note.deaths) {
                (DeliveryStep::Judged, _) => {}
                (DeliveryStep::Working, 0) if died_reading => dir.remove(&name)?,
                (DeliveryStep::Working, deaths) if died_reading => {
                    write(&dir, &name, deaths - 1, DeliveryStep::Judged)?;
                }
                (DeliveryStep::Reading | DeliveryStep::Working, deaths) => {
                    write(&dir, &name, deaths, DeliveryStep::Judged)?;
                }
            }
        }
        Ok(Self {
            notes: Notes::new(dir, state.again()?)?,
            quarantine: Arc::new(Semaphore::new(1)),
            company: Arc::default(),
            unrecorded: Arc::default(),
        })
    }

    /// Whether the disk of the files does not respond, so that no delivery can begin.
    pub fn hang(&self) -> bool {
        self.notes.hang()
    }

    /// Begins a delivery of a message, and reports how many before it ended in the death of their process. `None` if it
    /// must wait: for another delivery, since one of them is suspected, or for the disk, which does not respond.
    pub async fn begin(&self, message_id: &str) -> Option<Delivery> {
        let file = sha256_hex(message_id.as_bytes())[..32].to_owned();
        let name = file.clone();
        let before = self.notes.ask(move |dir| read(dir, &name)).await?;
        let deaths = before.map_or(0, |before| before.deaths.saturating_add(1));
        let quarantine = match deaths {
            0 => None,
            _ => Some(Arc::clone(&self.quarantine).try_acquire_owned().ok()?),
        };
        let place = {
            let mut company = lock(&self.company);
            if !company.admits(deaths) {
                return None;
            }
            company.under_way += 1;
            SuspectPlace {
                company: Arc::clone(&self.company),
                _quarantine: quarantine,
            }
        };
        let mut inner = DeliveryInner {
            file: Some((self.notes.clone(), file.clone())),
            deaths: AtomicU32::new(deaths),
            is_kept: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
            place: Mutex::new(Some(place)),
            slot: Mutex::default(),
        };
        let step = DeliveryStep::Reading;
        let written = self.notes.ask(move |dir| write(dir, &file, deaths, step));
        let Some(written) = written.await else {
            // The file that is written later must count no death.
            let delivery = Delivery {
                inner: Arc::new(inner),
            };
            delivery.waits(true);
            delivery.keep();
            return None;
        };
        if let Err(error) = &written {
            inner.file = None;
            if let Some(left_out) = self.unrecorded.due() {
                tracing::warn!(%error, left_out, "could not record the start of a delivery; a crash would not be counted");
            }
        }
        Some(Delivery {
            inner: Arc::new(inner),
        })
    }
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryStep {
    /// Its message is being parsed.
    Reading,
    /// Its jobs are running.
    Working,
    /// It ended in a death that is counted.
    Judged,
}

/// The content of a delivery's file: how many deaths came before it, and its step.
struct Note {
    deaths: u32,
    step: DeliveryStep,
}

/// Reads a delivery's file; an empty or damaged one was torn by the death itself.
fn read(dir: &Directory, file: &str) -> io::Result<Note> {
    let text = dir.read_bounded(file, 16)?;
    let text = str::from_utf8(&text).unwrap_or_default();
    let (deaths, step) = text.split_once(' ').unwrap_or((text, ""));
    Ok(Note {
        deaths: deaths.trim().parse().unwrap_or_default(),
        step: match step {
            "reading" => DeliveryStep::Reading,
            "working" => DeliveryStep::Working,
            _ => DeliveryStep::Judged,
        },
    })
}

fn write(dir: &Directory, file: &str, deaths: u32, step: DeliveryStep) -> io::Result<()> {
    let step = match step {
        DeliveryStep::Reading => " reading",
        DeliveryStep::Working => " working",
        DeliveryStep::Judged => "",
    };
    let mut file = dir.lock_file(file, 0o600)?;
    file.set_len(0)?;
    file.write_all(format!("{deaths}{step}").as_bytes())
}

impl Delivery {
    /// The delivery of a job without a message.
    pub fn unnoted() -> Self {
        Self {
            inner: Arc::new(DeliveryInner {
                file: None,
                deaths: AtomicU32::new(0),
                is_kept: AtomicBool::new(false),
                is_waiting: AtomicBool::new(false),
                place: Mutex::default(),
                slot: Mutex::default(),
            }),
        }
    }

    /// The delivery runs in this slot.
    pub(crate) fn takes(&self, slot: Slot) {
        *lock(&self.inner.slot) = Some(slot);
    }

    /// Frees the worker's slot for another message, while this one waits for a relay's reply to a mail.
    pub fn give_slot_back(&self) {
        if let Some(slot) = lock(&self.inner.slot).take() {
            slot.give_back();
        }
    }

    /// How many deliveries before this one ended in the death of their process, since the last one that made progress.
    pub fn deaths(&self) -> u32 {
        self.inner.deaths.load(Ordering::Relaxed)
    }

    /// Keeps the count after the delivery's end: the message is to be parked, and could not be.
    pub(crate) fn keep(&self) {
        self.inner.is_kept.store(true, Ordering::Relaxed);
    }

    /// The delivery only waits for an edge, or no longer does. A death of the process during the wait, such as an
    /// operator's restart in an outage, is not the message's fault.
    pub fn waits(&self, is_waiting: bool) {
        if self.inner.is_waiting.swap(is_waiting, Ordering::Relaxed) == is_waiting {
            return;
        }
        let deaths = self.deaths();
        // A file counts one death more than it states, since it exists.
        self.note(move |dir, file| match (is_waiting, deaths) {
            (true, 0) => dir.remove(file),
            (true, deaths) => write(dir, file, deaths - 1, DeliveryStep::Judged),
            (false, deaths) => write(dir, file, deaths, DeliveryStep::Working),
        });
    }

    /// The message was parsed: a death while the process parses another message is not this one's fault.
    pub(crate) fn was_read(&self) {
        let deaths = self.deaths();
        self.note(move |dir, file| write(dir, file, deaths, DeliveryStep::Working));
    }

    /// Changes the file. A failure counts a death wrongly, and a message is parked for several alone.
    fn note(&self, step: impl FnOnce(&Directory, &str) -> io::Result<()> + Send + 'static) {
        if let Some((notes, file)) = &self.inner.file {
            let file = file.clone();
            notes.do_briefly(move |dir| drop(step(dir, &file)));
        }
    }

    /// The delivery made progress: its plan was recorded, or it reached a mail. A job that makes progress each time
    /// completes, however often its worker is killed.
    ///
    /// It is no longer suspected, so that the next suspect need not wait until all mails of this one are sent.
    pub fn got_on(&self) {
        if self.inner.deaths.swap(0, Ordering::Relaxed) > 0 {
            self.note(|dir, file| write(dir, file, 0, DeliveryStep::Working));
        }
        drop(lock(&self.inner.place).take());
    }
}

#[cfg(test)]
mod tests;
