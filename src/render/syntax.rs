//! Checks the text of a template before the engine parses it.
//!
//! The engine overflows its stack on deep nesting and on templates that include each other, so both are bounded
//! (<https://github.com/sunng87/handlebars-rust/issues/386>). Every value is escaped, for HTML text and quoted attributes. The
//! position of a value within the HTML is not checked: templates are installed by the operator (`templates/README.md`).

/// The maximum size of a template, in bytes: ten times the largest built-in one.
pub(super) const MAX_SOURCE_BYTES: usize = 256 * 1024;

/// The maximum nesting depth of blocks: twice what the built-in templates need.
const MAX_BLOCK_DEPTH: usize = 16;

/// The maximum nesting depth of helper calls, `(size (lookup …))`.
const MAX_CALL_DEPTH: usize = 4;

/// The name of the block that the including template passes.
pub(super) const PARTIAL_BLOCK: &str = "@partial-block";

/// A line of a template, and its error.
pub(super) type SyntaxError = (usize, String);

/// The type of text that a template produces, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// Values are escaped.
    Html,
    /// Values are not escaped.
    Text,
    /// Style or script: a text without tags, whose hash is part of a page's policy.
    Inert,
}

/// A tag, the text between braces.
#[derive(Debug, Clone, Copy)]
struct TemplateTag<'s> {
    line: usize,
    kind: TagKind,
    /// Without braces, marks and space.
    inside: &'s str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagKind {
    Comment,
    /// `{{#if …}}`
    Open,
    /// `{{#> layout}}`
    OpenPartial,
    /// `{{/if}}`
    Close,
    /// `{{else}}`
    Else,
    /// `{{> partial}}`
    Partial,
    /// `{{value}}`, `{{helper value}}`
    Value,
}

impl TemplateTag<'_> {
    /// The first word: a helper's, a partial's, a value's name.
    fn word(&self) -> &str {
        self.inside.split_whitespace().next().unwrap_or_default()
    }

    /// Whether an `{{else}}` opens a block of its own: `{{else if …}}`.
    fn is_chained(&self) -> bool {
        let after = self.inside.strip_prefix("else").unwrap_or(self.inside);
        !after.trim().is_empty()
    }
}

/// The structure of a template, as far as it determines the engine's recursion depth.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The nesting depth of its blocks.
    pub(super) depth: usize,
    /// The templates that it includes.
    pub(super) includes: Vec<Include>,
}

/// A template that another includes.
#[derive(Debug)]
pub(super) struct Include {
    /// Its name.
    pub(super) name: String,
    /// The number of blocks around it.
    pub(super) depth: usize,
}

/// Checks a template's text, and returns its structure.
pub(super) fn check(source: &str, medium: Medium) -> Result<Outline, SyntaxError> {
    let tags = tags(source)?;
    if let (Medium::Inert, Some(tag)) = (medium, tags.first()) {
        let reason = "a value must not stand in a style or a script";
        return Err((tag.line, reason.to_owned()));
    }
    outline(&tags)
}

/// Finds the tags of a template, and rejects unsupported ones.
fn tags(source: &str) -> Result<Vec<TemplateTag<'_>>, SyntaxError> {
    let mut tags = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find("{{") {
        let line = line_at(source, source.len() - rest.len() + at);
        let (text, tag) = rest.split_at(at);
        if text.ends_with('\\') {
            return Err((
                line,
                "a backslash before {{ does not belong there: write &#123; for a brace".to_owned(),
            ));
        }
        let (tag, after) =
            cut_tag(tag).ok_or_else(|| (line, "{{ is opened and not closed".to_owned()))?;
        tags.push(classify(tag, line)?);
        rest = after;
    }
    Ok(tags)
}

/// Splits a text that begins with `{{` after its `}}`; braces in quotes and in comments do not count.
fn cut_tag(text: &str) -> Option<(&str, &str)> {
    if text.starts_with("{{!--") {
        let end = text.find("--}}")? + 4;
        return Some(text.split_at(end));
    }
    let is_comment = text.starts_with("{{!");
    let mut quote = None;
    let mut skip = false;
    for (at, c) in text.char_indices().skip(2) {
        match (quote, c) {
            _ if skip => skip = false,
            (Some(_), '\\') => skip = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') if !is_comment => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => {
                // `}}}` closes `{{{`: the third brace is part of the tag.
                let end = at + if text[at..].starts_with("}}}") { 3 } else { 2 };
                return Some(text.split_at(end));
            }
            _ => {}
        }
    }
    None
}

fn classify(tag: &str, line: usize) -> Result<TemplateTag<'_>, SyntaxError> {
    let inner = tag
        .trim_start_matches("{{")
        .trim_end_matches('}')
        .trim_matches('~')
        .trim();
    let refuse = |what: &str| Err((line, format!("{tag} {what}")));
    if tag.starts_with("{{{") || inner.starts_with(['{', '&']) {
        return refuse("would show a value without escaping it: use two braces");
    }
    if inner.starts_with('*') || inner.starts_with("#*") {
        return refuse("is a decorator, which is not supported: use a template in partials/");
    }
    if let Some(comment) = inner.strip_prefix('!') {
        return Ok(TemplateTag {
            line,
            kind: TagKind::Comment,
            inside: comment,
        });
    }
    let (kind, inside) = match inner.as_bytes() {
        [b'#', b'>', ..] => (TagKind::OpenPartial, &inner[2..]),
        [b'#', ..] => (TagKind::Open, &inner[1..]),
        [b'/', ..] => (TagKind::Close, &inner[1..]),
        [b'>', ..] => (TagKind::Partial, &inner[1..]),
        [b'^', ..] => (TagKind::Else, &inner[1..]),
        _ if inner.split_whitespace().next() == Some("else") => (TagKind::Else, inner),
        _ => (TagKind::Value, inner),
    };
    let unquoted = without_quotes(inside);
    if unquoted.contains(['[', ']', '{', '}']) {
        return refuse("has brackets or braces in it, which are not supported");
    }
    let mut depth: usize = 0;
    for c in unquoted.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_CALL_DEPTH {
            return refuse(&format!(
                "has helpers nested more than {MAX_CALL_DEPTH} deep"
            ));
        }
    }
    Ok(TemplateTag {
        line,
        kind,
        inside: inside.trim(),
    })
}

fn without_quotes(text: &str) -> String {
    let mut quote = None;
    let mut outside = String::with_capacity(text.len());
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, c) => outside.push(c),
        }
    }
    outside
}

/// A block that is not closed yet.
struct Open<'t, 's> {
    tag: &'t TemplateTag<'s>,
    /// The number of its `{{else if}}`: the engine nests each in the previous one.
    chained: usize,
}

/// Follows the blocks of a template, and rejects those that the engine could not render.
fn outline(tags: &[TemplateTag<'_>]) -> Result<Outline, SyntaxError> {
    let mut open: Vec<Open<'_, '_>> = Vec::new();
    let mut outline = Outline::default();
    for tag in tags {
        match tag.kind {
            TagKind::Open | TagKind::OpenPartial => open.push(Open { tag, chained: 0 }),
            TagKind::Else if tag.is_chained() => {
                if let Some(block) = open.last_mut() {
                    block.chained += 1;
                }
            }
            TagKind::Close => check_closing(tag, open.pop().as_ref())?,
            TagKind::Comment | TagKind::Else | TagKind::Partial | TagKind::Value => {}
        }
        let depth: usize = open.iter().map(|block| 1 + block.chained).sum();
        if depth > MAX_BLOCK_DEPTH {
            let reason = format!("blocks are nested more than {MAX_BLOCK_DEPTH} deep");
            return Err((tag.line, reason));
        }
        outline.depth = outline.depth.max(depth);
        if let Some(name) = included(tag)? {
            outline.includes.push(Include { name, depth });
        }
    }
    match open.pop() {
        Some(Open { tag, .. }) => Err((
            tag.line,
            format!("{{{{#{}}}}} is opened and not closed", tag.word()),
        )),
        None => Ok(outline),
    }
}

fn check_closing(tag: &TemplateTag<'_>, opened: Option<&Open<'_, '_>>) -> Result<(), SyntaxError> {
    let Some(Open { tag: opened, .. }) = opened else {
        let reason = format!("{{{{/{}}}}} closes what was not opened", tag.inside);
        return Err((tag.line, reason));
    };
    if tag.inside.is_empty() || opened.word() == tag.inside {
        return Ok(());
    }
    let reason = format!(
        "{{{{/{}}}}} closes {{{{#{}}}}}, which was opened in line {}",
        tag.inside,
        opened.word(),
        opened.line
    );
    Err((tag.line, reason))
}

/// The template that a tag includes, if any.
fn included(tag: &TemplateTag<'_>) -> Result<Option<String>, SyntaxError> {
    let includes = matches!(tag.kind, TagKind::Partial | TagKind::OpenPartial);
    if !includes || tag.word() == PARTIAL_BLOCK {
        return Ok(None);
    }
    if tag.word().starts_with(['(', '"', '\'']) {
        let reason =
            "an included template is named by its plain path, without quotes or expressions";
        return Err((tag.line, reason.to_owned()));
    }
    Ok(Some(tag.word().to_owned()))
}

/// Whether a tag of a checked template uses a name.
pub(super) fn uses(source: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let uses = |tag: &TemplateTag<'_>| {
        let outside = without_quotes(tag.inside);
        tag.kind != TagKind::Comment && outside.split(|c| !is_name(c)).any(|word| word == name)
    };
    tags(source).is_ok_and(|tags| tags.iter().any(uses))
}

fn line_at(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

/// Extracts the styles or scripts of a page: from `<style` to `</style>`, with their tags.
pub(super) fn inline_blocks<'s>(source: &'s str, element: &str) -> Vec<&'s str> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut blocks = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find(&open) {
        let block = &rest[start..];
        let Some(end) = block.find(&close) else { break };
        blocks.push(&block[..end + close.len()]);
        rest = &block[end + close.len()..];
    }
    blocks
}
