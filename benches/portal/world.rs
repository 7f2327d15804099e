//! The program with two jobs behind it: reports that readers save, and photos that a page shows; a link for each recipient.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use handout::keyring::Keyring;
use handout::portal_token::{JobRef, ObjectSlot, PortalKeys, PortalToken};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{Server, free_port, pause};

/// The objects of a job, and of a page.
pub(crate) const OBJECTS: u64 = 1_000;

/// The recipients of the reports, and of the photos: the portal shows each of them 60 pages a minute, and no more.
const REPORTED_TO: u64 = 100;
const SHOWN_TO: u64 = 200;

/// The links of the reports.
pub(crate) const LINKS: u64 = OBJECTS * REPORTED_TO;

/// An installation whose jobs were delivered to the outbox.
pub(crate) struct PortalWorld {
    dir: TempDir,
    portal_port: u16,
}

impl PortalWorld {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self {
            portal_port: free_port(),
            dir,
        };
        for (folder, extension) in [("exports", "pdf"), ("photos", "jpg")] {
            let folder = world.path("buckets/acme-reports").join(folder);
            fs::create_dir_all(&folder).unwrap();
            for object in 0..OBJECTS {
                fs::write(folder.join(format!("{object:08}.{extension}")), "file").unwrap();
            }
        }
        let (endpoint, metrics) = (free_port(), free_port());
        let config = format!(
            r#"
state_dir = "{state}"

[connections.local]
directory = "{buckets}"

[embedded]
listen = "127.0.0.1:{endpoint}"
public_url = "http://127.0.0.1:{endpoint}"

[http]
listen = "127.0.0.1:{metrics}"

[portal]
listen = "127.0.0.1:{portal}"
public_url = "http://127.0.0.1:{portal}"
trusted_proxies = ["127.0.0.1"]
open = "direct"

[[allow]]
connection = "local"
bucket = "acme-reports"
recipients = ["*@acme.example"]
max_links = 1000000
max_expires_in = "30d"
"#,
            state = world.path("state").display(),
            buckets = world.path("buckets").display(),
            portal = world.portal_port,
        );
        fs::write(world.path("config.toml"), config).unwrap();
        world.submit("exports", "attachment", REPORTED_TO);
        world.submit("photos", "inline", SHOWN_TO);
        world
    }

    /// Submits a job with all objects of a folder, which is its subject, too.
    fn submit(&self, folder: &str, disposition: &str, recipients: u64) {
        let recipients = 0..recipients;
        let job = json!({
            "v": 1,
            "id": format!("bench-{folder}"),
            "from": {"connection": "local", "bucket": "acme-reports", "prefix": format!("{folder}/")},
            "email": {
                "to": recipients.map(|at| format!("reader-{at}@acme.example")).collect::<Vec<_>>(),
                "subject": format!("Your {folder}"),
            },
            "links": {"via": "portal", "expires_in": "7d", "disposition": disposition},
        });
        fs::write(self.path("job.json"), job.to_string()).unwrap();
        let submitted = self
            .handout(&["job", "submit", "--no-check"])
            .arg(self.path("job.json"))
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&submitted.stderr);
        assert!(submitted.status.success(), "{words}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn handout(&self, command: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_handout"));
        program
            .args(command)
            .arg("--config")
            .arg(self.path("config.toml"));
        program.stdin(Stdio::null());
        program
    }

    /// Starts worker, embedded endpoint and portal in one process, and waits until all mails are out.
    pub(crate) fn start(&self) -> Server {
        let log = fs::File::create(self.path("log")).unwrap();
        let server = Server::listening(self.handout(&["run"]).stderr(log), self.portal_port);
        for _ in 0..1_200 {
            let mails = fs::read_dir(self.outbox()).map_or(0, Iterator::count);
            if mails as u64 >= REPORTED_TO + SHOWN_TO {
                return server;
            }
            pause(Duration::from_millis(100));
        }
        let log = fs::read_to_string(self.path("log")).unwrap();
        panic!("the job was not delivered: {log}");
    }

    fn outbox(&self) -> PathBuf {
        self.path("state/outbox")
    }

    /// The keys of its tokens.
    fn keys(&self) -> PortalKeys {
        PortalKeys::new(&Keyring::open(&self.path("state/secret.key")).unwrap())
    }

    /// The reference of the job of a folder, as its mails have it.
    fn job(&self, folder: &str) -> JobRef {
        let (keys, origin) = (self.keys(), format!(":{}/", self.portal_port));
        let subject = format!("Subject: Your {folder}");
        for mail in fs::read_dir(self.outbox()).unwrap() {
            let mail = fs::read_to_string(mail.unwrap().path()).unwrap();
            if !mail.contains(&subject) {
                continue;
            }
            let mail = mail.replace("=\r\n", "").replace("=\n", "");
            let mut tokens = mail.split(&origin).skip(1);
            let opened = tokens.find_map(|rest| keys.open(rest.get(2..46)?));
            return opened.expect("a mail has links of the portal").job;
        }
        panic!("no mail about {folder}");
    }

    /// The path of each link to a report, in an order that no cache likes.
    pub(crate) fn links(&self) -> Vec<String> {
        let (keys, job) = (self.keys(), self.job("exports"));
        let path = |at: u64| {
            let link = at * 7_919 % LINKS;
            link_of(&keys, job, link / OBJECTS, link % OBJECTS)
        };
        (0..LINKS).map(path).collect()
    }

    /// The path of each recipient's page of photos.
    pub(crate) fn pages(&self) -> Vec<String> {
        let (keys, job) = (self.keys(), self.job("photos"));
        let path = |recipient: u64| {
            let token = keys.seal(&PortalToken {
                job,
                recipient: u32::try_from(recipient).unwrap(),
                object: ObjectSlot::PAGE,
            });
            format!("/j/{}", token.expose())
        };
        (0..SHOWN_TO).map(path).collect()
    }

    /// Paths with tokens of another installation.
    pub(crate) fn forged(&self) -> Vec<String> {
        let (keys, job) = (PortalKeys::new(&Keyring::new([7; 32])), JobRef([7; 8]));
        let path = |at: u64| link_of(&keys, job, at / OBJECTS, at % OBJECTS);
        (0..LINKS).map(path).collect()
    }

    /// How many opens the audit log has.
    pub(crate) fn recorded_opens(&self) -> u64 {
        let files = fs::read_dir(self.path("state/audit")).unwrap();
        let lines = files.map(|file| {
            let text = fs::read(file.unwrap().path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            text.matches("\"ev\":\"opened\"").count() as u64
        });
        lines.sum()
    }
}

fn link_of(keys: &PortalKeys, job: JobRef, recipient: u64, object: u64) -> String {
    let token = keys.seal(&PortalToken {
        job,
        recipient: u32::try_from(recipient).unwrap(),
        object: ObjectSlot(u32::try_from(object).unwrap()),
    });
    format!("/d/{}", token.expose())
}
