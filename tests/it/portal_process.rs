//! The portal in its process: beside the worker and alone, with TLS of its own, reloaded and stopped; and its log.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handout::config::PortalDelivery;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::is_ready;
use crate::support::portal::{Visitor, portal_job, portal_world};
use crate::support::servers::Parts;
use crate::support::world::World;
use crate::support::{get, program, until};

/// The first link of the portal in a world's only mail.
fn link(world: &World) -> Option<String> {
    let mails = world.mails();
    let mail = mails.first()?;
    mail.hrefs.iter().find(|url| url.contains("/d/")).cloned()
}

#[tokio::test]
async fn the_daemon_serves_the_portal_counts_opens_and_logs_no_secret() {
    let world = portal_world(|_| {}).object("a.csv", "a,b\n");
    let config = world.written();
    let daemon = Daemon::start(&config, &[("HANDOUT_LOG", "debug"), ("RUST_LOG", "debug")]).await;
    submit(&config, &portal_job("daily", json!({})));
    let link = until("the mail", async || link(&world)).await;
    let reader = Visitor::default();
    let page = reader.open(&link).await;
    assert_eq!(page.status, 200);
    let form = format!("ticket={}", page.field("ticket"));
    let opened = reader.submit(&link, &form).await;
    assert_eq!(opened.status, 303);
    let forged = link.replace("/d/", "/d/0");
    assert_eq!(reader.open(&forged).await.status, 404);
    let (origin, _) = link.split_once("/d/").unwrap();
    assert_eq!(reader.open(&format!("{origin}/")).await.status, 404);
    let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in [
        "handout_portal_opens_total{how=\"button\"} 1",
        "handout_portal_refused_total{reason=\"forged\"} 1",
        "handout_portal_refused_total{reason=\"other_path\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!(get(&format!("http://{}/ready", daemon.http)).await.0, 200);

    // A reload changes what pages say, and a wrong one nothing.
    let elsewhere = format!(
        "{}/elsewhere",
        world.config.portal.public_url.as_ref().unwrap()
    );
    let text = fs::read_to_string(&config).unwrap();
    let changed = text.replace("desk@acme.example", "help@acme.example");
    assert_ne!(text, changed);
    fs::write(&config, &changed).unwrap();
    daemon.signal("HUP");
    until("the reload", async || {
        // The pages of a job name its own contact.
        let page = reader.open(&elsewhere).await;
        page.body.contains("help@acme.example").then_some(())
    })
    .await;
    let wrong = changed.replace("open = \"page\"", "open = \"nonsense\"");
    assert_ne!(wrong, changed);
    fs::write(&config, wrong).unwrap();
    daemon.signal("HUP");
    until("the refusal", async || {
        daemon_log(&config)
            .contains("could not reload")
            .then_some(())
    })
    .await;
    assert!(
        reader
            .open(&elsewhere)
            .await
            .body
            .contains("help@acme.example")
    );
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let log = daemon_log(&config);
    let token = link.rsplit('/').next().unwrap();
    let location = opened.header("location");
    let signature = location.split("X-Amz-Signature=").nth(1).unwrap();
    for secret in [token, &signature[..32], &form, "ann@acme.example"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn the_portal_alone_ends_tls_with_the_newest_certificate() {
    let Some(parts) = Parts::or_skip("the_portal_alone_ends_tls") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for dir in [&first, &second] {
        fs::create_dir(dir).unwrap();
        parts.make_ca(dir);
    }
    let (authority, certificate, key) = ("ca.pem", "server.pem", "server.key");
    let used = folder.path().join("used");
    fs::create_dir(&used).unwrap();
    let take = |from: &Path| {
        for name in [certificate, key] {
            fs::copy(from.join(name), used.join(name)).unwrap();
        }
    };
    take(&first);
    let mut world = portal_world(|portal| {
        let port = portal.listen.unwrap().port();
        portal.public_url = Some(format!("https://localhost:{port}"));
        portal.tls_cert_file = Some(used.join(certificate));
        portal.tls_key_file = Some(used.join(key));
    })
    .object("a.csv", "a,b\n")
    .job(&portal_job("daily", json!({})));
    world.run().await;
    let link = link(&world).unwrap();
    let config = world.written();
    let log = fs::File::create(config.with_extension("log")).unwrap();
    let mut command = Command::new(program());
    let command = command.args(["portal", "--config"]).arg(&config);
    let mut child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
    let curl = async |ca: &Path| {
        let mut curl = tokio::process::Command::new("curl");
        let ca = ca.join(authority);
        let output = curl
            .arg("-si")
            .arg("--cacert")
            .arg(ca)
            .arg(&link)
            .output()
            .await
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answered = until("the portal", async || {
        let answered = curl(&first).await;
        (!answered.is_empty()).then_some(answered)
    })
    .await;
    assert!(
        answered.starts_with("HTTP/1.1 302"),
        "{answered}\n{}",
        daemon_log(&config)
    );
    assert!(
        answered.contains("strict-transport-security: max-age="),
        "{answered}"
    );
    assert_eq!(
        get(&format!("http://{}/ready", world.config.http.listen))
            .await
            .0,
        200
    );
    // Broken files change nothing; new ones are taken over.
    fs::write(used.join(certificate), "no certificate").unwrap();
    until("the error", async || {
        daemon_log(&config)
            .contains("could not replace a certificate")
            .then_some(())
    })
    .await;
    assert!(curl(&first).await.starts_with("HTTP/1.1 302"));
    take(&second);
    until("the new certificate", async || {
        curl(&second)
            .await
            .starts_with("HTTP/1.1 302")
            .then_some(())
    })
    .await;
    let status = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
    let ended = until("its end", async || child.try_wait().unwrap()).await;
    assert_eq!(ended.code(), Some(0), "{}", daemon_log(&config));
}

/// Cuts the segments of the audit log to nothing, as logrotate's `copytruncate` does.
fn cut_audit_log(world: &World) {
    for entry in fs::read_dir(world.config.state_dir.join("audit")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            fs::write(path, "").unwrap();
        }
    }
}

/// A daemon of which `world` is told to break something while a reader takes a file: it says the sentence, and ends with 65.
async fn ends_while_a_reader_takes_a_file(break_it: impl Fn(&World), sentence: &str) {
    let text = "x".repeat(32 << 20);
    let mut world = portal_world(|portal| portal.deliver = PortalDelivery::Stream);
    world.config.queue.grace_period = "2s".parse().unwrap();
    let world = world.object("a.csv", &text);
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &portal_job("daily", json!({})));
    let link = until("the mail", async || link(&world)).await;
    let origin = world.config.portal.public_url.as_ref().unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: localhost\r\nuser-agent: curl/8\r\naccept: */*\r\n\r\n",
        link.strip_prefix(origin).unwrap()
    );
    let listen = world.config.portal.listen.unwrap();
    let mut reader = tokio::net::TcpStream::connect(listen).await.unwrap();
    reader.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    reader.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    break_it(&world);
    let failed = tokio::time::Instant::now();
    // Jobs do not keep it, so that /ready may have no time to say it.
    until("the sentence", async || {
        daemon_log(&config).contains(sentence).then_some(())
    })
    .await;
    let (code, _) = daemon.end().await;
    let took = failed.elapsed();
    assert_eq!(code, Some(65), "{}", daemon_log(&config));
    // The server of the portal itself waits half a minute for a reader that takes nothing.
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(reader);
}

#[tokio::test]
async fn a_failed_audit_log_ends_the_daemon_while_a_reader_takes_a_file() {
    let cut = |world: &World| {
        cut_audit_log(world);
        submit(&world.written(), &portal_job("after", json!({})));
    };
    ends_while_a_reader_takes_a_file(cut, "was changed by another process").await;
}

#[tokio::test]
async fn a_removed_database_ends_the_daemon_while_a_reader_takes_a_file() {
    let remove = |world: &World| fs::remove_file(world.config.database_file()).unwrap();
    ends_while_a_reader_takes_a_file(remove, "was removed or replaced while").await;
}

/// `handout portal` with the configuration of a world, and where it answers about its health.
async fn portal_alone(world: &World, config: &Path) -> (Child, String) {
    let log = fs::File::create(config.with_extension("log")).unwrap();
    let mut command = Command::new(program());
    let command = command.args(["portal", "--config"]).arg(config);
    let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
    until("the portal", async || {
        std::net::TcpStream::connect(world.config.portal.listen.unwrap()).ok()
    })
    .await;
    (child, world.config.http.listen.to_string())
}

#[tokio::test]
async fn the_portal_alone_ends_when_its_database_is_replaced() {
    let world = portal_world(|_| {}).object("a.csv", "a,b\n");
    let config = world.written();
    let (mut child, http) = portal_alone(&world, &config).await;
    is_ready(&http).await;
    let database = world.config.database_file();
    let backup = database.with_extension("backup");
    fs::copy(&database, &backup).unwrap();
    fs::rename(&backup, &database).unwrap();
    let ended = until("its end", async || child.try_wait().unwrap()).await;
    assert_eq!(ended.code(), Some(65), "{}", daemon_log(&config));
    assert!(daemon_log(&config).contains("was removed or replaced while"));
}

#[tokio::test]
async fn the_portal_alone_ends_when_its_audit_log_fails() {
    let mut world = portal_world(|_| {})
        .object("a.csv", "a,b\n")
        .job(&portal_job("daily", json!({})));
    world.run().await;
    let link = link(&world).unwrap();
    let config = world.written();
    let (mut child, http) = portal_alone(&world, &config).await;
    is_ready(&http).await;
    cut_audit_log(&world);
    let opened = Command::new("curl").arg("-si").arg(&link).output().unwrap();
    let opened = String::from_utf8_lossy(&opened.stdout).into_owned();
    assert!(opened.starts_with("HTTP/1.1 503"), "{opened}");
    let ended = until("its end", async || child.try_wait().unwrap()).await;
    assert_eq!(ended.code(), Some(65), "{}", daemon_log(&config));
}
