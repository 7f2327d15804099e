//! What the objects of a job are about, for its mails and pages: a word of people, never an id.

use super::Objects;

/// The shortest text that is taken for an id.
const MIN_ID: usize = 8;

/// The length of a ULID. <https://github.com/ulid/spec>
const ULID: usize = 26;

impl Objects {
    /// The topic of the objects, from their prefix: its last folder that is a word.
    pub fn topic(&self) -> Option<&str> {
        let Self::Under(prefix, _) = self else {
            return None;
        };
        let mut folders = prefix.as_str().rsplit('/');
        folders.find(|folder| folder.contains(char::is_alphabetic) && !is_id(folder))
    }
}

/// Whether programs made a name: a UUID, a digest, a ULID or a random token says nothing to a reader.
///
/// A name of people has a space, a word of several letters, or letters that are not ASCII.
fn is_id(name: &str) -> bool {
    let is_gap = |c: char| matches!(c, '-' | '_' | '.' | '=' | '{' | '}');
    let core: String = name.chars().filter(|c| !is_gap(*c)).collect();
    if core.len() < MIN_ID || !core.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let digits = core.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = core.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && digits > 0 {
        return true;
    }
    if core.len() == ULID && core.starts_with(|c: char| c.is_ascii_digit()) && digits > 1 {
        return true;
    }
    let is_word = |run: &str| run.len() > 3 && is_of_one_case(run);
    let has_word = name.split(|c: char| !c.is_ascii_alphabetic()).any(is_word);
    digits > 1 && !has_word && turns(&core) > 3
}

/// Whether the letters after the first are all small, or all letters are capital.
fn is_of_one_case(run: &str) -> bool {
    run.bytes().skip(1).all(|byte| byte.is_ascii_lowercase())
        || run.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// How often letters follow digits, or digits letters.
fn turns(text: &str) -> usize {
    let bytes = text.as_bytes();
    let pairs = bytes.windows(2);
    pairs
        .filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Filter;

    fn topic(prefix: &str) -> Option<String> {
        let objects = Objects::Under(prefix.parse().unwrap(), Filter::default());
        objects.topic().map(ToOwned::to_owned)
    }

    #[test]
    fn a_topic_is_the_last_folder_that_is_a_word() {
        for (prefix, expected) in [
            ("reports/2026/11/23/", "reports"),
            ("clients/acme/7f3e9a2c-4b1d-4c5e-8f6a-0123456789ab/", "acme"),
            ("clients/acme/01JD8XKQ6Z3M5N7P9R1T3V5W7Y/", "acme"),
            ("acme/d41d8cd98f00b204e9800998ecf8427e/2026/", "acme"),
            ("shoots/V1StGXR8Z5jdHi6BmyT/", "shoots"),
            ("acme/x9Kq2LmP4tR7wZ/", "acme"),
            ("weddings/Ann & Bo 2026-06-20/", "Ann & Bo 2026-06-20"),
            ("deliveries/Q3-2026-report-v2/", "Q3-2026-report-v2"),
            ("invoices/INV20261123A/", "INV20261123A"),
            ("shoots/IMG_2034/", "IMG_2034"),
            ("facade/", "facade"),
            ("2026/Süd3b4c5d6e7/", "Süd3b4c5d6e7"),
            ("exports/20261123T060000Z/", "20261123T060000Z"),
        ] {
            assert_eq!(topic(prefix).as_deref(), Some(expected), "{prefix}");
        }
        for prefix in ["", "2026/11/", "7f3e9a2c-4b1d-4c5e-8f6a-0123456789ab/"] {
            assert_eq!(topic(prefix), None, "{prefix}");
        }
    }
}
