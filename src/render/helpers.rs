//! The helpers of templates: `{{size bytes}}`, `{{t "files" count=count}}`.
//!
//! Each helper is a small function from values to a text or to an error message. The result is escaped like any other value; no
//! helper can write markup.

use std::collections::BTreeMap;
use std::sync::Arc;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, RenderErrorReason,
    ScopedJson,
};
use jiff::civil::DateTime;
use serde_json::Value;

use super::budget::{CountedComparison, CountedEach, CountedLookup, count_values};
use super::strings::{Language, Strings};

/// Handout's own helpers, in alphabetical order.
const HELPERS: [(&str, HelperWork); 7] = [
    ("date", date),
    ("instant", instant),
    ("link", link),
    ("number", number),
    ("plural", plural),
    ("size", size),
    ("t", t),
];

/// The engine's helpers. `log` and `raw` are left out: values of templates must not be logged or rendered unescaped.
const BUILT_IN: [&str; 15] = [
    "and", "each", "eq", "gt", "gte", "if", "len", "lookup", "lt", "lte", "ne", "not", "or",
    "unless", "with",
];

type HelperWork = fn(&Call<'_>) -> Result<String, String>;

/// The helpers that templates can use.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN
        .into_iter()
        .chain(HELPERS.iter().map(|(name, _)| *name))
}

/// Registers the helpers with an engine.
pub(super) fn register(engine: &mut Handlebars<'_>, strings: &Arc<Strings>) {
    engine.unregister_helper("log");
    engine.unregister_helper("raw");
    engine.register_helper("each", Box::new(CountedEach));
    engine.register_helper("lookup", Box::new(CountedLookup));
    for (name, wants_equal) in [("eq", true), ("ne", false)] {
        engine.register_helper(name, Box::new(CountedComparison { wants_equal }));
    }
    for (name, work) in HELPERS {
        engine.register_helper(
            name,
            Box::new(Spoken {
                strings: Arc::clone(strings),
                work,
            }),
        );
    }
}

/// The arguments of a helper.
struct Call<'a> {
    language: &'a Language,
    first: Option<&'a Value>,
    named: BTreeMap<&'a str, &'a Value>,
}

impl Call<'_> {
    fn whole_number(&self) -> Result<u64, String> {
        self.first
            .and_then(Value::as_u64)
            .ok_or_else(|| "needs a whole number".to_owned())
    }

    fn text(&self) -> Result<&str, String> {
        self.first
            .and_then(Value::as_str)
            .ok_or_else(|| "needs a text".to_owned())
    }

    /// The clock time and its zone, from a view's moment.
    fn moment(&self) -> Result<(DateTime, &str), String> {
        let part = |name: &str| {
            self.first
                .and_then(|value| value.get(name))
                .and_then(Value::as_str)
        };
        let local = part("local").and_then(|local| local.parse().ok());
        local
            .zip(part("zone"))
            .ok_or_else(|| "needs an instant, such as expires_at".to_owned())
    }
}

/// A size in bytes, in readable units.
fn size(call: &Call<'_>) -> Result<String, String> {
    call.whole_number().map(|bytes| call.language.size(bytes))
}

/// A whole number, grouped.
fn number(call: &Call<'_>) -> Result<String, String> {
    call.whole_number()
        .map(|number| call.language.number(number))
}

/// The day of an instant.
fn date(call: &Call<'_>) -> Result<String, String> {
    call.moment()
        .map(|(local, _)| call.language.date(local.date()))
}

/// An instant to the minute, with its zone.
fn instant(call: &Call<'_>) -> Result<String, String> {
    call.moment()
        .map(|(local, zone)| call.language.instant(local, zone))
}

/// A URL that a page may contain: https, http on this machine, a page in the same folder, a rendition beside it, or a link of the
/// portal that shows the page.
fn link(call: &Call<'_>) -> Result<String, String> {
    let url = call.text()?;
    if is_safe_url(url) || is_page_name(url) || is_rendition_beside(url) || is_portal_link(url) {
        return Ok(url.to_owned());
    }
    // The URL is a secret, so the error does not contain it.
    Err("needs a URL with https: an object's begins with endpoint_url, or public_endpoint_url, of its connection".to_owned())
}

/// One of several texts, by count: `{{plural count one="page" other="pages"}}`.
fn plural(call: &Call<'_>) -> Result<String, String> {
    let text =
        |(name, value): (&&str, &&Value)| Some(((*name).to_owned(), value.as_str()?.to_owned()));
    let forms: BTreeMap<String, String> = call.named.iter().filter_map(text).collect();
    if !forms.contains_key("other") {
        return Err("needs other=\"…\"".to_owned());
    }
    Ok(call.language.form(&forms, call.whole_number()?).to_owned())
}

/// A string from `templates/strings/`, with its placeholders filled in.
fn t(call: &Call<'_>) -> Result<String, String> {
    let count = call.named.get("count").and_then(|count| count.as_u64());
    let values = call.named.iter().map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number
                .as_u64()
                .map_or_else(|| number.to_string(), |n| call.language.number(n)),
            other => other.to_string(),
        };
        (*name, text)
    });
    call.language.say(call.text()?, count, &values.collect())
}

/// Whether a page may link to a URL: never `javascript:`, never plain http over a network.
pub fn is_safe_url(url: &str) -> bool {
    let (is_encrypted, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return false,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = !authority.is_empty()
        && authority
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'@' && b != b'\\');
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_here = matches!(host, "127.0.0.1" | "::1" | "localhost");
    is_plain && (is_encrypted || is_here)
}

/// Whether it is the plain name of a page in the same folder.
fn is_page_name(url: &str) -> bool {
    url.strip_suffix(".html").is_some_and(|stem| {
        !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// Whether it is the location of a rendition in a folder beside the page's: `../name/name-640.jpg`.
pub(super) fn is_rendition_beside(url: &str) -> bool {
    let parts = url.strip_prefix("../").and_then(|rest| {
        let (folder, name) = rest.split_once('/')?;
        Some([folder, name.strip_suffix(".jpg")?])
    });
    parts.is_some_and(|parts| {
        parts.iter().all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    })
}

/// Whether it is a link of the portal itself: `/d/` or `/j/` with letters and digits, and a ticket, with the size of a picture, or a page.
pub(in crate::render) fn is_portal_link(url: &str) -> bool {
    let parts = ["/d/", "/j/"]
        .into_iter()
        .find_map(|kind| url.strip_prefix(kind));
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    parts.is_some_and(|rest| match rest.split_once("?t=") {
        Some((token, ticket)) => {
            let (ticket, size) = ticket.split_once("&s=").unwrap_or((ticket, "small"));
            is_plain(token) && is_plain(ticket) && ["small", "large"].contains(&size)
        }
        None => rest.split('/').count() <= 2 && rest.split('/').all(is_plain),
    })
}

/// Adapts a helper to the engine's interface.
struct Spoken {
    strings: Arc<Strings>,
    work: HelperWork,
}

impl HelperDef for Spoken {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        count_values(helper)?;
        // The root of every view names its language.
        let tag = context
            .data()
            .pointer("/language/tag")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let call = Call {
            language: self.strings.language(tag),
            first: helper.param(0).map(|param| param.value()),
            named: helper
                .hash()
                .iter()
                .map(|(name, value)| (*name, value.value()))
                .collect(),
        };
        let text = (self.work)(&call).map_err(|reason| {
            RenderErrorReason::Other(format!("{{{{{}}}}} {reason}", helper.name()))
        })?;
        Ok(ScopedJson::Derived(Value::String(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_links() {
        for safe in [
            "https://b.s3.amazonaws.com/k?X=1",
            "http://127.0.0.1:9470/b/k",
            "http://localhost/",
            "http://[::1]:1/x",
        ] {
            assert!(is_safe_url(safe), "{safe}");
        }
        for unsafe_url in [
            "javascript:alert(1)",
            "http://b.example/k",
            "http://localhost.evil.example/",
            "http://127.0.0.1@evil.example/",
            "https://",
            "data:text/html,x",
            "//b.example/k",
            "https://a b/",
            "HTTPS://x",
            "",
        ] {
            assert!(!is_safe_url(unsafe_url), "{unsafe_url}");
        }
        assert!(
            is_page_name("page-2.html") && !is_page_name("../x.html") && !is_page_name(".html")
        );
        assert!(is_rendition_beside("../0af3/9b-640.jpg"));
        for outside in [
            "../../a/b.jpg",
            "../a/../b.jpg",
            "../a/b/c.jpg",
            "../a/.jpg",
            "..//b.jpg",
            "../a/b.svg",
            "a/b.jpg",
        ] {
            assert!(!is_rendition_beside(outside), "{outside}");
        }
    }
}
