//! ZIPs, and the programs that judge them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::servers::{Parts, is_missing, run};

/// What the judges say of a ZIP; they end the test if they find fault with it.
pub(crate) struct Judged(pub(crate) Value);

impl Judged {
    pub(crate) fn of(parts: &Parts, zip: &Path, unpacked: Option<&Path>) -> Self {
        let mut script = parts.script("judge_zip.py");
        script.arg(zip).args(unpacked);
        let said = run(&mut script);
        let said: Value = serde_json::from_slice(&said).unwrap();
        let missing = said["missing"].as_array().unwrap();
        if !missing.is_empty() {
            is_missing("judges of a ZIP", &format!("{missing:?}"));
        }
        Self(said)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let names = self.0["names"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap()).collect()
    }
}

/// The file of this extension below a directory.
pub(crate) fn only_file(dir: &Path, extension: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|of| of == extension) {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
