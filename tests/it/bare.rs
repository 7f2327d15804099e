//! The program where people put it first: a small container, a user without a home, a machine on which nothing is prepared.
//!
//! In `guides`, what the pages of docs print is typed there word for word; `variables` has environments of other kinds.

mod guides;
mod variables;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::program;
use crate::support::servers::skipped_for;
use crate::support::world::email_job;

/// The user that containers run as: no account, no group, no home.
const NOBODY: u32 = 12345;

/// What the outside looks like before a script runs: no time zones, a /proc that shows processes alone, no network but
/// loopback, nothing in /var/lib and /srv, an /etc and a /usr/local/bin of its own.
const ROOT: &str = r#"
set -eu
ip link set lo up
mount --make-rprivate /
mount -t proc -o subset=pid,hidepid=invisible proc /proc
if [ -d /usr/share/zoneinfo ]; then mount --bind "$BARE/zoneinfo" /usr/share/zoneinfo; fi
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /srv
cp -a /etc/. "$BARE/etc"
mount --bind "$BARE/etc" /etc
mount --bind "$BARE/bin" /usr/local/bin
mount --bind "$SOURCE/samples" "$BARE/checkout/samples"
mount --bind "$SOURCE/systemd" "$BARE/checkout/systemd"
mount --bind "$PROGRAM" "$BARE/checkout/target/release/handout"
cd "$BARE/checkout"
"#;

/// A root file system that has what a small container has, and a checkout with the built program.
struct Bare {
    dir: TempDir,
}

impl Bare {
    /// The root, or a note that the test is skipped.
    fn or_skip(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for folder in [
            "bin",
            "checkout/samples",
            "checkout/systemd",
            "checkout/target/release",
            "etc",
            "home",
            "zoneinfo",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("checkout/target/release/handout"), "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bare = Self { dir };
        if !bare.script("root", &[], "true").status.success() {
            skipped_for(test, "only root can make namespaces");
            return None;
        }
        for folder in ["checkout", "home"] {
            chown(bare.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Some(bare)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a user types, in the checkout. Of the environment, nothing is there but what is given.
    fn script(&self, user: &str, variables: &[(&str, &str)], script: &str) -> Output {
        self.script_in("", user, variables, script)
    }

    /// The same after `more` was done to the place.
    fn script_in(
        &self,
        more: &str,
        user: &str,
        variables: &[(&str, &str)],
        script: &str,
    ) -> Output {
        let id = if user == "root" { 0 } else { NOBODY };
        let path = "target/release:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let enter = format!(
            "{ROOT}{more}exec setpriv --reuid={id} --regid={id} --clear-groups env -i PATH=\"$BARE/checkout/{path}\" \"$@\""
        );
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| format!("{name}={value}"));
        Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--kill-child"])
            .args(["sh", "-c", &enter, "sh"])
            .args(variables)
            .args(["sh", "-ec", script])
            .env("BARE", self.dir.path())
            .env("SOURCE", env!("CARGO_MANIFEST_DIR"))
            .env("PROGRAM", program())
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn the_demo_works_in_a_small_container() {
    let Some(bare) = Bare::or_skip("the_demo_in_a_container") else {
        return;
    };
    let output = bare.script("nobody", &[("HOME", "/")], "handout demo --once");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).ends_with("All good.\n"), "{}", said(&output));
}

/// A configuration and a job in the checkout, which the user may read.
fn written(bare: &Bare, more: &str) {
    let config = format!(
        "{more}\n[connections.local]\ndirectory = \"buckets\"\n[[allow]]\nconnection = \"local\"\nbucket = \"reports\"\nrecipients = [\"*@acme.example\"]\n"
    );
    fs::create_dir_all(bare.path("checkout/buckets/reports")).unwrap();
    fs::write(bare.path("checkout/buckets/reports/a.pdf"), "x").unwrap();
    fs::write(bare.path("checkout/config.toml"), config).unwrap();
    let mut job = email_job("first");
    job["email"]["to"] = serde_json::json!([
        { "address": "ann@acme.example" },
        { "address": "bo@acme.example", "time_zone": "Asia/Tokyo" },
    ]);
    fs::write(bare.path("checkout/job.json"), job.to_string()).unwrap();
}

#[test]
fn every_time_zone_is_known_where_the_system_has_none() {
    let Some(bare) = Bare::or_skip("every_time_zone") else {
        return;
    };
    written(&bare, "mail.time_zone = \"America/St_Johns\"");
    let preview = "handout job preview job.json --out preview && cat preview/*.txt";
    let databases: [&[(&str, &str)]; 2] = [&[], &[("TZDIR", "/nonsense")]];
    for variables in databases {
        let output = bare.script("nobody", variables, preview);
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("Asia/Tokyo") || text.contains("+09:00") || text.contains("JST"),
            "{text}"
        );
    }
    // A database with one zone in it is no reason not to know the others.
    let zone = bare.path("zoneinfo/Zulu");
    if fs::copy("/usr/share/zoneinfo/Zulu", &zone).is_ok() {
        let output = bare.script("nobody", &[], preview);
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// Each command of a user who has no place for state: what needs none works, and the others say what to set.
#[test]
fn a_user_without_a_home_is_told_what_to_set() {
    let Some(bare) = Bare::or_skip("a_user_without_a_home") else {
        return;
    };
    // Neither file is there, and a preview asks for neither.
    let secrets = "mail.transport = \"smtp\"\nmail.smtp = { username = \"handout\", password_file = \"missing\" }\naudit.checkpoint_key_file = \"missing\"";
    written(&bare, secrets);
    let homes: [&[(&str, &str)]; 4] = [
        &[("HOME", "/")],
        &[],
        &[("HOME", "/nonexistent")],
        &[("HOME", "/"), ("XDG_STATE_HOME", "/sys/state")],
    ];
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-west-1"),
    ];
    for home in homes {
        let variables = [home, &keys].concat();
        let run = |command: &str| {
            let output = bare.script("nobody", &variables, &format!("exec handout {command}"));
            (output.status.code(), said(&output))
        };
        let (code, text) = run("job preview job.json --out preview");
        assert_eq!(code, Some(0), "{home:?}: {text}");
        let names = ["state_dir", "XDG_STATE_HOME"];
        for (command, expected) in [("job submit job.json", 73), ("check", 1)] {
            let (code, text) = run(command);
            assert_eq!(code, Some(expected), "{home:?}: {text}");
            assert!(names.iter().all(|name| text.contains(name)), "{text}");
        }
        for command in [
            "audit key",
            "presign s3://reports/a.pdf --connection local --no-audit",
        ] {
            let (code, text) = run(command);
            assert_eq!(code, Some(74), "{home:?}: {text}");
            assert!(text.contains("secret_key_file"), "{text}");
        }
        fs::rename(
            bare.path("checkout/config.toml"),
            bare.path("checkout/kept"),
        )
        .unwrap();
        let (code, text) = run("presign s3://reports/a.pdf");
        let expected = if home.is_empty() { 78 } else { 73 };
        assert_eq!(code, Some(expected), "{home:?}: {text}");
        let names = ["state_dir", "XDG_STATE_HOME", "--no-audit"];
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
        let (code, text) = run("presign s3://reports/a.pdf --no-audit");
        assert_eq!(code, Some(0), "{home:?}: {text}");
        fs::rename(
            bare.path("checkout/kept"),
            bare.path("checkout/config.toml"),
        )
        .unwrap();
    }
}

/// A container whose root is read-only but for its volume, without /proc, without HOME.
const READ_ONLY: &str = r#"
mount --bind "$BARE" "$BARE"
mount --bind "$PROGRAM" "$BARE/checkout/target/release/handout"
mount -o remount,bind,ro /
umount -l /proc
umount -l /proc || true
cd "$BARE/checkout"
"#;

#[test]
fn a_read_only_root_without_proc_and_home_needs_a_volume_and_no_more() {
    let Some(bare) = Bare::or_skip("a_read_only_root") else {
        return;
    };
    written(&bare, "");
    let volume = bare.path("home").to_string_lossy().into_owned();
    let script = r#"
        if touch /tmp/x 2>/dev/null || [ -e /proc/self ]; then echo "this is no such place"; exit 9; fi
        handout check --config config.toml
        handout job preview job.json --config config.toml --out "$HANDOUT_STATE_DIR/preview"
        handout run --config config.toml &
        handout job submit job.json --config config.toml
        tries=0
        until ls "$HANDOUT_STATE_DIR"/outbox/*.eml >/dev/null 2>&1; do
            tries=$((tries + 1)); [ $tries -lt 300 ] || { echo "no mail came"; exit 9; }
            sleep 0.1
        done
        kill $!
        wait $!
        handout audit verify --config config.toml
        ls -a "$HANDOUT_STATE_DIR"
    "#;
    let variables = [("HANDOUT_STATE_DIR", &*volume)];
    let output = bare.script_in(READ_ONLY, "nobody", &variables, script);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("whole\n"), "{text}");
    let is_left = |line: &str| line.starts_with(".tmp");
    assert!(
        !text.lines().any(is_left),
        "what a preview needs is gone: {text}"
    );
}
