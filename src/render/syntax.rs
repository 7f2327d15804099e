//! What the text of a template may contain, checked before the engine reads it.
//!
//! The engine overflows its stack on deep nesting and on templates that include each other, and it escapes for
//! HTML text only: a link in an unquoted attribute, or a value in a script, is not safe by its escaping. So
//! neither is let in. <https://github.com/sunng87/handlebars-rust/issues/386>

/// The longest template, in bytes: ten times the longest of ours.
pub(super) const MAX_SOURCE_BYTES: usize = 256 * 1024;

/// The deepest that blocks may stand in each other: twice what ours do.
const MAX_BLOCK_DEPTH: usize = 16;

/// The deepest that helpers may stand in each other, `(size (lookup …))`.
const MAX_CALL_DEPTH: usize = 4;

/// What a template calls the block that it was given.
pub(super) const PARTIAL_BLOCK: &str = "@partial-block";

/// A line of a template, and what is wrong there.
pub(super) type Complaint = (usize, String);

/// What kind of text a template makes, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// Values are escaped, and only stand where escaping is enough.
    Html,
    /// Values stand as they are.
    Text,
    /// Style or script: a text without tags, whose hash is part of a page's policy.
    Inert,
}

/// A template's text, in pieces.
#[derive(Debug, Clone, Copy)]
enum Piece<'s> {
    Text(&'s str),
    Tag(Tag<'s>),
}

/// What stands between braces.
#[derive(Debug, Clone, Copy)]
struct Tag<'s> {
    line: usize,
    kind: Kind,
    /// Without braces, marks and space.
    inside: &'s str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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

impl Tag<'_> {
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

/// How a template is built, as far as it tells how deep the engine will go.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The deepest that its blocks stand in each other.
    pub(super) depth: usize,
    /// What it includes.
    pub(super) includes: Vec<Include>,
}

/// A template that another includes.
#[derive(Debug)]
pub(super) struct Include {
    /// Its name.
    pub(super) name: String,
    /// In how many blocks it stands.
    pub(super) depth: usize,
}

/// Checks a template's text, and returns how it is built.
pub(super) fn check(source: &str, medium: Medium) -> Result<Outline, Complaint> {
    let pieces = pieces(source)?;
    let outline = outline(&pieces)?;
    match medium {
        Medium::Html => check_html(&pieces)?,
        Medium::Text => {}
        Medium::Inert => refuse_tags(&pieces)?,
    }
    Ok(outline)
}

/// Cuts a text into pieces, and refuses the tags that no template needs.
fn pieces(source: &str) -> Result<Vec<Piece<'_>>, Complaint> {
    let mut pieces = Vec::new();
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
        pieces.push(Piece::Text(text));
        let (tag, after) =
            cut_tag(tag).ok_or_else(|| (line, "{{ is opened and not closed".to_owned()))?;
        pieces.push(Piece::Tag(classify(tag, line)?));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Splits what begins with `{{` after its `}}`; braces in quotes and in comments do not count.
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

fn classify(tag: &str, line: usize) -> Result<Tag<'_>, Complaint> {
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
        return refuse("is a decorator: put a template of its own into partials/ in its place");
    }
    if let Some(comment) = inner.strip_prefix('!') {
        return Ok(Tag {
            line,
            kind: Kind::Comment,
            inside: comment,
        });
    }
    let (kind, inside) = match inner.as_bytes() {
        [b'#', b'>', ..] => (Kind::OpenPartial, &inner[2..]),
        [b'#', ..] => (Kind::Open, &inner[1..]),
        [b'/', ..] => (Kind::Close, &inner[1..]),
        [b'>', ..] => (Kind::Partial, &inner[1..]),
        [b'^', ..] => (Kind::Else, &inner[1..]),
        _ if inner.split_whitespace().next() == Some("else") => (Kind::Else, inner),
        _ => (Kind::Value, inner),
    };
    let unquoted = without_quotes(inside);
    if unquoted.contains(['[', ']', '{', '}']) {
        return refuse("has brackets or braces in it, which no template needs");
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
                "has helpers in each other more than {MAX_CALL_DEPTH} deep"
            ));
        }
    }
    Ok(Tag {
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

/// A block that was opened and not closed yet.
struct Open<'t, 's> {
    tag: &'t Tag<'s>,
    /// How many `{{else if}}` it has: the engine puts each into the one before.
    chained: usize,
}

/// Follows the blocks of a template, and refuses those that the engine could not carry out.
fn outline(pieces: &[Piece<'_>]) -> Result<Outline, Complaint> {
    let mut open: Vec<Open<'_, '_>> = Vec::new();
    let mut outline = Outline::default();
    for piece in pieces {
        let Piece::Tag(tag) = piece else { continue };
        match tag.kind {
            Kind::Open | Kind::OpenPartial => open.push(Open { tag, chained: 0 }),
            Kind::Else if tag.is_chained() => {
                if let Some(block) = open.last_mut() {
                    block.chained += 1;
                }
            }
            Kind::Close => check_closing(tag, open.pop().as_ref())?,
            Kind::Comment | Kind::Else | Kind::Partial | Kind::Value => {}
        }
        let depth: usize = open.iter().map(|block| 1 + block.chained).sum();
        if depth > MAX_BLOCK_DEPTH {
            let reason = format!("blocks stand in each other more than {MAX_BLOCK_DEPTH} deep");
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

fn check_closing(tag: &Tag<'_>, opened: Option<&Open<'_, '_>>) -> Result<(), Complaint> {
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

/// The template that a tag includes, if it does.
fn included(tag: &Tag<'_>) -> Result<Option<String>, Complaint> {
    let includes = matches!(tag.kind, Kind::Partial | Kind::OpenPartial);
    if !includes || tag.word() == PARTIAL_BLOCK {
        return Ok(None);
    }
    if tag.word().starts_with(['(', '"', '\'']) {
        let reason = "a template to include is named as it is, not worked out and not in quotes";
        return Err((tag.line, reason.to_owned()));
    }
    Ok(Some(tag.word().to_owned()))
}

fn refuse_tags(pieces: &[Piece<'_>]) -> Result<(), Complaint> {
    for piece in pieces {
        if let Piece::Tag(tag) = piece {
            return Err((
                tag.line,
                "nothing can be filled in in a style or a script".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Where in an HTML text one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Text,
    Comment,
    /// In a tag, outside of values.
    Markup,
    /// In the value of an attribute: its name, its quote, and the value so far.
    Attribute {
        name: String,
        quote: Option<char>,
        value: String,
    },
    /// In a style or a script.
    Inert(&'static str),
}

/// Attributes that a browser opens, or loads from.
const URL_ATTRIBUTES: [&str; 8] = [
    "action",
    "background",
    "data",
    "formaction",
    "href",
    "poster",
    "src",
    "srcset",
];

/// Follows the HTML through a template and refuses values where escaping does not make them harmless.
fn check_html(pieces: &[Piece<'_>]) -> Result<(), Complaint> {
    let mut reader = Reader {
        place: Place::Text,
        word: String::new(),
        element: String::new(),
    };
    for piece in pieces {
        match piece {
            Piece::Text(text) => reader.read(text),
            Piece::Tag(tag) if matches!(tag.kind, Kind::Value | Kind::Partial) => {
                reader
                    .admit(tag)
                    .map_err(|reason| (tag.line, format!("{{{{{}}}}} {reason}", tag.inside)))?;
            }
            Piece::Tag(_) => {}
        }
    }
    Ok(())
}

/// A reader of HTML that knows as much of it as it takes to find attributes, scripts and comments.
struct Reader {
    place: Place,
    /// The attribute's name, while it is read.
    word: String,
    /// The element whose tag is read.
    element: String,
}

impl Reader {
    fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = self.step(c, rest);
        }
    }

    /// Takes what begins with `c` and returns the rest.
    fn step<'t>(&mut self, c: char, text: &'t str) -> &'t str {
        let after = &text[c.len_utf8()..];
        match &mut self.place {
            Place::Text if text.starts_with("<!--") => {
                self.place = Place::Comment;
                return &text[4..];
            }
            Place::Text
                if c == '<'
                    && after
                        .starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') =>
            {
                let name = after
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '/')
                    .next();
                self.element = name.unwrap_or_default().to_ascii_lowercase();
                self.word.clear();
                self.place = Place::Markup;
                return &after[self.element.len()..];
            }
            Place::Text => {}
            // `<!--[if mso]>` is read by one mail program as markup, so what follows is markup for all.
            Place::Comment if text.starts_with("-->") || text.starts_with("]>") => {
                self.place = Place::Text;
            }
            Place::Comment => {}
            Place::Inert(element) => {
                let closes = text.get(..element.len() + 2).is_some_and(|end| {
                    end.starts_with("</") && end[2..].eq_ignore_ascii_case(element)
                });
                if closes {
                    self.place = Place::Text;
                    return text;
                }
            }
            Place::Markup => match c {
                '>' => {
                    self.place = match self.element.as_str() {
                        "script" => Place::Inert("script"),
                        "style" => Place::Inert("style"),
                        _ => Place::Text,
                    };
                }
                '=' => {
                    let name = std::mem::take(&mut self.word).to_ascii_lowercase();
                    let value = after.trim_start();
                    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
                    self.place = Place::Attribute {
                        name,
                        quote,
                        value: String::new(),
                    };
                    return quote.map_or(value, |_| &value[1..]);
                }
                c if c.is_whitespace() || c == '/' => self.word.clear(),
                c => self.word.push(c),
            },
            Place::Attribute { quote, value, .. } => match (*quote, c) {
                (Some(quote), c) if c == quote => self.place = Place::Markup,
                (None, c) if c.is_whitespace() || c == '>' => {
                    self.place = Place::Markup;
                    return if c == '>' { text } else { after };
                }
                (_, c) => value.push(c),
            },
        }
        after
    }

    /// Whether a value may stand here.
    fn admit(&mut self, tag: &Tag<'_>) -> Result<(), String> {
        match &mut self.place {
            Place::Text => Ok(()),
            Place::Comment => {
                Err("stands in a comment: use {{! … }}, which nobody is sent".to_owned())
            }
            Place::Inert(_) if tag.kind == Kind::Partial => Ok(()),
            Place::Inert(element) => Err(format!(
                "stands in a <{element}>, where escaping does not protect"
            )),
            Place::Markup => Err("stands in a tag, outside of a quoted attribute".to_owned()),
            Place::Attribute {
                name, quote: None, ..
            } => Err(format!(
                "stands in the attribute {name} without quotes: write {name}=\"…\""
            )),
            Place::Attribute { name, .. } if name.starts_with("on") || name == "style" => Err(
                format!("stands in the attribute {name}, where escaping does not protect"),
            ),
            Place::Attribute { name, value, .. } => {
                let is_url = URL_ATTRIBUTES.contains(&name.as_str());
                if is_url && value.is_empty() && tag.word() != "link" {
                    return Err(format!(
                        "stands in {name}: write {{{{link {}}}}}, which lets https alone pass",
                        tag.inside
                    ));
                }
                // What follows a link, or `#`, or `mailto:`, can no longer choose the scheme.
                value.push_str("{{}}");
                Ok(())
            }
        }
    }
}

/// Whether a tag of a template that was checked uses a name.
pub(super) fn uses(source: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    pieces(source).is_ok_and(|pieces| {
        pieces.iter().any(|piece| match piece {
            Piece::Tag(tag) if tag.kind != Kind::Comment => without_quotes(tag.inside)
                .split(|c| !is_name(c))
                .any(|word| word == name),
            _ => false,
        })
    })
}

fn line_at(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

/// Cuts out the styles or scripts of a page: from `<style` to `</style>`, with their tags.
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
