//! The files of deliveries are read and written by a thread of their own: a disk that does not respond blocks it, and no thread
//! of the runtime.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use directory::Directory;

use crate::mounted::{self, StepTurn, WorkingAt};

/// How long a delivery that runs waits for a step. A disk answers within microseconds, and a step that takes longer is done
/// later, in its order.
const BRIEF: Duration = Duration::from_millis(100);

/// How long the beginning of a delivery blocks its thread before it yields: most steps end sooner.
const MOMENT: Duration = Duration::from_millis(10);

/// How long the beginning of a delivery waits for a step.
const PATIENCE: Duration = Duration::from_secs(10);

type NoteStep = Box<dyn FnOnce(&Directory) + Send>;

/// The directory, and the thread that works in it. Clones share both; the thread ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    steps: Sender<NoteStep>,
    place: Arc<PathBuf>,
    queue: Arc<Mutex<StepQueue>>,
}

#[derive(Debug, Default)]
struct StepQueue {
    /// The steps that have not ended.
    waiting: usize,
    /// One of them took too long; none is waited for until all have ended.
    hangs: bool,
}

impl Notes {
    /// The files in `dir`, which is below the state directory `state` and is made there again if it is removed.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn new(dir: Directory, state: Directory) -> io::Result<Self> {
        let (steps, queued) = channel();
        let place = Arc::new(dir.path().to_owned());
        let notes = Self {
            steps,
            place: Arc::clone(&place),
            queue: Arc::default(),
        };
        let queue = Arc::clone(&notes.queue);
        std::thread::Builder::new()
            .name("deliveries".to_owned())
            .spawn(move || work(dir, &state, &place, (&queued, &queue)))?;
        Ok(notes)
    }

    /// Whether the disk does not respond at the moment.
    pub(super) fn hang(&self) -> bool {
        lock(&self.queue).hangs
    }

    /// Does a step, and waits for it, but only briefly: behind a step that hangs it is done later, in its order.
    pub(super) fn do_briefly(&self, step: impl FnOnce(&Directory) + Send + 'static) {
        let (done, end) = sync_channel(1);
        let is_waited_for = self.send(Box::new(move |dir| {
            step(dir);
            done.send(()).ok();
        }));
        if is_waited_for && end.recv_timeout(BRIEF) == Err(RecvTimeoutError::Timeout) {
            self.did_not_respond();
        }
    }

    /// Does a step and returns what it found; `None` if the disk does not respond.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Directory) -> T + Send + 'static,
    ) -> Option<T> {
        self.ask_within(PATIENCE, step).await
    }

    async fn ask_within<T: Send + 'static>(
        &self,
        patience: Duration,
        step: impl FnOnce(&Directory) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        let is_waited_for = self.send(Box::new(move |dir| {
            answer.send(step(dir)).ok();
        }));
        if !is_waited_for {
            return None;
        }
        let answer = match answered.recv_timeout(MOMENT) {
            Ok(answer) => Some(answer),
            Err(_) => {
                let waiting = move || answered.recv_timeout(patience).ok();
                tokio::task::spawn_blocking(waiting).await.ok().flatten()
            }
        };
        if answer.is_none() {
            self.did_not_respond();
        }
        answer
    }

    /// Queues a step, and tells whether it is worth waiting for.
    fn send(&self, step: NoteStep) -> bool {
        let mut queue = lock(&self.queue);
        queue.waiting += 1;
        let hangs = queue.hangs;
        drop(queue);
        self.steps.send(step).is_ok() && !hangs
    }

    fn did_not_respond(&self) {
        let mut queue = lock(&self.queue);
        // It may have ended in that moment.
        queue.hangs = queue.waiting > 0;
        if queue.hangs {
            mounted::does_not_respond(&self.place);
        }
    }
}

fn lock(queue: &Mutex<StepQueue>) -> MutexGuard<'_, StepQueue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(
    mut dir: Directory,
    state: &Directory,
    place: &Path,
    (steps, queue): (&Receiver<NoteStep>, &Mutex<StepQueue>),
) {
    while let Ok(step) = steps.recv() {
        // The place has this thread alone, so that its turn comes at once.
        let turn = WorkingAt::begin(place);
        if let Some(again) = made_again(&dir, state) {
            tracing::warn!(dir = %place.display(), "the directory was removed while Handout runs, and was made again");
            dir = again;
        }
        step(&dir);
        let mut queue = lock(queue);
        queue.waiting -= 1;
        queue.hangs &= queue.waiting > 0;
        drop(queue);
        if let StepTurn::Mine(working) = turn {
            drop(working);
        }
    }
}

/// The directory again, if it was removed and can be made. Its step reports why it cannot.
fn made_again(dir: &Directory, state: &Directory) -> Option<Directory> {
    let is_removed = dir.is_removed().unwrap_or(false);
    is_removed.then(|| state.private_below(super::FOLDER).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn notes_in(state: &Path) -> Notes {
        let state = Directory::open(state).unwrap();
        let dir = state.private_below(super::super::FOLDER).unwrap();
        Notes::new(dir, state).unwrap()
    }

    /// Ready when the disk responds again: `/ready` names it until then.
    async fn responds(notes: &Notes) {
        while notes.hang() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_delays_no_thread_for_long_and_loses_no_step() {
        let folder = tempfile::tempdir().unwrap();
        let notes = notes_in(folder.path());
        let names = |dir: &Directory| dir.names().unwrap().len();
        assert_eq!(notes.ask(names).await, Some(0));
        let (comes, waits) = channel::<()>();
        let begun = Instant::now();
        notes.do_briefly(move |_| {
            waits.recv().ok();
        });
        assert!(notes.hang());
        let place = folder.path().display().to_string();
        let is_told = || {
            let told = mounted::hanging_for(Duration::ZERO);
            told.iter().any(|sentence| sentence.starts_with(&place))
        };
        assert!(is_told());
        // Further steps are not waited for, and are done in their order.
        notes.do_briefly(|dir| drop(dir.lock_file("first", 0o600).unwrap()));
        for _ in 0..100 {
            notes.do_briefly(|dir| dir.remove("first").unwrap_or_default());
        }
        notes.do_briefly(|dir| drop(dir.lock_file("last", 0o600).unwrap()));
        assert_eq!(notes.ask(names).await, None);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        drop(comes);
        responds(&notes).await;
        assert!(!is_told());
        assert_eq!(notes.ask(names).await, Some(1));
        assert!(folder.path().join("deliveries/last").exists());
    }

    #[tokio::test]
    async fn a_directory_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let notes = notes_in(folder.path());
        for name in ["first", "second"] {
            let written = notes.ask(move |dir| dir.lock_file(name, 0o600).is_ok());
            assert_eq!(written.await, Some(true), "{name}");
            std::fs::remove_dir_all(folder.path().join("deliveries")).unwrap();
        }
        // Without the state directory, it cannot be made.
        std::fs::remove_dir(folder.path()).unwrap();
        let written = notes.ask(|dir| dir.lock_file("third", 0o600).is_ok());
        assert_eq!(written.await, Some(false));
    }

    #[tokio::test]
    async fn a_step_whose_answer_does_not_come_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let notes = notes_in(folder.path());
        let (comes, waits) = channel::<()>();
        let patience = Duration::from_millis(50);
        let hangs = notes.ask_within(patience, move |_| waits.recv().ok());
        assert_eq!(hangs.await, None);
        assert!(notes.hang());
        drop(comes);
        responds(&notes).await;
        assert_eq!(notes.ask(|_| 7).await, Some(7));
    }
}
