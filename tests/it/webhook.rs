//! `results.url`: results as signed POSTs, to a receiver that verifies them by the reference library of Standard Webhooks.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::docs::page;
use crate::support::servers::{Parts, Server};
use crate::support::world::{World, email_job, free_address};
use crate::support::{get, until};

/// The example of the standard's own tests.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A world whose results are posted, and the receiver of them.
fn world(test: &str, secrets: &str) -> Option<(World, Server)> {
    let parts = Parts::or_skip(test)?;
    let receiver = parts.start("webhook.py", &[SECRET]);
    let world = World::new().object("a.pdf", "x");
    let file = world.dir.path().join("webhook-secret");
    fs::write(&file, secrets).unwrap();
    let world = world.configured(|config| {
        config.http.listen = free_address();
        config.results.url = Some(format!(
            "{}/T0/secret-path?sig=secret-query",
            receiver.url()
        ));
        config.results.secret_file = Some(file);
    });
    Some((world, receiver))
}

async fn posts(receiver: &Server) -> Vec<Value> {
    let text = get(&format!("{}/posts", receiver.url())).await.1;
    serde_json::from_slice(&text).unwrap()
}

async fn plan(receiver: &Server, answers: &Value) {
    let answers = answers.to_string().replace('"', "%22");
    get(&format!("{}/plan?{answers}", receiver.url())).await;
}

async fn taken(receiver: &Server, count: usize) -> Vec<Value> {
    until("the results", async || {
        let posts = posts(receiver).await;
        let taken: Vec<Value> = posts
            .into_iter()
            .filter(|post| post["answer"] == 204)
            .collect();
        (taken.len() == count).then_some(taken)
    })
    .await
}

#[tokio::test]
async fn a_result_is_posted_with_a_signature_that_the_reference_library_accepts() {
    let Some((world, receiver)) = world("a_result_is_posted", &format!("{SECRET}\n")) else {
        return;
    };
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("acme-1"));
    let mut parked = email_job("acme-2");
    parked["email"]["to"] = json!(["eve@elsewhere.example"]);
    submit(&config, &parked);
    let mut taken = taken(&receiver, 2).await;
    daemon.stops(&config).await;
    taken.sort_by_key(|post| post["body"]["job"].to_string());
    let (done, refused) = (&taken[0], &taken[1]);
    assert_eq!(
        (&done["is_valid"], &refused["is_valid"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(done["path"], "/T0/secret-path?sig=secret-query");
    assert_eq!(
        (&done["body"]["job"], &done["body"]["accepted"]),
        (&json!("acme-1"), &json!(1))
    );
    assert_eq!(
        done["body"]["text"],
        "acme-1 is done: 1 link, 1 mail accepted"
    );
    assert_eq!(refused["body"]["outcome"], "parked");
    let text = refused["body"]["text"].as_str().unwrap();
    assert!(text.starts_with("acme-2 was parked: "), "{text}");
    assert_ne!(done["id"], refused["id"]);
    assert!(
        !daemon_log(&config).contains("secret-"),
        "the URL is a secret"
    );
}

#[tokio::test]
async fn a_result_is_posted_again_under_its_id_until_it_is_taken_and_the_job_is_done_once() {
    let Some((world, receiver)) = world("a_result_is_posted_again", SECRET) else {
        return;
    };
    plan(&receiver, &json!([500, 404, 302, 503, 429])).await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("acme-1"));
    let taken = taken(&receiver, 1).await;
    let all = posts(&receiver).await;
    let answers: Vec<&Value> = all.iter().map(|post| &post["answer"]).collect();
    assert_eq!(
        answers,
        [500, 404, 302, 503, 429, 204],
        "in order, each once"
    );
    assert!(
        all.iter().all(|post| post["id"] == taken[0]["id"]),
        "{all:?}"
    );
    assert!(
        all.iter().all(|post| post["path"] != "/elsewhere"),
        "no redirect is followed"
    );
    // Taken with a page that is longer than any that is read.
    plan(&receiver, &json!([200])).await;
    submit(&config, &email_job("acme-2"));
    until("the second result", async || {
        (posts(&receiver).await.len() == all.len() + 1).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    assert_eq!(posts(&receiver).await.len(), all.len() + 1, "once");
    assert_eq!((world.mails().len(), world.waiting().await), (2, 0));
    let log = daemon_log(&config);
    assert!(!log.contains("a job's result is lost"), "{log}");
    assert!(
        log.contains("the receiver of results at 127.0.0.1"),
        "{log}"
    );
    assert!(!log.contains("secret-"), "{log}");
}

/// What the receiver rejects for what it holds, it rejects again: it is logged, and the message is settled.
#[tokio::test]
async fn a_result_that_is_rejected_for_good_is_logged_and_holds_nothing_up() {
    let Some((world, receiver)) = world("a_result_that_is_rejected", SECRET) else {
        return;
    };
    plan(&receiver, &json!([422])).await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("acme-1"));
    until("the first", async || {
        (!posts(&receiver).await.is_empty()).then_some(())
    })
    .await;
    submit(&config, &email_job("acme-2"));
    let taken = taken(&receiver, 1).await;
    assert_eq!(taken[0]["body"]["job"], "acme-2");
    daemon.stops(&config).await;
    assert_eq!(posts(&receiver).await.len(), 2);
    let log = daemon_log(&config);
    assert!(log.contains("a job's result is lost"), "{log}");
}

/// A receiver that accepts the connection and never answers keeps a job's slot for seconds, and the stop does not wait for it. Its return
/// is noticed within seconds, though the requests of the outage stay without an answer.
#[tokio::test]
async fn a_silent_receiver_makes_an_outage_that_ready_shows() {
    let Some((world, receiver)) = world("a_silent_receiver", SECRET) else {
        return;
    };
    plan(&receiver, &json!(vec!["hang"; 20])).await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("acme-1"));
    let ready = format!("http://{}/ready", daemon.http);
    until("the outage", async || {
        let (status, text) = get(&ready).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        (status == 503 && text.contains("the receiver of results at")).then_some(())
    })
    .await;
    plan(&receiver, &json!([])).await;
    taken(&receiver, 1).await;
    // The first request hung alone. Beside the second, which found the receiver failing, there were copies.
    let all = posts(&receiver).await;
    let hung = all.iter().filter(|post| post["answer"] == "hang").count();
    assert!(hung >= 4, "{hung}");
    assert!(all.iter().all(|post| post["id"] == all[0]["id"]));
    let took = daemon.stops(&config).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(world.mails().len(), 1);
}

/// The status says that the result was taken.
#[tokio::test]
async fn a_receiver_whose_page_never_ends_has_taken_the_result() {
    let Some((world, receiver)) = world("an_endless_page", SECRET) else {
        return;
    };
    plan(&receiver, &json!(["endless", "endless"])).await;
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("acme-1"));
    until("the end of the job", async || {
        (world.mails().len() == 1 && world.waiting().await == 0).then_some(())
    })
    .await;
    until("the post", async || {
        (!posts(&receiver).await.is_empty()).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    assert_eq!(posts(&receiver).await.len(), 1);
    assert_eq!(world.waiting().await, 0);
}

/// While one secret replaces another, both sign.
#[tokio::test]
async fn two_secrets_sign_at_the_same_time() {
    let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let Some((world, receiver)) = world("two_secrets_sign", &format!("{other}\n{SECRET}\n")) else {
        return;
    };
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("acme-1"));
    let taken = taken(&receiver, 1).await;
    assert_eq!(taken[0]["is_valid"], true);
    daemon.stops(&config).await;
}

#[tokio::test]
async fn a_receiver_that_cannot_be_used_is_refused_at_the_start() {
    for (url, secret, words) in [
        (
            "http://hooks.acme.example/x",
            SECRET,
            "results.url would send results in the clear",
        ),
        (
            "hooks.acme.example",
            SECRET,
            "results.url is no URL of a server",
        ),
        (
            "https://hooks.acme.example/x",
            "hunter2",
            "results.secret_file holds a line that is no secret",
        ),
        ("https://hooks.acme.example/x", "", "which is empty"),
    ] {
        let world = World::new();
        let file = world.dir.path().join("webhook-secret");
        fs::write(&file, secret).unwrap();
        let world = world.configured(|config| {
            config.results.url = Some(url.to_owned());
            config.results.secret_file = Some(file);
        });
        let mut check = Command::new(crate::support::program());
        check.arg("check").arg("--config").arg(world.written());
        let output = check.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            !output.status.success() && said.contains(words),
            "{words}: {said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// A chat that takes what is posted to it, as Slack and Teams do: without a look at a signature.
fn chat() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, posts) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            stream.get_mut().write_all(answer).unwrap();
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, posts)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_of_the_guide_posts_the_sentence_of_a_result_to_slack_and_to_teams() {
    let Some(parts) = Parts::or_skip("the_relay_of_the_guide") else {
        return;
    };
    let guide = page("docs/jobs/results.md");
    let scripts = guide.blocks("python");
    let [script] = scripts.as_slice() else {
        panic!("the page has one script");
    };
    for (kind, place) in [
        ("slack", "/text"),
        ("teams", "/attachments/0/content/body/0/text"),
    ] {
        let (chat_url, posts) = chat();
        let world = World::new().object("a.pdf", "x");
        let dir = world.dir.path().to_owned();
        fs::write(dir.join("webhook-secret"), format!("{SECRET}\n")).unwrap();
        fs::write(dir.join("relay.py"), script).unwrap();
        let address = free_address();
        let mut relay = Command::new(parts.python())
            .arg("relay.py")
            .current_dir(&dir)
            .env("CHAT", kind)
            .env("CHAT_URL", chat_url)
            .env("PORT", address.port().to_string())
            .spawn()
            .unwrap();
        until("the relay", async || TcpStream::connect(address).ok()).await;
        let world = world.configured(|config| {
            config.results.url = Some(format!("http://{address}/"));
            config.results.secret_file = Some(dir.join("webhook-secret"));
        });
        let config = world.written();
        let daemon = Daemon::start(&config, &[]).await;
        submit(&config, &email_job("acme-1"));
        let posted = until("the post", async || posts.try_recv().ok()).await;
        daemon.stops(&config).await;
        let text = posted.pointer(place).and_then(Value::as_str);
        assert_eq!(
            text,
            Some("acme-1 is done: 1 link, 1 mail accepted"),
            "{posted}"
        );
        // What is not signed is not passed on.
        let mut forger = TcpStream::connect(address).unwrap();
        let forged = b"POST / HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"text\":\"x\"}\r\n";
        forger.write_all(forged).unwrap();
        let mut answer = String::new();
        BufReader::new(forger).read_line(&mut answer).unwrap();
        assert!(answer.contains(" 401 "), "{answer}");
        assert!(posts.try_recv().is_err());
        relay.kill().unwrap();
        relay.wait().unwrap();
    }
}
