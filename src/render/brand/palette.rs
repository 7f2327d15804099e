//! The colours of mails and pages, by day and by night.
//!
//! An accent is any colour. Where text of that colour could not be read, a darker or lighter one of the same hue is used: at
//! least 4.5:1 on every ground that it stands on (WCAG 2.2, 1.4.3).

use base64ct::{Base64, Encoding};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::config::colour::{Colour, MIN_CONTRAST};

/// The contrast below which a button could not be told from the ground that it stands on.
const MIN_BUTTON_CONTRAST: f64 = 1.2;

/// How far a tint is from its ground, in percent.
const LIGHT_TINT: u8 = 90;
const DARK_TINT: u8 = 88;

/// The ground of a mail's content by night, of a page and its cards, and of the portal.
const DARK_GROUNDS: [Colour; 4] = [
    Colour::new(0x1F, 0x23, 0x26),
    Colour::new(0x13, 0x15, 0x17),
    Colour::new(0x1C, 0x20, 0x22),
    Colour::new(0x16, 0x18, 0x1C),
];

/// The colours of the portal's links, small text and warnings by day, without a brand.
const PORTAL_LINK: Colour = Colour::new(0x1F, 0x5F, 0x5B);
const PORTAL_SOFT: Colour = Colour::new(0x56, 0x5D, 0x66);
const PORTAL_NOTICE: Colour = Colour::new(0x9C, 0x1C, 0x1C);

/// The text of a dark accent's own ground: pictures over the whole window.
const STAGE: Colour = Colour::new(0x0D, 0x0F, 0x10);

/// The colours of mails and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette {
    /// The accent, where the configuration has one.
    accent: Option<Colour>,
    /// The ground around the content, where the configuration has one.
    background: Option<Colour>,
    light: Shades,
    dark: Shades,
    /// The ground of a mail around its content, by day.
    ground: Colour,
    /// Small text on it.
    soft: Colour,
}

/// The colours that follow from an accent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Shades {
    link: Colour,
    button: Colour,
    button_text: Colour,
    tint: Colour,
}

impl Palette {
    /// The colours of an installation without a brand.
    pub(super) const DEFAULT: Self = Self {
        accent: None,
        background: None,
        light: Shades {
            link: Colour::new(0x1F, 0x5F, 0x5B),
            button: Colour::new(0x1F, 0x5F, 0x5B),
            button_text: Colour::WHITE,
            tint: Colour::new(0xE9, 0xF1, 0xEF),
        },
        dark: Shades {
            link: Colour::new(0x8F, 0xCF, 0xC6),
            button: Colour::new(0x8F, 0xCF, 0xC6),
            button_text: Colour::new(0x10, 0x20, 0x1F),
            tint: Colour::new(0x29, 0x39, 0x3A),
        },
        ground: Colour::new(0xF3, 0xF1, 0xEC),
        soft: Colour::new(0x68, 0x6C, 0x70),
    };

    /// The colours for an accent and a ground. Small text on the ground is darkened until it can be read.
    pub fn new(accent: Option<Colour>, background: Option<Colour>) -> Self {
        let mut palette = Self {
            accent,
            background,
            ..Self::DEFAULT
        };
        if let Some(ground) = background {
            palette.ground = ground;
            palette.soft = readable(palette.soft, Colour::BLACK, |soft| {
                soft.is_readable_on(&[ground])
            });
        }
        let ground = palette.ground;
        if let Some(accent) = accent {
            palette.light = Shades::new(accent, Colour::BLACK, |link| {
                let tint = link.mixed(Colour::WHITE, LIGHT_TINT);
                (tint, vec![Colour::WHITE, ground, tint])
            });
            palette.dark = Shades::new(accent, Colour::WHITE, |link| {
                let tint = link.mixed(DARK_GROUNDS[0], DARK_TINT);
                let mut grounds = DARK_GROUNDS.to_vec();
                grounds.extend([STAGE, tint]);
                (tint, grounds)
            });
            // By night a button of a dark accent would shine less than the text around it.
            palette.dark.button = palette.dark.link;
            palette.dark.button_text = text_on(palette.dark.button);
        } else if background.is_some() {
            let tint = palette.light.tint;
            palette.light.link = readable(palette.light.link, Colour::BLACK, |link| {
                link.is_readable_on(&[Colour::WHITE, ground, tint])
            });
        }
        palette
    }

    /// What differs from the configured accent, and why; `None` if nothing does.
    pub fn adjustment(&self) -> Option<String> {
        let accent = self.accent?;
        let link = self.light.link;
        (link != accent).then(|| {
            let grounds = [Colour::WHITE, self.ground, self.light.tint];
            let contrasts = grounds.map(|ground| accent.contrast(ground));
            let worst = contrasts.into_iter().fold(f64::INFINITY, f64::min);
            format!(
                "links are shown in {link}, since text in the accent {accent} has a contrast of {worst:.2}:1 and needs {MIN_CONTRAST}:1 (WCAG 2.2 AA)"
            )
        })
    }

    /// The style sheet by which a page gets these colours; `None` for those of the built-in style sheet.
    pub(in super::super) fn style(&self) -> Option<PageStyle> {
        let Shades { link, tint, .. } = self.light;
        let dark = self.dark;
        // Not for print, whose colours are the style sheet's own.
        let mut rules = String::new();
        if let Some(ground) = self.background {
            rules += &format!(
                "@media screen and (prefers-color-scheme:light){{:root{{--page:{ground};--soft:{};--accent:{link}}}}}",
                self.soft
            );
        }
        if let Some(accent) = self.accent {
            rules += &format!(
                "@media screen and (prefers-color-scheme:light){{:root{{--accent:{link};--tint:{tint}}}}}"
            );
            rules += &format!(
                "@media screen and (prefers-color-scheme:dark){{:root{{--accent:{};--tint:{}}}}}",
                dark.link, dark.tint
            );
            rules += &format!(
                "body{{border-top:.3rem solid {accent}}}.caption a,.caption button{{color:{0}}}.caption .done{{background:{0}!important}}",
                dark.link
            );
        }
        PageStyle::of(rules)
    }

    /// The style sheet by which a page of the portal gets these colours; `None` for those of the built-in style sheet.
    pub(super) fn portal_style(&self) -> Option<PageStyle> {
        let ground = self.background.unwrap_or(Colour::WHITE);
        let by_day = |colour: Colour| {
            readable(colour, Colour::BLACK, |colour| {
                colour.is_readable_on(&[ground])
            })
        };
        let mut rules = String::new();
        if self.background.is_some() {
            let link = by_day(PORTAL_LINK);
            rules += &format!(
                "@media(prefers-color-scheme:light){{:root{{--paper:{ground};--soft:{};--notice:{};--strong:{link};--button:{link};--on-button:{}}}}}",
                by_day(PORTAL_SOFT),
                by_day(PORTAL_NOTICE),
                text_on(link)
            );
        }
        if let Some(accent) = self.accent {
            for (scheme, shades) in [("light", self.light), ("dark", self.dark)] {
                rules += &format!(
                    "@media(prefers-color-scheme:{scheme}){{:root{{--strong:{};--button:{};--on-button:{}}}}}",
                    shades.link, shades.button, shades.button_text
                );
            }
            rules += &format!("body{{border-top:.3rem solid {accent}}}");
        }
        PageStyle::of(rules)
    }
}

/// A style sheet, and the source by which a `Content-Security-Policy` permits it.
#[derive(Debug, Clone)]
pub(in super::super) struct PageStyle {
    pub(in super::super) rules: String,
    pub(in super::super) hash: String,
}

impl PageStyle {
    fn of(rules: String) -> Option<Self> {
        let digest = || Base64::encode_string(&Sha256::digest(rules.as_bytes()));
        let hash = (!rules.is_empty()).then(digest)?;
        Some(Self {
            hash: format!("'sha256-{hash}'"),
            rules,
        })
    }
}

// Written by hand: templates need neither what the configuration says nor a style sheet.
impl Serialize for Palette {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut colours = serializer.serialize_struct("Palette", 7)?;
        colours.serialize_field("link", &self.light.link)?;
        colours.serialize_field("button", &self.light.button)?;
        colours.serialize_field("button_text", &self.light.button_text)?;
        colours.serialize_field("tint", &self.light.tint)?;
        colours.serialize_field("ground", &self.ground)?;
        colours.serialize_field("soft", &self.soft)?;
        colours.serialize_field("dark", &self.dark)?;
        colours.end()
    }
}

impl Shades {
    /// The colours of an accent. `grounds` returns the tint for a link, and all that the link stands on.
    fn new(
        accent: Colour,
        towards: Colour,
        grounds: impl Fn(Colour) -> (Colour, Vec<Colour>),
    ) -> Self {
        let link = readable(accent, towards, |link| {
            link.is_readable_on(&grounds(link).1)
        });
        let button = match accent.contrast(Colour::WHITE) < MIN_BUTTON_CONTRAST {
            true => link,
            false => accent,
        };
        Self {
            link,
            button,
            button_text: text_on(button),
            tint: grounds(link).0,
        }
    }
}

/// The nearest mixture of a colour with another that is readable; the other itself always is.
fn readable(colour: Colour, towards: Colour, is_readable: impl Fn(Colour) -> bool) -> Colour {
    let mut mixtures = (0..=100).map(|percent| colour.mixed(towards, percent));
    mixtures
        .find(|mixture| is_readable(*mixture))
        .unwrap_or(towards)
}

/// White or black: whichever is read on every colour. White is preferred where it can be read.
fn text_on(ground: Colour) -> Colour {
    match Colour::WHITE.is_readable_on(&[ground]) {
        true => Colour::WHITE,
        false => Colour::BLACK,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(accent: &str) -> Palette {
        Palette::new(Some(accent.parse().unwrap()), None)
    }

    #[test]
    fn a_colour_that_can_be_read_is_used_as_it_is() {
        let palette = of("#7a1f5c");
        assert_eq!(palette.light.link.to_string(), "#7a1f5c");
        assert_eq!(palette.adjustment(), None);
        assert_eq!(palette.light.button_text, Colour::WHITE);
    }

    #[test]
    fn a_colour_that_cannot_be_read_is_kept_for_buttons_and_darkened_for_links() {
        let palette = of("#ffcc00");
        assert_eq!(palette.light.button.to_string(), "#ffcc00");
        assert_eq!(palette.light.button_text, Colour::BLACK);
        insta::assert_snapshot!(palette.adjustment().unwrap(), @"links are shown in #856a00, since text in the accent #ffcc00 has a contrast of 1.33:1 and needs 4.5:1 (WCAG 2.2 AA)");
        assert_eq!(of("#ffffff").light.button, of("#ffffff").light.link);
    }

    #[test]
    fn without_a_brand_nothing_changes() {
        assert_eq!(Palette::new(None, None), Palette::DEFAULT);
        assert!(Palette::DEFAULT.style().is_none());
        assert!(Palette::DEFAULT.portal_style().is_none());
        assert_eq!(Palette::DEFAULT.adjustment(), None);
    }

    #[test]
    fn a_style_sheet_holds_colours_and_nothing_else() {
        let background = "#fdf6e3".parse().unwrap();
        let style = Palette::new("#b58900".parse().ok(), Some(background))
            .style()
            .unwrap();
        insta::assert_snapshot!(style.rules, @"@media screen and (prefers-color-scheme:light){:root{--page:#fdf6e3;--soft:#686c70;--accent:#8a6800}}@media screen and (prefers-color-scheme:light){:root{--accent:#8a6800;--tint:#f3f0e6}}@media screen and (prefers-color-scheme:dark){:root{--accent:#ba9112;--tint:#323024}}body{border-top:.3rem solid #b58900}.caption a,.caption button{color:#ba9112}.caption .done{background:#ba9112!important}");
        assert!(!style.rules.contains(['<', '&', '"', '\'']));
        let portal = Palette::new("#b58900".parse().ok(), Some(background));
        let portal = portal.portal_style().unwrap();
        insta::assert_snapshot!(portal.rules, @"@media(prefers-color-scheme:light){:root{--paper:#fdf6e3;--soft:#565d66;--notice:#9c1c1c;--strong:#1f5f5b;--button:#1f5f5b;--on-button:#ffffff}}@media(prefers-color-scheme:light){:root{--strong:#8a6800;--button:#b58900;--on-button:#000000}}@media(prefers-color-scheme:dark){:root{--strong:#ba9112;--button:#ba9112;--on-button:#000000}}body{border-top:.3rem solid #b58900}");
        assert!(!portal.rules.contains(['<', '&', '"', '\'']));
    }

    proptest! {
        #[test]
        fn every_accent_can_be_read_wherever_it_stands(red: u8, green: u8, blue: u8, ground in 0xA0_u8..=255) {
            let ground = Colour::new(ground, ground, ground);
            let palette = Palette::new(Some(Colour::new(red, green, blue)), Some(ground));
            let Palette { light, dark, soft, .. } = palette;
            prop_assert!(light.link.is_readable_on(&[Colour::WHITE, ground, light.tint]));
            prop_assert!(dark.link.is_readable_on(&DARK_GROUNDS));
            prop_assert!(dark.link.is_readable_on(&[dark.tint, STAGE]));
            prop_assert!(light.button_text.is_readable_on(&[light.button]));
            prop_assert!(dark.button_text.is_readable_on(&[dark.button]));
            prop_assert!(soft.is_readable_on(&[ground]));
        }
    }
}
