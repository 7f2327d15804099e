//! What mail clients show of a mail: nothing that a large one of them drops carries a mail.
//!
//! The rules are those of <https://www.caniemail.com> for Gmail, Outlook with Word's engine, Outlook.com, Apple Mail and Yahoo.

use std::collections::BTreeSet;

use super::*;

/// The elements that all of them keep.
const KEPT: [&str; 21] = [
    "a", "b", "bdi", "body", "br", "div", "h1", "h2", "head", "html", "img", "meta", "p", "span",
    "style", "table", "td", "title", "tr", "i", "small",
];

/// The properties of inline styles that all of them keep.
const SHOWN: [&str; 18] = [
    "background-color",
    "border",
    "border-top",
    "color",
    "display",
    "font-family",
    "font-size",
    "font-weight",
    "letter-spacing",
    "line-height",
    "margin",
    "margin-left",
    "margin-right",
    "padding",
    "padding-left",
    "padding-right",
    "text-align",
    "text-decoration",
];

/// Those that some ignore, and without which a mail reads as well: corners are square, and Word's engine takes its own.
const DECORATION: [&str; 7] = [
    "border-radius",
    "max-width",
    "mso-border-alt",
    "mso-hide",
    "mso-padding-alt",
    "overflow-wrap",
    "word-break",
];

/// The text without its comments: those of Outlook are for Outlook alone.
fn without_comments(html: &str) -> String {
    let mut parts = html.split("<!--");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once("-->").expect("a comment ends").1
    })
}

fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    let mark = format!(" {attribute}=\"");
    let found = html.split(mark.as_str()).skip(1);
    found
        .map(|rest| rest.split('"').next().unwrap_or_default())
        .collect()
}

#[test]
fn mails_use_what_every_large_client_shows() {
    let plain = settings();
    let studio = branded(NORD, Some(PNG));
    for template in ["report", "digest", "gallery-invite"] {
        for (settings, has_logo) in [(&plain, false), (&studio, true)] {
            let html = branded_mail(template, settings).html;
            // Gmail clips a mail at 102 KB.
            assert!(html.len() < 90 * 1024, "{template}: {}", html.len());
            let html = without_comments(&html);
            let (head, body) = html.split_once("<body").unwrap();
            let tags = html.split('<').skip(1).map(|rest| {
                let end =
                    rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '/');
                rest[..end.unwrap_or(rest.len())].trim_start_matches('/')
            });
            let tags: BTreeSet<&str> = tags
                .filter(|tag| !tag.is_empty() && !tag.starts_with('!'))
                .collect();
            let unknown: Vec<_> = tags.iter().filter(|tag| !KEPT.contains(tag)).collect();
            assert!(unknown.is_empty(), "{template}: {unknown:?}");
            for style in values(body, "style") {
                for rule in style.split(';').filter(|rule| !rule.trim().is_empty()) {
                    let (property, value) =
                        rule.split_once(':').unwrap_or_else(|| panic!("{style}"));
                    let property = property.trim();
                    assert!(
                        SHOWN.contains(&property) || DECORATION.contains(&property),
                        "{template}: {rule}"
                    );
                    for dropped in [
                        "var(", "calc(", "url(", "rgb", "hsl", "flex", "grid", "absolute", "fixed",
                    ] {
                        assert!(!value.contains(dropped), "{template}: {rule}");
                    }
                    if let Some(colour) = value.trim().strip_prefix('#') {
                        assert_eq!(
                            colour.len(),
                            6,
                            "Outlook reads colours of six digits alone: {rule}"
                        );
                    }
                    // A link is a block of its own only where Word does not matter: the cell has its padding again.
                    let is_block = property == "display" && value == "inline-block";
                    assert!(
                        !is_block || style.contains("padding"),
                        "{template}: {style}"
                    );
                }
            }
            // Gmail drops an element of styles with an error or of more than 16 KB; all are after the first meta elements.
            let (_, styles) = head.split_once("<style>").unwrap();
            let styles = styles.split_once("</style>").unwrap().0;
            assert!(
                styles.len() < 8 * 1024 && !styles.contains("@import") && !styles.contains("url(")
            );
            assert_eq!(styles.matches('{').count(), styles.matches('}').count());
            // Gmail and Outlook drop pictures in the HTML, and show none of SVG.
            for source in values(body, "src") {
                assert!(source.starts_with("cid:"), "{template}: {source}");
            }
            assert_eq!(body.contains("<img"), has_logo, "{template}");
            for image in body.split("<img").skip(1) {
                let image = image.split('>').next().unwrap_or_default();
                for attribute in ["width", "height", "alt"] {
                    assert!(
                        image.contains(&format!(" {attribute}=\"")),
                        "{template}: {image}"
                    );
                }
            }
            // Word's engine takes colours and widths of tables from attributes.
            for table in body.split("<table").skip(1) {
                let table = table.split('>').next().unwrap_or_default();
                for attribute in [
                    "role=\"presentation\"",
                    "cellpadding=\"0\"",
                    "cellspacing=\"0\"",
                    "border=\"0\"",
                ] {
                    assert!(table.contains(attribute), "{template}: {table}");
                }
            }
            for cell in body.split("<td").skip(1) {
                let cell = cell.split('>').next().unwrap_or_default();
                let is_filled = cell.contains("background-color:");
                assert!(
                    !is_filled || cell.contains("bgcolor=\""),
                    "{template}: {cell}"
                );
            }
            for word in ["data:", "<form", "<script", "javascript:", "@font-face"] {
                assert!(!html.contains(word), "{template}: {word}");
            }
        }
    }
}
