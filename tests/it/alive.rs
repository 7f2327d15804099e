//! Keys that change while the program runs: what signs is what the file, the process or the role says now.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use handout::assemble::connection::embedded_sites;
use handout::config::{AllowConfig, Config, ConnectionConfig};
use handout::keyring::Keyring;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::daemon::{Daemon, daemon_log, submit};
use crate::support::answering::{Answer, LISTING, answering, date};
use crate::support::world::{SeenMail, World, email_job};
use crate::support::{get, program, until};

const UNKNOWN: &str = "<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>";

/// A store with one object, which knows every key but those that were taken away.
struct Shop {
    url: String,
    disabled: Arc<Mutex<BTreeSet<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Shop {
    async fn open() -> Self {
        let disabled = Arc::<Mutex<BTreeSet<String>>>::default();
        let unknown = Arc::clone(&disabled);
        let answer = move |head: &str| -> Answer {
            match unknown.lock().unwrap().contains(&key_of(head)) {
                true => ("403 Forbidden", String::new(), UNKNOWN),
                false => ("200 OK", String::new(), LISTING),
            }
        };
        let (url, heads) = answering(date(SignedDuration::ZERO), answer).await;
        Self {
            url,
            disabled,
            heads,
        }
    }

    fn disable(&self, key: &str) {
        self.disabled.lock().unwrap().insert(key.to_owned());
    }

    /// The keys with which it was asked for jobs, in their order; not whether it is well, which a busy machine asks, and not how
    /// often with each: a request whose connection ends is sent again.
    fn asked_with(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        let of_jobs = heads.iter().filter(|head| !head.contains("max-keys=1&"));
        let mut keys: Vec<String> = of_jobs.map(|head| key_of(head)).collect();
        keys.dedup();
        keys
    }
}

/// The key's id in a signed request, or in a link.
fn key_of(text: &str) -> String {
    let id = text.split("Credential=").nth(1).unwrap_or_default();
    let end = id.find(['/', '%']).unwrap_or(id.len());
    id[..end].to_owned()
}

/// A world in which jobs may take everything from the shop, with these credentials.
fn at_shop(shop: &Shop, change: impl FnOnce(&mut ConnectionConfig)) -> World {
    World::new().configured(|config| {
        let mut connection = ConnectionConfig {
            region: Some("eu-west-1".to_owned()),
            endpoint_url: Some(shop.url.clone()),
            ..ConnectionConfig::default()
        };
        change(&mut connection);
        add(config, connection);
    })
}

fn add(config: &mut Config, connection: ConnectionConfig) {
    config.connections.insert("shop".to_owned(), connection);
    config.allow.push(AllowConfig {
        connection: "shop".to_owned(),
        ..config.allow[0].clone()
    });
}

fn job(id: &str) -> Value {
    let mut job = email_job(id);
    job["from"]["connection"] = json!("shop");
    job
}

fn write(path: &Path, text: &str) {
    // As editors and agents do: another file under the same name.
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

fn profile(id: &str) -> String {
    format!("[reports]\naws_access_key_id = {id}\naws_secret_access_key = secret-of-{id}\n")
}

async fn mail_of(world: &World, config: &Path, id: &str) -> SeenMail {
    let subject = format!("Report {id}");
    until(
        &format!("{id}'s mail\n{}", daemon_log(config)),
        async || {
            world
                .mails()
                .into_iter()
                .find(|mail| mail.subject == subject)
        },
    )
    .await
}

#[tokio::test]
async fn a_key_that_is_rotated_in_its_profile_signs_the_next_links_and_requests() {
    let shop = Shop::open().await;
    let world = at_shop(&shop, |shop| shop.profile = Some("reports".to_owned()));
    let config = world.written();
    let file = world.dir.path().join("credentials");
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    write(&file, &profile("AKIAOLD"));
    let _daemon = Daemon::start(&config, &variables).await;
    submit(&config, &job("before"));
    assert_eq!(
        key_of(&mail_of(&world, &config, "before").await.hrefs[0]),
        "AKIAOLD"
    );
    write(&file, &profile("AKIANEW"));
    submit(&config, &job("after"));
    assert_eq!(
        key_of(&mail_of(&world, &config, "after").await.hrefs[0]),
        "AKIANEW"
    );
    assert_eq!(shop.asked_with(), ["AKIAOLD", "AKIANEW"]);
    // Lines are written by a thread of their own.
    let log = until("the line about the change", async || {
        let log = daemon_log(&config);
        let is_said = log.contains("the credentials changed") && log.contains("connections.shop");
        is_said.then_some(log)
    })
    .await;
    assert!(!log.contains("secret-of"), "{log}");
}

/// The secret of the embedded endpoint, mounted as Kubernetes mounts secrets; a real store verifies what is signed with it.
#[tokio::test]
async fn a_mounted_secret_that_is_exchanged_is_used_at_once_and_a_wrong_one_is_repaired_without_a_restart()
 {
    let world = World::new().object("a.pdf", "x");
    let keyring = Keyring::open(&world.config.secret_key_file()).unwrap();
    let site = embedded_sites(&world.config, &keyring).remove(0);
    let mount = world.dir.path().join("mount");
    let secret = mount.join("secret");
    let world = world.configured(|config| {
        let connection = ConnectionConfig {
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(config.embedded.public_url.clone()),
            access_key_id: Some(site.access_key_id.clone()),
            secret_access_key_file: Some(secret.clone()),
            ..ConnectionConfig::default()
        };
        add(config, connection);
    });
    let exchange = |version: &str, text: &str| {
        fs::create_dir_all(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("secret"), text).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    exchange("..v1", &format!("{}\n", site.secret_access_key));
    symlink("..data/secret", &secret).unwrap();
    let config = world.written();
    let _daemon = Daemon::start(&config, &[]).await;
    submit(&config, &job("first"));
    let first = mail_of(&world, &config, "first").await;
    assert_eq!(get(&first.hrefs[0]).await, (200, b"x".to_vec()));
    let wrong = "w".repeat(site.secret_access_key.len());
    exchange("..v2", &wrong);
    submit(&config, &job("second"));
    until("the refusal", async || {
        daemon_log(&config)
            .contains("SignatureDoesNotMatch")
            .then_some(())
    })
    .await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    exchange("..v3", &site.secret_access_key);
    world.show_what_is_put_back().await;
    let second = mail_of(&world, &config, "second").await;
    assert_eq!(get(&second.hrefs[0]).await, (200, b"x".to_vec()));
}

/// A rotation that is half done, in place: the file is empty for a moment.
#[tokio::test]
async fn a_secret_that_is_being_written_keeps_no_job_waiting_and_the_old_one_is_used_until_it_is_there()
 {
    let shop = Shop::open().await;
    let world = at_shop(&shop, |shop| shop.profile = Some("reports".to_owned()));
    let config = world.written();
    let file = world.dir.path().join("credentials");
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    fs::write(&file, profile("AKIAOLD")).unwrap();
    let _daemon = Daemon::start(&config, &variables).await;
    submit(&config, &job("before"));
    mail_of(&world, &config, "before").await;
    fs::write(&file, "").unwrap();
    submit(&config, &job("meanwhile"));
    assert_eq!(
        key_of(&mail_of(&world, &config, "meanwhile").await.hrefs[0]),
        "AKIAOLD"
    );
    let words = "the previous ones stay in use";
    assert_eq!(
        daemon_log(&config).matches(words).count(),
        1,
        "{}",
        daemon_log(&config)
    );
    fs::write(&file, profile("AKIANEW")).unwrap();
    let is_new = async || {
        let id = format!("after-{}", shop.heads.lock().unwrap().len());
        submit(&config, &job(&id));
        (key_of(&mail_of(&world, &config, &id).await.hrefs[0]) == "AKIANEW").then_some(())
    };
    until("the new key", is_new).await;
}

/// A process that hands keys out says neither that they changed nor when they end; the store does.
#[tokio::test]
async fn a_key_that_the_store_does_not_know_any_more_is_asked_for_anew_and_the_job_goes_on() {
    let shop = Shop::open().await;
    let world = at_shop(&shop, |shop| shop.profile = Some("reports".to_owned()));
    let config = world.written();
    let (keys, profiles) = (
        world.dir.path().join("keys"),
        world.dir.path().join("profiles"),
    );
    let give = |id: &str| {
        let given = json!({ "Version": 1, "AccessKeyId": id, "SecretAccessKey": "secret" });
        write(&keys, &given.to_string());
    };
    let process = format!(
        "[profile reports]\ncredential_process = cat {}\n",
        keys.display()
    );
    fs::write(&profiles, process).unwrap();
    give("AKIAOLD");
    let variables = [("AWS_CONFIG_FILE", profiles.to_str().unwrap())];
    let _daemon = Daemon::start(&config, &variables).await;
    submit(&config, &job("before"));
    mail_of(&world, &config, "before").await;
    give("AKIANEW");
    shop.disable("AKIAOLD");
    for id in ["after", "later"] {
        submit(&config, &job(id));
        assert_eq!(
            key_of(&mail_of(&world, &config, id).await.hrefs[0]),
            "AKIANEW"
        );
    }
    let asked = ["AKIAOLD", "AKIANEW"];
    assert_eq!(shop.asked_with(), asked, "{}", daemon_log(&config));
    assert!(
        !daemon_log(&config).contains("WARN"),
        "{}",
        daemon_log(&config)
    );
}

/// HEAD is answered without a body, so the refusal does not say that the key is unknown.
#[tokio::test]
async fn a_key_that_is_refused_when_an_object_is_looked_at_is_asked_for_anew_and_the_object_is_linked()
 {
    for status in ["403 Forbidden", "400 Bad Request"] {
        let answer = move |head: &str| -> Answer {
            let is_old = key_of(head) == "AKIAOLD";
            match head.split(' ').next().unwrap() {
                "HEAD" if is_old => (status, String::new(), ""),
                "HEAD" => ("200 OK", String::new(), ""),
                _ if is_old && !head.contains("list-type") => (status, String::new(), UNKNOWN),
                _ => ("200 OK", String::new(), LISTING),
            }
        };
        let (url, heads) = answering(date(SignedDuration::ZERO), answer).await;
        let shop = Shop {
            url,
            disabled: Arc::default(),
            heads,
        };
        let mut world = at_shop(&shop, |shop| shop.profile = Some("reports".to_owned()));
        world.config.links.preflight = true;
        let config = world.written();
        let (script, profiles) = (
            world.dir.path().join("give"),
            world.dir.path().join("profiles"),
        );
        // The first time that it is asked, the process gives a key that is over.
        let text = format!(
            "#!/bin/sh\nid=AKIAOLD; [ -e {0} ] && id=AKIANEW; : > {0}\necho '{{\"Version\":1,\"AccessKeyId\":\"'$id'\",\"SecretAccessKey\":\"s\"}}'\n",
            world.dir.path().join("asked").display()
        );
        fs::write(&script, text).unwrap();
        let process = format!(
            "[profile reports]\ncredential_process = sh {}\n",
            script.display()
        );
        fs::write(&profiles, process).unwrap();
        let variables = [("AWS_CONFIG_FILE", profiles.to_str().unwrap())];
        let _daemon = Daemon::start(&config, &variables).await;
        submit(&config, &job("looked-at"));
        let link = mail_of(&world, &config, "looked-at").await.hrefs[0].clone();
        assert_eq!(key_of(&link), "AKIANEW", "{status}");
    }
}

#[tokio::test]
async fn an_sts_that_says_when_to_come_back_is_not_asked_before_and_the_terminal_says_when() {
    let slow = "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
    for status in [
        "503 Service Unavailable",
        "400 Bad Request",
        "429 Too Many Requests",
    ] {
        let (url, heads) = answering(date(SignedDuration::ZERO), move |_| {
            (status, "Retry-After: 40\r\n".to_owned(), slow)
        })
        .await;
        let home = tempfile::tempdir().unwrap();
        let connection =
            format!("assume_role = \"arn:aws:iam::1:role/r\"\nsts_endpoint_url = \"{url}\"\n");
        let keys = [
            ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let path = home.path().to_owned();
        let said = tokio::task::spawn_blocking(move || presign(&path, &connection, &keys, &[]));
        let said = said.await.unwrap();
        assert!(
            said.contains("and to come back in 40 s"),
            "{status}: {said}"
        );
        assert_eq!(heads.lock().unwrap().len(), 1, "{status}: {said}");
    }
}

#[tokio::test]
async fn a_queue_that_says_when_to_come_back_is_not_asked_before() {
    let slow = "{\"__type\":\"com.amazonaws.sqs#RequestThrottled\",\"message\":\"slow down\"}";
    for status in ["503 Service Unavailable", "400 Bad Request"] {
        let (url, heads) = answering(date(SignedDuration::ZERO), move |_| {
            (status, "Retry-After: 40\r\n".to_owned(), slow)
        })
        .await;
        let world = World::new().configured(|config| {
            config.queue.kind = handout::config::QueueKind::Sqs;
            config.queue.url = Some(format!("{url}/1/jobs"));
            config.queue.endpoint_url = Some(url.clone());
            config.queue.region = Some("eu-west-1".to_owned());
        });
        let config = world.written();
        let keys = [
            ("AWS_ACCESS_KEY_ID", "AKIAOWN"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let daemon = Daemon::start(&config, &keys).await;
        let received = || {
            let heads = heads.lock().unwrap();
            heads
                .iter()
                .filter(|head| head.contains("ReceiveMessage"))
                .count()
        };
        until("a receive", async || (received() > 0).then_some(())).await;
        tokio::time::sleep(std::time::Duration::from_secs(8)).await;
        assert_eq!(received(), 1, "{status}: {}", daemon_log(&config));
        let log = daemon_log(&config);
        assert!(log.contains("asks to come back in 40 s"), "{status}: {log}");
        drop(daemon);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_rejects_a_key_is_asked_once_more_with_the_one_that_the_process_gives_now() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = "{\"__type\":\"com.amazonaws.sqs#InvalidClientTokenId\",\"message\":\"The security token included in the request is invalid.\"}";
    let answer = move |head: &str| -> Answer {
        match key_of(head).as_str() {
            "AKIANEW" => ("200 OK", String::new(), "{\"QueueUrls\":[]}"),
            _ => ("403 Forbidden", String::new(), unknown),
        }
    };
    let (url, heads) = answering(date(SignedDuration::ZERO), answer).await;
    // The first time that it is asked, the process gives a key that is over.
    let (script, profiles) = (dir.path().join("give"), dir.path().join("profiles"));
    let text = format!(
        "#!/bin/sh\nid=AKIAOLD; [ -e {0} ] && id=AKIANEW; : > {0}\necho '{{\"Version\":1,\"AccessKeyId\":\"'$id'\",\"SecretAccessKey\":\"s\"}}'\n",
        dir.path().join("asked").display()
    );
    fs::write(&script, text).unwrap();
    let process = format!(
        "[profile q]\ncredential_process = sh {}\n",
        script.display()
    );
    fs::write(&profiles, process).unwrap();
    let config = dir.path().join("config.toml");
    let text = format!(
        "state_dir = \"{}\"\n[queue]\nkind = \"sqs\"\nurl = \"{url}/1/jobs\"\nendpoint_url = \"{url}\"\nregion = \"eu-west-1\"\nprofile = \"q\"\n",
        dir.path().join("state").display()
    );
    fs::write(&config, text).unwrap();
    let mut check = Command::new(program());
    check.args(["check", "--config"]).arg(&config);
    let output = check.env("AWS_CONFIG_FILE", &profiles).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let asked: Vec<String> = heads
        .lock()
        .unwrap()
        .iter()
        .map(|head| key_of(head))
        .collect();
    assert!(
        asked.len() >= 2,
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(asked[..2], ["AKIAOLD", "AKIANEW"], "{said}");
    assert!(!said.contains("InvalidClientTokenId"), "{said}");
}

/// An STS that gives this result, whatever role is asked for.
async fn sts(result: &str) -> Shop {
    let keys = "<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>";
    let result = result.replace("KEYS", keys);
    let answer = move |head: &str| -> Answer {
        let is_identity = head.contains("Action=AssumeRoleWithWebIdentity");
        let action = match is_identity {
            true => "AssumeRoleWithWebIdentity",
            false => "AssumeRole",
        };
        let text = format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}</{action}Result></{action}Response>"
        );
        (
            "200 OK",
            "Content-Type: text/xml\r\n".to_owned(),
            text.leak(),
        )
    };
    let (url, heads) = answering(date(SignedDuration::ZERO), answer).await;
    Shop {
        url,
        disabled: Arc::default(),
        heads,
    }
}

fn in_an_hour() -> String {
    let end = handout::clock::system().checked_add(SignedDuration::from_mins(60));
    format!("<Expiration>{}</Expiration>", end.unwrap())
}

/// `handout presign` with a connection `shop` at AWS, whose role or identity is had at an STS. The link, or the sentence.
fn presign(home: &Path, connection: &str, variables: &[(&str, &str)], options: &[&str]) -> String {
    let config = home.join("config.toml");
    let state = home.join("state");
    let text = format!(
        "state_dir = \"{}\"\n[connections.shop]\nregion = \"eu-west-1\"\n{connection}",
        state.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(program());
    command.args(["presign", "--connection", "shop", "--config"]);
    command
        .arg(&config)
        .args(options)
        .args(["--expires-in", "30m", "s3://reports/a.pdf"]);
    command
        .env_clear()
        .env("HOME", home)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let said = match output.status.success() {
        true => output.stdout,
        false => output.stderr,
    };
    String::from_utf8(said).unwrap().trim().to_owned()
}

const ROLE: &str = "assume_role = \"arn:aws:iam::123456789012:role/reports\"\n";
const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIABASE\n"),
    ("AWS_SECRET_ACCESS_KEY", "s"),
];

/// MinIO's answer has an empty ARN, others have none: <https://github.com/awslabs/aws-sdk-rust/issues/1288>.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_taken_on_at_the_sts_of_another_server_whatever_its_answer_says_beside_the_keys()
{
    let home = tempfile::tempdir().unwrap();
    let keys = format!("<Credentials>KEYS{}</Credentials>", in_an_hour());
    let arn = |arn: &str| {
        format!("<AssumedRoleUser>{arn}<AssumedRoleId>x</AssumedRoleId></AssumedRoleUser>")
    };
    for user in [
        arn("<Arn></Arn>"),
        arn("<Arn/>"),
        arn("<Arn>reports</Arn>"),
        arn(""),
        "<AssumedRoleUser/>".to_owned(),
        String::new(),
    ] {
        let sts = sts(&format!("{user}{keys}")).await;
        let connection = format!("{ROLE}sts_endpoint_url = \"{}\"\n", sts.url);
        let elsewhere = ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1");
        let variables = [&KEYS[..], &[elsewhere]].concat();
        let link = presign(home.path(), &connection, &variables, &[]);
        assert_eq!(key_of(&link), "ASIAROLE", "{user}: {link}");
        assert!(link.contains("X-Amz-Security-Token=t"), "{link}");
        assert_eq!(
            sts.asked_with(),
            ["AKIABASE"],
            "the keys are trimmed here, too"
        );
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL_STS", sts.url.as_str())]].concat();
        let link = presign(home.path(), ROLE, &variables, &[]);
        assert_eq!(key_of(&link), "ASIAROLE", "{user}: {link}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_identity_is_taken_to_the_sts_that_is_named_and_its_token_is_read_each_time() {
    let home = tempfile::tempdir().unwrap();
    let keys = format!("<Credentials>KEYS{}</Credentials>", in_an_hour());
    let token = home.path().join("token");
    let identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:minio:iam:::role/reports"),
    ];
    for user in ["<AssumedRoleUser><Arn></Arn></AssumedRoleUser>", ""] {
        let sts = sts(&format!("{user}{keys}")).await;
        let connection = format!("sts_endpoint_url = \"{}\"\n", sts.url);
        let refusal = presign(home.path(), &connection, &identity, &[]);
        assert!(
            refusal.contains("AWS_WEB_IDENTITY_TOKEN_FILE names "),
            "{refusal}"
        );
        assert!(
            refusal.contains("cannot be read: No such file"),
            "{refusal}"
        );
        fs::write(&token, "eyJ.the.token\n").unwrap();
        let link = presign(home.path(), &connection, &identity, &[]);
        assert_eq!(key_of(&link), "ASIAROLE", "{link}");
        let variables = [&identity[..], &[("AWS_ENDPOINT_URL_STS", sts.url.as_str())]].concat();
        assert_eq!(
            key_of(&presign(home.path(), "", &variables, &[])),
            "ASIAROLE"
        );
        let asked = sts.heads.lock().unwrap().join("\n");
        assert!(
            asked.contains("WebIdentityToken=eyJ.the.token&")
                || asked.ends_with("WebIdentityToken=eyJ.the.token"),
            "{asked}"
        );
        fs::remove_file(&token).unwrap();
        // Keys in the environment come first, as in every program of AWS.
        let variables = [&identity[..], &KEYS].concat();
        assert_eq!(
            key_of(&presign(home.path(), &connection, &variables, &[])),
            "AKIABASE"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_does_not_say_its_end_or_has_no_token_is_promised_to_nobody() {
    let home = tempfile::tempdir().unwrap();
    let of = async |result: &str| {
        let sts = sts(result).await;
        let connection = format!("{ROLE}sts_endpoint_url = \"{}\"\n", sts.url);
        presign(home.path(), &connection, &KEYS, &[])
    };
    let endless = of("<Credentials>KEYS</Credentials>").await;
    assert!(endless.contains("do not say when they expire"), "{endless}");
    let over = "<Credentials>KEYS<Expiration>2020-01-01T00:00:00Z</Expiration></Credentials>";
    let over = of(over).await;
    assert!(over.contains("ended at 2020-01-01T00:00:00Z"), "{over}");
    let keyless = of("<AssumedRoleUser/>").await;
    assert!(
        keyless.contains("the answer of STS has no credentials"),
        "{keyless}"
    );
    let tokenless = format!(
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey>{}</Credentials>",
        in_an_hour()
    );
    let tokenless = of(&tokenless).await;
    assert!(
        tokenless.contains("the answer of STS has no SessionToken"),
        "{tokenless}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sts_says_against_a_role_reaches_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let words = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>";
    let answer = move |_: &str| -> Answer { ("403 Forbidden", String::new(), words) };
    let (url, _) = answering(date(SignedDuration::ZERO), answer).await;
    let connection = format!("{ROLE}sts_endpoint_url = \"{url}\"\n");
    let said = presign(home.path(), &connection, &KEYS, &[]);
    assert!(
        said.contains("could not assume the role arn:aws:iam::123456789012:role/reports"),
        "{said}"
    );
    assert!(
        said.contains("AccessDenied: not authorized to perform sts:AssumeRole"),
        "{said}"
    );
}

/// What an env file, a mounted secret or a clipboard leaves around keys.
#[tokio::test]
async fn keys_with_line_ends_around_them_sign_and_keys_with_line_ends_or_quotes_in_them_are_refused()
 {
    let home = tempfile::tempdir().unwrap();
    let with = |id: &str, secret: &str| {
        let keys = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
        presign(home.path(), "", &keys, &[])
    };
    let signature = |link: &str| {
        assert_eq!(key_of(link), "AKIA", "{link}");
        link.contains("%0A").then_some(())
    };
    for (id, secret) in [
        ("AKIA\n", "s"),
        ("AKIA\r\n", "s \n"),
        (" AKIA", "\ts"),
        ("\u{feff}AKIA", "s"),
    ] {
        assert_eq!(signature(&with(id, secret)), None, "{id:?}");
    }
    for (id, secret, words) in [
        ("AK\nIA", "s", "the access key id holds a line end"),
        ("\"AKIA\"", "s", "the access key id is in quotation marks"),
        ("AKIA", "'s'", "the secret access key is in quotation marks"),
        ("AKIA", "s\nt", "the secret access key holds a line end"),
    ] {
        let said = with(id, secret);
        assert!(said.contains(words), "{id:?}: {said}");
        assert!(!said.contains("X-Amz"), "{said}");
    }
    // The signature is that of the secret without what stood around it.
    let secret = home.path().join("secret");
    let fixed = format!(
        "access_key_id = \" AKIA\\n\"\nsecret_access_key_file = \"{}\"\n",
        secret.display()
    );
    fs::write(&secret, " s \r\n").unwrap();
    let link = presign(home.path(), &fixed, &[], &[]);
    assert_eq!(signature(&link), None);
    // And so is a region's.
    let link = presign(
        home.path(),
        "",
        &[
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
        ],
        &[],
    );
    assert!(
        link.starts_with("https://reports.s3.eu-west-1.amazonaws.com/"),
        "{link}"
    );
}
