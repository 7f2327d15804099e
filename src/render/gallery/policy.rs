//! The Content Security Policy of a page: it permits the page's links and inline content, and nothing else.

use std::collections::BTreeSet;

use super::super::helpers::is_safe_url;
use super::super::templates::InlineHashes;

/// The origin of the page itself, for renditions beside it.
pub(super) const OF_PAGE: &str = "'self'";

/// What a page may load, and where its forms lead.
pub(super) enum PageReach<'a> {
    /// A published page loads pictures and sound only from `origins`, and saves files only from `saved`.
    Published {
        /// The origins of pictures and sound.
        origins: &'a BTreeSet<String>,
        /// The origins of files.
        saved: &'a BTreeSet<String>,
    },
    /// A page of the portal, whose links to files lead through the portal to these origins.
    Portal(BTreeSet<String>),
}

/// The `Content-Security-Policy` of a page; `palette` is the hash of the style sheet of the brand.
pub(super) fn policy(
    hashes: &InlineHashes,
    palette: Option<&str>,
    reach: &PageReach<'_>,
) -> String {
    let (origins, saved, forms) = match reach {
        PageReach::Published { origins, saved } => (*origins, *saved, "'none'"),
        // The button that signs a reader out.
        PageReach::Portal(origins) => (origins, origins, OF_PAGE),
    };
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
        format!("form-action {forms}"),
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
