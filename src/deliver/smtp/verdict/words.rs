//! The words of a reply, as the table compares them.

use super::super::reply::{Reply, enhanced_code};

/// How much of a reply is compared, in words: a reply may have 100,000 bytes.
const MAX_WORDS: usize = 400;

/// The words of a reply: in lower case, without punctuation, and without what the reply only repeats: addresses, links,
/// and the enhanced code at the beginning of each line.
#[derive(Debug)]
pub(super) struct ReplyWords(Vec<String>);

impl ReplyWords {
    pub(super) fn of(reply: &Reply) -> Self {
        let lines = reply.lines.iter().map(|line| without_code(line));
        let tokens = lines.flat_map(str::split_whitespace);
        let told = tokens.filter(|token| !is_repeated(token));
        Self(told.flat_map(words_of).take(MAX_WORDS).collect())
    }

    /// Whether the reply contains a phrase: its words in this order. `*` stands for any end of a word, `..` for any
    /// words between.
    pub(super) fn say(&self, phrase: &str) -> bool {
        self.before(phrase).is_some()
    }

    /// The words before a phrase; `None` if the reply does not contain it.
    pub(super) fn before(&self, phrase: &str) -> Option<&[String]> {
        let mut begin = None;
        let mut from = 0;
        for run in phrase.split(" .. ") {
            let wanted: Vec<&str> = run.split(' ').collect();
            let mut windows = self.0[from..].windows(wanted.len());
            let at = windows.position(|window| {
                window
                    .iter()
                    .zip(&wanted)
                    .all(|(word, wanted)| is(word, wanted))
            })?;
            begin.get_or_insert(at);
            from += at + wanted.len();
        }
        Some(&self.0[..begin?])
    }
}

fn is(word: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => word == wanted,
    }
}

fn without_code(line: &str) -> &str {
    let line = line.trim_start();
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match enhanced_code(first) {
        Some(_) => rest,
        None => line,
    }
}

/// An address, a link or the name of a host. Text in angle brackets is what the client had sent.
fn is_repeated(token: &str) -> bool {
    token.contains('@')
        || token.contains("://")
        || token.starts_with('<') && token.contains('>')
        || is_host(token)
}

/// Whether a token is the name of a host, such as a recipient's domain, whose owner chose its words.
fn is_host(token: &str) -> bool {
    let name = token.trim_matches(|c: char| !c.is_alphanumeric());
    let mut labels = name.split('.');
    let is_label = |label: &str| {
        let may_stand = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(may_stand)
    };
    name.contains('.')
        && labels.clone().all(is_label)
        // The last is no number, as in a version or an enhanced code.
        && labels.next_back().is_some_and(|last| last.chars().any(char::is_alphabetic))
}

fn words_of(token: &str) -> Vec<String> {
    let is_apostrophe = |c: char| matches!(c, '\'' | '\u{2019}');
    let token: String = token.chars().filter(|c| !is_apostrophe(*c)).collect();
    let parts = token.split(|c: char| !c.is_alphanumeric());
    let parts = parts.filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(lines: &[&str]) -> ReplyWords {
        ReplyWords::of(&Reply {
            code: 550,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            ..Reply::default()
        })
    }

    #[test]
    fn a_phrase_is_found_across_lines_capitals_and_punctuation() {
        let said = words(&[
            "5.7.1 Unauthenticated e-mail isn't accepted due to domain's",
            "5.7.1 DMARC policy. The user you\u{2019}re writing to doesn\u{2019}t exist",
        ]);
        for phrase in [
            "e mail isnt accepted",
            "domains dmarc policy",
            "user .. doesnt exist",
            "dmarc .. writ* to",
            "unauth*",
        ] {
            assert!(said.say(phrase), "{phrase} in {said:?}");
        }
        for phrase in ["mail accepted", "exist .. user", "unauth", "5 7 1", "ail"] {
            assert!(!said.say(phrase), "{phrase} in {said:?}");
        }
    }

    #[test]
    fn what_a_reply_repeats_is_not_what_it_says() {
        let said =
            words(&["<relay@helo.example>: no, quota@spam.example; see https://spamhaus.org/ptr"]);
        for phrase in ["relay", "helo", "quota", "spam", "spamhaus", "ptr"] {
            assert!(!said.say(phrase), "{phrase} in {said:?}");
        }
        assert!(said.say("no see"), "{said:?}");
        let said = words(&[
            "4.4.3 (throttle.example): no such domain as rate-limit.example.",
            "Version 2.1 of too-many.connections.example, host [quota.example]",
        ]);
        for phrase in ["throttl*", "rate limit", "too many", "quota"] {
            assert!(!said.say(phrase), "{phrase} in {said:?}");
        }
        assert!(
            said.say("no such domain as version 2 1 of host"),
            "{said:?}"
        );
    }
}
