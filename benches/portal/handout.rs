//! The program with a job behind it: a thousand objects for a hundred recipients, a link each.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use handout::keyring::Keyring;
use handout::portal_token::{JobRef, ObjectSlot, PortalKeys, PortalToken};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{Server, free_port, pause};

/// The objects of the job, and of a page.
pub(crate) const OBJECTS: u64 = 1_000;

/// The recipients of the job.
const RECIPIENTS: u64 = 100;

/// The links of the job.
pub(crate) const LINKS: u64 = OBJECTS * RECIPIENTS;

/// An installation whose job was delivered to the outbox.
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
        let exports = world.path("buckets/acme-reports/exports/2026");
        fs::create_dir_all(&exports).unwrap();
        for object in 0..OBJECTS {
            fs::write(exports.join(format!("{object:08}.pdf")), "report").unwrap();
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
        let recipients: Vec<String> = (0..RECIPIENTS)
            .map(|recipient| format!("reader-{recipient}@acme.example"))
            .collect();
        let job = json!({
            "id": "bench-portal",
            "from": {"connection": "local", "bucket": "acme-reports", "prefix": "exports/2026/"},
            "email": {"to": recipients, "subject": "The reports"},
            "links": {"via": "portal", "expires_in": "7d"},
        });
        fs::write(world.path("job.json"), job.to_string()).unwrap();
        let submitted = world.handout("submit").arg(world.path("job.json")).output();
        let submitted = submitted.unwrap();
        let words = String::from_utf8_lossy(&submitted.stderr);
        assert!(submitted.status.success(), "{words}");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn handout(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_handout"));
        program
            .arg(command)
            .arg("--config")
            .arg(self.path("config.toml"));
        program.stdin(Stdio::null());
        program
    }

    /// Starts worker, embedded endpoint and portal in one process, and waits until all mails are out.
    pub(crate) fn start(&self) -> Server {
        let log = fs::File::create(self.path("log")).unwrap();
        let server = Server::listening(self.handout("run").stderr(log), self.portal_port);
        for _ in 0..1_200 {
            let mails = fs::read_dir(self.outbox()).map_or(0, Iterator::count);
            if mails as u64 >= RECIPIENTS {
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

    /// The keys of its tokens, and the reference of its job as a mail has it.
    fn keys(&self) -> (PortalKeys, JobRef) {
        let keyring = Keyring::open(&self.path("state/secret.key")).unwrap();
        let keys = PortalKeys::new(&keyring);
        let mut mails = fs::read_dir(self.outbox()).unwrap();
        let mail = fs::read_to_string(mails.next().unwrap().unwrap().path()).unwrap();
        let mail = mail.replace("=\r\n", "").replace("=\n", "");
        let tokens = mail.split(&format!(":{}/", self.portal_port)).skip(1);
        let mut opened = tokens.filter_map(|rest| keys.open(rest.get(2..46)?));
        let job = opened.next().expect("a mail has links of the portal").job;
        (keys, job)
    }

    /// The path of each link, in an order that no cache likes.
    pub(crate) fn links(&self) -> Vec<String> {
        let (keys, job) = self.keys();
        let path = |at: u64| {
            let link = u32::try_from(at * 7_919 % LINKS).unwrap();
            let objects = u32::try_from(OBJECTS).unwrap();
            let token = keys.seal(&PortalToken {
                job,
                recipient: link / objects,
                object: ObjectSlot(link % objects),
            });
            format!("/d/{}", token.expose())
        };
        (0..LINKS).map(path).collect()
    }

    /// The path of each recipient's page.
    pub(crate) fn pages(&self) -> Vec<String> {
        let (keys, job) = self.keys();
        let path = |recipient: u64| {
            let token = keys.seal(&PortalToken {
                job,
                recipient: u32::try_from(recipient).unwrap(),
                object: ObjectSlot::PAGE,
            });
            format!("/j/{}", token.expose())
        };
        (0..RECIPIENTS).map(path).collect()
    }

    /// Paths with tokens of another installation.
    pub(crate) fn forged(&self) -> Vec<String> {
        let keys = PortalKeys::new(&Keyring::new([7; 32]));
        let (_, job) = self.keys();
        let path = |at: u64| {
            let token = keys.seal(&PortalToken {
                job,
                recipient: 0,
                object: ObjectSlot(u32::try_from(at).unwrap()),
            });
            format!("/d/{}", token.expose())
        };
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
