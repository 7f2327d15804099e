//! Tests of `config/load.rs`.

use super::*;

#[test]
fn the_annotated_file_is_the_default() {
    let shipped = Config::parse(
        include_str!("../../../config.toml"),
        &Environment::default(),
    )
    .unwrap();
    assert_eq!(shipped, Config::default());
}

#[test]
fn an_unknown_key_is_refused_with_its_neighbour() {
    let error = Config::parse(
        "[links]\nexpiry_gaurd = \"refuse\"\n",
        &Environment::default(),
    )
    .unwrap_err();
    assert!(
        error.contains("did you mean expiry_guard?") && error.contains("line 2"),
        "{error}"
    );
}

/// Applies to an unknown key, a wrong value and a syntax error: the error goes into the service's log.
#[test]
fn a_secret_in_the_place_of_its_file_is_not_repeated() {
    for line in [
        "secret_access_key = \"hunter2\"",
        "secret_access_key_file = [\"hunter2\"]",
        "secret_access_key_file = hunter2",
        "access_key_id = \"A\" secret_access_key = \"hunter2\"",
        "secret_access_key_file = \"hunter2",
    ] {
        let text = format!("[connections.x]\n{line}\n");
        let error = Config::parse(&text, &Environment::default()).unwrap_err();
        assert!(error.starts_with("line 2, column "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn values_that_cannot_be_used_say_why() {
    let check = |text: &str| {
        let config = Config::parse(text, &Environment::default()).unwrap();
        config.check().unwrap_err().to_string()
    };
    let table = [
        "[queue]\nkind = \"sqs\"",
        "[queue]\nmax_in_flight = 0",
        "[links]\nexpires_in = \"8d\"",
        "[connections.x]\nassume_role_duration = \"1h\"",
        "[connections.x]\nassume_role = \"r\"\nassume_role_duration = \"13h\"",
        "[mail]\nfrom = \"nobody\"",
        "[mail]\ntime_zone = \"Mars/Base\"",
        "[mail]\ntransport = \"smtp\"\n[mail.smtp]\nhost = \"relay.example\"\ntls = \"none\"",
        "[mail]\nnotify = \"nobody\"",
        "[mail.relays.bulk]\nusername = \"x\"",
        "[mail.relays.default]\nhost = \"x\"",
        "[mail.relays.bulk.deadlines]\ndot = \"11m\"",
        "[connections.x]\ndirectory = \"/srv\"\nregion = \"eu-west-1\"",
        "[connections.x]\naccess_key_id = \"AKIA\"",
        "[connections.x]\nendpoint_url = \"s3.example\"",
        "[connections.x]\npublic_endpoint_url = \"https://files.example/a/../b\"",
        "[connections.x]\nendpoint_url = \"http://minio:9000\"\npublic_path_style = false",
        "[connections.x]\nsse_kms_key_id = \"alias/reports\"",
        "[connections.x]\nsse = \"AES256\"\nsse_kms_key_id = \"alias/reports\"",
        "[connections.x]\nsse = \"aws:kms\"\nsse_kms_key_id = \"\"",
        "[connections.x]\nsse = \"aws:kms:dsse\"\nsse_kms_key_id = \"alias/a b\"",
        "[connections.x]\ndirectory = \"/srv\"\nsse = \"AES256\"",
        "[connections.x]\ndirectory = \"/srv\"\nrequest_payer = true",
        "[connections.x]\nrequest_payer = true\n[connections.x.cloudfront]\ndomain = \"d111111abcdef8.cloudfront.net\"\nkey_pair_id = \"K1\"\nprivate_key_file = \"key\"",
        "[connections.x]\ndirectory = \"/srv\"\npublic_endpoint_url = \"https://files.example\"",
        "[results]\nfile = \"/srv/results.jsonl\"\nqueue_url = \"https://sqs.example/1/r\"",
        "[results]\nregion = \"eu-west-1\"",
        "[queue]\nkind = \"sqs\"\nurl = \"report-jobs\"",
        "[queue]\nparked_url = \"arn:aws:sqs:eu-west-1:123456789012:jobs\"",
        "[results]\nqueue_url = \"https://sqs.eu-west-1.amazonaws.com/\"",
        "[queue]\nendpoint_url = \"http://minio:9000/?x\"",
        "[[allow]]\nconnection = \"nope\"\nbucket = \"reports\"",
        "[[allow]]\nconnection = \"local\"\nbucket = \"reports\"\nrelays = [\"bulk\"]\n[connections.local]\ndirectory = \"/srv\"",
        "[[allow]]\nconnection = \"local\"\nbucket = \"reports\"\npublish = [\"/srv\"]\n[connections.local]\ndirectory = \"/srv\"",
    ]
    .map(check);
    insta::assert_snapshot!(table.join("\n"), @r#"
        the configuration's queue.url is missing: kind = "sqs" needs the queue's URL
        the configuration's queue.max_in_flight is 0: it must be at least 1
        the configuration's links.expires_in is 8d: S3 lets a link live for 7d at most
        the configuration's connections.x.assume_role_duration is of no use without assume_role
        the configuration's connections.x.assume_role_duration is not between 15m and 12h, which is what STS gives; a role may allow less
        the configuration's mail.from is not an e-mail address: write "ann@acme.example" or "Ann Bell <ann@acme.example>"
        the configuration's mail.time_zone is "Mars/Base", which is no time zone: write one like "Europe/Berlin"
        the configuration's mail.smtp.tls is "none", which is only for a relay on this machine: use "starttls" or "implicit"
        the configuration's mail.notify is not an e-mail address: write "ann@acme.example" or "Ann Bell <ann@acme.example>"
        the configuration's mail.relays.bulk.username is of no use without password_file, token_file or token_cmd
        the configuration's mail.relays.default has the name of [mail.smtp]: choose another
        the configuration's mail.relays.bulk.deadlines.dot is 11m: write "1s" to "10m"
        the configuration's connections.x.directory stands beside keys that belong to a real S3: a directory needs nothing else
        the configuration's connections.x.access_key_id and secret_access_key_file go together: give both or neither
        the configuration's connections.x.endpoint_url "s3.example" is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it
        the configuration's connections.x.public_endpoint_url "https://files.example/a/../b" has a path that clients would change: between single slashes write letters, digits, "-", ".", "_", "~" and %XX, and no folder "." or ".."
        the configuration's connections.x.public_path_style is of no use without public_endpoint_url
        the configuration's connections.x.sse_kms_key_id is of no use without sse = "aws:kms" or "aws:kms:dsse"
        the configuration's connections.x.sse_kms_key_id is of no use without sse = "aws:kms" or "aws:kms:dsse"
        the configuration's connections.x.sse_kms_key_id is no key of KMS: write its ARN, its id or an alias such as "alias/reports"
        the configuration's connections.x.sse_kms_key_id is no key of KMS: write its ARN, its id or an alias such as "alias/reports"
        the configuration's connections.x.directory stands beside keys that belong to a real S3: a directory needs nothing else
        the configuration's connections.x.directory stands beside keys that belong to a real S3: a directory needs nothing else
        the configuration's connections.x.request_payer stands beside cloudfront: CloudFront cannot read a Requester Pays bucket
        the configuration's connections.x.directory stands beside keys that belong to a real S3: a directory needs nothing else
        the configuration's results.file stands beside queue_url: give one of them
        the configuration's results.region belongs to a queue: give queue_url too
        the configuration's queue.url is not the URL of a queue: write it in full, as `aws sqs get-queue-url --queue-name NAME` prints it, such as https://sqs.eu-west-1.amazonaws.com/123456789012/NAME
        the configuration's queue.parked_url is not the URL of a queue: write it in full, as `aws sqs get-queue-url --queue-name NAME` prints it, such as https://sqs.eu-west-1.amazonaws.com/123456789012/NAME
        the configuration's results.queue_url is not the URL of a queue: write it in full, as `aws sqs get-queue-url --queue-name NAME` prints it, such as https://sqs.eu-west-1.amazonaws.com/123456789012/NAME
        the configuration's queue.endpoint_url "http://minio:9000/?****" is not an endpoint: write http:// or https:// and a host, with a port and a path if needed, and nothing after it
        the configuration's allow[0].connection is "nope", which is not a connection; configured: local
        the configuration's allow[0].relays[0] is "bulk", which is not a relay; configured: default
        the configuration's allow[0].publish[0] is "/srv": write "s3://bucket/prefix" or "dir:/absolute/path"
        "#);
}

#[test]
fn a_distribution_is_written_as_cloudfront_names_it_or_refused() {
    let with = |lines: &str| {
        let rule = "[[allow]]\nconnection = \"x\"\nbucket";
        let text =
            format!("{rule} = \"one\"\n{rule} = \"two\"\n[connections.x.cloudfront]\n{lines}\n");
        match Config::parse(&text, &Environment::default()) {
            Ok(config) => config
                .check()
                .map_or_else(|e| e.to_string(), |()| "fine".to_owned()),
            Err(error) => error.lines().last().unwrap_or_default().to_owned(),
        }
    };
    let right = "domain = \"d111111abcdef8.cloudfront.net\"\nkey_pair_id = \"K1\"\nprivate_key_file = \"cloudfront-key\"\nbucket = \"one\"\n";
    let table = [
        right.to_owned(),
        format!("{right}origin_path = \"/site\"\nhash = \"sha256\"\nwildcard = true"),
        right.replace("bucket = \"one\"\n", ""),
        right.replace("key_pair_id = \"K1\"\n", ""),
        right.replace("d111", "https://d111"),
        right.replace("K1", "K 1"),
        right.replace("\"one\"", "\"o/e\""),
        format!("{right}origin_path = \"/a/../b\""),
        format!("{right}hash = \"md5\""),
        format!("{right}response_overrides = false\n[links]\npin_version = true"),
    ]
    .map(|lines| with(&lines));
    insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        fine
        the configuration's connections.x.cloudfront.bucket is missing: the [[allow]] rules name several buckets (one, two), and the distribution stands before one
        line 7, column 1: missing field `key_pair_id`
        the configuration's connections.x.cloudfront.domain cannot be used: "https://d111111abcdef8.cloudfront.net" is not the domain of a distribution: write the name alone, such as d111111abcdef8.cloudfront.net
        the configuration's connections.x.cloudfront.key_pair_id cannot be used: "K 1" is not the id of a CloudFront public key: it looks like K2JCJMDEHXQW5F
        the configuration's connections.x.cloudfront.bucket holds the character '/': a bucket's name has letters, digits, '.', '-' and '_'
        the configuration's connections.x.cloudfront.origin_path is "/a/../b": write the folder as in the distribution, such as "/site"
        line 12, column 8: unknown variant, expected `sha1` or `sha256`
        the configuration's connections.x.cloudfront.response_overrides is false, and links.pin_version true: a link's version would not reach S3
        "#);
}

#[test]
fn a_ledger_in_s3_is_where_no_job_can_reach_it_or_refused() {
    let with = |ledger: &str, rule: &str| {
        let text = format!(
            "[ledger]\n{ledger}\n[connections.x]\nregion = \"eu-west-1\"\n[[allow]]\nconnection = \"x\"\n{rule}"
        );
        let config = Config::parse(&text, &Environment::default()).unwrap();
        config
            .check()
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    };
    let s3 = "kind = \"s3\"\nconnection = \"x\"\nbucket = \"books\"";
    let reports = "bucket = \"reports\"";
    let table = [
        with(s3, reports),
        with(s3, "bucket = \"books\"\nprefix = \"2026/\""),
        with(s3, "bucket = \"books\""),
        with(s3, "bucket = \"books\"\nprefix = \"ledger/jobs/\""),
        with(s3, "bucket = \"reports\"\npublish = [\"s3://books\"]"),
        with(
            s3,
            &format!("{reports}\n[gallery]\ndefault_publish = \"s3://books/ledger/pages/\""),
        ),
        with("kind = \"s3\"\nconnection = \"x\"", reports),
        with(&s3.replace("\"x\"", "\"y\""), reports),
        with(&format!("{s3}\nprefix = \"a b\""), reports),
        with("bucket = \"books\"", reports),
    ];
    insta::assert_snapshot!(table.join("\n"), @r#"
        fine
        fine
        the configuration's ledger.bucket is s3://books/ledger/, which the rule allow[0] opens to jobs: give the ledger a bucket of its own
        the configuration's ledger.bucket is s3://books/ledger/, which the rule allow[0] opens to jobs: give the ledger a bucket of its own
        the configuration's ledger.bucket is s3://books/ledger/, which the rule allow[0] opens to jobs: give the ledger a bucket of its own
        the configuration's ledger.bucket is s3://books/ledger/, where gallery.default_publish puts pages: give the ledger a bucket of its own
        the configuration's ledger.bucket is missing: kind = "s3" needs connection and bucket
        the configuration's ledger.connection is "y", which is not a connection; configured: x
        the configuration's ledger.prefix is "a b": write at most 100 letters, digits and -_./
        the configuration's ledger.bucket stands beside kind = "sqlite": it belongs to kind = "s3"
        "#);
}

#[test]
fn a_secret_is_read_from_its_file_and_does_not_print() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("smtp-password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let environment = Environment::default();
    let secret = Secret::read("mail.smtp.password_file", &file, &environment).unwrap();
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(format!("{secret:?}"), "Secret(****)");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let error = Secret::read("k", &fifo, &environment).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

/// Loads the configuration as a command does, with a secret that does not exist.
#[test]
fn a_secret_that_is_not_found_is_named_with_the_places_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(
        &file,
        "[mail.smtp]\nusername = \"ann\"\npassword_file = \"smtp-password\"\n",
    )
    .unwrap();
    let said = |environment: &Environment| {
        let config = Config::load(Some(&file), environment).unwrap();
        let path = config.mail.smtp.password_file.unwrap();
        let error = Secret::read("mail.smtp.password_file", &path, environment).unwrap_err();
        let folder = folder.path().to_string_lossy().into_owned();
        error.to_string().replace(&folder, "/etc/handout")
    };
    let service = Environment::of([("CREDENTIALS_DIRECTORY", "/run/credentials/handout")]);
    let table = [said(&Environment::default()), said(&service)];
    insta::assert_snapshot!(table.join("\n"), @r#"
        the configuration's mail.smtp.password_file names /etc/handout/smtp-password, which cannot be read: No such file or directory (os error 2); a bare name is looked for in $CREDENTIALS_DIRECTORY, which is not set, and then beside the configuration file
        the configuration's mail.smtp.password_file names /etc/handout/smtp-password, which cannot be read: No such file or directory (os error 2); a bare name is looked for in $CREDENTIALS_DIRECTORY, which is /run/credentials/handout, and then beside the configuration file
        "#);
}

/// Links that name another port than the one that is served would be dead.
#[test]
fn links_of_the_embedded_endpoint_name_the_address_at_which_it_listens() {
    for (text, wanted) in [
        ("", "http://127.0.0.1:9470"),
        ("listen = \"127.0.0.1:9571\"", "http://127.0.0.1:9571"),
        ("listen = \"0.0.0.0:9571\"", "http://127.0.0.1:9571"),
        ("listen = \"[::]:9571\"", "http://[::1]:9571"),
        ("listen = \"192.0.2.7:80\"", "http://192.0.2.7:80"),
        (
            "listen = \"0.0.0.0:9571\"\npublic_url = \"https://files.acme.example\"",
            "https://files.acme.example",
        ),
    ] {
        let text = format!("[embedded]\n{text}\n");
        let config = Config::parse(&text, &Environment::default()).unwrap();
        assert_eq!(config.embedded.public_url, wanted, "{text}");
    }
    let moved = Environment::of([("HANDOUT_EMBEDDED__LISTEN", "127.0.0.1:9572")]);
    let config = Config::parse("", &moved).unwrap();
    assert_eq!(config.embedded.public_url, "http://127.0.0.1:9572");
    let unknown = Config::parse("[embedded]\npublic_ur = \"x\"\n", &Environment::default());
    assert!(unknown.unwrap_err().contains("public_url"));
}
