//! Which messages were being worked when the process died, and how often: recorded for the next process.
//!
//! A message that kills the process, for example by its memory use, would come back for ever, since a dead process
//! counts no failures. So each delivery writes a small file below the state directory when it begins, before the
//! message is parsed, and removes it when it ends in any way. A file that exists when a message is received was left by
//! a dead process. The file needs no sync: written data outlives the process, and a power loss is not the message's
//! fault.
//!
//! All messages in progress are suspects, and one of them is the cause. So suspects are worked one at a time: the cause
//! then kills the process without the others. A suspect that would be parked for one more death is worked alone until
//! it has made progress, or for [`ALONE`]: the death by a new message would be counted against it. If the process died
//! while it parsed a message, that message is the cause, and not those that had been parsed before.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use directory::Directory;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::keyring::sha256_hex;

/// A message is parked after this many deliveries that ended in the death of the process.
pub const MAX_DEATHS: u32 = 3;

/// How long a message that would be parked for one more death is worked alone.
const ALONE: Duration = Duration::from_secs(30);

/// How long it waits for the others to make progress before it is worked beside them.
const WAIT_FOR_ALONE: Duration = Duration::from_secs(5 * 60);

/// How long a file is kept whose message never came back: as long as SQS keeps a message.
const KEEP: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The deliveries of one worker.
#[derive(Debug, Clone)]
pub struct Deliveries {
    dir: Arc<Directory>,
    /// The one place for a suspected message.
    quarantine: Arc<Semaphore>,
    company: Arc<Mutex<Company>>,
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
    file: Option<(Arc<Directory>, String)>,
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
        if let Some((dir, file)) = self.file.as_ref().filter(|_| !is_kept) {
            // A file that stays counts a death too many; two more are needed to park.
            drop(dir.remove(file));
        }
    }
}

impl Deliveries {
    /// The deliveries below a state directory, which is locked. Files whose messages never came back are removed.
    /// Entries with another kind of name, and entries that are not files, are left alone.
    pub fn open(state: &Directory) -> io::Result<Self> {
        let dir = state.private_below("deliveries")?;
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
            dir: Arc::new(dir),
            quarantine: Arc::new(Semaphore::new(1)),
            company: Arc::default(),
        })
    }

    /// Begins a delivery of a message, and reports how many before it ended in the death of their process. `None` if it
    /// must wait for another, since one of them is suspected.
    pub fn begin(&self, message_id: &str) -> Option<Delivery> {
        let file = sha256_hex(message_id.as_bytes())[..32].to_owned();
        let deaths = match read(&self.dir, &file) {
            Ok(before) => before.deaths.saturating_add(1),
            Err(_) => 0,
        };
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
        let written = write(&self.dir, &file, deaths, DeliveryStep::Reading);
        if let Err(error) = &written {
            tracing::warn!(%error, "could not record the start of a delivery; a crash would not be counted");
        }
        Some(Delivery {
            inner: Arc::new(DeliveryInner {
                file: written.is_ok().then(|| (Arc::clone(&self.dir), file)),
                deaths: AtomicU32::new(deaths),
                is_kept: AtomicBool::new(false),
                is_waiting: AtomicBool::new(false),
                place: Mutex::new(Some(place)),
                slot: Mutex::default(),
            }),
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
        let Some((dir, file)) = &self.inner.file else {
            return;
        };
        let deaths = self.deaths();
        // A file counts one death more than it states, since it exists.
        drop(match (is_waiting, deaths) {
            (true, 0) => dir.remove(file),
            (true, deaths) => write(dir, file, deaths - 1, DeliveryStep::Judged),
            (false, deaths) => write(dir, file, deaths, DeliveryStep::Working),
        });
    }

    /// The message was parsed: a death while the process parses another message is not this one's fault.
    pub(crate) fn was_read(&self) {
        if let Some((dir, file)) = &self.inner.file {
            drop(write(dir, file, self.deaths(), DeliveryStep::Working));
        }
    }

    /// The delivery made progress: its plan was recorded, or it reached a mail. A job that makes progress each time
    /// completes, however often its worker is killed.
    ///
    /// It is no longer suspected, so that the next suspect need not wait until all mails of this one are sent.
    pub fn got_on(&self) {
        if self.inner.deaths.swap(0, Ordering::Relaxed) > 0
            && let Some((dir, file)) = &self.inner.file
        {
            drop(write(dir, file, 0, DeliveryStep::Working));
        }
        drop(lock(&self.inner.place).take());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn open(dir: &tempfile::TempDir) -> io::Result<Deliveries> {
        Deliveries::open(&Directory::open(dir.path())?)
    }

    #[test]
    fn a_planted_link_leads_to_no_directory_of_anothers_and_only_own_files_are_removed() {
        let (state, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::set_permissions(outside.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (own, other) = ("0123456789abcdef".repeat(2), "shadow");
        let plant = |folder: &Path| {
            for name in [own.as_str(), other] {
                let file = fs::File::create(folder.join(name)).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        };
        plant(outside.path());
        let deliveries = state.path().join("deliveries");
        symlink(outside.path(), &deliveries).unwrap();
        let error = open(&state).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
        let mode = fs::metadata(outside.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        fs::remove_file(&deliveries).unwrap();
        fs::create_dir(&deliveries).unwrap();
        plant(&deliveries);
        fs::hard_link(outside.path().join(other), deliveries.join("f".repeat(32))).unwrap();
        open(&state).unwrap();
        assert!(!deliveries.join(&own).exists());
        assert!(deliveries.join(other).exists() && deliveries.join("f".repeat(32)).exists());
    }

    /// The state that a process leaves that dies in the middle.
    fn die(delivery: Delivery) {
        std::mem::forget(delivery);
    }

    #[test]
    fn deaths_are_counted_until_a_delivery_ends_or_gets_on() {
        let dir = tempfile::tempdir().unwrap();
        let deliveries = || open(&dir).unwrap();
        for deaths in 0..4 {
            let delivery = deliveries().begin("a").unwrap();
            assert_eq!(delivery.deaths(), deaths);
            die(delivery);
        }
        assert_eq!(
            deliveries().begin("b").unwrap().deaths(),
            0,
            "another message"
        );
        let delivery = deliveries().begin("a").unwrap();
        assert_eq!(delivery.deaths(), 4);
        delivery.got_on();
        assert_eq!(delivery.deaths(), 0);
        die(delivery);
        let delivery = deliveries().begin("a").unwrap();
        assert_eq!(delivery.deaths(), 1, "the death after it got on");
        drop(delivery);
        assert_eq!(deliveries().begin("a").unwrap().deaths(), 0, "it ended");
    }

    #[test]
    fn a_death_while_the_delivery_waits_for_an_edge_is_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        let deliveries = || open(&dir).unwrap();
        let dies = |waits: &[bool]| {
            let delivery = deliveries().begin("a").unwrap();
            let deaths = delivery.deaths();
            waits
                .iter()
                .for_each(|is_waiting| delivery.waits(*is_waiting));
            die(delivery);
            deaths
        };
        assert_eq!(dies(&[true]), 0);
        assert_eq!(dies(&[true, false]), 0);
        assert_eq!(dies(&[true, true]), 1);
        assert_eq!(dies(&[]), 1);
        assert_eq!(dies(&[false]), 2);
        assert_eq!(deliveries().begin("a").unwrap().deaths(), 3);
    }

    #[test]
    fn a_death_while_a_message_was_read_is_not_counted_against_those_that_were_worked() {
        let dir = tempfile::tempdir().unwrap();
        let state = Directory::open(dir.path()).unwrap();
        let deaths_of = |id: &str| {
            let deliveries = Deliveries::open(&state).unwrap();
            deliveries.begin(id).unwrap().deaths()
        };
        for deaths in 1..4 {
            let deliveries = Deliveries::open(&state).unwrap();
            let worked = deliveries.begin("worked").unwrap();
            worked.was_read();
            // It runs beside a new message each time.
            die(deliveries.begin(&format!("kills-{deaths}")).unwrap());
            die(worked);
        }
        assert_eq!(deaths_of("worked"), 0);
        assert_eq!(deaths_of("kills-1"), 1);
        for deaths in 1..3 {
            let worked = Deliveries::open(&state).unwrap().begin("worked").unwrap();
            worked.was_read();
            assert_eq!(worked.deaths(), deaths - 1);
            die(worked);
        }
        assert_eq!(deaths_of("worked"), 2, "it was worked alone");
    }

    #[test]
    fn a_file_that_was_torn_is_a_death_and_old_ones_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let deliveries = open(&dir).unwrap();
        let delivery = deliveries.begin("a").unwrap();
        let (_, name) = delivery.inner.file.clone().unwrap();
        let file = dir.path().join("deliveries").join(name);
        die(delivery);
        fs::write(&file, "").unwrap();
        assert_eq!(deliveries.begin("a").unwrap().deaths(), 1);
        fs::write(&file, "2").unwrap();
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(open(&dir).unwrap().begin("a").unwrap().deaths(), 0);
    }

    #[test]
    fn of_those_that_were_under_way_at_a_death_one_is_worked_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let before = open(&dir).unwrap();
        for id in ["a", "b"] {
            die(before.begin(id).unwrap());
        }
        let deliveries = open(&dir).unwrap();
        let a = deliveries.begin("a").unwrap();
        assert!(deliveries.begin("b").is_none());
        assert_eq!(deliveries.begin("new").unwrap().deaths(), 0);
        drop(a);
        assert_eq!(
            deliveries.begin("b").unwrap().deaths(),
            1,
            "waiting is no death"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_would_be_parked_for_one_more_death_is_worked_alone() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let before = open(&dir).unwrap();
            die(before.begin("suspect").unwrap());
        }
        let deliveries = open(&dir).unwrap();
        let new = deliveries.begin("new").unwrap();
        assert!(
            deliveries.begin("suspect").is_none(),
            "it waits for the new one"
        );
        new.got_on();
        let suspect = deliveries.begin("suspect").unwrap();
        assert_eq!(suspect.deaths(), 2);
        assert!(deliveries.begin("newer").is_none(), "it is alone");
        tokio::time::sleep(ALONE).await;
        drop(deliveries.begin("newer").unwrap());
        suspect.got_on();
        drop((new, suspect));

        for _ in 0..2 {
            let before = open(&dir).unwrap();
            die(before.begin("suspect").unwrap());
        }
        let _always_busy = deliveries.begin("new").unwrap();
        assert!(deliveries.begin("suspect").is_none());
        tokio::time::sleep(WAIT_FOR_ALONE).await;
        assert!(
            deliveries.begin("suspect").is_some(),
            "it has waited for long"
        );
    }

    #[test]
    fn a_delivery_that_gets_on_keeps_no_other_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let before = open(&dir).unwrap();
        for id in ["a", "b", "c"] {
            die(before.begin(id).unwrap());
        }
        let deliveries = open(&dir).unwrap();
        let a = deliveries.begin("a").unwrap();
        a.got_on();
        let b = deliveries.begin("b").unwrap();
        assert!(deliveries.begin("c").is_none(), "b has not got on yet");
        drop(a);
        assert!(deliveries.begin("c").is_none(), "what a gave back is b's");
        drop(b);
        assert!(deliveries.begin("c").is_some());
    }
}
