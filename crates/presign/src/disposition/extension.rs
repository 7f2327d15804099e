//! Extensions of file names: which part of a name says what a file is.
//!
//! A dot is no proof: `report v1.2` and `minutes of Dr. Smith` have none. Programs choose how to open a file by its extension,
//! so a name that loses it opens with nothing, and a compressed archive that keeps only `.gz` unpacks to a file without one.

use super::number;

/// The most parts of an extension: `tar.gz.asc.sha256`.
const MAX_PARTS: usize = 4;

/// The longest extension of letters that need not be known.
const MAX_UNKNOWN: usize = 4;

/// Extensions that wrap another file, whose own extension precedes them: compression, encryption, signatures, checksums.
const WRAPPERS: &[&str] = &[
    "age", "asc", "bgz", "br", "bz2", "crypt", "enc", "gpg", "gz", "gzip", "lz", "lz4", "lzma",
    "lzo", "md5", "minisig", "p7m", "pgp", "sha1", "sha256", "sha512", "sig", "sz", "xz", "z",
    "zst", "zstd",
];

/// Extensions that say that the bytes are compressed as a whole, as a content coding could also say.
const COMPRESSED: [&str; 30] = [
    "bgz", "br", "bz", "bz2", "dz", "emz", "gz", "gzip", "lz", "lz4", "lzma", "lzo", "rz", "svgz",
    "sz", "taz", "tbr", "tbz", "tbz2", "tgz", "tlz", "txz", "tz", "tz2", "tzst", "wmz", "xz", "z",
    "zst", "zstd",
];

/// The same as [`number`]s, because this lookup runs for each link.
const COMPRESSED_NUMBERS: [u64; COMPRESSED.len()] = {
    let mut numbers = [0; COMPRESSED.len()];
    let mut at = 0;
    while at < numbers.len() {
        numbers[at] = number(COMPRESSED[at].as_bytes());
        at += 1;
    }
    numbers
};

/// Archives that are cut into numbered files: `photos.7z.001`.
const CUT: &[&str] = &["7z", "rar", "tar", "zip", "zipx"];

/// Known extensions that the rule about letters would not accept: with digits, of one letter, or long.
const KNOWN: &[&str] = &[
    "3dm",
    "3ds",
    "3fr",
    "3g2",
    "3gp",
    "3mf",
    "7z",
    "ac3",
    "accdb",
    "accde",
    "appimage",
    "appx",
    "appxbundle",
    "arrow",
    "au3",
    "avchd",
    "b64",
    "blend",
    "bz2",
    "c",
    "class",
    "code",
    "cr2",
    "cr3",
    "crate",
    "csproj",
    "db3",
    "dicom",
    "djvu",
    "docbook",
    "drawio",
    "e01",
    "e57",
    "excalidraw",
    "f4v",
    "f90",
    "fb2",
    "feather",
    "flatpak",
    "geojson",
    "gradle",
    "graphml",
    "graphql",
    "gsheet",
    "h",
    "h264",
    "h265",
    "h5",
    "hdf5",
    "ipynb",
    "jp2",
    "json5",
    "jsonl",
    "jsonld",
    "keynote",
    "kotlin",
    "latex",
    "m",
    "m2ts",
    "m3u",
    "m3u8",
    "m4a",
    "m4b",
    "m4p",
    "m4r",
    "m4v",
    "markdown",
    "mj2",
    "mp2",
    "mp3",
    "mp4",
    "mxliff",
    "ndjson",
    "numbers",
    "p12",
    "p7b",
    "p7s",
    "p8",
    "pages",
    "parquet",
    "patch",
    "pickle",
    "plist",
    "properties",
    "proto",
    "ps1",
    "r",
    "rw2",
    "scala",
    "scriv",
    "sketch",
    "sqlite",
    "sqlite3",
    "swift",
    "tfstate",
    "tfvars",
    "topojson",
    "torrent",
    "u3d",
    "webmanifest",
    "x3d",
    "xliff",
];

/// Extensions that are also recognized as `Docx`. Other words with a capital, as in `Dr. Who`, are words.
const COMMON: &[&str] = &[
    "bmp", "csv", "doc", "docm", "docx", "dwg", "dxf", "eml", "eps", "epub", "exe", "heic", "ics",
    "jpeg", "jpg", "msg", "msi", "odp", "ods", "odt", "pdf", "png", "ppt", "pptx", "psd", "rar",
    "rtf", "tar", "tif", "tiff", "txt", "vcf", "xls", "xlsb", "xlsm", "xlsx", "zip",
];

/// Words of up to four letters that end names and say nothing about their files.
const WORDS: &[&str] = &[
    "and", "apr", "aug", "beta", "both", "copy", "de", "dec", "demo", "dev", "feb", "fin", "full",
    "inc", "jan", "jul", "jun", "last", "ltd", "main", "mar", "may", "misc", "new", "no", "nov",
    "oct", "old", "part", "prev", "prod", "rev", "sep", "test", "the", "ver", "vol",
];

/// The extension by which programs choose how to open a file of this name: `pdf`, `tar.gz`.
///
/// It has what compression, encryption or a signature wraps, as `csv.gz.asc`. A number or a word after a dot is none.
///
/// ```
/// use presign::disposition::file_extension;
///
/// assert_eq!(file_extension("site.tar.gz"), Some("tar.gz"));
/// assert_eq!(file_extension("report v1.2"), None);
/// ```
pub fn file_extension(name: &str) -> Option<&str> {
    let mut from = None;
    let mut rest = name;
    for _ in 0..MAX_PARTS {
        let Some((stem, part)) = rest.rsplit_once('.') else {
            break;
        };
        let is_first = from.is_none();
        let is_one = is_extension(part) || is_first && is_number_of_cut(stem, part);
        if stem.is_empty() || !is_one {
            break;
        }
        from = Some(stem.len() + 1);
        rest = stem;
        if !is_in(WRAPPERS, part) && !is_number(part) {
            break;
        }
    }
    from.map(|from| &name[from..])
}

/// Whether a name says that the bytes are compressed: `.gz`, `.tgz`, `.zst` and so on.
///
/// Such an object is handed out as it is stored. Where a `Content-Encoding` is stored too, as some upload programs do, a browser
/// would decompress it and save the text under the name of the archive.
pub fn is_compressed(name: &str) -> bool {
    super::extension(name)
        .is_some_and(|extension| COMPRESSED_NUMBERS.contains(&number(extension.as_bytes())))
}

/// Adds the extension of the object's own name to a name that lacks it, or lacks a part of it.
///
/// ```
/// use presign::disposition::with_extension_of;
///
/// assert_eq!(with_extension_of("ACME backup".to_owned(), "site.tar.gz"), "ACME backup.tar.gz");
/// assert_eq!(with_extension_of("ACME backup.tar".to_owned(), "site.tar.gz"), "ACME backup.tar.gz");
/// assert_eq!(with_extension_of("ACME backup".to_owned(), "report v1.2"), "ACME backup");
/// ```
pub fn with_extension_of(name: String, original: &str) -> String {
    match file_extension(original) {
        Some(extension) => with_extension(name, extension),
        None => name,
    }
}

/// Adds an extension to a name that does not have it: only the last parts to a name that ends with the first ones, and the whole
/// in place of the last ones.
pub(super) fn with_extension(mut name: String, extension: &str) -> String {
    if has_ending(&name, extension) || are_alike(&name, extension) {
        return name;
    }
    let dots = || extension.match_indices('.').map(|(dot, _)| dot);
    if let Some(dot) = dots().find(|dot| has_ending(&name, &extension[dot + 1..])) {
        name.truncate(name.len() - (extension.len() - dot));
    } else if let Some(dot) = dots()
        .rev()
        .find(|dot| has_ending(&name, &extension[..*dot]))
    {
        name.push_str(&extension[dot..]);
        return name;
    }
    name.push('.');
    name.push_str(extension);
    name
}

/// Whether the name has another spelling of the same extension.
fn are_alike(name: &str, extension: &str) -> bool {
    const ALIKE: [(&str, &str); 9] = [
        ("htm", "html"),
        ("jpeg", "jpg"),
        ("mpeg", "mpg"),
        ("tar.bz2", "tbz2"),
        ("tar.gz", "tgz"),
        ("tar.xz", "txz"),
        ("tar.zst", "tzst"),
        ("tif", "tiff"),
        ("yaml", "yml"),
    ];
    let is = |a: &str, b: &str| extension.eq_ignore_ascii_case(a) && has_ending(name, b);
    ALIKE.iter().any(|(a, b)| is(a, b) || is(b, a))
}

/// Whether a name ends with a dot and this extension, in any case, and has something before it.
fn has_ending(name: &str, extension: &str) -> bool {
    let Some(dot) = name.len().checked_sub(extension.len() + 1) else {
        return false;
    };
    let (stem, end) = (name.as_bytes().get(..dot), name.as_bytes().get(dot..));
    let is_it = |end: &[u8]| end[0] == b'.' && end[1..].eq_ignore_ascii_case(extension.as_bytes());
    stem.is_some_and(|stem| !stem.is_empty()) && end.is_some_and(is_it)
}

fn is_extension(part: &str) -> bool {
    let is_lower = part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_upper = part.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_short = (2..=MAX_UNKNOWN).contains(&part.len());
    is_short && (is_lower || is_upper) && !is_in(WORDS, part)
        || [KNOWN, COMMON, WRAPPERS]
            .iter()
            .any(|list| is_in(list, part))
        || super::is_active_extension(part)
}

/// The number of a file of an archive that was cut.
fn is_number_of_cut(stem: &str, part: &str) -> bool {
    let archive = super::extension(stem);
    is_number(part) && archive.is_some_and(|archive| is_in(CUT, archive))
}

fn is_number(part: &str) -> bool {
    part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_in(list: &[&str], extension: &str) -> bool {
    list.iter()
        .any(|known| known.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_word_after_a_dot_is_no_extension() {
        for name in [
            "report v1.2",
            "Report.2026",
            "v1.10.3",
            "Invoice No.17",
            "minutes.Dr. Who",
            "mr.smith",
            "Mr.Smith",
            "Q3.Final",
            "report v1.2b",
            "sales.Q3",
            "notes.draft",
            "backup.old",
            "plan.rev2",
            "2026.11.23",
            "a.",
            "a",
            "",
            ".htaccess",
            "x.\u{fc}",
            "a.b c",
            "report v2.final version",
            "Report.Nov",
        ] {
            assert_eq!(file_extension(name), None, "{name}");
        }
    }

    #[test]
    fn an_extension_has_what_is_wrapped() {
        for (name, expected) in [
            ("a.pdf", "pdf"),
            ("a.PDF", "PDF"),
            ("a.Docx", "Docx"),
            ("a.7z", "7z"),
            ("a.mp4", "mp4"),
            ("a.parquet", "parquet"),
            ("a.html", "html"),
            ("site.tar.gz", "tar.gz"),
            ("data.csv.gz", "csv.gz"),
            ("Data.CSV.GZ", "CSV.GZ"),
            ("db.sql.zst", "sql.zst"),
            ("a.tar.gz.asc", "tar.gz.asc"),
            ("a.tar.gz.asc.sha256", "tar.gz.asc.sha256"),
            ("dump v1.2.gz", "gz"),
            ("dump.2026-11-23.gz", "gz"),
            ("a.pdf.gpg", "pdf.gpg"),
            ("photos.7z.001", "7z.001"),
            ("a.txt.001", ""),
            (".tar.gz", "gz"),
            ("a.b.pdf", "pdf"),
            ("a.tar.pdf", "pdf"),
            ("a.xyz", "xyz"),
        ] {
            assert_eq!(file_extension(name).unwrap_or_default(), expected, "{name}");
        }
    }

    #[test]
    fn a_name_gets_what_it_lacks_of_an_extension() {
        for (name, original, expected) in [
            ("ACME backup", "site.tar.gz", "ACME backup.tar.gz"),
            ("ACME backup.tar.gz", "site.tar.gz", "ACME backup.tar.gz"),
            ("ACME backup.TAR.GZ", "site.tar.gz", "ACME backup.TAR.GZ"),
            ("ACME backup.tar", "site.tar.gz", "ACME backup.tar.gz"),
            ("ACME backup.gz", "site.tar.gz", "ACME backup.tar.gz"),
            ("ACME backup.tgz", "site.tar.gz", "ACME backup.tgz"),
            ("ACME backup", "report v1.2", "ACME backup"),
            ("ACME v1.2", "report.pdf", "ACME v1.2.pdf"),
            ("ACME", "a.PDF", "ACME.PDF"),
            ("ACME.pdf", "a.PDF", "ACME.pdf"),
            ("ACME.jpeg", "a.jpg", "ACME.jpeg"),
            ("ACME.html", "a.pdf", "ACME.html.pdf"),
            ("ACME.pdf", "a.html", "ACME.pdf.html"),
            (".gz", "a.tar.gz", ".gz.tar.gz"),
            ("\u{fc}", "a.gz", "\u{fc}.gz"),
        ] {
            assert_eq!(
                with_extension_of(name.to_owned(), original),
                expected,
                "{name} {original}"
            );
        }
    }

    #[test]
    fn a_name_says_that_its_bytes_are_compressed() {
        for name in ["a.gz", "a.TGZ", "a.csv.br", "a.zst", "a.svgz", "a.tar.xz"] {
            assert!(is_compressed(name), "{name}");
        }
        for name in ["a.zip", "a.csv", "gz", "a.gz.csv", "a.svg"] {
            assert!(!is_compressed(name), "{name}");
        }
    }
}
