//! Links to CloudFront: jobs that hand them out, and each link judged by others than its signer, in the whole suite also
//! by Python's `cryptography` and botocore's idea of a canned policy.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding};
use handout::config::{CloudFrontConfig, PortalDelivery};
use handout::portal_access::{OpenEvidence, OpenKind, OpenMethod};
use jiff::Timestamp;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::pkcs8::DecodePublicKey as _;
use presign::PresignRequest;
use presign::cloudfront::{
    CloudFrontSigner, DistributionDomain, HashAlgorithm, PrivateKey, UrlPolicy,
};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use crate::support::servers::Parts;
use crate::support::world::{World, email_job};
use crate::support::{hostile, hrefs, program};

const NOW: i64 = 1_767_200_000;

/// The judge's word on each URL.
fn judged(parts: &Parts, public_key: &str, now: i64, urls: &[String]) -> Vec<String> {
    let key = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("crates/presign/tests/fixtures")
        .join(public_key);
    let mut judge = parts
        .script("verify_cloudfront.py")
        .arg(key)
        .arg(now.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = judge.stdin.take().unwrap();
    let text = urls.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = judge.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Every hostile key with each policy, and one signature for all of them.
fn links(pem: &str, hash: HashAlgorithm) -> Vec<String> {
    let key = PrivateKey::from_pem(pem).unwrap();
    let signer = CloudFrontSigner::new("K1TESTKEY", key, hash).unwrap();
    let distribution = DistributionDomain::new("d111111abcdef8.cloudfront.net").unwrap();
    let at = |second| Timestamp::from_second(second).unwrap();
    let canned = UrlPolicy::until(at(NOW + 1));
    let custom = canned.starting(at(NOW - 1));
    let wildcard = signer
        .wildcard(&distribution.everything_below(""), &canned)
        .unwrap();
    let mut links = Vec::new();
    for key in hostile::keys() {
        let url = distribution.url(&PresignRequest {
            key: &key,
            content_disposition: Some("attachment; filename=\"a b.pdf\"; filename*=UTF-8''%C3%BC"),
            custom: &[(handout::links::LINK_ID, "0123456789abcdef0123456789abcdef")],
            ..PresignRequest::default()
        });
        for policy in [canned, custom] {
            links.push(signer.sign(&url, &policy).unwrap().expose().to_owned());
        }
        links.push(wildcard.apply(&url).unwrap().expose().to_owned());
    }
    links
}

#[test]
fn another_implementation_opens_every_link_and_none_that_was_changed() {
    let Some(parts) =
        Parts::or_skip("another_implementation_opens_every_link_and_none_that_was_changed")
    else {
        return;
    };
    let keys = [
        (
            include_str!("../../crates/presign/tests/fixtures/rsa-pkcs8.pem"),
            "rsa-public.pem",
        ),
        (
            include_str!("../../crates/presign/tests/fixtures/p256-sec1.pem"),
            "p256-public.pem",
        ),
    ];
    for (pem, public_key) in keys {
        for hash in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
            let links = links(pem, hash);
            let verdicts = judged(&parts, public_key, NOW, &links);
            assert_eq!(verdicts.len(), links.len());
            for (link, verdict) in links.iter().zip(&verdicts) {
                assert_eq!(verdict, "opens", "{link}");
            }
            // Without the wildcard's, whose parameters may be changed.
            let changed: Vec<String> = links
                .iter()
                .enumerate()
                .filter(|(index, _)| index % 3 != 2)
                .map(|(_, link)| link.replacen("x-handout=0", "x-handout=1", 1))
                .collect();
            for (link, verdict) in changed
                .iter()
                .zip(judged(&parts, public_key, NOW, &changed))
            {
                assert_ne!(verdict, "opens", "{link}");
            }
        }
    }
}

/// A world whose connection has a distribution with a P-256 key, and whose rule allows 90 days.
fn fronted(change: impl FnOnce(&mut CloudFrontConfig)) -> World {
    World::new().configured(|config| {
        let mut cloudfront = CloudFrontConfig {
            domain: "files.acme.example".to_owned(),
            key_pair_id: "K1TESTKEY".to_owned(),
            private_key_file: fixture("p256-pkcs8.pem"),
            hash: HashAlgorithm::Sha1,
            wildcard: false,
            response_overrides: true,
            bucket: None,
            origin_path: None,
            key_value_store: None,
        };
        change(&mut cloudfront);
        let connection = config.connections.get_mut("local").unwrap();
        connection.cloudfront = Some(cloudfront);
        config.allow[0].max_expires_in = "90d".parse().unwrap();
    })
}

fn fixture(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("crates/presign/tests/fixtures")
        .join(file)
}

/// A job for 30 days of CloudFront.
fn month(id: &str) -> Value {
    let mut job = email_job(id);
    job["links"] = json!({ "via": "cloudfront", "expires_in": "30d" });
    job
}

fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?').unwrap();
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Whether the P-256 key of the fixtures signed this URL with a canned policy and SHA-1.
fn is_signed(url: &str) -> bool {
    let resource = url.split("&Expires=").next().unwrap();
    let end = parameter(url, "Expires").unwrap();
    let policy = format!(
        r#"{{"Statement":[{{"Resource":"{resource}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{end}}}}}}}]}}"#
    );
    let signature = parameter(url, "Signature").unwrap();
    let signature = signature
        .replace('-', "+")
        .replace('_', "=")
        .replace('~', "/");
    let signature = Base64::decode_vec(&signature).unwrap();
    let signature = p256::ecdsa::Signature::from_der(&signature).unwrap();
    let pem = std::fs::read_to_string(fixture("p256-public.pem")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = Base64::decode_vec(&body).unwrap();
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(&der).unwrap();
    key.verify_prehash(&Sha1::digest(policy), &signature)
        .is_ok()
}

#[tokio::test]
async fn a_job_hands_out_links_for_a_month_that_say_when_they_end() {
    let mut job = month("monthly");
    job["email"]["to"] = json!(["ann@acme.example", "bo@acme.example"]);
    let mut world = fronted(|_| {})
        .object("2026/a b.pdf", "one")
        .object("2026/ü+~*.csv", "two")
        .job(&job);
    let before = handout::clock::system().as_second();
    world.run().await;
    let after = handout::clock::system().as_second();
    let (mails, issued) = (world.mails(), world.audit_of("issue"));
    assert_eq!((mails.len(), issued.len()), (2, 4));
    assert_ne!(mails[0].hrefs, mails[1].hrefs);
    let links: Vec<String> = mails.iter().flat_map(|mail| mail.hrefs.clone()).collect();
    for link in &links {
        assert!(
            link.starts_with("https://files.acme.example/2026/"),
            "{link}"
        );
        assert!(is_signed(link), "{link}");
        assert!(!is_signed(&link.replacen("/2026/", "/2027/", 1)), "{link}");
        let id = parameter(link, "x-handout").unwrap();
        let line = issued.iter().find(|line| line["link_id"] == id).unwrap();
        let end: Timestamp = line["expires_at"].as_str().unwrap().parse().unwrap();
        let end = end.as_second();
        assert_eq!(parameter(link, "Expires").unwrap(), end.to_string());
        let month = 30 * 24 * 60 * 60;
        // Counted from the next whole second.
        assert!((before + month..=after + 1 + month).contains(&end));
        assert_eq!(
            (&line["access_key_id"], &line["bound"]),
            (&json!("K1TESTKEY"), &json!("asked"))
        );
    }
    let end: Timestamp = issued[0]["expires_at"].as_str().unwrap().parse().unwrap();
    let date = end.strftime("%Y").to_string();
    assert!(
        mails[0].html.contains(&date),
        "the mail says when the links end"
    );
}

#[tokio::test]
async fn another_implementation_opens_what_a_job_hands_out_with_an_rsa_key() {
    let Some(parts) =
        Parts::or_skip("another_implementation_opens_what_a_job_hands_out_with_an_rsa_key")
    else {
        return;
    };
    let mut world = fronted(|cloudfront| {
        cloudfront.private_key_file = fixture("rsa-pkcs1.pem");
        cloudfront.hash = HashAlgorithm::Sha256;
    });
    for number in 0..20 {
        world = world.object(&format!("2026/{number} ü.pdf"), "x");
    }
    world = world.job(&month("rsa"));
    world.run().await;
    let links = world.mails().remove(0).hrefs;
    assert_eq!(links.len(), 20);
    let now = handout::clock::system().as_second();
    let month = 30 * 24 * 60 * 60;
    for (now, verdict) in [
        (now, true),
        (now + month - 60, true),
        (now + month + 1, false),
    ] {
        for said in judged(&parts, "rsa-public.pem", now, &links) {
            assert_eq!(said == "opens", verdict, "{said}");
        }
    }
}

#[tokio::test]
async fn another_implementation_opens_what_somebody_presigns_from_its_beginning_to_its_end() {
    let Some(parts) = Parts::or_skip(
        "another_implementation_opens_what_somebody_presigns_from_its_beginning_to_its_end",
    ) else {
        return;
    };
    let world = fronted(|cloudfront| cloudfront.bucket = Some("reports".to_owned()));
    // Its keys for S3 are asked for nothing here, and there are none.
    let world = world.configured(|config| {
        let connection = config.connections.get_mut("local").unwrap();
        connection.directory = None;
        connection.region = Some("eu-west-1".to_owned());
    });
    let config = world.written().to_string_lossy().into_owned();
    let presign = |arguments: &[&str]| {
        Command::new(program())
            .args(["presign", "--config", &config, "--connection", "local"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let links = |arguments: &[&str]| -> Vec<String> {
        let output = presign(arguments);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    };
    let (begin, month) = (1_900_000_000, 30 * 24 * 60 * 60);
    let later = Timestamp::from_second(begin).unwrap().to_string();
    let place = "s3://reports/2026/a ü.pdf";
    let via = ["--via", "cloudfront", "--expires-in", "30d"];
    let conditions = ["--not-before", &later, "--from-network", "192.0.2.0/24"];
    let links = links(&[&via[..], &conditions, &[place, place]].concat());
    assert_eq!(links.len(), 2);
    let custom = json!({ "AWS:SourceIp": "192.0.2.0/24" });
    for (now, opens) in [
        (begin - 1, false),
        (begin + 1, true),
        (begin + month - 1, true),
        (begin + month, false),
    ] {
        for said in judged(&parts, "p256-public.pem", now, &links) {
            assert_eq!(said == "opens", opens, "at {now}: {said}");
        }
    }
    let policy = parameter(&links[0], "Policy").unwrap();
    let policy = policy.replace('-', "+").replace('_', "=").replace('~', "/");
    let policy: Value = serde_json::from_slice(&Base64::decode_vec(&policy).unwrap()).unwrap();
    assert_eq!(policy["Statement"][0]["Condition"]["IpAddress"], custom);
    let line = world
        .audit()
        .into_iter()
        .rfind(|line| line["ev"] == "issue");
    let line = line.unwrap();
    assert_eq!(line["access_key_id"], "K1TESTKEY");
    assert_eq!(
        line["expires_at"],
        Timestamp::from_second(begin + month).unwrap().to_string()
    );

    let refusal = |arguments: &[&str]| {
        let output = presign(arguments);
        assert!(output.stdout.is_empty());
        let code = output.status.code().unwrap();
        format!(
            "{code} {}",
            String::from_utf8(output.stderr)
                .unwrap()
                .lines()
                .next()
                .unwrap()
        )
    };
    insta::assert_snapshot!(refusal(&[&via[..], &["s3://other/a.pdf"]].concat()), @"78 handout: connection local has no distribution in front of s3://other/: see [connections.local.cloudfront], or leave out --via");
    insta::assert_snapshot!(refusal(&["--via", "cloudfront", "--expires-in", "9999d", place]), @"1 handout: --expires-in asks for 9999d, but CloudFront counts to 2038-01-19T03:14:07Z and no further; ask for less, or take the real end by --expiry-guard clamp");
    insta::assert_snapshot!(refusal(&[&via[..], &["--from-network", "192.0.2.7/24", place]].concat()), @r#"64 error: invalid value '192.0.2.7/24' for '--from-network <NETWORK>': "192.0.2.7/24" is not an IPv4 network: write 192.0.2.0/24 or 192.0.2.7; CloudFront has no policies for IPv6"#);
    insta::assert_snapshot!(refusal(&["--from-network", "192.0.2.7", place]), @"64 error: --not-before and --from-network are for CloudFront only: S3 has no such links; give --via cloudfront");
}

#[tokio::test]
async fn what_could_run_scripts_is_not_linked_where_nothing_would_have_it_saved() {
    let as_kept = |cloudfront: &mut CloudFrontConfig| {
        cloudfront.bucket = Some("reports".to_owned());
        cloudfront.response_overrides = false;
    };
    let mut world = fronted(as_kept);
    for key in ["a.html", "b.SVG", "c.pdf", "d.zip"] {
        world = world.object(key, "x");
    }
    world = world.job(&month("as-kept"));
    world.run().await;
    let issued: Vec<Value> = world
        .audit_of("issue")
        .iter()
        .map(|line| line["key"].clone())
        .collect();
    assert_eq!(issued, ["c.pdf", "d.zip"]);
    let mail = world.mails().remove(0);
    assert_eq!(mail.html.matches("It could run scripts").count(), 2);

    let world = fronted(as_kept).configured(|config| {
        let connection = config.connections.get_mut("local").unwrap();
        connection.directory = None;
        connection.region = Some("eu-west-1".to_owned());
    });
    let config = world.written().to_string_lossy().into_owned();
    let presign = |arguments: &[&str]| {
        let common = ["presign", "--config", &config, "--connection", "local"];
        let via = ["--via", "cloudfront"];
        let output = Command::new(program())
            .args([&common[..], &via, arguments].concat())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.lines().next().unwrap_or_default().to_owned();
        format!("{} {said}", output.status.code().unwrap())
    };
    let (pdf, html) = ("s3://reports/c.pdf", "s3://reports/a.html");
    let table = [
        presign(&[pdf]),
        presign(&[html]),
        presign(&["--inline", pdf]),
        presign(&["--filename", "x", pdf]),
        presign(&["--content-type", "text/plain", pdf]),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    0 
    1 handout: not linked: s3://reports/a.html: it could run scripts, and the distribution cannot be asked to send it as a download (response_overrides = false)
    64 error: --filename, --content-type and --inline do not reach S3 here: response_overrides = false in the connection's cloudfront
    64 error: --filename, --content-type and --inline do not reach S3 here: response_overrides = false in the connection's cloudfront
    64 error: --filename, --content-type and --inline do not reach S3 here: response_overrides = false in the connection's cloudfront
    ");
}

#[tokio::test]
async fn one_signature_serves_a_whole_prefix_but_not_a_choice_of_it() {
    let wildcard = |cloudfront: &mut CloudFrontConfig| cloudfront.wildcard = true;
    let mut whole = month("whole");
    whole["from"]["prefix"] = json!("2026/");
    let mut chosen = month("chosen");
    chosen["from"] = json!({ "connection": "local", "bucket": "reports", "prefix": "2026/", "exclude": ["draft*"] });
    let signatures = async |job: &Value| -> Vec<String> {
        let mut world = fronted(wildcard)
            .object("2026/a.pdf", "one")
            .object("2026/b.pdf", "two")
            .object("2026/draft.pdf", "three")
            .job(job);
        world.run().await;
        let links = world.mails().remove(0).hrefs;
        let ids: std::collections::BTreeSet<_> = links
            .iter()
            .map(|link| parameter(link, "x-handout"))
            .collect();
        assert_eq!(
            ids.len(),
            links.len(),
            "each link has an identity of its own"
        );
        let signature = |link: &String| parameter(link, "Signature").unwrap().to_owned();
        links.iter().map(signature).collect()
    };
    let shared = signatures(&whole).await;
    assert_eq!(shared.len(), 3);
    assert!(shared.iter().all(|signature| *signature == shared[0]));
    let own = signatures(&chosen).await;
    assert_eq!(own.len(), 2);
    assert_ne!(own[0], own[1], "a shared one would open the draft");
}

#[tokio::test]
async fn what_a_distribution_cannot_open_or_a_rule_does_not_allow_is_refused_with_the_reason() {
    let refusal = async |world: World, job: Value| {
        let mut world = world.object("2026/a.pdf", "x").job(&job);
        world.run().await;
        assert!(world.mails().is_empty());
        world.parked().await.join("\n")
    };
    let other_bucket = fronted(|cloudfront| cloudfront.bucket = Some("elsewhere".to_owned()));
    let other_folder = fronted(|cloudfront| cloudfront.origin_path = Some("/site".to_owned()));
    let week = fronted(|_| {}).configured(|config| {
        config.allow[0].max_expires_in = "7d".parse().unwrap();
    });
    let ever = fronted(|_| {}).configured(|config| {
        config.allow[0].max_expires_in = "36500d".parse().unwrap();
    });
    let mut too_long = month("ever");
    too_long["links"]["expires_in"] = json!("36500d");
    let mut page = month("page");
    page["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "galleries/" } });
    let said = [
        Box::pin(refusal(World::new(), month("none"))).await,
        Box::pin(refusal(other_bucket, month("bucket"))).await,
        Box::pin(refusal(other_folder, month("folder"))).await,
        Box::pin(refusal(week, month("cap"))).await,
        Box::pin(refusal(ever, too_long)).await,
        Box::pin(refusal(fronted(|_| {}), page)).await,
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    the job's field links.via asks for cloudfront, and connection local has no distribution in front of s3://reports/: use "s3", or see [connections.local.cloudfront]
    the job's field links.via asks for cloudfront, and connection local has no distribution in front of s3://reports/: use "s3", or see [connections.local.cloudfront]
    the job's field links.via asks for cloudfront, and connection local has no distribution in front of s3://reports/: use "s3", or see [connections.local.cloudfront]
    links.expires_in asks for 30d, but the [[allow]] rule allows 7d at most; ask for less, raise the rule's max_expires_in, or set expiry_guard = "clamp" to print the real end
    links.expires_in asks for 36500d, but CloudFront counts to 2038-01-19T03:14:07Z and no further; ask for less, or set expiry_guard = "clamp" to print the real end
    links.expires_in asks for 30d, but S3 allows 7d at most, and links to pages and lists in a bucket are always signed for S3, also with links.via; publish to a directory, ask for less, or set expiry_guard = "clamp" to print the real end
    "#);
}

/// A picture of one pixel.
const GIF: &str = "GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[tokio::test]
async fn a_page_in_a_directory_shows_cloudfront_pictures_for_a_month() {
    let mut world = fronted(|cloudfront| cloudfront.origin_path = Some("/site/".to_owned()))
        .object("site/day 1/a.jpg", GIF)
        .object("site/b.pdf", "y");
    let dir = world.dir.path().join("pages");
    let mut job = month("shoot");
    job["from"]["prefix"] = json!("site/");
    job["links"]["disposition"] = json!("inline");
    job["gallery"] = json!({ "publish": { "dir": dir } });
    world = world.job(&job);
    world.run().await;
    let published = world.audit_of("published");
    let page = std::fs::read_to_string(published[0]["place"].as_str().unwrap()).unwrap();
    assert!(
        page.contains("img-src https://files.acme.example"),
        "{page}"
    );
    let links = hrefs(&page);
    assert!(
        links
            .iter()
            .any(|link| link.starts_with("https://files.acme.example/day%201/a.jpg?"))
    );
    for link in &links {
        assert!(is_signed(link), "{link}");
    }
}

#[tokio::test]
async fn a_page_in_a_bucket_is_opened_by_s3_and_ends_with_its_links() {
    let mut job = month("shoot");
    job["links"]["expires_in"] = json!("7d");
    job["gallery"] = json!({ "publish": { "bucket": "published", "prefix": "galleries/" } });
    let mut world = fronted(|_| {}).object("a.jpg", "x").job(&job);
    world.run().await;
    let gallery = world.audit_of("gallery").remove(0);
    let issue = world.audit_of("issue").remove(0);
    assert_eq!(gallery["expires_at"], issue["expires_at"]);
    assert_ne!(gallery["access_key_id"], issue["access_key_id"]);
    let mail = world.mails().remove(0);
    let page = mail
        .hrefs
        .iter()
        .find(|href| href.contains("index.html"))
        .unwrap();
    assert!(page.contains("X-Amz-Signature="));
    let opened = world.open().await;
    let (status, body) = crate::support::get(page).await;
    opened.close().await;
    assert_eq!(status, 200);
    assert!(
        String::from_utf8(body)
            .unwrap()
            .contains("https://files.acme.example/a.jpg?")
    );
}

/// The signed links of a portal in front of a distribution: to the CSV, and to the picture on the page.
async fn opened_by_portal(change: impl FnOnce(&mut handout::config::Config)) -> (String, String) {
    const PORTAL: &str = "http://127.0.0.1:9480";
    let mut job = month("opened");
    job["links"] = json!({ "via": "portal", "expires_in": "30d" });
    let world = fronted(|cloudfront| cloudfront.wildcard = true).configured(|config| {
        config.portal.public_url = Some(PORTAL.to_owned());
        change(config);
    });
    let mut world = world
        .object("2026/a b.csv", "one")
        .object("2026/b.jpg", "two")
        .job(&job);
    world.run().await;
    let mails = world.mails();
    let link = &mails[0].hrefs[0];
    let token = handout::links::portal::token_in(link, PORTAL).unwrap();
    let opened = world.open().await;
    let access = opened.services.portal_access(&world.config.portal);
    let (evidence, now) = (OpenEvidence::default(), handout::clock::system());
    let visit = access.visit(token, now).await.unwrap();
    let (how, method) = (OpenKind::Direct, OpenMethod::Get);
    let file = access
        .open(&visit, how, method, &evidence, None, now)
        .await
        .unwrap();
    let read = access.read(token).unwrap();
    let page = access.page_token(read.job, read.recipient);
    let page = access.visit(page.expose(), now).await.unwrap();
    let page = access.view(&page, 0, &evidence, None, now).await.unwrap();
    let picture = page.entries[1].as_ref().unwrap().embed.as_ref().unwrap();
    let lines = world.audit_of("opened");
    let expected = match file.url.expose().starts_with("https://files.acme.example/") {
        true => "K1TESTKEY",
        false => lines[0]["access_key_id"].as_str().unwrap(),
    };
    assert_eq!(lines[0]["access_key_id"], expected);
    assert_eq!(world.audit_of("view")[0]["signed"], 1);
    let origins = access.origins(&visit, now).await.unwrap();
    assert!(
        file.url.expose().starts_with(&format!("{}/", origins[0])),
        "{origins:?}"
    );
    let links = (file.url.expose().to_owned(), picture.expose().to_owned());
    drop(access);
    opened.close().await;
    links
}

#[tokio::test]
async fn the_portals_links_open_through_the_distribution_each_for_its_own_file() {
    let (file, picture) = Box::pin(opened_by_portal(|_| {})).await;
    for (link, key) in [(&file, "a%20b.csv"), (&picture, "b.jpg")] {
        let start = format!("https://files.acme.example/2026/{key}?");
        assert!(link.starts_with(&start), "{link}");
        assert!(is_signed(link), "{link}");
        assert!(!is_signed(&link.replacen("/2026/", "/2027/", 1)), "{link}");
        let end: i64 = parameter(link, "Expires").unwrap().parse().unwrap();
        let left = end - handout::clock::system().as_second();
        assert!((800..=4_600).contains(&left), "{left}");
    }
    assert!(parameter(&file, "x-handout-open").is_some(), "{file}");
    assert!(parameter(&file, "response-content-disposition").is_some());
}

#[tokio::test]
async fn the_portal_asks_the_store_itself_where_a_distribution_would_not_do() {
    let without_names: fn(&mut handout::config::Config) = |config| {
        let connection = config.connections.get_mut("local").unwrap();
        connection.cloudfront.as_mut().unwrap().response_overrides = false;
    };
    let of_another_bucket: fn(&mut handout::config::Config) = |config| {
        let connection = config.connections.get_mut("local").unwrap();
        connection.cloudfront.as_mut().unwrap().bucket = Some("other".to_owned());
    };
    let streamed: fn(&mut handout::config::Config) =
        |config| config.portal.deliver = PortalDelivery::Stream;
    for change in [without_names, of_another_bucket, streamed] {
        let (file, picture) = Box::pin(opened_by_portal(change)).await;
        for link in [file, picture] {
            assert!(link.starts_with("http://127.0.0.1:"), "{link}");
            assert!(parameter(&link, "X-Amz-Signature").is_some(), "{link}");
        }
    }
}
