//! Tests of `render/strings.rs`.

use super::*;

fn strings() -> Strings {
    Strings::load(&[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_language_says_the_same_words_with_the_same_places() {
    let english: File = toml::from_str(BUILT_IN[0].1).unwrap();
    for (tag, text) in BUILT_IN {
        let file: File = toml::from_str(text).unwrap();
        let plural = file.language.expect("a language of its own").plural;
        assert!(file.words.keys().eq(english.words.keys()), "{tag}");
        for (key, word) in &file.words {
            // A form for one or two may leave the number out, since the word contains it.
            let (places, model) = (word.placeholders(), english.words[key].placeholders());
            assert_eq!(places, model, "{tag}: {key}");
            let StringEntry::Counted(forms) = word else {
                continue;
            };
            let needed: BTreeSet<&str> = (0..200).map(|count| plural.category(count)).collect();
            assert!(forms.keys().map(String::as_str).eq(needed), "{tag}: {key}");
        }
    }
}

#[test]
fn numbers_sizes_and_dates_are_written_as_the_language_does() {
    let (strings, local) = (
        strings(),
        "2026-11-30T18:40:00".parse::<DateTime>().unwrap(),
    );
    let told = ["en", "de", "fr", "es", "ja", "ar"].map(|tag| {
        let language = strings.language(tag);
        let sizes = [0, 999, 1000, 48_200, 1_234_567, 999_999, 5_000_000_000]
            .map(|bytes| language.size(bytes));
        let (date, instant) = (language.date(local.date()), language.instant(local, "CET"));
        format!(
            "{tag}: {} | {} {} | {date} | {instant}",
            sizes.join(", "),
            language.number(1234),
            language.number(12_345)
        )
    });
    insta::assert_snapshot!(told.join("\n"), @"
    en: 0 B, 999 B, 1 KB, 48 KB, 1.2 MB, 1 MB, 5 GB | 1,234 12,345 | 30 Nov 2026 | Monday 30 November 2026, 18:40 CET
    de: 0 B, 999 B, 1 KB, 48 KB, 1,2 MB, 1 MB, 5 GB | 1.234 12.345 | 30. Nov. 2026 | Montag, 30. November 2026, 18:40 Uhr CET
    fr: 0 o, 999 o, 1 Ko, 48 Ko, 1,2 Mo, 1 Mo, 5 Go | 1 234 12 345 | 30 nov. 2026 | lundi 30 novembre 2026 à 18:40 CET
    es: 0 B, 999 B, 1 KB, 48 KB, 1,2 MB, 1 MB, 5 GB | 1234 12.345 | 30 nov 2026 | lunes 30 de noviembre de 2026 a las 18:40 CET
    ja: 0 B, 999 B, 1 KB, 48 KB, 1.2 MB, 1 MB, 5 GB | 1,234 12,345 | 2026/11/30 | 2026年11月30日（月）18:40 CET
    ar: 0 بايت, 999 بايت, 1 ك.ب, 48 ك.ب, 1.2 م.ب, 1 م.ب, 5 غ.ب | 1,234 12,345 | 30 نوفمبر 2026 | الاثنين 30 نوفمبر 2026، 18:40 CET
    ");
    let first = strings.language("fr").date(Date::constant(2026, 12, 1));
    assert_eq!(first, "1er déc. 2026");
}

#[test]
fn a_word_takes_the_form_of_its_number() {
    let strings = strings();
    let say = |tag: &str, count: u64| {
        let language = strings.language(tag);
        language
            .say(
                "files",
                Some(count),
                &BTreeMap::from([("count", language.number(count))]),
            )
            .unwrap()
            .replace(['\u{2068}', '\u{2069}'], "")
    };
    let told = ["en", "fr", "ja", "ar"].map(|tag| {
        [0, 1, 2, 3, 11, 100]
            .map(|count| say(tag, count))
            .join(", ")
    });
    insta::assert_snapshot!(told.join("\n"), @"
    0 files, 1 file, 2 files, 3 files, 11 files, 100 files
    0 fichier, 1 fichier, 2 fichiers, 3 fichiers, 11 fichiers, 100 fichiers
    0 個のファイル, 1 個のファイル, 2 個のファイル, 3 個のファイル, 11 個のファイル, 100 個のファイル
    لا ملفات, ملف واحد, ملفان, 3 ملفات, 11 ملفًا, 100 ملف
    ");
}

#[test]
fn the_nearest_language_is_found() {
    let strings = strings();
    assert_eq!(
        ["de-AT", "FR", "pt-BR"].map(|tag| strings.language(tag).tag()),
        ["de", "fr", "en"]
    );
}
