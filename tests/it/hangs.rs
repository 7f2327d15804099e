//! What hangs or lies in ways that are harder to see than silence: answers that begin and do not end, pages of what stands in
//! front of a store, a log that nothing reads, credentials that do not come, files that block.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use handout::config::{AllowConfig, ConnectionConfig, QueueKind};
use tokio::time::Instant;

use crate::conformance::{make_queue, sqs_client};
use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::{
    far_job, is_ready, is_unready, mailed, ready, with_a_line, with_ledger_at_far,
};
use crate::support::line::{Line, Mode};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};
use crate::support::{get, program, until};

/// What a load balancer says when it has no way to the store.
const PAGE: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 22\r\nConnection: close\r\n\r\n<html>not found</html>";

/// What a store says to credentials that may do nothing.
const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: 47\r\nConnection: close\r\n\r\n<Error><Code>AccessDenied</Code></Error>       ";

#[tokio::test]
async fn a_store_whose_answers_do_not_end_lie_or_deny_is_said_and_no_job_is_parked() {
    let (world, line) = with_a_line().await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    for (name, mode, words) in [
        (
            "body",
            Mode::BodySilent,
            "(connections.far) has not answered since",
        ),
        (
            "page",
            Mode::Says(PAGE),
            "(connections.far) cannot be reached since",
        ),
        (
            "denied",
            Mode::Says(DENIED),
            "(connections.far) cannot be used since",
        ),
    ] {
        // Idle first: the look at what is not used tells.
        line.becomes(mode);
        let failed = Instant::now();
        is_unready(&daemon.http, words).await;
        let told = failed.elapsed();
        submit(&config, &far_job(name));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.parked().await, Vec::<String>::new(), "{name}");
        line.becomes(Mode::Open);
        let back = Instant::now();
        is_ready(&daemon.http).await;
        let ready = back.elapsed();
        assert!(
            told < Duration::from_secs(32) && ready < Duration::from_secs(8),
            "{name}: told after {told:?}, ready after {ready:?}"
        );
        // A job that was denied comes back after a minute.
        if name != "denied" {
            mailed(&world, name).await;
        }
    }
    let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
    let metrics = String::from_utf8(metrics).unwrap();
    for kind in ["timeout", "unreachable", "denied"] {
        let none = format!("handout_edge_errors_total{{edge=\"store:far\",kind=\"{kind}\"}} 0\n");
        assert!(!metrics.contains(&none), "{metrics}");
    }
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_daemon_works_on_when_its_log_is_closed_or_not_read() {
    for is_closed in [true, false] {
        let (mut written, read) = UnixStream::pair().unwrap();
        let _read = if is_closed {
            None
        } else {
            written.set_nonblocking(true).unwrap();
            while written.write(&[b'x'; 1024]).is_ok() {}
            written.set_nonblocking(false).unwrap();
            Some(read)
        };
        let world = World::new().object("a.pdf", "x");
        let config = world.written();
        let daemon = Daemon::launch_with(&config, &[], OwnedFd::from(written).into());
        until("the start", async || TcpStream::connect(&daemon.http).ok()).await;
        is_ready(&daemon.http).await;
        submit(&config, &email_job("unheard"));
        mailed(&world, "unheard").await;
        assert_eq!(ready(&daemon.http).await.0, 200);
        daemon.signal("TERM");
        let (code, took) = daemon.end().await;
        assert_eq!(code, Some(0), "closed: {is_closed}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

/// A world whose connection `far` has the credentials that a program gives.
fn with_credentials_of(program: &str) -> (World, String) {
    let mut world = World::new().object("a.pdf", "x");
    let profiles = world.dir.path().join("aws-config");
    let text = format!("[profile far]\ncredential_process = {program}\n");
    fs::write(&profiles, text).unwrap();
    let connection = ConnectionConfig {
        endpoint_url: Some(world.config.embedded.public_url.clone()),
        region: Some("us-east-1".to_owned()),
        profile: Some("far".to_owned()),
        ..ConnectionConfig::default()
    };
    let connections = &mut world.config.connections;
    connections.insert("far".to_owned(), connection);
    let rule = AllowConfig {
        connection: "far".to_owned(),
        ..world.config.allow[0].clone()
    };
    world.config.allow.push(rule);
    (world, profiles.display().to_string())
}

#[tokio::test]
async fn credentials_that_hang_hold_their_own_jobs_only() {
    let (mut world, profiles) = with_credentials_of("/bin/sleep 600");
    world.config.queue.max_in_flight = 4;
    let config = world.written();
    let daemon = Daemon::start(&config, &[("AWS_CONFIG_FILE", &profiles)]).await;
    let jobs: Vec<_> = (0..12).map(|n| far_job(&format!("hangs-{n}"))).collect();
    world.submit(&jobs).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    submit(&config, &email_job("beside"));
    mailed(&world, "beside").await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    is_unready(
        &daemon.http,
        "credentials of connections.far has not answered since",
    )
    .await;
    assert!(began.elapsed() < Duration::from_secs(28));
    assert_eq!(world.parked().await, Vec::<String>::new());
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_program_for_credentials_that_hangs_or_floods_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let noted = dir.path().join("pids");
    let hangs = format!("sh -c 'echo $$ >> {}; exec sleep 600'", noted.display());
    for (program, words) in [
        (hangs.as_str(), "has not answered since"),
        ("yes", "cannot be used since"),
    ] {
        let (world, profiles) = with_credentials_of(program);
        let config = world.written();
        let daemon = Daemon::start(&config, &[("AWS_CONFIG_FILE", &profiles)]).await;
        world.submit(&[far_job("waits")]).await;
        is_unready(
            &daemon.http,
            &format!("credentials of connections.far {words}"),
        )
        .await;
        let took = daemon.stops(&config).await;
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
    let pids = fs::read_to_string(&noted).unwrap();
    let lives = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let left: Vec<_> = pids.lines().filter(lives).collect();
    assert_eq!(left, Vec::<&str>::new(), "of {}", pids.lines().count());
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_said_by_a_daemon_without_jobs() {
    let (world, profiles) = with_credentials_of("/bin/false");
    let config = world.written();
    let daemon = Daemon::start(&config, &[("AWS_CONFIG_FILE", &profiles)]).await;
    let began = Instant::now();
    is_unready(
        &daemon.http,
        "credentials of connections.far cannot be used since",
    )
    .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// A FIFO that nothing writes to.
fn fifo(path: &Path) -> String {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
    path.display().to_string()
}

/// Waits until the program answers at all, and looks whether it says that it lives.
async fn is_live(daemon: &Daemon) {
    until("the answers", async || {
        TcpStream::connect(&daemon.http).ok()
    })
    .await;
    let url = format!("http://{}/live", daemon.http);
    let live = tokio::time::timeout(Duration::from_secs(3), get(&url)).await;
    assert_eq!(live.expect("an answer").0, 200);
}

#[tokio::test]
async fn a_file_that_blocks_keeps_neither_the_answers_nor_the_end_of_the_daemon() {
    // At the start: the SDK reads its configuration.
    let world = World::new();
    let pipe = fifo(&world.dir.path().join("fifo"));
    let (mut world, _) = with_credentials_of("/bin/false");
    world.config.queue.grace_period = "1s".parse().unwrap();
    let config = world.written();
    let daemon = Daemon::launch(&config, &[("AWS_CONFIG_FILE", &pipe)]);
    is_live(&daemon).await;
    is_unready(&daemon.http, "starting").await;
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(8), "{took:?}");

    // In the middle: the token of a web identity.
    world.config.connections.get_mut("far").unwrap().profile = None;
    let config = world.written();
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", pipe.as_str()),
        ("AWS_CONFIG_FILE", "/dev/null"),
    ];
    let daemon = Daemon::start(&config, &variables).await;
    submit(&config, &far_job("blocked"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    is_live(&daemon).await;
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(17), "{took:?}");

    // A secret is read from a file and from nothing else.
    let far = world.config.connections.get_mut("far").unwrap();
    far.access_key_id = Some("id".to_owned());
    far.secret_access_key_file = Some(pipe.into());
    let config = world.written();
    let (code, _) = Daemon::launch(&config, &[]).end().await;
    assert_eq!(code, Some(78));
    let log = daemon_log(&config);
    assert!(log.contains("is not a regular file"), "{log}");
}

/// A store that answers reads and rejects each write. Its disk may be full, its credentials may only read, its bucket may be gone, or
/// a proxy in front of it may let no PUT through.
#[tokio::test]
async fn a_ledger_that_lists_and_rejects_writes_is_said_and_its_jobs_come_back_with_it() {
    let (mut world, line) = with_a_line().await;
    with_ledger_at_far(&mut world);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    for (name, answer, kind) in [
        (
            "full",
            rejection("507 Insufficient Storage", "XMinioStorageFull"),
            "answers with errors",
        ),
        (
            "failing",
            rejection("500 Internal Server Error", "InternalError"),
            "answers with errors",
        ),
        (
            "readonly",
            rejection("403 Forbidden", "AccessDenied"),
            "refuses requests",
        ),
        (
            "nowhere",
            rejection("404 Not Found", "NoSuchBucket"),
            "refuses requests",
        ),
        (
            "unknown",
            rejection("501 Not Implemented", "NotImplemented"),
            "refuses requests",
        ),
        (
            "unmet",
            rejection("412 Precondition Failed", "PreconditionFailed"),
            "refuses requests",
        ),
        (
            "conflict",
            rejection("409 Conflict", "ConditionalRequestConflict"),
            "refuses requests",
        ),
    ] {
        line.becomes(Mode::RejectsPuts(answer));
        let failed = Instant::now();
        let too = format!("{name}-too");
        for job in [name, &too] {
            submit(&config, &email_job(job));
        }
        is_unready(&daemon.http, &format!("(writes) {kind} since")).await;
        let told = failed.elapsed();
        let (_, sentences) = ready(&daemon.http).await;
        assert_eq!(sentences.lines().count(), 1, "{sentences}");
        // Long enough for a job that would come back later each time.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(world.parked().await, Vec::<String>::new(), "{name}");
        line.becomes(Mode::Open);
        let back = Instant::now();
        is_ready(&daemon.http).await;
        let is_back = back.elapsed();
        mailed(&world, name).await;
        mailed(&world, &too).await;
        let done = back.elapsed();
        assert!(
            told < Duration::from_secs(30)
                && is_back < Duration::from_secs(8)
                && done < Duration::from_secs(30),
            "{name}: told after {told:?}, ready after {is_back:?}, mailed after {done:?}"
        );
    }
    // Idle: a probe finds it.
    line.becomes(Mode::RejectsPuts(rejection(
        "403 Forbidden",
        "AccessDenied",
    )));
    is_unready(&daemon.http, "(writes) refuses requests since").await;
    line.becomes(Mode::Open);
    is_ready(&daemon.http).await;
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_clock_that_differs_from_the_stores_is_said_and_its_jobs_come_back_when_it_is_set() {
    let (world, line) = with_a_line().await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    let ahead = handout::clock::system() + jiff::SignedDuration::from_mins(10);
    let ahead = ahead.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let body = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nDate: {ahead}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    line.becomes(Mode::Says(answer.leak()));
    submit(&config, &far_job("late"));
    let words = "(connections.far) has another time than this machine since";
    is_unready(&daemon.http, words).await;
    let (_, sentences) = ready(&daemon.http).await;
    assert!(
        sentences.contains("set the clock that is wrong (NTP)"),
        "{sentences}"
    );
    assert_eq!(world.parked().await, Vec::<String>::new());
    line.becomes(Mode::Open);
    let back = Instant::now();
    is_ready(&daemon.http).await;
    mailed(&world, "late").await;
    assert!(
        back.elapsed() < Duration::from_secs(30),
        "{:?}",
        back.elapsed()
    );
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_queue_whose_connections_are_reset_at_their_second_request_is_polled() {
    let Some(parts) = Parts::or_skip("a_queue_whose_connections_are_reset") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let sqs = sqs_client(&moto);
    let jobs = make_queue(&sqs, "jobs").await;
    let upstream = moto.url().trim_start_matches("http://").parse().unwrap();
    let line = Line::start(upstream).await;
    let world = World::new().object("a.pdf", "x").configured(|config| {
        config.queue.kind = QueueKind::Sqs;
        config.queue.url = Some(jobs.clone());
        config.queue.endpoint_url = Some(line.url());
        config.queue.region = Some("eu-west-1".to_owned());
        // A poll that died with its connection may take the message along for this long.
        config.queue.visibility_timeout = "30s".parse().unwrap();
    });
    let config = world.written();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let daemon = Daemon::start(&config, &keys).await;
    is_ready(&daemon.http).await;
    // An outage, after which a poll follows a question on the same connection.
    line.becomes(Mode::Refusing);
    is_unready(&daemon.http, "/123456789012/jobs cannot be reached since").await;
    line.becomes(Mode::ResetsSecond);
    let send = sqs.send_message().queue_url(&jobs);
    let job = email_job("after").to_string();
    send.message_body(job).send().await.unwrap();
    is_ready(&daemon.http).await;
    mailed(&world, "after").await;
    daemon.stops(&config).await;
}

fn rejection(status: &str, code: &str) -> &'static str {
    let body = format!("<Error><Code>{code}</Code></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").leak()
}

#[tokio::test]
async fn a_start_whose_port_is_taken_heeds_signals_while_its_ledger_is_silent() {
    let (mut world, line) = with_a_line().await;
    with_ledger_at_far(&mut world);
    line.becomes(Mode::Silent);
    let _taken = TcpListener::bind(world.config.http.listen).unwrap();
    let config = world.written();
    let daemon = Daemon::launch(&config, &[]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_database_that_another_process_holds_is_said_and_waited_for() {
    let world = World::new().object("a.pdf", "x");
    world.submit(&[email_job("held")]).await;
    let database = rusqlite::Connection::open(world.config.database_file()).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let config = world.written();
    let daemon = Daemon::launch(&config, &[]);
    is_live(&daemon).await;
    is_unready(
        &daemon.http,
        "has been locked by another process for 10 seconds",
    )
    .await;
    database.execute_batch("ROLLBACK").unwrap();
    is_ready(&daemon.http).await;
    mailed(&world, "held").await;

    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    is_unready(&daemon.http, "handout.sqlite cannot be reached since").await;
    database.execute_batch("ROLLBACK").unwrap();
    is_ready(&daemon.http).await;
    daemon.stops(&config).await;
    let log = daemon_log(&config);
    assert!(!log.contains("could not receive messages"), "{log}");
}

#[tokio::test]
async fn a_start_waits_for_a_region_that_the_instance_may_know() {
    let silent = Line::silent().await;
    let (mut world, _) = with_credentials_of("/bin/false");
    let far = world.config.connections.get_mut("far").unwrap();
    *far = ConnectionConfig::default();
    let config = world.written();
    let url = silent.url();
    let mut variables = vec![
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    let daemon = Daemon::launch(&config, &variables);
    is_live(&daemon).await;
    is_unready(
        &daemon.http,
        "starting: the configuration's connections.far.region is missing",
    )
    .await;
    daemon.stops(&config).await;

    variables.push(("AWS_EC2_METADATA_DISABLED", "true"));
    let (code, _) = Daemon::launch(&config, &variables).end().await;
    assert_eq!(code, Some(78), "it cannot come from anywhere");
}

#[tokio::test]
async fn an_idle_daemon_ends_soon_while_a_download_is_slow() {
    let world = World::new().object("a.pdf", &"x".repeat(32 << 20));
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("large"));
    mailed(&world, "large").await;
    let link = world.mails()[0].hrefs[0].clone();
    let (host, path) = link
        .strip_prefix("http://")
        .and_then(|link| link.split_once('/'))
        .unwrap();
    let mut download = TcpStream::connect(host).unwrap();
    write!(download, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut begin = [0; 12];
    download.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_millis(3500), "{took:?}");
}

/// A supervisor, or a proxy before it, that does not read what the daemon says to it.
#[tokio::test]
async fn a_notify_socket_that_is_full_blocks_nothing() {
    let world = World::new().object("a.pdf", "x");
    let path = world.dir.path().join("notify");
    let _supervisor = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let filling = std::os::unix::net::UnixDatagram::unbound().unwrap();
    filling.set_nonblocking(true).unwrap();
    while filling.send_to(b"X=1", &path).is_ok() {}
    let config = world.written();
    let socket = path.to_str().unwrap();
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "2000000")];
    let daemon = Daemon::start(&config, &variables).await;
    is_ready(&daemon.http).await;
    for job in ["one", "two"] {
        submit(&config, &email_job(job));
        mailed(&world, job).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    daemon.signal("TERM");
    let (code, took) = daemon.end().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// More headers than are read, which no object can be the cause of where objects are listed.
#[tokio::test]
async fn listings_with_too_long_a_head_are_an_outage_and_park_no_job() {
    let (world, line) = with_a_line().await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    let headers = (0..120).map(|n| format!("x-header-{n}: 1\r\n"));
    let headers: String = headers.collect();
    let answer =
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    line.becomes(Mode::Says(answer.leak()));
    submit(&config, &far_job("late"));
    is_unready(&daemon.http, "the head of the answer is too long").await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    line.becomes(Mode::Open);
    is_ready(&daemon.http).await;
    mailed(&world, "late").await;
    daemon.stops(&config).await;
}

/// The kernel gives a signal to the first thread of a process, and one that waits for a disk does not take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_a_disk_blocks_ends_when_it_is_told() {
    let Some(parts) = Parts::or_skip("a_command_that_a_disk_blocks") else {
        return;
    };
    let world = World::new();
    let hangs = world.dir.path().join("hangs");
    fs::create_dir(&hangs).unwrap();
    let Some(mount) = parts.hung_mount_or_skip("a_command_that_a_disk_blocks", &hangs) else {
        return;
    };
    let hangs = hangs.to_str().unwrap();
    for (words, code) in [
        (&["access", "read", hangs][..], 69),
        (&["access", "read", hangs, "--follow"], 69),
    ] {
        let mut reader = Command::new(program())
            .args(words)
            .arg("--config")
            .arg(world.written())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(reader.try_wait().unwrap().is_none(), "{words:?} is blocked");
        let told = Instant::now();
        let pid = reader.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let ended = until("the end of a blocked command", async || {
            reader.try_wait().unwrap()
        })
        .await;
        assert_eq!(ended.code(), Some(code), "{words:?}");
        assert!(told.elapsed() < Duration::from_secs(12), "{words:?}");
    }
    drop(mount);
}
