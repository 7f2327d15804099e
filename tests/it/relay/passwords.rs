//! A relay's password that changes while the program runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64ct::{Base64, Encoding};
use handout::clock;
use handout::config::{SmtpConfig, Tls};
use handout::deliver::smtp::Relay;
use handout::environment::Environment;
use handout::progress::Progress;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::through;
use crate::support::bad_relay::{BadRelay, Habit, Rule};
use crate::support::until;
use crate::support::world::{World, email_job};

/// A folder as Kubernetes mounts a secret: each version beside the others, and links to the one that counts.
fn mounted(folder: &Path, version: &str, password: &str) {
    fs::create_dir_all(folder.join(version)).unwrap();
    fs::write(folder.join(version).join("password"), password).unwrap();
    symlink(version, folder.join("..new")).unwrap();
    fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    drop(symlink("..data/password", folder.join("password")));
}

fn plain(password: &str) -> String {
    Base64::encode_string(format!("\0handout\0{password}").as_bytes())
}

#[tokio::test]
async fn a_relays_password_that_kubernetes_exchanges_is_used_for_the_next_session_without_sighup() {
    // Each mail has a session of its own.
    let closes = Rule {
        step: "DOT",
        at: 0,
        habit: Habit::KeepSayAndClose("250 ok".to_owned()),
    };
    let relay = BadRelay::start(vec![closes]).await;
    let mut world = World::new().object("a.pdf", "x");
    through(&mut world, relay.port);
    let secret = world.dir.path().join("secret");
    mounted(&secret, "..v1", "one\n");
    world.config.mail.smtp.username = Some("handout".to_owned());
    world.config.mail.smtp.password_file = Some(secret.join("password"));
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    for (id, version, password) in [("first", "..v1", "one"), ("second", "..v2", "two")] {
        if version != "..v1" {
            mounted(&secret, version, password);
        }
        let before = relay.kept().len();
        submit(&config, &email_job(id));
        until("the mail", async || {
            (relay.kept().len() > before).then_some(())
        })
        .await;
        assert_eq!(relay.logins().last(), Some(&plain(password)));
    }
    // A file that is gone for a moment keeps no mail waiting.
    fs::remove_file(secret.join("..data")).unwrap();
    let before = relay.kept().len();
    submit(&config, &email_job("third"));
    until("the mail", async || {
        (relay.kept().len() > before).then_some(())
    })
    .await;
    assert_eq!(relay.logins().last(), Some(&plain("two")));
    daemon.stops(&config).await;
    let log = daemon_log(&config);
    let told = log
        .matches("the password file of the relay changed")
        .count();
    assert_eq!(told, 1, "{log}");
    assert!(!log.contains(&plain("two")), "{log}");
}

/// A relay that takes one password and exchanges the program's file while the first session greets.
async fn rotating(taken: &'static str, file: std::path::PathBuf, next: &'static str) -> Rotating {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let logins = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let seen = std::sync::Arc::clone(&logins);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let is_first = seen.lock().unwrap().is_empty();
            if is_first {
                fs::write(&file, next).unwrap();
            }
            drop(session(stream, taken, &seen).await);
        }
    });
    Rotating {
        port,
        logins,
        _tasks: tasks,
    }
}

struct Rotating {
    port: u16,
    logins: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    _tasks: tokio::task::JoinSet<()>,
}

async fn session(
    stream: TcpStream,
    taken: &str,
    logins: &std::sync::Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 rotating.example\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["EHLO", ..] => "250-rotating.example\r\n250 AUTH PLAIN\r\n",
            ["AUTH", "PLAIN", said] => {
                logins.lock().unwrap().push(said.to_owned());
                match said == plain(taken) {
                    true => "235 welcome\r\n",
                    false => "535 5.7.8 wrong\r\n",
                }
            }
            ["QUIT"] => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

#[tokio::test]
async fn a_login_that_is_refused_is_tried_once_more_with_the_password_that_the_file_has_by_then() {
    for (taken, next, logins, works) in [
        ("two", "two", vec!["one", "two"], true),
        // The same again is not sent again: relays lock accounts.
        ("two", "one", vec!["one"], false),
        ("two", "three", vec!["one", "three"], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "one").unwrap();
        let relay = rotating(taken, file.clone(), next).await;
        let smtp = SmtpConfig {
            host: "127.0.0.1".to_owned(),
            port: relay.port,
            tls: Tls::None,
            username: Some("handout".to_owned()),
            password_file: Some(file),
            ..SmtpConfig::default()
        };
        let environment = Environment::default();
        let progress = Progress::default();
        let client = Relay::new(
            "mail.smtp",
            &smtp,
            "acme.example",
            &environment,
            progress,
            clock::system,
        );
        let probed = client.unwrap().probe().await;
        assert_eq!(probed.is_ok(), works, "{next}: {probed:?}");
        let logins: Vec<String> = logins.into_iter().map(plain).collect();
        assert_eq!(*relay.logins.lock().unwrap(), logins, "{next}");
    }
}
