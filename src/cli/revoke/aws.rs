//! Words of commands of the AWS CLI and jq, so that a shell and the program get each value as it is.

use handout::text::{is_printable, printable_json, shell_word};
use serde_json::{Map, Value};

/// The beginnings of values for whose content the AWS CLI takes a file or an address; version 2 does so with the first two.
/// <https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-parameters-file.html>
const READ_FROM: [&str; 4] = ["file://", "fileb://", "http://", "https://"];

/// An option with its value. The equals sign keeps a value that begins with `-` from being taken for an option.
///
/// The value is of the configuration or of AWS. A key of an object, which may be anything, goes through [`parameters`].
pub(super) fn option(name: &str, value: &str) -> String {
    format!("{name}={}", shell_word(value))
}

/// The parameters of a request, by the names that they have in its JSON, such as `VersionId`.
///
/// They are options such as `--version-id`. All are in one JSON document instead if the AWS CLI would read the content of one from
/// elsewhere, or if one has a character that cannot be printed.
pub(super) fn parameters(parameters: &[(&str, &str)]) -> String {
    let is_plain = |value: &str| {
        !READ_FROM.iter().any(|begin| value.starts_with(begin)) && value.chars().all(is_printable)
    };
    if parameters.iter().all(|(_, value)| is_plain(value)) {
        let options = parameters
            .iter()
            .map(|(name, value)| option(&option_name(name), value));
        return options.collect::<Vec<_>>().join(" ");
    }
    let members = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    // A word of its own: only so does the AWS CLI know that no option is missing.
    format!(
        "--cli-input-json {}",
        json_word(&members.collect::<Map<_, _>>().into())
    )
}

/// A value as one word of a shell, in JSON. Its characters are printable.
pub(super) fn json_word(value: &Value) -> String {
    shell_word(&printable_json(&value.to_string())).into_owned()
}

/// A text as a query (`JMESPath`) has it.
pub(super) fn query_literal(text: &str) -> String {
    // A literal is JSON between backticks.
    let json = Value::from(text).to_string().replace('`', "\\u0060");
    format!("`{}`", printable_json(&json))
}

/// `--version-id` of `VersionId`.
fn option_name(member: &str) -> String {
    let mut name = "-".to_owned();
    for c in member.chars() {
        if c.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use handout::text::printable_line;

    use super::*;

    /// The words that a shell makes of a text.
    fn words_of(shell: &str, text: &str) -> Vec<String> {
        let script = format!(r"printf '%s\0' {text}");
        let output = Command::new(shell).args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let printed = printed.strip_suffix('\0').unwrap();
        printed.split('\0').map(ToOwned::to_owned).collect()
    }

    /// What the AWS CLI takes for the key, and the version.
    fn read_by_the_cli(words: &[String]) -> (String, String) {
        if let [option, json] = words
            && option == "--cli-input-json"
        {
            let value: Value = serde_json::from_str(json).unwrap();
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            return (text("Key"), text("VersionId"));
        }
        let [key, version] = words else {
            panic!("{words:?}");
        };
        let value = |word: &String, option: &str| {
            let value = word.strip_prefix(option).unwrap().to_owned();
            let is_read = READ_FROM.iter().any(|begin| value.starts_with(begin));
            assert!(!is_read, "{word} is read from elsewhere");
            value
        };
        (value(key, "--key="), value(version, "--version-id="))
    }

    fn assert_is_kept(key: &str, version: &str) {
        let text = parameters(&[("Key", key), ("VersionId", version)]);
        assert_eq!(printable_line(&text), text, "the terminal changes nothing");
        for shell in ["/bin/sh", "/bin/bash"] {
            let words = words_of(shell, &text);
            assert_eq!(
                read_by_the_cli(&words),
                (key.to_owned(), version.to_owned()),
                "{shell}: {text}"
            );
        }
    }

    #[test]
    fn each_hostile_key_is_what_the_program_gets() {
        for key in [
            "-rf",
            "--version-id=x",
            "file:///etc/passwd",
            "fileb://a",
            "https://acme.example/a",
            "file:/a",
            "it's $(rm) \"x\" `y`",
            "a\nb",
            "a\r\n\tb",
            "\0",
            "\u{1b}[31m",
            "rtl\u{202e}gpj.exe",
            "\\'\\",
            "!!",
            "~",
            "*",
            "a b",
            "",
            "=ls",
            "{a,b}",
            "Größe.pdf",
        ] {
            assert_is_kept(key, "v1");
        }
        assert_is_kept("a.pdf", "file://v");
        insta::assert_snapshot!(
            parameters(&[("Bucket", "b"), ("Key", "2026/a.pdf"), ("VersionId", "-v")]),
            @"--bucket=b --key=2026/a.pdf --version-id=-v"
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn any_key_is_what_the_program_gets(
            key in r#"(-|file://|fileb://|https://)?([-'"$`\\!*?~{}()<>|&;#= \t\n\x00\x1b\u{202e}a/é]|.){0,12}"#,
            version in r"[-A-Za-z0-9._]{1,8}",
        ) {
            assert_is_kept(&key, &version);
        }
    }

    #[test]
    fn json_and_queries_keep_their_texts() {
        let value = Value::from("it's\u{202e}\n${*}`");
        let words = words_of("/bin/sh", &json_word(&value));
        assert_eq!(serde_json::from_str::<Value>(&words[0]).unwrap(), value);
        assert_eq!(query_literal("K1"), r#"`"K1"`"#);
        assert_eq!(query_literal("`'\""), r#"`"\u0060'\""`"#);
    }
}
