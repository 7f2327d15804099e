//! The intake: jobs and events by HTTP, for stores and programs that can POST and cannot reach the queue.
//!
//! A request is admitted by its token and the rate (`admission`, `token`). A job is checked as `handout job submit` checks it
//! (`check`), an event is read as the worker reads it (`events`), and what is taken is put on the queue as it came (`acceptance`).
//! The answer 202 follows the durable message, so a caller that got no answer sends its request again, and the job's id makes it
//! one job. `state` answers what became of a job.

mod acceptance;
mod admission;
mod answer;
mod body;
mod check;
mod counts;
mod events;
mod jobs;
mod state;
mod token;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::answer::IntakeAnswer;
use self::check::ChecksUnderWay;
use self::counts::IntakeCount;
pub use self::counts::IntakeCounts;
use self::token::FollowedTokens;
pub use self::token::TokenFile;
use crate::assemble::Services;
use crate::bounds::{MAX_INTAKE_AT_ONCE, MAX_WRONG_TOKENS_PER_MINUTE};
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::job::envelope::EventRule;
use crate::ledger::intake::IntakeRecords;
use crate::queue::Queue;
use crate::rate_limit::RateLimiter;
use crate::repeated::RepeatedLine;
use crate::serving::{
    self, AnswerFuture, ClientNetwork, Drain, KeyedLimit, RequestAnswers, RoomPlace,
    ServedConnections, ServerTls, TlsFiles, held_by,
};
use crate::text::chain;
use crate::traceparent::{TRACEPARENT, TraceParent};
use crate::worker::Renewed;

/// How often old records are forgotten.
const FORGETS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The intake before it is served.
#[derive(Debug)]
pub struct IntakeServer {
    intake: Intake,
    tls: Option<ServerTls>,
    grace: Duration,
}

/// The intake, for all its connections. Clones are the same intake.
#[derive(Debug, Clone)]
struct Intake(Arc<IntakeParts>);

#[derive(Debug)]
struct IntakeParts {
    tokens: FollowedTokens,
    queue: Arc<dyn Queue>,
    records: IntakeRecords,
    first: Current,
    renewed: watch::Receiver<Option<Renewed>>,
    wrong_tokens: KeyedLimit<ClientNetwork>,
    rate: RateLimiter,
    at_once: Semaphore,
    checks: ChecksUnderWay,
    counts: IntakeCounts,
    lines: IntakeLines,
    stop: CancellationToken,
}

/// The services and rules of the configuration in use.
#[derive(Debug, Clone)]
struct Current {
    services: Services,
    rules: Arc<[EventRule]>,
}

/// The log lines that requests repeat.
#[derive(Debug, Default)]
struct IntakeLines {
    refused: RepeatedLine,
    wrong_tokens: RepeatedLine,
    unavailable: RepeatedLine,
    unchecked: RepeatedLine,
    unrecorded: RepeatedLine,
}

impl IntakeServer {
    /// The intake of a configuration. It answers with what `renewed` has, and before that with these services and rules.
    ///
    /// # Errors
    /// The key that is missing or has a wrong value.
    pub fn new(
        config: &Config,
        queue: Arc<dyn Queue>,
        services: &Services,
        rules: &[EventRule],
        renewed: watch::Receiver<Option<Renewed>>,
    ) -> Result<Self, ConfigError> {
        let settings = &config.intake;
        let tokens = TokenFile::of(settings)?;
        let tls = TlsFiles::of(
            "intake",
            settings.tls_cert_file.as_ref(),
            settings.tls_key_file.as_ref(),
        )?;
        let parts = IntakeParts {
            tokens: FollowedTokens::open(tokens)?,
            queue,
            records: IntakeRecords::of(&*services.recording.ledger),
            first: Current {
                services: services.clone(),
                rules: rules.into(),
            },
            renewed,
            wrong_tokens: KeyedLimit::per_minute(MAX_WRONG_TOKENS_PER_MINUTE),
            rate: RateLimiter::new(settings.rate),
            at_once: Semaphore::new(MAX_INTAKE_AT_ONCE),
            checks: ChecksUnderWay::default(),
            counts: IntakeCounts::default(),
            lines: IntakeLines::default(),
            stop: CancellationToken::new(),
        };
        Ok(Self {
            intake: Intake(Arc::new(parts)),
            tls: tls.map(ServerTls::open).transpose()?,
            grace: config.queue.grace_period.as_duration(),
        })
    }

    /// The counters.
    pub fn counts(&self) -> IntakeCounts {
        self.intake.0.counts.clone()
    }

    /// Serves connections until `stop`. From then on requests are told to come back, until `drained`, and those that are being
    /// answered end.
    ///
    /// # Errors
    /// The runtime cannot watch the listener.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        stop: CancellationToken,
        drained: CancellationToken,
    ) -> io::Result<()> {
        let Self { intake, tls, grace } = self;
        let parts = Arc::clone(&intake.0);
        let served = ServedConnections {
            name: "intake",
            room: parts.counts.room.clone(),
            answers: intake,
            tls,
            grace,
        };
        let stopping = async {
            stop.cancelled().await;
            parts.stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serving::serve(listener, served, stop.clone(), Drain::Served(drained)) => served,
            () = parts.tokens.follow() => unreachable!("it does not end"),
            () = forget_old(&parts) => unreachable!("it does not end"),
            () = stopping => unreachable!("it does not end"),
        }
    }
}

/// Forgets old records now and then, while it is polled.
async fn forget_old(parts: &IntakeParts) {
    loop {
        let now = (parts.first.services.clock)();
        if let Err(error) = parts.records.forget_old(now).await {
            tracing::debug!(
                error = chain(&error),
                "old records of the intake were not forgotten"
            );
        }
        sleep(FORGETS_EVERY).await;
    }
}

impl RequestAnswers for Intake {
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        place: Arc<RoomPlace>,
    ) -> AnswerFuture {
        let intake = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let is_head = parts.method == Method::HEAD;
            let admitted = match intake.admit(&parts, peer) {
                Ok(route) => body::read(body, &parts)
                    .await
                    .map(|body| (route, body))
                    .map_err(IntakeAnswer::from),
                Err(denied) => {
                    body::discard(body).await;
                    Err(denied)
                }
            };
            // Until here the connection could be closed for another.
            let guard = place.answers();
            let answered = match admitted {
                Ok((route, body)) => Box::pin(intake.follow(route, body.into(), &parts)).await,
                Err(denied) => denied,
            };
            intake.0.counts.count(answered.count());
            let answer = answered.into_response(intake.0.stop.is_cancelled());
            let answer = match is_head {
                true => answer.map(|_| Body::empty()),
                false => answer,
            };
            answer.map(|body| held_by(body, guard))
        })
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum IntakeRoute {
    /// `POST /jobs`
    Job,
    /// `POST /events`
    Events,
    /// `GET /jobs/ID`; the id as it was decoded.
    State(String),
}

/// The trace that a request names. A request with two such headers names none.
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    TraceParent::read(value.to_str().ok()?.trim())
}

impl Intake {
    /// The services and rules of the moment.
    fn current(&self) -> Current {
        let renewed = self.0.renewed.borrow();
        match renewed.as_ref() {
            Some(renewed) => Current {
                services: renewed.services.clone(),
                rules: Arc::clone(&renewed.rules),
            },
            None => self.0.first.clone(),
        }
    }

    async fn follow(&self, route: IntakeRoute, body: Arc<str>, parts: &Parts) -> IntakeAnswer {
        let trace = trace_of(&parts.headers);
        let answered = match route {
            IntakeRoute::Job => self.take_job(body, trace).await,
            IntakeRoute::Events => self.take_events(body, &parts.headers, trace).await,
            IntakeRoute::State(id) => self.state(&id).await,
        };
        let answered = answered.unwrap_or_else(|denied| denied);
        self.log(&answered);
        answered
    }

    /// Logs what an operator should know of; each line once a minute.
    fn log(&self, answered: &IntakeAnswer) {
        let (line, is_ours) = match answered.count() {
            IntakeCount::Refused => (&self.0.lines.refused, false),
            IntakeCount::Unavailable => (&self.0.lines.unavailable, true),
            _ => return,
        };
        let (Some(error), Some(not_logged)) = (answered.sentence(), line.due()) else {
            return;
        };
        match is_ours {
            true => tracing::warn!(error, not_logged, "the intake could not take a request"),
            false => tracing::warn!(error, not_logged, "the intake refused a request"),
        }
    }
}
