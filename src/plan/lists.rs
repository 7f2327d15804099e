//! Lists of recipients, as the configuration names them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Refusal;
use crate::edge::EdgeError;
use crate::job::list::{BadRow, ListFormat};
use crate::job::{Bucket, ConnectionName, Key, ListName};

/// A list of recipients.
#[derive(Debug, Clone)]
pub struct RecipientList {
    /// The name that jobs use.
    pub name: ListName,
    /// Where its rows are.
    pub source: ListSource,
    /// Their form.
    pub format: ListFormat,
    /// What to do about a row that is no recipient.
    pub on_bad_row: OnBadRow,
}

/// Where the rows of a list are.
#[derive(Debug, Clone)]
pub enum ListSource {
    /// In an object of a bucket.
    Object {
        /// The connection that reads it.
        connection: ConnectionName,
        /// The bucket.
        bucket: Bucket,
        /// Its key.
        key: Key,
    },
    /// In a file of this machine.
    File(PathBuf),
    /// In the configuration.
    Entries(Arc<[Value]>),
}

/// What to do about a row that is no recipient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRow {
    /// Reject the job: no mail is sent.
    #[default]
    #[serde(rename = "refuse", alias = "stop")]
    Stop,
    /// Leave the row out, and name it in the result.
    Skip,
}

/// Why the recipients of a list are not known.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The rules do not allow the list.
    #[error(transparent)]
    Refused(Refusal),
    /// The configuration has no such list.
    #[error("unknown list {list} in the job's field email.to.list: add a [[list]] with this name")]
    Unknown {
        /// The list.
        list: ListName,
    },
    /// The object could not be read.
    #[error("could not read the list {list}")]
    Store {
        /// The list.
        list: ListName,
        /// The error of the store.
        source: EdgeError,
    },
    /// The file could not be read, or not be copied.
    #[error("could not read the list {list}")]
    File {
        /// The list.
        list: ListName,
        /// What the file system said.
        source: io::Error,
    },
    /// A row is no recipient, and the list says that the job stops then.
    #[error(
        "the list {list} has a row that is no recipient (on_bad_row = \"refuse\"), and no mail was sent: {row}"
    )]
    Row {
        /// The list.
        list: ListName,
        /// The row.
        row: BadRow,
    },
    /// The list as a whole is wrong.
    #[error("the list {list} {reason}")]
    Whole {
        /// The list.
        list: ListName,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}
