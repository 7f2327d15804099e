//! The guides, typed word for word in a bare root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Bare, said};
use crate::support::docs::page;
use crate::support::servers::{Parts, is_missing};

/// The code of a page in one language.
fn guide(name: &str, language: &str) -> String {
    let code = page(name).blocks(language).concat();
    // What is built was built before the test.
    let lines = code.lines().filter(|line| !line.starts_with("cargo build"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

const ONE_MACHINE: &str = "docs/quick-start/one-machine.md";

/// What a newcomer looks at afterwards: the mail is there, its log is whole, and the daemon ends when it is asked to.
const LOOK: &str = r#"
tries=0
until ls "$STATE"/outbox/*.eml >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { echo "no mail came"; exit 9; }
    sleep 0.1
done
ls try/preview/*.html
handout audit verify --config try/config.toml
kill $!
wait $!
"#;

#[test]
fn the_quick_start_works_without_root_and_without_a_home() {
    let Some(bare) = Bare::or_skip("the_quick_start") else {
        return;
    };
    let home = bare.path("home").to_string_lossy().into_owned();
    let xdg = format!("{home}/xdg");
    let places: [&[(&str, &str)]; 2] = [
        &[("HOME", &home)],
        &[("HOME", "/"), ("XDG_STATE_HOME", &xdg)],
    ];
    let states = [
        format!("{home}/.local/state/handout"),
        format!("{xdg}/handout"),
    ];
    let steps = guide(ONE_MACHINE, "sh") + LOOK;
    for (place, state) in places.into_iter().zip(states) {
        let variables = [place, &[("STATE", &state)]].concat();
        let output = bare.script("nobody", &variables, &steps);
        assert!(output.status.success(), "{state}: {}", said(&output));
        assert!(said(&output).contains("whole\n"), "{}", said(&output));
        fs::remove_dir_all(bare.path("checkout/try")).unwrap();
    }
}

#[test]
fn the_quick_start_works_for_root_below_var_lib() {
    let Some(bare) = Bare::or_skip("the_quick_start_of_root") else {
        return;
    };
    let variables = [("HOME", "/root"), ("STATE", "/var/lib/handout")];
    let output = bare.script("root", &variables, &(guide(ONE_MACHINE, "sh") + LOOK));
    assert!(output.status.success(), "{}", said(&output));
}

/// All customers have their mail, two of them read it, and the daemon ends when it is asked to.
const MAILED: &str = r#"
outbox=weekly/state/outbox
tries=0
until [ "$(ls $outbox/*.eml | wc -l)" -eq 310 ]; do
    tries=$((tries + 1)); [ $tries -lt 900 ] || { ls $outbox | wc -l; exit 9; }
    sleep 0.1
done
# Two customers' mails, and those of the rehearsal for them.
for page in $(grep -l 'customers/7/\|customers/8/' $outbox/*.html); do
    link=$(sed -n 's/.*href="\(http[^"]*\)".*/\1/p' "$page" | sed 's/&amp;/\&/g; s/&#x3D;/=/g' | head -n 1)
    curl -fsS -o opened.pdf "$link"
done
"#;

/// The words that a newcomer looks for, and the daemon's end.
const WATCHED: &str = r#"
handout ledger show weekly.20261123T060000Z --config weekly/config.toml | grep -q '300 accepted'
handout opens weekly.20261123T060000Z --config weekly/config.toml | grep -q complete
kill $!
wait $!
"#;

#[test]
fn the_page_of_weekly_reports_mails_each_of_three_hundred_customers() {
    let Some(bare) = Bare::or_skip("the_page_of_weekly_reports") else {
        return;
    };
    let home = bare.path("home").to_string_lossy().into_owned();
    let blocks = page("docs/quick-start/weekly-reports.md").blocks("sh");
    let [bucket, job, send, watch] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    let bucket = bucket.split_once('\n').unwrap().1;
    let script = format!("set -e\n{bucket}{job}{send}{MAILED}{watch}{WATCHED}");
    let output = bare.script("nobody", &[("HOME", &home)], &script);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for words in [
        "list customers                    300 recipients",
        "10 of 300",
        "all mails went to me@acme.example",
        "handout_mails_total{result=\"accepted\"} 300",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// The demo in the background, as a reader has it in another terminal, until its store answers.
const DEMO: &str = r#"
handout demo > demo.log &
tries=0
until grep -q Ctrl-C demo.log && grep -q '^The revoked link answers 410' demo.log; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { cat demo.log; exit 9; }
    sleep 0.1
done
grep -A3 '^The demo opened some links of the report. Who opened what' demo.log
"#;

#[test]
fn the_page_of_the_demo_says_what_it_does() {
    let Some(bare) = Bare::or_skip("the_page_of_the_demo") else {
        return;
    };
    let blocks = page("docs/quick-start/demo.md").blocks("sh");
    let [run, opens, once, presign] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    assert_eq!(run, "handout demo\n");
    let script = format!(
        "PATH=$PWD/target/release:$PATH\ncd \"$HOME\"\n{once}{DEMO}{opens}{presign}kill $!\nls handout-demo/outbox/*.eml"
    );
    let home = bare.path("home").to_string_lossy().into_owned();
    let output = bare.script("nobody", &[("HOME", &home)], &script);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("All good."), "{text}");
    assert!(text.contains("links were opened"), "{text}");
    assert!(
        text.contains("Who opened what, and what arrived:"),
        "{text}"
    );
    assert!(
        text.contains("http://127.0.0.1:9470/reports/2026/11/23/orders%202026-11-23.csv?"),
        "{text}"
    );
}

/// What systemd does with the unit and its drop-in, as far as the guide rests on it: a user of its own, its state directory,
/// copies of the secrets that this user can read.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
[ "$1" = enable ] || exit 0
unit=/etc/systemd/system/handout.service
mkdir -p /run/bare-credentials /var/lib/handout
for line in $(grep -h ^LoadCredential= $unit $unit.d/*.conf); do
    named=${line#LoadCredential=}
    install -m 400 -o 12345 "${named#*:}" "/run/bare-credentials/${named%%:*}"
done
chown 12345 /run/bare-credentials; chmod 700 /run/bare-credentials; chown -R 12345 /var/lib/handout
start=$(sed -n s/^ExecStart=//p $unit)
cd /
STATE_DIRECTORY=/var/lib/handout CREDENTIALS_DIRECTORY=/run/bare-credentials \
    setpriv --reuid=12345 --regid=12345 --clear-groups --no-new-privs $start 2>/run/service.log &
"#;

/// The AWS CLI, as far as the guide uses it.
const AWS: &str = r#"#!/bin/sh
exec "$PYTHON" "$SOURCE/tests/servers/aws.py" "$@"
"#;

/// What the guide takes for granted: AWS with two buckets and a report, a relay with a private authority, a job.
const OUTSIDE: &str = r#"
mount -t tmpfs tmpfs /run
PATH=$PWD/bin:$PATH
echo '127.0.0.1 smtp.sender.example' >> /etc/hosts
"$PYTHON" "$SOURCE/tests/servers/make_ca.py" outside smtp.sender.example
export SSL_CERT_FILE=$PWD/outside/ca.pem AWS_ENDPOINT_URL=http://127.0.0.1:5000
sleep 600 | "$PYTHON" "$SOURCE/tests/servers/moto.py" --port 5000 > outside/moto &
sleep 600 | "$PYTHON" "$SOURCE/tests/servers/smtp_sink.py" --port 587 --maildir outside/mails \
    --starttls outside/server.pem outside/server.key --auth handout 'the password' > outside/relay &
until grep -q ready outside/moto && grep -q ready outside/relay; do sleep 0.1; done
for bucket in acme-reports acme-out; do
    AWS_DEFAULT_REGION=us-east-1 aws s3api create-bucket --bucket $bucket
done
aws s3api put-object --bucket acme-reports --key 2026/11/23/q3.pdf --body 'a report'
install -D -m 644 config /etc/handout/config.toml
"#;

/// What the user looks at afterwards: both recipients have their mail.
const ARRIVED: &str = r#"
tries=0
until [ -e outside/mails/2.json ]; do
    tries=$((tries + 1)); [ $tries -lt 600 ] || { cat /run/service.log; echo "no mail came"; exit 9; }
    sleep 0.1
done
stat -c '%n %U %a' /etc/handout/smtp-password
ls /etc/handout /
"#;

#[test]
fn the_deployment_brings_a_mail_to_its_recipients() {
    let test = "the_deployment";
    let (Some(parts), Some(bare)) = (Parts::or_skip(test), Bare::or_skip(test)) else {
        return;
    };
    let deployment = "docs/quick-start/aws.md";
    let bin = bare.path("checkout/bin");
    fs::create_dir(&bin).unwrap();
    for (name, text) in [("systemctl", SYSTEMCTL), ("aws", AWS)] {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(bare.path("checkout/config"), guide(deployment, "toml")).unwrap();
    let json = page(deployment).blocks("json");
    let job = json.iter().find(|json| json.contains("\"v\": 1")).unwrap();
    fs::write(bare.path("checkout/job.json"), job).unwrap();
    // Each command must succeed; so `handout check` finds nothing wrong, without the daemon and beside it.
    let script = format!(
        "{OUTSIDE}{}{ARRIVED}{}",
        guide(deployment, "sh"),
        guide("docs/runbook.md", "sh")
    );
    let python = parts.python().to_string_lossy().into_owned();
    let variables = [
        ("HOME", "/root"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("PYTHON", &python),
        ("SOURCE", env!("CARGO_MANIFEST_DIR")),
    ];
    let output = bare.script("root", &variables, &script);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("/etc/handout/smtp-password root 600"),
        "{text}"
    );
    assert!(
        !text.contains("secret.key"),
        "the state is in /var/lib/handout: {text}"
    );
}

/// Programs of the user's that the guides call, and that no test needs: a browser, and a filter for JSON.
const TOOLS: &str = r#"
mkdir tools
printf '#!/bin/sh\ntest -s "$1"\n' > tools/firefox
printf '#!/bin/sh\nexec cat\n' > tools/jq
chmod +x tools/*
PATH=$PWD/tools:$PATH
"#;

/// A link that was found somewhere, a copy of the log, a connection with a distribution.
const FOUND: &str = r#"
sed -n 's/.*href="\(http[^"]*\)".*/\1/p' "$STATE"/outbox/*.html | sed 's/&amp;/\&/g; s/&#x3D;/=/g' | head -n 1 > leaked-url.txt
cp -a "$STATE/audit" copy
cat >> config.toml <<'END'
[connections.site]
region = "eu-west-1"
[connections.site.cloudfront]
domain = "files.acme.example"
key_pair_id = "K2JCJMDEHXQW5F"
private_key_file = "cloudfront-key"
END
"#;

/// What they must have come to.
const CAME: &str = r#"
test "$(wc -l < urls.txt)" -eq 1000
test "$(wc -l < all.txt)" -eq 3
test "$(wc -l < pdfs.jsonl)" -eq 3
test "$(wc -l < ann.csv)" -gt 1
test -s audit.pub
grep -q outcome ann-given.csv
grep -q outcome ann.jsonl
grep -q '<h2 id="opens">' ann-opens.html
"#;

#[test]
fn the_commands_of_the_guides_for_mails_links_keys_and_the_audit_log_run_as_they_are_printed() {
    let Some(bare) = Bare::or_skip("the_commands_of_the_guides") else {
        return;
    };
    if !Path::new("/usr/bin/openssl").exists() {
        return is_missing("the_commands_of_the_guides", "there is no openssl");
    }
    let home = bare.path("home").to_string_lossy().into_owned();
    let state = format!("{home}/.local/state/handout");
    let pages = [
        "links/cloudfront",
        "mail/lists",
        "jobs/submit",
        "audit/find",
        "audit/verify",
        "audit/compliance",
        "links/explain",
        "links/presign",
    ];
    let commands = pages
        .map(|name| guide(&format!("docs/{name}.md"), "sh"))
        .concat();
    // The places that the reader has, and fewer keys.
    let commands = commands
        .replace("/mnt/copy/audit", "copy")
        .replace("/etc/handout/config.toml", "config.toml")
        .replace(" 1000000 ", " 1000 ");
    let quick_start = guide(ONE_MACHINE, "sh");
    let script = format!("{quick_start}{LOOK}cd try\n{TOOLS}{FOUND}{commands}{CAME}");
    let variables = [("HOME", &*home), ("STATE", &state)];
    let output = bare.script("nobody", &variables, &script);
    assert!(output.status.success(), "{}", said(&output));
}
