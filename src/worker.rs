//! Receive, hold, distribute, settle; until a signal, and then shut down in order.
//!
//! The worker receives only as many messages as can be started at once, so messages do not age while they wait. One
//! task owns each message: it works the job, extends the lease on the message, and settles it. A task that loses the
//! lease stops.

mod backlog;
mod depth;
mod doubts;
mod groups;
pub mod lease;
mod memory;
mod outcome;
pub mod probe;
mod rest;
pub mod settle;

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field};

use self::memory::{Failures, JobsInFlight, RefusedMessages};
use crate::assemble::Services;
use crate::cancellation::Cancellation;
use crate::clock::Clock;
use crate::distribute::distribute;
use crate::edge::health::{Edge, EdgeKind, Step};
use crate::edge::random;
use crate::error::{Disposition, JobError, RetryLimits};
use crate::failpoint::{self, Failpoint};
use crate::job::envelope::{self, EventRule, OpenedMessage};
use crate::job::{Job, JobId, ParseJobError};
use crate::progress::times::TimedStep;
use crate::queue::{self, Message, Queue};
use crate::repeated::RepeatedLine;
use crate::report::JobReport;
use crate::results::JobResult;
use crate::run::JobRun;
use crate::run::delivery::{Delivery, MAX_DEATHS, Slot};
use crate::schedule::ScheduledJob;
use crate::spans;
use crate::text::chain;
use crate::traceparent::TraceParent;
use crate::worker::backlog::Backlog;
use crate::worker::groups::MessageGroup;
use crate::worker::lease::{HeldMessage, Lease};
use crate::worker::settle::Settled;

/// The pause after a failed receive, at first and at most. The maximum decides how long a recovered queue stays
/// untried.
const INITIAL_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How often a worker with full slots shows that it is alive.
const TURN: Duration = Duration::from_secs(15);

/// How long to wait at shutdown for a receive in progress. If it were cut off, its messages would stay hidden from
/// other workers for the visibility timeout. A longer wait would let a silent queue delay the shutdown.
const LAST_POLL: Duration = Duration::from_millis(1500);

/// How long to wait at shutdown for the queue, when messages are given back or settled.
const LAST_CALL: Duration = Duration::from_secs(3);

/// How long a message stays hidden while another is worked that may have killed the process.
const SUSPECT_PAUSE: Duration = Duration::from_secs(2);

/// The shortest wait of a message that cannot be parked now: its job is checked again each time.
const UNPARKED: Duration = Duration::from_secs(5);

/// The pause after an empty answer that came sooner than a poll takes. A server that ignores the wait time would
/// otherwise be asked a thousand times a second.
const EMPTY_PAUSE: Duration = Duration::from_secs(1);

/// The pause after a receive of which every message had to go back, at first and at most.
const INITIAL_IDLE: Duration = Duration::from_millis(50);
const MAX_IDLE: Duration = Duration::from_secs(1);

/// How often a worker checks whether a nearly full disk has room again.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(2);

/// How long a message stays hidden whose job is already in flight.
const IN_SHADOW: Duration = Duration::from_secs(15);

/// How long work whose lease is lost may take to reach its next step before it is cut off: longer than a relay may take
/// for its reply to the end of DATA. Until then this process does not start the job again, since its place among the
/// jobs in flight is taken.
const LAST_STEP: Duration = Duration::from_secs(11 * 60);

/// How long to wait at shutdown, after the grace period, for a mail whose text was sent. A supervisor kills a process
/// that takes longer than promised, and the mail would be in doubt all the same.
const LAST_MAIL: Duration = Duration::from_secs(7);

/// How long all steps of a shutdown may take together beyond the grace period. Each step has its own limit besides.
const LAST_STEPS: Duration = Duration::from_secs(9);

/// How many messages may wait for the queue to settle them beside those in the slots. Each message beyond that keeps
/// its slot.
const MAX_UNSETTLED: usize = 200;

/// Steps of the queue's edge. An answered poll says nothing about either, and giving a message back says nothing about
/// deletions.
const GIVING_BACK: Step = Step {
    rank: 1,
    name: "the return of a message",
};
const DELETING: Step = Step {
    rank: 2,
    name: "the deletion of a message",
};

/// The options of a worker.
#[derive(Debug, Clone, Copy)]
pub struct WorkerOptions {
    /// How many messages are worked at once.
    pub max_in_flight: usize,
    /// How long a message is hidden from others.
    pub visibility_timeout: Duration,
    /// How long a receive waits for a message.
    pub poll: Duration,
    /// How long work may continue after the signal to stop.
    pub grace_period: Duration,
    /// When to give a job up, and how long to wait before.
    pub limits: RetryLimits,
}

/// Why the worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and everything in flight has ended or was given back.
    Drained,
    /// A disk failed under the audit log or the ledger: links must not be handed out.
    DiskFailed,
}

/// What a new configuration changes for messages that begin after it was read.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The services.
    pub services: Services,
    /// Which events become jobs.
    pub rules: Arc<[EventRule]>,
    /// The schedules with their jobs.
    pub schedules: Arc<[ScheduledJob]>,
}

/// Works a queue.
#[derive(Debug, Clone)]
pub struct Worker {
    queue: Arc<dyn Queue>,
    services: Services,
    rules: Arc<[EventRule]>,
    options: WorkerOptions,
    clock: Clock,
    in_flight: JobsInFlight,
    /// The messages whose rejection has an audit line, and those whose rejection has a result.
    refused: RefusedMessages,
    told: RefusedMessages,
    /// The line of a job whose mail the relay did not reply about.
    overtaken: Arc<RepeatedLine>,
    failures: Failures,
    disk_failed: Arc<AtomicBool>,
    /// The latest configuration, where a new one was read.
    renewed: watch::Receiver<Option<Renewed>>,
    /// How many messages in a row went back because a suspect is worked alone.
    gone_back: Arc<AtomicU32>,
    /// The places for messages whose work has ended and which the queue has not settled yet.
    unsettled: Arc<Semaphore>,
    backlog: Backlog,
}

/// How a message's work ended.
enum Worked {
    /// All of its jobs are complete.
    Done,
    /// A job of it is already in flight in this process.
    InShadow,
    /// Jobs of it failed, or it contains no readable job.
    Failed(Failed),
}

/// Why a message's work failed.
struct Failed {
    /// Each failed job with its reason; no job if an event made none.
    jobs: Vec<(Option<JobId>, String)>,
    /// The error that decides about the message: the most hopeful of all.
    error: JobError,
    /// The trace of the message or its event.
    trace: Option<TraceParent>,
}

impl Failed {
    /// No job is known.
    fn without_job(error: JobError) -> Self {
        Self {
            jobs: Vec::new(),
            error,
            trace: None,
        }
    }

    /// Each failed job with its reason; the one reason if no job is known.
    fn each(&self) -> Vec<(Option<&JobId>, String)> {
        match self.jobs.as_slice() {
            [] => vec![(None, chain(&self.error))],
            jobs => jobs
                .iter()
                .map(|(job, reason)| (job.as_ref(), reason.clone()))
                .collect(),
        }
    }
}

impl Worker {
    /// A worker; it receives nothing before [`Worker::run`].
    pub fn new(
        queue: Arc<dyn Queue>,
        services: Services,
        rules: Vec<EventRule>,
        options: WorkerOptions,
        clock: Clock,
    ) -> Self {
        Self {
            queue,
            services,
            rules: rules.into(),
            options,
            clock,
            in_flight: JobsInFlight::default(),
            refused: RefusedMessages::default(),
            overtaken: Arc::default(),
            told: RefusedMessages::default(),
            failures: Failures::default(),
            disk_failed: Arc::default(),
            renewed: watch::channel(None).1,
            gone_back: Arc::default(),
            unsettled: Arc::new(Semaphore::new(MAX_UNSETTLED)),
            backlog: Backlog::default(),
        }
    }

    /// The same worker; each message uses the latest value sent here when it begins.
    #[must_use]
    pub fn renewed_by(self, renewed: watch::Receiver<Option<Renewed>>) -> Self {
        Self { renewed, ..self }
    }

    /// The worker for messages that begin now.
    fn now(&self) -> Self {
        let worker = self.clone();
        match self.renewed.borrow().clone() {
            Some(Renewed {
                services, rules, ..
            }) => Self {
                services,
                rules,
                ..worker
            },
            None => worker,
        }
    }

    /// Works until `shutdown` completes, then lets the jobs in flight end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let backlog = self.backlog.clone();
        let told = OnceLock::new();
        let shutdown = async {
            shutdown.await;
            told.get_or_init(Instant::now);
        };
        let ended = tokio::select! {
            ended = self.work_queue(shutdown, &told) => ended,
            () = backlog.tend(&*self.queue, &self.services.edges) => unreachable!("it does not end by itself"),
            never = depth::watch(&*self.queue, &self.services) => match never {},
            never = doubts::watch(&self.services) => match never {},
        };
        let last = *told.get_or_init(Instant::now) + self.options.grace_period + LAST_STEPS;
        let until = last.min(Instant::now() + LAST_CALL);
        drop(tokio::time::timeout_at(until, backlog.show_all(&*self.queue)).await);
        ended
    }

    /// Works until `shutdown` completes or the disk fails. `told` is the instant of the shutdown, from which its limits count.
    async fn work_queue(
        &self,
        shutdown: impl Future<Output = ()>,
        told: &OnceLock<Instant>,
    ) -> Ended {
        let slots = Arc::new(Semaphore::new(self.options.max_in_flight));
        let stop = Cancellation::default();
        let mut tasks = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut pause = INITIAL_PAUSE;
        let mut ended = Ended::Drained;
        let mut nearly_full = false;
        loop {
            while let Some(finished) = tasks.try_join_next() {
                log_panic(finished);
            }
            if self.has_failed() {
                ended = Ended::DiskFailed;
                break;
            }
            self.services.progress.turned();
            let idle = if self.has_room(&mut nearly_full) {
                self.idle()
            } else {
                Some(NO_ROOM_PAUSE)
            };
            if let Some(idle) = idle {
                tokio::select! {
                    biased;
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(idle) => {}
                }
            }
            if !self.can_record() {
                continue;
            }
            let slot = tokio::select! {
                biased;
                () = &mut shutdown => break,
                slot = Arc::clone(&slots).acquire_owned() => slot.expect("the semaphore is never closed"),
                () = tokio::time::sleep(TURN) => continue,
            };
            let began = Instant::now();
            let again_in = match self.receive(slot, &slots, &mut shutdown).await {
                Received::Messages(messages) => {
                    pause = INITIAL_PAUSE;
                    let (messages, permits): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
                    // A group is worked in one slot; other groups use the slots of the messages that wait in it.
                    for (turn, permit) in groups::turns(messages).into_iter().zip(permits) {
                        let slot = Slot::new(permit);
                        tasks.spawn(self.now().work_in_turn(turn, slot, stop.clone()));
                    }
                    continue;
                }
                Received::TooSoon => {
                    pause = INITIAL_PAUSE;
                    jittered(EMPTY_PAUSE)
                }
                Received::Failed { left_alone } => {
                    // The wait that was in vain counts as pause.
                    let rest = jittered(pause).saturating_sub(began.elapsed());
                    pause = (pause * 2).min(MAX_PAUSE);
                    rest.max(left_alone)
                }
                Received::ToldToStop(messages) => {
                    self.give_back(messages).await;
                    break;
                }
            };
            let rested = rest::rest(again_in, &self.services.progress);
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = rested => {}
            }
        }
        self.drain(tasks, &stop, *told.get_or_init(Instant::now))
            .await;
        if self.has_failed() {
            Ended::DiskFailed
        } else {
            ended
        }
    }

    /// Whether the disk failed under the audit log or the ledger.
    fn has_failed(&self) -> bool {
        self.services.recording.audit.has_failed() || self.disk_failed.load(Ordering::Relaxed)
    }

    /// Whether received messages could be recorded.
    fn can_record(&self) -> bool {
        let recording = &self.services.recording;
        let (audit, ledger) = (&recording.audit, recording.ledger.edges());
        let may_be_tried = |edge: &&Edge| edge.outage().is_none_or(|outage| outage.left.is_zero());
        audit.room().check().is_ok()
            && !self.services.deliveries.hang()
            && audit.edge().outage().is_none()
            && ledger.iter().all(may_be_tried)
    }

    /// How long to wait before the next receive: all recent messages had to go back, or the ledger is down.
    fn idle(&self) -> Option<Duration> {
        if !self.can_record() {
            return Some(MAX_IDLE);
        }
        let gone_back = self.gone_back.load(Ordering::Relaxed);
        (gone_back > 0).then(|| (INITIAL_IDLE * gone_back).min(MAX_IDLE))
    }

    /// Whether the disk has room for received messages; logged when that changes.
    fn has_room(&self, nearly_full: &mut bool) -> bool {
        match self.services.recording.audit.room().check() {
            Ok(()) => {
                if std::mem::take(nearly_full) {
                    tracing::info!("the audit log's disk takes lines again; receiving");
                }
                true
            }
            Err(full) => {
                if !std::mem::replace(nearly_full, true) {
                    tracing::error!("{full}");
                }
                self.services.progress.waited();
                false
            }
        }
    }

    /// Receives as many messages as there are slots. A receive in progress at the signal is waited for, but not for
    /// long. A queue without an answer so far, or lately, is polled without a wait, so that its answer comes at once.
    async fn receive(
        &self,
        first: OwnedSemaphorePermit,
        slots: &Arc<Semaphore>,
        shutdown: &mut std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Received {
        let mut free = vec![first];
        while let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            free.push(slot);
        }
        let edge = self.services.edges.of(EdgeKind::Queue);
        if let Some(edge) = &edge {
            let answers = tokio::select! {
                biased;
                () = shutdown.as_mut() => return Received::ToldToStop(Vec::new()),
                answers = queue::answers(edge, || self.queue.waiting()) => answers,
            };
            if !answers {
                return Received::Failed {
                    left_alone: Duration::ZERO,
                };
            }
        }
        let is_heard = self.services.progress.snapshot().polls > 0
            && !edge.as_ref().is_some_and(Edge::is_failing);
        let wait = if is_heard {
            self.options.poll
        } else {
            Duration::ZERO
        };
        let began = Instant::now();
        let receiving = self
            .queue
            .receive(free.len(), self.options.visibility_timeout, wait);
        let mut receiving = std::pin::pin!(receiving);
        let is_silent = AtomicBool::new(false);
        let (result, told_to_stop) = tokio::select! {
            biased;
            result = &mut receiving => (result, false),
            () = shutdown.as_mut() => match tokio::time::timeout(LAST_POLL, receiving).await {
                Ok(result) => (result, true),
                Err(_) => return Received::ToldToStop(Vec::new()),
            },
            never = self.shows_life(edge.as_ref(), &is_silent) => match never {},
        };
        if is_silent.into_inner()
            && result.is_ok()
            && let Some(edge) = &edge
        {
            tracing::info!("{} is back", edge.subject());
        }
        match &result {
            Ok(_) => {
                self.services.progress.polled();
                edge.iter().for_each(Edge::answered);
            }
            Err(error) => edge.iter().for_each(|edge| error.report_to(edge)),
        }
        match result {
            Ok(messages) if told_to_stop => Received::ToldToStop(messages),
            Ok(messages) if messages.is_empty() && began.elapsed() < wait.min(EMPTY_PAUSE) => {
                Received::TooSoon
            }
            Ok(messages) => Received::Messages(messages.into_iter().zip(free).collect()),
            Err(_) if told_to_stop => Received::ToldToStop(Vec::new()),
            Err(error) => {
                // An edge logs it once.
                if edge.is_none() {
                    tracing::error!(
                        error = chain(&error),
                        "could not receive messages; trying again"
                    );
                }
                let left_alone = error.left_alone();
                Received::Failed { left_alone }
            }
        }
    }

    /// Counts as progress while a queue does not answer at all: the disk of a database may hang, and a restart would not repair it. A queue
    /// in SQS fails before its silence is logged here.
    async fn shows_life(&self, queue: Option<&Edge>, is_silent: &AtomicBool) -> Infallible {
        let began = Instant::now();
        loop {
            tokio::time::sleep(TURN).await;
            let Some(silence) = queue.and_then(Edge::waits) else {
                continue;
            };
            self.services.progress.waited();
            if began.elapsed() >= TURN * 2 && !is_silent.swap(true, Ordering::Relaxed) {
                tracing::warn!("{silence}; what needs it waits");
            }
        }
    }

    async fn give_back(&self, messages: Vec<Message>) {
        let until = Instant::now() + LAST_CALL;
        for message in messages {
            let released = self.queue.release(&message.receipt, Duration::ZERO);
            let reason = match tokio::time::timeout_at(until, released).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => chain(&error),
                Err(_) => "the queue did not answer in time".to_owned(),
            };
            tracing::warn!(
                message.id,
                error = reason,
                "could not give a message back; it comes back by itself"
            );
            self.keep(&message);
        }
    }

    /// Has the backlog give a message back that the queue did not take back, as soon as the queue answers.
    fn keep(&self, message: &Message) {
        let hidden = self.options.visibility_timeout;
        self.backlog
            .keep(&self.services.edges, &message.receipt, hidden);
    }

    /// Lets tasks end by themselves until the grace period after `told` is over, then cancels them at their next step.
    async fn drain(&self, mut tasks: JoinSet<()>, stop: &Cancellation, told: Instant) {
        while let Some(finished) = tasks.try_join_next() {
            log_panic(finished);
        }
        let in_flight = tasks.len();
        failpoint::pass(Failpoint::Draining);
        tracing::info!(
            in_flight,
            "receiving no more; waiting for what is in flight"
        );
        let grace_ends = told + self.options.grace_period;
        if all_end(&mut tasks, grace_ends).await {
            return;
        }
        stop.cancel();
        // Each task ends before its next irreversible step, and gives its message back.
        if !all_end(&mut tasks, grace_ends + LAST_MAIL).await {
            tracing::error!(
                in_flight = tasks.len(),
                "what is in flight did not end in time; a mail whose text was sent is in doubt, and the next delivery of its job decides by ledger.on_doubt"
            );
        }
    }

    /// Works messages one after the other, for as long as each leaves the queue.
    async fn work_in_turn(self, mut waiting: MessageGroup, slot: Slot, stop: Cancellation) {
        let (queue, visibility) = (&*self.queue, self.options.visibility_timeout);
        while !waiting.is_empty() {
            // The message before may have given the slot back, and all slots may be taken for long.
            let taken = stop.or(slot.take());
            if groups::holding(queue, &waiting, visibility, taken)
                .await
                .is_err()
            {
                break;
            }
            let Some(message) = waiting.pop_front() else {
                break;
            };
            let span = span_of(&message);
            let work = Box::pin(self.work(message, &slot, stop.child()).instrument(span));
            if groups::holding(queue, &waiting, visibility, work).await == Settled::Staying {
                break;
            }
        }
        // In their order, so that they are received again in it.
        drop(slot);
        self.give_back(waiting.into()).await;
    }

    /// Works one message until it is settled.
    async fn work(&self, message: Message, slot: &Slot, stop: Cancellation) -> Settled {
        let Some(delivery) = self.services.deliveries.begin(&message.id).await else {
            self.gone_back.fetch_add(1, Ordering::Relaxed);
            let disposition = Disposition::Retry {
                after: SUSPECT_PAUSE,
            };
            return self.settle_as(&message, disposition, None).await;
        };
        delivery.takes(slot.clone());
        failpoint::pass(Failpoint::Received);
        if delivery.deaths() >= MAX_DEATHS {
            let deaths = delivery.deaths();
            let poison = Failed::without_job(JobError::Poison { deaths });
            let left = self.settle(&message, Worked::Failed(poison), &stop).await;
            if left == Settled::Staying {
                delivery.keep();
            }
            return left;
        }
        let lease = Lease::new(
            &*self.queue,
            &message.receipt,
            self.options.visibility_timeout,
        );
        let lease = lease.seen_by(self.services.edges.of(EdgeKind::Queue));
        let work = Box::pin(self.work_jobs(&message, &delivery, &stop));
        let work = AssertUnwindSafe(work).catch_unwind();
        let held = lease.hold_while(work, &stop, LAST_STEP).await;
        let worked = match held {
            HeldMessage::Finished(Ok(worked)) => worked,
            HeldMessage::Finished(Err(_panic)) => {
                Worked::Failed(Failed::without_job(JobError::Panicked))
            }
            HeldMessage::Lost => {
                tracing::warn!(
                    message.id,
                    "lost the visibility lease on a message; another worker will continue"
                );
                return Settled::Staying;
            }
            HeldMessage::CutOff => {
                self.give_back(vec![message]).await;
                return Settled::Staying;
            }
        };
        // A queue that polls well may be silent to deletions, and other messages have work to do meanwhile.
        let unsettled = Arc::clone(&self.unsettled).try_acquire_owned();
        if unsettled.is_ok() {
            slot.give_back();
        }
        self.settle(&message, worked, &stop).await
    }

    /// Parses a message on a blocking thread, or the object that it points to.
    async fn open(
        &self,
        message: &Message,
        delivery: &Delivery,
        stop: &Cancellation,
    ) -> Result<OpenedMessage, JobError> {
        let Message { id, body, .. } = message;
        let payload = Box::pin(self.services.payload(body, id, delivery, stop)).await?;
        let body = payload.unwrap_or_else(|| body.clone());
        let rules = Arc::clone(&self.rules);
        read_aside(move || envelope::open(&body, &rules)).await
    }

    async fn work_jobs(
        &self,
        message: &Message,
        delivery: &Delivery,
        stop: &Cancellation,
    ) -> Worked {
        let opened = match self.open(message, delivery, stop).await {
            Ok(opened) => opened,
            Err(error) => return Worked::Failed(Failed::without_job(error)),
        };
        // The sender of the message names its trace, or the sender of the event does. A service on the way may name one of its own.
        let named = message.named_trace().or(opened.trace);
        let trace = named.or(message.trace);
        if let Some(trace) = trace {
            spans::join(&Span::current(), &trace);
        }
        self.services
            .progress
            .ignored_markers(opened.folder_markers);
        if opened.test_event || opened.unwanted > 0 || opened.folder_markers > 0 {
            tracing::info!(
                message.id,
                test_event = opened.test_event,
                unwanted = opened.unwanted,
                folder_markers = opened.folder_markers,
                "events that are no jobs"
            );
        }
        // One bad event of a message does not block the others.
        let refused = opened.refused.into_iter();
        let mut failed: Vec<(Option<JobId>, JobError)> =
            refused.map(|error| (None, error.into())).collect();
        for order in opened.jobs {
            let made = read_aside(move || order.open()).await;
            delivery.was_read();
            let job = match made {
                Ok(job) => job,
                Err(error) => {
                    failed.push((None, error));
                    continue;
                }
            };
            let Some(_place) = self.in_flight.take(&job.id) else {
                return Worked::InShadow;
            };
            let id = job.id.clone();
            let run = JobRun {
                job: Arc::new(job),
                message_id: Some(message.id.clone()),
                attempt: message.receive_count,
                now: (self.clock)(),
                stop: stop.child(),
                trace,
                delivery: delivery.clone(),
                lanes: None,
            };
            let span = run.span();
            let _in_flight = self.services.progress.working();
            let began = Instant::now();
            let worked = self.work_job(&run, message).instrument(span).await;
            let step = match &worked {
                Ok(()) => TimedStep::JobDone,
                Err(_) => TimedStep::JobFailed,
            };
            self.services.progress.took(step, began);
            if let Err(error) = worked {
                failed.push((Some(id), error));
            }
        }
        let jobs = failed
            .iter()
            .map(|(id, error)| (id.clone(), chain(error)))
            .collect();
        match JobError::most_hopeful(failed.into_iter().map(|(_, error)| error).collect()) {
            None => Worked::Done,
            Some(error) => Worked::Failed(Failed { jobs, error, trace }),
        }
    }

    async fn work_job(&self, run: &JobRun, message: &Message) -> Result<(), JobError> {
        let delivered = distribute(run, &self.services).await?;
        let id = &run.job.id;
        // A job that was done before and only has to send its result may come often until the result is sent.
        if !delivered.done_before {
            report(&run.job, &delivered);
            if is_event_without_object(&run.job, &delivered) {
                self.services.progress.found_no_object();
            }
        }
        let told = delivered.with_places(&run.job, &self.services.recording.names);
        let result = JobResult::done(id, &message.id, &told, (self.clock)()).traced(run.trace);
        let telling = self.services.results.tell(&result, self.services.share);
        run.stop.or(telling).await??;
        if delivered.done_before {
            report(&run.job, &delivered);
        }
        Ok(())
    }
}

/// The span of a message: every line about it has its fields.
fn span_of(message: &Message) -> Span {
    let span = tracing::info_span!("message", message.id, trace_id = field::Empty);
    if let Some(trace) = message.traceparent() {
        spans::join(&span, &trace);
    }
    span
}

enum Received {
    Messages(Vec<(Message, OwnedSemaphorePermit)>),
    /// No message, and sooner than the poll's wait.
    TooSoon,
    /// The queue failed; for how long it asks not to be polled.
    Failed {
        left_alone: Duration,
    },
    ToldToStop(Vec<Message>),
}

/// Whether the job is that of an event and found no object: temporary files are gone before their event's turn comes.
fn is_event_without_object(job: &Job, delivered: &JobReport) -> bool {
    let found = delivered.links + delivered.unavailable - delivered.missing;
    job.event.is_some() && !delivered.superseded && found == 0
}

fn report(job: &Job, delivered: &JobReport) {
    let id = &job.id;
    if delivered.done_before {
        tracing::info!(job.id = %id, "the job was done before; its message is deleted");
        return;
    }
    if delivered.superseded {
        tracing::info!(job.id = %id, "a later event of the same key was served before; its message is deleted");
        return;
    }
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                job.id = %id,
                links = delivered.links,
                unavailable = delivered.unavailable,
                missing = delivered.missing,
                accepted = delivered.accepted,
                rejected = delivered.rejected,
                unknown = delivered.unknown,
                expires_at = delivered.expires_at.map(tracing::field::display),
                "handed out"
            )
        };
    }
    // A job is done when every recipient has a final status; a final status without a mail needs attention, and so does a file
    // that the job names and that does not exist, or an event without a file.
    match delivered.failed() + delivered.missing {
        0 if !is_event_without_object(job, delivered) => tell!(info),
        _ => tell!(warn),
    }
}

/// Waits until all tasks have ended, but no longer than `until`; whether they have.
async fn all_end(tasks: &mut JoinSet<()>, until: Instant) -> bool {
    let all = async {
        while let Some(finished) = tasks.join_next().await {
            log_panic(finished);
        }
    };
    tokio::time::timeout_at(until, all).await.is_ok()
}

fn log_panic(finished: Result<(), tokio::task::JoinError>) {
    if let Err(error) = finished {
        tracing::error!(%error, "a task ended badly");
    }
}

/// Parses a message, or makes a job of it, on a blocking thread: a large message may take long, and heartbeats, probes
/// and signals continue. One message is parsed at a time, so that their memory does not add up.
async fn read_aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ParseJobError> + Send + 'static,
) -> Result<T, JobError> {
    static READING: Semaphore = Semaphore::const_new(1);
    let alone = Box::pin(READING.acquire())
        .await
        .expect("it is never closed");
    let done = tokio::task::spawn_blocking(move || {
        // Work that is cut off here continues there; the permit is released when it ends.
        let _alone = alone;
        read()
    });
    Ok(done.await.map_err(|_| JobError::Panicked)??)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * random())
}
