//! The logo: a small picture that mails carry as a part of the message, and pages in themselves.
//!
//! Gmail and Outlook do not show `data:` URIs, and Gmail and Outlook do not show SVG, so a mail has a PNG or JPEG as a related
//! part (RFC 2387) and refers to it by its Content-ID (RFC 2392). A part does not count towards the size at which Gmail clips.

use std::fmt;

use base64ct::{Base64, Encoding};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use sha2::{Digest as _, Sha256};

use crate::bounds::MAX_LOGO_BYTES;
use crate::media::Picture;

/// The largest size at which a logo is shown, in CSS pixels.
const MAX_WIDTH: u32 = 240;
const MAX_HEIGHT: u32 = 64;

/// The length of a line of Base64. RFC 2045, 6.8
const BASE64_LINE: usize = 76;

/// The bytes of the digest in a Content-ID.
const ID_BYTES: usize = 8;

/// A logo.
#[derive(Clone, PartialEq, Eq)]
pub struct Logo {
    kind: LogoKind,
    bytes: Vec<u8>,
    /// The bytes in Base64, in lines: made once, and not for each of ten thousand mails.
    lines: String,
    data_uri: String,
    /// `cid:` and the Content-ID.
    reference: String,
    /// Width and height of the picture, if it says them.
    size: Option<(u32, u32)>,
}

/// The format of a logo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogoKind {
    Png,
    Jpeg,
    Svg,
}

/// Why a file is no logo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogoError {
    /// Every mail would carry it.
    #[error(
        "has {bytes} bytes: at most {MAX_LOGO_BYTES} are allowed, since every mail and page carries it; save it smaller, such as {MAX_WIDTH} px wide"
    )]
    TooLarge {
        /// How many bytes it has.
        bytes: usize,
    },
    /// Not one of the formats.
    #[error("is not a PNG, a JPEG or an SVG: convert it to PNG")]
    Format,
    /// The file begins like a picture, and is not a whole one.
    #[error("is a damaged {0}: save it again")]
    Damaged(&'static str),
}

impl Logo {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// It is larger than [`MAX_LOGO_BYTES`], or not a picture that a document can carry.
    pub fn read(bytes: Vec<u8>) -> Result<Self, LogoError> {
        if bytes.len() > MAX_LOGO_BYTES {
            return Err(LogoError::TooLarge { bytes: bytes.len() });
        }
        let (kind, size) = match &*bytes {
            [0x89, b'P', b'N', b'G', ..] => (LogoKind::Png, Some(pixels(&bytes, "PNG")?)),
            [0xFF, 0xD8, 0xFF, ..] => (LogoKind::Jpeg, Some(pixels(&bytes, "JPEG")?)),
            _ => (LogoKind::Svg, svg_size(&bytes)?),
        };
        let digest: String = Sha256::digest(&bytes)[..ID_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let base64 = Base64::encode_string(&bytes);
        Ok(Self {
            kind,
            lines: in_lines(&base64),
            data_uri: format!("data:{};base64,{base64}", kind.media_type()),
            reference: format!("cid:logo.{digest}@brand"),
            bytes,
            size,
        })
    }

    /// The type of its bytes.
    pub const fn media_type(&self) -> &'static str {
        self.kind.media_type()
    }

    /// The name under which a mail program saves it.
    pub const fn file_name(&self) -> &'static str {
        match self.kind {
            LogoKind::Png => "logo.png",
            LogoKind::Jpeg => "logo.jpg",
            LogoKind::Svg => "logo.svg",
        }
    }

    /// The bytes of its file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes in Base64, as the body of a part of a mail.
    pub fn base64_lines(&self) -> &str {
        &self.lines
    }

    /// Its Content-ID, without angle brackets: that of the bytes, so that the same picture has the same id in every mail.
    pub fn content_id(&self) -> &str {
        self.reference.strip_prefix("cid:").unwrap_or_default()
    }

    /// Whether mails show it.
    pub const fn is_for_mail(&self) -> bool {
        match self.kind {
            LogoKind::Png | LogoKind::Jpeg => true,
            LogoKind::Svg => false,
        }
    }

    /// The URL by which the HTML of a mail refers to it.
    pub(super) fn reference(&self) -> &str {
        &self.reference
    }

    /// The URL that contains it.
    pub(in super::super) fn data_uri(&self) -> &str {
        &self.data_uri
    }

    /// The HTML of a mail as a page of its own, which contains the logo.
    pub(in super::super) fn inlined(&self, html: &str) -> String {
        html.replace(&self.reference, &self.data_uri)
    }

    /// Whether the HTML of a mail refers to it.
    pub(in super::super) fn is_in(&self, html: &str) -> bool {
        html.contains(&self.reference)
    }

    /// The size at which it is shown, in CSS pixels: its own, or one that fits; `None` if an SVG does not say.
    pub fn shown_size(&self) -> Option<(u32, u32)> {
        let (width, height) = self.size?;
        let (width, height) = (u64::from(width), u64::from(height));
        let (mut shown, mut tall) = (width, height);
        if shown > u64::from(MAX_WIDTH) {
            tall = height * u64::from(MAX_WIDTH) / width;
            shown = u64::from(MAX_WIDTH);
        }
        if tall > u64::from(MAX_HEIGHT) {
            shown = width * u64::from(MAX_HEIGHT) / height;
            tall = u64::from(MAX_HEIGHT);
        }
        let side = |side: u64| u32::try_from(side.max(1)).unwrap_or(MAX_WIDTH);
        Some((side(shown), side(tall)))
    }
}

// Written by hand: forty thousand bytes are no help in a log.
impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logo({:?}, {} bytes)", self.kind, self.bytes.len())
    }
}

impl LogoKind {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Svg => "image/svg+xml",
        }
    }
}

/// Base64 in lines that end with CRLF.
fn in_lines(base64: &str) -> String {
    let mut lines = String::with_capacity(base64.len() + base64.len() / BASE64_LINE * 2 + 2);
    let mut rest = base64;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(BASE64_LINE));
        lines.push_str(line);
        lines.push_str("\r\n");
        rest = after;
    }
    lines
}

/// Width and height of a PNG or JPEG.
fn pixels(bytes: &[u8], format: &'static str) -> Result<(u32, u32), LogoError> {
    let picture = Picture::read(bytes).filter(|picture| picture.width > 0 && picture.height > 0);
    let picture = picture.ok_or(LogoError::Damaged(format))?;
    Ok((picture.width, picture.height))
}

/// Reads the root element of an SVG. What else the file holds is up to the browser, which runs and loads nothing of an `<img>`.
/// <https://www.w3.org/TR/svg-integration/#secure-static-mode>
fn svg_size(bytes: &[u8]) -> Result<Option<(u32, u32)>, LogoError> {
    let text = std::str::from_utf8(bytes).map_err(|_| LogoError::Format)?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    loop {
        match reader.read_event() {
            Ok(Event::Start(root) | Event::Empty(root)) => {
                return match root.local_name().as_ref() {
                    b"svg" => Ok(size_of_root(&root)),
                    _ => Err(LogoError::Format),
                };
            }
            Ok(Event::Eof) | Err(_) => return Err(LogoError::Format),
            Ok(_) => {}
        }
    }
}

/// Width and height in pixels, or else those of the view box.
fn size_of_root(root: &BytesStart<'_>) -> Option<(u32, u32)> {
    let value = |name: &str| {
        let attribute = root.try_get_attribute(name).ok()??;
        String::from_utf8(attribute.value.into_owned()).ok()
    };
    let length = |name: &str| side(value(name)?.trim_end_matches("px"));
    if let (Some(width), Some(height)) = (length("width"), length("height")) {
        return Some((width, height));
    }
    let view_box = value("viewBox")?;
    let is_gap = |c: char| c == ',' || c.is_ascii_whitespace();
    let mut sides = view_box
        .split(is_gap)
        .filter(|part| !part.is_empty())
        .skip(2);
    Some((side(sides.next()?)?, side(sides.next()?)?))
}

/// A side in whole pixels; `None` for other units.
fn side(text: &str) -> Option<u32> {
    let whole = text.trim().split('.').next()?.parse().ok()?;
    (1..=100_000).contains(&whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = include_bytes!("../../../tests/fixtures/pictures/plain.png");
    const JPEG: &[u8] = include_bytes!("../../../tests/fixtures/pictures/baseline.jpg");
    const WEBP: &[u8] = include_bytes!("../../../tests/fixtures/pictures/lossy.webp");

    fn size(svg: &str) -> Result<Option<(u32, u32)>, LogoError> {
        Logo::read(svg.as_bytes().to_vec()).map(|logo| logo.shown_size())
    }

    #[test]
    fn a_logo_is_a_png_a_jpeg_or_an_svg() {
        let read = |bytes: &[u8]| Logo::read(bytes.to_vec());
        let (png, jpeg) = (read(PNG).unwrap(), read(JPEG).unwrap());
        assert_eq!((png.media_type(), png.is_for_mail()), ("image/png", true));
        assert_eq!(
            (jpeg.media_type(), jpeg.is_for_mail()),
            ("image/jpeg", true)
        );
        let svg = read(b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 480 60'/>").unwrap();
        assert_eq!(
            (svg.media_type(), svg.is_for_mail()),
            ("image/svg+xml", false)
        );
        assert_eq!(svg.shown_size(), Some((240, 30)));
        let table = [
            read(WEBP).unwrap_err(),
            read(b"").unwrap_err(),
            read(b"<html></html>").unwrap_err(),
            read(&PNG[..20]).unwrap_err(),
            read(&JPEG[..4]).unwrap_err(),
            read(&vec![0; MAX_LOGO_BYTES + 1]).unwrap_err(),
        ];
        insta::assert_snapshot!(table.map(|error| error.to_string()).join("\n"), @r"
        is not a PNG, a JPEG or an SVG: convert it to PNG
        is not a PNG, a JPEG or an SVG: convert it to PNG
        is not a PNG, a JPEG or an SVG: convert it to PNG
        is a damaged PNG: save it again
        is a damaged JPEG: save it again
        has 32769 bytes: at most 32768 are allowed, since every mail and page carries it; save it smaller, such as 240 px wide
        ");
    }

    #[test]
    fn an_svg_need_not_say_its_size() {
        let head = "\u{feff}<?xml version=\"1.0\"?><!DOCTYPE svg><!-- made by hand -->\n";
        for (root, shown) in [
            ("<svg width=\"120px\" height=\"40\">", Some((120, 40))),
            (
                "<svg width='10cm' height='2cm' viewBox='0,0, 128.5 64'/>",
                Some((128, 64)),
            ),
            ("<svg:svg width='100%'/>", None),
            ("<svg viewBox='0 0 0 0'/>", None),
            ("<svg viewBox='0 0 1'/>", None),
        ] {
            assert_eq!(size(&format!("{head}{root}")), Ok(shown), "{root}");
        }
    }

    #[test]
    fn a_logo_is_shown_within_its_place_and_never_enlarged() {
        let shown = |width, height| {
            let mut logo = Logo::read(PNG.to_vec()).unwrap();
            logo.size = Some((width, height));
            logo.shown_size().unwrap()
        };
        assert_eq!(shown(100, 20), (100, 20));
        assert_eq!(shown(480, 100), (240, 50));
        assert_eq!(shown(600, 600), (64, 64));
        assert_eq!(shown(480, 200), (153, 64));
        assert_eq!(shown(100_000, 1), (240, 1));
        assert_eq!(shown(1, 100_000), (1, 64));
    }

    #[test]
    fn its_lines_are_those_of_a_part_of_a_mail() {
        let logo = Logo::read(JPEG.to_vec()).unwrap();
        let lines: Vec<&str> = logo.base64_lines().split_terminator("\r\n").collect();
        let (last, others) = lines.split_last().unwrap();
        assert!(others.len() > 3 && others.iter().all(|line| line.len() == BASE64_LINE));
        assert!((1..=BASE64_LINE).contains(&last.len()));
        assert_eq!(Base64::decode_vec(&lines.concat()).unwrap(), JPEG);
    }

    #[test]
    fn the_same_picture_has_the_same_id_everywhere() {
        let (png, jpeg) = (
            Logo::read(PNG.to_vec()).unwrap(),
            Logo::read(JPEG.to_vec()).unwrap(),
        );
        assert_eq!(png, Logo::read(PNG.to_vec()).unwrap());
        assert_ne!(png.content_id(), jpeg.content_id());
        let html = format!("<img src=\"{}\">", png.reference());
        assert!(png.is_in(&html) && !jpeg.is_in(&html));
        assert_eq!(
            png.inlined(&html),
            format!("<img src=\"{}\">", png.data_uri())
        );
    }
}
