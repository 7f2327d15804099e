//! Signing in by a code, and signing out.
//!
//! The answer to an address is the same whether the link is for it or not, and takes the same time: whether a mail is sent is
//! decided by the desk, after the answer.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc::error::TrySendError;

use super::answer::set_cookie;
use super::client::{self, is_own_post};
use super::code::TypedCode;
use super::cookies::PortalCookie;
use super::counts::PortalCount;
use super::desk::{CodeRequest, DeskFull, quarter_of};
use super::session::new_sid;
use super::visitor::{Denial, Visitor};
use super::{Portal, form};
use crate::job::{Recipient, SignIn};
use crate::ledger::portal::{CodeScope, TrySlot};
use crate::portal_access::{AccessRefusal, ReaderSession, SignedInBy, Visit};
use crate::portal_token::PortalToken;
use crate::render::portal::{CodePage, ShownIssuer, SignInPage};

/// The form with an address.
#[derive(Debug, Deserialize)]
struct AddressForm {
    #[serde(default)]
    token: String,
    address: String,
}

/// The form with a code.
#[derive(Debug, Deserialize)]
struct CodeForm {
    #[serde(default)]
    token: String,
    code: String,
}

/// The form of the button that signs out.
#[derive(Debug, Deserialize)]
struct SignOutForm {
    #[serde(default)]
    token: String,
}

/// A form of a page of the portal.
async fn own_form<F: serde::de::DeserializeOwned>(
    portal: &Portal,
    request: Request,
) -> Result<(Visitor, F), Response<Body>> {
    let (parts, body) = request.into_parts();
    let visitor = Visitor::of(portal, &parts);
    if !is_own_post(&visitor.headers, &visitor.services.settings.origin) {
        return Err(visitor.denied(&Denial::NotOurs(StatusCode::FORBIDDEN)));
    }
    match form::read(parts, body).await {
        Ok(form) => Ok((visitor, form)),
        Err(status) => Err(visitor.denied(&Denial::NotOurs(status))),
    }
}

/// POST `/sign-in`: asks for a code.
pub(super) async fn ask_for_code(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let (visitor, form) = match own_form::<AddressForm>(&portal, request).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    match answer_address(&visitor, &form) {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    }
}

fn answer_address(visitor: &Visitor, form: &AddressForm) -> Result<Response<Body>, Denial> {
    let portal = &visitor.portal;
    portal.limits.code(visitor.network())?;
    let token = visitor.optional_token(&form.token)?;
    let shown_token = token.map(|_| form.token.as_str());
    let Ok(recipient) = Recipient::parse(form.address.trim()) else {
        let notice = Some("portal_address_wrong");
        let demand = SignIn::Code;
        return Ok(visitor.sign_in_page(
            StatusCode::BAD_REQUEST,
            None,
            shown_token,
            demand,
            notice,
        ));
    };
    let services = &visitor.services;
    let rid = services.access.rid(&recipient.canonical_address());
    let scope = token.map_or(CodeScope::Mine, |_| CodeScope::Link);
    let challenge = portal
        .codes
        .challenge(scope, &rid, visitor.now, services.settings.code_for);
    let cookie = portal.codes.cookie(&challenge);
    let request = CodeRequest {
        services: std::sync::Arc::clone(services),
        token: token.map(|_| form.token.clone()),
        recipient,
        challenge,
        asked_at: visitor.now,
        address: visitor.address,
        user_agent: visitor.user_agent.clone(),
        languages: client::languages(&visitor.headers).to_owned(),
    };
    match portal.desk.try_send(request) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
            return Err(AccessRefusal::Unavailable {
                retry_after: std::time::Duration::from_secs(10),
                source: DeskFull.into(),
            }
            .into());
        }
    }
    let mut response = visitor.code_page(StatusCode::OK, shown_token, false);
    let seconds = services.settings.code_for.as_secs();
    set_cookie(
        &mut response,
        PortalCookie::Challenge.set(&cookie, Some(seconds)),
    );
    Ok(response)
}

/// POST `/sign-in/code`: the code of the mail.
pub(super) async fn take_code(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let (visitor, form) = match own_form::<CodeForm>(&portal, request).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    match answer_code(&visitor, &form).await {
        Ok(response) => response,
        Err(denial) => visitor.denied(&denial),
    }
}

async fn answer_code(visitor: &Visitor, form: &CodeForm) -> Result<Response<Body>, Denial> {
    let portal = &visitor.portal;
    portal.limits.sign_in(visitor.network())?;
    let token = visitor.optional_token(&form.token)?;
    let shown_token = token.map(|_| form.token.as_str());
    let over = |status| {
        let notice = Some("portal_code_over");
        let mut page = visitor.sign_in_page(status, None, shown_token, SignIn::Code, notice);
        if status == StatusCode::TOO_MANY_REQUESTS {
            // A new code can be asked for at once.
            page.headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        page
    };
    let challenge = PortalCookie::Challenge.read(&visitor.headers);
    let challenge = challenge.and_then(|cookie| portal.codes.read(cookie, visitor.now));
    let Some(challenge) = challenge else {
        return Ok(over(StatusCode::UNAUTHORIZED));
    };
    // A text that cannot be a code is no try.
    let Some(typed) = TypedCode::read(&form.code) else {
        return Ok(visitor.code_page(StatusCode::UNAUTHORIZED, shown_token, true));
    };
    let records = visitor.services.access.records();
    let quarter = quarter_of(visitor.now);
    let (scope, rid) = (challenge.scope(), challenge.rid());
    let slot = records.take_try(scope, challenge.id(), rid, quarter).await;
    // Judged in any case, so that the time of an answer tells nothing.
    let is_right = portal.codes.matches(&challenge, &typed);
    let is_admitted = match slot.map_err(AccessRefusal::from)? {
        TrySlot::Full => return Ok(over(StatusCode::TOO_MANY_REQUESTS)),
        TrySlot::Taken if is_right => {
            let used = records.use_code(challenge.id()).await;
            if !used.map_err(AccessRefusal::from)? {
                return Ok(over(StatusCode::TOO_MANY_REQUESTS));
            }
            true
        }
        TrySlot::Taken | TrySlot::Blind => false,
    };
    if !is_admitted {
        return Ok(visitor.code_page(StatusCode::UNAUTHORIZED, shown_token, true));
    }
    let mut response = visitor
        .sign_in(challenge.rid(), SignedInBy::Code, shown_token, token)
        .await?;
    set_cookie(&mut response, PortalCookie::Challenge.remove());
    visitor.count(PortalCount::SignedInByCode);
    Ok(response)
}

/// POST `/sign-out`.
pub(super) async fn sign_out(State(portal): State<Portal>, request: Request) -> Response<Body> {
    let (visitor, form) = match own_form::<SignOutForm>(&portal, request).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    if let Some(session) = &visitor.session {
        let recorded = visitor
            .services
            .access
            .signed_out(session, &visitor.evidence(None), visitor.now)
            .await;
        if let Err(refusal) = recorded {
            // The browser may be shared: the session leaves it in any case.
            let mut response = visitor.denied(&refusal.into());
            set_cookie(&mut response, PortalCookie::Session.remove());
            return response;
        }
    }
    let mut response = match visitor.optional_token(&form.token) {
        Ok(Some(token)) => visitor
            .answers()
            .redirect(StatusCode::SEE_OTHER, place_of(&form.token, token)),
        Ok(None) | Err(_) => {
            let page = visitor.page_of(None, None, |writer| writer.signed_out());
            visitor.plain_page(StatusCode::OK, page)
        }
    };
    set_cookie(&mut response, PortalCookie::Session.remove());
    response
}

/// Where the link of a token is. The text was read as a token, so it is of letters and digits.
fn place_of(text: &str, token: PortalToken) -> HeaderValue {
    let kind = if !token.object.is_page() { 'd' } else { 'j' };
    HeaderValue::try_from(format!("/{kind}/{text}")).unwrap_or(HeaderValue::from_static("/mine"))
}

impl Visitor {
    /// The token of a form, if it has one.
    pub(super) fn optional_token(&self, text: &str) -> Result<Option<PortalToken>, Denial> {
        if text.is_empty() {
            return Ok(None);
        }
        self.token(text).map(Some)
    }

    /// The answer to a visitor who is not signed in as the link asks.
    pub(super) fn not_admitted(
        &self,
        visit: &Visit,
        token: &str,
        refusal: AccessRefusal,
    ) -> Result<Response<Body>, Denial> {
        if !self.signs.accepts_html {
            return Err(refusal.into());
        }
        match refusal {
            AccessRefusal::SignIn { demand } => {
                self.count(PortalCount::NotSignedIn);
                let status = StatusCode::UNAUTHORIZED;
                Ok(self.sign_in_page(status, Some(visit), Some(token), demand, None))
            }
            AccessRefusal::OtherReader => {
                self.count(PortalCount::OtherReader);
                let page = self.page_of(Some(visit), None, |writer| writer.other_person(token));
                Ok(self.plain_page(StatusCode::FORBIDDEN, page))
            }
            refusal => Err(refusal.into()),
        }
    }

    /// The page that asks who the visitor is.
    pub(super) fn sign_in_page(
        &self,
        status: StatusCode,
        visit: Option<&Visit>,
        token: Option<&str>,
        demand: SignIn,
        notice: Option<&'static str>,
    ) -> Response<Body> {
        let issuers = match demand {
            SignIn::Any | SignIn::Oidc => {
                let names = self.services.issuers.names();
                names
                    .map(|name| ShownIssuer {
                        name: name.to_owned(),
                    })
                    .collect()
            }
            SignIn::None | SignIn::Code => Vec::new(),
        };
        let page = self.page_of(visit, None, |writer| {
            writer.sign_in(&SignInPage {
                token,
                by_code: demand != SignIn::Oidc,
                issuers: &issuers,
                notice,
            })
        });
        self.plain_page(status, page)
    }

    fn code_page(&self, status: StatusCode, token: Option<&str>, is_wrong: bool) -> Response<Body> {
        let page = self.page_of(None, None, |writer| {
            writer.code(&CodePage {
                token,
                minutes: self.services.settings.code_minutes(),
                is_wrong,
            })
        });
        self.plain_page(status, page)
    }

    /// Signs the visitor in: records it, and leads back to the link.
    pub(super) async fn sign_in(
        &self,
        rid: &str,
        how: SignedInBy,
        text: Option<&str>,
        token: Option<PortalToken>,
    ) -> Result<Response<Body>, Denial> {
        let life = self.services.settings.session;
        let session = ReaderSession {
            rid: rid.to_owned(),
            how,
            issued: self.now,
            ends: self.now.saturating_add(life).unwrap_or(self.now),
            sid: new_sid(),
            known_changes: self.services.access.known_changes().await?,
        };
        self.services
            .access
            .signed_in(&session, &self.evidence(None), self.now)
            .await?;
        let place = match (text, token) {
            (Some(text), Some(token)) => place_of(text, token),
            _ => HeaderValue::from_static("/mine"),
        };
        let mut response = self.answers().redirect(StatusCode::SEE_OTHER, place);
        let cookie = self.portal.sessions.cookie(&session);
        set_cookie(
            &mut response,
            PortalCookie::Session.set(&cookie, Some(life.as_secs())),
        );
        Ok(response)
    }

    /// Records that a link did not open. Without the line, the answer is the same.
    pub(super) async fn record_refusal(&self, token: &PortalToken, refusal: &AccessRefusal) {
        let access = &self.services.access;
        let recorded = access
            .refused(
                token,
                refusal,
                self.session.as_ref(),
                &self.evidence(None),
                self.now,
            )
            .await;
        if let Err(error) = recorded
            && let Some(not_logged) = self.portal.lines.refusals.due()
        {
            let error = crate::text::chain(&error);
            tracing::warn!(
                error,
                not_logged,
                "could not record that a portal link did not open"
            );
        }
    }
}
