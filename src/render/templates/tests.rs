//! Tests of `render/templates.rs`.

use std::fs;

use super::*;

/// Loads with one file replaced or added, and returns the error.
fn refusal(name: &str, source: &str) -> String {
    loaded(&[(name, source)]).map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
}

fn loaded(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, source).unwrap();
    }
    Templates::load(Some(folder.path()))
}

fn body(source: &str) -> String {
    refusal("email/report/body.html.hbs", source)
}

#[test]
fn what_is_compiled_in_loads() {
    let templates = Templates::load(None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(templates.emails(), ["digest", "gallery-invite", "report"]);
    assert_eq!(templates.galleries(), ["gallery"]);
}

#[test]
fn a_link_that_leads_out_of_the_directory_is_refused_and_not_followed_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::os::unix::fs::symlink(".", folder.path().join(name)).unwrap();
    }
    let error = Templates::load(Some(folder.path())).unwrap_err();
    let sentence = crate::text::chain(&error);
    assert!(sentence.contains("look for a link"), "{sentence}");
}

#[test]
fn a_name_that_does_not_exist_is_refused_wherever_it_stands() {
    let told = [
        "<p>\n{{#if galery_url}}x{{/if}}</p>",
        "{{#each fils}}{{else}}none{{/each}}",
        "{{#each files}}{{#if sise}}x{{/if}}{{/each}}",
        "{{#each files}}{{count}}{{/each}}",
        "{{#each files as |file|}}{{file.nam}}{{/each}}",
        "{{#with missed}}{{../cout}}{{/with}}",
        "{{size size_byte}}",
        "{{t \"greting\"}}",
        "{{t \"works_until\"}}",
        "{{sice count}}",
        "{{size}}",
        "{{subject.length}}",
        "{{> partials/buton.html url=gallery_url label=\"x\"}}",
        "{{> partials/button.html url=gallery_url}}",
    ]
    .map(body);
    insta::assert_snapshot!(told.join("\n"), @r#"
    the template email/report/body.html.hbs, line 2: uses galery_url, but there is no "galery_url": did you mean "gallery_url"?
    the template email/report/body.html.hbs, line 1: uses fils, but there is no "fils": did you mean "files"?
    the template email/report/body.html.hbs, line 1: uses sise, but there is no "sise"; known: folder, modified, name, size_bytes, url
    the template email/report/body.html.hbs, line 1: uses count, but there is no "count"; known: folder, modified, name, size_bytes, url
    the template email/report/body.html.hbs, line 1: uses file.nam, but there is no "nam": did you mean "name"?
    the template email/report/body.html.hbs, line 1: uses ../cout, but there is no "cout": did you mean "count"?
    the template email/report/body.html.hbs, line 1: uses size_byte, but there is no "size_byte": did you mean "size_bytes"?
    the template email/report/body.html.hbs, line 1: uses the word "greting", which strings/en.toml does not have: did you mean "greeting"?
    the template email/report/body.html.hbs, line 1: uses the word "works_until" without when=…
    the template email/report/body.html.hbs, line 1: uses the helper "sice", which does not exist: did you mean "size"?
    the template email/report/body.html.hbs, line 1: uses the helper "size" without a value
    the template email/report/body.html.hbs, line 1: uses subject.length, but the value before "length" has no fields
    the template email/report/body.html.hbs, line 1: {{> partials/buton.html}} includes an unknown template: did you mean "partials/button.html"?
    the template partials/button.html.hbs, line 3: uses label, but there is no "label"; known: brand, count, dated, elsewhere, expires_at, files, folders, gallery_url, glimpse, grouped, job, language, manifest_url, message, missed, more, opens, overflows, personal, recipient, sender, size_bytes, sooner, subject, titled, topic, vars, zip
    "#);
}

#[test]
fn what_only_a_job_knows_is_let_through() {
    assert_eq!(
        body("{{#if vars.customer}}{{vars.customer.name}}{{/if}}{{recipient.vars.x}}"),
        "nothing"
    );
}

#[test]
fn what_would_not_be_escaped_is_refused() {
    let told = [
        "{{{subject}}}",
        "{{&subject}}",
        "{{{{raw}}}}x{{{{/raw}}}}",
        "{{#*inline \"x\"}}x{{/inline}}",
        "\\{{subject}}",
    ]
    .map(body);
    insta::assert_snapshot!(told.join("\n"), @r#"
        the template email/report/body.html.hbs, line 1: {{{subject}}} would show a value without escaping it: use two braces
        the template email/report/body.html.hbs, line 1: {{&subject}} would show a value without escaping it: use two braces
        the template email/report/body.html.hbs, line 1: {{{{raw}}} would show a value without escaping it: use two braces
        the template email/report/body.html.hbs, line 1: {{#*inline "x"}} is a decorator, which is not supported: use a template in partials/
        the template email/report/body.html.hbs, line 1: a backslash before {{ does not belong there: write &#123; for a brace
        "#);
}

#[test]
fn what_would_never_end_is_refused() {
    let deep = "{{#if count}}".repeat(17) + &"{{/if}}".repeat(17);
    let calls = format!(
        "{{{{#if {}count{}}}}}x{{{{/if}}}}",
        "(not ".repeat(6),
        ")".repeat(6)
    );
    let mut told = vec![body(&deep), body(&calls), body(&"x".repeat(300_000))];
    told.push(
        loaded(&[
            ("partials/a.html.hbs", "{{> partials/b.html}}"),
            (
                "partials/b.html.hbs",
                "<p>{{#> partials/a.html}}x{{/partials/a.html}}</p>",
            ),
        ])
        .unwrap_err()
        .to_string(),
    );
    told.push(refusal(
        "partials/button.html.hbs",
        "{{> partials/button.html}}",
    ));
    insta::assert_snapshot!(told.join("\n"), @"
    the template email/report/body.html.hbs, line 1: blocks are nested more than 16 deep
    the template email/report/body.html.hbs, line 1: {{#if (not (not (not (not (not (not count))))))}} has helpers nested more than 4 deep
    the template email/report/body.html.hbs: has 300000 bytes; 262144 are allowed
    the template partials/a.html.hbs: includes itself: partials/a.html → partials/b.html → partials/a.html
    the template partials/button.html.hbs: includes itself: partials/button.html → partials/button.html
    ");
}

/// Templates that include each other in a chain, `times` times each.
fn chain(length: usize, times: usize) -> Vec<(String, String)> {
    let file = |n: usize| format!("partials/p{n}.html.hbs");
    let source = |n: usize| format!("{{{{> partials/p{}.html}}}}", n + 1).repeat(times);
    let mut files: Vec<_> = (0..length).map(|n| (file(n), source(n))).collect();
    files.push((file(length), "<p>x</p>".to_owned()));
    files
}

fn refused_chain(length: usize, times: usize) -> String {
    let files = chain(length, times);
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, source)| (name.as_str(), source.as_str()))
        .collect();
    loaded(&files).map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
}

#[test]
fn what_would_overflow_the_stack_without_a_circle_is_refused() {
    let mut chained = "{{#if count}}a".to_owned();
    chained.push_str(&"{{else if size_bytes}}b".repeat(10_000));
    chained.push_str("{{/if}}");
    let told = [
        body(&chained),
        refused_chain(5000, 1),
        refused_chain(33, 1),
        refused_chain(10, 2),
        refused_chain(30, 1),
    ];
    insta::assert_snapshot!(told.join("\n"), @r"
        the template email/report/body.html.hbs, line 1: blocks are nested more than 16 deep
        the template partials/p0.html.hbs: blocks and includes are nested more than 32 deep
        the template partials/p0.html.hbs: blocks and includes are nested more than 32 deep
        the template partials/p3.html.hbs: includes templates more than 200 times
        nothing
        ");
}

#[test]
fn the_deepest_that_is_let_in_is_carried_out_on_a_small_stack() {
    let mut deep = "{{#if count}}".repeat(15);
    deep.push_str("{{> partials/p16.html}}");
    deep.push_str(&"{{/if}}".repeat(15));
    let mut files = chain(30, 1).split_off(16);
    files.push(("email/report/body.html.hbs".to_owned(), deep));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, source)| (name.as_str(), source.as_str()))
        .collect();
    let templates = loaded(&files).unwrap_or_else(|error| panic!("{error}"));
    // A worker's threads have two megabytes of stack, and these builds need several times as much of it as a release build.
    let render = move || templates.render("email/report/body.html", &email::sample());
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let html = thread.spawn(render).unwrap().join().unwrap().unwrap();
    assert_eq!(html, "<p>x</p>");
}

#[test]
fn the_block_of_a_layout_is_given_by_the_template_that_includes_it() {
    let told = [
        body("{{> @partial-block}}"),
        body("{{> partials/mail.html}}"),
        body("{{#> partials/mail.html}}{{> @partial-block}}{{/partials/mail.html}}"),
        body("{{#> @partial-block}}{{sise}}{{/@partial-block}}"),
        body("{{> \"partials/mail.html\"}}"),
        body("{{> (lookup vars \"x\")}}"),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    the template email/report/body.html.hbs, line 1: shows @partial-block, but is included without a block: include it by {{#> …}}
    the template partials/mail.html.hbs, line 60: shows @partial-block, but is included without a block: include it by {{#> …}}
    the template email/report/body.html.hbs, line 1: shows @partial-block, but is included without a block: include it by {{#> …}}
    the template email/report/body.html.hbs, line 1: uses sise, but there is no "sise"; known: brand, count, dated, elsewhere, expires_at, files, folders, gallery_url, glimpse, grouped, job, language, manifest_url, message, missed, more, opens, overflows, personal, recipient, sender, size_bytes, sooner, subject, titled, topic, vars, zip
    the template email/report/body.html.hbs, line 1: an included template is named by its plain path, without quotes or expressions
    the template email/report/body.html.hbs, line 1: an included template is named by its plain path, without quotes or expressions
    "#);
}

#[test]
fn what_is_not_well_formed_is_told_with_its_line() {
    let told = [
        "a\n{{#if count}}\nb",
        "a\n{{count",
        "{{/if}}",
        "{{#if count}}\n{{/each}}",
        "\n{{#each}}{{/each}}",
        "{{count count=}}",
    ]
    .map(body);
    insta::assert_snapshot!(told.join("\n"), @r#"
        the template email/report/body.html.hbs, line 2: {{#if}} is opened and not closed
        the template email/report/body.html.hbs, line 2: {{ is opened and not closed
        the template email/report/body.html.hbs, line 1: {{/if}} closes what was not opened
        the template email/report/body.html.hbs, line 2: {{/each}} closes {{#if}}, which was opened in line 1
        the template email/report/body.html.hbs, line 1: uses the helper "each" without a value
        the template email/report/body.html.hbs, line 1: is not a template: a tag is not well formed there
        "#);
}

#[test]
fn a_file_is_part_of_something_or_refused() {
    let told = [
        refusal("email/report/body.htm.hbs", ""),
        refusal("email/news/body.txt.hbs", ""),
        refusal("email/report/notes.txt.hbs", ""),
        refusal("strings/en.toml", "[words]\nopen = 1"),
        refusal("strings/de.toml", "[words]\nopen = \"{nam}\""),
        refusal("strings/it.toml", "[words]\nopen = \"Apri\""),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
        the template email/report/body.htm.hbs: is no part of a template: those are body.html, body.txt, subject.txt
        the template email/news/body.html.hbs: is missing: the others of its folder are there
        the template email/report/notes.txt.hbs: is no part of a template: those are body.html, body.txt, subject.txt
        the template strings/en.toml, line 2: is not a file of words: a word is a text, or a table of its forms
        the template strings/de.toml: the word "open" has the placeholder {nam}, which has no value
        the template strings/it.toml: adds a language, and so needs a [language] table
        "#);
}

#[test]
fn a_template_of_ones_own_joins_the_others() {
    let templates = loaded(&[
        ("email/short/body.html.hbs", "<p>{{t \"open\"}}</p>"),
        ("email/short/body.txt.hbs", "{{count}}"),
        ("email/short/subject.txt.hbs", "{{topic}}"),
        ("gallery/press/page.html.hbs", "<style>p{}</style>{{title}}"),
        ("gallery/press/index.html.hbs", "{{title}}"),
        ("strings/de.toml", "[words]\nopen = \"Ansehen\""),
        ("README.md", "{{"),
    ]);
    let templates = templates.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        templates.emails(),
        ["digest", "gallery-invite", "report", "short"]
    );
    assert_eq!(templates.galleries(), ["gallery", "press"]);
    assert_eq!(
        templates
            .inline_hashes("gallery/press/page.html")
            .style
            .len(),
        1
    );
    let german = templates.strings().language("de");
    assert_eq!(
        german.say("open", None, &BTreeMap::new()).unwrap(),
        "Ansehen"
    );
}

#[test]
fn the_readme_names_all_that_a_template_can_use() {
    fn names(view: &Value, found: &mut BTreeSet<String>) {
        match view {
            Value::Object(fields) => {
                found.extend(fields.keys().cloned());
                fields.values().for_each(|field| names(field, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| names(element, found)),
            _ => {}
        }
    }
    let readme = include_str!("../../../templates/README.md");
    let mut known: BTreeSet<String> = helpers::names().map(ToOwned::to_owned).collect();
    for sample in [
        email::sample(),
        gallery::page_sample(),
        gallery::index_sample(),
    ] {
        names(&sample, &mut known);
    }
    // The parts of an instant are for the helpers, except `iso` in `datetime`.
    let inner = ["iso", "local", "zone"];
    let told = |name: &str| {
        readme.contains(&format!("`{name}`")) || readme.contains(&format!("{{{{{name} "))
    };
    let missing: Vec<&String> = known
        .iter()
        .filter(|name| !inner.contains(&name.as_str()) && !told(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
