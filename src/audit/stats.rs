//! Statistics of links and bytes for each day, bucket and recipient.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::find::{LinkQuery, find};
use super::source::LogSource;

/// The key of a count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
pub struct StatsGroup {
    /// The UTC day.
    pub day: String,
    /// The bucket.
    pub bucket: String,
    /// The recipient's id.
    pub rid: String,
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct LinkCount {
    /// The recipient's address, if the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Links to objects, pages, lists and renditions.
    pub links: u64,
    /// The bytes of their objects, where known.
    pub bytes: u64,
}

/// A line about a link.
#[derive(Deserialize)]
struct IssuedFields {
    #[serde(default)]
    link_id: Option<String>,
    ts: String,
    #[serde(default)]
    bucket: String,
    #[serde(default)]
    rid: String,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    size: u64,
    /// The number of links, in a line about several.
    #[serde(default = "one")]
    count: u64,
}

const fn one() -> u64 {
    1
}

/// The counts of all groups.
pub type StatsCounts = BTreeMap<StatsGroup, LinkCount>;

/// Adds the links in the lines of a log that match the query to the counts; returns the number of segments that the log has.
///
/// # Errors
/// The log cannot be read, or has a line that is none.
pub fn add_stats(
    counts: &mut StatsCounts,
    source: &LogSource,
    question: &LinkQuery,
) -> io::Result<usize> {
    find(source, question, |line| {
        let issued: IssuedFields = serde_json::from_str(line)?;
        if issued.link_id.is_none() {
            return Ok(());
        }
        let day = issued.ts.get(..10).unwrap_or_default().to_owned();
        let group = StatsGroup {
            day,
            bucket: issued.bucket,
            rid: issued.rid,
        };
        let count = counts.entry(group).or_default();
        count.to = issued.to;
        count.links = count.links.saturating_add(issued.count);
        count.bytes = count.bytes.saturating_add(issued.size);
        Ok(())
    })
}
