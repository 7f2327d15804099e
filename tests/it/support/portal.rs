//! A portal over a test installation, and a client that behaves as a browser with its cookies does.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use handout::assemble::Opened;
use handout::config::{Config, PortalConfig};
use handout::environment::Environment;
use handout::portal::{PortalReload, PortalServer};
use handout::serving::bind;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::world::{World, email_job, free_address};

/// A portal that is being served.
pub(crate) struct OpenPortal {
    pub(crate) opened: Opened,
    pub(crate) reloads: PortalReload,
    pub(crate) origin: String,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// The headers of a browser that opens a link.
pub(crate) const NAVIGATES: [(&str, &str); 5] = [
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("accept-language", "en"),
];

/// The headers of a form of a page of the portal.
pub(crate) const SUBMITS: [(&str, &str); 6] = [
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("accept-language", "en"),
    ("content-type", "application/x-www-form-urlencoded"),
];

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct PortalAnswer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl PortalAnswer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default()
    }

    /// The value of a hidden field of the page.
    pub(crate) fn field(&self, name: &str) -> String {
        let mark = format!("name=\"{name}\" value=\"");
        let (_, rest) = self
            .body
            .split_once(&mark)
            .unwrap_or_else(|| panic!("{self:?}"));
        rest.split('"').next().unwrap().to_owned()
    }
}

/// A browser: it keeps cookies, and follows no redirect by itself.
#[derive(Debug, Default)]
pub(crate) struct Visitor {
    pub(crate) cookies: Mutex<BTreeMap<String, String>>,
}

impl Visitor {
    pub(crate) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> PortalAnswer {
        self.ask(Method::GET, url, headers, "").await
    }

    /// Opens a link as a browser does.
    pub(crate) async fn open(&self, url: &str) -> PortalAnswer {
        self.get(url, &NAVIGATES).await
    }

    /// Sends a form of a page of the portal.
    pub(crate) async fn submit(&self, url: &str, form: &str) -> PortalAnswer {
        self.ask(Method::POST, url, &SUBMITS, form).await
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> PortalAnswer {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies = self.cookies.lock().unwrap().clone();
        if !cookies.is_empty() {
            let pairs: Vec<_> = cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header("cookie", pairs.join("; "));
        }
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        for cookie in head.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(
                attributes.contains("Secure; HttpOnly; SameSite=Lax"),
                "{cookie}"
            );
            let mut cookies = self.cookies.lock().unwrap();
            if attributes.contains("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        PortalAnswer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

/// An installation with a portal.
pub(crate) fn portal_world(change: impl FnOnce(&mut PortalConfig)) -> World {
    World::new().configured(|config: &mut Config| {
        let listen = free_address();
        config.portal.listen = Some(listen);
        config.portal.public_url = Some(format!("http://{listen}"));
        config.portal.contact = Some("desk@acme.example".to_owned());
        change(&mut config.portal);
    })
}

/// A mail job whose links are the portal's.
pub(crate) fn portal_job(id: &str, links: Value) -> Value {
    let mut job = email_job(id);
    job["links"] = json!({ "via": "portal", "expires_in": "7d" });
    let Value::Object(links) = links else {
        panic!("links is an object");
    };
    for (key, value) in links {
        job["links"][key] = value;
    }
    job
}

impl OpenPortal {
    /// Opens everything and serves the portal.
    pub(crate) async fn serve(world: &World) -> Self {
        let opened = world.open().await;
        let listen = world.config.portal.listen.unwrap();
        let server =
            PortalServer::new(&world.config, &opened.services, &Environment::default()).unwrap();
        let (listener, stop) = (bind(listen).unwrap(), CancellationToken::new());
        let (reloads, stopped) = (server.reloads(), stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.serve(listener, stopped).await.unwrap() });
        Self {
            opened,
            reloads,
            origin: world.config.portal.public_url.clone().unwrap(),
            stop,
            tasks,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Ends it, as SIGTERM does.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        drop(self.reloads);
        self.opened.close().await;
    }
}
