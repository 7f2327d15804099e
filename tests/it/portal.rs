//! The portal as its readers meet it: pages, buttons, programs, codes, revocation, and abuse.

use std::path::Path;
use std::time::Duration;

use handout::clock;
use handout::config::PortalDelivery;
use handout::portal_token::{ObjectSlot, PortalKeys, PortalToken};
use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::portal::{NAVIGATES, OpenPortal, SUBMITS, Visitor, portal_job, portal_world};
use crate::support::servers::{Parts, browser_or_skip, is_missing, skipped_for};
use crate::support::world::{SeenMail, World};
use crate::support::{answer, program, until};

const FILE: &str = "name,amount\nharbour,12\n";

/// A world that has mailed the links of one job to Ann.
async fn mailed(world: World, links: serde_json::Value) -> (World, SeenMail) {
    let mut world = world
        .object("2026/a.csv", FILE)
        .object("2026/b.txt", "second")
        .job(&portal_job("daily", links));
    world.run().await;
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "{:?}", world.parked().await);
    let mail = mails.into_iter().next().unwrap();
    (world, mail)
}

/// The link to the file whose saved name ends so.
fn file_link(mail: &SeenMail, number: usize) -> String {
    let mut links = mail.hrefs.iter().filter(|url| url.contains("/d/"));
    links
        .nth(number)
        .unwrap_or_else(|| panic!("{:?}", mail.hrefs))
        .clone()
}

/// The link to the page of all files of a link's reader.
fn page_link(portal: &OpenPortal, link: &str) -> String {
    let keys = PortalKeys::new(&portal.opened.services.signing.keyring);
    let of_page = PortalToken {
        object: ObjectSlot::PAGE,
        ..keys.open(token(link)).unwrap()
    };
    portal.url(&format!("/j/{}", keys.seal(&of_page).expose()))
}

/// The token of a link.
fn token(link: &str) -> &str {
    link.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn the_button_of_a_page_opens_the_file_after_its_line() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    assert_eq!(token(&link).len(), 44);
    let reader = Visitor::default();
    let page = reader.open(&link).await;
    assert_eq!(page.status, 200, "{page:?}");
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex, nofollow, noarchive"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    let policy = page.header("content-security-policy");
    let store = &world.config.embedded.public_url;
    assert!(
        policy.contains(&format!("form-action 'self' {store}")),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(
        page.body.contains("a.csv") && page.body.contains("desk@acme.example"),
        "{page:?}"
    );
    assert!(world.audit_of("opened").is_empty(), "a page is no open");

    // Without the ticket, or without the browser's cookie, the button shows the page again.
    assert_eq!(reader.submit(&link, "").await.status, 200);
    let form = format!("ticket={}", page.field("ticket"));
    assert_eq!(Visitor::default().submit(&link, &form).await.status, 200);
    assert!(world.audit_of("opened").is_empty());

    let opened = reader.submit(&link, &form).await;
    assert_eq!(opened.status, 303, "{opened:?}");
    assert_eq!(opened.header("cache-control"), "no-store");
    assert_eq!(opened.header("referrer-policy"), "no-referrer");
    let location = opened.header("location");
    assert!(location.starts_with(store.as_str()), "{location}");
    let (status, _, body) = answer(location).await;
    assert_eq!((status, body.as_slice()), (200, FILE.as_bytes()));
    let lines = world.audit_of("opened");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["how"], "button");
    let open = lines[0]["open"].as_str().unwrap();
    assert!(
        location.contains(&format!("x-handout-open={open}")),
        "{location}"
    );
    portal.close().await;
}

#[tokio::test]
async fn a_link_in_capitals_works_and_a_cut_one_is_the_same_404_as_any() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    let capitals = portal.url(&format!("/d/{}", token(&link).to_uppercase()));
    let reader = Visitor::default();
    let page = reader.open(&capitals).await;
    assert_eq!(page.status, 200);
    let form = format!("ticket={}", page.field("ticket"));
    assert_eq!(reader.submit(&capitals, &form).await.status, 303);
    let mut bodies = Vec::new();
    let forged = "0".repeat(44);
    for path in [
        format!("/d/{}", &token(&link)[..43]),
        format!("/d/{forged}"),
        format!("/j/{forged}"),
        format!("/j/{forged}/2"),
        "/d/".to_owned(),
        "/d/%00%ff".to_owned(),
        "/d/%0d%0aSet-Cookie:x=1".to_owned(),
        "//evil.example/d/x".to_owned(),
        "/elsewhere?%3Cscript%3E".to_owned(),
    ] {
        let told = reader.open(&portal.url(&path)).await;
        assert_eq!(told.status, 404, "{path} {told:?}");
        assert!(told.headers.get("location").is_none());
        bodies.push(told.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "nothing of a request is in its answer");
    portal.close().await;
}

/// Runs a client, and returns what it wrote to stdout; `None` if it is not installed.
async fn client(dir: &Path, program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    let ran = command.args(arguments).current_dir(dir).output().await;
    let Ok(output) = ran else {
        skipped_for("portal clients", &format!("{program} is not installed"));
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some((output.status.success(), text))
}

#[tokio::test]
async fn curl_wget_and_aria2_get_the_file_and_resume_it() {
    let big = "0123456789".repeat(400_000);
    let world = portal_world(|_| {}).object("big.bin", &big);
    let (world, mail) = mailed(world, json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let link = mail
        .hrefs
        .iter()
        .filter(|url| url.contains("/d/"))
        .nth(2)
        .unwrap_or_else(|| panic!("{:?}", mail.hrefs));
    let folder = tempfile::tempdir().unwrap();
    let saved = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let half = |name: &str| std::fs::write(folder.path().join(name), &big[..1_000_000]).unwrap();

    client(folder.path(), "curl", &["-fsSLOJ", link])
        .await
        .unwrap();
    assert!(
        saved("big.bin") == big,
        "curl -OJ takes the name from the store"
    );
    half("resumed");
    client(
        folder.path(),
        "curl",
        &["-fsSL", "-C", "-", "-o", "resumed", link],
    )
    .await
    .unwrap();
    assert!(saved("resumed") == big);
    let asked = client(folder.path(), "curl", &["-sIL", link])
        .await
        .unwrap()
        .1;
    assert!(
        asked.starts_with("HTTP/1.1 200"),
        "HEAD of a page link is the page's: {asked}"
    );
    half("wget");
    if client(folder.path(), "wget", &["-q", "-c", "-O", "wget", link])
        .await
        .is_some()
    {
        assert!(saved("wget") == big);
    }
    let aria = ["-q", "-x4", "-s4", "-k1M", "-o", "aria", link];
    if client(folder.path(), "aria2c", &aria).await.is_some() {
        assert!(saved("aria") == big);
    }
    let ways: Vec<_> = world
        .audit_of("opened")
        .iter()
        .map(|line| line["how"].clone())
        .collect();
    assert!(
        ways.len() >= 2 && ways.iter().all(|how| how == "direct"),
        "{ways:?}"
    );
    portal.close().await;
}

#[tokio::test]
async fn a_direct_link_opens_at_once_and_a_head_request_is_a_probe() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({ "open": "direct" })).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    let reader = Visitor::default();
    let opened = reader.open(&link).await;
    assert_eq!(opened.status, 302, "{opened:?}");
    assert_eq!(opened.header("cross-origin-resource-policy"), "same-origin");
    assert_eq!(answer(opened.header("location")).await.2, FILE.as_bytes());
    assert_eq!(world.audit_of("opened").len(), 1);
    let folder = tempfile::tempdir().unwrap();
    let asked = client(folder.path(), "curl", &["-sIL", &link])
        .await
        .unwrap()
        .1;
    let statuses: Vec<&str> = asked
        .lines()
        .filter(|line| line.starts_with("HTTP/"))
        .collect();
    assert_eq!(
        statuses,
        ["HTTP/1.1 302 Found", "HTTP/1.1 200 OK"],
        "{asked}"
    );
    assert_eq!(
        world.audit_of("opened").len(),
        1,
        "a HEAD request is no open"
    );
    portal.close().await;
}

#[tokio::test]
async fn the_page_of_a_job_shows_its_files_and_programs_get_a_list() {
    let mut world = portal_world(|_| {})
        .object("2026/a.csv", FILE)
        .object("2026/p.png", "no");
    world = world.job(&portal_job("daily", json!({})));
    world.run().await;
    let portal = OpenPortal::serve(&world).await;
    let mail = world.mails().remove(0);
    let page = page_link(&portal, &file_link(&mail, 0));
    let reader = Visitor::default();
    let shown = reader.open(&page).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert!(
        shown.body.contains("a.csv") && shown.body.contains("p.png"),
        "{shown:?}"
    );
    assert_eq!(world.audit_of("view").len(), 1);
    assert!(world.audit_of("opened").is_empty());
    // A save of the page is one click.
    let (_, href) = shown.body.split_once("href=\"/d/").unwrap();
    let href = href.split('"').next().unwrap().replace("&#x3D;", "=");
    let from_page = [("sec-fetch-site", "same-origin"), ("accept", "text/html")];
    let saved = reader
        .get(&portal.url(&format!("/d/{href}")), &from_page)
        .await;
    assert_eq!(saved.status, 302, "{saved:?}");
    assert_eq!(world.audit_of("opened").len(), 1);
    // Another browser's ticket opens nothing.
    let other = Visitor::default()
        .get(&portal.url(&format!("/d/{href}")), &from_page)
        .await;
    assert_eq!(other.status, 200);
    let list = Visitor::default().get(&page, &[("accept", "*/*")]).await;
    assert_eq!(list.body.lines().count(), 2, "{list:?}");
    assert!(
        list.body
            .lines()
            .all(|line| line.starts_with(&portal.url("/d/"))),
        "{list:?}"
    );
    assert_eq!(reader.open(&format!("{page}/2")).await.status, 404);
    assert_eq!(reader.open(&format!("{page}/01")).await.status, 404);
    assert_eq!(
        reader.ask(Method::HEAD, &page, &NAVIGATES, "").await.status,
        200
    );
    portal.close().await;
}

/// The newest code in the outbox.
fn newest_code(world: &World, before: usize) -> Option<String> {
    let codes: Vec<SeenMail> = world
        .mails()
        .into_iter()
        .filter(|mail| mail.subject.starts_with("Your code for"))
        .collect();
    let mail = codes.get(before)?;
    let line = mail.html.lines().find(|line| {
        let digits = line.trim();
        digits.len() == 9
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b' ')
    });
    Some(
        line.unwrap_or_else(|| panic!("{}", mail.html))
            .trim()
            .to_owned(),
    )
}

#[tokio::test]
async fn a_code_by_mail_signs_in_the_browser_that_asked_once() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({ "sign_in": "code" })).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    let reader = Visitor::default();
    let asked = reader.open(&link).await;
    assert_eq!(asked.status, 401);
    assert!(
        asked.header("www-authenticate").starts_with("Handout"),
        "{asked:?}"
    );
    let by_program = Visitor::default().get(&link, &[("accept", "*/*")]).await;
    assert_eq!(by_program.status, 401);
    assert!(by_program.body.contains("sign-in"), "{by_program:?}");

    let form = |address: &str| format!("token={}&address={address}", token(&link));
    let sign_in = portal.url("/sign-in");
    let wrong = reader.submit(&sign_in, &form("bo%40acme.example")).await;
    let right = reader.submit(&sign_in, &form("Ann%40ACME.example")).await;
    assert_eq!((wrong.status, right.status), (200, 200));
    assert_eq!(
        wrong.body, right.body,
        "the answer does not tell whose link it is"
    );
    let code = until("the code", async || newest_code(&world, 0)).await;
    let codes = world
        .mails()
        .iter()
        .filter(|mail| mail.subject.contains("code"))
        .count();
    assert_eq!(codes, 1, "the wrong address got no mail");

    let take = portal.url("/sign-in/code");
    let form = format!("token={}&code={}", token(&link), code.replace(' ', "+"));
    // A code that was read in another browser opens nothing there.
    let other = Visitor::default();
    assert_eq!(other.submit(&take, &form).await.status, 401);
    let no_code = reader
        .submit(&take, &format!("token={}&code=abc", token(&link)))
        .await;
    assert_eq!(no_code.status, 401);
    let signed_in = reader.submit(&take, &form).await;
    assert_eq!(signed_in.status, 303, "{signed_in:?}");
    assert_eq!(signed_in.header("location"), format!("/d/{}", token(&link)));
    assert_eq!(reader.open(&link).await.status, 200);
    assert_eq!(world.audit_of("signed_in").len(), 1);
    assert_eq!(world.audit_of("code").len(), 1);

    // The browser that asked has used it up: the same cookie and code sign in no second time.
    let again = Visitor::default();
    let cookies = reader.cookies.lock().unwrap().clone();
    assert!(!cookies.contains_key("__Host-handout-c"), "{cookies:?}");
    *again.cookies.lock().unwrap() = cookies.clone();
    // All of Ann's files.
    let mine = reader.open(&portal.url("/mine")).await;
    assert_eq!(mine.status, 200, "{mine:?}");
    assert!(mine.body.contains("/j/"), "{mine:?}");

    let out = reader
        .submit(&portal.url("/sign-out"), &format!("token={}", token(&link)))
        .await;
    assert_eq!(out.status, 303, "{out:?}");
    assert_eq!(reader.open(&link).await.status, 401);
    assert_eq!(world.audit_of("signed_out").len(), 1);
    portal.close().await;
    // Neither codes, addresses nor tokens are in the log.
    for line in world.audit() {
        let line = line.to_string();
        for secret in ["ann@acme", "ANN@", &code, token(&link)] {
            assert!(
                !line.to_lowercase().contains(&secret.to_lowercase()),
                "{secret} in {line}"
            );
        }
    }
}

#[tokio::test]
async fn five_tries_and_three_codes_are_all_there_are() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({ "sign_in": "code" })).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    let reader = Visitor::default();
    let ask = format!("token={}&address=ann%40acme.example", token(&link));
    reader.submit(&portal.url("/sign-in"), &ask).await;
    let code = until("the code", async || newest_code(&world, 0)).await;
    let take = portal.url("/sign-in/code");
    let form = |code: &str| format!("token={}&code={}", token(&link), code.replace(' ', "+"));
    let wrong = if code == "1111 1111" {
        "2222 2222"
    } else {
        "1111 1111"
    };
    let tries: Vec<u16> = futures_util::future::join_all(
        (0..8).map(|_| async { reader.submit(&take, &form(wrong)).await.status }),
    )
    .await;
    assert_eq!(
        tries.iter().filter(|status| **status == 401).count(),
        5,
        "{tries:?}"
    );
    assert_eq!(
        tries.iter().filter(|status| **status == 429).count(),
        3,
        "{tries:?}"
    );
    let late = reader.submit(&take, &form(&code)).await;
    assert_eq!(late.status, 429, "the right code, too late: {late:?}");
    // A new code has tries of its own; the fourth code within a quarter of an hour is not mailed.
    for _ in 0..4 {
        reader.submit(&portal.url("/sign-in"), &ask).await;
    }
    let third = until("the third code", async || newest_code(&world, 2)).await;
    assert_ne!(third, code);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // At the end of a quarter, a fourth is of the next.
    let quarter = |at: jiff::Timestamp| at.as_second() / 900;
    if quarter(clock::system()) == quarter(clock::system() - Duration::from_secs(20)) {
        assert_eq!(newest_code(&world, 3), None);
    }
    portal.close().await;
}

#[tokio::test]
async fn somebody_else_who_is_signed_in_is_told_so() {
    let world = portal_world(|_| {}).object("2026/x.csv", FILE);
    let mut job = portal_job("second", json!({ "sign_in": "code" }));
    job["email"]["to"] = json!(["bo@acme.example"]);
    let world = world.job(&job);
    let (world, _) = {
        let mut world = world.job(&portal_job("daily", json!({ "sign_in": "code" })));
        world.run().await;
        let mails = world.mails();
        (world, mails)
    };
    let portal = OpenPortal::serve(&world).await;
    let mails = world.mails();
    let link_of = |to: &str| file_link(mails.iter().find(|mail| mail.to == to).unwrap(), 0);
    let (anns, bos) = (link_of("ann@acme.example"), link_of("bo@acme.example"));
    let bo = Visitor::default();
    let form = format!("token={}&address=bo%40acme.example", token(&bos));
    bo.submit(&portal.url("/sign-in"), &form).await;
    let code = until("the code", async || newest_code(&world, 0)).await;
    let form = format!("token={}&code={}", token(&bos), code.replace(' ', ""));
    assert_eq!(
        bo.submit(&portal.url("/sign-in/code"), &form).await.status,
        303
    );
    assert_eq!(bo.open(&bos).await.status, 200);
    let told = bo.open(&anns).await;
    assert_eq!(told.status, 403, "{told:?}");
    assert!(told.body.contains("another address") && told.body.contains("/sign-out"));
    portal.close().await;
}

#[tokio::test]
async fn forged_tokens_are_limited_by_network_and_known_links_never() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    let stranger = Visitor::default();
    let mut statuses = Vec::new();
    for number in 0..25 {
        let forged = format!("{number:044}");
        let told = stranger.open(&portal.url(&format!("/d/{forged}"))).await;
        if told.status == 429 {
            assert!(told.header("retry-after").parse::<u64>().unwrap() >= 1);
        }
        statuses.push(told.status);
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 404).count(),
        20,
        "{statuses:?}"
    );
    assert_eq!(statuses.last(), Some(&429));
    assert_eq!(
        stranger.open(&link).await.status,
        200,
        "a link that was mailed"
    );
    assert!(
        world.audit_of("refused").is_empty(),
        "forged tokens have no line"
    );
    portal.close().await;
}

#[tokio::test]
async fn requests_that_no_page_of_the_portal_sends_are_refused() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let link = file_link(&mail, 0);
    let reader = Visitor::default();
    let page = reader.open(&link).await;
    let form = format!("ticket={}", page.field("ticket"));
    let mut cross_site = SUBMITS;
    cross_site[1].1 = "cross-site";
    assert_eq!(
        reader
            .ask(Method::POST, &link, &cross_site, &form)
            .await
            .status,
        403
    );
    let old_browser = [("origin", "https://evil.example"), SUBMITS[5]];
    assert_eq!(
        reader
            .ask(Method::POST, &link, &old_browser, &form)
            .await
            .status,
        403
    );
    assert!(world.audit_of("opened").is_empty());
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let told = reader.ask(method, &link, &NAVIGATES, "").await;
        assert_eq!(told.status, 405);
        let allow = told.header("allow");
        assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    }
    let told = reader
        .ask(Method::POST, &portal.url("/mine"), &SUBMITS, "")
        .await;
    assert_eq!(told.status, 405);
    let long = portal.url(&format!("/d/{}", "a".repeat(2_100)));
    assert_eq!(reader.open(&long).await.status, 414);
    let long = "a".repeat(20_000);
    assert_eq!(reader.get(&link, &[("x-long", &long)]).await.status, 431);
    let long = format!("ticket={}", "a".repeat(5_000));
    assert_eq!(reader.submit(&link, &long).await.status, 413);
    let robots = reader.get(&portal.url("/robots.txt"), &[]).await;
    assert_eq!(
        (robots.status, robots.body.as_str()),
        (200, "User-agent: *\nDisallow: /\n")
    );
    portal.close().await;
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_closed_and_a_stop_waits_for_no_idle_one() {
    let (world, _) = mailed(portal_world(|_| {}), json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let address = world.config.portal.listen.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /mine HTTP/1.1\r\nHost: h\r\n")
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let _ended = tokio::time::timeout(Duration::from_secs(40), slow.read_to_end(&mut rest))
        .await
        .expect("it is closed");
    let took = began.elapsed();
    assert!((10..25).contains(&took.as_secs()), "{took:?}");
    let _idle = TcpStream::connect(address).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), portal.close())
        .await
        .expect("it ends");
}

#[tokio::test]
async fn a_revoked_link_is_refused_within_a_second_and_works_again_when_restored() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({})).await;
    let portal = OpenPortal::serve(&world).await;
    let config = world.written();
    let link = file_link(&mail, 0);
    let reader = Visitor::default();
    assert_eq!(reader.open(&link).await.status, 200);
    let change = async |word: &str| {
        let mut command = Command::new(program());
        let command = command
            .args([word, "job", "daily", "--config"])
            .arg(&config);
        let output = command.output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
    };
    change("revoke").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let told = reader.open(&link).await;
    assert_eq!(told.status, 410, "{told:?}");
    assert!(told.body.contains("withdrawn") && told.body.contains("desk@acme.example"));
    let by_program = Visitor::default().get(&link, &[("accept", "*/*")]).await;
    assert_eq!(by_program.status, 410);
    assert_eq!(
        world.audit_of("refused").len(),
        1,
        "once a minute for a link"
    );
    change("restore").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(reader.open(&link).await.status, 200);
    portal.close().await;
}

#[tokio::test]
async fn a_file_that_is_gone_has_a_page_and_no_link() {
    let (world, mail) = mailed(portal_world(|_| {}), json!({ "open": "direct" })).await;
    let portal = OpenPortal::serve(&world).await;
    std::fs::remove_file(world.bucket("reports").join("2026/a.csv")).unwrap();
    let told = Visitor::default().open(&file_link(&mail, 0)).await;
    assert_eq!(told.status, 410, "{told:?}");
    assert!(told.body.contains("no longer there"), "{told:?}");
    assert!(world.audit_of("opened").is_empty());
    portal.close().await;
}

/// A WAV file of so many seconds of silence (16 bits, two channels, 44.1 kHz).
fn silence(seconds: u32) -> Vec<u8> {
    let data = seconds * 44_100 * 4;
    let mut wav = Vec::with_capacity(44 + data as usize);
    wav.extend(b"RIFF");
    wav.extend((36 + data).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1, 0, 2, 0]);
    wav.extend(44_100_u32.to_le_bytes());
    wav.extend((44_100_u32 * 4).to_le_bytes());
    wav.extend([4, 0, 16, 0]);
    wav.extend(b"data");
    wav.extend(data.to_le_bytes());
    wav.resize(44 + data as usize, 0);
    wav
}

/// A PNG of one pixel.
const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0,
    1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T',
    0x78, 0x9c, 0x63, 0xf8, 0xff, 0xff, 0xff, 0x7f, 0, 0x09, 0xfb, 0x03, 0xfd, 0x05, 0x43, 0x45,
    0xca, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

#[tokio::test]
async fn a_person_with_a_browser_and_a_mail_gets_the_files() {
    let Some(browser) = browser_or_skip("a_person_with_a_browser_and_a_mail") else {
        return;
    };
    let mut world = portal_world(|_| {}).object("docs/a.csv", FILE);
    for (key, bytes) in [
        ("shown/p.png", PIXEL.to_vec()),
        ("shown/s.wav", silence(120)),
        ("album/day 1/p.png", PIXEL.to_vec()),
        ("album/notes.csv", FILE.into()),
    ] {
        let path = world.bucket("reports").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        // As old as pictures are: browsers keep what has not changed for long.
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
    }
    let of = |id: &str, prefix: &str, links: serde_json::Value| {
        let mut job = portal_job(id, links);
        job["from"]["prefix"] = json!(prefix);
        job
    };
    world = world
        .job(&of("docs", "docs/", json!({})))
        .job(&of("shown", "shown/", json!({ "disposition": "inline" })))
        .job(&of("asked", "docs/", json!({ "sign_in": "code" })));
    let mut gone = of("gone", "docs/", json!({}));
    gone["email"]["subject"] = json!("Report gone");
    world = world.job(&gone);
    let mut album = of("album", "album/", json!({}));
    album["gallery"] = json!({ "title": "Album" });
    world = world.job(&album);
    world.run().await;
    let portal = OpenPortal::serve(&world).await;
    let mails = world.mails();
    let mail_of = |id: &str| {
        let mut mails = mails.iter();
        mails
            .find(|mail| mail.subject.contains(id))
            .unwrap_or_else(|| panic!("{id}"))
    };
    let link = |id: &str, number| file_link(mail_of(id), number);
    let config = world.written();
    let mut command = Command::new(program());
    let revoked = command
        .args(["revoke", "job", "gone", "--config"])
        .arg(&config);
    assert!(revoked.output().await.unwrap().status.success());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let list = page_link(&portal, &link("shown", 0));
    // The mail about a gallery links its page alone.
    let album = &mail_of("album").hrefs[0];
    let told = json!({
        "file": link("docs", 0),
        "sound": link("shown", 1),
        "list": list,
        "gallery": album,
        "signIn": link("asked", 0),
        "outbox": world.config.outbox_dir(),
        "address": "ann@acme.example",
        "store": world.config.embedded.public_url,
        "troubles": {
            "unknown": portal.url("/elsewhere"),
            "revoked": link("gone", 0),
            "sign-in": link("asked", 0),
            "file": link("docs", 0),
            "list": list,
            "gallery": album,
            "mine": portal.url("/mine"),
        },
    });
    std::fs::write(&plan, told.to_string()).unwrap();
    let mut script: Command = browser.script("portal.mjs").into();
    let output = script.arg(&plan).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["complaints"], json!([]), "{seen:#}");
    assert_eq!(seen["violations"], json!([]), "{seen:#}");
    assert_eq!(
        seen["file"],
        json!({ "name": "a.csv", "bytes": FILE.len() })
    );
    assert_eq!(seen["signedInFile"], seen["file"]);
    assert_eq!(seen["signedIn"]["at"], "/d/");
    assert_eq!(
        (&seen["listed"], &seen["shown"]),
        (&json!(2), &json!(true)),
        "{seen:#}"
    );
    let pictures = &seen["pictures"];
    let cached = pictures["fromDisk"].as_u64().unwrap() + pictures["fromMemory"].as_u64().unwrap();
    assert!(cached > 0, "the second view loads no picture: {pictures}");
    let notes = json!({ "name": "notes.csv", "bytes": FILE.len() });
    // The pictures of the page are no opens, the large one included.
    let album = json!({ "pictures": 1, "large": 1, "opened": 0 });
    assert_eq!(seen["gallery"], json!([album, album]), "{seen:#}");
    assert_eq!(seen["gathered"], notes);
    assert_eq!(seen["withoutScripts"], notes);
    let sound = &seen["sound"];
    assert_eq!(sound["error"], json!(null), "{sound}");
    assert!(
        sound["refused"].as_u64().unwrap() > 0 && sound["offset"].as_f64().unwrap() < 1.0,
        "{sound}"
    );
    assert!(sound["askedAgain"].as_u64().unwrap() > 0, "{sound}");
    let tags = ["en ltr", "de ltr", "fr ltr", "es ltr", "ja ltr", "ar rtl"];
    for (name, told) in seen["languages"].as_object().unwrap() {
        assert_eq!(*told, json!(tags), "{name}");
    }
    portal.close().await;
}

/// What Firefox does otherwise than Chromium is in the table of the guide; this is the way of a reader through it.
#[tokio::test]
async fn a_person_with_firefox_and_a_mail_gets_the_files() {
    let test = "a_person_with_firefox_and_a_mail_gets_the_files";
    let Some(parts) = Parts::or_skip(test) else {
        return;
    };
    let mut world = portal_world(|_| {}).object("docs/a.csv", FILE);
    let picture = world.bucket("reports").join("docs/p.png");
    std::fs::write(&picture, PIXEL).unwrap();
    let mut album = portal_job("album", json!({}));
    album["from"]["prefix"] = json!("docs/");
    album["gallery"] = json!({ "title": "Album" });
    let mut asked = portal_job("asked", json!({ "sign_in": "code" }));
    asked["from"]["prefix"] = json!("docs/");
    let mut plain = portal_job("plain", json!({}));
    plain["from"]["prefix"] = json!("docs/");
    world = world.job(&album).job(&asked).job(&plain);
    world.run().await;
    let portal = OpenPortal::serve(&world).await;
    let mails = world.mails();
    let mail_of = |id: &str| {
        let mut mails = mails.iter();
        mails.find(|mail| mail.subject.contains(id)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let told = json!({
        "file": file_link(mail_of("plain"), 0),
        "gallery": mail_of("album").hrefs[0],
        "signIn": file_link(mail_of("asked"), 0),
        "outbox": world.config.outbox_dir(),
        "address": "ann@acme.example",
    });
    std::fs::write(&plan, told.to_string()).unwrap();
    let mut script = Command::new(parts.python());
    script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/firefox.py"));
    let output = script.arg(&plan).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        is_missing(test, &errors);
        portal.close().await;
        return;
    }
    assert!(output.status.success(), "{errors}");
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = json!({ "name": "a.csv", "bytes": FILE.len() });
    assert_eq!(seen["file"], file, "{seen}");
    assert_eq!(seen["pictures"], json!([1]), "{seen}");
    assert_eq!(seen["large"], json!(1), "{seen}");
    // A name that is there gets a number.
    assert_eq!(seen["gathered"]["bytes"], file["bytes"], "{seen}");
    assert_eq!(seen["signedInFile"]["bytes"], file["bytes"], "{seen}");
    let opened = world.audit_of("opened");
    assert_eq!(opened.len(), 3, "{opened:?}");
    assert!(
        opened.iter().all(|line| line["how"] == "button"),
        "{opened:?}"
    );
    portal.close().await;
}

#[tokio::test]
async fn a_gallery_is_shown_where_the_job_asks_for_one() {
    let mut job = portal_job("album", json!({}));
    job["gallery"] = json!({ "title": "Album" });
    let mut world = portal_world(|_| {})
        .object("2026/a.csv", FILE)
        .object("2026/day 1/p.png", "no picture")
        .object("2026/day 1/q.png", "no picture")
        .job(&job);
    world.run().await;
    let portal = OpenPortal::serve(&world).await;
    let mail = world.mails().remove(0);
    let page = mail.hrefs.iter().find(|url| url.contains("/j/")).unwrap();
    let reader = Visitor::default();
    let shown = reader.open(page).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let html = &shown.body;
    assert_eq!(html.matches("class=\"view whole\"").count(), 2, "{html}");
    assert!(html.contains("<h1><bdi>Album</bdi></h1>"), "{html}");
    let policy = shown.header("content-security-policy");
    let store = &world.config.embedded.public_url;
    for part in [
        format!("frame-src 'self' {store}"),
        format!("img-src 'self' data: {store}"),
        "script-src 'sha256-".to_owned(),
    ] {
        assert!(policy.contains(&part), "{policy}");
    }
    let view = world.audit_of("view").remove(0);
    assert_eq!((&view["objects"], &view["signed"]), (&json!(3), &json!(2)));
    let (_, href) = html.split_once("<th scope=\"row\"><a href=\"/d/").unwrap();
    let href = href.split('"').next().unwrap().replace("&#x3D;", "=");
    let from_page = [("sec-fetch-site", "same-origin"), ("accept", "text/html")];
    let url = portal.url(&format!("/d/{href}"));
    assert_eq!(reader.get(&url, &from_page).await.status, 302);
    assert_eq!(world.audit_of("opened")[0]["how"], "button");

    // A revoked object is named, and the page goes on.
    let config = world.written();
    let object = "s3://reports/2026/day 1/q.png";
    let mut command = Command::new(program());
    let revoked = command
        .args(["revoke", "object", object, "--config"])
        .arg(&config);
    let revoked = revoked.output().await.unwrap();
    assert!(revoked.status.success(), "{revoked:?}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let html = reader.open(page).await.body;
    assert_eq!(html.matches("class=\"view whole\"").count(), 1, "{html}");
    assert!(html.contains("q.png"), "{html}");
    portal.close().await;
}

#[tokio::test]
async fn a_streamed_file_comes_through_the_portal_with_ranges() {
    let big = "0123456789".repeat(350_000);
    let world = portal_world(|portal| portal.deliver = PortalDelivery::Stream);
    let world = world.object("2026/big.bin", &big).object("2026/empty", "");
    let (world, mail) = mailed(world, json!({ "open": "direct" })).await;
    let portal = OpenPortal::serve(&world).await;
    let linked = |size: usize| {
        let links = mail.hrefs.iter().filter(|url| url.contains("/d/"));
        let mut links = links.cloned().collect::<Vec<_>>();
        // a.csv, b.txt, big.bin, empty
        links.swap_remove(size)
    };
    let (link, empty) = (linked(2), linked(3));
    let reader = Visitor::default();
    let whole = reader.get(&link, &[("accept", "*/*")]).await;
    assert_eq!(whole.status, 200, "{:?}", whole.headers);
    assert!(whole.body == big && whole.headers.get("location").is_none());
    assert_eq!(whole.header("content-length"), big.len().to_string());
    assert_eq!(whole.header("cache-control"), "no-store");
    assert!(
        whole.header("content-disposition").contains("big.bin"),
        "{:?}",
        whole.headers
    );
    let etag = whole.header("etag").to_owned();
    for (range, if_range, status, body) in [
        ("bytes=5-14", None, 206, &big[5..15]),
        (
            "bytes=1048570-2097160",
            None,
            206,
            &big[1_048_570..2_097_161],
        ),
        ("bytes=-3", None, 206, &big[big.len() - 3..]),
        (
            "bytes=3499995-",
            Some(etag.as_str()),
            206,
            &big[3_499_995..],
        ),
        ("bytes=3499995-", Some("\"other\""), 200, &big[..]),
        ("bytes=3500000-", None, 416, ""),
        ("bytes=1-2,4-5", None, 200, &big[..]),
    ] {
        let mut headers = vec![("range", range)];
        headers.extend(if_range.map(|etag| ("if-range", etag)));
        let part = reader.get(&link, &headers).await;
        assert_eq!(part.status, status, "{range} {:?}", part.headers);
        assert!(part.body == body, "{range}");
    }
    let part = reader.get(&link, &[("range", "bytes=5-14")]).await;
    assert_eq!(part.header("content-range"), "bytes 5-14/3500000");
    let nothing = reader.get(&empty, &[]).await;
    assert_eq!((nothing.status, nothing.body.as_str()), (200, ""));
    let head = reader.ask(Method::HEAD, &link, &[], "").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, "3500000")
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("half"), &big[..1_500_000]).unwrap();
    let (is_well, _) = client(
        folder.path(),
        "curl",
        &["-fsSL", "-C", "-", "-o", "half", &link],
    )
    .await
    .unwrap();
    assert!(is_well && std::fs::read_to_string(folder.path().join("half")).unwrap() == big);
    // The button of a page leads to a download that can be resumed.
    portal.close().await;
}
