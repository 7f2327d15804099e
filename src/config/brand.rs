//! `[brand]`: what mails and pages show of the sender.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;
use super::colour::{Colour, MIN_CONTRAST};
use crate::bounds::{MAX_FOOTER_LINE_BYTES, MAX_FOOTER_LINES, MAX_NAME_BYTES};
use crate::config_error::ConfigError;
use crate::text::is_printable;

/// What mails and pages show of the sender.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrandConfig {
    /// The name; that of `mail.from` by default.
    pub name: Option<String>,
    /// The file with the logo.
    pub logo_file: Option<PathBuf>,
    /// The colour of buttons and links.
    pub accent: Option<Colour>,
    /// The colour around the content, by day.
    pub background: Option<Colour>,
    /// The lines at the end of each mail and page, such as a postal address.
    pub footer: Vec<String>,
    /// Whether mails and pages say for whom their links were made.
    pub personal_note: bool,
}

impl Default for BrandConfig {
    fn default() -> Self {
        Self {
            name: None,
            logo_file: None,
            accent: None,
            background: None,
            footer: Vec::new(),
            personal_note: true,
        }
    }
}

/// The colour of text.
const INK: Colour = Colour::new(0x22, 0x26, 0x2A);

impl Config {
    /// Validates `[brand]`, but for the logo's file.
    pub(super) fn check_brand(&self) -> Result<(), ConfigError> {
        let brand = &self.brand;
        if let Some(name) = &brand.name {
            check_line("brand.name", name, MAX_NAME_BYTES)?;
        }
        if brand.footer.len() > MAX_FOOTER_LINES {
            let reason = format!(
                "has {} lines: at most {MAX_FOOTER_LINES} are allowed",
                brand.footer.len()
            );
            return Err(ConfigError::value("brand.footer", reason));
        }
        for (index, line) in brand.footer.iter().enumerate() {
            check_line(
                &format!("brand.footer[{index}]"),
                line,
                MAX_FOOTER_LINE_BYTES,
            )?;
        }
        match brand.background {
            Some(ground) if !INK.is_readable_on(&[ground]) => {
                let reason = format!(
                    "is \"{ground}\", on which text ({INK}) has a contrast of {:.2}:1, and it needs {MIN_CONTRAST}:1 (WCAG 2.2 AA): choose a lighter colour",
                    INK.contrast(ground)
                );
                Err(ConfigError::value("brand.background", reason))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Checks a text that mails and pages show on one line.
fn check_line(key: &str, line: &str, max_bytes: usize) -> Result<(), ConfigError> {
    let wrong = |reason: String| Err(ConfigError::value(key, reason));
    if line.trim().is_empty() {
        return wrong("is empty: write a text, or leave it out".to_owned());
    }
    if line.len() > max_bytes {
        return wrong(format!(
            "has {} bytes: at most {max_bytes} are allowed",
            line.len()
        ));
    }
    match line.chars().find(|c| !is_printable(*c)) {
        Some(c) => wrong(format!(
            "holds the character {c:?}, which is not shown: remove it"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn check(text: &str) -> String {
        let text = format!("[brand]\n{text}\n");
        match Config::parse(&text, &Environment::default()) {
            Ok(config) => config
                .check()
                .map_or_else(|error| error.to_string(), |()| "fine".to_owned()),
            Err(reason) => reason,
        }
    }

    #[test]
    fn a_brand_that_cannot_be_read_is_refused_with_its_key() {
        let long = "x".repeat(MAX_FOOTER_LINE_BYTES + 1);
        let lines = ["\"x\""; MAX_FOOTER_LINES + 1].join(", ");
        let table = [
            "name = \"Studio Nord\"\naccent = \"#ffcc00\"\nbackground = \"#c0c0c0\"\nfooter = [\"Hafenstraße 3\"]",
            "accent = \"teal\"",
            "background = \"#444444\"",
            "background = \"#FFF\"",
            "name = \" \"",
            "name = \"Studio\\nBcc: x\"",
            "footer = [\"a\", \"\\u202Eb\"]",
            &format!("footer = [{lines}]"),
            &format!("footer = [\"{long}\"]"),
            "logo = \"logo.png\"",
        ]
        .map(check);
        insta::assert_snapshot!(table.join("\n"), @r##"
        fine
        line 2, column 10: is not a colour: write "#" and six hexadecimal digits, such as "#1f5f5b"
        the configuration's brand.background is "#444444", on which text (#22262a) has a contrast of 1.56:1, and it needs 4.5:1 (WCAG 2.2 AA): choose a lighter colour
        line 2, column 14: is not a colour: write "#" and six hexadecimal digits, such as "#1f5f5b"
        the configuration's brand.name is empty: write a text, or leave it out
        the configuration's brand.name holds the character '\n', which is not shown: remove it
        the configuration's brand.footer[1] holds the character '\u{202e}', which is not shown: remove it
        the configuration's brand.footer has 9 lines: at most 8 are allowed
        the configuration's brand.footer[0] has 201 bytes: at most 200 are allowed
        line 2, column 1: unknown field `logo`, expected one of `name`, `logo_file`, `accent`, `background`, `footer`, `personal_note`
        "##);
    }
}
