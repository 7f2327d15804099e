//! Environment variables that override the file: `HANDOUT_QUEUE__URL` sets `url` of `[queue]`.
//!
//! A value may be a secret in the wrong variable, so that no error repeats one.

use std::collections::BTreeMap;

use std::net::IpAddr;

use toml::{Table, Value};

use super::Config;
use crate::environment::Environment;
use crate::text::{nearest, without_value};

/// The prefix of variables that override the file.
const PREFIX: &str = "HANDOUT_";

/// The only variable with the prefix that is not a key of the file: the log filter.
pub(crate) const LOG: &str = "HANDOUT_LOG";

/// The variable that names the state directory.
pub(super) const STATE_DIR: &str = "HANDOUT_STATE_DIR";

/// The beginning of the value of a key that names a file with a secret, where a variable has the secret itself.
pub(super) const SECRET_IN_VARIABLE: &str = "env:";

/// The keys of files with secrets that are below no array. Without `_file`, a variable has the secret itself.
const SECRET_FILES: [&str; 9] = [
    "secret_key_file",
    "secret_access_key_file",
    "session_token_file",
    "private_key_file",
    "password_file",
    "token_file",
    "checkpoint_key_file",
    "secret_file",
    "tls_key_file",
];

/// The number of positions that are tried for a double underscore in a name with single ones.
const MAX_TRIED_PLACES: usize = 6;

/// Applies the variables to the table of the file, which is valid by itself.
pub(super) fn lay_over(mut table: Table, environment: &Environment) -> Result<Table, String> {
    let ours = |name: &&str| name.starts_with(PREFIX) && is_key(name);
    let unreadable = environment.unreadable().iter().map(String::as_str);
    if let Some(name) = unreadable.into_iter().find(ours) {
        return Err(format!("the variable {name} is not UTF-8"));
    }
    let variables = environment.iter();
    let variables: Vec<(&str, &str)> = variables
        .filter(|(name, value)| ours(name) && !is_of_a_service(name, value))
        .collect();
    let mut by_key = BTreeMap::new();
    for (name, _) in &variables {
        if let Some(other) = by_key.insert(key_of(name), *name) {
            return Err(format!(
                "the variables {other} and {name} are both set: set one of them"
            ));
        }
    }
    // The one would be lost below the other.
    for (key, name) in &by_key {
        let below = format!("{key}__");
        let other = by_key.iter().find(|(other, _)| other.starts_with(&below));
        if let Some((_, other)) = other {
            return Err(format!(
                "the variable {name} has a value, and {other} sets a key below it: set one of them"
            ));
        }
    }
    let file = table.clone();
    let variables = variables
        .into_iter()
        .map(|(name, value)| Variable::of(name, value, &file));
    let variables: Vec<Variable<'_>> = variables.collect();
    for variable in &variables {
        variable.set(&mut table);
    }
    match fault_of(&table) {
        None => Ok(table),
        Some(fault) => Err(explain(&file, &variables, &fault)),
    }
}

/// The names of the variables that override the file, and the path of the key that each sets, such as `queue.url`.
pub(super) fn origins(environment: &Environment) -> Vec<(String, String)> {
    let ours = environment.iter().filter(|(name, value)| {
        name.starts_with(PREFIX) && is_key(name) && !is_of_a_service(name, value)
    });
    ours.map(|(name, _)| (name.to_owned(), key_of(name).replace("__", ".")))
        .collect()
}

/// The path of a variable, such as `queue__url`.
fn path_of(name: &str) -> String {
    name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase()
}

/// The path of the key that a variable sets: a secret is in the place of its file.
fn key_of(name: &str) -> String {
    let mut path = path_of(name);
    if is_a_secret(&path) {
        path.push_str("_file");
    }
    path
}

/// Why a table is not a valid configuration. The sentence may have a value, and is for [`without_value`].
fn fault_of(table: &Table) -> Option<String> {
    let read = Value::Table(table.clone()).try_into::<Config>();
    read.err().map(|error| error.message().to_owned())
}

/// Reports which variable is wrong, and suggests a correction.
fn explain(file: &Table, variables: &[Variable<'_>], fault: &str) -> String {
    let with = |is_set: &dyn Fn(&Variable<'_>) -> bool| {
        let mut table = file.clone();
        for variable in variables.iter().filter(|variable| is_set(variable)) {
            variable.set(&mut table);
        }
        fault_of(&table)
    };
    let is_the_one = |one: &&Variable<'_>| with(&|other| other.name != one.name).is_none();
    let is_one = |one: &&Variable<'_>| with(&|other| other.name == one.name).is_some();
    let mut all = variables.iter();
    let wrong = all.clone().find(is_the_one).or_else(|| all.find(is_one));
    let Some(wrong) = wrong else {
        let fault = without_value(fault);
        return format!("with the variables {PREFIX}… over it: {fault}");
    };
    let fault = with(&|other| other.name == wrong.name).unwrap_or_else(|| fault.to_owned());
    let name = wrong.name;
    let no_key = |meant: &str| {
        format!("the variable {name} names no key of the configuration: did you mean {meant}")
    };
    if let Some(meant) = wrong.with_sections(file) {
        return no_key(&format!("{meant}, with two underscores after a section?"));
    }
    if wrong.is_section(&fault) {
        return format!(
            "the variable {name} names a section of the configuration, which has no value: set each of its keys by a variable of its own, such as {name}__KEY"
        );
    }
    match wrong.meant(&fault, file) {
        Some(meant) => no_key(&format!("{meant}?")),
        None if wrong.is_below_a_key(&fault) => {
            format!("the variable {name} names no key of the configuration")
        }
        None => format!("the variable {name}: {}", without_value(&fault)),
    }
}

/// A variable that sets a key.
struct Variable<'a> {
    name: &'a str,
    value: Value,
}

impl<'a> Variable<'a> {
    /// A variable whose text is read as the type of its key: `12345` is a text where a text belongs, and a number where a number does.
    fn of(name: &'a str, text: &str, file: &Table) -> Self {
        let variable = |value| Self { name, value };
        if is_a_secret(&path_of(name)) {
            return variable(Value::String(format!("{SECRET_IN_VARIABLE}{name}")));
        }
        let fault_of = |variable: &Self| {
            let mut table = file.clone();
            variable.set(&mut table);
            fault_of(&table)
        };
        let as_text = variable(Value::String(text.to_owned()));
        let (Some(fault), Some(literal)) = (fault_of(&as_text), literal(text)) else {
            return as_text;
        };
        let as_literal = variable(literal);
        if as_text.is_section(&fault) {
            // A table of free names can be given whole; the keys of a section are variables of their own.
            let is_of_free_names = fault.ends_with("expected a map")
                && as_literal.value.is_table()
                && fault_of(&as_literal).is_none();
            return if is_of_free_names {
                as_literal
            } else {
                as_text
            };
        }
        // Other keys may be missing beside it.
        let is_no_text = fault.starts_with("invalid type: string ");
        match is_no_text || fault_of(&as_literal).is_none() {
            true => as_literal,
            false => as_text,
        }
    }

    fn set(&self, table: &mut Table) {
        set(table, &key_of(self.name), self.value.clone());
    }

    /// Whether serde wants a table where the variable has a text.
    fn is_section(&self, fault: &str) -> bool {
        let wanted = fault.rsplit_once(", expected ");
        let wanted = wanted.map_or("", |(_, wanted)| wanted);
        self.value.is_str()
            && fault.starts_with("invalid type: string ")
            && (wanted == "a map" || wanted.starts_with("struct "))
    }

    /// Whether the unknown name in serde's sentence is a word of the variable.
    fn is_unknown(&self, fault: &str) -> bool {
        let path = key_of(self.name);
        let mut words = path.split("__");
        words.any(|word| fault.starts_with(&format!("unknown field `{word}`")))
    }

    /// Whether the variable has words behind a key, which is no section.
    fn is_below_a_key(&self, fault: &str) -> bool {
        fault.starts_with("invalid type: map") && !self.value.is_table()
    }

    /// The name that was meant, if there is a key of such a name.
    fn meant(&self, fault: &str, file: &Table) -> Option<String> {
        let corrected = match nearest(fault) {
            Some(right) if self.is_unknown(fault) => Some(self.spelled(fault, right)),
            _ => None,
        };
        // Or the key whose name has more words behind it.
        let shortened = self.is_below_a_key(fault).then(|| {
            let shorter = self.name.rsplit_once("__");
            shorter.map(|(shorter, _)| shorter.to_owned())
        });
        let meant = corrected.or(shortened.flatten())?;
        self.names_a_key(&meant, file).then_some(meant)
    }

    /// Whether a variable of this name would set a key.
    fn names_a_key(&self, name: &str, file: &Table) -> bool {
        let mut table = file.clone();
        let value = self.value.clone();
        let other = Variable { name, value };
        other.set(&mut table);
        fault_of(&table).is_none_or(|fault| {
            !(other.is_unknown(&fault) || other.is_below_a_key(&fault) || other.is_section(&fault))
        })
    }

    /// The name with its unknown word corrected.
    fn spelled(&self, fault: &str, right: &str) -> String {
        let path = self.name.strip_prefix(PREFIX).unwrap_or(self.name);
        let words = path.split("__").map(|word| {
            let unknown = |word: &str| fault.starts_with(&format!("unknown field `{word}`"));
            let lower = word.to_lowercase();
            match unknown(&lower) || unknown(&format!("{lower}_file")) {
                true => right.to_uppercase(),
                false => word.to_owned(),
            }
        });
        format!("{PREFIX}{}", words.collect::<Vec<_>>().join("__"))
    }

    /// The name with a double underscore in place of a single one, if that makes it a key.
    fn with_sections(&self, file: &Table) -> Option<String> {
        let path = self.name.strip_prefix(PREFIX)?;
        let single: Vec<usize> = path.match_indices('_').map(|(at, _)| at).collect();
        if path.contains("__") || single.len() > MAX_TRIED_PLACES {
            return None;
        }
        let doubled = |chosen: usize| {
            let mut name = PREFIX.to_owned();
            for (at, c) in path.char_indices() {
                let place = single.iter().position(|place| *place == at);
                name.push(c);
                if place.is_some_and(|place| chosen >> place & 1 == 1) {
                    name.push('_');
                }
            }
            name
        };
        (1..1 << single.len())
            .map(doubled)
            .find(|name| self.names_a_key(name, file))
    }
}

/// Whether a variable of this path has a secret in place of its file.
fn is_a_secret(path: &str) -> bool {
    let key = path.rsplit_once("__").map_or(path, |(_, key)| key);
    SECRET_FILES
        .iter()
        .any(|file| file.strip_suffix("_file") == Some(key))
}

/// Whether a variable overrides a key of the file.
fn is_key(name: &str) -> bool {
    #[cfg(debug_assertions)]
    if name == crate::failpoint::VARIABLE {
        return false;
    }
    name != LOG
}

/// Whether Kubernetes set the variable, for a Service named `handout` or `handout-…`.
///
/// Kubernetes describes every Service of a namespace to all containers there: `…_SERVICE_HOST`, `…_SERVICE_PORT`,
/// `…_SERVICE_PORT_<name>`, `…_PORT` and `…_PORT_<number>_<protocol>`, the last also with `_PROTO`, `_PORT` and `_ADDR`.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    let is_protocol = |text: &str| ["tcp", "udp", "sctp"].contains(&text);
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let is_url = |text: &str| {
        text.split_once("://")
            .is_some_and(|(scheme, _)| is_protocol(scheme))
    };
    if name.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    if name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return is_number(value);
    }
    let Some((_, of_port)) = name.rsplit_once("_PORT_") else {
        return name.ends_with("_PORT") && is_url(value);
    };
    let mut parts = of_port.split('_');
    let (number, protocol) = (parts.next(), parts.next());
    let is_port = number.is_some_and(is_number)
        && protocol.is_some_and(|protocol| is_protocol(&protocol.to_lowercase()));
    let is_told = match (parts.next(), parts.next()) {
        (None, None) => is_url(value),
        (Some("PROTO"), None) => is_protocol(value),
        (Some("PORT"), None) => is_number(value),
        (Some("ADDR"), None) => is_address(value),
        _ => false,
    };
    is_port && is_told
}

/// Sets `queue__url` to a value.
fn set(table: &mut Table, path: &str, value: Value) {
    let (sections, key) = match path.rsplit_once("__") {
        Some((sections, key)) => (sections.split("__").collect(), key),
        None => (Vec::new(), path),
    };
    let mut table = table;
    for section in sections {
        let entry = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(inner) = entry else { return };
        table = inner;
    }
    table.insert(key.to_owned(), value);
}

/// A text that is spelled like a number, a boolean or an array.
fn literal(text: &str) -> Option<Value> {
    let number = text.parse::<i64>().ok().map(Value::Integer);
    let truth = text.parse::<bool>().ok().map(Value::Boolean);
    let list = || {
        toml::from_str::<Table>(&format!("v = {text}"))
            .ok()?
            .remove("v")
            .filter(|value| value.is_array() || value.is_table())
    };
    number.or(truth).or_else(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn with<const N: usize>(variables: [(&str, &str); N]) -> Result<Config, String> {
        Config::parse("", &Environment::of(variables))
    }

    #[test]
    fn a_table_of_free_names_is_given_whole() {
        let table = r#"{ X-SES-CONFIGURATION-SET = "reports", X-Team = "billing" }"#;
        let config = with([
            ("HANDOUT_MAIL__SMTP__HEADERS", table),
            ("HANDOUT_MAIL__DOMAIN_RATES", r#"{ "gmail.com" = "20/s" }"#),
            (
                "HANDOUT_PUBLISH__BASE_URLS",
                r#"{ acme-pages = "https://pages.acme.example" }"#,
            ),
        ])
        .unwrap();
        assert_eq!(config.mail.smtp.headers.len(), 2);
        assert_eq!(config.mail.domain_rates.len(), 1);
        assert_eq!(config.publish.base_urls.len(), 1);
        for (name, value) in [
            ("HANDOUT_MAIL__SMTP__HEADERS", "X-Team: billing"),
            ("HANDOUT_MAIL__SMTP", r#"{ host = "relay.acme.example" }"#),
        ] {
            let refused = with([(name, value)]).unwrap_err();
            assert!(refused.contains("names a section"), "{refused}");
        }
    }

    #[test]
    fn the_environment_stands_over_the_file() {
        let environment = Environment::of([
            ("HANDOUT_QUEUE__URL", "https://sqs.example/1/jobs"),
            ("HANDOUT_QUEUE__MAX_IN_FLIGHT", "3"),
            ("HANDOUT_STATE_DIR", "/tmp/state"),
            ("HANDOUT_MAIL__SMTP__HOST", "relay.example"),
            ("HANDOUT_LOG", "debug"),
            ("OTHER", "x"),
        ]);
        let config =
            Config::parse("[queue]\nkind = \"sqs\"\nmax_in_flight = 2\n", &environment).unwrap();
        assert_eq!(
            config.queue.url.as_deref(),
            Some("https://sqs.example/1/jobs")
        );
        assert_eq!(config.queue.max_in_flight, 3);
        assert_eq!(config.state_dir, Path::new("/tmp/state"));
        assert_eq!(config.mail.smtp.host, "relay.example");
    }

    #[test]
    fn an_empty_variable_changes_nothing() {
        let config = with([
            ("HANDOUT_SECRET_KEY_FILE", ""),
            ("HANDOUT_MAIL__TIME_ZONE", ""),
            ("HANDOUT_QUEUE__MAX_IN_FLIGHT", " "),
            ("HANDOUT_NONSENSE", ""),
        ]);
        assert_eq!(config, with([]));
    }

    #[test]
    fn what_kubernetes_says_about_a_service_called_handout_is_no_setting() {
        let config = with([
            ("HANDOUT_SERVICE_HOST", "10.0.0.1"),
            ("HANDOUT_SERVICE_PORT", "9464"),
            ("HANDOUT_SERVICE_PORT_METRICS", "9464"),
            ("HANDOUT_SERVICE_PORT_S3_HTTP", "9470"),
            ("HANDOUT_PORT", "tcp://10.0.0.1:9464"),
            ("HANDOUT_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
            ("HANDOUT_PORT_9464_TCP_PROTO", "tcp"),
            ("HANDOUT_PORT_9464_TCP_PORT", "9464"),
            ("HANDOUT_PORT_9464_TCP_ADDR", "10.0.0.1"),
            ("HANDOUT_PORT_53_UDP", "udp://[fd00::1]:53"),
            ("HANDOUT_PORT_53_UDP_ADDR", "fd00::1"),
            ("HANDOUT_METRICS_SERVICE_HOST", "10.0.0.2"),
            ("HANDOUT_METRICS_PORT", "tcp://10.0.0.2:9464"),
            ("HANDOUT_S3_PORT_9470_TCP_ADDR", "10.0.0.2"),
        ]);
        assert_eq!(config, with([]));
        let set = with([("HANDOUT_MAIL__SMTP__PORT", "25")]).unwrap();
        assert_eq!(set.mail.smtp.port, 25);
    }

    #[test]
    fn a_variable_that_is_no_key_is_named_with_what_was_meant() {
        let said = |variables| with::<1>(variables).unwrap_err();
        let table = [
            said([("HANDOUT_QUEUE__ULR", "x")]),
            said([("HANDOUT_QEUE__URL", "x")]),
            said([("HANDOUT_NONSENSE", "x")]),
            said([("HANDOUT_PORT", "9464")]),
            said([("HANDOUT_SERVICE_HOST", "handout.example")]),
            said([("HANDOUT_PORT_9464_TCP_STATE", "up")]),
            said([("HANDOUT_HTTP_LISTEN", "127.0.0.1:1")]),
            said([("HANDOUT_MAIL_SMTP_PASSWORD_FILE", "/run/password")]),
            said([("HANDOUT_QUEUE__MAX_IN_FLIGHT", "many")]),
            said([("HANDOUT_SECRET_KEY__X", "x")]),
            said([("HANDOUT_SECRET_KEY_FILE__X", "x")]),
            said([("HANDOUT_QUEUE__URL__X", "x")]),
            said([("HANDOUT_PORTAL__OIDC", "[{ isuer = \"x\" }]")]),
            said([("HANDOUT_QUEUE__KIND", "sqss")]),
            said([("HANDOUT_MAIL__SMTP__TSL", "none")]),
            with([("HANDOUT_MAIL", "x"), ("HANDOUT_MAIL__FROM", "a@b.example")]).unwrap_err(),
            with([
                ("HANDOUT_QUEUE__URL", "https://sqs.example/1/jobs"),
                ("HANDOUT_queue__url", "https://sqs.example/1/other"),
            ])
            .unwrap_err(),
            with([
                ("HANDOUT_QUEUE__KIND", "sqs"),
                ("HANDOUT_MAIL__FORM", "a@b.example"),
            ])
            .unwrap_err(),
        ];
        let short = table.map(|said| match said.split_once(", expected one of") {
            Some((what, rest)) => match rest.split_once(';') {
                Some((_, meant)) => format!("{what}, expected one of …;{meant}"),
                None => format!("{what}, …"),
            },
            None => said,
        });
        insta::assert_snapshot!(short.join("\n"), @r#"
        the variable HANDOUT_QUEUE__ULR names no key of the configuration: did you mean HANDOUT_QUEUE__URL?
        the variable HANDOUT_QEUE__URL names no key of the configuration: did you mean HANDOUT_QUEUE__URL?
        the variable HANDOUT_NONSENSE: unknown field `nonsense`, …
        the variable HANDOUT_PORT: unknown field `port`, expected one of …; did you mean portal?
        the variable HANDOUT_SERVICE_HOST: unknown field `service_host`, …
        the variable HANDOUT_PORT_9464_TCP_STATE: unknown field `port_9464_tcp_state`, …
        the variable HANDOUT_HTTP_LISTEN names no key of the configuration: did you mean HANDOUT_HTTP__LISTEN, with two underscores after a section?
        the variable HANDOUT_MAIL_SMTP_PASSWORD_FILE names no key of the configuration: did you mean HANDOUT_MAIL__SMTP__PASSWORD_FILE, with two underscores after a section?
        the variable HANDOUT_QUEUE__MAX_IN_FLIGHT: invalid type: string, expected a whole number, not below 0
        the variable HANDOUT_SECRET_KEY__X: unknown field `secret_key`, expected one of …; did you mean secret_key_file?
        the variable HANDOUT_SECRET_KEY_FILE__X names no key of the configuration: did you mean HANDOUT_SECRET_KEY_FILE?
        the variable HANDOUT_QUEUE__URL__X names no key of the configuration: did you mean HANDOUT_QUEUE__URL?
        the variable HANDOUT_PORTAL__OIDC: unknown field `isuer`, expected one of …; did you mean issuer?
        the variable HANDOUT_QUEUE__KIND: unknown variant, expected `sqlite` or `sqs`; did you mean sqs?
        the variable HANDOUT_MAIL__SMTP__TSL names no key of the configuration: did you mean HANDOUT_MAIL__SMTP__TLS?
        the variable HANDOUT_MAIL has a value, and HANDOUT_MAIL__FROM sets a key below it: set one of them
        the variables HANDOUT_QUEUE__URL and HANDOUT_queue__url are both set: set one of them
        the variable HANDOUT_MAIL__FORM names no key of the configuration: did you mean HANDOUT_MAIL__FROM?
        "#);
    }

    /// What is set wrong may be a secret, also where it looks like something else.
    #[test]
    fn no_error_repeats_a_value() {
        let secrets = [
            "hunter2SECRET9",
            "{ from = \"hunter2SECRET9\" }",
            "[\"hunter2SECRET9\"]",
            "[{ hunter = \"hunter2SECRET9\" }]",
            "hunter2SECRET9, expected a map",
            "\"hunter2SECRET9\" is not a duration",
        ];
        let names = [
            "HANDOUT_MAIL",
            "HANDOUT_MAIL__SMTP",
            "HANDOUT_RESULTS",
            "HANDOUT_CONNECTIONS",
            "HANDOUT_CONNECTIONS__A",
            "HANDOUT_PORTAL__OIDC",
            "HANDOUT_ALLOW",
            "HANDOUT_QUEUE__KIND",
            "HANDOUT_QUEUE__MAX_IN_FLIGHT",
            "HANDOUT_AUDIT__KEEP",
            "HANDOUT_AUDIT__ROTATE_SIZE",
            "HANDOUT_MAIL__JOB_RATE",
            "HANDOUT_MAIL__SMTP__TLS",
            "HANDOUT_HTTP__LISTEN",
            "HANDOUT_QUEUE__URL__X",
            "HANDOUT_PASWORD",
        ];
        for name in names {
            for secret in secrets {
                let said = with([(name, secret)]).unwrap_err();
                assert!(!said.contains("SECRET9"), "{name}: {said}");
                assert!(said.contains(name), "{name}: {said}");
                let key = path_of(name).replace("__", ".");
                let quoted = secret.replace('"', "\\\"");
                for line in [format!("{key} = {secret}"), format!("{key} = \"{quoted}\"")] {
                    let said = Config::parse(&line, &Environment::default());
                    let said = said.map_or_else(|error| error, |_| String::new());
                    assert!(!said.contains("SECRET9"), "{line}: {said}");
                }
            }
        }
        let said = with([("HANDOUT_MAIL", "hunter2")]).unwrap_err();
        assert_eq!(
            said,
            "the variable HANDOUT_MAIL names a section of the configuration, which has no value: set each of its keys by a variable of its own, such as HANDOUT_MAIL__KEY"
        );
    }

    #[test]
    fn the_type_of_a_key_decides_how_its_variable_is_read() {
        for text in [
            "12345",
            "007",
            "1e5",
            "true",
            "2026-11-30",
            "[\"a\"]",
            "{ a = 1 }",
            "-1",
            "\"a\"",
        ] {
            let config = with([
                ("HANDOUT_MAIL__SMTP__USERNAME", text),
                ("HANDOUT_CONNECTIONS__A__ACCESS_KEY_ID", text),
                (
                    "HANDOUT_CONNECTIONS__A__CLOUDFRONT__DOMAIN",
                    "d1.cloudfront.net",
                ),
                ("HANDOUT_CONNECTIONS__A__CLOUDFRONT__KEY_PAIR_ID", text),
                ("HANDOUT_CONNECTIONS__A__CLOUDFRONT__PRIVATE_KEY", text),
            ])
            .unwrap();
            assert_eq!(config.mail.smtp.username.as_deref(), Some(text));
            let connection = &config.connections["a"];
            assert_eq!(connection.access_key_id.as_deref(), Some(text));
            let cloudfront = connection.cloudfront.as_ref().unwrap();
            assert_eq!(cloudfront.key_pair_id, text);
        }
        let config = with([
            ("HANDOUT_QUEUE__MAX_IN_FLIGHT", "08"),
            ("HANDOUT_QUEUE__VISIBILITY_TIMEOUT", "90"),
            ("HANDOUT_QUEUE__GRACE_PERIOD", "2m"),
            ("HANDOUT_AUDIT__COMPRESS", "true"),
            ("HANDOUT_QUEUE__PAYLOAD_BUCKETS", "[\"a\", \"b\"]"),
            ("HANDOUT_CONNECTIONS__A__CLOUDFRONT__WILDCARD", "true"),
            (
                "HANDOUT_CONNECTIONS__A__CLOUDFRONT__DOMAIN",
                "d1.cloudfront.net",
            ),
            ("HANDOUT_CONNECTIONS__A__CLOUDFRONT__KEY_PAIR_ID", "K1"),
            ("HANDOUT_CONNECTIONS__A__CLOUDFRONT__PRIVATE_KEY", "key"),
        ])
        .unwrap();
        assert_eq!(config.queue.max_in_flight, 8);
        assert_eq!(config.queue.visibility_timeout.as_secs(), 90);
        assert_eq!(config.queue.grace_period.as_secs(), 120);
        assert!(config.audit.compress);
        assert_eq!(config.queue.payload_buckets, ["a", "b"]);
        let cloudfront = config.connections["a"].cloudfront.as_ref().unwrap();
        assert!(cloudfront.wildcard);
    }
}
