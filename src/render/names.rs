//! Checks, when templates are loaded, that every name in a template exists.
//!
//! The engine's strict mode accepts a misspelt name in `{{#if typo}}` and in `{{#each typo}}…{{else}}`, so that a part of every
//! mail could be missing unnoticed. This module walks the parsed template beside a sample of its values. The values of a job
//! (`vars`) are open: they are checked when a mail is rendered. <https://github.com/sunng87/handlebars-rust/issues/579>

use std::collections::{BTreeMap, BTreeSet};

use handlebars::template::{
    BlockParam, DecoratorTemplate, HelperTemplate, Parameter, Subexpression, TemplateElement,
};
use handlebars::{Handlebars, Path, PathSeg, Template};
use serde_json::Value;

use super::helpers;
use super::syntax::PARTIAL_BLOCK;

/// The error, with its template and line.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) template: String,
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

/// The input of a walk beside the template.
pub(super) struct NameWalk<'a> {
    /// The engine, which resolves included templates.
    pub(super) engine: &'a Handlebars<'static>,
    /// The strings, and the placeholders of each.
    pub(super) words: &'a BTreeMap<&'a str, BTreeSet<String>>,
    /// A sample of the template's values.
    pub(super) sample: &'a Value,
}

/// The shape of a value.
#[derive(Debug, Clone, Copy)]
enum Shape<'v> {
    /// A value of the sample.
    Known(&'v Value),
    /// A value that only a job knows, or that a helper computes.
    Open,
}

/// A context for looking up names: the whole view, an element of a list, an included template's.
#[derive(Debug, Clone)]
struct NameFrame<'v> {
    shape: Shape<'v>,
    /// Names defined beside it: `as |file|`, or `{{> partial name=value}}`.
    named: BTreeMap<String, Shape<'v>>,
}

/// The position of a walk.
struct Here<'t, 'v> {
    template: &'t str,
    line: Option<usize>,
    frames: Vec<NameFrame<'v>>,
    block: GivenBlock,
}

/// Whether the including template passes a block, which `{{> @partial-block}}` renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenBlock {
    Yes,
    No,
}

impl Here<'_, '_> {
    fn stray(&self, reason: String) -> Stray {
        Stray {
            template: self.template.to_owned(),
            line: self.line,
            reason,
        }
    }
}

impl NameWalk<'_> {
    /// Walks a template and all that it includes.
    pub(super) fn check(&self, name: &str) -> Result<(), Stray> {
        let root = NameFrame {
            shape: Shape::Known(self.sample),
            named: BTreeMap::new(),
        };
        self.named_template(name, None, vec![root], GivenBlock::No)
    }

    fn named_template(
        &self,
        name: &str,
        from: Option<&Here<'_, '_>>,
        frames: Vec<NameFrame<'_>>,
        block: GivenBlock,
    ) -> Result<(), Stray> {
        let Some(template) = self.engine.get_template(name) else {
            let known = self.engine.get_templates().keys().map(String::as_str);
            let reason = format!(
                "{{{{> {name}}}}} includes an unknown template{}",
                hint(name, known)
            );
            return Err(from.map_or_else(
                || Stray {
                    template: name.to_owned(),
                    line: None,
                    reason: reason.clone(),
                },
                |here| here.stray(reason.clone()),
            ));
        };
        self.template(
            template,
            &mut Here {
                template: name,
                line: None,
                frames,
                block,
            },
        )
    }

    fn template(&self, template: &Template, here: &mut Here<'_, '_>) -> Result<(), Stray> {
        for (index, element) in template.elements.iter().enumerate() {
            here.line = template
                .mapping
                .get(index)
                .map(|mapping| mapping.0)
                .or(here.line);
            self.element(element, here)?;
        }
        Ok(())
    }

    fn element(&self, element: &TemplateElement, here: &mut Here<'_, '_>) -> Result<(), Stray> {
        match element {
            TemplateElement::RawString(_) | TemplateElement::Comment(_) => Ok(()),
            TemplateElement::Expression(call) => self.expression(call, here).map(drop),
            TemplateElement::HelperBlock(block) => self.block(block, here),
            TemplateElement::PartialExpression(partial)
            | TemplateElement::PartialBlock(partial) => self.partial(partial, here),
            // `syntax` has already rejected these.
            _ => Err(here.stray("has a tag that is not supported".to_owned())),
        }
    }

    /// A value, or a call of a helper.
    fn expression<'v>(
        &self,
        call: &HelperTemplate,
        here: &Here<'_, 'v>,
    ) -> Result<Shape<'v>, Stray> {
        let name = call.name.as_name().unwrap_or_default();
        match &call.name {
            Parameter::Path(path) if call.params.is_empty() && call.hash.is_empty() => {
                // The engine looks up helpers first, so they shadow values of the same name.
                if helpers::names().any(|helper| helper == name) {
                    return Err(without_value(name, here));
                }
                resolve(path, here)
            }
            _ => {
                self.call(name, &call.params, &call.hash, here)?;
                Ok(Shape::Open)
            }
        }
    }

    fn call<'h>(
        &self,
        helper: &str,
        params: &[Parameter],
        hash: impl IntoIterator<Item = (&'h String, &'h Parameter)>,
        here: &Here<'_, '_>,
    ) -> Result<(), Stray> {
        if !helpers::names().any(|known| known == helper) {
            return Err(here.stray(format!(
                "uses the helper {helper:?}, which does not exist{}",
                hint(helper, helpers::names())
            )));
        }
        if params.is_empty() {
            return Err(without_value(helper, here));
        }
        for param in params {
            self.parameter(param, here)?;
        }
        let mut given = BTreeSet::new();
        for (name, param) in hash {
            self.parameter(param, here)?;
            given.insert(name.as_str());
        }
        match params.first() {
            Some(Parameter::Literal(Value::String(word))) if helper == "t" => {
                self.word(word, &given, here)
            }
            _ => Ok(()),
        }
    }

    /// A string of the strings files, with a value for each placeholder.
    fn word(&self, word: &str, given: &BTreeSet<&str>, here: &Here<'_, '_>) -> Result<(), Stray> {
        let Some(places) = self.words.get(word) else {
            let reason = format!("uses the word {word:?}, which strings/en.toml does not have");
            return Err(here.stray(reason + &hint(word, self.words.keys().copied())));
        };
        match places.iter().find(|place| !given.contains(place.as_str())) {
            Some(place) => Err(here.stray(format!("uses the word {word:?} without {place}=…"))),
            None => Ok(()),
        }
    }

    fn parameter<'v>(
        &self,
        parameter: &Parameter,
        here: &Here<'_, 'v>,
    ) -> Result<Shape<'v>, Stray> {
        match parameter {
            Parameter::Path(path) => resolve(path, here),
            Parameter::Subexpression(inner) => self.subexpression(inner, here),
            Parameter::Name(_) | Parameter::Literal(_) => Ok(Shape::Open),
            _ => Err(here.stray("has a tag that is not supported".to_owned())),
        }
    }

    fn subexpression<'v>(
        &self,
        inner: &Subexpression,
        here: &Here<'_, 'v>,
    ) -> Result<Shape<'v>, Stray> {
        match inner.as_element() {
            TemplateElement::Expression(call) => self.expression(call, here),
            _ => Err(here.stray("has a tag that is not supported".to_owned())),
        }
    }

    /// `{{#if}}`, `{{#each}}`, `{{#with}}`: the last two change the context.
    fn block(&self, block: &HelperTemplate, here: &mut Here<'_, '_>) -> Result<(), Stray> {
        let helper = block.name.as_name().unwrap_or_default();
        self.call(helper, &block.params, &block.hash, here)?;
        let opened_in = here.line;
        let inner = match (helper, block.params.first()) {
            ("each", Some(list)) => Some(element_of(self.parameter(list, here)?)),
            ("with", Some(value)) => Some(self.parameter(value, here)?),
            _ => None,
        };
        if let Some(template) = &block.template {
            match inner {
                Some(shape) => {
                    let frame = NameFrame {
                        shape,
                        named: block_names(block.block_param.as_ref(), shape),
                    };
                    let frames = here.frames.iter().cloned().chain([frame]).collect();
                    self.template(
                        template,
                        &mut Here {
                            template: here.template,
                            line: opened_in,
                            frames,
                            block: here.block,
                        },
                    )?;
                }
                None => self.template(template, here)?,
            }
        }
        here.line = opened_in;
        block
            .inverse
            .as_ref()
            .map_or(Ok(()), |inverse| self.template(inverse, here))
    }

    fn partial(&self, partial: &DecoratorTemplate, here: &mut Here<'_, '_>) -> Result<(), Stray> {
        let name = partial.name.as_name().unwrap_or_default();
        if name == PARTIAL_BLOCK {
            return self.given_block(partial, here);
        }
        let shape = match partial.params.first() {
            Some(value) => self.parameter(value, here)?,
            None => here.frames.last().map_or(Shape::Open, |frame| frame.shape),
        };
        let mut named = BTreeMap::new();
        for (name, value) in &partial.hash {
            named.insert(name.clone(), self.parameter(value, here)?);
        }
        let frames: Vec<NameFrame<'_>> = here
            .frames
            .iter()
            .cloned()
            .chain([NameFrame { shape, named }])
            .collect();
        if let Some(block) = &partial.template {
            self.template(
                block,
                &mut Here {
                    template: here.template,
                    line: here.line,
                    frames: frames.clone(),
                    block: here.block,
                },
            )?;
        }
        let block = match partial.template {
            Some(_) => GivenBlock::Yes,
            None => GivenBlock::No,
        };
        self.named_template(name, Some(here), frames, block)
    }

    /// `{{> @partial-block}}`: the block of the including template, or else its own content.
    fn given_block(
        &self,
        partial: &DecoratorTemplate,
        here: &mut Here<'_, '_>,
    ) -> Result<(), Stray> {
        match (&partial.template, here.block) {
            (Some(instead), _) => self.template(instead, here),
            (None, GivenBlock::Yes) => Ok(()),
            (None, GivenBlock::No) => Err(here.stray(format!(
                "shows {PARTIAL_BLOCK}, but is included without a block: include it by {{{{#> …}}}}"
            ))),
        }
    }
}

fn without_value(helper: &str, here: &Here<'_, '_>) -> Stray {
    here.stray(format!("uses the helper {helper:?} without a value"))
}

/// Resolves a path, or reports the part that does not exist.
fn resolve<'v>(path: &Path, here: &Here<'_, 'v>) -> Result<Shape<'v>, Stray> {
    let (segments, raw) = match path {
        Path::Relative((segments, raw)) => (segments, raw),
        // `@index`, `@first`, `@last`, `@key`: variables of the engine.
        Path::Local(_) => return Ok(Shape::Open),
    };
    let names: Vec<&str> = segments
        .iter()
        .filter_map(|segment| match segment {
            PathSeg::Named(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let ups = raw.split('/').filter(|part| *part == "..").count();
    let from = match raw.starts_with("@root") {
        true => here.frames.first(),
        false => here.frames.iter().rev().nth(ups),
    };
    let Some(from) = from else {
        return Err(here.stray(format!("uses {raw}, but no enclosing block is so far up")));
    };
    let given = names.first().and_then(|first| {
        here.frames
            .iter()
            .rev()
            .skip(ups)
            .find_map(|frame| frame.named.get(*first))
    });
    let (mut shape, rest) = match given {
        Some(shape) => (*shape, &names[1..]),
        None => (from.shape, names.as_slice()),
    };
    for name in rest {
        shape = match shape {
            Shape::Open => Shape::Open,
            Shape::Known(Value::Object(fields)) => match fields.get(*name) {
                Some(_) if *name == "vars" => Shape::Open,
                Some(value) => Shape::Known(value),
                None => {
                    let known = fields.keys().map(String::as_str);
                    return Err(here.stray(format!(
                        "uses {raw}, but there is no {name:?}{}",
                        hint(name, known)
                    )));
                }
            },
            Shape::Known(_) => {
                return Err(here.stray(format!(
                    "uses {raw}, but the value before {name:?} has no fields"
                )));
            }
        };
    }
    Ok(shape)
}

/// The shape of a list's elements, by its sample.
fn element_of(list: Shape<'_>) -> Shape<'_> {
    match list {
        Shape::Known(Value::Array(elements)) => elements.first().map_or(Shape::Open, Shape::Known),
        _ => Shape::Open,
    }
}

fn block_names<'v>(names: Option<&BlockParam>, shape: Shape<'v>) -> BTreeMap<String, Shape<'v>> {
    let name =
        |parameter: &Parameter, shape| parameter.as_name().map(|name| (name.to_owned(), shape));
    match names {
        Some(BlockParam::Single(value)) => name(value, shape).into_iter().collect(),
        Some(BlockParam::Pair((value, index))) => name(value, shape)
            .into_iter()
            .chain(name(index, Shape::Open))
            .collect(),
        _ => BTreeMap::new(),
    }
}

/// `: did you mean "…"?`, or all known names if none is similar.
fn hint<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min();
    match near {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => {
            format!(": did you mean {known:?}?")
        }
        _ => format!("; known: {}", known.join(", ")),
    }
}
