//! Checks this machine: templates, directories, addresses, secret files and the rules of the configuration.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use directory::{Directory, Location};
use handout::assemble::{self, OpenError, private_dir};
use handout::audit::room::DiskRoom;
use handout::audit::verify::{Glance, glance};
use handout::config::{BrandConfig, Config};
use handout::environment::Environment;
use handout::keyring::Keyring;
use handout::plan::Installed;
use handout::render::Templates;
use handout::text::counted;

use super::report::{BoxError, CheckOutcome, CheckReport};

/// How many bytes of a script are read for its first line.
const FIRST_LINE: u64 = 256;

pub(super) fn check(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<()> {
    report.tell("templates", templates(config))?;
    brand(config, report)?;
    report.tell("state directory", state_dir(config))?;
    let log = audit_log(config, environment, report)?;
    addresses(config, log.is_written, report)?;
    if let Some(program) = &config.ledger.resolve_cmd {
        report.tell("ledger.resolve_cmd", can_be_run(program))?;
    }
    secret_files(config, report)?;
    report.tell("allow rules", allow_rules(config))
}

fn templates(config: &Config) -> CheckOutcome {
    let templates = Templates::load(config.templates.dir.as_deref())?;
    assemble::locale(config, &templates)?;
    Ok(format!(
        "mails: {}; pages: {}",
        templates.emails().join(", "),
        templates.galleries().join(", ")
    ))
}

/// Reports how mails and pages show the sender, if the configuration says it.
fn brand(config: &Config, report: &CheckReport) -> io::Result<()> {
    if config.brand == BrandConfig::default() {
        return Ok(());
    }
    let brand = match assemble::brand(config) {
        Ok(brand) => brand,
        Err(error) => return report.tell("brand", Err(error.into())),
    };
    let mut shown = Vec::new();
    if let Some(logo) = brand.logo() {
        let size = logo.shown_size();
        let size = size.map(|(width, height)| format!("{width} × {height} px, "));
        shown.push(format!(
            "a logo of {}{} bytes",
            size.unwrap_or_default(),
            logo.bytes().len()
        ));
    }
    let lines = config.brand.footer.len();
    if lines > 0 {
        shown.push(format!("{} of footer", counted(lines as u64, "line")));
    }
    if shown.is_empty() {
        shown.push("can be used".to_owned());
    }
    report.tell("brand", Ok(shown.join("; ")))?;
    if brand.logo().is_some_and(|logo| !logo.is_for_mail()) {
        let result = "mails show the name instead of the logo, since mail programs do not show SVG: use a PNG or a JPEG for both";
        report.warn("brand.logo_file", result)?;
    }
    match brand.palette().adjustment() {
        Some(adjustment) => report.warn("brand.accent", adjustment),
        None => Ok(()),
    }
}

fn state_dir(config: &Config) -> CheckOutcome {
    let dir = &config.state_dir;
    let failed = |source| OpenError::StateDir {
        path: dir.clone(),
        source,
    };
    private_dir(dir)?.scratch().map_err(failed)?;
    Keyring::open(&config.secret_key_file())?;
    Ok(format!("{} can be written", dir.display()))
}

/// Checks that the log can be continued: its key, directory, registry and disk space.
fn audit_log(
    config: &Config,
    environment: &Environment,
    report: &CheckReport,
) -> io::Result<Glance> {
    let look = || {
        let keyring = Keyring::open(&config.secret_key_file())?;
        let settings = config.audit_settings(&keyring, environment)?;
        let written = can_be_written(&settings.dir)?;
        let seen = glance(
            &settings.dir,
            &settings.key.public(),
            &config.audit_memory(),
        )
        .map_err(|error| format!("{} cannot be read: {error}", settings.dir.display()))?;
        if let Some(obstacle) = &seen.obstacle {
            return Err(format!(
                "{}: {obstacle}; a start ends with 65: see `handout audit verify`",
                settings.dir.display()
            )
            .into());
        }
        DiskRoom::new(existing(&settings.dir), settings.min_free)
            .check()
            .map_err(|full| full.to_string())?;
        Ok((format!("{} {written}", settings.dir.display()), seen))
    };
    match look() {
        Ok((result, seen)) => {
            report.tell("audit log", Ok(result))?;
            Ok(seen)
        }
        Err(error) => {
            report.tell("audit log", Err::<String, BoxError>(error))?;
            Ok(Glance::default())
        }
    }
}

/// Checks that the daemon can listen on its addresses. A process that writes the audit log is assumed to be the one that listens
/// there.
fn addresses(config: &Config, is_working: bool, report: &CheckReport) -> io::Result<()> {
    let embedded = config
        .needs_embedded()
        .then_some(("embedded.listen", config.embedded.listen));
    let portal = config.portal.listen.map(|listen| ("portal.listen", listen));
    let intake = config.intake.listen.map(|listen| ("intake.listen", listen));
    let all = std::iter::once(("http.listen", config.http.listen));
    let all = all.chain(embedded).chain(intake).chain(portal);
    for (key, address) in all {
        report.tell(key, can_be_listened_on(address, is_working))?;
    }
    Ok(())
}

fn can_be_listened_on(address: SocketAddr, is_working: bool) -> CheckOutcome {
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_working => {
            Ok(format!("{address} is in use by the handout that runs here"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(format!(
            "{address} is in use by another program: end it, or name another port"
        )
        .into()),
        Err(error) => Err(format!("cannot listen on {address}: {error}").into()),
    }
}

/// Checks that a program of the operator can be started, including the interpreter in its first line (execve(2)).
fn can_be_run(program: &Path) -> CheckOutcome {
    let wrong = |what: &str| {
        format!(
            "{} {what}: in-doubt deliveries would not be resolved by it",
            program.display()
        )
    };
    let metadata = fs::metadata(program);
    let metadata = metadata.map_err(|error| wrong(&format!("cannot be found: {error}")))?;
    if !metadata.is_file() {
        return Err(wrong("is not a file").into());
    }
    rustix::fs::access(program, rustix::fs::Access::EXEC_OK)
        .map_err(|_| wrong("cannot be executed (chmod +x)"))?;
    let mut line = Vec::new();
    // An executable program need not be readable.
    if let Ok(file) = File::open(program) {
        file.take(FIRST_LINE).read_to_end(&mut line)?;
    }
    let line = String::from_utf8_lossy(&line);
    let named = line.lines().next().and_then(|line| line.strip_prefix("#!"));
    let interpreter = named.and_then(|named| named.split_whitespace().next());
    match interpreter.filter(|interpreter| !Path::new(interpreter).exists()) {
        Some(missing) => Err(wrong(&format!("names {missing}, which is not there")).into()),
        None => Ok(format!("{} can be executed", program.display())),
    }
}

/// Checks that a file can be created in a directory, or in its nearest existing parent.
pub(super) fn can_be_written(place: &Location) -> CheckOutcome {
    let there = existing(place);
    let opened = match there == &**place {
        true => place.open(),
        false => Directory::open(there),
    };
    opened
        .and_then(|directory| directory.scratch())
        .map_err(|error| format!("{} cannot be written: {error}", there.display()))?;
    Ok(match there == &**place {
        true => "can be written".to_owned(),
        false => format!("is created in {} when it is needed", there.display()),
    })
}

/// A directory, or its nearest existing parent.
fn existing(dir: &Path) -> &Path {
    let is_missing = |dir: &Path| {
        let metadata = fs::symlink_metadata(dir);
        metadata.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let mut above = dir.ancestors();
    above.find(|dir| !is_missing(dir)).unwrap_or(dir)
}

/// Checks that unrelated users of this machine cannot read secrets. Group read permission is up to the operator: Kubernetes
/// mounts secrets for a group (fsGroup), and a group may contain only the service.
fn secret_files(config: &Config, report: &CheckReport) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut count = 0;
    let mut open = Vec::new();
    for (key, file) in config.secret_files() {
        // A missing file is reported by the check that needs it.
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        count += 1;
        if metadata.permissions().mode() & 0o004 != 0 {
            open.push(format!("{} ({key})", file.display()));
        }
    }
    if open.is_empty() {
        let files = if count == 1 { "file" } else { "files" };
        let result = format!("{count} {files}, none readable by every user");
        return report.tell("secret files", Ok(result));
    }
    let result = format!(
        "every user of this machine can read {}: remove the permission with `chmod o-rwx`",
        open.join(", ")
    );
    report.warn("secret files", result)
}

fn allow_rules(config: &Config) -> CheckOutcome {
    let policy = config.policy()?;
    match policy.rules.len() {
        0 => Err("there is no [[allow]] rule: every job will be refused".into()),
        1 => Ok("1 rule".to_owned()),
        count => Ok(format!("{count} rules")),
    }
}
