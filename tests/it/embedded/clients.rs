//! What clients of S3 and HTTP notice: ranges, conditions, parts, pages, and the words of errors. versitygw's own test client looks at
//! the same in `make peers ONLY=embedded`.

use presign::ServerUrl;

use super::*;

fn element<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let text = answer.body.split_once(&format!("<{name}>"));
    let text = text.and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    text.map_or("", |(text, _)| text)
}

#[tokio::test]
async fn a_range_that_cannot_be_parsed_gives_the_whole_file_and_one_beyond_it_416() {
    let world = World::new().await;
    world.put("a.txt", "0123456789").await;
    let link = world.link("a.txt", 600).await;
    for (range, status, body) in [
        ("bytes=abc", 200, "0123456789"),
        ("bytes=,", 200, "0123456789"),
        ("bytes=0-1,3-4", 200, "0123456789"),
        ("items=0-1", 200, "0123456789"),
        ("bytes=5-2", 200, "0123456789"),
        ("bytes=2-3", 206, "23"),
        ("bytes=-3", 206, "789"),
    ] {
        let header = format!("Range: {range}");
        let answer = world.fetch("GET", &link, &[&header]).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{range}"
        );
    }
    for range in ["bytes=10-", "bytes=-0"] {
        let header = format!("Range: {range}");
        let answer = world.fetch("GET", &link, &[&header]).await;
        assert_eq!(answer.verdict(), (416, "InvalidRange"), "{range}");
        assert_eq!(answer.headers["content-range"], "bytes */10", "{range}");
    }
    // The SDK signs the range.
    let get = || world.client.get_object().bucket(BUCKET).key("a.txt");
    let whole = get().range("bytes=abc").send().await.unwrap();
    assert_eq!(whole.content_length(), Some(10));
    let head = world.client.head_object().bucket(BUCKET).key("a.txt");
    let head = head.range("bytes=4-5").send().await.unwrap();
    assert_eq!(head.content_range(), Some("bytes 4-5/10"));
}

#[tokio::test]
async fn a_condition_without_quotes_is_a_condition() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    let link = world.link("a.txt", 600).await;
    let etag = world.fetch("GET", &link, &[]).await.headers["etag"].clone();
    let bare = etag.trim_matches('"');
    for (header, status) in [
        ("If-Match: abc".to_owned(), 412),
        ("If-Match: a_b".to_owned(), 412),
        (format!("If-Match: {bare}"), 200),
        (format!("If-Match: \"x\", {etag}"), 200),
        (format!("If-None-Match: {bare}"), 304),
        (format!("If-None-Match: W/{etag}"), 304),
        ("If-None-Match: abc".to_owned(), 200),
        ("If-Modified-Since: yesterday".to_owned(), 200),
        ("If-Unmodified-Since: 0".to_owned(), 200),
    ] {
        let answer = world.fetch("GET", &link, &[&header]).await;
        assert_eq!(answer.status, status, "{header}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_first_part_is_the_object_and_there_is_no_second() {
    let world = World::new().await;
    world.put("a.txt", "text").await;
    world.put("empty", "").await;
    let part = |key, number| {
        let get = world.client.get_object().bucket(BUCKET).key(key);
        get.part_number(number).send()
    };
    let first = part("a.txt", 1).await.unwrap();
    assert_eq!(first.content_range(), Some("bytes 0-3/4"));
    assert_eq!(first.parts_count(), None);
    let empty = part("empty", 1).await.unwrap();
    assert_eq!(
        (empty.content_range(), empty.content_length()),
        (None, Some(0))
    );
    assert_eq!(
        code(&part("a.txt", 2).await.unwrap_err()),
        "InvalidPartNumber"
    );
    for (key, number) in [("a.txt", 0), ("missing", -3), ("a.txt", 10_001)] {
        let error = part(key, number).await.unwrap_err();
        assert_eq!(code(&error), "InvalidArgument", "{number}");
    }
}

#[tokio::test]
async fn an_incomplete_or_malformed_link_gets_400_and_the_words_of_s3() {
    let world = World::new().await;
    let link = world.link("a.txt", 600).await;
    let (path, query) = link.split_once('?').unwrap();
    let without = |name: &str| {
        let kept = query.split('&').filter(|pair| !pair.starts_with(name));
        format!("{path}?{}", Vec::from_iter(kept).join("&"))
    };
    let with = |name: &str, value: &str| format!("{}&{name}={value}", without(name));
    let required = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";
    let malformed = "AuthorizationQueryParametersError";
    let today = query.split_once("X-Amz-Date=").unwrap().1[..8].to_owned();
    let credential = |text: &str| with("X-Amz-Credential", &text.replace('/', "%2F"));
    for (link, code, message) in [
        (without("X-Amz-Signature"), malformed, required),
        (without("X-Amz-Credential"), malformed, required),
        (without("X-Amz-Date"), malformed, required),
        (without("X-Amz-SignedHeaders"), malformed, required),
        (without("X-Amz-Expires"), malformed, required),
        (without("X-Amz-Algorithm"), malformed, required),
        (
            with("X-Amz-Expires", "soon"),
            malformed,
            "X-Amz-Expires should be a number",
        ),
        (
            with("X-Amz-Expires", "-3"),
            malformed,
            "X-Amz-Expires must be non-negative",
        ),
        (
            with("X-Amz-Date", "yesterday"),
            malformed,
            "X-Amz-Date must be in the ISO8601 Long Format",
        ),
        (
            credential("AKIDONE/x"),
            malformed,
            "the Credential is mal-formed",
        ),
        (
            credential(&format!("AKIDONE/{today}/us-east-1/s3/aws4_request")),
            malformed,
            "the region \"us-east-1\" is wrong; expecting \"eu-west-1\"",
        ),
        (
            credential(&format!("AKIDONE/{today}/eu-west-1/sns/aws4_request")),
            malformed,
            "incorrect service \"sns\"",
        ),
        (
            format!("{link}&X-Amz-Security-Token=x"),
            "InvalidToken",
            "The provided token is malformed or otherwise invalid.",
        ),
    ] {
        let answer = world.fetch("GET", &link, &[]).await;
        assert_eq!(answer.verdict(), (400, code), "{link}");
        assert!(
            element(&answer, "Message").contains(message),
            "{}",
            answer.body
        );
    }
    let long = format!("/reports/{}?{query}", "k".repeat(1025));
    let answer = world.fetch("GET", &long, &[]).await;
    assert_eq!(answer.verdict(), (400, "KeyTooLongError"));
    assert_eq!(element(&answer, "Message"), "Your key is too long.");
    let tampered = link.replace("a.txt", "b.txt");
    let answer = world.fetch("GET", &tampered, &[]).await;
    assert_eq!(answer.verdict(), (403, "SignatureDoesNotMatch"));
    assert!(element(&answer, "Message").ends_with("Check your key and signing method."));
}

#[tokio::test]
async fn a_listing_that_ends_exactly_at_max_keys_is_not_truncated() {
    let world = World::new().await;
    for key in [
        "asdf",
        "boo/bar",
        "boo/baz/xyzzy",
        "cquux/bla",
        "cquux/thud",
    ] {
        world.put(key, "text").await;
    }
    let list = || world.client.list_objects_v2().bucket(BUCKET);
    let exact = list().max_keys(5).send().await.unwrap();
    assert_eq!(
        (exact.is_truncated(), exact.contents().len()),
        (Some(false), 5)
    );
    for (start, limit, prefixes) in [
        ("", 3, &["boo/", "cquux/"][..]),
        ("asdf", 2, &["boo/", "cquux/"]),
        // A common prefix stands for all its keys.
        ("boo/", 1, &["cquux/"]),
        ("cquux/", 1, &[]),
    ] {
        let page = list().delimiter("/").start_after(start).max_keys(limit);
        let page = page.send().await.unwrap();
        let found = page.common_prefixes().iter().filter_map(|it| it.prefix());
        assert_eq!(Vec::from_iter(found), prefixes, "after {start}");
        assert_eq!(page.is_truncated(), Some(false), "after {start}");
    }
}

/// The proxy is a request with another `Host`; one of nginx is in `public_endpoints`.
#[tokio::test]
async fn a_link_whose_host_was_changed_on_the_way_says_so() {
    let directory = tempfile::tempdir().unwrap();
    create_bucket(directory.path(), BUCKET).unwrap();
    for path in ["", "/files"] {
        let sites = vec![site("AKIDONE", directory.path())];
        let any = "127.0.0.1:0".parse().unwrap();
        let public = ServerUrl::parse(&format!("http://files.acme.example{path}")).unwrap();
        let endpoint = Endpoint::start_behind(any, sites, &public).await.unwrap();
        let own = client(endpoint.address(), "AKIDONE");
        let url = format!("http://files.acme.example{path}/");
        let linked = Client::from_conf(own.config().to_builder().endpoint_url(url).build());
        let world = World {
            client: own,
            endpoint,
            site: tempfile::tempdir().unwrap(),
        };
        fs::write(directory.path().join(BUCKET).join("a.txt"), "text").unwrap();
        let minute = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let link = linked.get_object().bucket(BUCKET).key("a.txt");
        let link = link.presigned(minute).await.unwrap().uri().to_owned();
        let target = link.strip_prefix("http://files.acme.example").unwrap();
        let taken_off = target.strip_prefix(path).unwrap();
        for target in [target, taken_off] {
            let right = ["Host: files.acme.example"];
            let opened = world.exchange("GET", target, &right).await;
            assert_eq!(
                (opened.status, opened.body.as_str()),
                (200, "text"),
                "{target}"
            );
            let lost = world.fetch("GET", target, &[]).await;
            assert_eq!(lost.verdict(), (403, "SignatureDoesNotMatch"), "{target}");
            let message = element(&lost, "Message");
            assert!(
                message.contains("The link is for files.acme.example"),
                "{message}"
            );
            assert!(
                message.contains("the proxy must pass Host unchanged"),
                "{message}"
            );
            let tampered = target.replace("a.txt", "b.txt");
            let tampered = world.fetch("GET", &tampered, &[]).await;
            assert_eq!(
                tampered.verdict(),
                (403, "SignatureDoesNotMatch"),
                "{target}"
            );
            assert!(!tampered.body.contains("Host"), "{}", tampered.body);
        }
    }
}
