//! Programs and people that the portal was not made for: scanners of mails, slow clients, readers who go on after a revocation; and the
//! relay that its codes go through.

use std::path::PathBuf;
use std::time::Duration;

use handout::config::{PortalDelivery, Tls, Transport};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::portal::{NAVIGATES, OpenPortal, Visitor, portal_job, portal_world};
use crate::support::servers::Parts;
use crate::support::world::World;
use crate::support::{program, until};

/// The link to the first file of a job, from the mail whose subject names it.
fn link_of(world: &World, job: &str) -> String {
    let mails = world.mails();
    let mut mails = mails.iter().filter(|mail| mail.subject.contains(job));
    let mut links = mails.next().unwrap().hrefs.iter();
    links.find(|url| url.contains("/d/")).unwrap().clone()
}

fn token(link: &str) -> &str {
    link.rsplit('/').next().unwrap()
}

/// A program that opens the links of mails by itself: what it is, and what it sends with each request.
struct Scanner {
    name: &'static str,
    headers: &'static [(&'static str, &'static str)],
    /// It presses the buttons of pages, too.
    submits: bool,
}

/// From what vendors and those who were hit by it describe: see the guide, 2.3 and 2.5.
const SCANNERS: [Scanner; 8] = [
    Scanner {
        name: "Safe Links: a browser of another network, 22 s after the delivery",
        headers: &[
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/97.0.4692.71 Safari/537.36",
            ),
            ("accept", "text/html,application/xhtml+xml"),
        ],
        submits: false,
    },
    Scanner {
        name: "a scanner that presses each button 134 ms after the page",
        headers: &[
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            ),
            ("accept", "text/html"),
        ],
        submits: true,
    },
    Scanner {
        name: "Barracuda",
        headers: &[
            ("user-agent", "BarracudaCentral"),
            ("accept", "text/html, */*"),
        ],
        submits: false,
    },
    Scanner {
        name: "Slack",
        headers: &[
            (
                "user-agent",
                "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            ),
            ("accept", "text/html"),
        ],
        submits: false,
    },
    Scanner {
        name: "Teams",
        headers: &[
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
            ),
            ("accept", "text/html"),
        ],
        submits: false,
    },
    Scanner {
        name: "a browser that prefetches",
        headers: &[
            ("user-agent", "Mozilla/5.0 Chrome/148.0.0.0"),
            ("accept", "text/html"),
            ("sec-purpose", "prefetch;prerender"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "navigate"),
        ],
        submits: false,
    },
    Scanner {
        name: "Gmail's proxy of pictures",
        headers: &[
            (
                "user-agent",
                "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            ),
            ("accept", "image/*,*/*;q=0.8"),
        ],
        submits: false,
    },
    Scanner {
        name: "a prober without a name",
        headers: &[("accept", "*/*")],
        submits: false,
    },
];

impl Scanner {
    /// What it does with a link.
    async fn follow(&self, link: &str, portal: &OpenPortal) {
        let browser = Visitor::default();
        let page = browser.get(link, self.headers).await;
        browser
            .ask(hyper::Method::HEAD, link, self.headers, "")
            .await;
        if !self.submits {
            return;
        }
        tokio::time::sleep(Duration::from_millis(134)).await;
        let mut headers = self.headers.to_vec();
        headers.extend([
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", portal.origin.as_str()),
        ]);
        let post = async |url: &str, form: &str| {
            browser.ask(hyper::Method::POST, url, &headers, form).await
        };
        if page.status == 401 {
            let form = format!("token={}&address=test%40test.example", token(link));
            post(&portal.url("/sign-in"), &form).await;
            let form = format!("token={}&code=12345678", token(link));
            post(&portal.url("/sign-in/code"), &form).await;
        } else if page.body.contains("name=\"ticket\"") {
            post(link, &format!("ticket={}", page.field("ticket"))).await;
        }
    }
}

#[tokio::test]
async fn no_scanner_becomes_a_reader_or_uses_anything_up() {
    let mut world = portal_world(|_| {})
        .object("2026/a.csv", "x")
        .job(&portal_job("plain", json!({})))
        .job(&portal_job("asked", json!({ "sign_in": "code" })));
    world.run().await;
    let links = ["plain", "asked"].map(|job| link_of(&world, job));
    let portal = OpenPortal::serve(&world).await;
    for scanner in SCANNERS {
        let seen = |what: &str| world.audit_of(what).len();
        let before = (seen("opened"), seen("code"), seen("signed_in"));
        for link in &links {
            scanner.follow(link, &portal).await;
        }
        let opened = world.audit_of("opened").split_off(before.0);
        let name = scanner.name;
        assert_eq!(
            (seen("code"), seen("signed_in")),
            (before.1, before.2),
            "{name}"
        );
        assert!(
            opened.iter().all(|line| line["job"] == "plain"),
            "{name}: {opened:?}"
        );
        assert!(
            opened.iter().all(|line| line.get("signed_in").is_none()),
            "{name}: {opened:?}"
        );
        match opened.as_slice() {
            [] => {}
            // The line says what tells it from a person: no page was shown before, or for less than a second.
            [line] if line["how"] == "direct" => {
                assert!(line.get("sec_fetch").is_none(), "{name}: {line}");
            }
            [line] => {
                assert!(scanner.submits, "{name}: {line}");
                assert!(
                    line["after_page_ms"].as_u64().unwrap() < 1_000,
                    "{name}: {line}"
                );
            }
            more => panic!("{name}: {more:?}"),
        }
    }
    // What they did has not kept the reader from anything.
    let reader = Visitor::default();
    assert_eq!(reader.open(&links[0]).await.status, 200);
    let sign_in = portal.url("/sign-in");
    let form = format!("token={}&address=ann%40acme.example", token(&links[1]));
    assert_eq!(reader.submit(&sign_in, &form).await.status, 200);
    until("the code", async || {
        (world.audit_of("code").len() == 1).then_some(())
    })
    .await;
    portal.close().await;
}

/// The bytes that come until the connection ends, or for as long as `within`.
async fn rest_of(stream: &mut tokio::net::TcpStream, within: Duration) -> (usize, bool) {
    let (mut total, mut bytes) = (0, vec![0; 65_536]);
    loop {
        match timeout(within, stream.read(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => return (total, true),
            Ok(Ok(count)) => total += count,
            Err(_) => return (total, false),
        }
    }
}

#[tokio::test]
async fn a_revoked_stream_ends_and_a_slow_reader_holds_little_of_it() {
    const SIZE: usize = 12_000_000;
    let world = portal_world(|portal| portal.deliver = PortalDelivery::Stream);
    let mut world = world
        .object("2026/big.bin", &"0123456789ab".repeat(SIZE / 12))
        .job(&portal_job("daily", json!({ "open": "direct" })));
    world.run().await;
    let link = link_of(&world, "daily");
    let portal = OpenPortal::serve(&world).await;
    let socket = TcpSocket::new_v4().unwrap();
    // The reader's own buffers shall not take the file.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let address = world.config.portal.listen.unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /d/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        token(&link)
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).await.unwrap();
    assert!(
        first.starts_with(b"HTTP/1.1 200"),
        "{:?}",
        String::from_utf8_lossy(&first)
    );
    let config = world.written();
    let mut command = Command::new(program());
    let revoked = command
        .args(["revoke", "job", "daily", "--config"])
        .arg(&config);
    assert!(revoked.output().await.unwrap().status.success());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (rest, ended) = rest_of(&mut stream, Duration::from_secs(10)).await;
    assert!(ended, "the stream goes on");
    // What the kernel and this process held for a reader who did not read; not the megabytes of an unbounded buffer.
    assert!(rest < 2_000_000, "{rest} bytes came after the revocation");
    portal.close().await;
}

#[tokio::test]
async fn a_form_that_does_not_come_keeps_no_place_and_delays_no_stop() {
    let mut world = portal_world(|_| {})
        .object("2026/a.csv", "x")
        .job(&portal_job("daily", json!({})));
    world.run().await;
    let portal = OpenPortal::serve(&world).await;
    let address = world.config.portal.listen.unwrap();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = "POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nt";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let link = link_of(&world, "daily");
    assert_eq!(Visitor::default().open(&link).await.status, 200);
    // Each would be waited for as long as `queue.grace_period`, were it a request that is being answered.
    timeout(Duration::from_secs(5), portal.close())
        .await
        .expect("the stop waits for none of them");
    for stream in &mut slow {
        let (_, ended) = rest_of(stream, Duration::from_secs(1)).await;
        assert!(ended);
    }
}

#[tokio::test]
async fn a_code_goes_through_the_relay_with_digits_and_no_link() {
    let test = "a_code_goes_through_the_relay_with_digits_and_no_link";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let maildir = folder.path().join("mail");
    std::fs::create_dir(&maildir).unwrap();
    let relay = parts.start("smtp_sink.py", &["--maildir", maildir.to_str().unwrap()]);
    let port = relay.port;
    let world = portal_world(|_| {}).configured(move |config| {
        config.mail.transport = Transport::Smtp;
        config.mail.from = "Reports <reports@sender.example>".to_owned();
        let smtp = &mut config.mail.smtp;
        (smtp.host, smtp.port, smtp.tls) = ("127.0.0.1".to_owned(), port, Tls::None);
    });
    let mut world = world
        .object("2026/a.csv", "x")
        .job(&portal_job("daily", json!({ "sign_in": "code" })));
    world.run().await;
    let mails = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&maildir).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        paths
            .iter()
            .map(|path| path.with_extension("eml"))
            .collect()
    };
    let report = parts.parse_mails(&mails()).remove(0);
    let hrefs = report["hrefs"].as_array().unwrap();
    let mut links = hrefs.iter().filter_map(Value::as_str);
    let link = links.find(|url| url.contains("/d/")).unwrap();
    let portal = OpenPortal::serve(&world).await;
    let reader = Visitor::default();
    assert_eq!(reader.get(link, &NAVIGATES).await.status, 401);
    let form = format!("token={}&address=ann%40acme.example", token(link));
    reader.submit(&portal.url("/sign-in"), &form).await;
    let path = until("the mail", async || mails().into_iter().nth(1)).await;
    let mail = parts.parse_mails(std::slice::from_ref(&path)).remove(0);
    let envelope: Value =
        serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
    assert_eq!(envelope["to"], json!(["ann@acme.example"]));
    assert_eq!(mail["hrefs"], json!([]), "{mail}");
    assert_eq!(mail["defects"], json!([]), "{mail}");
    let text = mail["text"].as_str().unwrap();
    assert!(!text.contains("://"), "{text}");
    let code = text.lines().map(str::trim).find(|line| {
        line.len() == 9
            && line
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b' ')
    });
    let form = format!(
        "token={}&code={}",
        token(link),
        code.unwrap().replace(' ', "+")
    );
    let signed_in = reader.submit(&portal.url("/sign-in/code"), &form).await;
    assert_eq!(signed_in.status, 303, "{signed_in:?}");
    assert_eq!(reader.get(link, &NAVIGATES).await.status, 200);
    portal.close().await;
}
