//! Tests of `ledger/s3.rs`.

use super::*;
use proptest::prelude::*;

#[test]
fn a_usual_id_is_its_own_spelling() {
    assert_eq!(spell("acme-daily-2026-11-23"), "acme-daily-2026-11-23");
    assert_eq!(spell("a/b: ü"), "a!2fb!3a!20!c3!bc");
    assert_eq!(spell(".."), "!2e.");
}

#[test]
fn whether_a_job_is_done_is_in_the_names_of_its_records() {
    let is_done = |names: &[&str]| is_done_by_names(names.iter().copied());
    assert!(!is_done(&[]) && !is_done(&["plan", "lease"]));
    assert!(is_done(&["done", "lease", "notified", "plan", "zip"]));
    assert!(!is_done(&["done", "plan", "reopened.1"]));
    assert!(is_done(&["done", "done.1", "plan", "reopened.1"]));
    assert!(!is_done(&[
        "done",
        "done.1",
        "plan",
        "reopened.1",
        "reopened.12"
    ]));
    assert!(!is_done(&["done.2", "plan"]), "of no reopening");
    assert!(!is_done(&["done.x", "done.", "doner", "reopened"]));
}

proptest! {
    #[test]
    fn what_is_spelled_can_be_read_and_holds_nothing_but_safe_characters(text in "\\PC{0,60}") {
        let spelled = spell(&text);
        prop_assert!(spelled.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!-_.".contains(&byte)));
        prop_assert!(!spelled.starts_with('.'));
        prop_assert_eq!(read_spelled(&spelled), Some(text));
    }

    #[test]
    fn a_key_that_the_program_never_wrote_is_refused_without_a_panic(text in "\\PC{0,20}") {
        let _ = read_spelled(&text);
    }
}
