//! A test installation: buckets in a directory, a queue, an outbox, an audit log, and the worker between them.
//!
//! All parts are the real ones of a single machine. A test adds objects and jobs, runs the worker, and reads the results: mails
//! from the outbox, lines from the log.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use handout::assemble;
use handout::assemble::{OpenError, Opened, Serving};
use handout::clock;
use handout::config::{AllowConfig, Config, ConnectionConfig, OnDoubt};
use handout::environment::Environment;
use handout::error::RetryLimits;
use handout::job::SignIn;
use handout::progress::Snapshot;
use handout::queue::Queue;
use handout::queue::sqlite::SqliteQueue;
use handout::worker::{Ended, Worker, WorkerOptions};
use localstore::EndpointError;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, hrefs};

/// A test installation and its results.
pub(crate) struct World {
    /// The directory of everything.
    pub(crate) dir: TempDir,
    /// The configuration, to be changed before the first run.
    pub(crate) config: Config,
    submitted: Vec<String>,
    /// What the process of the last run counted.
    pub(crate) counted: Snapshot,
}

/// A mail in the outbox.
#[derive(Debug, Clone)]
pub(crate) struct SeenMail {
    /// The recipient.
    pub(crate) to: String,
    /// The subject.
    pub(crate) subject: String,
    /// The links in it.
    pub(crate) hrefs: Vec<String>,
    /// Its page.
    pub(crate) html: String,
    /// The complete message.
    pub(crate) eml: String,
}

impl World {
    /// An installation with an empty bucket `reports`, whose rule permits everything to `acme.example`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            state_dir: dir.path().join("state"),
            ..Config::default()
        };
        config.connections.insert(
            "local".to_owned(),
            ConnectionConfig::local(dir.path().join("buckets")),
        );
        config.embedded.listen = free_address();
        config.embedded.public_url = format!("http://{}", config.embedded.listen);
        config.http.listen = free_address();
        config.ledger.on_doubt = OnDoubt::Resend;
        config.allow = vec![AllowConfig {
            connection: "local".to_owned(),
            bucket: "reports".to_owned(),
            prefix: String::new(),
            recipients: vec!["*@acme.example".to_owned()],
            lists: Vec::new(),
            reply_to: Vec::new(),
            relays: AllowConfig::default_relays(),
            publish: vec![
                "s3://published/".to_owned(),
                format!("dir:{}", dir.path().join("pages").display()),
            ],
            via: AllowConfig::default_via(),
            sign_in: SignIn::None,
            max_expires_in: "7d".parse().unwrap(),
            max_links: 100_000,
        }];
        let world = Self {
            dir,
            config,
            submitted: Vec::new(),
            counted: Snapshot::default(),
        };
        for bucket in ["reports", "published"] {
            localstore::create_bucket(&world.dir.path().join("buckets"), bucket).unwrap();
        }
        world
    }

    /// Puts an object into `reports` as an operator would: as a file.
    pub(crate) fn object(self, key: &str, text: &str) -> Self {
        let path = self.bucket("reports").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Changes the configuration before the first run.
    pub(crate) fn configured(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Submits a job at the next run.
    pub(crate) fn job(self, job: &Value) -> Self {
        self.message(&job.to_string())
    }

    /// Puts any text on the queue at the next run.
    pub(crate) fn message(mut self, body: &str) -> Self {
        self.submitted.push(body.to_owned());
        self
    }

    /// Opens everything. A child process that another test has just forked may hold the lock and the listener for a moment.
    pub(crate) async fn open(&self) -> Opened {
        let opening = super::until("the state directory and its port", async || {
            let environment = Environment::default();
            let opening = assemble::open(&self.config, &environment, clock::system, Serving::Links);
            match Box::pin(opening).await {
                Err(OpenError::Locked { .. }) => None,
                Err(OpenError::Embedded(EndpointError::AddressInUse { .. })) => None,
                opened => Some(opened.unwrap()),
            }
        });
        let mut opened = opening.await;
        // Tests beside this one would take the time that decoding needs.
        opened.services.presenting.renditions.niceness = 0;
        opened
    }

    /// Runs until each submitted message is settled: deleted, parked, or returned for later.
    pub(crate) async fn run(&mut self) -> &Self {
        let opened = self.open().await;
        let count = self.submitted.len() as u64;
        for body in self.submitted.drain(..) {
            opened.queue.submit(&body).await.unwrap();
        }
        run_until_settled(&opened, count).await;
        self.counted = opened.services.progress.snapshot();
        opened.close().await;
        self
    }

    /// The mails of the outbox, by recipient.
    pub(crate) fn mails(&self) -> Vec<SeenMail> {
        let outbox = self.config.outbox_dir();
        let contents = fs::read_to_string(outbox.join("index.jsonl")).unwrap_or_default();
        let mut mails: Vec<SeenMail> = contents
            .lines()
            .filter_map(|line| {
                let entry: Value = serde_json::from_str(line).unwrap();
                let file = entry["file"].as_str().unwrap();
                // The .eml file is written last: without it, the mail does not exist.
                let eml = fs::read_to_string(outbox.join(format!("{file}.eml"))).ok()?;
                let html = fs::read_to_string(outbox.join(format!("{file}.html"))).unwrap();
                Some(SeenMail {
                    to: entry["to"].as_str().unwrap().to_owned(),
                    subject: entry["subject"].as_str().unwrap().to_owned(),
                    hrefs: hrefs(&html),
                    eml,
                    html,
                })
            })
            .collect();
        mails.sort_by(|a, b| a.to.cmp(&b.to));
        mails
    }

    /// The lines of the audit log, oldest first.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.config.audit_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect();
        paths.sort();
        let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
        texts
            .flat_map(|text| {
                text.lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The lines of one kind.
    pub(crate) fn audit_of(&self, event: &str) -> Vec<Value> {
        self.audit()
            .into_iter()
            .filter(|line| line["ev"] == event)
            .collect()
    }

    /// The reasons for parked messages.
    pub(crate) async fn parked(&self) -> Vec<String> {
        let queue = self.queue();
        queue
            .parked(0, 100)
            .await
            .unwrap()
            .into_iter()
            .map(|message| message.reason)
            .collect()
    }

    /// Puts jobs on the queue, as `handout job submit` does.
    pub(crate) async fn submit(&self, jobs: &[Value]) {
        for job in jobs {
            self.queue().submit(&job.to_string()).await.unwrap();
        }
    }

    /// Makes every message of a dead process visible, as if its visibility timeout had passed.
    pub(crate) fn show_all(&self) {
        let database = rusqlite::Connection::open(self.config.database_file()).unwrap();
        database
            .execute("UPDATE message SET visible_at = 0", [])
            .unwrap();
    }

    /// Waits until a message is returned for later, and makes it visible. The log mentions it before the queue is updated.
    pub(crate) async fn show_what_is_put_back(&self) {
        let database = rusqlite::Connection::open(self.config.database_file()).unwrap();
        let sql =
            "UPDATE message SET visible_at = 0 WHERE state = 'ready' AND held = 0 AND receives > 0";
        super::until("a message that is put back", async || {
            (database.execute(sql, []).unwrap() > 0).then_some(())
        })
        .await;
    }

    /// How many messages wait.
    pub(crate) async fn waiting(&self) -> u64 {
        self.queue().waiting().await.unwrap()
    }

    /// Writes the configuration to a file, as an operator would have it.
    pub(crate) fn written(&self) -> PathBuf {
        let path = self.dir.path().join("config.toml");
        let text = toml::to_string(&self.config).unwrap();
        // The written file must parse to the same configuration.
        let read: Config = toml::from_str(&text).unwrap();
        assert_eq!(read.allow, self.config.allow);
        fs::write(&path, text).unwrap();
        path
    }

    /// Where a bucket's files are.
    pub(crate) fn bucket(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("buckets").join(bucket)
    }

    fn queue(&self) -> SqliteQueue {
        assemble::open_sqlite_queue(&self.config, clock::system).unwrap()
    }
}

/// A mail job for Ann about everything in `reports`.
pub(crate) fn email_job(id: &str) -> Value {
    json!({
        "v": 1,
        "id": id,
        "from": { "connection": "local", "bucket": "reports", "prefix": "" },
        "email": { "to": ["Ann Bell <ann@acme.example>"], "subject": "Report {{job.id}}" },
    })
}

/// The worker options for tests: short polls, quick shutdown.
pub(crate) fn options() -> WorkerOptions {
    WorkerOptions {
        max_in_flight: 4,
        visibility_timeout: Duration::from_secs(60),
        poll: Duration::from_millis(50),
        grace_period: Duration::from_secs(20),
        limits: RetryLimits::default(),
    }
}

/// Runs a worker on the opened services until `count` messages are settled.
pub(crate) async fn run_until_settled(opened: &Opened, count: u64) {
    let progress = opened.services.progress.clone();
    let settled = async {
        loop {
            let now = progress.snapshot();
            if now.jobs_done + now.jobs_parked + now.jobs_retried >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let queue: Arc<dyn Queue> = Arc::clone(&opened.queue);
    let worker = Worker::new(
        queue,
        opened.services.clone(),
        opened.rules.clone(),
        options(),
        clock::system,
    );
    let ended = tokio::time::timeout(PATIENCE, Box::pin(worker.run(settled)))
        .await
        .expect("the jobs were settled in time");
    assert_eq!(ended, Ended::Drained);
}

/// A loopback address without a listener.
///
/// Its port is below those that the system assigns to outgoing connections, and is returned only once in a run.
pub(crate) fn free_address() -> std::net::SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}
