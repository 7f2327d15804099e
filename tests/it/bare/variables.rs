//! Environments that a chart, a pod or a unit makes: variables of others, empty ones, another working directory.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::said;
use crate::support::program;
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};

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
