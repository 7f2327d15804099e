//! The queue of jobs, and where results are sent.

use std::sync::Arc;

use presign::partition::EndpointVariant;

use super::{OpenError, connection};
use crate::assemble::connection::SqsRoute;
use crate::clock::Clock;
use crate::config::load::{Secret, queue_address};
use crate::config::queue_address::QueueAddress;
use crate::config::{Config, QueueKind};
use crate::config_error::ConfigError;
use crate::database::{Database, DatabaseError};
use crate::edge::Egress;
use crate::edge::health::{Edge, EdgeKind};
use crate::environment::Environment;
use crate::queue::Queue;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqs::SqsQueue;
use crate::results::{Results, Webhook};

/// The queue, with messages that a dead process had received made visible again: the lock on the state directory proves that no
/// other process uses it.
pub(super) async fn taken_over(queue: SqliteQueue) -> Result<SqliteQueue, DatabaseError> {
    let messages = queue.take_over().await?;
    if messages > 0 {
        tracing::info!(
            messages,
            "the last process ended while it worked these messages; they are taken up at once"
        );
    }
    Ok(queue)
}

pub(super) fn queue_edge(config: &Config) -> Edge {
    let queue = match config.queue.kind {
        QueueKind::Sqs => config.queue.url.clone().unwrap_or_default(),
        QueueKind::Sqlite => format!("in {}", config.database_file().display()),
    };
    Edge::new(EdgeKind::Queue, "queue", format!("the queue {queue}"))
}

/// The queue alone, for commands that only submit a job while the daemon runs.
pub async fn open_queue(
    config: &Config,
    environment: &Environment,
    clock: Clock,
) -> Result<Arc<dyn Queue>, OpenError> {
    Ok(match config.queue.kind {
        QueueKind::Sqlite => Arc::new(open_sqlite_queue(config, clock)?),
        QueueKind::Sqs => Arc::new(sqs_queue(config, environment).await?),
    })
}

/// The queue of this machine, which also offers the parked messages, beyond the trait.
pub fn open_sqlite_queue(config: &Config, clock: Clock) -> Result<SqliteQueue, OpenError> {
    super::private_dir(&config.state_dir)?;
    Ok(SqliteQueue::new(
        Database::open(&config.database_file())?,
        clock,
    ))
}

/// The queue of the configuration in SQS.
pub async fn sqs_queue(
    config: &Config,
    environment: &Environment,
) -> Result<SqsQueue, ConfigError> {
    let Some(url) = &config.queue.url else {
        return Err(ConfigError::value(
            "queue.url",
            "is missing: kind = \"sqs\" needs the queue's URL",
        ));
    };
    let url = queue_address("queue.url", url)?;
    let route = SqsRoute {
        region: config.queue.region.as_deref(),
        endpoint_url: config.queue.endpoint_url.as_deref(),
        profile: config.queue.profile.as_deref(),
        ca_file: config.queue.ca_file.as_deref(),
        variant: EndpointVariant::default(),
    };
    let client = async |address: &QueueAddress| {
        connection::sqs_client("queue", route.to(address.place()), environment).await
    };
    let of_jobs = client(&url).await?;
    let queue = SqsQueue::new(of_jobs.clone(), url.url().to_owned());
    let Some(parked) = &config.queue.parked_url else {
        return Ok(queue);
    };
    let parked = queue_address("queue.parked_url", parked)?;
    let of_parked = match parked.place() == url.place() {
        true => of_jobs,
        false => client(&parked).await?,
    };
    Ok(queue.with_parked(of_parked, parked.url().to_owned()))
}

/// The queue of bounces and complaints with its URL, if the configuration has one.
pub async fn feedback_queue(
    config: &Config,
    environment: &Environment,
) -> Result<Option<(SqsQueue, String)>, ConfigError> {
    let wanted = &config.feedback;
    let Some(url) = &wanted.queue_url else {
        return Ok(None);
    };
    let url = queue_address("feedback.queue_url", url)?;
    let route = SqsRoute {
        region: wanted.region.as_deref(),
        endpoint_url: wanted.endpoint_url.as_deref(),
        profile: wanted.profile.as_deref(),
        ca_file: wanted.ca_file.as_deref(),
        variant: EndpointVariant::default(),
    };
    let client = connection::sqs_client("feedback", route.to(url.place()), environment).await?;
    let url = url.url().to_owned();
    Ok(Some((SqsQueue::new(client, url.clone()), url)))
}

/// Where results of jobs are sent.
pub async fn results(config: &Config, environment: &Environment) -> Result<Results, ConfigError> {
    let wanted = &config.results;
    if let (Some(url), Some(host)) = (&wanted.url, wanted.receiver()?) {
        const KEY: &str = "results.secret_file";
        let secrets = wanted.secret_file.as_ref();
        let secrets = secrets.map(|path| Secret::read(KEY, path, environment));
        let secrets = secrets.transpose()?;
        let egress = Egress::of("results", wanted.ca_file.as_deref(), environment)?;
        let secrets = secrets.as_ref().map(Secret::expose);
        let webhook = Webhook::new(url, &host, secrets, egress);
        return Ok(Results::Webhook(
            webhook.map_err(|error| ConfigError::value(KEY, error))?,
        ));
    }
    Ok(match (&wanted.queue_url, &wanted.file) {
        (Some(url), _) => {
            let url = queue_address("results.queue_url", url)?;
            let route = SqsRoute {
                region: wanted.region.as_deref(),
                endpoint_url: wanted.endpoint_url.as_deref(),
                profile: wanted.profile.as_deref(),
                ca_file: wanted.ca_file.as_deref(),
                variant: EndpointVariant::default(),
            };
            let route = route.to(url.place());
            let client = connection::sqs_client("results", route, environment).await?;
            Results::queue(
                Arc::new(SqsQueue::new(client, url.url().to_owned())),
                url.url(),
            )
        }
        (None, Some(file)) => Results::file(file.clone()),
        (None, None) => Results::Off,
    })
}
