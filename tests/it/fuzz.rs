//! The corpora of the fuzz targets, played through: what `make fuzz` found once is not lost.

#[expect(
    unreachable_pub,
    reason = "the fuzz targets are another crate, and call it"
)]
#[path = "../../fuzz/src/lib.rs"]
mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn every_corpus_holds() {
    let mut broken = Vec::new();
    for (name, target) in harness::TARGETS {
        let inputs = fs::read_dir(corpora().join(name)).unwrap();
        let mut inputs: Vec<_> = inputs.map(|input| input.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        inputs.retain(|path| {
            let input = fs::read(path).unwrap();
            panic::catch_unwind(|| target(&input)).is_err()
        });
        broken.extend(inputs);
    }
    assert!(broken.is_empty(), "these do not hold: {broken:#?}");
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<String> = harness::TARGETS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let files = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        let stem = |entry: fs::DirEntry| {
            entry
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        };
        entries.map(|entry| stem(entry.unwrap())).collect()
    };
    assert_eq!(files(&corpora()), targets);
    assert_eq!(files(&corpora().with_file_name("targets")), targets);
}
