//! Links of the portal, from the mail to the file: what a job records, what a link opens, and what a revocation stops.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use handout::assemble::Opened;
use handout::clock;
use handout::config::OnDoubt;
use handout::job::{OpenMode, SignIn};
use handout::ledger::portal::{ChangeKind, ChangeTarget};
use handout::links::portal::token_in;
use handout::portal_access::{
    AccessRefusal, ClosedBecause, OpenEvidence, OpenKind, OpenMethod, PortalAccess, ReaderSession,
    SignedInBy, SignedOpen, Visit,
};
use handout::quantity::Span;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::world::{World, email_job};
use crate::support::{get, program};

const PORTAL: &str = "http://127.0.0.1:9480";

/// A world with a portal, two files, and a rule that permits a year.
fn world() -> World {
    World::new()
        .object("2026/a.csv", "a,b\n")
        .object("2026/b.jpg", "not really a picture")
        .configured(|config| {
            config.portal.public_url = Some(PORTAL.to_owned());
            config.portal.revocation_check = Span::seconds(0);
            config.allow[0].max_expires_in = Span::days(365);
        })
}

fn job(id: &str, links: &Value) -> Value {
    let mut job = email_job(id);
    job["links"] = json!({ "via": "portal", "expires_in": "90d" });
    for (field, value) in links.as_object().unwrap() {
        job["links"][field] = value.clone();
    }
    job
}

fn to_two(mut job: Value) -> Value {
    job["email"]["to"] = json!(["Ann Bell <ann@acme.example>", "bo@acme.example"]);
    job
}

fn token(link: &str) -> String {
    token_in(link, PORTAL)
        .unwrap_or_else(|| panic!("no link of the portal: {link}"))
        .to_owned()
}

fn access(world: &World, opened: &Opened) -> PortalAccess {
    opened.services.portal_access(&world.config.portal)
}

fn now() -> Timestamp {
    clock::system()
}

async fn visit(access: &PortalAccess, link: &str) -> Result<Visit, AccessRefusal> {
    access.visit(&token(link), now()).await
}

async fn opened_by(
    access: &PortalAccess,
    visit: &Visit,
    session: Option<&ReaderSession>,
) -> Result<SignedOpen, AccessRefusal> {
    let evidence = OpenEvidence {
        address: Some("198.51.100.7".parse().unwrap()),
        user_agent: Some("curl/8"),
        ..OpenEvidence::default()
    };
    access
        .open(
            visit,
            OpenKind::Button,
            OpenMethod::Get,
            &evidence,
            session,
            now(),
        )
        .await
}

fn session(rid: &str, how: SignedInBy) -> ReaderSession {
    ReaderSession {
        rid: rid.to_owned(),
        how,
        issued: now() - SignedDuration::from_secs(5),
        ends: now() + SignedDuration::from_hours(12),
        sid: [7; 8],
        known_changes: 0,
    }
}

/// Runs the command with the world's configuration.
fn command(config: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(program())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    assert!(
        output.stderr.is_empty() || output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_mail_has_short_links_that_live_for_months_and_open_the_file() {
    let mut world = world().job(&job("daily", &json!({})));
    world.run().await;
    let mails = world.mails();
    let links: Vec<&String> = mails[0]
        .hrefs
        .iter()
        .filter(|link| link.starts_with(PORTAL))
        .collect();
    assert_eq!(links.len(), 2, "{:?}", mails[0].hrefs);
    let issued = world.audit_of("issue");
    assert_eq!(issued.len(), 2);
    for line in &issued {
        assert_eq!(line["access_key_id"], "portal");
        let ends: Timestamp = line["expires_at"].as_str().unwrap().parse().unwrap();
        let days = ends.duration_since(now()).as_hours() / 24;
        assert!((89..=90).contains(&days), "{days}");
    }
    let opened = world.open().await;
    let access = access(&world, &opened);
    let found = visit(&access, links[0]).await.unwrap();
    let object = found.object.clone().unwrap();
    assert_eq!((&*object.name, object.size_bytes), ("a.csv", 4));
    assert_eq!(
        found.reader.as_ref().unwrap().name.as_deref(),
        Some("Ann Bell")
    );
    let signed = opened_by(&access, &found, None).await.unwrap();
    let url = signed.url.expose();
    assert!(
        url.contains(&format!("x-handout-open={}", signed.open_id)),
        "{url}"
    );
    assert!(
        url.contains(&format!("x-handout={}", object.link_id)),
        "{url}"
    );
    assert_eq!(get(url).await, (200, b"a,b\n".to_vec()));
    let left = signed.expires_at.duration_since(now()).as_secs();
    assert!((890..=900).contains(&left), "{left}");
    let lines = world.audit_of("opened");
    assert_eq!(lines.len(), 1, "the line is durable before the link");
    let line = &lines[0];
    assert_eq!(line["open"], *signed.open_id);
    assert_eq!(line["link_id"], issued[0]["link_id"]);
    assert_eq!(line["rid"], issued[0]["rid"]);
    assert_eq!(line["ua"], "curl/8");
    assert!(line["net"].as_str().unwrap().starts_with("keyed:"));
    let again = opened_by(&access, &found, None).await.unwrap();
    assert_ne!(again.open_id, signed.open_id, "each download has an id");
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
    let schema = handout::audit::schema::schema();
    let valid = jsonschema::validator_for(&schema).unwrap();
    for line in world.audit() {
        let errors: Vec<String> = valid.iter_errors(&line).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
    let verified = command(&world.written(), &["audit", "verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
}

#[tokio::test]
async fn a_forged_token_is_refused_and_a_token_is_of_its_recipient_alone() {
    let mut world = world().job(&to_two(job("daily", &json!({}))));
    world.run().await;
    let mails = world.mails();
    let (of_ann, of_bo) = (&mails[0].hrefs[0], &mails[1].hrefs[0]);
    assert_ne!(of_ann, of_bo);
    let opened = world.open().await;
    let access = access(&world, &opened);
    let (ann, bo) = (
        visit(&access, of_ann).await.unwrap(),
        visit(&access, of_bo).await.unwrap(),
    );
    assert_ne!(ann.reader.unwrap().rid, bo.reader.unwrap().rid);
    let upper = of_ann.to_ascii_uppercase();
    assert!(access.visit(&token(&upper), now()).await.is_ok());
    let mut forged = token(of_ann);
    let last = match forged.pop() {
        Some('0') => '1',
        _ => '0',
    };
    forged.push(last);
    let refused = access.visit(&forged, now()).await;
    assert!(matches!(refused, Err(AccessRefusal::Forged)));
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}

#[tokio::test]
async fn a_job_that_is_done_again_mails_the_same_links() {
    let mut world = world()
        .configured(|config| config.ledger.on_doubt = OnDoubt::Resend)
        .job(&job("daily", &json!({})));
    world.run().await;
    let first = world.mails()[0].hrefs.clone();
    let database = rusqlite::Connection::open(world.config.database_file()).unwrap();
    let sql = "DELETE FROM record WHERE kind <> 'plan'";
    assert!(database.execute(sql, []).unwrap() > 0);
    drop(database);
    std::fs::remove_dir_all(world.config.outbox_dir()).unwrap();
    let mut world = world.job(&job("daily", &json!({})));
    world.run().await;
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "it was mailed again");
    assert_eq!(mails[0].hrefs, first);
}

#[tokio::test]
async fn a_revocation_stops_a_second_portal_and_its_command_says_what_works_on() {
    let mut world = world().job(&to_two(job("daily", &json!({}))));
    world.run().await;
    let config = world.written();
    let mails = world.mails();
    let (link, other) = (mails[0].hrefs[0].clone(), mails[0].hrefs[1].clone());
    let of_bo = mails[1].hrefs[0].clone();
    let opened = world.open().await;
    let (first, second) = (access(&world, &opened), access(&world, &opened));
    let found = visit(&first, &link).await.unwrap();
    opened_by(&first, &found, None).await.unwrap();
    assert!(visit(&second, &link).await.is_ok());
    let dry = command(&config, &["revoke", "link", &link, "--dry-run"]);
    assert!(
        said(&dry).contains("would change: the link"),
        "{}",
        said(&dry)
    );
    assert!(visit(&second, &link).await.is_ok());
    let revoked = command(&config, &["revoke", "link", &link, "--why", "wrong month"]);
    let told = said(&revoked);
    assert!(told.contains("is revoked"), "{told}");
    assert!(
        told.contains("1 link that visitors got before work until"),
        "{told}"
    );
    for portal in [&first, &second] {
        let refused = visit(portal, &link).await;
        assert!(
            matches!(refused, Err(AccessRefusal::Revoked { .. })),
            "{refused:?}"
        );
        assert!(visit(portal, &other).await.is_ok(), "the other link opens");
        assert!(visit(portal, &of_bo).await.is_ok(), "Bo's link opens");
    }
    let line = &world.audit_of("revoked")[0];
    assert_eq!(
        (&line["what"], &line["reason"]),
        (&json!("link"), &json!("wrong month"))
    );
    let issued = world.audit_of("issue").into_iter();
    let mut issued = issued.filter(|issued| issued["link_id"] == line["link_id"]);
    let issued = issued.next().unwrap();
    for field in ["job", "rid", "bucket", "key"] {
        assert_eq!(line[field], issued[field], "{line}");
    }
    let again = command(&config, &["revoke", "link", &link, "--json"]);
    let report: Value = serde_json::from_str(&said(&again)).unwrap();
    assert_eq!(
        (&report["unchanged"], again.status.code()),
        (&json!(true), Some(1))
    );
    let explained = command(&config, &["explain", &link]);
    assert!(
        said(&explained).contains("revoked at"),
        "{}",
        said(&explained)
    );
    command(&config, &["restore", "link", &link]);
    assert!(visit(&second, &link).await.is_ok());
    for (what, place) in [
        ("job", "daily"),
        ("recipient", "ann@acme.example"),
        ("object", "s3://reports/2026/a.csv"),
    ] {
        command(&config, &["revoke", what, place]);
        let refused = visit(&second, &link).await;
        assert!(
            matches!(refused, Err(AccessRefusal::Revoked { .. })),
            "{what}"
        );
        let is_bo_revoked = visit(&second, &of_bo).await.is_err();
        assert_eq!(is_bo_revoked, what != "recipient", "{what}");
        command(&config, &["restore", what, place]);
        assert!(visit(&second, &link).await.is_ok(), "{what}");
    }
    let refused = AccessRefusal::OtherReader;
    let token = first.read(&token(&link)).unwrap();
    for _ in 0..3 {
        let evidence = OpenEvidence::default();
        let recorded = first.refused(&token, &refused, None, &evidence, now());
        recorded.await.unwrap();
    }
    assert_eq!(world.audit_of("refused").len(), 1, "one line a minute");
    // The log is open as long as something holds it.
    drop((first, second));
    opened.close().await;
}

#[tokio::test]
async fn the_end_of_a_jobs_links_can_be_moved_and_an_ended_link_is_refused() {
    let mut world = world().job(&job("daily", &json!({})));
    world.run().await;
    let config = world.written();
    let link = world.mails()[0].hrefs[0].clone();
    let opened = world.open().await;
    let access = access(&world, &opened);
    let late = now() + SignedDuration::from_hours(24 * 100);
    let ended = access.visit(&token(&link), late).await;
    assert!(
        matches!(ended, Err(AccessRefusal::Ended { .. })),
        "{ended:?}"
    );
    command(&config, &["extend", "daily", "--by", "200d"]);
    let found = access.visit(&token(&link), late).await.unwrap();
    assert!(found.ends_at > late);
    command(
        &config,
        &["extend", "daily", "--until", "2026-01-01T00:00:00Z"],
    );
    let ended = visit(&access, &link).await;
    assert!(
        matches!(ended, Err(AccessRefusal::Ended { .. })),
        "{ended:?}"
    );
    assert_eq!(world.audit_of("moved").len(), 2);
    let changes = access.records().changes().await.unwrap();
    assert!(matches!(changes[0].kind, ChangeKind::Moved { .. }));
    let daily = "daily".parse().unwrap();
    assert_eq!(changes[0].target, ChangeTarget::Job { job: daily });
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}

#[tokio::test]
async fn a_visitor_opens_what_the_job_lets_the_signed_in_recipient_open() {
    let shared = to_two(job(
        "shared",
        &json!({ "sign_in": "any", "per_recipient": false }),
    ));
    let own = job("own", &json!({ "sign_in": "code", "open": "direct" }));
    let mut world = world().job(&own).job(&shared);
    world.run().await;
    let mails = world.mails();
    let opened = world.open().await;
    let access = access(&world, &opened);
    let rid = |address: &str| access.rid(address);
    let by_subject = |id: &str| {
        let subject = format!("Report {id}");
        let mail = mails.iter().find(|mail| mail.subject == subject);
        mail.unwrap().hrefs[0].clone()
    };
    let own = visit(&access, &by_subject("own")).await.unwrap();
    assert_eq!((own.sign_in, own.open), (SignIn::Code, OpenMode::Direct));
    let refused = opened_by(&access, &own, None).await;
    assert!(matches!(
        refused,
        Err(AccessRefusal::SignIn {
            demand: SignIn::Code
        })
    ));
    let bo = session(&rid("bo@acme.example"), SignedInBy::Code);
    let refused = opened_by(&access, &own, Some(&bo)).await;
    assert!(matches!(refused, Err(AccessRefusal::OtherReader)));
    let ann = session(&rid("ann@acme.example"), SignedInBy::Code);
    opened_by(&access, &own, Some(&ann)).await.unwrap();
    let ended = ReaderSession {
        ends: now(),
        ..ann.clone()
    };
    assert!(opened_by(&access, &own, Some(&ended)).await.is_err());
    let shared = visit(&access, &by_subject("shared")).await.unwrap();
    assert_eq!(shared.reader, None);
    opened_by(&access, &shared, Some(&bo)).await.unwrap();
    let eve = session(&rid("eve@acme.example"), SignedInBy::Oidc("staff".into()));
    let refused = opened_by(&access, &shared, Some(&eve)).await;
    assert!(matches!(refused, Err(AccessRefusal::OtherReader)));
    let lines = world.audit_of("opened");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["signed_in"], "code");
    assert_eq!(lines[1]["reader"], *bo.rid, "the line says who opened it");
    let mine = access.mine(&bo, 10, now()).await.unwrap();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].job.job.as_str(), "shared");
    // A recipient is shut out of what all share, too: the sign-in tells them apart.
    let config = world.written();
    let of_bo = ["recipient", "bo@acme.example", "--job", "shared"];
    let told = said(&command(&config, &[&["revoke"][..], &of_bo].concat()));
    assert!(told.contains("1 link that visitors got before"), "{told}");
    let refused = opened_by(&access, &shared, Some(&bo)).await;
    assert!(matches!(refused, Err(AccessRefusal::Revoked { .. })));
    assert!(access.mine(&bo, 10, now()).await.unwrap().is_empty());
    opened_by(&access, &shared, Some(&ann)).await.unwrap();
    let found = command(
        &config,
        &["audit", "find", "--recipient", "bo@acme.example"],
    );
    assert!(
        said(&found).contains("\"ev\":\"opened\""),
        "{}",
        said(&found)
    );
    command(&config, &[&["restore"][..], &of_bo].concat());
    opened_by(&access, &shared, Some(&bo)).await.unwrap();
    command(&world.written(), &["revoke", "sessions", "bo@acme.example"]);
    let refused = opened_by(&access, &shared, Some(&bo)).await;
    assert!(matches!(refused, Err(AccessRefusal::SignIn { .. })));
    let new = ReaderSession {
        known_changes: access.known_changes().await.unwrap(),
        ..bo
    };
    opened_by(&access, &shared, Some(&new)).await.unwrap();
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}

#[tokio::test]
async fn a_change_is_made_for_what_exists_and_within_the_rules() {
    let open = job("open", &json!({ "per_recipient": false }));
    let mut world = world().job(&to_two(open)).job(&job("own", &json!({})));
    world.config.allow[0].max_expires_in = Span::days(90);
    world.run().await;
    let config = world.written();
    let refusal = |arguments: &[&str]| {
        let output = Command::new(program())
            .args(arguments)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (arguments, expected) in [
        (
            &["revoke", "job", "onw"][..],
            "has no links of the portal for a job onw",
        ),
        (
            &["revoke", "recipient", "eve@acme.example", "--job", "own"],
            "has no such recipient",
        ),
        (
            &["revoke", "recipient", "bo@acme.example", "--job", "open"],
            "revoke the job",
        ),
        (&["extend", "own", "--by", "3650d"], "max_expires_in"),
        (
            &["extend", "own", "--until", "2999-01-01T00:00:00Z"],
            "max_expires_in",
        ),
    ] {
        let told = refusal(arguments);
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    let records = || world.audit_of("revoked").len() + world.audit_of("moved").len();
    assert_eq!(records(), 0);
    command(&config, &["extend", "own", "--by", "90d"]);
    assert_eq!(records(), 1);

    // A command that is killed behind its change has no line; the next one writes it.
    let killed = Command::new(program())
        .args(["revoke", "job", "own", "--config"])
        .arg(&config)
        .env("HANDOUT_FAILPOINT", "change-created")
        .status()
        .unwrap();
    assert_eq!(killed.code(), None);
    assert_eq!(records(), 1);
    let again = Command::new(program())
        .args(["revoke", "job", "own", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(said(&again).starts_with("already: "), "{}", said(&again));
    assert_eq!(records(), 2);
}

#[tokio::test]
async fn a_rule_that_asks_for_a_sign_in_permits_the_portal_alone() {
    let mut world = world();
    world.config.allow[0].sign_in = SignIn::Code;
    let mut world = world
        .job(&job("asked", &json!({})))
        .job(&job("bare", &json!({ "via": "s3", "expires_in": "1h" })));
    world.run().await;
    let parked = world.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert!(parked[0].contains("asks for a sign-in"), "{parked:?}");
    assert_eq!(world.mails().len(), 1);
}

#[tokio::test]
async fn a_page_has_one_line_and_pictures_that_open() {
    let mut gallery = job("daily", &json!({}));
    gallery["gallery"] = json!({ "title": "Days" });
    let mut world = world().job(&gallery);
    world.run().await;
    let mails = world.mails();
    let page = mails[0].hrefs.iter().find(|link| link.contains("/j/"));
    let page = page
        .unwrap_or_else(|| panic!("{:?}", mails[0].hrefs))
        .clone();
    let opened = world.open().await;
    let access = access(&world, &opened);
    let found = visit(&access, &page).await.unwrap();
    assert_eq!(found.job.title.as_deref(), Some("Days"));
    let view = async |page: u32| {
        let evidence = OpenEvidence::default();
        access.view(&found, page, &evidence, None, now()).await
    };
    let first = view(0).await.unwrap();
    assert_eq!((first.entries.len(), first.pages), (2, 1));
    let entry = |at: usize| first.entries[at].as_ref().unwrap();
    assert!(entry(0).embed.is_none(), "a page does not show a table");
    let picture = entry(1).embed.as_ref().unwrap();
    assert_eq!(get(picture.expose()).await.0, 200);
    let second = view(0).await.unwrap();
    let again = second.entries[1].as_ref().unwrap().embed.as_ref();
    assert_eq!(
        again.map(|url| url.expose()),
        Some(picture.expose()),
        "the browser's cache has it"
    );
    let link = format!("{PORTAL}/d/{}", entry(1).token.expose());
    let object = visit(&access, &link);
    assert_eq!(object.await.unwrap().object.unwrap().name, "b.jpg");
    assert!(matches!(view(1).await, Err(AccessRefusal::Forged)));
    let lines = world.audit_of("view");
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["objects"], &lines[0]["signed"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(world.audit_of("gallery")[0]["access_key_id"], "portal");
    command(
        &world.written(),
        &["revoke", "object", "s3://reports/2026/b.jpg"],
    );
    let third = view(0).await.unwrap();
    let closed = third.entries[1].as_ref().unwrap_err();
    assert_eq!(
        (&*closed.path, &closed.reason),
        ("2026/b.jpg", &ClosedBecause::Revoked)
    );
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}

// curl waits for the endpoint, which runs in this process.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_head_answers_head_and_is_no_open() {
    let mut world = world().job(&job("daily", &json!({})));
    world.run().await;
    let link = world.mails()[0].hrefs[0].clone();
    let opened = world.open().await;
    let access = access(&world, &opened);
    let found = visit(&access, &link).await.unwrap();
    let evidence = OpenEvidence::default();
    let (how, method) = (OpenKind::Direct, OpenMethod::Head);
    let signed = access.open(&found, how, method, &evidence, None, now());
    let signed = signed.await.unwrap();
    let head = Command::new("curl")
        .args([
            "-s",
            "-I",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            signed.url.expose(),
        ])
        .output()
        .unwrap();
    assert_eq!(said(&head), "200");
    assert_eq!(
        get(signed.url.expose()).await.0,
        403,
        "it is for HEAD alone"
    );
    assert_eq!(world.audit_of("probe").len(), 1);
    assert_eq!(world.audit_of("opened").len(), 0);
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}

#[tokio::test]
async fn a_file_that_is_gone_says_so_and_names_are_those_of_the_mail() {
    let named = json!({ "filename": "{{recipient.name}} - {{object.name}}" });
    let mut world = world().job(&job("daily", &named));
    world.run().await;
    let links = world.mails()[0].hrefs.clone();
    let opened = world.open().await;
    let access = access(&world, &opened);
    let found = visit(&access, &links[0]).await.unwrap();
    assert_eq!(found.object.unwrap().name, "Ann Bell - a.csv");
    std::fs::remove_file(world.bucket("reports").join("2026/b.jpg")).unwrap();
    let gone = visit(&access, &links[1]).await;
    assert!(matches!(gone, Err(AccessRefusal::ObjectGone)), "{gone:?}");
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}

#[tokio::test]
async fn a_job_may_ask_for_a_stricter_sign_in_and_not_for_a_weaker_one() {
    let mut strict = world().configured(|config| config.allow[0].sign_in = SignIn::Code);
    for (id, sign_in) in [("weak", "none"), ("any", "any"), ("oidc", "oidc")] {
        strict = strict.job(&job(id, &json!({ "sign_in": sign_in })));
    }
    let mut strict = strict.job(&job("silent", &json!({})));
    strict.run().await;
    let mut reasons = strict.parked().await;
    reasons.sort();
    assert_eq!(strict.mails().len(), 1, "{reasons:?}");
    assert_eq!(reasons.len(), 3);
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("[[portal.oidc]]")),
        "{reasons:?}"
    );
    let weak = "a job may ask for more, not for less";
    let count = reasons
        .iter()
        .filter(|reason| reason.contains(weak))
        .count();
    assert_eq!(count, 2, "{reasons:?}");
    let mut closed = world()
        .configured(|config| config.allow[0].via = vec![handout::job::Via::S3])
        .job(&job("daily", &json!({})));
    closed.run().await;
    let reasons = closed.parked().await;
    assert!(
        reasons[0].contains("do not let portal answer its links"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_lasting_outage_of_the_check_is_no_reason_to_open_a_link() {
    // The check takes the state of the ledger, which is a file here: damage stops opens at once.
    let mut world = world().job(&job("daily", &json!({})));
    world.run().await;
    let link = world.mails()[0].hrefs[0].clone();
    let opened = world.open().await;
    let access = access(&world, &opened);
    assert!(visit(&access, &link).await.is_ok());
    let database = rusqlite::Connection::open(world.config.database_file()).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    let sql = "INSERT INTO portal (name, body, at) VALUES ('gone/000000000000', x'3f', 0)";
    database.execute(sql, []).unwrap();
    let refused = visit(&access, &link).await;
    assert!(
        matches!(refused, Err(AccessRefusal::Unavailable { .. })),
        "{refused:?}"
    );
    // The log is open as long as something holds it.
    drop(access);
    opened.close().await;
}
