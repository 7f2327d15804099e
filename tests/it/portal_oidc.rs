//! Readers of portal links sign in at a certified OpenID provider, which is another site than the portal.

use handout::config::OidcIssuerConfig;
use serde_json::{Value, json};
use tracing::Level;

use crate::daemon::{Daemon, daemon_log};
use crate::support::log::Log;
use crate::support::portal::{OpenPortal, Visitor, portal_job, portal_world};
use crate::support::servers::{Browser, Parts, Server, browser_or_skip, run};
use crate::support::world::{World, free_address};
use crate::support::{get, until};

/// A portal with one link for Ann, and the provider of `acme.example`.
struct OidcWorld {
    world: World,
    provider: Server,
    parts: Parts,
    browser: Browser,
    link: String,
}

impl OidcWorld {
    async fn or_skip(test: &str) -> Option<Self> {
        let (browser, parts) = (browser_or_skip(test)?, Parts::or_skip(test)?);
        let mut provider = None;
        let world = portal_world(|portal| {
            let portal_url = portal.public_url.as_deref().unwrap();
            let redirect = format!("{portal_url}/sign-in/oidc/callback");
            let started = browser.start("oidc_provider.mjs", &[&redirect, "ES256"]);
            portal.oidc.push(OidcIssuerConfig {
                name: "staff".to_owned(),
                issuer: format!("http://localhost:{}", started.port),
                client_id: "handout".to_owned(),
                client_secret_file: None,
                domains: vec!["acme.example".to_owned()],
                claim: OidcIssuerConfig::default_claim(),
                ca_file: None,
            });
            provider = Some(started);
        });
        let mut world = world
            .object("2026/a.csv", "name,amount\n")
            .job(&portal_job("daily", json!({ "sign_in": "oidc" })));
        world.run().await;
        let mails = world.mails();
        let hrefs = &mails.first().expect("a mail").hrefs;
        let link = hrefs.iter().find(|url| url.contains("/d/"));
        Some(Self {
            link: link.expect("a link").clone(),
            provider: provider.unwrap(),
            world,
            parts,
            browser,
        })
    }

    /// Signs in with Chromium: what `tests/browser/portal_oidc.mjs` saw.
    async fn with_browser(&self, login: &str) -> Value {
        let mut script = self.browser.script("portal_oidc.mjs");
        script.args([&*self.link, login]);
        // The portal is served by the runtime of this test.
        let output = tokio::task::spawn_blocking(move || run(&mut script)).await;
        serde_json::from_slice(&output.unwrap()).unwrap()
    }

    /// Begins as a browser does, and types a login into the provider's page; returns the URL of the callback.
    async fn log_in(&self, portal: &OpenPortal, reader: &Visitor, login: &str) -> String {
        let begun = reader.open(&portal.url(&self.begins_at())).await;
        assert_eq!(begun.status, 303, "{begun:?}");
        let location = begun.header("location");
        let provider = format!("http://localhost:{}/", self.provider.port);
        assert!(location.starts_with(&provider), "{location}");
        let mut script = self.parts.script("oidc_login.py");
        script.args([location, &portal.origin, login]);
        let output = tokio::task::spawn_blocking(move || run(&mut script)).await;
        String::from_utf8(output.unwrap())
            .unwrap()
            .trim()
            .to_owned()
    }

    fn token(&self) -> &str {
        self.link.rsplit('/').next().unwrap()
    }

    fn begins_at(&self) -> String {
        format!("/sign-in/oidc/staff/{}", self.token())
    }
}

#[tokio::test]
async fn a_reader_signs_in_at_the_provider_and_gets_the_file() {
    let Some(world) =
        OidcWorld::or_skip("a_reader_signs_in_at_the_provider_and_gets_the_file").await
    else {
        return;
    };
    let portal = OpenPortal::serve(&world.world).await;
    let seen = world.with_browser("Ann@acme.example").await;
    assert_eq!(seen["url"], world.link, "{seen}");
    assert_eq!(seen["statuses"][0], 401, "{seen}");
    assert_eq!(
        seen["file"],
        json!({"name": "a.csv", "text": "name,amount\n"}),
        "{seen}"
    );
    assert_eq!(seen["cookies"].as_array().unwrap().len(), 2, "{seen}");
    let cookies = seen["cookies"].to_string();
    assert!(!cookies.contains("__Host-handout-o"), "{cookies}");
    let signed_in = world.world.audit_of("signed_in");
    assert_eq!(signed_in.len(), 1);
    let (line, open) = (&signed_in[0], &world.world.audit_of("opened"));
    assert!(line.to_string().contains("oidc"), "{line}");
    assert_eq!(open.len(), 1, "{open:?}");
    // Another account of the same provider.
    let seen = world.with_browser("bo@acme.example").await;
    assert!(
        seen["text"].as_str().unwrap().contains("another address"),
        "{seen}"
    );
    assert_eq!(seen["file"], Value::Null);
    assert_eq!(world.world.audit_of("opened").len(), 1);
    portal.close().await;
}

#[tokio::test]
async fn a_sign_in_is_of_the_browser_that_began_it_and_leaves_no_secret_in_the_log() {
    let test = "a_sign_in_is_of_the_browser_that_began_it_and_leaves_no_secret_in_the_log";
    let Some(world) = OidcWorld::or_skip(test).await else {
        return;
    };
    let (log, _guard) = Log::of_thread(Level::DEBUG);
    let portal = OpenPortal::serve(&world.world).await;
    let (reader, attacker) = (Visitor::default(), Visitor::default());
    let page = reader.open(&world.link).await;
    assert_eq!(page.status, 401, "{page:?}");
    assert!(page.body.contains("/sign-in/oidc/staff/"), "{page:?}");
    assert_eq!(
        reader.open(&portal.url(&world.begins_at())).await.status,
        303
    );
    // Login CSRF: the reader is sent to the callback of the attacker's sign-in.
    let of_attacker = world
        .log_in(&portal, &attacker, "mallory@acme.example")
        .await;
    for victim in [&Visitor::default(), &reader] {
        let refused = victim.open(&of_attacker).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(!refused.body.contains("code="), "{refused:?}");
        let cookies = victim.cookies.lock().unwrap().clone();
        assert!(!cookies.contains_key("__Host-handout"), "{cookies:?}");
    }
    // The reader's own, once.
    let callback = world.log_in(&portal, &reader, "ann@acme.example").await;
    let cookie = reader.cookies.lock().unwrap()["__Host-handout-o"].clone();
    let back = reader.open(&callback).await;
    assert_eq!(back.status, 303, "{back:?}");
    assert_eq!(back.header("location"), format!("/d/{}", world.token()));
    assert_eq!(reader.open(&world.link).await.status, 200);
    let copy = Visitor::default();
    copy.cookies
        .lock()
        .unwrap()
        .insert("__Host-handout-o".to_owned(), cookie.clone());
    let again = copy.open(&callback).await;
    assert_eq!(again.status, 400, "{again:?}");
    // An account that may not sign in here.
    for login in ["ann@evil.example", "unverified@acme.example"] {
        let stranger = Visitor::default();
        let callback = world.log_in(&portal, &stranger, login).await;
        let refused = stranger.open(&callback).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(!refused.body.contains(login), "{refused:?}");
        assert!(stranger.cookies.lock().unwrap().is_empty());
    }
    assert_eq!(world.world.audit_of("signed_in").len(), 1);
    let text = log.text();
    // One line for each kind of cause, and no more in a minute: to begin again, and another account.
    let refused = "a reader was not signed in at an OpenID provider";
    assert_eq!(text.matches(refused).count(), 2, "{text}");
    let code = callback.split("code=").nth(1).unwrap();
    let code = code.split('&').next().unwrap();
    for secret in [
        code,
        &*cookie,
        world.token(),
        "ann@",
        "mallory",
        "evil.example",
    ] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    portal.close().await;
}

#[tokio::test]
async fn a_provider_that_is_down_stops_its_sign_ins_and_nothing_else() {
    let test = "a_provider_that_is_down_stops_its_sign_ins_and_nothing_else";
    let Some(OidcWorld {
        world,
        provider,
        link,
        ..
    }) = OidcWorld::or_skip(test).await
    else {
        return;
    };
    drop(provider);
    let portal = OpenPortal::serve(&world).await;
    let reader = Visitor::default();
    assert_eq!(reader.open(&link).await.status, 401);
    let refused = reader.open(&portal.url("/sign-in/oidc/staff")).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert_eq!(reader.open(&portal.url("/robots.txt")).await.status, 200);
    portal.close().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_named_by_ready_and_takes_no_link_from_its_reader() {
    let provider = free_address();
    let world = portal_world(|portal| {
        portal.oidc.push(OidcIssuerConfig {
            name: "staff".to_owned(),
            issuer: format!("http://{provider}"),
            client_id: "handout".to_owned(),
            client_secret_file: None,
            domains: vec!["acme.example".to_owned()],
            claim: OidcIssuerConfig::default_claim(),
            ca_file: None,
        });
    });
    let world = world.object("2026/a.csv", "name,amount\n");
    let config = world.written();
    let daemon = Daemon::start(&config, &[]).await;
    let ready = format!("http://{}/ready", daemon.http);
    let text = until("the outage", async || {
        let (status, text) = get(&ready).await;
        let text = String::from_utf8(text).unwrap();
        let is_named = text.contains("the OpenID provider staff");
        assert!(!is_named || status == 200, "{text}");
        is_named.then_some(text)
    })
    .await;
    assert!(text.starts_with("ok\n"), "{text}");
    let metrics = get(&format!("http://{}/metrics", daemon.http)).await.1;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("handout_edge_up{edge=\"oidc:staff\"} 0"),
        "{metrics}"
    );
    // A reload has the edge of its own provider, and only that.
    daemon.signal("HUP");
    until("the reload", async || {
        daemon_log(&config).contains("reloaded").then_some(())
    })
    .await;
    until("the outage again", async || {
        let text = get(&ready).await.1;
        let text = String::from_utf8(text).unwrap();
        (text.matches("the OpenID provider staff").count() == 1).then_some(())
    })
    .await;
    let took = daemon.stops(&config).await;
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}
