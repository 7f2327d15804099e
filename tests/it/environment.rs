//! A daemon whose whole configuration is in the environment, as in a container, and the commands that look at it.

use std::process::{Child, Command, Output, Stdio};

use crate::support::world::{email_job, free_address};
use crate::support::{get, hrefs, program, until};

/// A machine without a configuration file.
struct Container {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// 32 bytes, as `openssl rand -hex 32` spells them.
const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

impl Container {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let bucket = root.path().join("buckets/reports/daily");
        std::fs::create_dir_all(&bucket).unwrap();
        std::fs::write(bucket.join("a.pdf"), "x").unwrap();
        let place = |name: &str| root.path().join(name).display().to_string();
        let variables = [
            ("STATE_DIR", place("state")),
            ("SECRET_KEY", format!("{SECRET}\n")),
            ("HTTP__LISTEN", free_address().to_string()),
            ("EMBEDDED__LISTEN", free_address().to_string()),
            ("CONNECTIONS__LOCAL__DIRECTORY", place("buckets")),
            ("ALLOW", "[{ connection = \"local\", bucket = \"reports\", recipients = [\"*@acme.example\"] }]".to_owned()),
            ("QUEUE__MAX_IN_FLIGHT", "2".to_owned()),
            ("QUEUE__GRACE_PERIOD", "1s".to_owned()),
            ("MAIL__SMTP__USERNAME", "me".to_owned()),
            ("MAIL__SMTP__PASSWORD", "hunter2".to_owned()),
            ("RESULTS__URL", "http://127.0.0.1:9/services/T0/hook".to_owned()),
            ("RESULTS__SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (format!("HANDOUT_{name}"), value));
        Self {
            root,
            variables: variables.into(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn outbox(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.root.path().join("state/outbox"));
        let files = files.into_iter().flatten().map(|file| file.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|ending| ending == "html"))
            .filter(|path| path.file_name() != Some("index.html".as_ref()))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }
}

/// Killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_daemon_runs_by_the_environment_alone_and_probes_need_no_other_program() {
    let container = Container::new();
    let (code, _, said) = container.output(&["health"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("could not ask /ready at 127.0.0.1:"),
        "{said}"
    );

    let mut daemon = Running(
        container
            .command(&["run"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    until("readiness", async || {
        (container.output(&["health"]).0 == Some(0)).then_some(())
    })
    .await;
    assert_eq!(container.output(&["health", "--live"]).0, Some(0));

    let job = container.root.path().join("job.json");
    std::fs::write(&job, email_job("daily").to_string()).unwrap();
    let (code, _, said) = container.output(&["job", "submit", "job.json"]);
    assert_eq!(code, Some(0), "{said}");
    let mail = until("the mail", async || container.outbox().pop()).await;
    assert_eq!(get(&hrefs(&mail)[0]).await, (200, b"x".to_vec()));
    // The secret came by the variable, so that none was made.
    assert!(!container.root.path().join("state/secret.key").exists());

    assert!(
        Command::new("kill")
            .args(["-TERM", &daemon.0.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    until("the end", async || daemon.0.try_wait().unwrap()).await;
    assert_eq!(container.output(&["health"]).0, Some(69));
}

#[tokio::test]
async fn what_is_no_daemon_is_not_taken_for_a_ready_one() {
    let container = Container::new();
    let (_, address) = container
        .variables
        .iter()
        .find(|(name, _)| name == "HANDOUT_HTTP__LISTEN")
        .unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\n\r\nS3 is down\n",
            "HTTP/1.1 404 Not Found\r\n\r\nno such page\n",
            "220 relay.example ESMTP\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>It works!</html>\n",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes())
                .await
                .unwrap();
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 512])
                .await
                .unwrap();
        }
        // It takes connections and gives no answer.
        let silent = listener.accept().await;
        std::future::pending::<()>().await;
        drop(silent);
    });
    let asked = async |arguments: &[&str]| {
        let mut command = container.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    };
    let ready = asked(&["health"]).await;
    assert_eq!(ready.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&ready.stdout), "S3 is down\n");
    let mut table = Vec::new();
    let health = &["health"][..];
    for arguments in [health, health, health, &["health", "--timeout", "1"]] {
        let output = asked(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).replace(address, "ADDRESS");
        table.push(format!("{} {said}", output.status.code().unwrap()));
    }
    insta::assert_snapshot!(table.concat(), @r"
    69 handout: ADDRESS answered /ready with the status 404: another program may listen there
    69 handout: ADDRESS gave an answer to /ready that is not the daemon's
    69 handout: ADDRESS gave an answer to /ready that is not the daemon's
    69 handout: could not ask /ready at ADDRESS: check that the daemon runs with this http.listen: no answer within 1 s
    ");
}

#[test]
fn the_configuration_in_effect_is_shown_with_its_origins_and_without_secrets() {
    let container = Container::new();
    let (code, shown, said) = container.output(&["config", "show", "--changed"]);
    assert_eq!(code, Some(0), "{said}");
    for secret in [SECRET, "hunter2", "MDEyMzQ1", "T0/hook"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let root = container.root.path().display().to_string();
    let lines = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let shown: Vec<String> = lines
        .map(|line| line.replace(&root, "ROOT"))
        .filter(|line| !line.contains("listen"))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    # There is no file.
    state_dir = "ROOT/state" # HANDOUT_STATE_DIR
    secret_key_file = "env:HANDOUT_SECRET_KEY" # HANDOUT_SECRET_KEY

    [queue]
    max_in_flight = 2 # HANDOUT_QUEUE__MAX_IN_FLIGHT
    grace_period = "1s" # HANDOUT_QUEUE__GRACE_PERIOD

    [connections.local]
    directory = "ROOT/buckets" # HANDOUT_CONNECTIONS__LOCAL__DIRECTORY

    [embedded]

    [mail.smtp]
    username = "me" # HANDOUT_MAIL__SMTP__USERNAME
    password_file = "env:HANDOUT_MAIL__SMTP__PASSWORD" # HANDOUT_MAIL__SMTP__PASSWORD

    [results]
    url = "http://127.0.0.1:9/****" # HANDOUT_RESULTS__URL
    secret_file = "env:HANDOUT_RESULTS__SECRET" # HANDOUT_RESULTS__SECRET

    [http]

    [[allow]]
    connection = "local" # HANDOUT_ALLOW
    bucket = "reports" # HANDOUT_ALLOW
    recipients = ["*@acme.example"] # HANDOUT_ALLOW
    "#);
}

#[test]
fn a_variable_that_a_secret_names_and_that_is_missing_or_double_is_an_error() {
    let table = [
        ("HANDOUT_MAIL__SMTP__PASSWORD_FILE", "env:SMTP_PASSWORD"),
        ("HANDOUT_SECRET_KEY_FILE", "/etc/handout/secret.key"),
        ("HANDOUT_SECRET_KEY", "too short"),
    ];
    let mut said = Vec::new();
    for (name, value) in table {
        let mut container = Container::new();
        container.variables.retain(|(other, _)| other != name);
        if name.contains("PASSWORD") {
            container
                .variables
                .retain(|(other, _)| other != "HANDOUT_MAIL__SMTP__PASSWORD");
        }
        container
            .variables
            .push((name.to_owned(), value.to_owned()));
        std::fs::write(
            container.root.path().join("job.json"),
            email_job("daily").to_string(),
        )
        .unwrap();
        let arguments: &[&str] = match value {
            "too short" => &["job", "run", "job.json"],
            _ => &["job", "submit", "--no-check", "job.json"],
        };
        let (code, _, error) = container.output(arguments);
        said.push(format!("{} {error}", code.unwrap()));
    }
    insta::assert_snapshot!(said.concat(), @r"
    78 handout: the configuration's mail.smtp.password_file names the environment variable SMTP_PASSWORD, which is not set
    78 handout: the environment is wrong: the variables HANDOUT_SECRET_KEY and HANDOUT_SECRET_KEY_FILE are both set: set one of them
    74 handout: the secret env:HANDOUT_SECRET_KEY has 9 bytes instead of 32, which may be spelled in hexadecimal digits or in base64: set the variable to the installation's secret, as `base64 secret.key` prints it
    ");
}

/// A secret in the wrong variable or the wrong line is in no error, and a text may look like a number.
#[test]
fn no_error_repeats_what_is_set_and_a_text_may_look_like_a_number() {
    for (name, value) in [
        ("HANDOUT_MAIL", "hunter2SECRET9"),
        ("HANDOUT_RESULTS", "{ secret = \"hunter2SECRET9\" }"),
        ("HANDOUT_QUEUE__KIND", "hunter2SECRET9"),
        ("HANDOUT_AUDIT__KEEP", "hunter2SECRET9"),
    ] {
        let mut container = Container::new();
        container
            .variables
            .push((name.to_owned(), value.to_owned()));
        let (code, _, said) = container.output(&["config", "show"]);
        assert_eq!(code, Some(78), "{name}: {said}");
        assert!(said.contains(name) && !said.contains("SECRET9"), "{said}");
    }
    let container = Container::new();
    for line in [
        "results = \"whsec_PLANTED5 https://hooks.example/T0/x ann@acme.example\"",
        "[mail]\nsmtp = \"whsec_PLANTED5\"",
        "[audit]\nkeep = \"whsec_PLANTED5\"",
    ] {
        std::fs::write(container.root.path().join("config.toml"), line).unwrap();
        let (code, _, said) = container.output(&["config", "show"]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("line "), "{said}");
        assert!(
            !said.contains("PLANTED5") && !said.contains("hooks"),
            "{said}"
        );
    }

    let mut container = Container::new();
    container.variables.push((
        "HANDOUT_CONNECTIONS__LOCAL2__ACCESS_KEY_ID".to_owned(),
        "0123456789".to_owned(),
    ));
    container.variables.push((
        "HANDOUT_CONNECTIONS__LOCAL2__SECRET_ACCESS_KEY".to_owned(),
        "98765".to_owned(),
    ));
    let (code, shown, said) = container.output(&["config", "show", "--changed"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.contains("access_key_id = \"0123456789\""), "{shown}");
    assert!(!shown.contains("98765"), "{shown}");
}
