//! Tests of `render/email/view.rs`.

use proptest::prelude::*;
use serde_json::json;

use super::super::super::samples::{audited, installed, link, plan, settings};
use super::*;
use crate::job::Recipient;

/// The view of a mail about this many files in this many folders, with room for `rows` of them.
fn shown(files: usize, folders: usize, order: &str, rows: usize) -> (Value, usize) {
    let over = json!({ "from": {
        "connection": "reports", "bucket": "acme-reports", "prefix": "shoot/", "order": order,
    } });
    let plan = plan("shoot/", &over);
    let key = |n: usize| match n % folders {
        0 => format!("shoot/{n}.jpg"),
        day => format!("shoot/Day {day}/{n}.jpg"),
    };
    let mut digest = Digest::new(&plan);
    digest.push(&audited(
        (0..files).map(|n| link(&key(n), n as u64)).collect(),
        &[],
    ));
    let (ann, settings) = (Recipient::parse("ann@acme.example").unwrap(), settings());
    let letter = MailRequest {
        plan: &plan,
        digest: &digest,
        recipient: &ann,
        gallery_url: None,
        manifest_url: None,
        zips: None,
        settings: &settings,
    };
    let names = named_folders(&digest);
    let mail_rows = MailRows::new(&letter, &names, rows);
    let language = installed().strings().language("en");
    let mut view = View::new(&letter, language, None, &mail_rows);
    view.show(&mail_rows, mail_rows.most());
    (serde_json::to_value(view).unwrap(), mail_rows.most())
}

fn sum(list: &Value, field: &str) -> u64 {
    let list = list.as_array().into_iter().flatten();
    list.map(|element| element[field].as_u64().unwrap()).sum()
}

fn length(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

proptest! {
    #[test]
    fn every_file_is_shown_or_counted_once_in_its_folder(
        files in 0..700_usize,
        folders in prop_oneof![1..5_usize, 5..500_usize],
        order in prop::sample::select(vec!["key", "largest"]),
        rows in 0..210_usize,
    ) {
        let (view, shown) = shown(files, folders, order, rows);
        let total: u64 = (0..files as u64).sum();
        for (field, all) in [("count", files as u64), ("size_bytes", total)] {
            let elsewhere = view["elsewhere"][field].as_u64().unwrap_or(0);
            prop_assert_eq!(sum(&view["folders"], field) + elsewhere, all);
            let more = &view["more"];
            let told = more[field].as_u64().unwrap_or(0);
            if view["grouped"] == true {
                let elsewhere = more["elsewhere"][field].as_u64().unwrap_or(0);
                prop_assert_eq!(sum(&more["folders"], field) + elsewhere, told);
            }
            if field == "count" {
                prop_assert_eq!(told + shown as u64, all);
            }
        }
        let groups = view["folders"].as_array().unwrap();
        prop_assert_eq!(groups.iter().map(|group| length(&group["files"])).sum::<usize>(), shown);
        prop_assert_eq!(length(&view["files"]), shown);
        let empty = groups.iter().filter(|group| length(&group["files"]) == 0).count();
        prop_assert!(empty <= MAX_NAMED_FOLDERS);
        prop_assert!(length(&view["more"]["folders"]) <= MAX_NAMED_FOLDERS);
    }
}

#[test]
fn a_long_name_loses_its_middle_and_keeps_its_extension() {
    let name = format!("Schedule {}final.xlsx", "very ".repeat(100));
    let brief = brief(&name);
    assert_eq!(brief.chars().count(), MAX_NAME_CHARS);
    assert!(brief.starts_with("Schedule very") && brief.ends_with("very final.xlsx"));
    assert_eq!(super::brief("two\nlines.pdf"), "two\u{FFFD}lines.pdf");
}
