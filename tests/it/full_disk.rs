//! Disks without room: what needs one waits, says so and goes on when there is room again, and a daemon that is told to stop
//! ends in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{Daemon, daemon_log, submit};
use crate::liveness::{is_ready, is_unready, lines_with, mailed};
use crate::support::servers::skipped_for;
use crate::support::world::{World, email_job};
use crate::support::{get, program, until};

/// How long a stop may take here before it counts as hung. It takes up to 10 s on a quiet machine; `make faults` measures it.
const STOP: Duration = Duration::from_secs(45);

/// A small disk under a directory, until it is dropped.
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Only root may mount one; elsewhere the test says that it is skipped.
    pub(crate) fn mount(path: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={mebibytes}m,nr_inodes=64");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "handout-test"])
            .arg(path)
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self {
                path: path.to_owned(),
            });
        }
        skipped_for("a_full_disk", "a small disk can be mounted by root only");
        None
    }

    /// Leaves so much room on the disk.
    pub(crate) fn fill(&self, but_kibibytes: u64) {
        let filling = self.path.join("filling");
        let disk = rustix::fs::statvfs(&self.path).unwrap();
        let free = (disk.f_bavail * disk.f_frsize).saturating_sub(but_kibibytes * 1024);
        // A daemon that writes meanwhile takes some of it.
        let filled = fs::write(filling, vec![b'x'; usize::try_from(free).unwrap()]);
        let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
        assert!(filled.as_ref().err().is_none_or(is_full), "{filled:?}");
    }

    /// Leaves room for bytes, and for no file.
    fn fill_with_names(&self) {
        let mut names = (0..64).map(|n| self.path.join(format!("filling-{n}")));
        while names.next().is_some_and(|name| fs::write(name, "").is_ok()) {}
    }

    pub(crate) fn make_room(&self) {
        for entry in fs::read_dir(&self.path).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains("/filling") {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .args(["--lazy"])
            .arg(&self.path)
            .status();
        drop(unmounted);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_waited_for_at_the_start_and_later() {
    let mut world = World::new().object("a.pdf", "x");
    world.config.audit.min_free = "4MiB".parse().unwrap();
    world.config.mail.outbox_dir = Some(world.dir.path().join("outbox"));
    let (state, outbox) = (world.config.state_dir.clone(), world.config.outbox_dir());
    let Some(state) = SmallDisk::mount(&state, 24) else {
        return;
    };
    let outbox = SmallDisk::mount(&outbox, 1).unwrap();
    let config = world.written();
    state.fill(0);
    let daemon = Daemon::launch(&config, &[]);
    is_unready(&daemon.http, "No space left on device").await;
    assert_eq!(get(&format!("http://{}/live", daemon.http)).await.0, 200);
    state.make_room();
    is_ready(&daemon.http).await;

    state.fill(2 * 1024);
    is_unready(&daemon.http, "audit.min_free").await;
    // A poll that was under way may still bring a message.
    tokio::time::sleep(Duration::from_secs(2)).await;
    submit(&config, &email_job("waits"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.waiting().await, 1, "it is not received");
    state.make_room();
    mailed(&world, "waits").await;

    outbox.fill(0);
    submit(&config, &email_job("no-room"));
    until("the reason", async || {
        daemon_log(&config)
            .contains("No space left on device (os error 28)")
            .then_some(())
    })
    .await;
    outbox.make_room();
    mailed(&world, "no-room").await;
    assert_eq!(world.parked().await, Vec::<String>::new());
    daemon.stops(&config).await;
}

/// What `handout audit verify` says.
fn verified(config: &Path) -> (bool, String) {
    let output = Command::new(program())
        .args(["audit", "verify", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said)
}

#[tokio::test]
async fn an_audit_log_whose_disk_has_no_room_makes_jobs_wait_and_ends_nothing() {
    let mut world = World::new();
    for number in 0..1500 {
        world = world.object(&format!("{number:03}.pdf"), "x");
    }
    world.config.audit.min_free = "1B".parse().unwrap();
    world.config.audit.rotate_size = "1MB".parse().unwrap();
    let audit = world.dir.path().join("audit");
    world.config.audit.dir = Some(audit.clone());
    let Some(disk) = SmallDisk::mount(&audit, 8) else {
        return;
    };
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    is_ready(&daemon.http).await;
    let mut small = email_job("small");
    small["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["001.pdf"] });
    let large = email_job("large");
    // A write that fails at once, one that fails in its middle, and, after a segment has its size, one that cannot begin the next.
    let rows = [
        ("no byte", &small, Some(0)),
        ("half of the lines", &large, Some(500)),
        ("no file", &small, None),
    ];
    for (what, job, kibibytes) in rows {
        match kibibytes {
            Some(kibibytes) => disk.fill(kibibytes),
            None => disk.fill_with_names(),
        }
        let mut job = job.clone();
        let id = what.replace(' ', "-");
        job["id"] = json!(id);
        submit(&config, &job);
        is_unready(&daemon.http, "has no room since 20").await;
        assert_eq!(get(&format!("http://{}/live", daemon.http)).await.0, 200);
        let mails = world.mails().len();
        tokio::time::sleep(Duration::from_secs(3)).await;
        is_unready(&daemon.http, "has no room since 20").await;
        // In the last row the lines may have found room before the next segment did not: a mail with its lines may leave.
        let is_recorded =
            || kibibytes.is_none() && world.audit_of("issue").iter().any(|line| line["job"] == id);
        assert!(
            world.mails().len() == mails || is_recorded(),
            "{id}: no link leaves"
        );
        disk.make_room();
        is_ready(&daemon.http).await;
        mailed(&world, &id).await;
    }
    assert_eq!(
        lines_with(&config, "has no room since 20"),
        3,
        "{}",
        daemon_log(&config)
    );
    assert_eq!(lines_with(&config, "is back"), 3);
    assert_eq!(world.parked().await, Vec::<String>::new());

    disk.fill(0);
    submit(&config, &small);
    is_unready(&daemon.http, "of the audit log").await;
    let took = daemon.stops(&config).await;
    assert!(took < STOP, "{took:?}");
    assert_eq!(world.waiting().await, 1, "the job stays");

    disk.make_room();
    let daemon = Daemon::start(&config, &[]).await;
    mailed(&world, "small").await;
    daemon.stops(&config).await;
    let (is_whole, said) = verified(&config);
    assert!(is_whole, "{said}");
}

#[tokio::test]
async fn a_daemon_whose_whole_state_is_on_a_full_disk_ends_with_0_when_it_is_told_to() {
    let mut world = World::new().object("a.pdf", "x");
    world.config.audit.min_free = "1B".parse().unwrap();
    world.config.mail.outbox_dir = Some(world.dir.path().join("outbox"));
    let state = world.config.state_dir.clone();
    let Some(disk) = SmallDisk::mount(&state, 8) else {
        return;
    };
    for is_worked in [false, true] {
        let config = world.written();
        let daemon = Daemon::start(&config, &[]).await;
        is_ready(&daemon.http).await;
        let id = format!("before-{is_worked}");
        submit(&config, &email_job(&id));
        mailed(&world, &id).await;
        if is_worked {
            // The disk is full in the middle of the jobs.
            let jobs: Vec<_> = (0..8).map(|n| email_job(&format!("amid-{n}"))).collect();
            world.submit(&jobs).await;
        }
        disk.fill(0);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let took = daemon.stops(&config).await;
        assert!(took < STOP, "{took:?}");
        disk.make_room();
    }
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    for number in 0..8 {
        mailed(&world, &format!("amid-{number}")).await;
    }
    until("the last message", async || {
        (world.waiting().await == 0).then_some(())
    })
    .await;
    daemon.stops(&config).await;
    let subjects: Vec<String> = world.mails().into_iter().map(|mail| mail.subject).collect();
    assert_eq!(subjects.len(), 10, "each was mailed once: {subjects:?}");
    let (is_whole, said) = verified(&config);
    assert!(is_whole, "{said}");
}

/// `LimitFSIZE=` of a unit, or `ulimit -f`: by default, the signal of a write beyond it kills the process.
#[tokio::test]
async fn a_limit_of_the_size_of_files_is_a_disk_without_room() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("before"));
    mailed(&world, "before").await;
    let limit = |bytes: &str| {
        let limited = Command::new("prlimit")
            .args(["--pid", &daemon.pid().to_string()])
            .arg(format!("--fsize={bytes}:unlimited"))
            .status();
        assert!(limited.unwrap().success());
    };
    limit("1");
    submit(&config, &email_job("beyond"));
    // Its log is a file, too.
    is_unready(&daemon.http, "").await;
    limit("unlimited");
    mailed(&world, "beyond").await;
    is_ready(&daemon.http).await;
    daemon.stops(&config).await;
    let (is_whole, said) = verified(&config);
    assert!(is_whole, "{said}");
}

#[tokio::test]
async fn a_daemon_ends_with_0_though_another_process_keeps_the_audit_logs_lock() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("before"));
    mailed(&world, "before").await;
    let held = fs::File::open(world.config.state_dir.join("audit/.lock")).unwrap();
    held.lock().unwrap();
    let took = daemon.stops(&config).await;
    assert!(took < STOP, "{took:?}");
    drop(held);
    let daemon = Daemon::start(&config, &[]).await;
    submit(&config, &email_job("after"));
    mailed(&world, "after").await;
    daemon.stops(&config).await;
    let (is_whole, said) = verified(&config);
    assert!(is_whole, "{said}");
}
