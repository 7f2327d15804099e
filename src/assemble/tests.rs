//! Tests of `assemble.rs`.

use std::fs;

use super::*;

#[test]
fn a_lock_that_is_a_link_is_refused_and_its_target_stays() {
    let (outside, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = outside.path().join("target");
    fs::write(&target, "root's").unwrap();
    std::os::unix::fs::symlink(&target, state.path().join(".lock")).unwrap();
    assert!(lock_state_dir(state.path()).is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "root's");
}
