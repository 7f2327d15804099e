//! Patterns for keys and addresses, within limits.
//!
//! A pattern may come from a job. The glob library parses alternates by recursion, so that a pattern with thousands of
//! nested braces would overflow the stack and end the process. Length and nesting are bounded before the library parses it.

use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::ParseJobError;
use crate::bounds::{
    MAX_PATTERN_BYTES, MAX_PATTERN_NESTING, MAX_PATTERNS, MAX_PATTERNS_BYTES, MAX_WILDCARDS,
};
use crate::text::forms::composed;

/// What a slash means in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slashes {
    /// `*` stops at a slash, as in a shell: `*.pdf` matches in this folder, `**/*.pdf` in every folder below it.
    Separate,
    /// A slash is a character like any other; capitals do not matter. For addresses.
    Plain,
}

/// Parses a pattern, or returns why it is invalid.
pub fn parse(pattern: &str, slashes: Slashes) -> Result<Glob, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!(
            "is a pattern of {} bytes: at most {MAX_PATTERN_BYTES} are allowed",
            pattern.len()
        ));
    }
    if nesting(pattern) > MAX_PATTERN_NESTING {
        return Err(format!(
            "is a pattern with more than {MAX_PATTERN_NESTING} braces inside each other"
        ));
    }
    GlobBuilder::new(pattern)
        .literal_separator(slashes == Slashes::Separate)
        .case_insensitive(slashes == Slashes::Plain)
        .build()
        .map_err(|error| format!("is not a pattern: {}", error.kind()))
}

/// Whether a pattern is literal: it matches only its own text.
pub fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// A key that the pattern matches, if its simplest expansion does: `incoming/example.pdf` for `incoming/**/*.pdf`.
pub fn example(pattern: &GlobMatcher) -> Option<String> {
    let text = simplest(pattern.glob().glob());
    pattern.is_match(&text).then_some(text)
}

/// A pattern with the simplest text in place of each of its wildcards: of braces the first choice, of a class its first
/// character.
fn simplest(pattern: &str) -> String {
    let (mut text, mut rest) = (String::new(), pattern);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' if rest.starts_with("*/") => rest = &rest[2..],
            '*' => {
                rest = rest.trim_start_matches('*');
                text.push_str("example");
            }
            '?' => text.push('x'),
            '[' => {
                let (class, after) = rest.split_once(']').unwrap_or((rest, ""));
                rest = after;
                let is_negated = class.starts_with(['!', '^']);
                let first = class.chars().next().filter(|_| !is_negated);
                let other = ['x', '0', '_'].into_iter().find(|c| !class.contains(*c));
                text.extend(first.or(other));
            }
            '{' => {
                let (choices, after) = braced(rest);
                rest = after;
                text.push_str(&simplest(choices));
            }
            '\\' => {
                let mut escaped = rest.chars();
                text.extend(escaped.next());
                rest = escaped.as_str();
            }
            c => text.push(c),
        }
    }
    text
}

/// The first choice behind an open brace, and what follows the brace that closes it. Nesting is bounded by [`parse`].
fn braced(text: &str) -> (&str, &str) {
    let (mut depth, mut first) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return (&text[..first.unwrap_or(at)], &text[at + 1..]),
            '}' => depth -= 1,
            ',' if depth == 0 => first = first.or(Some(at)),
            _ => {}
        }
    }
    (text, "")
}

/// Patterns that are matched against a key together, whichever Unicode form each of them has, and the cost of that. Clones share the data.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    set: Arc<GlobSet>,
    /// The length of all patterns that are not literal, in bytes: a matcher has at most some states for each byte, and at
    /// the worst all of them are visited for each byte of a key.
    bytes: u64,
}

impl Globs {
    /// Parses patterns of paths, in which `*` stops at a slash. `field` is their name in errors.
    ///
    /// # Errors
    /// A pattern is none, or there are too many.
    pub fn parse(field: &str, patterns: &[String]) -> Result<Self, ParseJobError> {
        set(field, patterns)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether one of them matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.set.is_match(&*composed(text))
    }

    /// The upper bound of the work of [`Self::is_match`], see [`MAX_PATTERN_WORK`](crate::bounds::MAX_PATTERN_WORK).
    pub const fn work(&self, text: &str) -> u64 {
        self.bytes.saturating_mul(text.len() as u64)
    }
}

/// Parses the list of patterns in a job's field.
///
/// A list within the bounds takes some ten megabytes to compile; a larger list is rejected before that.
pub(crate) fn set(field: &str, patterns: &[String]) -> Result<Globs, ParseJobError> {
    if patterns.len() > MAX_PATTERNS {
        let reason = format!(
            "has {} patterns: at most {MAX_PATTERNS} are allowed",
            patterns.len()
        );
        return Err(ParseJobError::field(field, reason));
    }
    let mut set = GlobSetBuilder::new();
    let (mut bytes, mut wildcards) = (0, 0);
    for (index, pattern) in patterns.iter().enumerate() {
        let glob = parse(&composed(pattern), Slashes::Separate)
            .map_err(|reason| ParseJobError::field(format!("{field}[{index}]"), reason))?;
        bytes += pattern.len();
        wildcards += pattern.matches(['*', '?', '[', '{']).count();
        if wildcards > MAX_WILDCARDS {
            let reason = format!(
                "has patterns with more than {MAX_WILDCARDS} wildcards together: use fewer or simpler patterns"
            );
            return Err(ParseJobError::field(field, reason));
        }
        if bytes > MAX_PATTERNS_BYTES {
            let reason = format!(
                "has patterns of more than {MAX_PATTERNS_BYTES} bytes together: use fewer or shorter patterns"
            );
            return Err(ParseJobError::field(field, reason));
        }
        set.add(glob);
    }
    let many = patterns.iter().filter(|pattern| !is_literal(pattern));
    let bytes = many.map(|pattern| pattern.len() as u64).sum();
    // The library's message repeats the pattern, so it is left out.
    match set.build() {
        Ok(set) => Ok(Globs {
            set: Arc::new(set),
            bytes,
        }),
        Err(_) => {
            let reason = "has patterns that cannot be compiled: simplify them";
            Err(ParseJobError::field(field, reason))
        }
    }
}

fn nesting(pattern: &str) -> usize {
    let mut open: usize = 0;
    let mut deepest = 0;
    for c in pattern.chars() {
        match c {
            '{' => open += 1,
            '}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::MAX_PATTERN_WORK;

    #[test]
    fn a_pattern_that_would_overflow_the_stack_is_refused() {
        let bomb = format!("{}a{}", "{".repeat(100_000), "}".repeat(100_000));
        assert!(parse(&bomb, Slashes::Separate).is_err());
        let short_bomb = format!("{}a{}", "{".repeat(400), "}".repeat(400));
        assert!(parse(&short_bomb, Slashes::Separate).is_err());
        assert!(parse("**/*.{pdf,{csv,tsv}}", Slashes::Separate).is_ok());
    }

    #[test]
    fn an_example_of_a_pattern_is_a_key_that_it_matches() {
        let of = |pattern: &str| {
            let pattern = parse(pattern, Slashes::Separate).unwrap();
            example(&pattern.compile_matcher()).unwrap_or_default()
        };
        for (pattern, key) in [
            ("**", "example"),
            ("incoming/**/*.pdf", "incoming/example.pdf"),
            ("*/in/**", "example/in/example"),
            ("a.{pdf,{csv,tsv}}", "a.pdf"),
            ("{in,{out,up}}/{{a,b}c,d}.txt", "in/ac.txt"),
            ("[0-9][0-9]/[!a-c]?.pdf", "00/xx.pdf"),
            (r"a\*ü\{.pdf", "a*ü{.pdf"),
            ("ü/[ab].pdf", "ü/a.pdf"),
            // No simple reading: another key is tried.
            ("[]x].pdf", ""),
        ] {
            assert_eq!(of(pattern), key, "{pattern}");
        }
    }

    #[test]
    fn the_wildcards_of_a_list_are_bounded_together() {
        let list = |count: usize| vec!["*?".to_owned(); count];
        assert!(set("from.include", &list(MAX_WILDCARDS / 2)).is_ok());
        let error = set("from.include", &list(MAX_WILDCARDS / 2 + 1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("more than 200 wildcards together"),
            "{error}"
        );
    }

    #[test]
    fn ordinary_patterns_may_be_held_against_ten_million_keys() {
        let patterns: Vec<String> = (0..16).map(|n| format!("**/*.{n:03}")).collect();
        let globs = set("from.include", &patterns).unwrap();
        let key = "k".repeat(60);
        assert!(globs.work(&key) * 10_000_000 <= MAX_PATTERN_WORK);
        let literal = set("from.include", &["a/b.pdf".to_owned()]).unwrap();
        assert_eq!(literal.work(&key), 0);
    }
}
