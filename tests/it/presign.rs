//! `handout presign`, as somebody types it: with a configuration, with an environment, and with neither.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::presigning::PresigningConfig;
use handout::assemble::connection::embedded_sites;
use handout::audit::verify::verify;
use handout::keyring::Keyring;
use serde_json::{Value, json};

use crate::hostile::put_all;
use crate::support::hostile;
use crate::support::world::World;
use crate::support::{get, program};

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// `handout presign` in a directory without a configuration, for a user without AWS's files.
struct Presign {
    command: Command,
}

impl Presign {
    fn new(home: &Path, arguments: &[&str]) -> Self {
        let mut command = handout(home);
        command.arg("presign").args(arguments);
        Self { command }
    }

    fn with_keys(self) -> Self {
        self.env("AWS_ACCESS_KEY_ID", ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn output(mut self) -> Output {
        self.command.output().unwrap()
    }

    fn input(mut self, text: &[u8]) -> Output {
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The links, of a command that ends well.
    fn links(self) -> Vec<String> {
        lines(&self.output())
    }

    /// The exit code and the sentence, of one that does not.
    fn failure(self) -> String {
        let output = self.output();
        assert!(output.stdout.is_empty(), "nothing is printed: {output:?}");
        let sentence = String::from_utf8(output.stderr).unwrap();
        let sentence = sentence.lines().next().unwrap();
        format!("{} {sentence}", output.status.code().unwrap())
    }
}

fn handout(home: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// The lines of `audit find`, which says on the terminal whose the link is.
fn audit_lines(output: &Output) -> Vec<String> {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.starts_with("handout: the link was made for "),
        "{told}"
    );
    lines(&Output {
        stderr: Vec::new(),
        ..output.clone()
    })
}

fn lines(output: &Output) -> Vec<String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{complaint}"
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// The world's configuration as a file.
fn config(world: &World) -> String {
    world.written().to_string_lossy().into_owned()
}

#[tokio::test]
async fn a_link_with_a_connection_opens_and_its_line_is_found_while_the_daemon_works() {
    let world = World::new().object("q3/a b.pdf", "the report");
    let config = config(&world);
    let opened = world.open().await;
    let presign = [
        "--config",
        &config,
        "--connection",
        "local",
        "--for",
        "ann@acme.example",
    ];
    let presign = Presign::new(
        world.dir.path(),
        &[&presign[..], &["s3://reports/q3/a b.pdf"]].concat(),
    );
    let links = presign.links();
    assert_eq!(links.len(), 1);
    assert_eq!(get(&links[0]).await, (200, b"the report".to_vec()));

    let mut find = handout(world.dir.path());
    find.args(["audit", "find", "--config", &config, "--url", &links[0]]);
    find.args(["--recipient", "ann@acme.example", "--job", "presign"]);
    let found = audit_lines(&find.output().unwrap());
    let line: Value = serde_json::from_str(&found[0]).unwrap();
    assert_eq!(line["ev"], "issue");
    assert_eq!(line["connection"], "local");
    assert_eq!(line["key"], "q3/a b.pdf");
    assert!(line.get("size").is_none(), "nobody looked at the object");
    let id = line["link_id"].as_str().unwrap();
    assert!(
        links[0].contains(&format!("&x-handout={id}&")),
        "{}",
        links[0]
    );
    opened.close().await;
    assert!(
        verify(world.config.audit_dir(), None)
            .unwrap()
            .problems
            .is_empty()
    );
}

#[tokio::test]
async fn each_line_of_a_file_is_a_key_and_each_link_opens() {
    let world = World::new();
    let config = config(&world);
    let keys = hostile::keys();
    put_all(&world, &keys).await;
    let listed = world.dir.path().join("keys.txt");
    fs::write(&listed, keys.join("\r\n\n")).unwrap();
    let listed = listed.to_string_lossy();
    let opened = world.open().await;
    let arguments = [
        "--config",
        &config,
        "--connection",
        "local",
        "--json",
        "--keys-from",
    ];
    let arguments = [&arguments[..], &[&listed, "s3://reports"]].concat();
    let printed = Presign::new(world.dir.path(), &arguments).links();
    assert_eq!(printed.len(), keys.len());
    for (line, key) in printed.iter().zip(&keys) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["key"], &line["bound"]),
            (&Value::from(key.as_str()), &"asked".into())
        );
        let (status, body) = get(line["url"].as_str().unwrap()).await;
        assert_eq!((status, body), (200, key.clone().into_bytes()), "{key}");
    }
    opened.close().await;
    assert_eq!(world.audit_of("issue").len(), keys.len());
}

#[tokio::test]
async fn all_objects_under_a_prefix_are_linked_as_patterns_say_and_each_link_opens() {
    let keys = [
        "2026/a.pdf",
        "2026/b.txt",
        "2026/drafts/c.pdf",
        "2026/drafts/old/d.pdf",
        "2026-archive/e.pdf",
        "2025/f.pdf",
    ];
    let world = keys
        .iter()
        .fold(World::new(), |world, key| world.object(key, key));
    fs::create_dir_all(world.bucket("reports").join("2026/folder")).unwrap();
    let config = config(&world);
    let linked = |arguments: &[&str]| {
        let fixed = ["--config", &config, "--connection", "local", "--json"];
        let arguments = [&fixed[..], &["--recursive"], arguments].concat();
        Presign::new(world.dir.path(), &arguments).links()
    };
    let keys_of = |lines: &[String]| {
        let lines = lines.iter();
        let keys = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].clone());
        let keys = keys.map(|key| key.as_str().unwrap().to_owned());
        keys.collect::<Vec<_>>().join(" ")
    };
    let place = "s3://reports/2026/";
    // The daemon does not run: the command serves the directory meanwhile.
    let all = "2026/a.pdf 2026/b.txt 2026/drafts/c.pdf 2026/drafts/old/d.pdf";
    for (arguments, expected) in [
        (&[place][..], all),
        (
            &["s3://reports/2026/drafts"],
            "2026/drafts/c.pdf 2026/drafts/old/d.pdf",
        ),
        (
            &["--include", "*.pdf", place],
            "2026/a.pdf 2026/drafts/c.pdf 2026/drafts/old/d.pdf",
        ),
        (&["--include", "/*.pdf", place], "2026/a.pdf"),
        (&["--include", "drafts/*", place], "2026/drafts/c.pdf"),
        (
            &["--include", "drafts/**", "--include", "*.txt", place],
            "2026/b.txt 2026/drafts/c.pdf 2026/drafts/old/d.pdf",
        ),
        (&["--exclude", "*.{pdf,csv}", place], "2026/b.txt"),
        (
            &["--include", "*.pdf", "--exclude", "drafts/**", place],
            "2026/a.pdf",
        ),
        (&[place, "s3://reports/2025/"], &format!("{all} 2025/f.pdf")),
        (&["--exclude", "2026*/**", "s3://reports"], "2025/f.pdf"),
    ] {
        assert_eq!(keys_of(&linked(arguments)), expected, "{arguments:?}");
    }
    let opened = world.open().await;
    let lines = linked(&[place]);
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap();
        let body = line["key"].as_str().unwrap().as_bytes().to_vec();
        assert_eq!(get(line["url"].as_str().unwrap()).await, (200, body));
    }
    opened.close().await;
    // Each link has its line in the audit log.
    let issued = world.audit_of("issue");
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap();
        let is_recorded = issued.iter().any(|it| it["link_id"] == line["link_id"]);
        assert!(is_recorded, "{line}");
    }
}

/// Pages are on their way while links are signed and recorded, which ask for the same credentials.
#[tokio::test]
async fn a_prefix_of_many_pages_is_linked_without_a_configuration() {
    let world = World::new();
    let folder = world.bucket("reports").join("many");
    fs::create_dir_all(&folder).unwrap();
    let keys: Vec<String> = (0..5500)
        .map(|number| format!("many/{number:04}"))
        .collect();
    for key in &keys {
        fs::write(world.bucket("reports").join(key), "").unwrap();
    }
    let opened = world.open().await;
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    let state = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let presign = Presign::new(state.path(), &["--recursive", "s3://reports/many/"])
            .env("AWS_ACCESS_KEY_ID", &site.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &site.secret_access_key)
            .env("AWS_REGION", "us-east-1")
            .env("HANDOUT_STATE_DIR", &state.path().to_string_lossy())
            .env("AWS_ENDPOINT_URL", &world.config.embedded.public_url);
        let links = tokio::task::spawn_blocking(|| presign.links())
            .await
            .unwrap();
        let linked = links.iter().zip(&keys);
        assert_eq!(links.len(), keys.len());
        for (link, key) in linked {
            assert!(link.contains(&format!("/reports/{key}?")), "{link}");
        }
    }
    opened.close().await;
}

#[tokio::test]
async fn what_cannot_be_linked_under_a_prefix_is_told_and_nothing_is_an_exit_code() {
    let world = World::new().object("2026/a.pdf", "x");
    put_all(&world, &["2026/x/../b.pdf".to_owned()]).await;
    let config = config(&world);
    let run = |arguments: &[&str]| {
        let fixed = ["--config", &config, "--connection", "local", "--recursive"];
        Presign::new(world.dir.path(), &[&fixed[..], arguments].concat()).output()
    };
    let output = run(&["s3://reports/2026/"]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    assert!(
        complaint.contains("not linked: s3://reports/2026/x/../b.pdf: its key has"),
        "{complaint}"
    );
    // Without a terminal, no progress is shown.
    assert_eq!(complaint.lines().count(), 2, "{complaint}");
    for arguments in [
        &["s3://reports/2027/"][..],
        &["--include", "*.csv", "s3://reports/2026/"],
    ] {
        let output = run(arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(output.stdout.is_empty());
        assert!(
            complaint.contains("no object was found to link"),
            "{complaint}"
        );
    }
    let missing = run(&["s3://nowhere/2026/"]);
    let complaint = String::from_utf8(missing.stderr).unwrap();
    assert!(
        missing.status.code() != Some(0) && complaint.contains("s3://nowhere/"),
        "{complaint}"
    );
}

#[tokio::test]
async fn without_a_configuration_the_environment_says_who_signs_and_where() {
    let world = World::new().object("a.pdf", "x");
    let opened = world.open().await;
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    let home = tempfile::tempdir().unwrap();
    for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        let links = Presign::new(home.path(), &["s3://reports/a.pdf"])
            .env("AWS_ACCESS_KEY_ID", &site.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &site.secret_access_key)
            .env("AWS_REGION", "us-east-1")
            .env(variable, &world.config.embedded.public_url)
            .links();
        assert_eq!(get(&links[0]).await.0, 200, "{variable}");

        let mut find = handout(home.path());
        find.args(["audit", "find", "--url", &links[0]]);
        assert!(
            !audit_lines(&find.output().unwrap()).is_empty(),
            "{variable}"
        );
    }
    opened.close().await;
    let state = home.path().join(".local/state/handout");
    assert!(
        verify(state.join("audit"), None)
            .unwrap()
            .problems
            .is_empty()
    );
    assert_eq!(
        lines(
            &handout(home.path())
                .args(["audit", "verify"])
                .output()
                .unwrap()
        )
        .len(),
        2,
        "the registry and the verdict"
    );
}

#[tokio::test]
async fn without_books_the_link_is_the_sdks_byte_for_byte() {
    let home = tempfile::tempdir().unwrap();
    let link = Presign::new(
        home.path(),
        &[
            "--no-audit",
            "--region",
            "eu-west-1",
            "--version-id",
            "v1",
            "--expires-in",
            "7d",
            "s3://acme-reports/a b.pdf",
        ],
    )
    .with_keys()
    .links()
    .remove(0);
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing is written"
    );
    let at = link.split("X-Amz-Date=").nth(1).unwrap();
    let at = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%#z", at[..15].to_owned() + "+0000");
    let at = at.unwrap().to_timestamp().unwrap();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new(ID, SECRET, None, None, "test"));
    let presigning = PresigningConfig::builder()
        .start_time(SystemTime::try_from(at).unwrap())
        .expires_in(Duration::from_secs(604_800));
    let request = aws_sdk_s3::Client::from_conf(config.build())
        .get_object()
        .bucket("acme-reports")
        .key("a b.pdf")
        .version_id("v1")
        .response_content_disposition("attachment; filename=\"a b.pdf\"");
    let sdk = request
        .presigned(presigning.build().unwrap())
        .await
        .unwrap();
    assert_eq!(link, sdk.uri());
}

#[test]
fn what_no_browser_opens_is_told_and_the_others_are_printed() {
    let home = tempfile::tempdir().unwrap();
    let arguments = [
        "--no-audit",
        "--region",
        "eu-west-1",
        "--keys-from",
        "-",
        "s3://b",
    ];
    let presign = Presign::new(home.path(), &arguments).with_keys();
    let output = presign.input(b"a.pdf\n../b.pdf\nbell\x07\nc.pdf\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"
    handout: not linked: line 2: its key has "." or ".." as a folder, which browsers change
    handout: not linked: line 3: its name has control characters
    handout: 2 objects were not linked
    "#);
}

#[test]
fn a_link_says_what_was_asked() {
    let home = tempfile::tempdir().unwrap();
    let link = |more: &[&str], key: &str| {
        let place = format!("s3://b/{key}");
        let arguments = [&["--no-audit", "--region", "eu-west-1", &place], more].concat();
        let link = Presign::new(home.path(), &arguments)
            .with_keys()
            .links()
            .remove(0);
        let asked = link.split("?x-id=GetObject&").nth(1).unwrap();
        asked.split("&X-Amz-Algorithm").next().unwrap().to_owned()
    };
    let table = [
        link(&["--inline"], "a.pdf"),
        link(&["--inline"], "a.html"),
        link(&["--filename", "{{object.stem}} for Ann"], "x/a.pdf"),
        link(
            &["--content-type", "text/html", "--link-id", "shoot-7"],
            "a.html",
        ),
        link(&["--inline", "--content-type", "image/png"], "a"),
    ];
    insta::assert_snapshot!(table.join("\n"), @"
    response-content-disposition=inline%3B%20filename%3D%22a.pdf%22&response-content-type=application%2Fpdf
    response-content-disposition=attachment%3B%20filename%3D%22a.html%22
    response-content-disposition=attachment%3B%20filename%3D%22a%20for%20Ann.pdf%22
    response-content-disposition=attachment%3B%20filename%3D%22a.html%22&response-content-type=text%2Fhtml&x-handout=shoot-7
    response-content-disposition=inline%3B%20filename%3D%22a.png%22&response-content-type=image%2Fpng
    ");
}

#[test]
fn what_cannot_be_kept_is_refused_with_a_sentence() {
    let home = tempfile::tempdir().unwrap();
    let region = ["--region", "eu-west-1"];
    let presign = |arguments: &[&str]| Presign::new(home.path(), &[&region, arguments].concat());
    let token = |presign: Presign| presign.with_keys().env("AWS_SESSION_TOKEN", "token");
    let soon = (jiff::Timestamp::UNIX_EPOCH
        + (SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(600)))
    .to_string();
    let place = "s3://b/a.pdf";
    let table = [
        token(presign(&[place])).failure(),
        token(presign(&["--expiry-guard", "clamp", place])).failure(),
        token(presign(&[place]))
            .env("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
            .failure(),
        presign(&["--expires-in", "8d", place])
            .with_keys()
            .failure(),
        presign(&[place]).failure(),
        Presign::new(home.path(), &[place]).with_keys().failure(),
        Presign::new(home.path(), &["--connection", "reports", place]).failure(),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    1 handout: --expires-in asks for 1h, but the signing credentials are temporary and do not say when they expire (AWS_CREDENTIAL_EXPIRATION is missing, or is not an instant); set it to their end, as `aws configure export-credentials --format env` does, sign with a long-term key, or take links that end with the session by --expiry-guard ignore
    1 handout: --expires-in asks for 1h, but the signing credentials are temporary and do not say when they expire (AWS_CREDENTIAL_EXPIRATION is missing, or is not an instant); set it to their end, as `aws configure export-credentials --format env` does, sign with a long-term key, or take links that end with the session by --expiry-guard ignore
    1 handout: --expires-in asks for 1h, but the signing credentials ended at 2020-01-01T00:00:00Z; renew the credentials, or sign with others
    1 handout: --expires-in asks for 8d, but S3 allows 7d at most; ask for less, or take the real end by --expiry-guard clamp
    78 handout: there are no credentials to sign with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile by --profile or AWS_PROFILE, or a connection by --connection: the credential provider was not enabled: no credentials found in chain. Attempted: Environment: the credential provider was not enabled: environment variable not set; Profile: the credential provider was not enabled; WebIdentityToken: the credential provider was not enabled: $AWS_WEB_IDENTITY_TOKEN_FILE was not set; EcsContainer: the credential provider was not enabled: ECS provider not configured; Ec2InstanceMetadata: the credential provider was not enabled: IMDS disabled by AWS_EC2_METADATA_DISABLED env var set to `true`
    78 handout: no region is known: give --region, have it looked up by --find-region, or set AWS_REGION or a region in the profile
    78 handout: no configuration was found: name one with --config, create config.toml or /etc/handout/config.toml, or set HANDOUT_… variables
    ");

    let clamped = token(presign(&["--expiry-guard", "clamp", "--json", place]));
    let link = clamped
        .env("AWS_CREDENTIAL_EXPIRATION", &soon)
        .links()
        .remove(0);
    let link: Value = serde_json::from_str(&link).unwrap();
    assert_eq!(link["bound"], "credentials");
    assert_eq!(link["expires_at"].as_str().unwrap()[..19], soon[..19]);
}

#[test]
fn links_of_a_session_whose_end_is_not_known_are_printed_with_a_warning_when_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let ignoring = |arguments: &[&str]| {
        let common = ["--region", "eu-west-1", "--expiry-guard", "ignore"];
        Presign::new(home.path(), &[&common, arguments].concat())
            .with_keys()
            .env("AWS_SESSION_TOKEN", "token")
    };
    let soon = "2099-01-01T00:00:00Z";
    let many = [
        "--expires-in",
        "7d",
        "--json",
        "s3://b/a.pdf",
        "s3://c/b.pdf",
    ];
    let told = |presign: Presign| {
        let output = presign.output();
        let links = String::from_utf8(output.stdout).unwrap();
        let links = links
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let early: Vec<Value> = links.map(|link| link["may_end_early"].clone()).collect();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), early, said)
    };
    let warning = |why: &str| {
        format!(
            "handout: the signing credentials are temporary and {why}: the links end with the session, also before their own end\n"
        )
    };
    assert_eq!(
        told(ignoring(&many)),
        (
            Some(0),
            vec![json!(true), json!(true)],
            warning("do not say when they expire")
        ),
    );
    let until = (jiff::Timestamp::UNIX_EPOCH
        + (SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(600)))
    .strftime("%Y-%m-%dT%H:%M:%SZ")
    .to_string();
    let short = ignoring(&many).env("AWS_CREDENTIAL_EXPIRATION", &until);
    assert_eq!(
        told(short),
        (
            Some(0),
            vec![json!(true), json!(true)],
            warning(&format!("end at {until}"))
        ),
    );
    // A session that lasts needs no warning; one that is over signs nothing.
    let long = ignoring(&many).env("AWS_CREDENTIAL_EXPIRATION", soon);
    assert_eq!(
        told(long),
        (Some(0), vec![json!(false), json!(false)], String::new())
    );
    let over = ignoring(&many).env("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z");
    assert!(over.failure().contains("ended at 2020-01-01T00:00:00Z"));
}

#[test]
fn the_end_that_the_environment_tells_is_not_that_of_a_profiles_session() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".aws")).unwrap();
    let keys = format!("aws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n");
    let profile = format!("[default]\n{keys}aws_session_token = of-the-profile\n");
    fs::write(home.path().join(".aws/credentials"), profile).unwrap();
    let presign = Presign::new(home.path(), &["--region", "eu-west-1", "s3://b/a.pdf"])
        .env("AWS_SESSION_TOKEN", "of-the-environment")
        .env("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z");
    insta::assert_snapshot!(presign.failure(), @"1 handout: --expires-in asks for 1h, but the signing credentials are temporary and do not say when they expire (AWS_CREDENTIAL_EXPIRATION is missing, or is not an instant); set it to their end, as `aws configure export-credentials --format env` does, sign with a long-term key, or take links that end with the session by --expiry-guard ignore");
}

#[test]
fn links_have_the_endpoint_that_the_environment_asks_for() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["--no-audit", "--region", "us-east-2", "s3://reports/a.pdf"];
    let origin = |variables: &[&str]| {
        let presign = Presign::new(home.path(), &arguments).with_keys();
        let presign = variables
            .iter()
            .fold(presign, |presign, name| presign.env(name, "true"));
        let link = presign.links().remove(0);
        link.split("/a.pdf?").next().unwrap().to_owned()
    };
    let (fips, dual_stack) = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT");
    let table = [
        origin(&[]),
        origin(&[fips]),
        origin(&[dual_stack]),
        origin(&[fips, dual_stack]),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    https://reports.s3.us-east-2.amazonaws.com
    https://reports.s3-fips.us-east-2.amazonaws.com
    https://reports.s3.dualstack.us-east-2.amazonaws.com
    https://reports.s3-fips.dualstack.us-east-2.amazonaws.com
    ");
}

#[test]
fn nothing_but_the_sentence_is_said_where_the_sdk_would_warn() {
    let home = tempfile::tempdir().unwrap();
    // It asks for the region where instances tell theirs, and nobody answers.
    let presign = Presign::new(home.path(), &["s3://b/a.pdf"])
        .with_keys()
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9");
    let output = presign.output();
    assert_eq!(output.status.code(), Some(78));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @"handout: no region is known: give --region, have it looked up by --find-region, or set AWS_REGION or a region in the profile");
}

#[test]
fn wrong_arguments_end_with_64() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["s3://b"][..],
        &["b/a.pdf"],
        &["s3://arn:aws:s3/a.pdf"],
        &["--keys-from", "-", "s3://b/a.pdf"],
        &["--keys-from", "-", "--recursive", "s3://b"],
        &["--include", "*.pdf", "s3://b/a.pdf"],
        &["--recursive", "--include", "[", "s3://b/a/"],
        &["--recursive", "--version-id", "v", "s3://b/a/"],
        &["--keys-from", "-", "s3://b", "s3://c"],
        &["--expires-in", "0", "s3://b/a.pdf"],
        &["--expiry-guard", "never", "s3://b/a.pdf"],
        &["--version-id", "v", "s3://b/a.pdf", "s3://b/b.pdf"],
        &["--link-id", "a b", "s3://b/a.pdf"],
        &[
            "--region",
            "eu-west-1",
            "--filename",
            "{{customer}}",
            "s3://b/a.pdf",
        ],
        &["--content-type", "a/b\r\nX: y", "s3://b/a.pdf"],
        &["--inline", "--content-type", "text/html", "s3://b/a.html"],
        &[
            "--region",
            "eu-west-1",
            "--filename",
            "stored",
            "--content-type",
            "text/html",
            "s3://b/a.html",
        ],
        &["--via", "cloudfront", "s3://b/a.pdf"],
        &["--not-before", "2027-01-01T00:00:00Z", "s3://b/a.pdf"],
        &["--not-before", "tomorrow", "s3://b/a.pdf"],
        &[
            "--via",
            "cloudfront",
            "--connection",
            "site",
            "--not-before",
            "2020-01-01T00:00:00Z",
            "s3://b/a.pdf",
        ],
        &["--find-region", "--region", "eu-west-1", "s3://b/a.pdf"],
        &[
            "--connection",
            "reports",
            "--region",
            "eu-west-1",
            "s3://b/a.pdf",
        ],
    ] {
        let output = Presign::new(home.path(), arguments).with_keys().output();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_the_log_is_whole() {
    let home = tempfile::tempdir().unwrap();
    let keys: String = (0..20_000)
        .map(|number| format!("{number}.pdf\n"))
        .collect();
    fs::write(home.path().join("keys.txt"), keys).unwrap();
    let arguments = ["--region", "eu-west-1", "--keys-from", "keys.txt", "s3://b"];
    let mut presign = Presign::new(home.path(), &arguments).with_keys();
    let mut child = presign.command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let audit = home.path().join(".local/state/handout/audit");
    assert!(verify(&audit, None).unwrap().problems.is_empty());
}
