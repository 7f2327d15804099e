//! ZIPs, and the programs that judge them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::files_below;
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

/// The only file below a directory whose path ends so.
pub(crate) fn only_file(dir: &Path, ending: &str) -> PathBuf {
    let mut found = files_below(dir, ending);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
