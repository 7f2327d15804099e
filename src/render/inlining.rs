//! Renders what a template includes in the place of the tag, where that means the same.
//!
//! The engine copies all values for each `{{> name}}`, since an included template may get values of its own. Most get none: they are put into
//! the templates that include them, as blocks, once everything was checked. An included template that looks beyond its own values (`..`), or
//! has a place for a block, stays as it is, and so does each tag with values.
//! <https://docs.rs/handlebars/6/src/handlebars/partial.rs.html>

use std::collections::BTreeMap;

use handlebars::template::{HelperTemplate, Parameter, Template, TemplateElement};
use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, Renderable,
};

/// The name of the block. No template can use it: it is no name of a helper when templates are checked.
const INCLUDED: &str = "included";

/// Puts included templates into the templates of an engine that include them. `sources` has the text of each template.
pub(super) fn inline(engine: &mut Handlebars<'_>, sources: &BTreeMap<String, String>) {
    let Some(block) = empty_block() else {
        return;
    };
    let whole = |source: &str| !source.contains("..") && !source.contains("@partial-block");
    let parts: BTreeMap<String, Template> = sources
        .iter()
        .filter(|(_, source)| whole(source))
        .filter_map(|(name, _)| Some((name.clone(), engine.get_template(name)?.clone())))
        .collect();
    let inlining = Inlining {
        parts: &parts,
        block: &block,
    };
    for name in sources.keys() {
        if let Some(template) = engine.get_template(name) {
            let mut template = template.clone();
            inlining.replace(&mut template);
            engine.register_template(name, template);
        }
    }
    engine.register_helper(INCLUDED, Box::new(Included));
}

/// The tag of a block, as the engine reads it.
fn empty_block() -> Option<HelperTemplate> {
    let source = format!("{{{{#{INCLUDED}}}}}{{{{/{INCLUDED}}}}}");
    let template = Template::compile(&source).ok()?;
    template
        .elements
        .into_iter()
        .find_map(|element| match element {
            TemplateElement::HelperBlock(block) => Some(*block),
            _ => None,
        })
}

struct Inlining<'a> {
    parts: &'a BTreeMap<String, Template>,
    block: &'a HelperTemplate,
}

impl Inlining<'_> {
    /// Replaces the tags of a template, and of all that is put into it. Includes have no cycles.
    fn replace(&self, template: &mut Template) {
        for element in &mut template.elements {
            match element {
                TemplateElement::PartialExpression(tag) => {
                    let is_plain = tag.params.is_empty()
                        && tag.hash.is_empty()
                        && tag.template.is_none()
                        && tag.indent.is_none();
                    if let Some(part) = self.part(&tag.name).filter(|_| is_plain) {
                        let mut part = part.clone();
                        self.replace(&mut part);
                        let mut block = self.block.clone();
                        block.template = Some(part);
                        *element = TemplateElement::HelperBlock(Box::new(block));
                    }
                }
                // A block that names its values (`as |file|`) shows the names to what stands in it, and not to what it includes.
                TemplateElement::HelperBlock(block) if block.block_param.is_some() => {}
                TemplateElement::HelperBlock(block) => {
                    let bodies = [&mut block.template, &mut block.inverse];
                    for body in bodies.into_iter().flatten() {
                        self.replace(body);
                    }
                }
                TemplateElement::PartialBlock(block) => {
                    if let Some(body) = &mut block.template {
                        self.replace(body);
                    }
                }
                TemplateElement::RawString(_)
                | TemplateElement::HtmlExpression(_)
                | TemplateElement::Expression(_)
                | TemplateElement::DecoratorExpression(_)
                | TemplateElement::DecoratorBlock(_)
                | TemplateElement::Comment(_) => {}
                // The engine may get others.
                _ => {}
            }
        }
    }

    fn part(&self, name: &Parameter) -> Option<&Template> {
        self.parts.get(name.as_name()?)
    }
}

/// Renders an included template with the values of the one that includes it.
struct Included;

impl HelperDef for Included {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        engine: &'reg Handlebars<'reg>,
        context: &'rc Context,
        rendering: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let including = rendering.get_current_template_name();
        let rendered = match helper.template() {
            Some(part) => part.render(engine, context, rendering, out),
            None => Ok(()),
        };
        rendering.set_current_template_name(including);
        rendered
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A text, or the template and the line of an error.
    type Rendered = Result<String, (Option<String>, Option<usize>)>;

    /// Templates with and without what is included in its place.
    fn rendered(sources: &[(&str, &str)]) -> [Rendered; 2] {
        let sources: BTreeMap<String, String> = sources
            .iter()
            .map(|(name, source)| ((*name).to_owned(), (*source).to_owned()))
            .collect();
        let values = json!({"a": "x", "rows": [{"a": 1, "tags": ["p", "q"]}, {"a": 2, "tags": []}], "none": null});
        [false, true].map(|inlines| {
            let mut engine = Handlebars::new();
            engine.set_strict_mode(true);
            engine.set_prevent_indent(true);
            for (name, source) in &sources {
                engine.register_template_string(name, source).unwrap();
            }
            if inlines {
                inline(&mut engine, &sources);
                let main = engine.get_template("main").unwrap();
                assert!(main.elements.iter().all(|element| !matches!(element, TemplateElement::PartialExpression(tag) if tag.name.as_name() == Some("plain"))));
            }
            let rendered = engine.render("main", &values);
            rendered.map_err(|error| (error.template_name.clone(), error.line_no))
        })
    }

    #[test]
    fn what_is_included_in_its_place_is_rendered_as_by_the_engine() {
        for main in [
            "a{{> plain}}b",
            "{{#each rows}}\n{{> plain}}\n{{/each}}\n",
            "{{#each rows}}{{#each tags}}{{> outer}}{{@index}}{{/each}}{{/each}}",
            "{{#if a}}\n  {{> plain}}\n{{else}}\n{{> values b=1}}\n{{/if}}\n",
            "{{#unless none}}{{> values b=a}}{{/unless}}{{> nested}}",
            "{{#with rows}}{{#each this}}{{> nested}}{{/each}}{{/with}}",
            "{{#> frame}}in {{> plain}}{{/frame}}",
            "{{> deep}}\n\n{{> deep}}",
            "{{#each rows as |a|}}{{> plain}}{{/each}}",
            "{{#each rows as |row|}}{{#each row.tags as |a|}}{{> spaced}}{{/each}}{{/each}}",
            "{{> within a=7}}{{#with rows}}{{> within a=8}}{{/with}}",
        ] {
            let [engine, inlined] = rendered(&[
                ("main", main),
                ("plain", "<{{a}}>\n"),
                ("values", "{{b}}{{a}}"),
                ("nested", "{{#each rows}}{{> plain}}{{else}}-{{/each}}"),
                ("deep", "{{> nested}}{{> values b=2}}\n{{> plain}}\n"),
                ("outer", "{{../a}}{{@index}}{{this}}"),
                ("frame", "[{{> @partial-block}}{{a}}]"),
                ("spaced", " {{this}} "),
                (
                    "within",
                    "{{a}}{{#if rows}}{{#each rows}}{{> plain}}{{/each}}{{/if}}",
                ),
            ]);
            assert_eq!(inlined, engine, "{main}");
        }
    }

    #[test]
    fn an_error_names_the_included_template_and_its_line() {
        let [engine, inlined] = rendered(&[
            ("main", "\n\n{{> middle}}"),
            ("middle", "\n{{> wrong}}"),
            ("wrong", "one\ntwo\n{{missing}}"),
        ]);
        assert_eq!(inlined, Err((Some("wrong".to_owned()), Some(3))));
        assert_eq!(inlined, engine);
    }
}
