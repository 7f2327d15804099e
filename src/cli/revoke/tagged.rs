//! What the audit log says of tagged objects: which revocations stand.

use std::collections::{BTreeMap, BTreeSet};

use handout::audit::find::LinkQuery;
use memchr::memmem::Finder;
use serde::Deserialize;

use super::read_log::ReadLog;

/// What the lines of a revocation of an object are about.
pub(super) const OF_OBJECT: &str = "object";

/// What the lines of a revocation of one link are about.
pub(super) const OF_LINK: &str = "link";

/// An object with the tag, or one that is to get it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaggedObject {
    pub(super) connection: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) version: Option<String>,
}

impl TaggedObject {
    /// Whether another may be the same object. A link without a version opens the current one, which can be any.
    fn may_be(&self, other: &Self) -> bool {
        let is_same_version =
            self.version == other.version || self.version.is_none() || other.version.is_none();
        (&self.bucket, &self.key) == (&other.bucket, &other.key) && is_same_version
    }
}

/// What a revocation was about, as its lines have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub(super) struct TagTarget {
    pub(super) what: String,
    pub(super) job: Option<String>,
    pub(super) rid: Option<String>,
    pub(super) link_id: Option<String>,
    /// The bucket and the key, of a revocation of an object.
    #[serde(skip)]
    pub(super) object: Option<(String, String)>,
}

#[derive(Deserialize)]
struct TagLine {
    ev: String,
    /// The instant, whose text sorts in the order of time.
    #[serde(default)]
    ts: String,
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
    pub(super) fn read(log: &ReadLog) -> anyhow::Result<Self> {
        let mut lines: Vec<TagLine> = Vec::new();
        let field = Finder::new(",\"means\":\"tag\",");
        log.each_line(&LinkQuery::default(), |line| {
            if field.find(line.as_bytes()).is_some() {
                lines.extend(serde_json::from_str(line));
            }
        })?;
        Ok(Self::of_lines(lines))
    }

    /// Each command has a stream of its own, and streams are read in the order of their names: the instants of the lines decide.
    fn of_lines(mut lines: Vec<TagLine>) -> Self {
        lines.sort_by(|a, b| a.ts.cmp(&b.ts));
        let mut book = Self::default();
        lines.into_iter().for_each(|line| book.add(line));
        book
    }

    fn add(&mut self, mut line: TagLine) {
        if line.target.what == OF_OBJECT {
            line.target.object = Some((line.bucket.clone(), line.key.clone()));
        } else if line.target.what == OF_LINK {
            // Its id says which link is meant. Lines of earlier versions have nothing else of it.
            (line.target.job, line.target.rid) = (None, None);
        }
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
        of.map(|(object, _)| (object.clone(), self.is_of_others(object, target)))
            .collect()
    }

    /// The other forms of an object that got the tag by revocations that were taken back while this one stood: with the last of
    /// them, the tag goes from each.
    pub(super) fn left_with(&self, object: &TaggedObject) -> Vec<TaggedObject> {
        let all = self.standing.iter();
        let left = all.filter(|(other, targets)| {
            targets.is_empty() && *other != object && other.may_be(object)
        });
        left.map(|(other, _)| other.clone()).collect()
    }

    /// Whether another revocation stands of what may be the same object, by any connection and version.
    fn is_of_others(&self, object: &TaggedObject, target: &TagTarget) -> bool {
        let mut all = self.standing.iter();
        all.any(|(other, targets)| {
            other.may_be(object) && targets.iter().any(|other| other != target)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl TagBook {
        fn add_text(&mut self, line: &str) {
            serde_json::from_str(line)
                .into_iter()
                .for_each(|line| self.add(line));
        }
    }

    #[test]
    fn lines_of_several_streams_count_in_the_order_of_their_instants() {
        let line = |event: &str, second: u32| -> TagLine {
            serde_json::from_str(&format!(
                r#"{{"ev":"{event}","ts":"2026-11-29T12:00:{second:02}.000Z","what":"job","job":"daily","bucket":"b","key":"k","connection":"c"}}"#
            ))
            .unwrap()
        };
        let target = TagTarget {
            what: "job".to_owned(),
            job: Some("daily".to_owned()),
            ..TagTarget::default()
        };
        for (lines, stands) in [
            (vec![line("restored", 2), line("revoked", 1)], false),
            (
                vec![line("revoked", 3), line("revoked", 1), line("restored", 2)],
                true,
            ),
        ] {
            let book = TagBook::of_lines(lines);
            assert_eq!(book.has(&tagged("c", "k", None), &target), stands);
        }
    }

    #[test]
    fn a_revocation_stands_until_it_is_taken_back_and_others_of_the_object_stay() {
        let line = |event: &str, target: &str| {
            format!(
                r#"{{"v":2,"ev":"{event}","seq":1,{target},"bucket":"b","key":"a.pdf","means":"tag","connection":"c","by":"ann"}}"#
            )
        };
        let mut book = TagBook::default();
        let of_job = r#""what":"job","job":"daily""#;
        book.add_text(&line("revoked", of_job));
        book.add_text(&line("revoked", r#""what":"object""#));
        book.add_text("?");
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
        let own = TagTarget {
            object: Some(("b".to_owned(), "a.pdf".to_owned())),
            ..target("object", None)
        };
        let job = target("job", Some("daily"));
        assert!(book.has(&object, &job) && book.has(&object, &own));
        assert_eq!(book.objects_of(&job), [(object.clone(), true)]);
        book.add_text(&line("restored", of_job));
        assert!(!book.has(&object, &job));
        assert_eq!(book.objects_of(&own), [(object, false)]);
        assert!(book.objects_of(&job).is_empty());
    }

    fn tagged(connection: &str, key: &str, version: Option<&str>) -> TaggedObject {
        TaggedObject {
            connection: connection.to_owned(),
            bucket: "b".to_owned(),
            key: key.to_owned(),
            version: version.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn revocations_of_two_objects_are_two() {
        let mut book = TagBook::default();
        for key in ["a.pdf", "b.pdf"] {
            book.add_text(&format!(
                r#"{{"ev":"revoked","what":"object","bucket":"b","key":"{key}","connection":"c"}}"#
            ));
        }
        let of_a = TagTarget {
            what: "object".to_owned(),
            object: Some(("b".to_owned(), "a.pdf".to_owned())),
            ..TagTarget::default()
        };
        assert_eq!(
            book.objects_of(&of_a),
            [(tagged("c", "a.pdf", None), false)]
        );
    }

    #[test]
    fn an_object_is_the_same_by_two_connections_and_by_its_current_version() {
        for (connection, version, is_same) in [
            ("c", None, true),
            ("d", None, true),
            ("d", Some("v1"), true),
            ("c", Some("v2"), true),
        ] {
            let mut book = TagBook::default();
            book.add_text(r#"{"ev":"revoked","what":"job","job":"one","bucket":"b","key":"k","connection":"c"}"#);
            let version_field = version.map_or(String::new(), |version| {
                format!(r#""version":"{version}","#)
            });
            book.add_text(&format!(
                r#"{{"ev":"revoked","what":"job","job":"two","bucket":"b","key":"k",{version_field}"connection":"{connection}"}}"#
            ));
            let of_one = TagTarget {
                what: "job".to_owned(),
                job: Some("one".to_owned()),
                ..TagTarget::default()
            };
            let found = book.objects_of(&of_one);
            assert_eq!(
                found,
                [(tagged("c", "k", None), is_same)],
                "{connection} {version:?}"
            );
        }
        let mut book = TagBook::default();
        for (job, version) in [("one", "v1"), ("two", "v2")] {
            book.add_text(&format!(
                r#"{{"ev":"revoked","what":"job","job":"{job}","bucket":"b","key":"k","version":"{version}","connection":"c"}}"#
            ));
        }
        let of_one = TagTarget {
            what: "job".to_owned(),
            job: Some("one".to_owned()),
            ..TagTarget::default()
        };
        assert_eq!(
            book.objects_of(&of_one),
            [(tagged("c", "k", Some("v1")), false)]
        );
    }

    #[test]
    fn with_the_last_revocation_each_form_of_an_object_loses_the_tag() {
        let mut book = TagBook::default();
        for (event, job, version) in [
            ("revoked", "one", None),
            ("revoked", "two", Some("v1")),
            ("restored", "one", None),
        ] {
            let version = version.map_or(String::new(), |version| {
                format!(r#""version":"{version}","#)
            });
            book.add_text(&format!(
                r#"{{"ev":"{event}","what":"job","job":"{job}","bucket":"b","key":"k",{version}"connection":"c"}}"#
            ));
        }
        let pinned = tagged("c", "k", Some("v1"));
        assert_eq!(book.left_with(&pinned), [tagged("c", "k", None)]);
        assert!(book.left_with(&tagged("c", "other", None)).is_empty());
    }
}
