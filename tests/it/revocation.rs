//! Revocation of signed links: what the plan says, what the tag does, and what a command that was killed leaves behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use handout::config::RevokeMeans;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::answering::{LISTING, answering, date};
use crate::support::docs::page;
use crate::support::servers::{Parts, Server, run};
use crate::support::world::{World, email_job};
use crate::support::{get, hrefs, program};

/// A world with two files, in which `revoke --apply` may tag.
fn world() -> World {
    World::new()
        .object("2026/a.csv", "a,b\n")
        .object("2026/b.jpg", "not really a picture")
        .configured(|config| {
            config.revoke.apply = vec![RevokeMeans::Ledger, RevokeMeans::Tag];
        })
}

fn to_two(mut job: Value) -> Value {
    job["email"]["to"] = json!(["Ann Bell <ann@acme.example>", "bo@acme.example"]);
    job
}

fn handout(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(config);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn status(link: &str) -> u16 {
    get(link).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaked_link_is_refused_when_its_object_is_tagged_and_opens_when_it_is_restored() {
    let mut world = world().job(&to_two(email_job("daily")));
    world.run().await;
    let config = world.written();
    let mails = world.mails();
    let (link, other) = (&mails[0].hrefs[0], &mails[0].hrefs[1]);
    let of_bo = &mails[1].hrefs[0];
    let opened = world.open().await;

    let dry = handout(&config, &["revoke", "link", link, "--dry-run"]);
    let plan = said(&dry);
    assert!(
        plan.contains("1 link of S3 to 1 object in s3://reports, of 1 recipient"),
        "{plan}"
    );
    assert!(
        plan.contains("A link of S3 cannot be revoked alone"),
        "{plan}"
    );
    assert!(
        plan.contains("1 link of 1 recipient that is not meant dies too"),
        "{plan}"
    );
    assert_eq!(plan.matches("--apply does it").count(), 1, "{plan}");
    assert!(dry.status.success(), "there is something to revoke");
    assert_eq!(status(link).await, 200);
    let unrevoked = handout(&config, &["explain", link]);
    assert!(
        unrevoked.status.success() && said(&unrevoked).contains("revoked      no, by"),
        "{}",
        said(&unrevoked)
    );

    let asked = ["--why", "leaked", "--asked-by", "Ann of the desk"];
    let command = ["revoke", "link", link, "--apply", "--json"];
    let applied = handout(&config, &[&command[..], &asked].concat());
    let report: Value = serde_json::from_str(&said(&applied)).unwrap();
    assert_eq!(report["by"], "Ann of the desk");
    assert_eq!(report["tags"]["probes"][0]["proof"], "refused", "{report}");
    handout(&config, &["restore", "link", link, "--apply"]);
    assert_eq!(status(link).await, 200);
    let applied = handout(&config, &[&command[..4], &asked].concat());
    let told = said(&applied);
    assert!(applied.status.success(), "{told}{}", complained(&applied));
    assert!(
        told.contains("1 object got the tag handout-revoked=true"),
        "{told}"
    );
    assert!(told.contains("was refused after 0"), "{told}");
    for refused in [link, of_bo] {
        assert_eq!(status(refused).await, 403);
    }
    assert_eq!(status(other).await, 200, "the other file opens");
    let line = world.audit_of("revoked").remove(0);
    let issued = world.audit_of("issue").into_iter();
    let mut issued = issued.filter(|issued| issued["link_id"] == line["link_id"]);
    assert_eq!(line["rid"], issued.next().unwrap()["rid"], "{line}");
    for (field, expected) in [
        ("what", "link"),
        ("job", "daily"),
        ("by", "Ann of the desk"),
        ("means", "tag"),
        ("bucket", "reports"),
        ("key", "2026/a.csv"),
        ("connection", "local"),
        ("reason", "leaked"),
    ] {
        assert_eq!(line[field], expected, "{line}");
    }
    assert_eq!(line.get("ordinal"), None);
    assert!(handout(&config, &["audit", "verify"]).status.success());
    let found = handout(
        &config,
        &["audit", "find", "--key", "s3://reports/2026/a.csv"],
    );
    assert!(
        said(&found).contains("\"ev\":\"revoked\""),
        "{}",
        said(&found)
    );

    for dead in [link, of_bo] {
        let explained = handout(&config, &["explain", dead]);
        let told = said(&explained);
        assert!(
            told.contains(" by Ann of the desk, with its link (leaked): its object got the tag"),
            "{told}"
        );
        assert_eq!(explained.status.code(), Some(1));
    }
    let explained = handout(&config, &["explain", other, "--json"]);
    let explained: Value = serde_json::from_str(&said(&explained)).unwrap();
    assert_eq!(explained["revocations"], json!([]));
    // The id of a link in an URL of another object says nothing.
    let forged = link.replace("a.csv", "b.jpg");
    let explained = said(&handout(&config, &["explain", &forged]));
    assert!(!explained.contains("  revoked "), "{explained}");

    let again = handout(&config, &["revoke", "link", link, "--apply", "--json"]);
    let report: Value = serde_json::from_str(&said(&again)).unwrap();
    assert_eq!(report["tags"]["probes"][0]["proof"], "had-tag", "{report}");
    assert_eq!(
        (&report["tags"]["changed"], &report["tags"]["unchanged"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(again.status.code(), Some(1), "nothing was changed");
    assert_eq!(world.audit_of("revoked").len(), 2);

    let kept = handout(&config, &["restore", "link", link]);
    assert!(
        complained(&kept).contains("1 object still has the tag"),
        "{}",
        complained(&kept)
    );
    assert_eq!(status(link).await, 403);
    let restored = handout(&config, &["restore", "link", link, "--apply"]);
    assert!(restored.status.success(), "{}", complained(&restored));
    assert_eq!(status(link).await, 200);
    assert_eq!(world.audit_of("restored")[0]["means"], "tag");
    let explained = said(&handout(&config, &["explain", link]));
    assert!(explained.contains("revoked      no, by"), "{explained}");
    opened.close().await;
}

/// A revocation that only the portal heeds is told as such, where a link of S3 is meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_in_the_ledger_alone_is_no_end_of_a_link_of_s3() {
    let mut world = world().job(&email_job("daily"));
    world.run().await;
    let config = world.written();
    let link = world.mails()[0].hrefs[0].clone();
    let opened = world.open().await;
    handout(&config, &["revoke", "object", "s3://reports/2026/a.csv"]);
    assert_eq!(world.audit_of("revoked").len(), 1);
    let explained = handout(&config, &["explain", &link]);
    let told = said(&explained);
    assert!(
        told.contains("with its object: at the portal alone, so that the store goes on"),
        "{told}"
    );
    assert!(explained.status.success(), "it opens");
    assert_eq!(status(&link).await, 200);
    opened.close().await;
}

/// A store that lists and tags, and lets no object be read, as an identity without `s3:GetObject` sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_may_not_read_proves_nothing_and_that_is_told_apart_from_a_tag() {
    const TAGS: &str =
        "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet></TagSet></Tagging>";
    const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    let (url, asked) = answering(date(SignedDuration::ZERO), move |request| {
        let first = request.lines().next().unwrap_or_default();
        let is_gone = first.starts_with("GET /gone/");
        let (status, body) = match (first.contains("?tagging"), first.contains("list-type")) {
            (true, _) => ("200 OK", TAGS),
            (_, true) => ("200 OK", LISTING),
            _ if is_gone => ("404 Not Found", ""),
            _ => ("403 Forbidden", DENIED),
        };
        (status, "Content-Type: application/xml\r\n".to_owned(), body)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut config = format!(
        "state_dir = {state:?}\n[revoke]\napply = [\"ledger\", \"tag\"]\n[connections.store]\nregion = \"eu-west-1\"\nendpoint_url = \"{url}\"\npath_style = true\n"
    );
    for bucket in ["acme", "gone"] {
        config += &format!(
            "[[allow]]\nconnection = \"store\"\nbucket = \"{bucket}\"\nrecipients = [\"*@acme.example\"]\n"
        );
    }
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let typed = |arguments: &[&str]| {
        tokio::task::block_in_place(|| {
            let mut command = Command::new(program());
            command.args(arguments).current_dir(dir.path());
            command.env_clear().envs(AWS).env("HOME", dir.path());
            command.output().unwrap()
        })
    };
    for (bucket, proof, words) in [
        (
            "acme",
            "never-opened",
            "links of this connection to it never opened",
        ),
        ("gone", "not-there", "was not there before"),
    ] {
        let job = json!({
            "v": 1,
            "id": bucket,
            "from": { "connection": "store", "bucket": bucket, "prefix": "" },
            "links": { "expires_in": "50m" },
            "email": { "to": ["ann@acme.example"], "subject": "Report" },
        });
        fs::write(dir.path().join("job.json"), job.to_string()).unwrap();
        let ran = typed(&["job", "run", "job.json"]);
        assert!(ran.status.success(), "{}{}", said(&ran), complained(&ran));
        let revoked = typed(&["revoke", "job", bucket, "--apply", "--probe-for", "1s"]);
        let told = said(&revoked) + &complained(&revoked);
        assert_eq!(revoked.status.code(), Some(1), "{told}");
        assert!(
            told.contains("got the tag") && told.contains(words),
            "{told}"
        );
        assert!(!told.contains("standing Deny is missing"), "{told}");
        let again = typed(&["revoke", "job", bucket, "--apply", "--json"]);
        let report: Value = serde_json::from_str(&said(&again)).unwrap();
        assert_eq!(report["tags"]["probes"][0]["proof"], proof, "{report}");
    }
    let puts = asked.lock().unwrap();
    let puts = puts.iter().filter(|request| request.starts_with("PUT "));
    assert_eq!(puts.count(), 4, "the fake forgets tags");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_was_killed_behind_the_tag_writes_its_line_when_it_is_run_again() {
    let mut world = world().job(&email_job("daily"));
    world.run().await;
    let config = world.written();
    let link = world.mails()[0].hrefs[0].clone();
    let opened = world.open().await;
    let killed = Command::new(program())
        .args(["revoke", "job", "daily", "--apply", "--config"])
        .arg(&config)
        .env("HANDOUT_FAILPOINT", "object-tagged")
        .status()
        .unwrap();
    assert_eq!(killed.code(), None);
    assert_eq!(status(&link).await, 403, "the tag is there");
    assert_eq!(world.audit_of("revoked").len(), 0);
    let again = handout(&config, &["revoke", "job", "daily", "--apply"]);
    assert!(again.status.success(), "{}", complained(&again));
    let told = said(&again);
    assert!(
        told.contains("1 object got the tag handout-revoked=true; 1 had it"),
        "{told}"
    );
    let keys: Vec<Value> = world
        .audit_of("revoked")
        .iter()
        .map(|line| line["key"].clone())
        .collect();
    assert_eq!(keys, ["2026/a.csv", "2026/b.jpg"]);
    // Another revocation of one of them keeps its tag.
    let object = "s3://reports/2026/a.csv";
    let twice = handout(&config, &["revoke", "object", object, "--apply"]);
    let of_job = handout(&config, &["restore", "job", "daily", "--apply"]);
    assert_eq!(status(&link).await, 403);
    assert_eq!(status(&world.mails()[0].hrefs[1]).await, 200);
    let last = handout(&config, &["restore", "object", object, "--apply"]);
    let told = [twice, of_job, last].map(|output| said(&output) + &complained(&output));
    assert_eq!(status(&link).await, 200, "{told:#?}");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_configuration_does_not_allow_is_printed_and_not_done() {
    let mut world = world().job(&email_job("daily"));
    world.config.revoke.apply.clear();
    world.run().await;
    let config = world.written();
    let link = world.mails()[0].hrefs[0].clone();
    let opened = world.open().await;
    let printed = handout(&config, &["revoke", "job", "daily", "--apply"]);
    let (told, complaint) = (said(&printed), complained(&printed));
    assert!(
        told.contains("[revoke] apply = [\"ledger\", \"tag\"]") && !told.contains("$ aws"),
        "{told}"
    );
    assert!(
        complaint.contains("revoke.apply in the configuration does not have \"tag\""),
        "{complaint}"
    );
    let object = handout(&config, &["revoke", "object", "s3://reports/2026/a.csv"]);
    assert!(
        complained(&object).contains("does not have \"ledger\""),
        "{}",
        complained(&object)
    );
    assert_eq!(
        (printed.status.code(), object.status.code()),
        (Some(1), Some(1))
    );
    assert_eq!(status(&link).await, 200);
    assert_eq!(world.audit_of("revoked").len(), 0);
    for (arguments, expected) in [
        (
            &["revoke", "job", "dialy"][..],
            "has no links of the portal for a job dialy",
        ),
        (
            &["revoke", "link", "https://x.example/a?X-Amz-Signature=00"],
            "has this link",
        ),
        (&["revoke", "standing-deny", "reports"], "s3://BUCKET"),
    ] {
        let refused = handout(&config, arguments);
        assert!(
            complained(&refused).contains(expected),
            "{arguments:?}: {}",
            complained(&refused)
        );
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_restored_one_by_one_and_what_goes_on_is_no_success() {
    let mut world = world().job(&email_job("daily"));
    world.run().await;
    let config = world.written();
    let links = world.mails()[0].hrefs.clone();
    let opened = world.open().await;
    for object in ["s3://reports/2026/a.csv", "s3://reports/2026/b.jpg"] {
        let revoked = handout(&config, &["revoke", "object", object, "--apply"]);
        assert!(revoked.status.success(), "{}", complained(&revoked));
    }
    for never in ["s3://reports/2026/never.pdf", "s3://reports/2026/a.csv"] {
        handout(&config, &["restore", "object", never, "--apply"]);
    }
    assert_eq!(
        (status(&links[0]).await, status(&links[1]).await),
        (200, 403)
    );

    // Without --apply the link goes on, and that is said by the exit code.
    let printed = handout(&config, &["revoke", "object", "s3://reports/2026/a.csv"]);
    assert_eq!(printed.status.code(), Some(1), "{}", said(&printed));
    assert!(
        !said(&printed).contains("at the portal"),
        "{}",
        said(&printed)
    );
    handout(&config, &["restore", "object", "s3://reports/2026/a.csv"]);
    for unknown in [
        &["revoke", "object", "s3://reports/2026/nope.pdf"][..],
        &["revoke", "recipient", "nope@acme.example"],
        &["revoke", "link", &"0".repeat(32)],
    ] {
        let revoked = handout(&config, unknown);
        let complaint = complained(&revoked);
        assert_eq!(revoked.status.code(), Some(1), "{unknown:?}");
        assert!(
            complaint.contains("is it a typing error?"),
            "{unknown:?}: {complaint}"
        );
    }

    // A log that cannot be read is no log without links.
    let audit = world.config.audit_place().to_path_buf();
    fs::write(audit.join("notes.jsonl"), "").unwrap();
    let object = ["revoke", "object", "s3://reports/2026/a.csv", "--apply"];
    let blind = handout(&config, &object);
    let complaint = complained(&blind);
    assert_eq!(blind.status.code(), Some(1), "{}", said(&blind));
    assert!(
        complaint.contains("is not known, and none of them is revoked"),
        "{complaint}"
    );
    assert_eq!(status(&links[0]).await, 200);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zip_that_was_made_of_a_revoked_object_is_named_and_is_no_success() {
    let mut job = email_job("album");
    job["zip"] = json!({ "publish": { "bucket": "pages" } });
    let mut world = world()
        .object("2026/c.txt", "secret")
        .configured(|config| config.allow[0].publish.push("s3://pages".to_owned()));
    localstore::create_bucket(&world.dir.path().join("buckets"), "pages").unwrap();
    world = world.job(&job);
    world.run().await;
    let config = world.written();
    let opened = world.open().await;
    let revoked = handout(
        &config,
        &["revoke", "object", "s3://reports/2026/a.csv", "--apply"],
    );
    let told = said(&revoked);
    assert!(
        told.contains("1 link to ZIP files and renditions of jobs with this object")
            && told.contains("revoke the job (album)"),
        "{told}{}",
        complained(&revoked)
    );
    assert_eq!(revoked.status.code(), Some(1));
    opened.close().await;
}

/// The page of docs, typed word for word on one machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_about_a_leaked_link_does_what_it_says() {
    let mut world = World::new().configured(|config| {
        config.revoke.apply = vec![RevokeMeans::Ledger, RevokeMeans::Tag];
        config.allow[0].bucket = "acme-reports".to_owned();
    });
    let buckets = world.dir.path().join("buckets");
    localstore::create_bucket(&buckets, "acme-reports").unwrap();
    let folder = buckets.join("acme-reports/2026/11/23");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("q3.pdf"), "a report").unwrap();
    let mut job = to_two(email_job("acme-2026-11-23"));
    job["from"]["bucket"] = "acme-reports".into();
    world = world.job(&job);
    world.run().await;
    world.written();
    let link = world.mails()[0].hrefs[0].clone();
    fs::write(world.dir.path().join("leaked-url.txt"), &link).unwrap();
    let opened = world.open().await;
    let blocks = page("docs/links/leaked.md").blocks("sh");
    let [_, leaked, targets, restored] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    let typed = |block: &str| {
        let mut path = program();
        path.pop();
        let output = Command::new("/bin/sh")
            .args(["-c", block])
            .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
            .current_dir(world.dir.path())
            .output()
            .unwrap();
        said(&output) + &complained(&output)
    };
    let told = typed(leaked);
    assert!(told.contains("was refused after"), "{told}");
    assert_eq!(status(&link).await, 403);
    let told = typed(targets);
    // The object has the tag already, so that a refusal proves nothing.
    assert!(
        !told.contains("error") && told.matches("was refused before this command").count() == 3,
        "{told}"
    );
    let lines = world.audit_of("revoked");
    let mut whats: Vec<&str> = lines
        .iter()
        .map(|line| line["what"].as_str().unwrap())
        .collect();
    whats.sort_unstable();
    // The object is in the ledger, too.
    assert_eq!(whats, ["job", "link", "object", "object", "recipient"]);
    let told = typed(restored);
    assert!(told.contains("\"ev\":\"revoked\""), "{told}");
    assert_eq!(status(&link).await, 403, "other revocations stand");
    assert_eq!(world.audit_of("restored").len(), 2);
    opened.close().await;
}

const AWS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_DEFAULT_REGION", "eu-west-1"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_PAGER", ""),
];

/// AWS as moto plays it: a bucket with a file and a policy, a configuration, and a job that was run.
struct Cloud {
    dir: tempfile::TempDir,
    server: Server,
    parts: Parts,
}

impl Cloud {
    fn new(parts: Parts, connection: &str) -> Self {
        let cloud = Self {
            dir: tempfile::tempdir().unwrap(),
            server: parts.start("moto.py", &[]),
            parts,
        };
        cloud.aws(&[
            "s3api",
            "create-bucket",
            "--bucket",
            "acme-reports",
            "--create-bucket-configuration",
            "LocationConstraint=eu-west-1",
        ]);
        cloud.write("q3.pdf", "a report");
        cloud.aws(&[
            "s3api",
            "put-object",
            "--bucket",
            "acme-reports",
            "--key",
            "2026/11/23/q3.pdf",
            "--body",
            "q3.pdf",
            "--tagging",
            "team=sales",
        ]);
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Own","Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::acme-reports/*"}]}"#;
        cloud.aws(&[
            "s3api",
            "put-bucket-policy",
            "--bucket",
            "acme-reports",
            "--policy",
            policy,
        ]);
        let state = cloud.dir.path().join("state");
        cloud.write("config.toml", &format!(
            "state_dir = {state:?}\n[revoke]\napply = [\"ledger\", \"tag\"]\n[connections.reports]\nregion = \"eu-west-1\"\n{connection}\n[[allow]]\nconnection = \"reports\"\nbucket = \"acme-reports\"\nrecipients = [\"*@acme.example\"]\n"
        ));
        cloud
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn prepared(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .envs(AWS)
            .env("AWS_ENDPOINT_URL", self.server.url())
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path());
        command
    }

    fn aws(&self, arguments: &[&str]) -> String {
        let mut command = self.parts.tool("aws");
        command.args(arguments);
        String::from_utf8(run(&mut self.prepared(command))).unwrap()
    }

    fn handout(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(arguments);
        self.prepared(command).output().unwrap()
    }

    /// Runs lines in a shell that has the AWS CLI, jq and the program.
    fn typed(&self, lines: &str) -> Output {
        let mut program = program();
        program.pop();
        let aws = self.parts.python();
        let path = format!(
            "{}:{}:/usr/bin:/bin",
            program.display(),
            aws.parent().unwrap().display()
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-ec", lines]);
        let mut command = self.prepared(command);
        command.env("PATH", path).output().unwrap()
    }

    /// Runs a job about the file, and returns the links of its mails.
    fn job(&self, id: &str, to: &[&str]) -> Vec<String> {
        let job = json!({
            "v": 1,
            "id": id,
            "from": { "connection": "reports", "bucket": "acme-reports", "prefix": "2026/" },
            "links": { "expires_in": "50m" },
            "email": { "to": to, "subject": "Report" },
        });
        self.write("job.json", &job.to_string());
        let ran = self.handout(&["job", "run", "job.json"]);
        assert!(ran.status.success(), "{}", complained(&ran));
        let outbox = fs::read_dir(self.dir.path().join("state/outbox")).unwrap();
        let paths = outbox.map(|entry| entry.unwrap().path());
        let pages = paths.filter(|path| path.extension().is_some_and(|end| end == "html"));
        pages
            .flat_map(|page| hrefs(&fs::read_to_string(page).unwrap()))
            .collect()
    }

    fn policy(&self) -> Value {
        let text = self.aws(&[
            "s3api",
            "get-bucket-policy",
            "--bucket",
            "acme-reports",
            "--query",
            "Policy",
            "--output",
            "text",
        ]);
        serde_json::from_str(&text).unwrap()
    }

    fn tags(&self) -> Value {
        let text = self.aws(&[
            "s3api",
            "get-object-tagging",
            "--bucket",
            "acme-reports",
            "--key",
            "2026/11/23/q3.pdf",
            "--query",
            "TagSet",
        ]);
        serde_json::from_str(&text).unwrap()
    }
}

fn sids(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().unwrap();
    statements
        .iter()
        .map(|it| it["Sid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_is_printed_for_aws_runs_as_it_stands_and_a_bucket_without_the_deny_is_told() {
    let Some(parts) = Parts::or_skip("what_is_printed_for_aws") else {
        return;
    };
    let cloud = Cloud::new(parts, "");
    let links = cloud.job("acme-2026-11-23", &["ann@acme.example", "bo@acme.example"]);
    assert_eq!(links.len(), 2, "{links:?}");

    // The policy of the bucket has no standing Deny.
    let cut = ["revoke", "link", &links[0], "--apply", "--probe-for", "1s"];
    let applied = cloud.handout(&cut);
    let (told, complaint) = (said(&applied), complained(&applied));
    assert_eq!(applied.status.code(), Some(1), "{told}{complaint}");
    assert!(
        complaint.contains("is not known to be refused by the tag: it still opens"),
        "{complaint}"
    );
    assert!(
        complaint.contains("the standing Deny is missing"),
        "{complaint}"
    );
    assert!(told.contains("HandoutDeny1Tag"), "{told}");
    let tags =
        json!([{ "Key": "handout-revoked", "Value": "true" }, { "Key": "team", "Value": "sales" }]);
    let sorted = |tags: Value| {
        let mut tags: Vec<Value> = serde_json::from_value(tags).unwrap();
        tags.sort_by_key(|tag| tag["Key"].as_str().unwrap().to_owned());
        Value::from(tags)
    };
    assert_eq!(sorted(cloud.tags()), tags, "the other tag stays");
    let restored = cloud.handout(&["restore", "link", &links[0], "--apply"]);
    assert!(restored.status.success(), "{}", complained(&restored));
    assert_eq!(cloud.tags(), json!([{ "Key": "team", "Value": "sales" }]));

    let planned = cloud.handout(&["revoke", "job", "acme-2026-11-23", "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&said(&planned)).unwrap();
    let group = &report["plan"][0];
    assert_eq!(
        (&group["answered_by"], &group["links"]),
        (&json!("s3"), &json!(2))
    );
    let commands = |means: &str| {
        let all = group["means"].as_array().unwrap();
        let found = all.iter().find(|it| it["means"] == means).unwrap();
        assert_eq!(found["others"]["links"], 0, "{found}");
        let lines: Vec<String> = serde_json::from_value(found["commands"].clone()).unwrap();
        lines.join("\n")
    };
    let output = cloud.typed(&commands("tag"));
    assert!(output.status.success(), "{}", complained(&output));
    assert_eq!(sorted(cloud.tags()), tags);
    // From here on moto, which knows no conditions, denies the object.
    let prepared = &page("docs/links/leaked.md").blocks("sh")[0];
    for _ in 0..2 {
        let output = cloud.typed(prepared);
        assert!(output.status.success(), "{}", complained(&output));
        let policy = cloud.policy();
        assert_eq!(sids(&policy), ["Own", "HandoutDeny1Tag"]);
        let condition = &policy["Statement"][1]["Condition"]["StringEquals"];
        assert_eq!(condition["s3:ExistingObjectTag/handout-revoked"], "true");
    }
    for means in ["deny-keys", "deny-age"] {
        let output = cloud.typed(&commands(means));
        assert!(output.status.success(), "{means}: {}", complained(&output));
    }
    let policy = cloud.policy();
    let sids = sids(&policy);
    assert!(
        sids.len() == 4 && sids[2].starts_with("HandoutDeny2Keys"),
        "{sids:?}"
    );
    assert_eq!(
        policy["Statement"][2]["Resource"],
        json!(["arn:aws:s3:::acme-reports/2026/11/23/q3.pdf"])
    );
    assert!(
        commands("deactivate-key")
            .contains("--access-key-id=AKIAIOSFODNN7EXAMPLE --status Inactive")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_sign_with_sessions_of_their_own_which_a_policy_can_name() {
    let Some(parts) = Parts::or_skip("jobs_sign_with_sessions") else {
        return;
    };
    let end = handout::clock::system()
        .checked_add(SignedDuration::from_mins(60))
        .unwrap();
    let answer = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    let answer: &'static str = answer.leak();
    let date = handout::clock::system()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let (sts, asked) = answering(date, move |_| {
        ("200 OK", "Content-Type: text/xml\r\n".to_owned(), answer)
    })
    .await;
    let connection = format!(
        "assume_role = \"arn:aws:iam::123456789012:role/path/handout-signer\"\nassume_role_session = \"job\"\nsts_endpoint_url = \"{sts}\"\n"
    );
    let cloud = Cloud::new(parts, &connection);
    let links = tokio::task::block_in_place(|| cloud.job("shoot/0815", &["ann@acme.example"]));
    tokio::task::block_in_place(|| cloud.job("weekly", &["bo@acme.example"]));
    let names: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .filter_map(|request| {
            let (_, name) = request.split_once("RoleSessionName=")?;
            name.split('&').next().map(ToOwned::to_owned)
        })
        .collect();
    let of_shoot = names
        .iter()
        .find(|name| name.starts_with("shoot_0815-"))
        .unwrap();
    assert_eq!(of_shoot.len(), "shoot_0815-".len() + 16);
    assert!(names.iter().any(|name| name == "weekly"), "{names:?}");
    let planned = cloud.handout(&["revoke", "link", &links[0], "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&said(&planned)).unwrap();
    let group = &report["plan"][0];
    assert_eq!(group["session"], **of_shoot, "{report}");
    let means = group["means"].as_array().unwrap();
    let of = |name: &str| means.iter().find(|it| it["means"] == name).unwrap();
    // The smallest means: the link of another job to the same object lives on.
    assert_eq!(means[0]["means"], "deny-session");
    assert_eq!(of("deny-session")["others"]["links"], 0);
    for larger in ["tag", "deny-keys", "deny-older-sessions", "deny-age"] {
        assert_eq!(of(larger)["others"]["links"], 1, "{larger}");
    }
    let applied = cloud.handout(&["revoke", "link", &links[0], "--apply"]);
    let complaint = complained(&applied);
    assert!(complaint.contains("kills fewer links"), "{complaint}");
    assert_eq!(cloud.tags(), json!([{ "Key": "team", "Value": "sales" }]));
    assert_eq!(
        of("deny-session")["statement"]["Principal"]["AWS"],
        format!("arn:aws:sts::123456789012:assumed-role/handout-signer/{of_shoot}")
    );
}

#[test]
fn a_link_that_is_pinned_to_a_version_is_revoked_by_the_tag_of_that_version() {
    let Some(parts) = Parts::or_skip("a_link_that_is_pinned") else {
        return;
    };
    let cloud = Cloud::new(parts, "");
    let of_key = ["--bucket", "acme-reports", "--key", "2026/11/23/q3.pdf"];
    let bucket = ["--bucket", "acme-reports"];
    let versioning = ["s3api", "put-bucket-versioning"];
    let enabled = ["--versioning-configuration", "Status=Enabled"];
    cloud.aws(&[&versioning[..], &bucket, &enabled].concat());
    let put = || {
        let put = [
            &["s3api", "put-object"][..],
            &of_key,
            &["--body", "q3.pdf", "--tagging", "team=sales"],
        ]
        .concat();
        let put = [&put[..], &["--query", "VersionId", "--output", "text"]].concat();
        cloud.aws(&put).trim().to_owned()
    };
    let pinned = put();
    let config = fs::read_to_string(cloud.dir.path().join("config.toml")).unwrap();
    cloud.write("config.toml", &(config + "[links]\npin_version = true\n"));
    let links = cloud.job("acme-2026-11-23", &["ann@acme.example"]);
    assert!(
        links[0].contains(&format!("versionId={pinned}")),
        "{links:?}"
    );
    let current = put();
    let is_tagged = |version: &str| {
        let get = [&["s3api", "get-object-tagging"][..], &of_key].concat();
        let get = [&get[..], &["--version-id", version, "--query", "TagSet"]].concat();
        let tags = cloud.aws(&get);
        assert!(tags.contains("sales"), "the other tag stays: {tags}");
        tags.contains("handout-revoked")
    };

    let planned = cloud.handout(&["revoke", "link", &links[0], "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&said(&planned)).unwrap();
    let means = report["plan"][0]["means"].as_array().unwrap();
    let of_tag = means.iter().find(|means| means["means"] == "tag").unwrap();
    let command = of_tag["commands"][0].as_str().unwrap();
    assert_eq!(
        command.matches(&format!("--version-id={pinned}")).count(),
        2,
        "{command}"
    );

    cloud.handout(&["revoke", "link", &links[0], "--apply", "--probe-for", "1s"]);
    assert_eq!((is_tagged(&pinned), is_tagged(&current)), (true, false));
    let line = cloud.handout(&[
        "audit",
        "find",
        "--object",
        "s3://acme-reports/2026/11/23/q3.pdf",
    ]);
    let line = said(&line).lines().last().unwrap().to_owned();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["ev"], &line["version"]),
        (&json!("revoked"), &json!(pinned))
    );
    let explained = cloud.handout(&["explain", &links[0]]);
    assert!(
        said(&explained).contains("its object got the tag"),
        "{}",
        said(&explained)
    );

    let restored = cloud.handout(&["restore", "link", &links[0], "--apply"]);
    assert!(restored.status.success(), "{}", complained(&restored));
    assert!(!is_tagged(&pinned));
}

/// What moto evaluates of a printed statement: the resource, without variables and conditions.
#[test]
fn a_printed_statement_denies_its_key_at_moto_and_no_neighbour() {
    let Some(parts) = Parts::or_skip("a_printed_statement_denies") else {
        return;
    };
    let cloud = Cloud::new(parts, "");
    let neighbour = ["--key", "2026/11/23/q4.pdf", "--body", "q3.pdf"];
    let put = ["s3api", "put-object", "--bucket", "acme-reports"];
    let links = cloud.job("acme-2026-11-23", &["ann@acme.example"]);
    cloud.aws(&[&put[..], &neighbour].concat());
    let signed = cloud.handout(&[
        "presign",
        "--no-audit",
        "s3://acme-reports/2026/11/23/q4.pdf",
    ]);
    let beside = said(&signed).trim().to_owned();
    let status = |url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", url]);
        String::from_utf8(run(&mut curl)).unwrap()
    };
    assert_eq!((&*status(&links[0]), &*status(&beside)), ("200", "200"));
    let planned = cloud.handout(&["revoke", "link", &links[0], "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&said(&planned)).unwrap();
    let means = report["plan"][0]["means"].as_array().unwrap();
    let of_keys = means.iter().find(|means| means["means"] == "deny-keys");
    let lines: Vec<String> = serde_json::from_value(of_keys.unwrap()["commands"].clone()).unwrap();
    let output = cloud.typed(&lines.join("\n"));
    assert!(output.status.success(), "{}", complained(&output));
    assert_eq!((&*status(&links[0]), &*status(&beside)), ("403", "200"));
}

/// A line of S3's access log about a link that was opened whole.
fn logged(link: &str) -> String {
    let (_, target) = link.split_once("://").unwrap();
    let target = &target[target.find('/').unwrap()..];
    let at = handout::clock::system().strftime("%d/%b/%Y:%H:%M:%S +0000");
    format!(
        "79a59df900b949e5 acme-reports [{at}] 192.0.2.7 - 3E57427F3EXAMPLE REST.GET.OBJECT 2026/11/23/q3.pdf \"GET {target} HTTP/1.1\" 200 - 8 8 7 6 \"-\" \"curl/8.5.0\" - id= SigV4 TLS_AES_128_GCM_SHA256 QueryString acme-reports.s3.eu-west-1.amazonaws.com TLSv1.3 - -\n"
    )
}

/// The page for compliance, typed word for word: the access logs of a bucket and the page that is filed.
#[test]
fn the_page_about_who_opened_what_does_what_it_says() {
    let Some(parts) = Parts::or_skip("the_page_about_who_opened_what") else {
        return;
    };
    let cloud = Cloud::new(parts, "");
    let links = cloud.job("acme-daily-2026-11-23", &["ann@acme.example"]);
    let bucket = ["--bucket", "acme-logs"];
    let region = [
        "--create-bucket-configuration",
        "LocationConstraint=eu-west-1",
    ];
    cloud.aws(&[&["s3api", "create-bucket"][..], &bucket, &region].concat());
    cloud.write("access.log", &logged(&links[0]));
    let key = [
        "--key",
        "reports/2026-11-23-10-00-00-A1",
        "--body",
        "access.log",
    ];
    cloud.aws(&[&["s3api", "put-object"][..], &bucket, &key].concat());
    let output = cloud.typed(&page("docs/audit/opens.md").blocks("sh").concat());
    let told = said(&output);
    assert!(output.status.success(), "{told}{}", complained(&output));
    assert!(told.contains("complete"), "{told}");
    let filed = fs::read_to_string(cloud.dir.path().join("opens.html")).unwrap();
    assert!(filed.contains("2026/11/23/q3.pdf"), "{filed}");
    // What the page promises of a page to be filed, and a subject-access request.
    assert!(
        ["<script", "<a ", "<img"]
            .iter()
            .all(|it| !filed.contains(it)),
        "{filed}"
    );
    let asked = page("docs/audit/retention.md").blocks("sh");
    let asked = asked
        .iter()
        .find(|block| block.contains("audit export"))
        .unwrap();
    let first = asked.lines().next().unwrap();
    let output = cloud.typed(first);
    assert!(output.status.success(), "{}", complained(&output));
    let exported = fs::read_to_string(cloud.dir.path().join("ann.jsonl")).unwrap();
    assert!(exported.contains("\"ev\":\"issue\""), "{exported}");
}

/// Keys with the characters of policies, of a shell and of options, that begin as what the AWS CLI reads from a file or an address, or that
/// a terminal does not show; and the resource of a statement about each.
const HOSTILE: [(&str, &str); 3] = [
    (
        "-rf/${aws:username}/it's $(a) `b` \"w?at\"*$.pdf",
        "-rf/${$}{aws:username}/it's ${$}(a) `b` \"w${?}at\"${*}${$}.pdf",
    ),
    ("file://2026/a!\\.pdf", "file://2026/a!\\.pdf"),
    (
        "zero\u{200b}width\u{2028}rtl\u{202e}gpj.exe",
        "zero\u{200b}width\u{2028}rtl\u{202e}gpj.exe",
    ),
];

/// The shell, the AWS CLI and jq carry each key into the policy and to the object's tags as it is.
#[test]
fn the_printed_commands_put_a_hostile_key_into_the_policy_as_it_is() {
    let Some(parts) = Parts::or_skip("the_printed_commands_put") else {
        return;
    };
    let cloud = Cloud::new(parts, "");
    let own = cloud.policy().to_string();
    let put_policy = |policy: &str| {
        let put = ["s3api", "put-bucket-policy", "--bucket", "acme-reports"];
        cloud.aws(&[&put[..], &["--policy", policy]].concat());
    };
    for (key, resource) in HOSTILE {
        put_policy(&own);
        let named = json!({ "Bucket": "acme-reports", "Key": key }).to_string();
        let of_key = ["--cli-input-json", &named];
        cloud.aws(&[&["s3api", "put-object", "--body", "q3.pdf"][..], &of_key].concat());
        let place = format!("s3://acme-reports/{key}");
        let presign = ["presign", "--connection", "reports", "--expires-in", "1h"];
        let signed = cloud.handout(&[&presign[..], &[&place]].concat());
        let link = said(&signed);
        let planned = cloud.handout(&["revoke", "link", link.trim(), "--dry-run", "--json"]);
        let report: Value = serde_json::from_str(&said(&planned)).unwrap();
        let told = said(&cloud.handout(&["revoke", "link", link.trim(), "--dry-run"]));
        let means = report["plan"][0]["means"].as_array().unwrap();
        // As a terminal shows them; those of the tag are in JSON alone, since --apply does it.
        let (_, of_keys) = told.split_once("a Deny of presigned requests").unwrap();
        let of_keys = of_keys.lines().skip(1);
        let of_keys = of_keys.map_while(|line| line.strip_prefix("     $ "));
        let deny_keys = of_keys.collect::<Vec<_>>().join("\n");
        let of_tag = means.iter().find(|means| means["means"] == "tag").unwrap();
        let tag = of_tag["commands"][0].as_str().unwrap();
        // The bucket's policy has the version that knows variables, or nothing is changed.
        let output = cloud.typed(&deny_keys);
        assert!(output.status.success(), "{}", complained(&output));
        assert_eq!(
            cloud.policy()["Statement"][1]["Resource"],
            json!([format!("arn:aws:s3:::acme-reports/{resource}")])
        );
        put_policy(&own);
        let output = cloud.typed(tag);
        assert!(output.status.success(), "{key}: {}", complained(&output));
        let get = ["s3api", "get-object-tagging", "--query", "TagSet"];
        let tags: Value = serde_json::from_str(&cloud.aws(&[&get[..], &of_key].concat())).unwrap();
        assert_eq!(tags, json!([{ "Key": "handout-revoked", "Value": "true" }]));
        if resource.contains("${") {
            put_policy(&own.replace("2012-10-17", "2008-10-17"));
            let output = cloud.typed(&deny_keys);
            assert!(
                !output.status.success(),
                "the version of 2008 has no variables"
            );
            assert_eq!(sids(&cloud.policy()), ["Own"]);
        }
    }
}

/// `handout presign` records its links without a ledger, which the first job makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_presign_are_revoked_where_no_job_was_started() {
    let world = world();
    let config = world.written();
    let ledger = world.config.database_file();
    let bare = handout(&config, &["revoke", "object", "s3://reports/2026/a.csv"]);
    assert_eq!(bare.status.code(), Some(1), "{}", said(&bare));
    assert!(
        complained(&bare).contains("there is no ledger yet"),
        "{}",
        complained(&bare)
    );
    assert!(
        !world.config.secret_key_file().exists(),
        "a command that finds nothing leaves nothing"
    );

    let presign = ["presign", "--connection", "local"];
    let signed = handout(
        &config,
        &[&presign[..], &["s3://reports/2026/a.csv"]].concat(),
    );
    assert!(signed.status.success(), "{}", complained(&signed));
    let link = said(&signed).trim().to_owned();
    let unknown: [&[&str]; 6] = [
        &["revoke", "job", "daily"],
        &["revoke", "recipient", "ann@acme.example"],
        &["revoke", "object", "s3://reports/2026/b.jpg"],
        &["revoke", "link", "0123456789abcdef0123456789abcdef"],
        &["revoke", "sessions", "ann@acme.example"],
        &["restore", "object", "s3://reports/2026/a.csv"],
    ];
    for command in unknown {
        let ended = handout(&config, command);
        let complaint = complained(&ended);
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {complaint}");
        let is_told = complaint.contains("no job was started on this machine");
        assert!(is_told, "{command:?}: {complaint}");
    }
    let object = ["object", "s3://reports/2026/a.csv"];
    for target in [["link", &link], object] {
        let command = |words: &[&str]| handout(&config, &[words, &target[1..]].concat());
        let dry = command(&["revoke", target[0], "--dry-run"]);
        assert!(dry.status.success(), "{}", complained(&dry));
        // No daemon answers the links, so that nothing is proved.
        let applied = command(&["revoke", target[0], "--apply"]);
        let told = said(&applied);
        assert_eq!(applied.status.code(), Some(1), "{told}");
        assert!(told.contains("1 object got the tag"), "{told}");
        assert!(!told.contains("at the portal"), "{told}");
        let restored = command(&["restore", target[0], "--apply"]);
        assert!(restored.status.success(), "{}", complained(&restored));
    }
    assert!(!ledger.exists(), "nothing but a job makes a ledger");
    assert_eq!(world.audit_of("restored").len(), 2);
    handout(&config, &["revoke", "link", &link, "--apply"]);
    let opened = world.open().await;
    assert_eq!(status(&link).await, 403);
    handout(&config, &["restore", "link", &link, "--apply"]);
    assert_eq!(status(&link).await, 200);
    opened.close().await;
}
