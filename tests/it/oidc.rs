//! Sign-in at OpenID providers: a certified one (npm's oidc-provider), and one that does what an attacker wants.

use std::path::Path;
use std::time::Duration;

use handout::cancellation::Cancellation;
use handout::clock::system;
use handout::config::OidcIssuerConfig;
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::portal::oidc::{
    OIDC_CALLBACK_PATH, OidcBegin, OidcFailure, OidcIssuers, OidcNotice, OidcRefusal, OidcSignIn,
    STATE_LIVES_FOR, TokenFault,
};
use handout::text::chain;
use serde_json::{Value, json};

use crate::support::servers::{Parts, Server, browser_or_skip, run};
use crate::support::{answer, until};

/// Nothing listens there: the scripts stop at the callback.
const PORTAL: &str = "http://127.0.0.1:9";

/// The token of a portal link.
const LINK: &str = "0123456789abcdefghjkmnpqrstvwxyz0123456789ab";

/// The secret that `tests/servers/issuer.py` accepts.
const SECRET: &str = "a secret: with+signs & ümlauts%";

fn config(issuer: &str, secret: Option<&Path>) -> OidcIssuerConfig {
    OidcIssuerConfig {
        name: "staff".to_owned(),
        issuer: issuer.to_owned(),
        client_id: "handout".to_owned(),
        client_secret_file: secret.map(ToOwned::to_owned),
        domains: vec!["acme.example".to_owned()],
        claim: "email".to_owned(),
        ca_file: None,
    }
}

fn issuers(config: OidcIssuerConfig) -> OidcIssuers {
    let keyring = Keyring::new([7; 32]);
    OidcIssuers::new(&[config], PORTAL, &keyring, &Environment::default()).unwrap()
}

async fn begin(issuers: &OidcIssuers) -> OidcBegin {
    issuers.begin("staff", LINK, system()).await.unwrap()
}

fn query(callback: &str) -> String {
    let (base, query) = callback.trim().split_once('?').unwrap();
    assert_eq!(base, format!("{PORTAL}{OIDC_CALLBACK_PATH}"));
    query.to_owned()
}

/// The value of a parameter.
fn parameter<'a>(url: &'a str, name: &str) -> &'a str {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).unwrap().1
}

// ------------------------------------------------------------------------------------------------------------- a certified provider

/// `oidc-provider` for a client with or without a secret.
struct Certified {
    url: String,
    _server: Server,
    issuers: OidcIssuers,
    parts: Parts,
    _dir: tempfile::TempDir,
}

impl Certified {
    fn or_skip(test: &str, algorithm: &str, secret: Option<&str>) -> Option<Self> {
        let (browser, parts) = (browser_or_skip(test)?, Parts::or_skip(test)?);
        let redirect = format!("{PORTAL}{OIDC_CALLBACK_PATH}");
        let mut arguments = vec![&*redirect, algorithm];
        arguments.extend(secret);
        let server = browser.start("oidc_provider.mjs", &arguments);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("oidc-secret");
        std::fs::write(&file, format!("{}\n", secret.unwrap_or_default())).unwrap();
        let url = format!("http://localhost:{}", server.port);
        let issuers = issuers(config(&url, secret.map(|_| &*file)));
        Some(Self {
            url,
            _server: server,
            issuers,
            parts,
            _dir: dir,
        })
    }

    /// Types a login into the provider's page, by its forms; returns the callback's query.
    fn log_in(&self, begun: &OidcBegin, login: &str) -> String {
        let mut command = self.parts.script("oidc_login.py");
        command.args([&*begun.location, PORTAL, login]);
        query(&String::from_utf8(run(&mut command)).unwrap())
    }

    async fn sign_in(&self, login: &str) -> Result<OidcSignIn, OidcFailure> {
        let begun = begin(&self.issuers).await;
        let query = self.log_in(&begun, login);
        self.issuers
            .finish(&query, Some(&begun.cookie), system())
            .await
    }
}

#[tokio::test]
async fn a_reader_signs_in_with_a_browser_at_a_certified_provider() {
    let test = "a_reader_signs_in_with_a_browser_at_a_certified_provider";
    let Some(world) = Certified::or_skip(test, "RS256", Some("a b+c:d/%&=")) else {
        return;
    };
    let begun = begin(&world.issuers).await;
    let mut browser = browser_or_skip(test).unwrap().script("oidc.mjs");
    browser.args([&*begun.location, PORTAL, "Ann.Bell@acme.example"]);
    let query = query(&String::from_utf8(run(&mut browser)).unwrap());
    let finished = world.issuers.finish(&query, Some(&begun.cookie), system());
    let signed_in = finished.await.unwrap();
    assert_eq!(signed_in.address.canonical(), "ann.bell@acme.example");
    assert_eq!(signed_in.issuer, "staff");
    assert_eq!(signed_in.return_to, LINK);
    let shown = format!("{signed_in:?} {begun:?} {:?}", world.issuers);
    assert!(!shown.contains("ann.bell"), "{shown}");
    assert!(!shown.contains(LINK), "{shown}");
    assert!(!shown.contains("a b+c"), "{shown}");
}

#[tokio::test]
async fn each_accepted_algorithm_is_verified_with_and_without_a_secret() {
    let test = "each_accepted_algorithm_is_verified_with_and_without_a_secret";
    for (algorithm, secret) in [
        ("RS256", None),
        ("PS256", Some("s")),
        ("ES256", None),
        ("EdDSA", Some("s")),
    ] {
        let Some(world) = Certified::or_skip(test, algorithm, secret) else {
            return;
        };
        let signed_in = world.sign_in("ann@acme.example").await;
        let signed_in = signed_in.unwrap_or_else(|error| panic!("{algorithm}: {}", chain(&error)));
        assert_eq!(signed_in.address.canonical(), "ann@acme.example");
    }
}

#[tokio::test]
async fn a_callback_is_used_once_and_only_by_the_browser_that_began() {
    let test = "a_callback_is_used_once_and_only_by_the_browser_that_began";
    let Some(world) = Certified::or_skip(test, "ES256", None) else {
        return;
    };
    let (reader, attacker) = (begin(&world.issuers).await, begin(&world.issuers).await);
    let of_attacker = world.log_in(&attacker, "mallory@acme.example");
    // Login CSRF: the attacker's callback in the reader's browser, which may have a sign-in of its own under way.
    for (cookie, refusal) in [
        (Some(&*reader.cookie), "StateMismatch"),
        (None, "NoState"),
        (Some(""), "ForgedState"),
        (Some("AAAA"), "ForgedState"),
    ] {
        let refused = world.issuers.finish(&of_attacker, cookie, system()).await;
        let refused = refused.unwrap_err().refusal;
        assert_eq!(format!("{refused:?}"), refusal);
        assert_eq!(refused.notice(), OidcNotice::BeginAgain);
    }
    // A cookie of another installation.
    let other = OidcIssuers::new(
        &[config(&world.url, None)],
        PORTAL,
        &Keyring::new([8; 32]),
        &Environment::default(),
    );
    let forged = begin(&other.unwrap()).await.cookie;
    let refused = world.issuers.finish(&of_attacker, Some(&forged), system());
    let refused = refused.await.unwrap_err().refusal;
    assert!(matches!(refused, OidcRefusal::ForgedState));
    // Too late.
    let later = system() + STATE_LIVES_FOR + Duration::from_secs(1);
    let cookie = Some(&*attacker.cookie);
    let refused = world.issuers.finish(&of_attacker, cookie, later).await;
    assert!(matches!(
        refused.unwrap_err().refusal,
        OidcRefusal::StateExpired
    ));
    // None of these has spent the code; the right browser does, once.
    let used = world.issuers.finish(&of_attacker, cookie, system()).await;
    assert_eq!(used.unwrap().address.canonical(), "mallory@acme.example");
    let again = world.issuers.finish(&of_attacker, cookie, system()).await;
    let again = again.unwrap_err();
    assert!(
        matches!(again.refusal, OidcRefusal::CodeRejected),
        "{again:?}"
    );
    assert_eq!(again.return_to.as_deref(), Some(LINK));
}

#[tokio::test]
async fn a_reader_who_declines_is_told_so() {
    let test = "a_reader_who_declines_is_told_so";
    let Some(world) = Certified::or_skip(test, "EdDSA", None) else {
        return;
    };
    let refused = world.sign_in("abort").await.unwrap_err();
    assert_eq!(
        refused.refusal.to_string(),
        "the OpenID provider ended the sign-in with access_denied"
    );
    assert_eq!(refused.refusal.notice(), OidcNotice::Declined);
    let unverified = world.sign_in("unverified@acme.example").await.unwrap_err();
    assert!(matches!(unverified.refusal, OidcRefusal::Unverified));
    let foreign = world.sign_in("ann@evil.example").await.unwrap_err();
    assert!(matches!(foreign.refusal, OidcRefusal::ForeignDomain));
    assert_eq!(foreign.refusal.notice(), OidcNotice::OtherAccount);
}

// --------------------------------------------------------------------------------------------------------------- a hostile provider

/// `tests/servers/issuer.py`, and issuers that ask it.
struct Hostile {
    server: Server,
    issuers: OidcIssuers,
    dir: tempfile::TempDir,
}

impl Hostile {
    fn or_skip(test: &str) -> Option<Self> {
        let server = Parts::or_skip(test)?.start("issuer.py", &[]);
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("oidc-secret");
        std::fs::write(&secret, SECRET).unwrap();
        let issuers = issuers(config(&server.url(), Some(&secret)));
        Some(Self {
            server,
            issuers,
            dir,
        })
    }

    /// A portal that knows nothing of the provider yet.
    fn fresh(&self) -> OidcIssuers {
        let secret = self.dir.path().join("oidc-secret");
        issuers(config(&self.server.url(), Some(&secret)))
    }

    /// Tells the provider what to do from now on.
    async fn tell(&self, told: Value) {
        let text: String = told
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let (status, ..) = answer(&format!("{}/control?{text}", self.server.url())).await;
        assert_eq!(status, 200);
    }

    /// How often a path was asked for.
    async fn count(&self, path: &str) -> u64 {
        let (_, _, body) = answer(&format!("{}/control", self.server.url())).await;
        let counts: Value = serde_json::from_slice(&body).unwrap();
        counts[path].as_u64().unwrap_or_default()
    }

    async fn sign_in_at(&self, issuers: &OidcIssuers) -> Result<OidcSignIn, OidcFailure> {
        let begun = issuers.begin("staff", LINK, system()).await?;
        let (status, headers, _) = answer(&begun.location).await;
        assert_eq!(status, 302, "{}", begun.location);
        let query = query(headers["location"].to_str().unwrap());
        let finished = issuers.finish(&query, Some(&begun.cookie), system()).await;
        // No log line of any failure has a secret of it.
        if let Err(failure) = &finished {
            let log = format!("{} {failure:?}", chain(failure)).to_lowercase();
            for secret in [
                parameter(&format!("?{query}"), "code"),
                parameter(&begun.location, "nonce"),
                parameter(&begun.location, "state"),
                LINK,
                SECRET,
                "ann@",
                "evil.example",
                "access/1",
                "248289761001",
                "http://",
            ] {
                assert!(!log.contains(&secret.to_lowercase()), "{secret}: {log}");
            }
        }
        finished
    }

    async fn sign_in(&self) -> Result<OidcSignIn, OidcFailure> {
        self.sign_in_at(&self.issuers).await
    }

    /// The refusal of a sign-in after the provider was told something.
    async fn refusal(&self, told: Value) -> OidcRefusal {
        let text = told.to_string();
        self.tell(told).await;
        match self.sign_in().await {
            Ok(_) => panic!("{text} was accepted"),
            Err(failure) => failure.refusal,
        }
    }

    async fn fault(&self, told: Value) -> TokenFault {
        let text = told.to_string();
        match self.refusal(told).await {
            OidcRefusal::Token(fault) => fault,
            refusal => panic!("{text}: {refusal:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_that_breaks_one_rule_signs_nobody_in() {
    let Some(world) = Hostile::or_skip("a_token_that_breaks_one_rule_signs_nobody_in") else {
        return;
    };
    let good = world.sign_in().await.unwrap();
    assert_eq!(good.address.canonical(), "ann@acme.example");
    for sign in ["PS256", "ES256", "EdDSA"] {
        world.tell(json!({ "sign": sign })).await;
        assert!(world.sign_in().await.is_ok(), "{sign}");
    }
    let now = system().as_second();
    for (claims, fault) in [
        (json!({"nonce": "other"}), TokenFault::Nonce),
        (json!({"nonce": null}), TokenFault::Nonce),
        (json!({"iss": "https://evil.example"}), TokenFault::Issuer),
        (
            json!({"iss": format!("{}/", world.server.url())}),
            TokenFault::Issuer,
        ),
        (json!({"aud": "other"}), TokenFault::Audience),
        (
            json!({"aud": ["handout", "other"]}),
            TokenFault::AuthorizedParty,
        ),
        (json!({"azp": "other"}), TokenFault::AuthorizedParty),
        (json!({"exp": now - 120}), TokenFault::Expired),
        (json!({"exp": null}), TokenFault::Expired),
        (json!({"nbf": now + 300}), TokenFault::NotYetValid),
        (json!({"iat": now + 300}), TokenFault::IssuedAt),
        (json!({"iat": now - 300}), TokenFault::IssuedAt),
        (json!({"sub": null}), TokenFault::Subject),
    ] {
        let text = claims.to_string();
        assert_eq!(
            world.fault(json!({ "claims": claims })).await,
            fault,
            "{text}"
        );
    }
    for (told, fault) in [
        (json!({"sign": "none"}), TokenFault::Algorithm),
        (json!({"sign": "HS256-public"}), TokenFault::Algorithm),
        (json!({"sign": "broken"}), TokenFault::Signature),
        (json!({"header": {"alg": "RS512"}}), TokenFault::Algorithm),
        (json!({"header": {"alg": "ES256"}}), TokenFault::Algorithm),
        (json!({"header": {"typ": "x"}}), TokenFault::Signature),
    ] {
        let text = told.to_string();
        assert_eq!(world.fault(told).await, fault, "{text}");
    }
    world
        .tell(json!({"claims": {"aud": ["other", "handout"], "azp": "handout"}}))
        .await;
    assert!(world.sign_in().await.is_ok());
}

#[tokio::test]
async fn an_account_without_a_verified_address_of_the_domains_signs_nobody_in() {
    let test = "an_account_without_a_verified_address_of_the_domains_signs_nobody_in";
    let Some(world) = Hostile::or_skip(test) else {
        return;
    };
    for verified in [json!(false), json!(null), json!(1), json!("no")] {
        let refusal = world
            .refusal(json!({"claims": {"email_verified": verified}}))
            .await;
        assert!(matches!(refusal, OidcRefusal::Unverified), "{refusal:?}");
    }
    for email in ["ann@evil.example", "ann@acme.example.evil.example"] {
        let refusal = world.refusal(json!({"claims": {"email": email}})).await;
        assert!(matches!(refusal, OidcRefusal::ForeignDomain), "{refusal:?}");
    }
    let refusal = world
        .refusal(json!({"claims": {"email": "x@y@acme.example"}}))
        .await;
    assert!(matches!(refusal, OidcRefusal::Address(_)), "{refusal:?}");
    // The claims are at the userinfo endpoint alone.
    let info = |sub: &str| json!({"sub": sub, "email": "Bo@acme.example", "email_verified": true});
    let without = json!({"email": null, "email_verified": null});
    let told = json!({"claims": without, "userinfo": info("248289761001")});
    world.tell(told).await;
    let signed_in = world.sign_in().await.unwrap();
    assert_eq!(signed_in.address.canonical(), "bo@acme.example");
    let told = json!({"claims": without, "userinfo": info("another")});
    assert_eq!(world.fault(told).await, TokenFault::Subject);
    let refusal = world.refusal(json!({ "claims": without })).await;
    assert!(matches!(refusal, OidcRefusal::NoAddress), "{refusal:?}");
    let told =
        json!({"claims": without, "userinfo": info("248289761001"), "without": ["access_token"]});
    let refusal = world.refusal(told).await;
    assert!(matches!(refusal, OidcRefusal::NoAddress), "{refusal:?}");
}

#[tokio::test]
async fn keys_may_change_and_unknown_ones_do_not_make_a_flood() {
    let test = "keys_may_change_and_unknown_ones_do_not_make_a_flood";
    let Some(world) = Hostile::or_skip(test) else {
        return;
    };
    assert!(world.sign_in().await.is_ok());
    let before = world.count("/keys").await;
    for _ in 0..5 {
        let fault = world.fault(json!({"header": {"kid": "unknown"}})).await;
        assert_eq!(fault, TokenFault::UnknownKey);
    }
    assert_eq!(
        world.count("/keys").await,
        before,
        "they were read within the minute"
    );
    // A rotation is followed a minute after the last reading at the latest; a refresh does the same at once.
    assert_eq!(
        world.fault(json!({"rotate": 1})).await,
        TokenFault::UnknownKey
    );
    world.issuers.check("staff").await.unwrap();
    assert!(world.sign_in().await.is_ok());
    // A token of the old keys is not accepted any more.
    let fault = world
        .fault(json!({"rotate": 1, "header": {"kid": "rsa-0"}}))
        .await;
    assert_eq!(fault, TokenFault::UnknownKey);
}

/// Only the clock of tokio is moved on: the provider sees real requests.
#[tokio::test]
async fn a_new_key_is_found_a_minute_after_the_last_reading() {
    let test = "a_new_key_is_found_a_minute_after_the_last_reading";
    let Some(world) = Hostile::or_skip(test) else {
        return;
    };
    assert!(world.sign_in().await.is_ok());
    world.tell(json!({"rotate": 2})).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let before = world.count("/keys").await;
    assert!(world.sign_in().await.is_ok());
    assert_eq!(world.count("/keys").await, before + 1);
}

#[tokio::test]
async fn a_callback_names_the_issuer_that_was_asked() {
    let Some(world) = Hostile::or_skip("a_callback_names_the_issuer_that_was_asked") else {
        return;
    };
    for iss in [json!("https://evil.example"), json!(""), json!(null)] {
        let refusal = world.refusal(json!({ "iss": iss })).await;
        assert!(matches!(refusal, OidcRefusal::OtherIssuer), "{refusal:?}");
    }
    assert_eq!(world.count("/token").await, 0, "the code went nowhere");
    // A provider that does not announce the parameter may leave it out, and may still not name another.
    let silent = json!({"authorization_response_iss_parameter_supported": null});
    world.tell(json!({"metadata": silent, "iss": null})).await;
    let issuers = world.fresh();
    assert!(world.sign_in_at(&issuers).await.is_ok());
    world
        .tell(json!({"metadata": silent, "iss": "https://evil.example"}))
        .await;
    let refused = world.sign_in_at(&issuers).await.unwrap_err().refusal;
    assert!(matches!(refused, OidcRefusal::OtherIssuer));
}

#[tokio::test]
async fn a_provider_that_fails_is_told_apart_from_a_client_that_is_not_set_up() {
    let test = "a_provider_that_fails_is_told_apart_from_a_client_that_is_not_set_up";
    let Some(world) = Hostile::or_skip(test) else {
        return;
    };
    assert!(world.sign_in().await.is_ok());
    let edge = world.issuers.edges().next().unwrap();
    let token = |answer: Value| json!({"answers": {"/token": answer}});
    for (answer, notice) in [
        (
            json!([400, {"error": "invalid_grant"}]),
            OidcNotice::BeginAgain,
        ),
        (
            json!([401, {"error": "invalid_client"}]),
            OidcNotice::AskOperator,
        ),
        (
            json!([400, {"error": "unauthorized_client"}]),
            OidcNotice::AskOperator,
        ),
        (
            json!([400, {"error": "invalid_request"}]),
            OidcNotice::AskOperator,
        ),
        (json!([200, "<html>"]), OidcNotice::AskOperator),
        (
            json!([200, {"access_token": "only"}]),
            OidcNotice::AskOperator,
        ),
        (
            json!([302, "", ["Location", "http://127.0.0.1:9/"]]),
            OidcNotice::AskOperator,
        ),
    ] {
        let text = answer.to_string();
        let refusal = world.refusal(token(answer)).await;
        assert_eq!(refusal.notice(), notice, "{text}: {refusal:?}");
    }
    world
        .refusal(token(json!([401, {"error": "invalid_client"}])))
        .await;
    assert!(edge.trouble().is_some(), "the client is not accepted");
    world.tell(json!({})).await;
    assert!(world.sign_in().await.is_ok());
    assert!(edge.trouble().is_none());
    for answer in [
        json!([503, "", ["Retry-After", "40"]]),
        json!([500, {}]),
        json!([200, 200_000]),
    ] {
        let refusal = world.refusal(token(answer)).await;
        let OidcNotice::TryLater { retry_after } = refusal.notice() else {
            panic!("{refusal:?}")
        };
        assert!(retry_after >= Duration::from_secs(5));
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_used_is_refused_and_a_provider_that_returns_is_used() {
    let test = "metadata_that_cannot_be_used_is_refused_and_a_provider_that_returns_is_used";
    let Some(world) = Hostile::or_skip(test) else {
        return;
    };
    let url = "/.well-known/openid-configuration";
    for told in [
        json!({"metadata": {"issuer": "https://evil.example"}}),
        json!({"metadata": {"token_endpoint": "http://evil.example/token"}}),
        json!({"metadata": {"token_endpoint": null}}),
        json!({"metadata": {"code_challenge_methods_supported": ["plain"]}}),
        json!({"answers": {url: [302, "", ["Location", "/elsewhere"]]}}),
        json!({"answers": {url: [200, 100_000]}}),
        json!({"answers": {url: [404, {}]}}),
        json!({"answers": {url: [500, {}]}}),
        json!({"answers": {"/keys": [200, {"keys": []}]}}),
    ] {
        let text = told.to_string();
        world.tell(told).await;
        let issuers = world.fresh();
        assert!(issuers.check("staff").await.is_err(), "{text:.200}");
        let refused = issuers.begin("staff", LINK, system()).await.unwrap_err();
        // It is not asked again at once.
        assert!(
            matches!(refused.refusal.notice(), OidcNotice::TryLater { .. }),
            "{text:.200}: {refused:?}"
        );
    }
    assert_eq!(
        world.count("/elsewhere").await,
        0,
        "no redirect is followed"
    );
    // The portal runs on and finds the provider when it is back.
    world.tell(json!({"answers": {url: [500, {}]}})).await;
    let (issuers, stop) = (world.fresh(), Cancellation::default());
    let before = world.count(url).await;
    let waiting = async {
        until("the first failure", async || {
            (world.count(url).await > before).then_some(())
        })
        .await;
        world.tell(json!({})).await;
        until("the provider", async || {
            issuers.begin("staff", LINK, system()).await.ok()
        })
        .await;
        assert!(world.sign_in_at(&issuers).await.is_ok());
        stop.cancel();
    };
    tokio::join!(issuers.keep_current(&stop), waiting);
}

#[tokio::test]
async fn what_is_known_of_a_provider_is_used_while_its_metadata_cannot_be_read() {
    let test = "what_is_known_of_a_provider_is_used_while_its_metadata_cannot_be_read";
    let Some(world) = Hostile::or_skip(test) else {
        return;
    };
    assert!(world.sign_in().await.is_ok());
    let down =
        json!({"answers": {"/keys": [503, {}], "/.well-known/openid-configuration": [503, {}]}});
    world.tell(down).await;
    assert!(world.issuers.check("staff").await.is_err());
    assert!(world.sign_in().await.is_ok());
}

#[tokio::test]
async fn an_endpoint_that_hangs_ends_in_time() {
    let Some(world) = Hostile::or_skip("an_endpoint_that_hangs_ends_in_time") else {
        return;
    };
    let refusal = world.refusal(json!({"answers": {"/token": "hang"}}));
    let refusal = tokio::time::timeout(Duration::from_secs(30), refusal).await;
    let refusal = refusal.expect("there is a deadline");
    assert!(
        matches!(refusal.notice(), OidcNotice::TryLater { .. }),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_reader_is_sent_back_to_a_token_and_never_to_a_url() {
    let Some(world) = Hostile::or_skip("a_reader_is_sent_back_to_a_token_and_never_to_a_url")
    else {
        return;
    };
    for text in [
        "//evil.example",
        "https://evil.example",
        "a\r\nSet-Cookie: x",
        "a/b",
        &"a".repeat(200),
    ] {
        assert!(world.issuers.begin("staff", text, system()).await.is_err());
    }
    let unknown = world.issuers.begin("other", LINK, system()).await;
    assert!(matches!(
        unknown.unwrap_err().refusal,
        OidcRefusal::UnknownIssuer
    ));
    let begun = world.issuers.begin("staff", "", system()).await.unwrap();
    assert_eq!(parameter(&begun.location, "code_challenge_method"), "S256");
    assert!(!begun.cookie.contains(['+', '/', '=', ';']));
}

#[test]
fn an_issuer_that_is_not_configured_well_is_refused() {
    let keyring = Keyring::new([7; 32]);
    let refused = |change: fn(&mut OidcIssuerConfig)| {
        let mut config = config("https://login.acme.example", None);
        change(&mut config);
        let environment = Environment::default();
        let made = OidcIssuers::new(&[config], PORTAL, &keyring, &environment);
        made.map(|_| ()).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [
            refused(|config| config.name = "Staff/1".to_owned()),
            refused(|config| config.name = "callback".to_owned()),
            refused(|config| config.issuer = "http://login.acme.example".to_owned()),
            refused(|config| config.client_id.clear()),
            refused(|config| config.domains.clear()),
            refused(|config| config.domains = vec!["*.acme.example".to_owned()]),
            refused(|config| config.claim.clear()),
        ]
        .join("\n"),
        @r#"
        the configuration's portal.oidc.name is "Staff/1": write 1 to 64 small letters, digits and "-", and not "callback"
        the configuration's portal.oidc.name is "callback": write 1 to 64 small letters, digits and "-", and not "callback"
        the configuration's portal.oidc.staff.issuer is not the URL of an issuer: write https://host, with a path if it has one
        the configuration's portal.oidc.staff.client_id is empty or has spaces: write the client id that the provider gave
        the configuration's portal.oidc.staff.domains is empty: name the domains for whose addresses the issuer may speak
        the configuration's portal.oidc.staff.domains has "*.acme.example", which is not a domain: write "acme.example"
        the configuration's portal.oidc.staff.claim is empty: write the name of a claim, such as "email"
        "#
    );
    let twice = [
        config("https://login.acme.example", None),
        config("https://other.acme.example", None),
    ];
    assert!(OidcIssuers::new(&twice, PORTAL, &keyring, &Environment::default()).is_err());
}
