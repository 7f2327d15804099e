//! The program where people put it first: a small container, a user without a home, a machine on which nothing is prepared.
//! The guides of the README are followed there word for word.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::program;
use crate::support::servers::{Parts, skipped_for};
use crate::support::world::{World, email_job};

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
        let id = if user == "root" { 0 } else { NOBODY };
        let path = "target/release:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let enter = format!(
            "{ROOT}exec setpriv --reuid={id} --regid={id} --clear-groups env -i PATH=\"$BARE/checkout/{path}\" \"$@\""
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

/// The code of a chapter of the README in one language.
fn guide(chapter: &str, language: &str) -> String {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let readme = readme.unwrap();
    let (_, text) = readme.split_once(&format!("\n## {chapter}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let begin = format!("```{language}\n");
    let blocks = text.split(&begin).skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    // What is built was built before the test.
    let lines = blocks.flat_map(str::lines);
    let lines = lines.filter(|line| !line.starts_with("cargo build"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

const ONE_MACHINE: &str = "On one machine, without any cloud";

/// What a newcomer looks at afterwards: the mail is there, its log is whole, and the daemon ends when it is asked to.
const LOOK: &str = r#"
tries=0
until ls "$STATE"/outbox/*.eml >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { echo "no mail came"; exit 9; }
    sleep 0.1
done
ls try/preview/*.html
handout audit verify --config try/config.toml
kill $!
wait $!
"#;

#[test]
fn the_quick_start_of_the_readme_works_without_root_and_without_a_home() {
    let Some(bare) = Bare::or_skip("the_quick_start") else {
        return;
    };
    let home = bare.path("home").to_string_lossy().into_owned();
    let xdg = format!("{home}/xdg");
    let places: [&[(&str, &str)]; 2] = [
        &[("HOME", &home)],
        &[("HOME", "/"), ("XDG_STATE_HOME", &xdg)],
    ];
    let states = [
        format!("{home}/.local/state/handout"),
        format!("{xdg}/handout"),
    ];
    let steps = guide(ONE_MACHINE, "sh") + LOOK;
    for (place, state) in places.into_iter().zip(states) {
        let variables = [place, &[("STATE", &state)]].concat();
        let output = bare.script("nobody", &variables, &steps);
        assert!(output.status.success(), "{state}: {}", said(&output));
        assert!(said(&output).contains("whole\n"), "{}", said(&output));
        fs::remove_dir_all(bare.path("checkout/try")).unwrap();
    }
}

#[test]
fn the_quick_start_of_the_readme_works_for_root_below_var_lib() {
    let Some(bare) = Bare::or_skip("the_quick_start_of_root") else {
        return;
    };
    let variables = [("HOME", "/root"), ("STATE", "/var/lib/handout")];
    let output = bare.script("root", &variables, &(guide(ONE_MACHINE, "sh") + LOOK));
    assert!(output.status.success(), "{}", said(&output));
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

/// What systemd does with the unit and its drop-in, as far as the guide rests on it: a user of its own, its state directory,
/// copies of the secrets that this user can read.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
[ "$1" = enable ] || exit 0
unit=/etc/systemd/system/handout.service
mkdir -p /run/bare-credentials /var/lib/handout
for line in $(grep -h ^LoadCredential= $unit $unit.d/*.conf); do
    named=${line#LoadCredential=}
    install -m 400 -o 12345 "${named#*:}" "/run/bare-credentials/${named%%:*}"
done
chown 12345 /run/bare-credentials; chmod 700 /run/bare-credentials; chown -R 12345 /var/lib/handout
start=$(sed -n s/^ExecStart=//p $unit)
cd /
STATE_DIRECTORY=/var/lib/handout CREDENTIALS_DIRECTORY=/run/bare-credentials \
    setpriv --reuid=12345 --regid=12345 --clear-groups --no-new-privs timeout --preserve-status 4 $start
"#;

#[test]
fn the_deployment_of_the_readme_finds_the_password_by_hand_and_as_a_service() {
    let Some(bare) = Bare::or_skip("the_deployment_of_the_readme") else {
        return;
    };
    let chapter = "A real deployment in five minutes";
    let bin = bare.path("checkout/bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("systemctl"), SYSTEMCTL).unwrap();
    fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(bare.path("checkout/config"), guide(chapter, "toml")).unwrap();
    let steps = guide(chapter, "sh");
    // The queues and the job are of AWS, which is not here; a check that finds them missing goes on.
    let steps = steps.lines().filter(|line| !line.starts_with("aws "));
    let steps = steps.fold(String::new(), |text, line| {
        let goes_on = line.starts_with("handout check ");
        text + &match goes_on {
            true => line.replacen("    #", " || true    #", 1),
            false => line.to_owned(),
        } + "\n"
    });
    let script = format!(
        "mount -t tmpfs tmpfs /run\nPATH=$PWD/bin:$PATH\ninstall -D -m 644 config /etc/handout/config.toml\n{steps}stat -c '%n %U %a' /etc/handout/smtp-password\nls /etc/handout /"
    );
    let variables = [
        ("HOME", "/root"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let output = bare.script("root", &variables, &script);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("/etc/handout/smtp-password root 600"),
        "{text}"
    );
    assert!(
        !text.contains("password_file"),
        "the secret is found: {text}"
    );
    assert!(
        !text.contains("secret.key"),
        "the state is in /var/lib/handout: {text}"
    );
}

/// Starts a command in another directory than that of its configuration.
fn elsewhere(config: &Path, dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(program())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .current_dir(dir)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn a_relative_path_is_beside_the_configuration_wherever_a_command_is_started() {
    let world = World::new().object("a.pdf", "x").configured(|config| {
        config.state_dir = "state".into();
        config.secret_key_file = Some("secret.key".into());
        config.audit.dir = Some("../beside/audit".into());
        config.mail.outbox_dir = Some("./outbox".into());
        config.templates.dir = Some("templates".into());
        config.results.file = Some("results.jsonl".into());
        let local = config.connections.get_mut("local").unwrap();
        local.directory = Some("../buckets".into());
    });
    let home = world.dir.path().join("etc");
    fs::create_dir_all(home.join("templates")).unwrap();
    fs::create_dir_all(world.dir.path().join("beside")).unwrap();
    let text = toml::to_string(&world.config).unwrap();
    fs::write(home.join("config.toml"), text).unwrap();
    fs::write(home.join("job.json"), email_job("first").to_string()).unwrap();
    let cwd = tempfile::tempdir().unwrap();
    let job = home.join("job.json");
    let output = elsewhere(
        &home.join("config.toml"),
        cwd.path(),
        &["job", "run", &job.to_string_lossy()],
        &[],
    );
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_dir(cwd.path()).unwrap().count(), 0);
    for made in ["state", "secret.key", "outbox", "../beside/audit"] {
        assert!(home.join(made).exists(), "{made}");
    }
    // The file's own directory counts, also when it is named without one.
    let output = elsewhere(Path::new("config.toml"), &home, &["audit", "verify"], &[]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_service_called_handout_in_the_namespace_of_a_pod_changes_nothing() {
    let world = World::new().object("a.pdf", "x");
    let config = world.written();
    let job = world.dir.path().join("job.json");
    fs::write(&job, email_job("first").to_string()).unwrap();
    let of_kubernetes = [
        ("HANDOUT_SERVICE_HOST", "10.0.0.1"),
        ("HANDOUT_SERVICE_PORT", "9464"),
        ("HANDOUT_SERVICE_PORT_METRICS", "9464"),
        ("HANDOUT_PORT", "tcp://10.0.0.1:9464"),
        ("HANDOUT_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("HANDOUT_PORT_9464_TCP_PROTO", "tcp"),
        ("HANDOUT_PORT_9464_TCP_PORT", "9464"),
        ("HANDOUT_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("HANDOUT_EMBEDDED_SERVICE_HOST", "fd00::1"),
        ("HANDOUT_EMBEDDED_PORT_53_UDP", "udp://[fd00::1]:53"),
    ];
    let run = |variables: &[(&str, &str)]| {
        let arguments = ["job", "submit", &job.to_string_lossy()];
        elsewhere(&config, world.dir.path(), &arguments, variables)
    };
    let output = run(&of_kubernetes);
    assert!(output.status.success(), "{}", said(&output));
    let output = run(&[("HANDOUT_QUEUE_URL", "https://sqs.example/1/jobs")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        said(&output).contains(
            "HANDOUT_QUEUE_URL names no key of the configuration: did you mean HANDOUT_QUEUE__URL"
        ),
        "{}",
        said(&output)
    );
}

/// Every variable that a chart or a compose file may leave empty.
const EMPTY: [&str; 23] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_STS",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_EC2_METADATA_DISABLED",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "CREDENTIALS_DIRECTORY",
    "XDG_STATE_HOME",
    "STATE_DIRECTORY",
    "HANDOUT_SECRET_KEY_FILE",
    "HANDOUT_MAIL__TIME_ZONE",
];

#[test]
fn an_empty_variable_is_an_unset_one_for_links() {
    let presign = |variables: &[(&str, &str)], arguments: &[&str]| {
        let output = Command::new(program())
            .args(["presign", "s3://reports/a.pdf", "--no-audit"])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .envs(EMPTY.map(|name| (name, "")))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = presign(&[], &["--region", "eu-west-1"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("https://reports.s3.eu-west-1.amazonaws.com/a.pdf?"),
        "{text}"
    );
    assert!(
        !text.contains("certificate"),
        "the system's are read: {text}"
    );
    let (code, text) = presign(&[("AWS_DEFAULT_REGION", "eu-west-3")], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("https://reports.s3.eu-west-3.amazonaws.com/"),
        "{text}"
    );
    let (code, text) = presign(&[("AWS_EC2_METADATA_DISABLED", "true")], &[]);
    assert_eq!(code, Some(78), "an empty region is none: {text}");
}

/// The queue's client and the one that takes a role on ended the process at an endpoint that was empty.
#[test]
fn an_empty_variable_is_an_unset_one_for_queues_and_roles() {
    let Some(parts) = Parts::or_skip("an_empty_variable") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let mut world = World::new().object("a.pdf", "x");
    world.config.queue.kind = handout::config::QueueKind::Sqs;
    world.config.queue.endpoint_url = Some(moto.url());
    world.config.queue.region = Some("eu-west-1".to_owned());
    world.config.queue.url = Some(format!("{}/123456789012/none", moto.url()));
    let role = handout::config::ConnectionConfig {
        region: Some("eu-west-1".to_owned()),
        assume_role: Some("arn:aws:iam::123456789012:role/signer".to_owned()),
        ..Default::default()
    };
    world.config.connections.insert("role".to_owned(), role);
    let config = world.written();
    let job = world.dir.path().join("job.json");
    fs::write(&job, email_job("first").to_string()).unwrap();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let with = |more: &[(&str, &str)], arguments: &[&str]| {
        let empty = EMPTY.map(|name| (name, ""));
        let variables = [&empty[..], &keys, more].concat();
        let output = elsewhere(&config, world.dir.path(), arguments, &variables);
        (output.status.code(), said(&output))
    };
    let submit = ["job", "submit", &job.to_string_lossy()];
    let (code, text) = with(&[], &submit);
    assert_eq!(
        code,
        Some(69),
        "the queue is asked, and is not there: {text}"
    );
    assert!(
        text.contains("NonExistentQueue") || text.contains("does not exist"),
        "{text}"
    );
    let signed = [
        "presign",
        "s3://reports/a.pdf",
        "--connection",
        "role",
        "--no-audit",
    ];
    drop(moto);
    let (code, text) = with(&[], &signed);
    assert_ne!(code, Some(101), "{text}");
    // So it is in a profile, for everything and for one service.
    let services = ["sqs", "s3", "sts"].map(|name| format!("{name} =\n  endpoint_url =\n"));
    let profile = format!(
        "[default]\nregion = eu-west-1\nendpoint_url =\nservices = mine\n[services mine]\n{}",
        services.concat()
    );
    let file = world.dir.path().join("aws");
    fs::write(&file, profile).unwrap();
    let of_profile = [("AWS_CONFIG_FILE", &*file.to_string_lossy())];
    for arguments in [&submit[..], &signed[..]] {
        let (code, text) = with(&of_profile, arguments);
        assert!(matches!(code, Some(69 | 78)), "{text}");
    }
    // One that is nonsense ends nothing either.
    for name in [
        "AWS_ENDPOINT_URL_SQS",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ENDPOINT_URL",
    ] {
        for arguments in [&submit[..], &signed[..]] {
            let (code, text) = with(&[(name, "no endpoint")], arguments);
            assert!(matches!(code, Some(69 | 78)), "{name}: {text}");
        }
    }
}
