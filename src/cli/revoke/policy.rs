//! The policies and shell commands that revoke links of S3 and CloudFront.
//!
//! The statements were tried with a simulator of IAM, but for the one with escaped keys: each denies what it names and lets its
//! neighbours open.

use std::collections::BTreeSet;

use handout::config::ConnectionConfig;
use handout::store::s3::REVOKED_TAG;
use handout::text::shell_word;
use jiff::Timestamp;
use presign::partition::arn_partition;
use serde_json::{Value, json};

use super::aws::{json_word, option, parameters, query_literal};
use super::plan::LinkReach;

/// What a presigned request is to `s3:authType`.
const PRESIGNED: &str = "REST-QUERY-STRING";

/// The age above which `deny_age` denies signatures, in milliseconds.
const MAX_AGE_MS: u32 = 600_000;

/// How many keys CloudFront takes in a request to a key value store.
const MAX_PUTS: usize = 50;

/// What ARNs begin with.
#[derive(Debug, Clone)]
pub(super) struct Arns {
    partition: String,
}

impl Arns {
    /// The partition of a connection: of its role, or of its region.
    pub(super) fn of(connection: Option<&ConnectionConfig>, role: Option<&str>) -> Self {
        let role = role.or_else(|| connection?.assume_role.as_deref());
        let of_role = role.and_then(|role| role.strip_prefix("arn:")?.split(':').next());
        let of_role = of_role.filter(|partition| partition.starts_with("aws"));
        let region = connection.and_then(|connection| connection.region.as_deref());
        let partition = of_role.unwrap_or_else(|| arn_partition(region.unwrap_or_default()));
        Self {
            partition: partition.to_owned(),
        }
    }

    fn objects(&self, bucket: &str, key: &str) -> String {
        // `*` and `?` of a key are wildcards in an ARN; `${*}` and `${?}` are the characters.
        let mut escaped = String::with_capacity(key.len());
        for c in key.chars() {
            match c {
                '*' | '?' | '$' => {
                    escaped.push_str("${");
                    escaped.push(c);
                    escaped.push('}');
                }
                c => escaped.push(c),
            }
        }
        format!("arn:{}:s3:::{bucket}/{escaped}", self.partition)
    }

    fn all(&self, bucket: &str) -> String {
        format!("arn:{}:s3:::{bucket}/*", self.partition)
    }
}

/// The actions that open an object, also one of a version.
fn reads() -> Value {
    json!(["s3:GetObject", "s3:GetObjectVersion"])
}

/// The statement that makes the tag revoke: it stands in a bucket's policy before it is needed.
pub(super) fn standing_deny(arns: &Arns, bucket: &str) -> Value {
    let (name, value) = REVOKED_TAG;
    json!({
        "Sid": "HandoutDeny1Tag",
        "Effect": "Deny",
        "Principal": "*",
        "Action": reads(),
        "Resource": arns.all(bucket),
        "Condition": { "StringEquals": { format!("s3:ExistingObjectTag/{name}"): value } },
    })
}

/// Denies presigned requests for the objects of links, or for their common prefix if they are many.
pub(super) fn deny_keys(arns: &Arns, bucket: &str, reach: &LinkReach, now: Timestamp) -> Value {
    let below = |prefix: &str| format!("{}*", arns.objects(bucket, prefix));
    let resources: Vec<String> = match reach.are_named() {
        false => vec![below(reach.common.as_deref().unwrap_or_default())],
        true => {
            let keys = reach.keys.keys().map(|key| arns.objects(bucket, key));
            keys.chain(reach.prefixes.iter().map(|prefix| below(prefix)))
                .collect()
        }
    };
    json!({
        "Sid": sid("HandoutDeny2Keys", now),
        "Effect": "Deny",
        "Principal": "*",
        "Action": reads(),
        "Resource": resources,
        "Condition": { "StringEquals": { "s3:authType": PRESIGNED } },
    })
}

/// Denies one session of a role: that of a job.
pub(super) fn deny_session(
    arns: &Arns,
    bucket: &str,
    role: &str,
    session: &str,
    now: Timestamp,
) -> Value {
    json!({
        "Sid": sid("HandoutDeny3Job", now),
        "Effect": "Deny",
        "Principal": { "AWS": assumed_role(role, session) },
        "Action": reads(),
        "Resource": arns.all(bucket),
    })
}

/// Denies all sessions of a role that began before now. Keys of users have no such instant, and are not denied.
pub(super) fn deny_older_sessions(now: Timestamp) -> Value {
    json!({
        "Sid": "HandoutDeny4OlderSessions",
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": { "DateLessThan": { "aws:TokenIssueTime": second(now) } },
    })
}

/// Denies presigned requests that were signed more than ten minutes before.
pub(super) fn deny_age(arns: &Arns, bucket: &str, now: Timestamp) -> Value {
    json!({
        "Sid": sid("HandoutDeny5Age", now),
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": arns.all(bucket),
        "Condition": {
            "NumericGreaterThan": { "s3:signatureAge": MAX_AGE_MS.to_string() },
            "StringEquals": { "s3:authType": PRESIGNED },
        },
    })
}

/// A policy of some statements.
pub(super) fn document(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The ids of statements in a policy must differ, and have letters and digits alone.
fn sid(begin: &str, now: Timestamp) -> String {
    format!("{begin}{}", now.strftime("%Y%m%dT%H%M%SZ"))
}

fn second(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The name of a role, from its ARN.
pub(super) fn role_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The ARN of a session, from that of its role.
fn assumed_role(role: &str, session: &str) -> String {
    let mut parts = role.splitn(6, ':').skip(1);
    let partition = parts.next().unwrap_or("aws");
    let account = parts.nth(2).unwrap_or_default();
    let name = role_name(role);
    format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}")
}

/// The commands that put a statement into the policy of a bucket. A statement with the same id is replaced.
pub(super) fn bucket_commands(bucket: &str, statement: &Value) -> Vec<String> {
    let bucket = parameters(&[("Bucket", bucket)]);
    // An escaped character of a key is a policy variable, which the version of 2008 does not have.
    let needs_version = match statement.to_string().contains("${") {
        true => {
            "if .Version != \"2012-10-17\" then error(\"the policy must have the version 2012-10-17\") else . end | "
        }
        false => "",
    };
    let statement = json_word(statement);
    vec![
        format!("aws s3api get-bucket-policy {bucket} --query Policy --output text > policy.json"),
        format!(
            "jq --argjson deny {statement} '{needs_version}.Statement |= map(select(.Sid != $deny.Sid)) + [$deny]' policy.json > revoked.json"
        ),
        format!("aws s3api put-bucket-policy {bucket} --policy file://revoked.json"),
    ]
}

/// The command that puts a policy into a role.
pub(super) fn role_command(role: &str, statement: &Value) -> String {
    format!(
        "aws iam put-role-policy {} --policy-name HandoutRevokeOlderSessions --policy-document {}",
        parameters(&[("RoleName", role_name(role))]),
        json_word(&document(std::slice::from_ref(statement)))
    )
}

/// The command that makes a user's key inactive.
pub(super) fn key_command(id: &str) -> String {
    let id = parameters(&[("AccessKeyId", id)]);
    format!(
        "aws iam update-access-key {id} --status Inactive --user-name \"$(aws iam get-access-key-last-used {id} --query UserName --output text)\""
    )
}

/// The command that adds a tag to an object and keeps the others.
pub(super) fn tag_command(
    aws: &str,
    bucket: &str,
    key: &str,
    version: Option<&str>,
    (name, value): (&str, &str),
) -> String {
    let mut place = vec![("Bucket", bucket), ("Key", key)];
    place.extend(version.map(|version| ("VersionId", version)));
    let place = parameters(&place);
    let query =
        format!("{{TagSet: [TagSet[?Key!='{name}'], [{{Key: '{name}', Value: '{value}'}}]][]}}");
    format!(
        "{aws} s3api get-object-tagging {place} --query \"{query}\" > tags.json && {aws} s3api put-object-tagging {place} --tagging file://tags.json"
    )
}

/// The commands that put the ids of links into a key value store.
pub(super) fn key_value_commands(arn: &str, ids: &BTreeSet<String>) -> Vec<String> {
    let arn = option("--kvs-arn", arn);
    let ids: Vec<&String> = ids.iter().collect();
    let command = |ids: &[&String]| {
        let put = |id: &&String| format!("Key={},Value=1", shell_word(id));
        let puts: Vec<String> = ids.iter().map(put).collect();
        format!(
            "aws cloudfront-keyvaluestore update-keys {arn} --if-match \"$(aws cloudfront-keyvaluestore describe-key-value-store {arn} --query ETag --output text)\" --puts {}",
            puts.join(" ")
        )
    };
    ids.chunks(MAX_PUTS).map(command).collect()
}

/// The commands that take a public key out of its key group.
pub(super) fn key_group_commands(id: &str) -> Vec<String> {
    let id = query_literal(id);
    let group = format!(
        "KeyGroupList.Items[?contains(KeyGroup.KeyGroupConfig.Items, {id})].KeyGroup.Id | [0]"
    );
    let without = format!("KeyGroupConfig | merge(@, {{Items: Items[?@!={id}]}})");
    vec![
        format!(
            "group=$(aws cloudfront list-key-groups {} --output text)",
            option("--query", &group)
        ),
        "etag=$(aws cloudfront get-key-group-config --id \"$group\" --query ETag --output text)".to_owned(),
        format!(
            "aws cloudfront get-key-group-config --id \"$group\" {} > key-group.json",
            option("--query", &without)
        ),
        "aws cloudfront update-key-group --id \"$group\" --if-match \"$etag\" --key-group-config file://key-group.json".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use handout::config::ConnectionConfig;

    use super::super::plan::MAX_NAMED;
    use super::*;

    fn arns(region: &str) -> Arns {
        let connection = ConnectionConfig {
            region: Some(region.to_owned()),
            ..ConnectionConfig::default()
        };
        Arns::of(Some(&connection), None)
    }

    fn reach(keys: &[&str]) -> LinkReach {
        let keys = keys
            .iter()
            .map(|key| ((*key).to_owned(), BTreeSet::from([None])));
        LinkReach {
            keys: keys.collect::<BTreeMap<_, _>>(),
            common: Some("2026/".to_owned()),
            ..LinkReach::default()
        }
    }

    fn now() -> Timestamp {
        "2026-11-29T12:00:00.5Z".parse().unwrap()
    }

    #[test]
    fn each_statement_denies_what_it_names_and_nothing_else() {
        let aws = arns("eu-west-1");
        assert_eq!(
            standing_deny(&aws, "acme-reports"),
            json!({
                "Sid": "HandoutDeny1Tag", "Effect": "Deny", "Principal": "*",
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": "arn:aws:s3:::acme-reports/*",
                "Condition": { "StringEquals": { "s3:ExistingObjectTag/handout-revoked": "true" } },
            })
        );
        assert_eq!(
            deny_keys(
                &aws,
                "acme-reports",
                &reach(&["2026/a.pdf", "2026/wh?t*$.pdf"]),
                now()
            ),
            json!({
                "Sid": "HandoutDeny2Keys20261129T120000Z", "Effect": "Deny", "Principal": "*",
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": ["arn:aws:s3:::acme-reports/2026/a.pdf", "arn:aws:s3:::acme-reports/2026/wh${?}t${*}${$}.pdf"],
                "Condition": { "StringEquals": { "s3:authType": "REST-QUERY-STRING" } },
            })
        );
        let role = "arn:aws:iam::123456789012:role/path/handout-signer";
        assert_eq!(
            deny_session(&aws, "acme-reports", role, "shoot-0815", now()),
            json!({
                "Sid": "HandoutDeny3Job20261129T120000Z", "Effect": "Deny",
                "Principal": { "AWS": "arn:aws:sts::123456789012:assumed-role/handout-signer/shoot-0815" },
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": "arn:aws:s3:::acme-reports/*",
            })
        );
        assert_eq!(
            deny_older_sessions(now()),
            json!({
                "Sid": "HandoutDeny4OlderSessions", "Effect": "Deny", "Action": "*", "Resource": "*",
                "Condition": { "DateLessThan": { "aws:TokenIssueTime": "2026-11-29T12:00:00Z" } },
            })
        );
        assert_eq!(
            deny_age(&aws, "acme-reports", now()),
            json!({
                "Sid": "HandoutDeny5Age20261129T120000Z", "Effect": "Deny", "Principal": "*",
                "Action": "s3:*", "Resource": "arn:aws:s3:::acme-reports/*",
                "Condition": {
                    "NumericGreaterThan": { "s3:signatureAge": "600000" },
                    "StringEquals": { "s3:authType": "REST-QUERY-STRING" },
                },
            })
        );
    }

    #[test]
    fn many_keys_are_denied_by_what_they_begin_with() {
        let many: Vec<String> = (0..=MAX_NAMED).map(|n| format!("2026/{n}.pdf")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let statement = deny_keys(&arns(""), "b", &reach(&many), now());
        assert_eq!(statement["Resource"], json!(["arn:aws:s3:::b/2026/*"]));
        let page = LinkReach {
            prefixes: BTreeSet::from(["p/renditions-".to_owned()]),
            ..reach(&["p/page.html"])
        };
        let statement = deny_keys(&arns(""), "b", &page, now());
        assert_eq!(
            statement["Resource"],
            json!([
                "arn:aws:s3:::b/p/page.html",
                "arn:aws:s3:::b/p/renditions-*"
            ])
        );
    }

    #[test]
    fn arns_are_of_the_partition_of_the_region_or_the_role() {
        for (region, partition) in [
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eu-west-1", "aws"),
        ] {
            let statement = standing_deny(&arns(region), "b");
            assert_eq!(statement["Resource"], format!("arn:{partition}:s3:::b/*"));
        }
        let role = "arn:aws-cn:iam::123456789012:role/r";
        let of_role = Arns::of(None, Some(role));
        assert_eq!(of_role.all("b"), "arn:aws-cn:s3:::b/*");
        assert_eq!(
            assumed_role(role, "s"),
            "arn:aws-cn:sts::123456789012:assumed-role/r/s"
        );
    }

    #[test]
    fn a_request_to_a_key_value_store_has_at_most_fifty_ids() {
        let ids = (0..51).map(|n| format!("{n:032x}")).collect();
        let commands = key_value_commands("arn:aws:cloudfront::1:key-value-store/x", &ids);
        assert_eq!(commands.len(), 2);
        assert!(commands[1].ends_with("--puts Key=00000000000000000000000000000032,Value=1"));
    }

    /// Whether a resource of a policy names an ARN, by the rules of IAM: `*` and `?` are wildcards, `${*}`, `${?}` and `${$}` are those
    /// characters, and any other `${…}` is a variable, of which this request has `aws:username`.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>
    fn names(pattern: &str, arn: &str) -> bool {
        enum Token {
            Any,
            One,
            Text(char),
        }
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let variable = rest
                .strip_prefix("${")
                .and_then(|text| text.split_once('}'));
            if let Some((name, after)) = variable {
                match name {
                    "*" | "?" | "$" => tokens.push(Token::Text(name.chars().next().unwrap())),
                    "aws:username" => tokens.extend("ann".chars().map(Token::Text)),
                    // A variable without a value: the statement names nothing.
                    _ => return false,
                }
                rest = after;
                continue;
            }
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                c => Token::Text(c),
            });
            rest = &rest[c.len_utf8()..];
        }
        // Which beginnings of the ARN the tokens so far can be.
        let letters: Vec<char> = arn.chars().collect();
        let mut ends = vec![false; letters.len() + 1];
        ends[0] = true;
        for token in tokens {
            let mut next = vec![false; ends.len()];
            for at in (0..ends.len()).filter(|at| ends[*at]) {
                match token {
                    Token::Any => next[at..].fill(true),
                    Token::One if at < letters.len() => next[at + 1] = true,
                    Token::Text(c) if letters.get(at) == Some(&c) => next[at + 1] = true,
                    Token::One | Token::Text(_) => {}
                }
            }
            ends = next;
        }
        ends[letters.len()]
    }

    #[test]
    fn the_rules_of_iam_are_those_of_the_tests() {
        for (pattern, text, is_named) in [
            ("a*c", "abbc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a${*}c", "a*c", true),
            ("a${*}c", "abc", false),
            ("${aws:username}", "ann", true),
            ("${$}{aws:username}", "ann", false),
            ("${$}{aws:username}", "${aws:username}", true),
            ("${aws:other}", "${aws:other}", false),
            ("$a{", "$a{", true),
        ] {
            assert_eq!(names(pattern, text), is_named, "{pattern} {text}");
        }
    }

    /// The resources of the statement about these keys.
    fn resources_of(reach: &LinkReach) -> Vec<String> {
        let statement = deny_keys(&arns(""), "b", reach, now());
        serde_json::from_value(statement["Resource"].clone()).unwrap()
    }

    #[test]
    fn a_statement_names_a_key_with_wildcards_and_variables_and_no_other() {
        for (key, others) in [
            ("${aws:username}.pdf", &["ann.pdf", "bo.pdf"][..]),
            ("a*.pdf", &["a.pdf", "ab.pdf", "a*b.pdf"]),
            ("a?.pdf", &["ab.pdf", "a.pdf"]),
            ("${*}", &["*", "a", "${a}"]),
            ("${$}", &["$", "${a}"]),
            ("a$", &["a", "a$b"]),
            ("$", &["", "a"]),
            ("${", &["a", "${}"]),
            ("}${?}{", &["}?{", "}a{", "}${a}{"]),
        ] {
            let resources = resources_of(&reach(&[key]));
            let is_denied = |key: &str| {
                let arn = format!("arn:aws:s3:::b/{key}");
                resources.iter().any(|resource| names(resource, &arn))
            };
            assert!(is_denied(key), "{key}: {resources:?}");
            for other in others {
                assert!(!is_denied(other), "{key}: {other}: {resources:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_key_and_any_prefix_is_named_as_it_is(key in "[*?${}a:]{1,8}", other in "[*?${}a:]{1,8}") {
            let arn = |key: &str| format!("arn:aws:s3:::b/{key}");
            let resources = resources_of(&reach(&[&key]));
            proptest::prop_assert!(names(&resources[0], &arn(&key)));
            proptest::prop_assert_eq!(names(&resources[0], &arn(&other)), key == other);
            let below = LinkReach {
                prefixes: BTreeSet::from([key.clone()]),
                ..LinkReach::default()
            };
            let resources = resources_of(&below);
            proptest::prop_assert_eq!(names(&resources[0], &arn(&other)), other.starts_with(&key));
            let many = LinkReach {
                is_cut: true,
                common: Some(key),
                ..LinkReach::default()
            };
            proptest::prop_assert_eq!(resources_of(&many), resources);
        }
    }

    #[test]
    fn no_other_statement_has_a_key_or_a_variable() {
        let aws = arns("");
        let role = "arn:aws:iam::123456789012:role/r";
        for statement in [
            standing_deny(&aws, "b"),
            deny_session(&aws, "b", role, "daily", now()),
            deny_older_sessions(now()),
            deny_age(&aws, "b", now()),
        ] {
            assert!(!statement.to_string().contains("${"), "{statement}");
        }
    }
}
