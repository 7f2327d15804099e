//! The page for a person whose link did not open: what is wrong, and whom to ask.

use std::collections::BTreeMap;

use super::MailSettings;
use super::strings::{Direction, Language};
use super::templates::Templates;
use crate::job::Locale;
use crate::plan::speaks;
use crate::text::html::escape;
use crate::text::percent;

/// Readable at every width, in light and dark; it loads nothing.
const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;font:1.05rem/1.55 system-ui,sans-serif}\
main{max-width:34rem;padding:2rem 1.5rem;overflow-wrap:anywhere}h1{font-size:1.5rem;line-height:1.25;margin:0 0 .6rem}p{margin:0 0 1rem}\
.logo{display:block;max-width:min(15rem,60vw);max-height:4rem;height:auto;margin:0 0 1.5rem}.logo:not([width]){height:3.5rem}.brand{font-weight:650}.address{font-size:.95rem}\
@media(prefers-color-scheme:dark){.logo{padding:.6rem .9rem;border-radius:.4rem;background:#fff}}";

/// What is wrong with the link, as the keys of the strings for a heading and a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TroubleWords {
    /// The heading.
    pub title: &'static str,
    /// What the reader can do.
    pub text: &'static str,
}

/// Renders the page in a language of an `Accept-Language` header (RFC 9110, 12.5.4), or else in that of mails.
pub fn page(
    templates: &Templates,
    settings: &MailSettings,
    words: TroubleWords,
    languages: &str,
) -> String {
    let language = chosen(templates, settings, languages);
    let say = |key: &str, values: &[(&'static str, &str)]| {
        let values = values.iter();
        let values: BTreeMap<_, _> = values
            .map(|(place, value)| (*place, (*value).to_owned()))
            .collect();
        // A word of the operator's may have a place without a value.
        escape(&language.say(key, None, &values).unwrap_or_default())
    };
    let (title, text) = (say(words.title, &[]), say(words.text, &[]));
    let sender = say("sent_by", &[("sender", &settings.sender_name)]);
    let address = percent::encode(&settings.sender_address, b"@");
    let direction = match language.direction() {
        Direction::Ltr => "ltr",
        Direction::Rtl => "rtl",
    };
    format!(
        "<!doctype html>\n<html lang=\"{}\" dir=\"{direction}\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><main>{}<h1>{title}</h1><p>{text}</p><p>{sender} <a href=\"mailto:{}\">{}</a></p>{}</main></body>\n</html>\n",
        escape(language.tag()),
        settings.brand.header(&settings.sender_name),
        escape(&address),
        escape(&settings.sender_address),
        settings.brand.address(),
    )
}

/// The language that the reader prefers among those of the templates.
pub(super) fn chosen<'t>(
    templates: &'t Templates,
    settings: &MailSettings,
    languages: &str,
) -> &'t Language {
    let strings = templates.strings();
    let known: Vec<&str> = strings.tags().collect();
    let mut wanted: Vec<(u32, Locale)> = languages.split(',').filter_map(preference).collect();
    // Stable: of several that are wanted alike, the first.
    wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let best = wanted.iter().find(|(_, locale)| speaks(&known, locale));
    strings.for_locale(best.map_or(&settings.locale, |(_, locale)| locale))
}

/// A language and its weight in thousandths: `de-CH;q=0.8`.
fn preference(range: &str) -> Option<(u32, Locale)> {
    let mut parts = range.split(';').map(str::trim);
    let locale = parts.next()?.parse().ok()?;
    let quality = parts.find_map(|part| part.strip_prefix("q="));
    let weight = quality.map_or(1000, |quality| {
        let (whole, decimals) = quality.split_once('.').unwrap_or((quality, ""));
        let thousandths: String = decimals.chars().chain("000".chars()).take(3).collect();
        let number = format!("{whole}{thousandths}").parse();
        number.unwrap_or(0)
    });
    (weight > 0).then_some((weight, locale))
}

#[cfg(test)]
mod tests {
    use super::super::brand::Brand;
    use super::super::samples::*;
    use super::*;
    use crate::config::BrandConfig;

    const EXPIRED: TroubleWords = TroubleWords {
        title: "expired_title",
        text: "expired_text",
    };

    #[test]
    fn a_reader_is_told_in_their_own_language() {
        let (templates, settings) = (templates(), settings());
        for (languages, tag) in [
            ("de-CH,de;q=0.9,en;q=0.8", "de"),
            ("en;q=0.5, fr;q=0.7", "fr"),
            ("nl, ja;q=0.1", "ja"),
            ("de;q=0, es", "es"),
            ("ar", "ar"),
            ("", "en"),
            ("*", "en"),
            ("xx;q=nonsense,,;,", "en"),
        ] {
            let page = page(&templates, &settings, EXPIRED, languages);
            assert!(
                page.contains(&format!("<html lang=\"{tag}\"")),
                "{languages}: {page}"
            );
        }
    }

    #[test]
    fn the_page_says_whom_to_ask() {
        let page = page(&templates(), &settings(), EXPIRED, "en");
        assert!(page.contains("<h1>These links have expired</h1>"), "{page}");
        assert!(
            page.contains("<a href=\"mailto:reports@harbour.example\">"),
            "{page}"
        );
        let page = page.replace(STYLE, "");
        assert!(!page.contains('{'), "no place is left: {page}");
    }

    #[test]
    fn the_page_shows_the_brand() {
        let config = BrandConfig {
            name: Some("Studio Nord".to_owned()),
            footer: vec!["Hafenstraße <3>".to_owned()],
            ..BrandConfig::default()
        };
        let settings = MailSettings {
            sender_name: "Studio Nord".to_owned(),
            brand: Brand::new(&config, None),
            ..settings()
        };
        let page = page(&templates(), &settings, EXPIRED, "en");
        assert!(page.contains("<bdi>Studio Nord</bdi>"), "{page}");
        assert!(page.contains("Hafenstraße &lt;3&gt;"), "{page}");
    }
}
