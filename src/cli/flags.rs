//! Holds the names of all options against one table, so that an option has one name and one kind of value in all commands.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};

use super::Cli;

/// The name of each long option, the name of its value, and what it is for. An option without a value has an empty name.
const TABLE: &[(&str, &str, &str)] = &[
    ("after", "MESSAGE", "the id after which a list begins"),
    ("all", "", "what is usually left out"),
    ("apply", "", "changes stores, too"),
    (
        "archive",
        "s3://BUCKET/PREFIX|DIR",
        "the archive of the audit log",
    ),
    ("asked-by", "NAME", "who asks for a change"),
    ("at", "TIME", "the instant of an occurrence"),
    ("audit", "DIR", "an audit log; of `schema`, its lines"),
    ("by", "SPAN", "how much later than now"),
    ("changed", "", "without the defaults"),
    ("config", "FILE", "the configuration"),
    ("connection", "NAME", "a connection of the configuration"),
    ("content-type", "TYPE", "a media type"),
    ("csv", "", "a table for a spreadsheet"),
    ("doubts", "", "only mails in doubt"),
    ("dry-run", "", "changes nothing"),
    ("endpoint-url", "URL", "an S3 server"),
    ("exclude", "PATTERN", "objects to leave out"),
    ("expires-in", "SPAN", "the lifetime of links"),
    (
        "expiry-guard",
        "refuse|clamp|ignore",
        "what the end of credentials does",
    ),
    ("failed", "", "recipients that a job did not reach"),
    ("filename", "TEXT", "the name of a download"),
    ("find-region", "", "asks S3 for the region"),
    ("follow", "", "goes on until it is stopped"),
    ("force", "", "overwrites files"),
    ("from-network", "NETWORK", "where links work"),
    ("html", "", "an HTML report"),
    ("include", "PATTERN", "objects to take"),
    ("inline", "", "shown by browsers"),
    ("job", "JOB", "the id of a job"),
    ("json", "", "the result as JSON, or as JSON Lines"),
    ("keys-from", "FILE|-", "keys, one a line"),
    ("larger", "", "tags although a smaller means exists"),
    ("limit", "N", "how many at most"),
    ("lines", "N", "how many of the last lines"),
    ("link-id", "ID", "the id of a link"),
    ("list", "ID", "the id of a mailing list"),
    ("live", "", "alive, not ready"),
    ("mails", "N", "how many mails are rendered or rehearsed"),
    ("no-audit", "", "without the audit log"),
    ("no-check", "", "without the check of the job"),
    ("not-before", "TIME", "when links begin to work"),
    ("object", "s3://BUCKET/KEY", "an object"),
    ("older-than", "SPAN", "a minimum age"),
    ("of", "NAME", "the output of a command"),
    ("once", "", "checks and exits"),
    ("only", "FILE", "one of several files"),
    ("out", "DIR", "where files are written"),
    ("path-style", "", "the bucket in the path"),
    ("paths", "", "only the paths of written files"),
    ("policy", "", "a whole policy"),
    ("probe-for", "SPAN", "how long a link is tested"),
    ("profile", "NAME", "a profile of AWS"),
    ("prune", "", "deletes what is old"),
    ("public-endpoint-url", "URL", "the server that links name"),
    ("public-key", "KEY|FILE", "the key of an audit log"),
    ("queue", "URL", "a queue of events"),
    ("reason", "TEXT", "why, for the record"),
    ("recipient", "ADDRESS", "for whom a link is made"),
    ("recipient", "ADDRESS|ID", "a recipient's address, or id"),
    ("recursive", "", "all keys of a prefix"),
    ("region", "REGION", "the region of a bucket"),
    ("rehearse", "ADDRESS", "who gets all mails of a rehearsal"),
    ("requeue", "MESSAGE|all", "a message to put back"),
    ("rid", "ID", "a recipient's id"),
    (
        "rows",
        "LIST",
        "a list of recipients whose rows are checked",
    ),
    ("since", "TIME", "the earliest instant"),
    ("timeout", "SPAN", "how long an answer may take"),
    (
        "traceparent",
        "VALUE",
        "the trace that a message belongs to",
    ),
    ("until", "TIME", "an end"),
    ("url", "URL|-", "a link"),
    ("version-id", "ID", "a version of an object"),
    ("via", "s3|cloudfront", "the server of links"),
];

/// Collects the long options of a command and of those below it.
fn collect(command: &Command, found: &mut BTreeSet<(String, String)>) {
    for argument in command.get_arguments() {
        let takes_value = argument.get_action().takes_values();
        let values = argument.get_value_names().unwrap_or_default();
        let value = match (takes_value, values) {
            (false, _) => String::new(),
            (true, names) => names.iter().map(ToString::to_string).collect::<String>(),
        };
        let long = argument.get_long();
        if let Some(long) = long.filter(|long| !matches!(*long, "help" | "version")) {
            found.insert((long.to_owned(), value));
        }
    }
    command
        .get_subcommands()
        .for_each(|below| collect(below, found));
}

#[test]
fn an_option_has_one_name_and_one_kind_of_value_in_all_commands() {
    let mut command = Cli::command();
    command.build();
    let mut found = BTreeSet::new();
    collect(&command, &mut found);
    // Of `schema`, --audit names what is printed.
    found.remove(&("audit".to_owned(), String::new()));
    let table = TABLE.iter().map(|(name, value, meaning)| {
        assert!(!meaning.is_empty(), "--{name} has no meaning");
        ((*name).to_owned(), (*value).to_owned())
    });
    let table: BTreeSet<_> = table.collect();
    let unknown: Vec<_> = found.difference(&table).collect();
    let unused: Vec<_> = table.difference(&found).collect();
    assert!(
        unknown.is_empty() && unused.is_empty(),
        "not in the table: {unknown:?}; in no command: {unused:?}"
    );
}

#[test]
fn the_names_of_earlier_versions_are_taken_and_not_shown() {
    use clap::Parser;
    for words in [
        &["revoke", "job", "x", "--why", "y"][..],
        &["extend", "x", "--by", "1d", "--why", "y"],
        &["presign", "s3://b/k", "--for", "ann@acme.example"],
        &["audit", "find", "--key", "s3://b/k"],
        &["opens", "--key", "s3://b/k"],
        &["schedule", "next", "daily", "--count", "3"],
        &["job", "preview", "job.json", "--open"],
        &["health", "--timeout", "5"],
        &["restore", "job", "x", "--probe-for", "5s"],
        &["revoke", "sessions", "ann@acme.example", "--apply"],
    ] {
        let line = std::iter::once("handout").chain(words.iter().copied());
        let parsed = Cli::try_parse_from(line);
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
    }
    let mut command = Cli::command();
    command.build();
    let restore = command.find_subcommand_mut("restore").unwrap();
    let help = restore.find_subcommand_mut("job").unwrap().render_help();
    assert!(!help.to_string().contains("--probe-for"), "{help}");
    let revoke = command.find_subcommand_mut("revoke").unwrap();
    let help = revoke
        .find_subcommand_mut("sessions")
        .unwrap()
        .render_help();
    assert!(!help.to_string().contains("--apply"), "{help}");
}
