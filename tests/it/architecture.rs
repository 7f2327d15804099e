//! The house rules that no lint knows: which words may stand in which file.

use std::fs;
use std::path::{Path, PathBuf};

/// The story: what becomes of a job. It says what happens, and leaves how to the edges.
const STORY: [&str; 10] = [
    "job.rs",
    "job/wire.rs",
    "job/envelope.rs",
    "plan.rs",
    "plan/policy.rs",
    "plan/expiry.rs",
    "links.rs",
    "render.rs",
    "distribute.rs",
    "publication.rs",
];

/// Words of the outside.
const OUTSIDE: [&str; 8] = [
    "aws_",
    "lettre::transport",
    "tokio::fs",
    "std::fs",
    "SystemTime",
    "Timestamp::now",
    "rusqlite",
    "hyper",
];

fn source() -> PathBuf {
    root().join("src")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of the product and of the crates beside it.
fn source_folders() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().path().join("src"));
    crates.chain([source()]).collect()
}

/// A file without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap()
        .to_owned()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Each source file by its name, below `src` or as in `crates/presign/src/url.rs`, without its unit tests.
fn sources() -> impl Iterator<Item = (String, String)> {
    let paths = source_folders()
        .into_iter()
        .flat_map(|folder| files_below(&folder))
        .filter(|path| !path.ends_with("tests.rs"));
    paths.map(|path| {
        let name = path.strip_prefix(root()).unwrap();
        let name = name.strip_prefix("src").unwrap_or(name);
        (name.to_string_lossy().into_owned(), code(&path))
    })
}

#[test]
fn the_story_does_not_speak_of_the_outside() {
    for file in STORY {
        let text = code(&source().join(file));
        for word in OUTSIDE {
            assert!(!text.contains(word), "{file} speaks of {word}");
        }
    }
}

#[test]
fn a_signed_url_is_exposed_only_where_links_leave_or_are_printed_for_their_owner() {
    // The first measures how long a link is in a mail; the last opens one of its own, to an object that is not there.
    let allowed = [
        "links/example.rs",
        // The token of a link of the portal, by which the audit log knows it.
        "links/portal.rs",
        "render/",
        "cli/",
        "assemble/connection/link_trial.rs",
        // A link of its own to a revoked object, for its first byte.
        "assemble/connection/revocation.rs",
        "portal/answer.rs",
        "portal/list.rs",
        "portal/stream.rs",
    ];
    for (name, text) in sources() {
        // The same word for a receipt, a secret or the token of a short link, which have their own places.
        let others = [
            "queue",
            "assemble/audit.rs",
            "assemble/connection/distribution.rs",
            "assemble/dkim.rs",
            "config/load.rs",
            "assemble/connection/origin.rs",
            "deliver/smtp",
            "links/portal.rs",
            "portal/mine.rs",
            "portal/oidc/provider.rs",
            "portal_access.rs",
            "portal_access/zips.rs",
            "portal_token.rs",
        ];
        if allowed
            .iter()
            .chain(&others)
            .any(|place| name.starts_with(place))
        {
            continue;
        }
        let exposes =
            |line: &str| !line.trim_start().starts_with("//") && line.contains(".expose()");
        assert!(!text.lines().any(exposes), "{name} exposes a URL");
    }
}

/// Where the program reaches out: each such place has deadlines, reports to an edge or is a command's own question. A wait
/// anywhere else would be one without them.
const REACHING_OUT: [(&str, &[&str]); 16] = [
    // A request of the SDK, whose client is one of `edge/http.rs`.
    (
        ".send()",
        &[
            "assemble/connection/sts.rs",
            "ledger/s3.rs",
            "queue/sqs.rs",
            "queue/sqs/",
            "store/s3.rs",
            "store/s3/",
        ],
    ),
    // A client of the SDK.
    (
        "from_conf(",
        &[
            "assemble/connection.rs",
            "assemble/connection/sqs.rs",
            "assemble/connection/sts.rs",
            "ledger/s3.rs",
            "store/s3.rs",
        ],
    ),
    ("aws_config::defaults", &["assemble/connection.rs"]),
    // The client itself, and its settings of TLS and proxies. The name alone is also that of a target of log lines.
    (
        "aws_smithy_http_client::",
        &["edge/http.rs", "edge/egress.rs", "edge/proxy.rs"],
    ),
    // A socket: the dialogue with a relay, the embedded endpoint, and the connections of `/live` and the command that asks it.
    (
        "TcpStream",
        &[
            "cli/health.rs",
            "deliver/smtp/dialogue.rs",
            "deliver/smtp/wire.rs",
            "serving/connections.rs",
            "telemetry/http.rs",
            "crates/localstore/src/service.rs",
        ],
    ),
    // The resolver blocks its thread: one place bounds the lookups.
    ("lookup_host", &[]),
    ("ToSocketAddrs", &["edge/names.rs"]),
    ("UdpSocket", &[]),
    ("TcpSocket", &[]),
    ("UnixStream", &[]),
    ("UnixDatagram", &[]),
    // Another client of HTTP or SMTP than the two of the edges.
    // Only its errors, and which hosts need no proxy.
    (
        "hyper_util::client",
        &["cli/demo/probe.rs", "edge/http.rs", "edge/proxy.rs"],
    ),
    ("hyper::client", &[]),
    ("SmtpTransport", &[]),
    // A disk may be a mount whose server is gone: what is on the daemon's way waits for it with a deadline.
    (
        "tokio::fs",
        &[
            "crates/localstore/src/upload.rs",
            "crates/localstore/src/objects.rs",
            "store/s3.rs",
            "store/s3/puts.rs",
        ],
    ),
    // A process: `ledger.resolve_cmd`, `mail.smtp.token_cmd` and a profile's `credential_process`, which have deadlines, a test's
    // kill, and the program itself before it begins.
    (
        "Command::new",
        &["edge/program.rs", "failpoint.rs", "main.rs"],
    ),
];

/// By what a file reaches out where it may not, if it does.
fn reaches_out(name: &str, text: &str) -> Option<&'static str> {
    REACHING_OUT.into_iter().find_map(|(word, places)| {
        let is_allowed = places.iter().any(|place| name.starts_with(place));
        (!is_allowed && text.contains(word)).then_some(word)
    })
}

#[test]
fn what_is_outside_is_reached_through_an_edge() {
    for (name, text) in sources() {
        assert_eq!(reaches_out(&name, &text), None, "{name}");
    }
}

/// A rule of words that finds nothing would be no rule: each way out, in a file of the worker, is found, and each exception is
/// still used.
#[test]
fn a_wait_for_the_outside_beside_the_edges_is_found() {
    for line in [
        "client.get_object().bucket(b).send().await",
        "let client = aws_sdk_s3::Client::from_conf(config);",
        "aws_config::defaults(BehaviorVersion::latest()).load().await",
        "tokio::net::TcpStream::connect(address).await",
        "std::net::TcpStream::connect(address)",
        "tokio::net::lookup_host((host, port)).await",
        "(host, port).to_socket_addrs()? // std::net::ToSocketAddrs",
        "UdpSocket::bind(address).await",
        "UnixStream::connect(path).await",
        "hyper_util::client::legacy::Client::builder(executor)",
        "AsyncSmtpTransport::<Tokio1Executor>::relay(host)",
        "tokio::fs::read(path).await",
        "tokio::process::Command::new(program).output().await",
    ] {
        assert!(reaches_out("worker/settle.rs", line).is_some(), "{line}");
    }
    let files: Vec<(String, String)> = sources().collect();
    for (word, places) in REACHING_OUT {
        for place in places {
            let is_used =
                |(name, text): &(String, String)| name.starts_with(place) && text.contains(word);
            assert!(files.iter().any(is_used), "{place} has no {word} any more");
        }
    }
}

/// The SDK's own client would wait for half an hour for an upload, and report nothing. Its protection against stalled
/// streams gives an answer up before the deadline at which ours reports it.
#[test]
fn every_client_of_the_sdk_has_the_deadlines_of_an_edge() {
    for (name, text) in sources() {
        let makes_one = text.contains("aws_config::defaults") || text.contains("fn on_edge(");
        if makes_one {
            // Of its own, or one that several share.
            let has_one = [".http_client(http::client(", "http: http::client("];
            assert!(has_one.iter().any(|one| text.contains(one)), "{name}");
        }
        let clients = text.matches(".timeout_config(TimeoutConfig::disabled())");
        let unstalled = text.matches(".stalled_stream_protection(");
        assert_eq!(clients.count(), unstalled.count(), "{name}");
    }
}

#[test]
fn anyhow_stays_in_the_command_line() {
    for (name, text) in sources() {
        if !name.starts_with("cli") && name != "main.rs" {
            assert!(!text.contains("anyhow"), "{name} uses anyhow");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let files = source_folders()
        .into_iter()
        .flat_map(|folder| files_below(&folder));
    for path in files.filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        assert!(
            fs::read_to_string(&path).unwrap().starts_with("//! "),
            "{} has no first line",
            path.display()
        );
    }
}

/// "No space left on device" must reach the log through every error that stands around it.
#[test]
fn an_error_within_an_error_is_its_source() {
    let mut seen = 0;
    for (name, text) in sources() {
        for (at, _) in text.match_indices("thiserror::Error)]\n") {
            let item = &text[at..];
            let item = item.split_once("\n}\n").map_or(item, |(item, _)| item);
            let lines: Vec<&str> = item.lines().map(str::trim).collect();
            for (index, line) in lines.iter().enumerate() {
                let is_attribute = line.starts_with("//") || line.starts_with('#');
                let names_error = line.contains("Error") || line.contains("Box<Self>");
                let holds_error = names_error && line.ends_with(',') && !is_attribute;
                // Of a variant: `Name(SomeError)` or `field: SomeError`.
                if holds_error && (line.contains('(') || line.contains(": ")) {
                    seen += 1;
                    let is_source = line.contains("#[source]")
                        || line.contains("#[from]")
                        || line.starts_with("source: ")
                        || ["#[error(transparent)]", "#[source]"].contains(&lines[index - 1]);
                    assert!(is_source, "{name}: {line}");
                }
            }
        }
    }
    assert!(
        seen > 50,
        "{seen}: the errors are spelled in another way now"
    );
}
