//! What the audit log says of tagged objects: which revocations stand.

use std::collections::{BTreeMap, BTreeSet};

use handout::audit::find::LinkQuery;
use handout::config::Config;
use memchr::memmem::Finder;
use serde::Deserialize;

use super::residue::each_line;

/// An object with the tag, or one that is to get it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaggedObject {
    pub(super) connection: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) version: Option<String>,
}

/// What a revocation was about, as its lines have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub(super) struct TagTarget {
    pub(super) what: String,
    pub(super) job: Option<String>,
    pub(super) rid: Option<String>,
    pub(super) link_id: Option<String>,
}

#[derive(Deserialize)]
struct TagLine {
    ev: String,
    connection: String,
    bucket: String,
    key: String,
    version: Option<String>,
    #[serde(flatten)]
    target: TagTarget,
}

/// The revocations of each object that have a line and were not taken back.
#[derive(Debug, Default)]
pub(super) struct TagBook {
    standing: BTreeMap<TaggedObject, BTreeSet<TagTarget>>,
}

impl TagBook {
    /// Reads this machine's audit log.
    pub(super) fn read(config: &Config) -> anyhow::Result<Self> {
        let mut book = Self::default();
        let field = Finder::new(",\"means\":\"tag\",");
        each_line(config, &LinkQuery::default(), |line| {
            if field.find(line.as_bytes()).is_some() {
                book.add(line);
            }
        })?;
        Ok(book)
    }

    fn add(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<TagLine>(line) else {
            return;
        };
        let object = TaggedObject {
            connection: line.connection,
            bucket: line.bucket,
            key: line.key,
            version: line.version,
        };
        let targets = self.standing.entry(object).or_default();
        if line.ev == "revoked" {
            targets.insert(line.target);
        } else if line.ev == "restored" {
            targets.remove(&line.target);
        }
    }

    /// Whether a revocation of an object has its line.
    pub(super) fn has(&self, object: &TaggedObject, target: &TagTarget) -> bool {
        let targets = self.standing.get(object);
        targets.is_some_and(|targets| targets.contains(target))
    }

    /// The objects of a revocation, each with whether others revoke it too.
    pub(super) fn objects_of(&self, target: &TagTarget) -> Vec<(TaggedObject, bool)> {
        let all = self.standing.iter();
        let of = all.filter(|(_, targets)| targets.contains(target));
        of.map(|(object, targets)| (object.clone(), targets.len() > 1))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_stands_until_it_is_taken_back_and_others_of_the_object_stay() {
        let line = |event: &str, target: &str| {
            format!(
                r#"{{"v":2,"ev":"{event}","seq":1,{target},"bucket":"b","key":"a.pdf","means":"tag","connection":"c","by":"ann"}}"#
            )
        };
        let mut book = TagBook::default();
        let of_job = r#""what":"job","job":"daily""#;
        book.add(&line("revoked", of_job));
        book.add(&line("revoked", r#""what":"object""#));
        book.add("?");
        let object = TaggedObject {
            connection: "c".to_owned(),
            bucket: "b".to_owned(),
            key: "a.pdf".to_owned(),
            version: None,
        };
        let target = |what: &str, job: Option<&str>| TagTarget {
            what: what.to_owned(),
            job: job.map(ToOwned::to_owned),
            ..TagTarget::default()
        };
        let (job, own) = (target("job", Some("daily")), target("object", None));
        assert!(book.has(&object, &job) && book.has(&object, &own));
        assert_eq!(book.objects_of(&job), [(object.clone(), true)]);
        book.add(&line("restored", of_job));
        assert!(!book.has(&object, &job));
        assert_eq!(book.objects_of(&own), [(object, false)]);
        assert!(book.objects_of(&job).is_empty());
    }
}
