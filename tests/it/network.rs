//! It runs where people run it: behind a proxy, beside one, and with a store whose authority is a private one.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handout::config::{LedgerKind, QueueKind};
use handout::environment::Environment;
use jiff::SignedDuration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::answers::{job_of_r, run, told, world_at};
use crate::check::KEYS;
use crate::conformance::{create_bucket, make_queue, s3_client, sqs_client};
use crate::daemon::{Daemon, daemon_log};
use crate::support::answering::{LISTING, answering, date, header};
use crate::support::servers::Parts;
use crate::support::world::{World, email_job};
use crate::support::{program, until};

/// Every variable that names a proxy.
const PROXIES: [&str; 6] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_asked_for_this_machine() {
    let (proxy, asked) = answering(date(SignedDuration::ZERO), |_| {
        ("502 Bad Gateway", String::new(), "")
    })
    .await;
    let variables = PROXIES.map(|name| (name, proxy.as_str()));
    // The embedded endpoint.
    let world = World::new().object("a.pdf", "x");
    let output = run(&world, &email_job("j"), &variables).await;
    assert!(output.status.success(), "{}", told(&output));
    // A store on loopback.
    let (store, _) = answering(date(SignedDuration::ZERO), |_| {
        ("200 OK", String::new(), LISTING)
    })
    .await;
    let output = run(&world_at(&store), &job_of_r("j"), &variables).await;
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_only_a_proxy_reaches_is_asked_through_it() {
    let (proxy, asked) = answering(date(SignedDuration::ZERO), |_| {
        ("200 OK", String::new(), LISTING)
    })
    .await;
    let with_password = proxy.replace("http://", "http://user:s%3Acret@");
    let world = world_at("http://minio.internal.example:9000");
    let variables = [("http_proxy", with_password.as_str())];
    // What becomes of the job is no matter: mails take no http:// links but of this machine.
    run(&world, &job_of_r("j"), &variables).await;
    let seen = asked.lock().unwrap().clone();
    assert!(
        seen[0].starts_with("GET http://minio.internal.example:9000/reports"),
        "{seen:#?}"
    );
    // user:s:cret
    let login = header(&seen[0], "proxy-authorization");
    assert_eq!(login, Some("Basic dXNlcjpzOmNyZXQ="));
    // What needs no proxy is asked for by its name, which nobody knows here.
    let without = [variables[0], ("no_proxy", ".example:9000")];
    let output = run(&world, &job_of_r("k"), &without).await;
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(asked.lock().unwrap().len(), seen.len());
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_without_its_password() {
    let world = world_at("https://minio.internal.example:9000");
    let nobody = crate::support::world::free_address();
    let proxy = format!("http://user:s3cret@{nobody}");
    let told = told(&run(&world, &job_of_r("j"), &[("HTTPS_PROXY", &proxy)]).await);
    let expected = format!("through the proxy {nobody} (HTTPS_PROXY)");
    assert!(
        told.starts_with("69: ") && told.contains(&expected),
        "{told}"
    );
    assert!(!told.contains("s3cret"), "{told}");
    let odd = [("ALL_PROXY", "socks5://user:s3cret@proxy.example:1080")];
    let told = self::told(&run(&world, &job_of_r("j"), &odd).await);
    assert_eq!(
        told,
        "78: handout: the environment is wrong: ALL_PROXY names no proxy that can be spoken to: write http:// or https://, a host and a port"
    );
}

/// Speaks TLS for a server on loopback; its URL.
async fn tls_before(dir: &std::path::Path, url: &str) -> (String, JoinSet<()>) {
    tls_at("127.0.0.1:0", dir, url).await
}

/// The same at an address.
async fn tls_at(address: &str, dir: &std::path::Path, url: &str) -> (String, JoinSet<()>) {
    let chain = CertificateDer::pem_file_iter(dir.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut behind = TcpStream::connect(behind).await.unwrap();
                    drop(copy_bidirectional(&mut stream, &mut behind).await);
                }
            });
        }
    });
    (format!("https://{address}"), tasks)
}

#[tokio::test]
async fn a_store_with_a_private_authority_is_trusted_by_ca_file_or_aws_ca_bundle() {
    let Some(parts) = Parts::or_skip("a_store_with_a_private_authority") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    parts.make_ca(dir.path());
    let (store, _) = answering(date(SignedDuration::ZERO), |_| {
        ("200 OK", String::new(), LISTING)
    })
    .await;
    let (url, _tasks) = tls_before(dir.path(), &store).await;
    let place = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let with = |file: Option<String>| {
        world_at(&url).configured(|config| {
            config.connections.get_mut("r").unwrap().ca_file = file.map(Into::into);
        })
    };
    let unknown = told(&run(&with(None), &job_of_r("j"), &[]).await);
    let remedy = "the server's certificate is of no authority that is trusted: name the authority's file in connections.r.ca_file";
    assert!(
        unknown.starts_with("69: ") && unknown.contains(remedy),
        "{unknown}"
    );
    let other = told(&run(&with(Some(place("other-ca.pem"))), &job_of_r("j"), &[]).await);
    assert!(other.contains(remedy), "{other}");

    // A bundle of several, with text between them, relative to the configuration file.
    let world = with(Some("bundle.pem".to_owned()));
    let read = |name: &str| fs::read_to_string(place(name)).unwrap();
    let bundle = format!(
        "# Ours\n{}\n# Test CA\n{}",
        read("other-ca.pem"),
        read("ca.pem")
    );
    fs::write(world.dir.path().join("bundle.pem"), bundle).unwrap();
    let output = run(&world, &job_of_r("j"), &[]).await;
    assert!(output.status.success(), "{}", told(&output));
    let bundle = place("ca.pem");
    let output = run(&with(None), &job_of_r("j"), &[("AWS_CA_BUNDLE", &bundle)]).await;
    assert!(output.status.success(), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_authority_of_a_store_with_the_ledger_and_of_a_queue_is_trusted_without_a_restart() {
    let Some(parts) = Parts::or_skip("a_new_authority_of_a_store") else {
        return;
    };
    let moto = parts.start("moto.py", &[]);
    let (s3, sqs) = (s3_client(&moto.url()), sqs_client(&moto));
    for bucket in ["reports", "ledger"] {
        create_bucket(&s3, bucket).await;
    }
    let put = s3.put_object().bucket("reports").key("a.pdf");
    put.body(b"x".to_vec().into()).send().await.unwrap();
    let jobs = make_queue(&sqs, "jobs").await;
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    parts.make_ca(old.path());
    parts.make_ca(new.path());
    let (url, mut tasks) = tls_before(old.path(), &moto.url()).await;
    let world = World::new().configured(|config| {
        let elsewhere = format!("region = \"eu-west-1\"\nendpoint_url = \"{url}\"\n");
        let elsewhere = toml::from_str(&elsewhere).unwrap();
        config.connections = [("moto".to_owned(), elsewhere)].into();
        config.allow[0].connection = "moto".to_owned();
        config.ledger.kind = LedgerKind::S3;
        config.ledger.connection = Some("moto".to_owned());
        config.ledger.bucket = Some("ledger".to_owned());
        config.queue.kind = QueueKind::Sqs;
        config.queue.url = Some(jobs.clone());
        config.queue.endpoint_url = Some(url.clone());
        config.queue.region = Some("eu-west-1".to_owned());
        config.queue.visibility_timeout = "30s".parse().unwrap();
    });
    let ca_file = world.dir.path().join("ca.pem");
    fs::copy(old.path().join("ca.pem"), &ca_file).unwrap();
    let world = world.configured(|config| {
        let moto = config.connections.get_mut("moto").unwrap();
        moto.ca_file = Some(ca_file.clone());
        config.queue.ca_file = Some(ca_file.clone());
    });
    let config = world.written();
    let daemon = Daemon::start(&config, &KEYS).await;
    let mail = async |id: &str| {
        let mut job = email_job(id);
        job["from"]["connection"] = "moto".into();
        let send = sqs.send_message().queue_url(&jobs);
        send.message_body(job.to_string()).send().await.unwrap();
        until(&format!("{id}: {}", daemon_log(&config)), async || {
            let mails = world.mails();
            let subject = format!("Report {id}");
            mails
                .iter()
                .any(|mail| mail.subject == subject)
                .then_some(())
        })
        .await;
    };
    mail("before").await;
    tasks.shutdown().await;
    let address = url.strip_prefix("https://").unwrap();
    let (_, _tasks) = tls_at(address, new.path(), &moto.url()).await;
    fs::copy(new.path().join("ca.pem"), &ca_file).unwrap();
    daemon.signal("HUP");
    // The poll that was cut is still under way at moto, and would take the next message with it.
    tokio::time::sleep(Duration::from_secs(11)).await;
    mail("after").await;
    let log = daemon_log(&config);
    let line = log
        .lines()
        .find(|line| line.contains("configuration reloaded"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for key in ["connections.moto.ca_file", "queue.ca_file"] {
        assert!(line.contains(&format!("the contents of {key}")), "{line}");
    }
    assert!(!log.contains("need a restart"), "{log}");
}

/// A proxy that knows CONNECT alone and takes every name for a server on loopback; what it was asked for.
async fn connect_proxy(behind: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (heard, mut tasks) = (Arc::clone(&asked), JoinSet::new());
    tasks.spawn(async move {
        let mut tunnels = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let heard = Arc::clone(&heard);
            tunnels.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let is_connect = head.starts_with("CONNECT ");
                heard.lock().unwrap().push(head);
                if !is_connect {
                    let refusal = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n";
                    return drop(client.write_all(refusal).await);
                }
                let mut server = TcpStream::connect(behind).await.unwrap();
                let opened = b"HTTP/1.1 200 Connection established\r\n\r\n";
                client.write_all(opened).await.unwrap();
                drop(copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    (url, asked, tasks)
}

#[tokio::test]
async fn a_store_with_tls_that_only_a_proxy_reaches_is_asked_through_a_tunnel() {
    let Some(parts) = Parts::or_skip("a_store_with_tls_that_only_a_proxy_reaches") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    parts.make_ca_for(dir.path(), "minio.internal.example");
    let (store, stored) = answering(date(SignedDuration::ZERO), |_| {
        ("200 OK", String::new(), LISTING)
    })
    .await;
    let (tls, _tasks) = tls_before(dir.path(), &store).await;
    let behind = tls.strip_prefix("https://").unwrap().parse().unwrap();
    let (proxy, asked, _tunnels) = connect_proxy(behind).await;
    let world = world_at("https://minio.internal.example:9000").configured(|config| {
        let connection = config.connections.get_mut("r").unwrap();
        connection.ca_file = Some(dir.path().join("ca.pem"));
    });
    let with_password = proxy.replace("http://", "http://user:s3cret@");
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let variables = [(variable, with_password.as_str())];
        let output = run(&world, &job_of_r(variable), &variables).await;
        assert!(output.status.success(), "{variable}: {}", told(&output));
        assert!(!told(&output).contains("s3cret"), "{}", told(&output));
    }
    let heads = asked.lock().unwrap().clone();
    assert!(!stored.lock().unwrap().is_empty() && !heads.is_empty());
    for head in heads {
        assert!(
            head.starts_with("CONNECT minio.internal.example:9000 HTTP/1.1\r\n"),
            "{head}"
        );
        // user:s3cret
        assert_eq!(
            header(&head, "proxy-authorization"),
            Some("Basic dXNlcjpzM2NyZXQ=")
        );
    }
    // What needs no proxy is asked for by its name, which nobody knows here; a proxy for http:// is none for it.
    let before = asked.lock().unwrap().len();
    for without in [
        [
            ("HTTPS_PROXY", proxy.as_str()),
            ("NO_PROXY", "other.example,.internal.example"),
        ],
        [("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "*")],
        [
            ("HTTP_PROXY", proxy.as_str()),
            ("http_proxy", proxy.as_str()),
        ],
    ] {
        let output = run(&world, &job_of_r("k"), &without).await;
        assert_eq!(
            output.status.code(),
            Some(69),
            "{without:?}: {}",
            told(&output)
        );
    }
    assert_eq!(asked.lock().unwrap().len(), before);
}

#[test]
fn a_file_of_authorities_that_is_none_is_told_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |section: &str, text: &[u8]| {
        let file = dir.path().join("ca.pem");
        fs::write(&file, text).unwrap();
        let config = dir.path().join("config.toml");
        fs::write(&config, section.replace("CA", &file.to_string_lossy())).unwrap();
        let output = Command::new(program())
            .args(["run", "--config"])
            .arg(&config)
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("HANDOUT_STATE_DIR", dir.path().join("state"))
            .env("HANDOUT_HTTP__LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        let place = dir.path().to_string_lossy().into_owned();
        told(&output).replace(&place, "…")
    };
    let connection = "[connections.r]\nregion = \"eu-west-1\"\nca_file = \"CA\"\n";
    let queue = "[queue]\nkind = \"sqs\"\nurl = \"https://sqs.eu-west-1.amazonaws.com/1/jobs\"\nregion = \"eu-west-1\"\nca_file = \"CA\"\n";
    let results = "[results]\nqueue_url = \"https://sqs.eu-west-1.amazonaws.com/1/done\"\nregion = \"eu-west-1\"\nca_file = \"CA\"\n";
    let table = [
        refused(connection, b""),
        refused(connection, b"\x30\x82\xff\xfe"),
        refused(
            connection,
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ),
        refused(
            connection,
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
        refused(queue, b"x"),
        refused(results, b"x"),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    78: handout: the configuration's connections.r.ca_file names …/ca.pem, which is not a PEM certificate
    78: handout: the configuration's connections.r.ca_file names …/ca.pem, which cannot be read as PEM: it is not UTF-8 text
    78: handout: the configuration's connections.r.ca_file names …/ca.pem, which is not a PEM certificate
    78: handout: the configuration's connections.r.ca_file names …/ca.pem, which has a certificate that cannot be used: invalid peer certificate: BadEncoding
    78: handout: the configuration's queue.ca_file names …/ca.pem, which is not a PEM certificate
    78: handout: the configuration's results.ca_file names …/ca.pem, which is not a PEM certificate
    ");
    let missing = Environment::of([("AWS_CA_BUNDLE", "/nowhere/ca.pem")]);
    let error = handout::edge::Egress::of_environment(&missing).unwrap_err();
    insta::assert_snapshot!(error, @"the environment is wrong: AWS_CA_BUNDLE names /nowhere/ca.pem, which cannot be read as PEM: No such file or directory (os error 2)");
}
