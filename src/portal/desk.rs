//! Mails codes, after the answer to the visitor: whether a mail is sent does not show in the answer or its time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::PortalServices;
use super::code::{Challenge, MailCodes};
use super::counts::{PortalCount, PortalCounts};
use super::session::new_sid;
use crate::clock;
use crate::job::{Locale, Recipient};
use crate::ledger::Outcome;
use crate::ledger::portal::CodeSlot;
use crate::portal_access::{AccessRefusal, OpenEvidence, ReaderSession, SignedInBy, Visit};
use crate::render::portal::{CodeMail, PageSender, PortalReader, PortalWriter};
use crate::text::chain;

/// How long the relay may take for a code.
const MAIL_TIME: Duration = Duration::from_secs(60);

/// How many codes are mailed at once.
const AT_ONCE: usize = 8;

/// The seconds of a quarter of an hour.
const QUARTER_SECS: i64 = 15 * 60;

/// A request for a code. For a wrong address it is a request, too, and comes to nothing.
pub(super) struct CodeRequest {
    pub(super) services: Arc<PortalServices>,
    /// The token of the link; without one, the visitor wants to see all their files.
    pub(super) token: Option<String>,
    /// The address that was typed.
    pub(super) recipient: Recipient,
    pub(super) challenge: Challenge,
    pub(super) asked_at: Timestamp,
    pub(super) address: IpAddr,
    pub(super) user_agent: String,
    pub(super) languages: String,
}

/// More requests for codes wait than are held.
#[derive(Debug, thiserror::Error)]
#[error("too many requests for codes wait for the relay")]
pub(super) struct DeskFull;

/// Why a code is not mailed.
#[derive(Debug, thiserror::Error)]
enum CodeError {
    #[error(transparent)]
    Access(#[from] AccessRefusal),
    #[error("could not record that a code is mailed")]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error("the mail with a code was not accepted")]
    Mail(#[from] crate::deliver::DeliverError),
    #[error("the relay did not accept the mail with a code: {0}")]
    NotAccepted(String),
    #[error("the relay did not accept the mail with a code within {} s", MAIL_TIME.as_secs())]
    Late,
}

/// Mails codes until all senders are gone.
pub(super) async fn mail_codes(
    requests: Receiver<CodeRequest>,
    codes: MailCodes,
    counts: PortalCounts,
) {
    let requests = stream::unfold(requests, async |mut requests| {
        requests.recv().await.map(|request| (request, requests))
    });
    let each = requests.for_each_concurrent(AT_ONCE, |request| {
        let (codes, counts) = (&codes, &counts);
        async move {
            match mail_code(&request, codes).await {
                Ok(CodeResult::Mailed) => counts.count(PortalCount::CodeMailed),
                Ok(CodeResult::HeldBack) => {
                    counts.count(PortalCount::CodeHeldBack);
                    tracing::info!("a code was not mailed: its recipient has got three within a quarter of an hour");
                }
                Ok(CodeResult::OtherAddress) => {}
                Err(error) => {
                    counts.count(PortalCount::CodeFailed);
                    tracing::warn!(error = chain(&error), "could not mail a code");
                }
            }
        }
    });
    each.await;
}

/// The number of an instant's quarter of an hour since 1970.
pub(super) fn quarter_of(instant: Timestamp) -> u64 {
    let quarter = instant.as_second().div_euclid(QUARTER_SECS);
    u64::try_from(quarter).unwrap_or_default()
}

/// What became of a request.
enum CodeResult {
    Mailed,
    /// The recipient has got as many codes as are allowed.
    HeldBack,
    /// The link is not for the address.
    OtherAddress,
}

async fn mail_code(request: &CodeRequest, codes: &MailCodes) -> Result<CodeResult, CodeError> {
    let CodeRequest {
        services,
        challenge,
        asked_at,
        ..
    } = request;
    let rid = challenge.rid();
    let visit = match &request.token {
        Some(token) => {
            let Some(visit) = visit_of(request, token).await? else {
                return Ok(CodeResult::OtherAddress);
            };
            Some(visit)
        }
        None => {
            let records = services.access.records();
            let sent = records.mine(rid, 1).await?;
            if sent.is_empty() || !services.settings.my_files {
                return Ok(CodeResult::OtherAddress);
            }
            None
        }
    };
    let quarter = quarter_of(*asked_at);
    let records = services.access.records();
    match records
        .record_code(challenge.scope(), rid, quarter, challenge.id())
        .await?
    {
        CodeSlot::Taken(_) => {}
        CodeSlot::Full => return Ok(CodeResult::HeldBack),
    }
    let evidence = OpenEvidence {
        address: Some(request.address),
        user_agent: Some(request.user_agent.as_str()).filter(|agent| !agent.is_empty()),
        ..OpenEvidence::default()
    };
    services.access.code_sent(rid, &evidence, *asked_at).await?;
    let (subject, text) = written(request, visit.as_ref(), codes);
    let parts: [&[u8]; 2] = [b"portal-code", challenge.id().as_bytes()];
    let letter =
        services
            .sending
            .sender
            .notice(&parts, &request.recipient, subject, &text, *asked_at);
    let sending = async {
        let (mailer, settings) = (&services.sending.mailer, &services.settings);
        let route = mailer.turn(&settings.relay, &settings.mail_job, &request.recipient);
        route.await?.send_unrecorded(&letter).await
    };
    match timeout(MAIL_TIME, sending)
        .await
        .map_err(|_| CodeError::Late)??
    {
        Outcome::Accepted { .. } => Ok(CodeResult::Mailed),
        outcome @ (Outcome::Rejected { .. }
        | Outcome::NotSent { .. }
        | Outcome::Unknown { .. }
        | Outcome::Suppressed { .. }) => Err(CodeError::NotAccepted(outcome.words().to_owned())),
    }
}

/// The visit of a link that is for the address; `None` if it is for another, or does not open.
async fn visit_of(request: &CodeRequest, token: &str) -> Result<Option<Visit>, AccessRefusal> {
    let access = &request.services.access;
    let now = request.asked_at;
    let is_down = |refusal: &AccessRefusal| matches!(refusal, AccessRefusal::Unavailable { .. });
    let visit = match access.visit(token, now).await {
        Ok(visit) => visit,
        Err(refusal) if is_down(&refusal) => return Err(refusal),
        Err(_) => return Ok(None),
    };
    // As if the visitor had typed the code: is the link for this address?
    let session = ReaderSession {
        rid: request.challenge.rid().to_owned(),
        how: SignedInBy::Code,
        issued: now,
        ends: now
            .saturating_add(request.services.settings.session)
            .unwrap_or(now),
        sid: new_sid(),
        // The visitor has just begun.
        known_changes: u64::MAX,
    };
    match access.admit(&visit, Some(&session), now).await {
        Ok(()) => Ok(Some(visit)),
        Err(refusal) if is_down(&refusal) => Err(refusal),
        Err(_) => Ok(None),
    }
}

/// The subject and the text of the mail, in the language of the job's mails or of the browser.
fn written(request: &CodeRequest, visit: Option<&Visit>, codes: &MailCodes) -> (String, String) {
    let services = &request.services;
    let reader = visit.and_then(|visit| visit.reader.as_deref());
    let locale: Option<Locale> = reader
        .and_then(|reader| reader.locale.as_deref())
        .and_then(|locale| locale.parse().ok());
    let zone = reader
        .and_then(|reader| reader.time_zone.as_deref())
        .or(visit.map(|visit| visit.job.time_zone.as_str()))
        .and_then(clock::time_zone);
    let writer = PortalWriter::new(
        &services.presenting.templates,
        &services.presenting.mail,
        PageSender::default(),
        PortalReader {
            locale: locale.as_ref(),
            time_zone: zone.as_ref(),
            languages: &request.languages,
        },
    );
    let code = codes.code(&request.challenge);
    writer.code_mail(&CodeMail {
        code: &code.spelled(),
        site: &services.settings.site,
        asked_at: request.asked_at,
        browser: browser(&request.user_agent),
        minutes: services.settings.code_minutes(),
    })
}

/// The name of a browser that people know, from a `User-Agent`. Nothing of the text itself goes into a mail.
fn browser(user_agent: &str) -> Option<&'static str> {
    // Most browsers claim to be several; the first that fits is the narrowest.
    let known = [
        ("Edg/", "Edge"),
        ("EdgA/", "Edge"),
        ("OPR/", "Opera"),
        ("SamsungBrowser/", "Samsung Internet"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Version/", "Safari"),
    ];
    known
        .into_iter()
        .find(|(mark, _)| user_agent.contains(mark))
        .map(|(_, name)| name)
}
