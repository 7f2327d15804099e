//! `--once`: reads the results as recipients would, and tests that tampered links fail.
//!
//! The program's own records are not consulted: links are read from the mails and pages, fetched over the network, and compared
//! with the sample files and the audit log.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use flate2::read::GzDecoder;
use handout::assemble::Services;
use handout::audit::find::{LinkQuery, find};
use handout::audit::record::Pseudonyms;
use handout::audit::verify::verify;
use handout::clock;
use handout::config::Config;
use handout::job::Bucket;
use handout::plan::{Bound, ExpiryGuard, Lifetime};
use handout::text::percent;
use http_body_util::{BodyExt, Empty};
use hyper::header::{RANGE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jiff::SignedDuration;
use presign::PresignRequest;
use presign::signature_in;
use serde_json::Value;

use super::seed::bytes_of;

/// The first bytes of a gzip stream (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How often each link is tampered with, at positions spread over it.
const TAMPERINGS: usize = 6;

/// A mail in the outbox.
pub(super) struct DemoMail {
    /// The recipient.
    pub(super) to: String,
    /// The subject.
    pub(super) subject: String,
    /// Its link to a gallery, if it has one.
    pub(super) gallery: Option<String>,
    hrefs: Vec<String>,
}

/// A published page.
pub(super) struct FetchedPage {
    /// Its title.
    pub(super) title: String,
    /// The links on it.
    pub(super) hrefs: Vec<String>,
}

/// The output of the demo.
pub(super) struct Made {
    pub(super) mails: Vec<DemoMail>,
    pub(super) pages: Vec<FetchedPage>,
    pub(super) outbox: PathBuf,
    pub(super) audit_dir: PathBuf,
    /// The number of links in the audit log.
    pub(super) issued: usize,
    lists: Vec<String>,
}

impl Made {
    /// Reads the outbox, the published pages and the audit log.
    pub(super) fn collect(config: &Config) -> anyhow::Result<Self> {
        let outbox = config.outbox_dir();
        let contents =
            fs::read_to_string(outbox.join("index.jsonl")).context("the outbox is empty")?;
        let mut mails = Vec::new();
        for line in contents.lines() {
            let entry: Value = serde_json::from_str(line)?;
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            // A mail of an earlier run may have been removed.
            let Ok(html) = fs::read_to_string(outbox.join(format!("{}.html", text("file")))) else {
                continue;
            };
            let hrefs = hrefs(&html);
            let gallery = hrefs
                .iter()
                .find(|href| href.contains("/index.html?"))
                .cloned();
            mails.push(DemoMail {
                to: text("to"),
                subject: text("subject"),
                gallery,
                hrefs,
            });
        }
        let published = config
            .connections
            .get("local")
            .and_then(|local| local.directory.clone());
        let published = published
            .context("the demo's connection has a directory")?
            .join("published");
        let (mut pages, mut lists) = (Vec::new(), Vec::new());
        for path in files_below(&published)? {
            let text = published_text(&path)?;
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("html") => pages.push(FetchedPage {
                    title: title(&text),
                    hrefs: hrefs(&text),
                }),
                Some("csv") => lists.push(text),
                _ => {}
            }
        }
        let audit_dir = config.audit_dir();
        let mut issued = 0;
        find(&audit_dir, &LinkQuery::default(), |line| {
            let line: Value = serde_json::from_str(line)?;
            issued += usize::from(line["link"].is_string());
            Ok(())
        })?;
        Ok(Self {
            mails,
            pages,
            outbox,
            audit_dir,
            issued,
            lists,
        })
    }

    /// A link of the portal in the last mail with a subject.
    pub(super) fn portal_link(&self, subject: &str) -> Option<&str> {
        let mail = self
            .mails
            .iter()
            .rev()
            .find(|mail| mail.subject == subject)?;
        let link = mail.hrefs.iter().find(|href| href.contains("/d/"));
        link.map(String::as_str)
    }

    /// All links in mails, pages and manifests.
    fn links(&self) -> BTreeSet<&str> {
        let in_mails = self.mails.iter().flat_map(|mail| &mail.hrefs);
        let on_pages = self.pages.iter().flat_map(|page| &page.hrefs);
        let in_lists = self
            .lists
            .iter()
            .flat_map(|list| list.lines())
            .filter_map(|line| line.rsplit(',').next());
        in_mails
            .chain(on_pages)
            .map(String::as_str)
            .chain(in_lists)
            .filter(|link| signature_in(link).is_some())
            .collect()
    }
}

/// The results of the checks.
#[derive(Debug, Default)]
pub(super) struct DemoVerdict {
    opened: usize,
    links: usize,
    tampered: usize,
    tamper_refused: usize,
    expired_refused: bool,
    audited: usize,
    /// Links of earlier runs that name another address than the demo's current one.
    elsewhere: usize,
    audit_lines: u64,
    problems: Vec<String>,
}

impl DemoVerdict {
    /// Whether all checks passed.
    pub(super) const fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for DemoVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            opened,
            links,
            tampered,
            tamper_refused,
            audited,
            audit_lines,
            elsewhere,
            ..
        } = self;
        let here = links - elsewhere;
        writeln!(f, "\n  {opened} of {here} links open, with the right bytes")?;
        if *elsewhere > 0 {
            writeln!(
                f,
                "  {elsewhere} links of earlier runs name another address and were not opened"
            )?;
        }
        writeln!(
            f,
            "  {tamper_refused} of {tampered} tampered links are refused (403)"
        )?;
        writeln!(
            f,
            "  an expired link is {}",
            if self.expired_refused {
                "refused (403)"
            } else {
                "NOT refused"
            }
        )?;
        writeln!(f, "  {audited} of {links} links have their audit line")?;
        write!(f, "  {audit_lines} audit lines, the chain is ")?;
        match self.problems.as_slice() {
            [] => write!(f, "whole\n\nAll good."),
            problems => write!(f, "read\n\nNOT good:\n  {}", problems.join("\n  ")),
        }
    }
}

/// A published text in a bucket: pages are stored compressed, manifests are not.
fn published_text(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path)?;
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(String::from_utf8(bytes)?);
    }
    let mut text = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    Ok(text)
}

/// Fetches every link, tampers with every link, and verifies the audit log.
pub(super) async fn probe(
    made: &Made,
    services: &Services,
    config: &Config,
) -> anyhow::Result<DemoVerdict> {
    let mut verdict = DemoVerdict::default();
    let names = Pseudonyms::new(&services.signing.keyring, false);
    let known = fingerprints(&config.audit_dir())?;
    for link in made.links() {
        verdict.links += 1;
        let place = place(link)?;
        let is_here = link.starts_with(&format!("{}/", config.embedded.public_url));
        match is_here {
            true => try_out(link, &place, &mut verdict).await?,
            false => verdict.elsewhere += 1,
        }
        let signature = signature_in(link).context("the link has a signature")?;
        match known.contains(&names.fingerprint(&signature)) {
            true => verdict.audited += 1,
            false => verdict.problems.push(format!("{}: no audit line", place.1)),
        }
    }
    if verdict.opened == 0 {
        let nothing = "no link of this run was opened".to_owned();
        verdict.problems.push(nothing);
    }
    if verdict.links != made.issued {
        verdict.problems.push(format!(
            "{} links left, but the audit log issued {}",
            verdict.links, made.issued
        ));
    }
    verdict.expired_refused = get(&expired(services).await?).await?.0 == StatusCode::FORBIDDEN;
    if !verdict.expired_refused {
        verdict
            .problems
            .push("an expired link is not refused".to_owned());
    }
    let report = verify(config.audit_dir(), None)?;
    verdict.audit_lines = report.lines;
    verdict.problems.extend(
        report
            .problems
            .iter()
            .map(|problem| format!("audit line {}: {}", problem.line, problem.reason)),
    );
    Ok(verdict)
}

/// Opens a link, and tampers with it.
async fn try_out(
    link: &str,
    place: &(String, String),
    verdict: &mut DemoVerdict,
) -> anyhow::Result<()> {
    let (status, body) = match get(link).await {
        Ok(answer) => answer,
        Err(error) => {
            verdict.problems.push(format!("{}: {error:#}", place.1));
            return Ok(());
        }
    };
    match expected(place) {
        _ if status != StatusCode::OK => verdict.problems.push(format!("{}: {status}", place.1)),
        Some(bytes) if body != bytes => verdict.problems.push(format!("{}: other bytes", place.1)),
        Some(_) | None => verdict.opened += 1,
    }
    tamper(link, verdict).await
}

/// Changes one character at several positions; each change must be rejected.
async fn tamper(link: &str, verdict: &mut DemoVerdict) -> anyhow::Result<()> {
    let path_at = link.match_indices('/').nth(3).map_or(0, |(at, _)| at + 1);
    let places: Vec<usize> = (path_at..link.len())
        .filter(|at| link.as_bytes()[*at].is_ascii_alphanumeric())
        .collect();
    for number in 0..TAMPERINGS {
        let at = places[number * (places.len() - 1) / (TAMPERINGS - 1)];
        let changed = if &link[at..=at] == "1" { "2" } else { "1" };
        let tampered = format!("{}{changed}{}", &link[..at], &link[at + 1..]);
        verdict.tampered += 1;
        match get(&tampered).await?.0 {
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => verdict.tamper_refused += 1,
            status => verdict
                .problems
                .push(format!("a link that was changed at {at} answers {status}")),
        }
    }
    Ok(())
}

/// A link that expired an hour ago. It is never handed out, so it needs no audit line.
async fn expired(services: &Services) -> anyhow::Result<String> {
    let connection = services.signing.connection(&"local".parse()?)?;
    let bucket: Bucket = "reports".parse()?;
    let now = clock::system();
    let lifetime = Lifetime {
        signed_at: now.checked_sub(SignedDuration::from_hours(2))?,
        signed_for_secs: 3600,
        expires_at: now.checked_sub(SignedDuration::from_hours(1))?,
        bound: Bound::Asked,
        fresh_until: now,
    };
    let (presigner, _) = connection
        .signer
        .presigner(&bucket, None, lifetime, ExpiryGuard::Refuse)
        .await?;
    let ask = PresignRequest {
        key: "2026/11/23/orders 2026-11-23.csv",
        ..PresignRequest::default()
    };
    Ok(presigner.presign(&ask).expose().to_owned())
}

/// Opens links of the last mails to Ann and Bernd: whole files, and a part of one. Returns how many requests it made.
pub(super) async fn open_as_recipients(made: &Made, public_url: &str) -> anyhow::Result<u64> {
    let mut opened = 0;
    for (to, ranges) in [
        ("ann@acme.example", [None, None]),
        ("bernd@acme.example", [None, Some("bytes=0-4095")]),
    ] {
        let is_report = |mail: &&DemoMail| mail.to.contains(to) && mail.gallery.is_none();
        let Some(mail) = made.mails.iter().rev().find(is_report) else {
            continue;
        };
        let is_here = |href: &&String| href.starts_with(public_url) && signature_in(href).is_some();
        for (link, range) in mail.hrefs.iter().filter(is_here).zip(ranges) {
            get_range(link, range).await?;
            opened += 1;
        }
    }
    Ok(opened)
}

/// What a link answers.
pub(super) async fn status_of(url: &str) -> anyhow::Result<StatusCode> {
    Ok(get(url).await?.0)
}

async fn get(url: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    get_range(url, None).await
}

async fn get_range(url: &str, range: Option<&str>) -> anyhow::Result<(StatusCode, Bytes)> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut request = Request::get(url).header(USER_AGENT, "handout-demo");
    if let Some(range) = range {
        request = request.header(RANGE, range);
    }
    let request = request.body(Empty::new()).context("a link is not a URL")?;
    let response = client
        .request(request)
        .await
        .context("the endpoint does not answer")?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// The bucket and key that a link opens.
fn place(link: &str) -> anyhow::Result<(String, String)> {
    let path = link.split('?').next().unwrap_or_default();
    let mut parts = path.splitn(5, '/').skip(3);
    let (Some(bucket), Some(key)) = (parts.next(), parts.next()) else {
        bail!("a link has no bucket and key")
    };
    Ok((bucket.to_owned(), percent::decode(key).into_owned()))
}

fn expected((bucket, key): &(String, String)) -> Option<&'static [u8]> {
    bytes_of(bucket, key)
}

fn fingerprints(audit_dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    find(audit_dir, &LinkQuery::default(), |line| {
        let line: Value = serde_json::from_str(line)?;
        known.extend(line["link"].as_str().map(ToOwned::to_owned));
        Ok(())
    })?;
    Ok(known)
}

/// The targets of all links and media of a page, unescaped.
fn hrefs(html: &str) -> Vec<String> {
    let values = ["href=\"", "src=\""]
        .into_iter()
        .flat_map(|attribute| html.split(attribute).skip(1));
    let mut found: Vec<String> = values
        .filter_map(|rest| rest.split('"').next())
        .filter(|value| value.starts_with("http"))
        .map(unescape)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn title(html: &str) -> String {
    let title = html
        .split("<title>")
        .nth(1)
        .and_then(|rest| rest.split("</title>").next());
    unescape(title.unwrap_or_default().trim())
}

fn unescape(text: &str) -> String {
    let pairs = [
        ("&#x3D;", "="),
        ("&#x27;", "'"),
        ("&#x60;", "`"),
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    pairs
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
}

fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in
            fs::read_dir(&dir).with_context(|| format!("could not read {}", dir.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
