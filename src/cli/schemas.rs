//! The JSON Schemas of what commands print with `--json`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::exit::CommandError;
use super::{
    access, audit, check, config, explain, feedback, health, job, ledger, opens, revoke, schedule,
    suppression,
};

/// What a command prints with `--json`, and its schema.
pub(super) struct OutputSchema {
    /// The name that `handout schema --of` takes.
    pub(super) name: &'static str,
    pub(super) schema: Schema,
}

impl OutputSchema {
    /// The schema of a type, as `command` prints it.
    pub(super) fn of<T: JsonSchema>(name: &'static str, command: &'static str) -> Self {
        let settings = SchemaSettings::default().for_serialize();
        let mut schema = settings.into_generator().into_root_schema_for::<T>();
        schema.insert("title".to_owned(), format!("{command} --json").into());
        Self { name, schema }
    }
}

/// All of them, in the order of the commands.
pub(super) fn all() -> Vec<OutputSchema> {
    [
        check::outputs(),
        config::outputs(),
        health::outputs(),
        job::outputs(),
        schedule::outputs(),
        suppression::outputs(),
        feedback::outputs(),
        explain::outputs(),
        revoke::outputs(),
        opens::outputs(),
        access::outputs(),
        audit::outputs(),
        ledger::outputs(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The schema of a name.
pub(super) fn named(name: &str) -> Result<Schema, CommandError> {
    let outputs = all();
    let known: Vec<&str> = outputs.iter().map(|output| output.name).collect();
    let known = known.join(", ");
    let found = outputs.into_iter().find(|output| output.name == name);
    let found = found.map(|output| output.schema);
    found.ok_or_else(|| {
        CommandError::Usage(format!(
            "--of {name} names no output of a command; known: {known}"
        ))
    })
}
