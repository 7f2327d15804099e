//! What hangs or lies in ways that are harder to see than silence: answers that begin and do not end, pages of what stands in
//! front of a store, a log that nothing reads, credentials that do not come, files that block.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::{far_job, is_ready, is_unready, mailed, ready, with_a_line};
use crate::support::get;
use crate::support::line::Mode;
use crate::support::world::{World, email_job};

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
    daemon.signal("TERM");
    assert_eq!(daemon.end().await.0, Some(0), "{}", daemon_log(&config));
}
