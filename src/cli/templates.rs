//! `handout templates export`: the built-in templates as files, to begin templates of one's own with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use handout::render::templates::built_in_files;
use handout::text::counted;

use super::say;

/// How many files an error names.
const NAMED: usize = 3;

#[derive(Debug, Subcommand)]
pub(super) enum TemplatesCommand {
    /// Writes the built-in templates, the words of each language and their README into a directory.
    #[command(after_help = "Examples:
  handout templates export templates
  handout templates export /etc/handout/templates --only partials/mail.html.hbs --only strings/de.toml

Name the directory as `dir` in [templates], and keep only the files that you change: a file in it replaces the built-in file, also after an upgrade.")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The directory; it is created if it does not exist.
    dir: PathBuf,
    /// Writes this file only, such as partials/mail.html.hbs; can be repeated.
    #[arg(long, value_name = "FILE")]
    only: Vec<String>,
    /// Overwrites files that exist.
    #[arg(long)]
    force: bool,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// Files would be overwritten.
    #[error(
        "{} has {} already{}: nothing was written; --force overwrites them",
        dir.display(),
        names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "),
        match names.len().saturating_sub(NAMED) { 0 => String::new(), more => format!(" and {more} more") }
    )]
    Exists {
        /// The directory.
        dir: PathBuf,
        /// The files.
        names: Vec<String>,
    },
    /// No built-in file has this name.
    #[error(
        "there is no built-in template {name:?}: `handout templates export DIR` writes all of them"
    )]
    Unknown {
        /// The name.
        name: String,
    },
}

pub(super) fn templates(command: &TemplatesCommand) -> anyhow::Result<ExitCode> {
    let TemplatesCommand::Export(arguments) = command;
    export(arguments)
}

fn export(arguments: &ExportArgs) -> anyhow::Result<ExitCode> {
    let ExportArgs { dir, only, force } = arguments;
    let mut files: Vec<(String, &str)> = built_in_files().collect();
    if let Some(name) = only
        .iter()
        .find(|wanted| files.iter().all(|(name, _)| name != *wanted))
    {
        let name = name.clone();
        return Err(ExportError::Unknown { name }.into());
    }
    files.retain(|(name, _)| only.is_empty() || only.contains(name));
    // All are looked at before the first is written: a half-written directory would be checked as a whole by the next reload.
    let is_there = |(name, _): &&(String, &str)| dir.join(name).symlink_metadata().is_ok();
    let names: Vec<String> = files
        .iter()
        .filter(is_there)
        .map(|(name, _)| name.clone())
        .collect();
    if !*force && !names.is_empty() {
        let dir = dir.clone();
        return Err(ExportError::Exists { dir, names }.into());
    }
    for (name, text) in &files {
        let path = dir.join(name);
        write(&path, text, *force)
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    say(format_args!(
        "{} in {}",
        counted(files.len() as u64, "file"),
        dir.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    // Without --force, a file that appeared meanwhile is not overwritten either.
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use handout::render::Templates;

    use super::*;

    fn arguments(dir: &Path, only: &[&str], force: bool) -> ExportArgs {
        ExportArgs {
            dir: dir.to_owned(),
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            force,
        }
    }

    #[test]
    fn what_is_exported_loads_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("new/templates");
        export(&arguments(&below, &[], false)).unwrap();
        assert!(below.join("README.md").is_file() && below.join("strings/ar.toml").is_file());
        Templates::load(Some(&below)).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        for (name, text) in built_in_files() {
            assert_eq!(
                fs::read_to_string(source.join(&name)).unwrap(),
                text,
                "{name}"
            );
            assert_eq!(
                fs::read_to_string(below.join(&name)).unwrap(),
                text,
                "{name}"
            );
        }
        // A file that is not in the list would be missing in the program, too. The portal's pages are no templates: their
        // style and script are the program's own.
        let count = |dir: &Path| {
            let mut folders = vec![dir.to_owned()];
            let mut files = 0;
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() && path.ends_with("portal") {
                        continue;
                    } else if path.is_dir() {
                        folders.push(path);
                    } else {
                        files += 1;
                    }
                }
            }
            files
        };
        assert_eq!(count(&below), count(&source));
    }

    #[test]
    fn nothing_is_overwritten_without_being_asked() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mine = dir.join("partials/mail.html.hbs");
        fs::create_dir_all(mine.parent().unwrap()).unwrap();
        fs::write(&mine, "mine").unwrap();
        let error = export(&arguments(dir, &[], false)).unwrap_err();
        let said = error.to_string().replace(&*dir.to_string_lossy(), "[DIR]");
        insta::assert_snapshot!(said, @"[DIR] has partials/mail.html.hbs already: nothing was written; --force overwrites them");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "nothing was written");
        export(&arguments(dir, &["strings/de.toml"], false)).unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        export(&arguments(dir, &["partials/mail.html.hbs"], true)).unwrap();
        assert!(fs::read_to_string(&mine).unwrap().len() > 100);
        // A link whose target is gone is a file of its owner all the same.
        std::os::unix::fs::symlink("/nowhere", dir.join("README.md")).unwrap();
        assert!(export(&arguments(dir, &["README.md"], false)).is_err());
        insta::assert_snapshot!(export(&arguments(dir, &["../x"], false)).unwrap_err(), @r#"there is no built-in template "../x": `handout templates export DIR` writes all of them"#);
    }
}
