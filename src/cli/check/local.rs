//! What is on this machine: templates, the state directory, secret files and the rules of the configuration.

use std::io;

use handout::config::Config;
use handout::keyring::Keyring;
use handout::plan::Installed;
use handout::render::Templates;
use handout::tools::{OpenError, private_dir};

use super::report::{Outcome, Report};

pub(super) fn check(config: &Config, report: &Report) -> io::Result<()> {
    report.tell("templates", templates(config))?;
    report.tell("state directory", state_dir(config))?;
    secret_files(config, report)?;
    report.tell("allow rules", allow_rules(config))
}

fn templates(config: &Config) -> Outcome {
    let templates = Templates::load(config.templates.dir.as_deref())?;
    handout::tools::locale(config, &templates)?;
    Ok(format!(
        "mails: {}; pages: {}",
        templates.emails().join(", "),
        templates.galleries().join(", ")
    ))
}

fn state_dir(config: &Config) -> Outcome {
    let dir = &config.state_dir;
    let failed = |source| OpenError::StateDir {
        path: dir.clone(),
        source,
    };
    private_dir(dir)?.scratch().map_err(failed)?;
    Keyring::open(&config.secret_key_file())?;
    Ok(format!("{} can be written", dir.display()))
}

/// Whether users of this machine can read secrets that have nothing to do with the service. A group's right to read is the
/// operator's: Kubernetes mounts secrets for a group (fsGroup), and a group may have the service alone in it.
fn secret_files(config: &Config, report: &Report) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut count = 0;
    let mut open = Vec::new();
    for (key, file) in config.secret_files() {
        // One that is missing is told by what needs it.
        let Ok(metadata) = std::fs::metadata(&file) else {
            continue;
        };
        count += 1;
        if metadata.permissions().mode() & 0o004 != 0 {
            open.push(format!("{} ({key})", file.display()));
        }
    }
    if open.is_empty() {
        let result = format!("{count} files, none readable by every user");
        return report.tell("secret files", Ok(result));
    }
    let result = format!(
        "every user of this machine can read {}: take the right away with `chmod o-rwx`",
        open.join(", ")
    );
    report.warn("secret files", result)
}

fn allow_rules(config: &Config) -> Outcome {
    let policy = config.policy()?;
    match policy.rules.len() {
        0 => Err("there is no [[allow]] rule: every job will be refused".into()),
        1 => Ok("1 rule".to_owned()),
        count => Ok(format!("{count} rules")),
    }
}
