//! The Content Security Policy of a page: it permits the page's links and inline content, and nothing else.

use std::collections::BTreeSet;

use super::super::helpers::is_safe_url;
use super::super::templates::InlineHashes;

/// The origin of the page itself, for renditions beside it.
pub(super) const OF_PAGE: &str = "'self'";

/// The `Content-Security-Policy` of a page that loads pictures and sound only from `origins`, and saves files only from `saved`;
/// `palette` is the hash of the style sheet of the brand.
pub(super) fn policy(
    hashes: &InlineHashes,
    palette: Option<&str>,
    origins: &BTreeSet<String>,
    saved: &BTreeSet<String>,
) -> String {
    let media: Vec<&str> = origins.iter().map(String::as_str).collect();
    let saved: Vec<&str> = saved.iter().map(String::as_str).collect();
    let images: Vec<&str> = media.iter().copied().chain(["data:"]).collect();
    let texts = |texts: &[String], more: Option<&str>| {
        let texts = texts.iter().map(String::as_str);
        sources(&texts.chain(more).collect::<Vec<_>>())
    };
    [
        "default-src 'none'".to_owned(),
        format!("img-src {}", sources(&images)),
        format!("media-src {}", sources(&media)),
        format!("frame-src {}", sources(&saved)),
        format!("style-src {}", texts(&hashes.style, palette)),
        format!("script-src {}", texts(&hashes.script, None)),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
    ]
    .join("; ")
}

fn sources(sources: &[&str]) -> String {
    if sources.is_empty() {
        "'none'".to_owned()
    } else {
        sources.join(" ")
    }
}

/// The scheme and host of a link, as a policy names them.
pub(super) fn origin(url: &str) -> Option<&str> {
    let scheme = ["https://", "http://"];
    let host = scheme
        .into_iter()
        .find(|scheme| url.starts_with(scheme))?
        .len();
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |end| host + end);
    let origin = &url[..end];
    let is_plain = url[host..end]
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'));
    (is_plain && is_safe_url(origin)).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_cannot_widen_the_policy() {
        let told = [
            "https://b.s3.amazonaws.com/k?X=1",
            "http://127.0.0.1:9470/b/k",
            "https://*/k",
            "https://a;script-src b/k",
            "javascript:alert(1)",
        ]
        .map(|url| origin(url).unwrap_or("none"));
        assert_eq!(
            told,
            [
                "https://b.s3.amazonaws.com",
                "http://127.0.0.1:9470",
                "none",
                "none",
                "none"
            ]
        );
    }
}
