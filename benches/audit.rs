//! Measures the audit log: the cost of a line and of a group, and the speed of verifying and searching.
//!
//! `cargo bench --bench audit`. Timings vary on shared machines. The log that is verified and searched has a million lines and is
//! in the directory for temporary files.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when something is wrong"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handout::audit::chain::ChainHead;
use handout::audit::find::{LinkQuery, find};
use handout::audit::note::SigningKey;
use handout::audit::record::{Context, LinkKind, Pseudonyms, lines};
use handout::audit::retention::{Retention, RetentionCounts, RetentionSettings};
use handout::audit::source::LogSource;
use handout::audit::stats::{StatsCounts, add_stats};
use handout::audit::verify::verify;
use handout::audit::{AuditLog, AuditSettings};
use handout::clock;
use handout::job::{ContentDisposition, Recipient};
use handout::keyring::{Keyring, Purpose};
use handout::links::direct::{Identity, LinkOptions, sign};
use handout::links::{Links, UrlSigner};
use handout::plan::Audience;
use handout::plan::{Bound, Lifetime};
use presign::{AccessKey, Addressing, BucketUrl, ExpiresIn, Presigner};
use tokio::time::Instant;

/// The lines of the long log.
const MILLION: u32 = 1_000_000;

/// The most bytes that a line may have when it is compressed.
const MAX_COMPRESSED_LINE: f64 = 110.0;

/// The links of a batch.
const BATCH: u32 = 1000;

fn main() {
    let bench = Bench::new();
    bench.serialise();
    bench.chain();
    let groups = tempfile::tempdir().unwrap();
    for size in [1, 50, 1000] {
        bench.groups(groups.path(), size);
    }
    let dir = tempfile::tempdir().unwrap();
    bench.write_million(dir.path());
    bench.read_million(dir.path());
    bench.compress_million(dir.path());
    bench.read_million(dir.path());
}

/// Links that are signed, and how they are recorded.
struct Bench {
    keyring: Keyring,
    names: Pseudonyms,
    batch: Links,
    key: SigningKey,
}

impl Bench {
    fn new() -> Self {
        let keyring = Keyring::new([7; 32]);
        Self {
            names: Pseudonyms::new(&keyring, false),
            batch: links(&keyring),
            key: SigningKey::from_seed(&[7; 32]),
            keyring,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            job: "acme-daily-2026-11-23",
            connection: "reports",
            role: None,
            message_id: Some("5f4ecb8f-1d53-4b3f-9c0f-9a4c2a6d3e11"),
            attempt: 1,
            kind: LinkKind::Named,
            names: &self.names,
        }
    }

    fn serialise(&self) {
        let took = cpu(|| {
            for _ in 0..MILLION / BATCH {
                drop(lines(&self.batch, &self.context()));
            }
        });
        tell("serialised", MILLION, took);
    }

    /// Serialised, hashed into chain and tree, with a checkpoint's signature every thousand lines.
    fn chain(&self) {
        let mut head = ChainHead::new("20261123T000000Z-01234567");
        let mut text = String::new();
        let took = cpu(|| {
            for _ in 0..MILLION / BATCH {
                text.clear();
                for record in lines(&self.batch, &self.context()) {
                    head.append(&record, "2026-11-23T00:00:00.000Z", &mut text);
                }
                let checkpoint = handout::audit::checkpoint::Checkpoint::of("bench", &head);
                drop(checkpoint.sign(&self.key));
            }
        });
        tell("serialised, chained, in the tree", MILLION, took);
        println!("  a line has {} bytes", text.len() / BATCH as usize);
    }

    fn settings(&self, dir: &Path) -> AuditSettings {
        AuditSettings::new(dir, self.key.clone())
    }

    /// Durable: each group is written and synced before the next.
    fn groups(&self, dir: &Path, size: usize) {
        let runtime = runtime();
        let (log, writer) = AuditLog::open(&self.settings(dir), "bench", clock::system).unwrap();
        let records = lines(&self.batch, &self.context());
        let (mut count, from) = (0, Instant::now());
        while from.elapsed() < Duration::from_secs(3) {
            runtime
                .block_on(log.append(records[..size].to_vec()))
                .unwrap();
            count += u32::try_from(size).unwrap();
        }
        tell(&format!("durable, {size} a group"), count, from.elapsed());
        drop(log);
        writer.close();
    }

    fn write_million(&self, dir: &Path) {
        let runtime = runtime();
        let (log, writer) = AuditLog::open(&self.settings(dir), "bench", clock::system).unwrap();
        let from = Instant::now();
        let took = cpu(|| {
            for _ in 0..MILLION / BATCH {
                let batch = links(&self.keyring);
                runtime
                    .block_on(log.append(lines(&batch, &self.context())))
                    .unwrap();
            }
            drop(log);
            writer.close();
        });
        tell(
            "signed, recorded and durable, 1000 a group",
            MILLION,
            from.elapsed(),
        );
        println!("  and {:.2} s of CPU for the million", took.as_secs_f64());
    }

    fn compress_million(&self, dir: &Path) {
        let settings = RetentionSettings {
            log: self.settings(dir),
            keep: None,
            compresses: true,
            archive: None,
        };
        let mut retention = Retention::new(settings, clock::system, RetentionCounts::default());
        let from = Instant::now();
        let report = runtime().block_on(retention.once(false)).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        tell("compressed, and read back twice", MILLION, from.elapsed());
        let sizes = std::fs::read_dir(dir).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let is_segment = entry.file_name().to_string_lossy().ends_with(".zst");
            entry.metadata().unwrap().len() * u64::from(is_segment)
        });
        let bytes: u64 = sizes.sum();
        let measured = bytes as f64 / f64::from(MILLION);
        let verdict = match measured <= MAX_COMPRESSED_LINE {
            true => "ok",
            false => "MISSED",
        };
        println!(
            "  bytes of a compressed line: {measured:.1}, at the most {MAX_COMPRESSED_LINE}: {verdict}"
        );
    }

    fn read_million(&self, dir: &Path) {
        let from = Instant::now();
        let report = verify(dir, Some(&self.key.public())).unwrap();
        let took = from.elapsed();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        tell("verified", u32::try_from(report.lines).unwrap(), took);

        let rid = self.names.recipient_id("nobody@acme.example");
        let line = LinkQuery {
            rid: Some(rid),
            ..LinkQuery::default()
        };
        let key = ("acme-reports".to_owned(), "exports/777.csv".to_owned());
        let few = LinkQuery {
            object: Some(key),
            ..LinkQuery::default()
        };
        let job = Some("acme-daily-2026-11-23".to_owned());
        let all = LinkQuery {
            job,
            ..LinkQuery::default()
        };
        for (what, question) in [
            ("none is found", line),
            ("one in 1000 is found", few),
            ("all are found", all),
        ] {
            let (mut found, from) = (0, Instant::now());
            find(dir, &question, |_| {
                found += 1;
                Ok(())
            })
            .unwrap();
            let took = from.elapsed();
            println!(
                "find in a million lines, {what}: {:.2} s ({found})",
                took.as_secs_f64()
            );
        }
        let from = Instant::now();
        let mut counts = StatsCounts::new();
        let source = LogSource::from(dir);
        add_stats(&mut counts, &source, &LinkQuery::default()).unwrap();
        assert_eq!(counts.len(), 1);
        println!(
            "stats of a million lines: {:.2} s",
            from.elapsed().as_secs_f64()
        );
    }
}

/// A batch of links to named objects.
fn links(keyring: &Keyring) -> Links {
    let bucket = "acme-reports".parse().unwrap();
    let at = "2026-11-23T18:40:00Z".parse().unwrap();
    let keys = AccessKey {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        session_token: None,
    };
    let endpoint = "https://s3.eu-west-1.amazonaws.com";
    let target = BucketUrl::new(endpoint, "acme-reports", Addressing::VirtualHost).unwrap();
    let presigner = Presigner::new(target, &keys, "eu-west-1", at, ExpiresIn::clamped(86_400));
    let wish = LinkOptions {
        filename: None,
        disposition: ContentDisposition::Attachment,
        content_type: None,
        text_charset: handout::text::charset::TextCharset::default(),
        version_id: None,
        identity: Identity::Derived(keyring.deriver(Purpose::LinkId)),
        audience: Audience::Recipient(Arc::new(Recipient::parse("ann@acme.example").unwrap())),
    };
    let objects = (0..BATCH).map(|number| format!("exports/{number}.csv").parse().unwrap());
    let lifetime = Lifetime {
        signed_at: at,
        signed_for_secs: 86_400,
        expires_at: "2026-11-24T18:40:00Z".parse().unwrap(),
        bound: Bound::Asked,
        fresh_until: "2026-11-24T06:40:00Z".parse().unwrap(),
    };
    sign(
        &wish,
        &bucket,
        objects.collect(),
        &UrlSigner::S3(Box::new(presigner)),
        keys.access_key_id,
        lifetime,
    )
    .unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// The CPU time of the process for a piece of work, including finished threads, in hundredths of a second: proc(5).
fn cpu(work: impl FnOnce()) -> Duration {
    let taken = || {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, rest) = text.rsplit_once(')').unwrap();
        // The state, then ten numbers, then the user and the system time.
        let fields = rest.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    };
    let before = taken();
    work();
    taken().saturating_sub(before)
}

fn tell(what: &str, lines: u32, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{what:45} {:>10.0} lines/s", f64::from(lines) / seconds);
}
