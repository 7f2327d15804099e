//! Names that have broken other programs, through the whole of this one.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::world::{World, email_job, run_until_settled};
use crate::support::{get, hostile, hrefs};

/// Puts objects through the endpoint, since not every key is a file's name.
pub(crate) async fn put_all(world: &World, keys: &[String]) {
    let opened = world.open().await;
    let connection = opened
        .services
        .signing
        .connection(&"local".parse().unwrap())
        .unwrap();
    let bucket = "reports".parse().unwrap();
    let content = handout::store::Content {
        media_type: "application/octet-stream",
        cache_control: "no-store",
        encoding: None,
    };
    for key in keys {
        let body = handout::store::Body::Bytes(key.clone().into_bytes());
        connection
            .store
            .put(&bucket, &key.parse().unwrap(), body, content)
            .await
            .unwrap();
    }
    opened.close().await;
}

#[tokio::test]
async fn every_key_that_a_browser_can_carry_arrives_in_mail_page_and_list_and_opens() {
    let keys = hostile::keys();
    let all: Vec<String> = keys
        .iter()
        .cloned()
        .chain(hostile::UNLINKABLE.map(ToOwned::to_owned))
        .collect();
    let mut job = email_job("hostile");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    job["manifest"] =
        json!({ "format": "urls", "publish": { "bucket": "published", "prefix": "m/" } });
    job["links"] = json!({ "disposition": "inline" });
    let mut world = World::new().job(&job);
    put_all(&world, &all).await;
    world.run().await;
    assert_eq!(world.parked().await, Vec::<String>::new());

    let issued: Vec<String> = world
        .audit_of("issue")
        .iter()
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = keys.clone();
    expected.sort();
    assert_eq!(
        issued, expected,
        "each linkable key has its line, in the order of the keys; the others have none"
    );

    let mail = world.mails().remove(0);
    let opened = world.open().await;
    let list = mail
        .hrefs
        .iter()
        .find(|href| href.contains("urls.txt"))
        .unwrap();
    let urls = String::from_utf8(get(list).await.1).unwrap();
    let mut bodies = Vec::new();
    for url in urls.lines() {
        let (status, body) = get(url).await;
        assert_eq!(status, 200, "{body:?}");
        bodies.push(String::from_utf8(body).unwrap());
    }
    assert_eq!(bodies, expected, "each link gives its own object");

    let gallery = mail
        .hrefs
        .iter()
        .find(|href| href.contains("index.html"))
        .unwrap();
    let page = String::from_utf8(get(gallery).await.1).unwrap();
    for text in [&page, &mail.html] {
        assert!(
            !text.contains("<script>alert") && !text.contains("<img src=x"),
            "a name became markup"
        );
    }
    for href in hrefs(&page) {
        assert_eq!(get(&href).await.0, 200, "a link of the page does not open");
    }
    opened.close().await;
    // The letter's own lines: nothing of a name may have become a header.
    let headers = mail.eml.split("\r\n\r\n").next().unwrap();
    assert!(!headers.contains("Bcc"), "{headers}");
}

#[tokio::test]
async fn what_could_run_scripts_is_saved_though_the_job_asks_to_show_it() {
    let mut job = email_job("active");
    job["links"] = json!({ "disposition": "inline" });
    let mut world = World::new()
        .object("page.html", "<script>")
        .object("image.svg", "<svg>")
        .object("a.pdf", "x")
        .job(&job);
    world.run().await;
    for href in &world.mails()[0].hrefs {
        let inline = href.contains("response-content-disposition=inline");
        assert_eq!(
            inline,
            href.contains("/a.pdf?"),
            "{}",
            href.split("X-Amz").next().unwrap()
        );
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_linked_refuses_the_job_when_the_configuration_says_so() {
    use handout::plan::OnUnlinkable;
    let mut world = World::new()
        .configured(|config| config.links.on_unlinkable = OnUnlinkable::Refuse)
        .object("good.pdf", "x")
        .job(&email_job("strict"));
    put_all(&world, &["a/../b.pdf".to_owned()]).await;
    world.run().await;
    insta::assert_snapshot!(world.parked().await.join("\n"), @r#"s3://reports/a/../b.pdf cannot be linked: its key has "." or ".." as a folder, which browsers change (on_unlinkable = "refuse")"#);
}

#[tokio::test]
async fn a_job_is_done_while_hundreds_of_connections_are_held_open() {
    let mut job = email_job("besieged");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "g/" } });
    let world = World::new().object("a.pdf", "x");
    let opened = world.open().await;
    let address = world.config.embedded.listen;
    let mut held = Vec::new();
    for text in [
        "",
        "GET /reports/a.pdf HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nX-A: ",
    ] {
        for _ in 0..150 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _written = stream.write_all(text.as_bytes()).await;
            held.push(stream);
        }
    }
    opened.queue.submit(&job.to_string()).await.unwrap();
    let settled = tokio::time::timeout(Duration::from_secs(20), run_until_settled(&opened, 1));
    settled.await.expect("the job is done meanwhile");
    let links = world.mails().remove(0).hrefs;
    for link in &links {
        let answered = tokio::time::timeout(Duration::from_secs(5), get(link));
        assert_eq!(answered.await.expect("the link opens").0, 200);
    }
    assert!(!links.is_empty());
    drop(held);
    opened.close().await;
}

/// White space at the ends of a key is the key's.
#[tokio::test]
async fn a_key_with_white_space_at_its_ends_is_named_and_linked() {
    let keys = ["a ", " b.pdf", "x/ /y", "tab\tend.pdf", "c/ ", "\u{a0}d"].map(ToOwned::to_owned);
    for key in keys {
        let mut job = email_job("spaces");
        job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": [key] });
        let mut world = World::new().job(&job);
        if key.contains('\t') {
            world.run().await;
            assert!(
                world.parked().await[0].contains("control character"),
                "{key:?}"
            );
            continue;
        }
        put_all(&world, std::slice::from_ref(&key)).await;
        world.run().await;
        assert_eq!(world.parked().await, Vec::<String>::new(), "{key:?}");
        let opened = world.open().await;
        let (status, body) = get(&world.mails()[0].hrefs[0]).await;
        assert_eq!((status, String::from_utf8(body).unwrap()), (200, key));
        opened.close().await;
    }
    for key in [" ", "   ", "\u{a0}", "\u{2003}"] {
        let mut job = email_job("spaces");
        job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": [key] });
        let mut world = World::new().job(&job);
        world.run().await;
        let parked = world.parked().await;
        assert_eq!(parked.len(), 1, "{key:?} is tried once");
        assert!(!parked[0].contains("credentials"), "{parked:?}");
    }
}
