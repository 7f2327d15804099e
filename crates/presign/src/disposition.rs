//! File names, `Content-Disposition` values and media types of downloads.
//!
//! A name may come from an object's key or from a user, so it is untrusted until it is cleaned here: a cleaned name cannot end a
//! header or disguise an extension.

mod extension;
mod stored;

pub use extension::{file_extension, is_compressed, with_extension_of};
pub use stored::{StoredDisposition, with_extension_for};

/// How a browser handles a file (RFC 6266, section 4.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DispositionType {
    /// Saves the file.
    #[default]
    Attachment,
    /// Displays the file.
    Inline,
}

/// The longest file name, in bytes: the limit of common file systems, less what a browser adds to the name of a copy.
const MAX_NAME_BYTES: usize = 150;

/// The types that browsers display and that cannot run scripts, by extension. Only these may be displayed inline.
const PASSIVE_TYPES: [(&str, &str); 38] = [
    ("3g2", "video/3gpp2"),
    ("3gp", "video/3gpp"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("csv", "text/csv; charset=utf-8"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jfif", "image/jpeg"),
    ("jpe", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("log", "text/plain; charset=utf-8"),
    ("m4a", "audio/mp4"),
    ("m4b", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("md", "text/plain; charset=utf-8"),
    ("mka", "audio/matroska"),
    ("mkv", "video/matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    // Chromium saves `audio/opus`, which is for RTP. RFC 7845, 9
    ("opus", "audio/ogg; codecs=opus"),
    ("pdf", "application/pdf"),
    ("pjp", "image/jpeg"),
    ("pjpeg", "image/jpeg"),
    ("png", "image/png"),
    ("txt", "text/plain; charset=utf-8"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
];

/// Their extensions as [`number`]s, because this lookup runs for each link and each card.
const PASSIVE_EXTENSIONS: [u64; PASSIVE_TYPES.len()] = {
    let mut numbers = [0; PASSIVE_TYPES.len()];
    let mut at = 0;
    while at < numbers.len() {
        numbers[at] = number(PASSIVE_TYPES[at].0.as_bytes());
        at += 1;
    }
    numbers
};

/// A short extension as a number, ignoring case; 0 for an extension longer than all known ones.
const fn number(extension: &[u8]) -> u64 {
    if extension.len() >= size_of::<u64>() {
        return 0;
    }
    let (mut number, mut at) = (1, 0);
    while at < extension.len() {
        number = number << 8 | extension[at].to_ascii_lowercase() as u64;
        at += 1;
    }
    number
}

/// The part of a name after its last dot.
pub fn extension(name: &str) -> Option<&str> {
    let dot = memchr::memrchr(b'.', name.as_bytes())?;
    Some(&name[dot + 1..])
}

/// The media type under which a browser may display a file of this name; `None` for types that could run scripts.
///
/// All objects of a bucket share an origin: an HTML or SVG file that is displayed inline could read other objects that the
/// reader's browser may open there. Files outside this list are therefore saved, not displayed.
pub fn passive_type(name: &str) -> Option<&'static str> {
    let number = number(extension(name)?.as_bytes());
    let found = PASSIVE_EXTENSIONS
        .iter()
        .position(|known| *known == number)?;
    Some(PASSIVE_TYPES[found].1)
}

/// The extensions of files whose scripts a browser runs when they are served with their own type.
const ACTIVE: [&str; 17] = [
    "hta", "htm", "html", "js", "mht", "mhtml", "mjs", "shtml", "svg", "svgz", "swf", "wasm",
    "xht", "xhtml", "xml", "xsl", "xslt",
];

/// Whether a file of this name could run scripts in a browser unless it is saved.
pub fn is_active(name: &str) -> bool {
    extension(name).is_some_and(is_active_extension)
}

fn is_active_extension(extension: &str) -> bool {
    let mut active = ACTIVE.iter();
    active.any(|active| extension.eq_ignore_ascii_case(active))
}

/// Whether a browser may display this media type inline.
pub fn is_passive(media_type: &str) -> bool {
    let essence = |text: &str| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    };
    let wanted = essence(media_type);
    PASSIVE_TYPES
        .iter()
        .any(|(_, known)| essence(known) == wanted)
}

/// Cleans a text into a file name that is valid on every system.
///
/// It has no separators, quotes or control characters, no bidirectional control characters, is no name of a Windows device, and has
/// at most 150 bytes, with the extension kept.
pub fn clean_name(text: &str) -> String {
    match is_clean(text) {
        true => text.to_owned(),
        false => cleaned(text),
    }
}

fn cleaned(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .filter(|c| !c.is_control() && !is_bidi_control(*c))
        .map(|c| if is_separator(c) { '_' } else { c })
        .collect();
    // Windows drops trailing dots and spaces, and a leading dot hides a file.
    match cleaned.trim_matches(is_dot_or_space) {
        "" => "file".to_owned(),
        cleaned if is_device(cleaned) => shorten(&format!("_{cleaned}")),
        cleaned => shorten(cleaned),
    }
}

/// Whether Windows opens a device under this name, with any extension, so that the file cannot be saved. Browsers on Windows
/// put the same underscore before it.
/// <https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file#naming-conventions>
fn is_device(name: &str) -> bool {
    const DEVICES: [&str; 7] = ["aux", "clock$", "con", "conin$", "conout$", "nul", "prn"];
    const PORTS: [&str; 2] = ["com", "lpt"];
    const MAX_DEVICE_BYTES: usize = "conout$".len();
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end();
    if stem.len() > MAX_DEVICE_BYTES {
        return false;
    }
    let is_port = |port: &&str| {
        let number = stem.get(port.len()..);
        let begins = stem.get(..port.len());
        let is_digit = |text: &str| {
            let mut characters = text.chars();
            matches!(characters.next(), Some('0'..='9' | '¹' | '²' | '³'))
                && characters.next().is_none()
        };
        begins.is_some_and(|begin| begin.eq_ignore_ascii_case(port)) && number.is_some_and(is_digit)
    };
    DEVICES
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
        || PORTS.iter().any(is_port)
}

/// The characters that reorder the text around them (Unicode TR 9). They are used to disguise names and extensions.
pub const fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{061C}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn is_dot_or_space(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// The characters that some operating system rejects in file names.
const fn is_separator(c: char) -> bool {
    matches!(c, '/' | '\\' | '"' | ':' | '*' | '?' | '<' | '>' | '|')
}

/// Whether a name needs no cleaning: printable ASCII without spaces, and within the length limit.
fn is_clean(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !is_separator(char::from(byte));
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !is_device(name)
}

fn shorten(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let extension = file_extension(name).or_else(|| {
        let extension = extension(name);
        extension.filter(|extension| extension.len() <= 16)
    });
    let extension = extension.unwrap_or_default();
    let (stem, extension) = match extension.len() {
        1.. => (&name[..name.len() - extension.len() - 1], extension),
        0 => (name, ""),
    };
    let room = MAX_NAME_BYTES - extension.len() - usize::from(!extension.is_empty());
    let mut end = room.min(stem.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let dot = if extension.is_empty() { "" } else { "." };
    let stem = stem[..end].trim_end_matches(is_dot_or_space);
    format!("{stem}{dot}{extension}")
}

/// Appends the `Content-Disposition` for a cleaned name: an ASCII fallback, and `filename*` where it is needed.
///
/// S3 rejects values outside of ISO-8859-1 (`InvalidArgument`), so both spellings are ASCII. RFC 6266 and RFC 8187.
pub fn push_content_disposition(disposition: DispositionType, name: &str, text: &mut String) {
    text.push_str(match disposition {
        DispositionType::Attachment => "attachment",
        DispositionType::Inline => "inline",
    });
    text.push_str("; filename=\"");
    let stands_for_itself = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%');
    if name.bytes().all(|byte| stands_for_itself(char::from(byte))) {
        text.push_str(name);
    } else {
        let spelled = |c| if stands_for_itself(c) { c } else { '_' };
        text.extend(name.chars().map(spelled));
    }
    text.push('"');
    // Some browsers decode a percent sign in the fallback, so such names also need `filename*`.
    if !name.is_ascii() || name.contains('%') {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            push_attr_char(byte, text);
        }
    }
}

/// Appends a byte: RFC 8187's `attr-char` unchanged, every other byte percent-encoded.
fn push_attr_char(byte: u8, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b'a'..=b'z'
        | b'A'..=b'Z'
        | b'0'..=b'9'
        | b'!'
        | b'#'
        | b'$'
        | b'&'
        | b'+'
        | b'-'
        | b'.'
        | b'^'
        | b'_'
        | b'`'
        | b'|'
        | b'~' => text.push(char::from(byte)),
        _ => text.extend([
            '%',
            char::from(DIGITS[usize::from(byte >> 4)]),
            char::from(DIGITS[usize::from(byte & 15)]),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disposition(name: &str) -> String {
        let mut text = String::new();
        push_content_disposition(DispositionType::Attachment, &clean_name(name), &mut text);
        text
    }

    #[test]
    fn names_are_given_in_ascii_and_in_full() {
        let table = [
            "a b.pdf",
            "Umsatz Süd.pdf",
            "C++ 12%.pdf",
            "x\"; evil=\"y",
            "../../etc/passwd",
            "it's (1)*.txt",
        ]
        .map(|name| format!("{name}: {}", disposition(name)));
        insta::assert_snapshot!(table.join("\n"), @r#"
        a b.pdf: attachment; filename="a b.pdf"
        Umsatz Süd.pdf: attachment; filename="Umsatz S_d.pdf"; filename*=UTF-8''Umsatz%20S%C3%BCd.pdf
        C++ 12%.pdf: attachment; filename="C++ 12_.pdf"; filename*=UTF-8''C++%2012%25.pdf
        x"; evil="y: attachment; filename="x_; evil=_y"
        ../../etc/passwd: attachment; filename="_.._etc_passwd"
        it's (1)*.txt: attachment; filename="it's (1)_.txt"
        "#);
    }

    #[test]
    fn a_disguised_extension_is_undressed() {
        assert_eq!(clean_name("invoice\u{202E}fdp.exe"), "invoicefdp.exe");
        assert_eq!(clean_name("\u{0}\r\n"), "file");
        assert_eq!(clean_name(".htaccess"), "htaccess");
        assert_eq!(clean_name(". \u{A0}.a b . "), "a b");
        let long = format!("{}. {}", "n".repeat(148), "m".repeat(20));
        assert_eq!(clean_name(&long), "n".repeat(148));
    }

    #[test]
    fn what_could_run_scripts_is_never_passive() {
        for extension in ACTIVE {
            let name = format!("a.{}", extension.to_uppercase());
            assert!(is_active(&name) && passive_type(&name).is_none(), "{name}");
        }
        assert!(!is_active("html") && !is_active("a.html.zip") && !is_active("a.pdf"));
    }

    #[test]
    fn long_names_keep_their_extension() {
        let name = clean_name(&format!("{}.pdf", "ü".repeat(200)));
        assert!(name.len() <= 150 && name.ends_with("ü.pdf"), "{name}");
        let name = clean_name(&format!("{}.tar.gz", "n".repeat(200)));
        assert!(name.len() == 150 && name.ends_with("n.tar.gz"), "{name}");
    }

    #[test]
    fn a_device_of_windows_is_no_name_of_a_file() {
        for (name, expected) in [
            ("con.pdf", "_con.pdf"),
            ("CON", "_CON"),
            ("nul.tar.gz", "_nul.tar.gz"),
            ("Aux .txt", "_Aux .txt"),
            ("com1.log", "_com1.log"),
            ("LPT\u{b9}.txt", "_LPT\u{b9}.txt"),
            ("CONIN$", "_CONIN$"),
            (" prn.csv", "_prn.csv"),
            ("console.pdf", "console.pdf"),
            ("com10.pdf", "com10.pdf"),
            ("com.pdf", "com.pdf"),
            ("icon.pdf", "icon.pdf"),
            ("a/con.pdf", "a_con.pdf"),
        ] {
            assert_eq!(clean_name(name), expected, "{name}");
        }
    }

    #[test]
    fn only_passive_types_may_be_shown() {
        for (extension, media_type) in PASSIVE_TYPES {
            assert_eq!(passive_type(&format!("a.{extension}")), Some(media_type));
        }
        assert_eq!(passive_type("a.PDF"), Some("application/pdf"));
        for active in [
            "a.html",
            "a.svg",
            "a.xml",
            "a.xhtml",
            "a.js",
            "a",
            "a.pdf.exe",
            "a.",
            "a.\0pdf",
            "a.jpeg2",
        ] {
            assert_eq!(passive_type(active), None, "{active}");
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_what_it_is(text in "[ -~ü/]{0,160}|[.a ]{0,6}") {
            if is_clean(&text) {
                prop_assert_eq!(cleaned(&text), text);
            }
        }
    }

    proptest! {
        #[test]
        fn no_name_can_end_the_header_or_leave_its_quotes(name in "\\PC{0,80}|.{0,80}") {
            let text = disposition(&name);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
            prop_assert_eq!(text.matches('"').count(), 2);
        }
    }
}
