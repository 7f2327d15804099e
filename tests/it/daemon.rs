//! The program itself, as a process: started, given jobs from outside, told to stop, killed.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job, free_address};
use crate::support::{get, program, until};

/// A running daemon. Killed when the test ends, whatever happens.
pub(crate) struct Daemon {
    child: Child,
    /// Where it answers `/metrics`, `/live` and `/ready`.
    pub(crate) http: String,
}

impl Daemon {
    /// Starts the program and waits until everything is open.
    pub(crate) async fn start(config: &Path, variables: &[(&str, &str)]) -> Self {
        let mut daemon = Self::launch(config, variables);
        until("the daemon", async || {
            assert!(
                daemon.child.try_wait().unwrap().is_none(),
                "{}",
                daemon_log(config)
            );
            // It answers from the start on, and has counters when everything is open.
            std::net::TcpStream::connect(&daemon.http).ok()?;
            let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
            (!metrics.is_empty()).then_some(())
        })
        .await;
        daemon
    }

    /// Starts the program.
    pub(crate) fn launch(config: &Path, variables: &[(&str, &str)]) -> Self {
        let log = fs::File::create(config.with_extension("log")).unwrap();
        Self::launch_with(config, variables, log.into())
    }

    /// Starts the program, whose log goes elsewhere.
    pub(crate) fn launch_with(config: &Path, variables: &[(&str, &str)], log: Stdio) -> Self {
        let child = Command::new(program())
            .arg("run")
            .arg("--config")
            .arg(config)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let text = fs::read_to_string(config).unwrap();
        let settings: toml::Table = toml::from_str(&text).unwrap();
        let http = settings["http"]["listen"].as_str().unwrap().to_owned();
        Self { child, http }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Tells it to stop, and waits for the end, which must be in order; how long it took.
    pub(crate) async fn stops(self, config: &Path) -> Duration {
        self.signal("TERM");
        let (code, took) = self.end().await;
        assert_eq!(code, Some(0), "{}", daemon_log(config));
        took
    }

    /// The most memory that it has had at once, in bytes.
    pub(crate) fn most_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() << 10
    }

    /// Waits for the end; the exit code and how long it took.
    pub(crate) async fn end(mut self) -> (Option<i32>, Duration) {
        let from = Instant::now();
        let status = until("the daemon's end", async || self.child.try_wait().unwrap()).await;
        (status.code(), from.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn daemon_log(config: &Path) -> String {
    fs::read_to_string(config.with_extension("log")).unwrap_or_default()
}

pub(crate) fn submit(config: &Path, job: &Value) {
    let file = config.with_file_name("job.json");
    fs::write(&file, job.to_string()).unwrap();
    let output = Command::new(program())
        .args(["job", "submit", "--no-check"])
        .arg(&file)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_job_that_is_submitted_to_a_running_daemon_is_worked_and_sigterm_drains() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("daily"));
    let mail = until("the mail", async || world.mails().pop()).await;
    assert_eq!(
        get(&mail.hrefs[0]).await,
        (200, b"x".to_vec()),
        "the daemon serves the links it sent"
    );
    until("the counters", async || {
        let metrics =
            String::from_utf8(get(&format!("http://{}/metrics", daemon.http)).await.1).unwrap();
        metrics
            .contains("handout_jobs_total{result=\"done\"} 1")
            .then_some(())
    })
    .await;
    assert_eq!(get(&format!("http://{}/ready", daemon.http)).await.0, 200);
    let took = daemon.stops(&config).await;
    assert!(
        took < Duration::from_secs(10),
        "an idle daemon ends at once, not after {took:?}"
    );
    let last = world.audit().pop().unwrap();
    assert_eq!(last["ev"], "close");
    let log = daemon_log(&config);
    assert!(
        !log.contains("X-Amz-Signature") && !log.contains("ann@acme.example"),
        "{log}"
    );
}

#[tokio::test]
async fn two_daemons_do_not_work_in_one_directory() {
    let world = World::new();
    let config = world.written();
    let _first = Daemon::start(&config, &[]).await;
    let second = Command::new(program())
        .arg("run")
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(73));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains("another handout works in"), "{words}");
    let run = Command::new(program())
        .args(["job", "run", "-", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_ne!(run.status.code(), Some(0));
}

/// Kills the daemon again and again while it works; afterwards each person has exactly one mail of each job, since an outbox shows
/// the same mail once, and every link in it has a line that was there before.
#[tokio::test]
async fn a_daemon_that_is_killed_at_any_moment_loses_nothing_and_mails_nobody_twice() {
    const JOBS: u64 = 3;
    /// A mail whose five attempts are all in doubt waits for a person: a fifth kill of a job could meet the same mail once more.
    const KILLS_A_JOB: u64 = 4;
    const PEOPLE: usize = 30;
    let people: Vec<String> = (0..PEOPLE)
        .map(|number| format!("p{number}@acme.example"))
        .collect();
    let mut world = World::new().object("a.pdf", "x").object("b.pdf", "y");
    // A message whose worker was killed comes back when its hold has run out.
    world.config.queue.visibility_timeout = "30s".parse().unwrap();
    let config = world.written();
    for number in 0..JOBS {
        let id = format!("crowd-{number}");
        let mut job = email_job(&id);
        job["email"]["to"] = json!(people);
        for kill in 0..KILLS_A_JOB {
            let mut daemon = Daemon::start(&config, &[]).await;
            submit(&config, &job);
            let moment = 20 + (number * KILLS_A_JOB + kill) * 23;
            tokio::time::sleep(Duration::from_millis(moment)).await;
            daemon.child.kill().unwrap();
            daemon.child.wait().unwrap();
            // What stands in the log now is everything that may have left.
            let known: Vec<Value> = world.audit_of("issue");
            for mail in world.mails() {
                for href in &mail.hrefs {
                    let id = crate::support::link_id(href).to_owned();
                    assert!(
                        known.iter().any(|line| line["link_id"] == id),
                        "a link left without its line"
                    );
                }
            }
        }
        let daemon = Daemon::start(&config, &[]).await;
        submit(&config, &job);
        until("the job's end", async || {
            let log = Command::new(program())
                .args(["ledger", "show", &id, "--config"])
                .arg(&config)
                .output()
                .unwrap();
            let shown = String::from_utf8(log.stdout).unwrap();
            shown.starts_with(&format!("{id}: done")).then_some(())
        })
        .await;
        daemon.stops(&config).await;
    }
    let mut served: Vec<String> = world.mails().into_iter().map(|mail| mail.to).collect();
    served.sort();
    let mut each_once: Vec<String> = (0..JOBS).flat_map(|_| people.clone()).collect();
    each_once.sort();
    assert_eq!(served, each_once);
    // Accepted once each, but for those whose first attempt is a recorded doubt.
    let outcomes = world.audit_of("outcome");
    for outcome in &outcomes {
        let accepted = outcomes
            .iter()
            .filter(|line| {
                line["job"] == outcome["job"]
                    && line["rid"] == outcome["rid"]
                    && line["outcome"] == "accepted"
            })
            .count();
        assert_eq!(accepted, 1, "{outcome}");
    }
    let verify = Command::new(program())
        .args(["audit", "verify", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(
        verify.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verify.stdout)
    );
}

/// The deployment of `docs/quick-start/aws.md`: SQS and S3 of others, a relay with STARTTLS, and a job put there by the aws command.
#[tokio::test]
async fn a_report_from_sqs_and_s3_is_mailed_through_a_relay() {
    let Some(parts) = Parts::or_skip("a_report_from_sqs_and_s3") else {
        return;
    };
    let cloud = Cloud::start(&parts).await;
    let config = cloud.write_config();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let check = Command::new(program())
        .args(["check", "--config"])
        .arg(&config)
        .envs(keys)
        .output()
        .unwrap();
    assert_eq!(
        check.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    let daemon = Daemon::start(&config, &keys).await;

    let job = json!({
        "v": 1, "id": "acme-daily-2026-11-23",
        "from": { "connection": "reports", "bucket": "acme-reports", "prefix": "2026/11/23/" },
        "links": { "expires_in": "24h" },
        "email": { "to": ["Ann Bell <ann@acme.example>"], "subject": "Daily report for {{customer}}", "template": "report" },
        "gallery": { "publish": { "bucket": "acme-out", "prefix": "galleries/" } },
        "vars": { "customer": "ACME" },
    });
    cloud.aws(&[
        "sqs",
        "send-message",
        "--queue-url",
        &cloud.queue,
        "--message-body",
        &job.to_string(),
    ]);
    let mail = until("the mail at the relay", async || cloud.mails().pop()).await;
    assert_eq!(mail["subject"], "Daily report for ACME");
    let hrefs: Vec<&str> = mail["hrefs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        hrefs
            .iter()
            .any(|href| href.contains("/acme-reports/2026/11/23/a%20b.pdf?")),
        "{hrefs:?}"
    );
    for href in hrefs {
        assert_eq!(get(href).await.0, 200);
    }
    until("the message's end", async || {
        (cloud.count(&cloud.queue) == 0).then_some(())
    })
    .await;

    // What nobody can work is set aside with its reason.
    cloud.aws(&[
        "sqs",
        "send-message",
        "--queue-url",
        &cloud.queue,
        "--message-body",
        "no job",
    ]);
    until("the parked message", async || {
        (cloud.count(&cloud.parked) == 1).then_some(())
    })
    .await;
    let answer = cloud.aws(&[
        "sqs",
        "receive-message",
        "--queue-url",
        &cloud.parked,
        "--message-attribute-names",
        "All",
    ]);
    let reason = &answer["Messages"][0]["MessageAttributes"]["handout-reason"]["StringValue"];
    assert_eq!(
        reason,
        "the message is not JSON: expected ident at line 1 column 2"
    );

    // Whoever goes on from there is told of both.
    let mut results = cloud.take_results();
    results.sort_by_key(|result| result["outcome"].to_string());
    assert_eq!(results.len(), 2, "{results:?}");
    assert_eq!(results[0]["job"], "acme-daily-2026-11-23");
    assert_eq!(results[0]["accepted"], 1);
    let page = results[0]["galleries"][0].as_str().unwrap();
    assert!(page.starts_with("s3://acme-out/galleries/"), "{page}");
    assert_eq!(
        (&results[1]["job"], &results[1]["reason"]),
        (&Value::Null, &json!(reason))
    );

    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(30), "{took:?}");
    let log = daemon_log(&config);
    for secret in ["X-Amz-Signature", "ann@acme.example", "correct horse"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Others' servers: moto for SQS and S3, aiosmtpd for the relay.
struct Cloud {
    parts: Parts,
    dir: tempfile::TempDir,
    moto: Server,
    relay: Server,
    queue: String,
    parked: String,
    results: String,
}

impl Cloud {
    async fn start(parts: &Parts) -> Self {
        let dir = tempfile::tempdir().unwrap();
        parts.make_ca(dir.path());
        fs::write(dir.path().join("password"), "correct horse\n").unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (mail, certificate, key) = (path("mail"), path("server.pem"), path("server.key"));
        let relay_options = [
            "--maildir",
            &mail,
            "--starttls",
            &certificate,
            &key,
            "--auth",
            "handout",
            "correct horse",
        ];
        let relay = parts.start("smtp_sink.py", &relay_options);
        let mut cloud = Self {
            parts: parts.clone(),
            moto: parts.start("moto.py", &[]),
            relay,
            queue: String::new(),
            parked: String::new(),
            results: String::new(),
            dir,
        };
        let url = |answer: &Value| answer["QueueUrl"].as_str().unwrap().to_owned();
        cloud.queue = url(&cloud.aws(&["sqs", "create-queue", "--queue-name", "report-jobs"]));
        cloud.parked =
            url(&cloud.aws(&["sqs", "create-queue", "--queue-name", "report-jobs-parked"]));
        cloud.results = url(&cloud.aws(&[
            "sqs",
            "create-queue",
            "--queue-name",
            "report-results.fifo",
            "--attributes",
            "FifoQueue=true",
        ]));
        fs::write(cloud.dir.path().join("a b.pdf"), "%PDF").unwrap();
        let file = cloud
            .dir
            .path()
            .join("a b.pdf")
            .to_string_lossy()
            .into_owned();
        for bucket in ["acme-reports", "acme-out"] {
            cloud.aws(&[
                "s3api",
                "create-bucket",
                "--bucket",
                bucket,
                "--create-bucket-configuration",
                "LocationConstraint=eu-west-1",
            ]);
        }
        cloud.aws(&[
            "s3api",
            "put-object",
            "--bucket",
            "acme-reports",
            "--key",
            "2026/11/23/a b.pdf",
            "--body",
            &file,
        ]);
        cloud
    }

    /// The aws command, against moto.
    fn aws(&self, arguments: &[&str]) -> Value {
        let output = self
            .parts
            .tool("aws")
            .args(["--endpoint-url", &self.moto.url(), "--output", "json"])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// What was told, as another program would read it.
    fn take_results(&self) -> Vec<Value> {
        let url = &self.results;
        let receive = [
            "sqs",
            "receive-message",
            "--max-number-of-messages",
            "10",
            "--queue-url",
            url,
        ];
        let answer = self.aws(&receive);
        let bodies = answer["Messages"].as_array().unwrap().iter();
        bodies
            .map(|message| serde_json::from_str(message["Body"].as_str().unwrap()).unwrap())
            .collect()
    }

    /// Messages in a queue, in flight or not.
    fn count(&self, queue: &str) -> u64 {
        let answer = self.aws(&[
            "sqs",
            "get-queue-attributes",
            "--queue-url",
            queue,
            "--attribute-names",
            "All",
        ]);
        let count = |name: &str| {
            answer["Attributes"][name]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible")
    }

    fn mails(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("mail")) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        let mails =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "eml"));
        mails
            .map(|path| {
                let output = self
                    .parts
                    .script("parse_mail.py")
                    .arg(path)
                    .output()
                    .unwrap();
                serde_json::from_slice(&output.stdout).unwrap()
            })
            .collect()
    }

    fn write_config(&self) -> std::path::PathBuf {
        let path = self.dir.path().join("config.toml");
        let (moto, relay, dir, http) = (
            self.moto.url(),
            self.relay.port,
            self.dir.path().display(),
            free_address(),
        );
        let (queue, parked, results) = (&self.queue, &self.parked, &self.results);
        let text = format!(
            r#"
state_dir = "{dir}/state"
[queue]
kind = "sqs"
url = "{queue}"
parked_url = "{parked}"
endpoint_url = "{moto}"
[results]
queue_url = "{results}"
endpoint_url = "{moto}"
[connections.reports]
region = "eu-west-1"
endpoint_url = "{moto}"
[mail]
transport = "smtp"
from = "Reports <reports@sender.example>"
[mail.smtp]
host = "127.0.0.1"
port = {relay}
username = "handout"
password_file = "{dir}/password"
ca_file = "{dir}/ca.pem"
[http]
listen = "{http}"
[[allow]]
connection = "reports"
bucket = "acme-reports"
prefix = "2026/"
recipients = ["*@acme.example"]
publish = ["s3://acme-out/galleries/"]
"#
        );
        fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn a_configuration_that_is_wrong_ends_with_78_and_a_line_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, "[links]\nexpires_inn = \"1h\"\n").unwrap();
    let output = Command::new(program())
        .arg("run")
        .arg("--config")
        .arg(&path)
        .output()
        .unwrap();
    let mut words = String::new();
    output.stderr.as_slice().read_to_string(&mut words).unwrap();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(
        words.contains("line 2") && words.contains("did you mean expires_in?"),
        "{words}"
    );
}
