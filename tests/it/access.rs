//! Who opened what: real clients at the embedded endpoint, whose access log `handout access read` reads and `handout opens` judges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::liveness::with_a_line;
use crate::support::line::Mode;
use crate::support::servers::{browser_or_skip, skipped_for};
use crate::support::world::{World, email_job, run_until_settled};
use crate::support::{answer, link_id, program, until};

const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

/// The length of each file.
const SIZE: usize = 3_000_000;

/// A world whose mails are out.
struct Mailed {
    world: World,
    config: PathBuf,
}

impl Mailed {
    /// The world, and the services that serve its links.
    async fn new() -> (Self, handout::assemble::Opened) {
        let big = "0123456789".repeat(SIZE / 10);
        let mut world = World::new().configured(|config| {
            config.access.addresses = handout::config::AddressDetail::Network;
        });
        let log = world.dir.path().join("access");
        world.config.embedded.access_log = Some(log);
        for number in 1..=4 {
            world = world.object(&format!("2026/file {number}.bin"), &big);
        }
        let config = world.written();
        let services = world.open().await;
        let mut job = email_job("j");
        let people = ["ann", "bob", "cleo", "dora", "eve", "fred"];
        let people: Vec<String> = people
            .iter()
            .map(|name| format!("{name}@acme.example"))
            .collect();
        job["email"]["to"] = json!(people);
        services.queue.submit(&job.to_string()).await.unwrap();
        run_until_settled(&services, 1).await;
        (Self { world, config }, services)
    }

    /// The links of a recipient, in the order of the files.
    fn links(&self, name: &str) -> Vec<String> {
        let mails = self.world.mails();
        let mail = mails.iter().find(|mail| mail.to.starts_with(name)).unwrap();
        let mut links: Vec<String> = mail
            .hrefs
            .iter()
            .filter(|href| href.contains("file%20"))
            .cloned()
            .collect();
        links.sort();
        links.dedup();
        assert_eq!(links.len(), 4, "{links:?}");
        links
    }

    fn folder(&self) -> &Path {
        self.world.dir.path()
    }

    /// Runs the program.
    fn handout(&self, arguments: &[&str]) -> Output {
        let config = self.config.to_str().unwrap();
        let output = Command::new(program())
            .args(arguments)
            .args(["--config", config])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// A copy of the audit log in which the mails were accepted two hours before.
    fn older_audit(&self) -> PathBuf {
        let copy = self.folder().join("older");
        fs::create_dir_all(&copy).unwrap();
        for entry in fs::read_dir(self.world.config.audit_dir()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "jsonl") {
                continue;
            }
            let older = |line: &str| {
                let parsed: Value = serde_json::from_str(line).unwrap();
                let ts = parsed["ts"].as_str().unwrap();
                let at: jiff::Timestamp = ts.parse().unwrap();
                let at = at - jiff::SignedDuration::from_hours(2);
                line.replace(ts, &at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()) + "\n"
            };
            let text = fs::read_to_string(&path).unwrap();
            let lines = text
                .lines()
                .map(|line| match line.contains("\"ev\":\"outcome\"") {
                    true => older(line),
                    false => line.to_owned() + "\n",
                });
            fs::write(
                copy.join(path.file_name().unwrap()),
                lines.collect::<String>(),
            )
            .unwrap();
        }
        copy
    }
}

/// Runs a client; `false` if it is not installed.
fn client(folder: &Path, name: &str, arguments: &[&str]) -> bool {
    match Command::new(name)
        .args(arguments)
        .current_dir(folder)
        .output()
    {
        Ok(_) => true,
        Err(_) => {
            skipped_for(
                "clients of access reports",
                &format!("{name} is not installed"),
            );
            false
        }
    }
}

fn row<'a>(report: &'a Value, name: &str, number: usize) -> &'a Value {
    let is_it = |row: &&Value| {
        row["to"].as_str().is_some_and(|to| to.starts_with(name))
            && row["key"]
                .as_str()
                .is_some_and(|key| key.contains(&format!("file {number}")))
    };
    report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("{name} {number}: {report:#}"))
}

#[track_caller]
fn is(report: &Value, name: &str, number: usize, verdict: &str, by: &str) {
    let row = row(report, name, number);
    let seen = (
        row["verdict"].as_str().unwrap(),
        row["by"].as_str().unwrap_or("no visitor"),
    );
    assert_eq!(seen, (verdict, by), "{row:#}");
}

/// Compares what arrived, and not the class of the visitor: four links within five seconds are a machine's, and a slow test takes longer.
#[track_caller]
fn arrived(report: &Value, name: &str, number: usize, verdict: &str) {
    let row = row(report, name, number);
    assert_eq!(row["verdict"], verdict, "{row:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_scanners_are_told_apart_and_what_arrived_is_told() {
    let (opened, services) = Box::pin(Mailed::new()).await;
    let here = tempfile::tempdir().unwrap();
    let folder = here.path();

    // curl: whole, a range and the rest, the headers, a few bytes.
    let ann = opened.links("ann");
    client(folder, "curl", &["-fsS", "-o", "whole", &ann[0]]);
    client(
        folder,
        "curl",
        &["-fsS", "-r", "0-999999", "-o", "part", &ann[1]],
    );
    client(folder, "curl", &["-fsS", "-C", "-", "-o", "part", &ann[1]]);
    assert_eq!(fs::read(folder.join("part")).unwrap().len(), SIZE);
    client(
        folder,
        "curl",
        &["-fsS", "-r", "0-99", "-o", "bytes", &ann[2]],
    );
    // A forged Referer and User-Agent with the id of a link that was not opened, and its id without a signature.
    let id = link_id(&ann[3]);
    let forged = format!("https://x.example/?x-handout={id} HTTP/1.1\" 200 - {SIZE} {SIZE} 1 1");
    client(
        folder,
        "curl",
        &["-fsS", "-o", "whole", "-e", &forged, "-A", &forged, &ann[0]],
    );
    let unsigned = format!("{}?x-handout={id}", ann[3].split('?').next().unwrap());
    client(folder, "curl", &["-sS", "-o", "refused", &unsigned]);

    // wget begins, is cut and goes on.
    let bob = opened.links("bob");
    fs::write(folder.join("wget"), "0123456789".repeat(100_000)).unwrap();
    let has_wget = client(folder, "wget", &["-q", "-c", "-O", "wget", &bob[0]]);
    let has_wget = client(folder, "wget", &["-q", "-O", "wget whole", &bob[1]]) && has_wget;
    client(folder, "wget", &["-q", "--spider", &bob[2]]);
    let has_aria = client(
        folder,
        "aria2c",
        &["-q", "-x4", "-s4", "-k1M", "-o", "aria", &bob[3]],
    );

    // A person at a browser.
    let cleo = opened.links("cleo");
    let has_browser = browser_or_skip("access reports").is_some_and(|browser| {
        let urls = folder.join("urls");
        fs::write(&urls, &cleo[0]).unwrap();
        let mut script = browser.script("download.mjs");
        let ran = script
            .env("USER_AGENT", CHROME)
            .stdin(fs::File::open(&urls).unwrap())
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        true
    });

    // A scanner of mails: all links at once, from two networks, as a browser.
    let dora = opened.links("dora");
    for (number, link) in dora.iter().enumerate() {
        let from = format!("X-Forwarded-For: 203.0.{number}.9");
        client(
            folder,
            "curl",
            &["-fsS", "-o", "scanned", "-A", CHROME, "-H", &from, link],
        );
    }

    // Links that mail systems mangled, and one that says what it is.
    let eve = opened.links("eve");
    client(
        folder,
        "curl",
        &["-sS", "-o", "mangled", &eve[0].replace('&', "&amp;")],
    );
    client(
        folder,
        "curl",
        &["-sS", "-o", "mangled", &eve[1][..eve[1].len() - 4]],
    );
    client(
        folder,
        "curl",
        &[
            "-fsS",
            "-o",
            "bot",
            "-A",
            "Slackbot-LinkExpanding 1.0",
            &eve[2],
        ],
    );
    let (before, rest) = eve[3].split_once("X-Amz-Expires=").unwrap();
    let (_, rest) = rest.split_once('&').unwrap();
    let ended = format!("{before}X-Amz-Expires=1&{rest}");
    assert_eq!(answer(&ended).await.0, 403);

    services.close().await;
    let log = opened.folder().join("access");
    let read = opened.handout(&["access", "read", log.to_str().unwrap(), "--json"]);
    let counts: Value = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(
        (&counts["malformed"], &counts["doubles"], &counts["unknown"]),
        (&json!(0), &json!(0), &json!(0)),
        "{counts}"
    );
    assert_eq!(counts["unsigned"], 1, "{counts}");
    // Again: nothing is new.
    let again = opened.handout(&["access", "read", log.to_str().unwrap(), "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["joined"], 0, "{again}");
    // The same log in a bucket: each request is known.
    localstore::create_bucket(&opened.folder().join("buckets"), "logs").unwrap();
    for file in fs::read_dir(&log).unwrap() {
        let file = file.unwrap();
        fs::copy(
            file.path(),
            opened.world.bucket("logs").join(file.file_name()),
        )
        .unwrap();
    }
    let bucket = opened.handout(&["access", "read", "s3://logs/", "--json"]);
    let bucket: Value = serde_json::from_slice(&bucket.stdout).unwrap();
    assert_eq!(
        (&bucket["joined"], &bucket["doubles"]),
        (&json!(0), &counts["joined"]),
        "{bucket}"
    );
    let text = fs::read_dir(&log)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect::<String>();
    assert!(!text.contains("X-Amz-Signature=0") && text.contains("X-Amz-Signature=****"));

    let audit = opened.older_audit();
    let opens = opened.handout(&[
        "opens",
        "j",
        "--all",
        "--json",
        "--audit",
        audit.to_str().unwrap(),
    ]);
    let report: Value = serde_json::from_slice(&opens.stdout).unwrap();
    is(&report, "ann", 1, "complete", "unknown");
    is(&report, "ann", 2, "probably-complete", "unknown");
    is(&report, "ann", 3, "looked-at", "unknown");
    is(&report, "ann", 4, "not-opened", "no visitor");
    if has_wget {
        arrived(&report, "bob", 1, "partly");
        assert_eq!(row(&report, "bob", 1)["percent"], 66);
        arrived(&report, "bob", 2, "complete");
        is(&report, "bob", 3, "looked-at", "machine");
    }
    if has_aria {
        // One of its connections may be sent the whole file before the others begin.
        let verdict = row(&report, "bob", 4)["verdict"].as_str().unwrap();
        assert!(
            ["complete", "probably-complete"].contains(&verdict),
            "{verdict}"
        );
    }
    if has_browser {
        is(&report, "cleo", 1, "complete", "likely-person");
    }
    is(&report, "cleo", 2, "not-opened", "no visitor");
    for number in 1..=4 {
        is(&report, "dora", number, "complete", "likely-machine");
        assert_eq!(row(&report, "dora", number)["downloads"], 0);
    }
    is(&report, "eve", 1, "refused", "no visitor");
    let evidence = |number| row(&report, "eve", number)["evidence"].to_string();
    assert!(evidence(1).contains("&amp; of HTML"), "{}", evidence(1));
    is(&report, "eve", 2, "refused", "no visitor");
    assert!(evidence(2).contains("cut off"), "{}", evidence(2));
    is(&report, "eve", 3, "complete", "machine");
    is(&report, "eve", 4, "refused", "no visitor");
    is(&report, "fred", 1, "not-opened", "no visitor");

    // The page that is filed is whole, and no barrier.
    let page = opened.handout(&[
        "opens",
        "j",
        "--all",
        "--html",
        "--audit",
        audit.to_str().unwrap(),
    ]);
    let path = opened.folder().join("opens.html");
    fs::write(&path, &page.stdout).unwrap();
    if let Some(browser) = browser_or_skip("the page of an access report") {
        let judged = browser.script("axe.mjs").arg(&path).output().unwrap();
        assert!(
            judged.status.success(),
            "{}",
            String::from_utf8_lossy(&judged.stdout)
        );
    }
    // A column in which no row says anything is left out.
    let unopened = opened.handout(&[
        "opens",
        "--recipient",
        "fred@acme.example",
        "--all",
        "--html",
        "--audit",
        audit.to_str().unwrap(),
    ]);
    let column = |page: &[u8], name: &str| {
        String::from_utf8_lossy(page).contains(&format!("<th scope=\"col\">{name}</th>"))
    };
    for (name, has_fred) in [("Arrived", true), ("First", false), ("Clients", false)] {
        assert!(column(&page.stdout, name), "{name}");
        assert_eq!(column(&unopened.stdout, name), has_fred, "{name}");
    }
    let table = opened.handout(&["opens", "j", "--audit", audit.to_str().unwrap()]);
    let table = String::from_utf8(table.stdout).unwrap();
    for words in [
        "ann@acme.example",
        "probably complete",
        "refused: the signature did not fit",
        "links were opened",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

/// A follower of logs, and what it complained of.
struct Follower {
    child: std::process::Child,
    log: PathBuf,
}

impl Follower {
    /// Follows a place of a world, one of whose connections is `far`.
    fn of(world: &World, place: &str) -> Self {
        let log = world.dir.path().join("follower.log");
        let mut command = Command::new(program());
        command.args(["access", "read", place, "--follow", "--config"]);
        command.arg(world.written());
        if place.starts_with("s3://") {
            command.args(["--connection", "far"]);
        }
        let child = command.stderr(fs::File::create(&log).unwrap()).spawn();
        Self {
            child: child.unwrap(),
            log,
        }
    }

    async fn says(&self, words: &str) {
        until(words, async || {
            let said = fs::read_to_string(&self.log).unwrap();
            said.contains(words).then_some(())
        })
        .await;
    }

    /// Ends at SIGTERM, within seconds and without an error.
    fn ends(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it is running");
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let began = tokio::time::Instant::now();
        let status = self.child.wait().unwrap();
        let said = fs::read_to_string(&self.log).unwrap();
        assert!(status.success(), "{status}: {said}");
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(4), "{took:?}: {said}");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        drop(self.child.kill());
    }
}

#[tokio::test]
async fn a_follower_goes_on_after_an_outage_and_ends_at_sigterm_in_one() {
    let (mut world, line) = with_a_line().await;
    let opened = world.open().await;
    line.becomes(Mode::Refusing);
    let far = Follower::of(&world, "s3://reports/logs/");
    far.says("trying again until it is stopped").await;
    line.becomes(Mode::Open);
    far.says("the logs are read again").await;
    far.ends();
    // While a listing is not answered.
    line.becomes(Mode::Silent);
    let far = Follower::of(&world, "s3://reports/logs/");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    far.ends();
    opened.close().await;
    // A directory that is not there yet.
    world =
        world.configured(|config| config.access.addresses = handout::config::AddressDetail::None);
    let logs = world.dir.path().join("logs");
    let here = Follower::of(&world, logs.to_str().unwrap());
    here.says("trying again until it is stopped").await;
    fs::create_dir(&logs).unwrap();
    here.says("the logs are read again").await;
    here.ends();
}
