//! What the rendering of one template may cost.
//!
//! A template is checked when it is loaded, so that it ends. Loops in loops over the files of a job may still take hours, and rendering
//! cannot be interrupted from outside. So the elements that loops render are counted, and what is written, copied and compared.
//! A count is the same on every machine: a job is never rejected because the machine is busy.

use std::cell::Cell;
use std::io;

use handlebars::template::TemplateElement;
use handlebars::{
    BlockContext, BlockParams, Context, Handlebars, Helper, HelperDef, HelperResult, Output,
    RenderContext, RenderError, RenderErrorReason, Renderable as _, ScopedJson, Template,
};
use serde_json::Value;
use tokio::runtime::RuntimeFlavor;

/// The maximum number of steps of one text: a page of ten thousand files whose cards the engine fills in
/// takes about three million, and the program's own cards take none.
const MAX_STEPS: u64 = 10_000_000;

/// The maximum size of one text, in bytes: several times that of a page of ten thousand files.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// How much of a text is one step of a comparison or a copy, in bytes.
const BYTES_OF_STEP: usize = 64;

/// After how many steps of a text its loops run aside of the runtime's tasks: about a tenth of a second.
const STEPS_BESIDE_TASKS: u64 = 50_000;

thread_local! {
    /// The steps that are left to the text that this thread renders. A text is rendered by one thread without a pause.
    static LEFT: Cell<u64> = const { Cell::new(0) };
    /// The steps that the text may take in all.
    static ALL: Cell<u64> = const { Cell::new(0) };
    /// Whether a loop of the text runs aside.
    static IS_ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// Renders a text within the limits. `render` writes it.
pub(super) fn within_limits(
    render: impl FnOnce(&mut BoundedText) -> Result<(), RenderError>,
) -> Result<String, RenderError> {
    within(MAX_STEPS, render)
}

fn within(
    steps: u64,
    render: impl FnOnce(&mut BoundedText) -> Result<(), RenderError>,
) -> Result<String, RenderError> {
    LEFT.set(steps);
    ALL.set(steps);
    IS_ASIDE.set(false);
    let mut text = BoundedText(Vec::with_capacity(8 * 1024));
    render(&mut text)?;
    Ok(String::from_utf8(text.0)?)
}

/// A text that is being rendered.
pub(super) struct BoundedText(Vec<u8>);

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT_BYTES {
            let reason = format!(
                "its text is longer than {} MiB: look for a loop over the files inside another loop",
                MAX_TEXT_BYTES >> 20
            );
            return Err(io::Error::other(reason));
        }
        spend(1).map_err(io::Error::other)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `{{#each}}`, as the engine's own, with its rounds counted before the first.
pub(super) struct CountedEach;

impl HelperDef for CountedEach {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        engine: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let list = helper
            .param(0)
            .ok_or(RenderErrorReason::ParamNotFoundForIndex("each", 0))?;
        let Some(body) = helper.template() else {
            return Ok(());
        };
        let rounds = match list.value() {
            Value::Array(items) => items.len(),
            Value::Object(items) => items.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return match helper.inverse() {
                    Some(inverse) => inverse.render(engine, context, render, out),
                    None => Err(RenderError::strict_error(list.relative_path())),
                };
            }
        };
        if let (0, Some(inverse)) = (rounds, helper.inverse()) {
            return inverse.render(engine, context, render, out);
        }
        spend((rounds as u64).saturating_mul(1 + steps_of(body)))?;
        let mut block = BlockContext::new();
        match list.context_path() {
            Some(path) => block.base_path_mut().clone_from(path),
            // Each round copies its item.
            None => spend(weight(list.value()))?,
        }
        render.push_block(block);
        aside(|| {
            for (at, (key, item)) in items_of(list.value()).enumerate() {
                if let Some(block) = render.block_mut() {
                    block.set_local_var("first", (at == 0).into());
                    block.set_local_var("last", (at + 1 == rounds).into());
                    block.set_local_var("index", at.into());
                    let name = key.map_or_else(|| at.to_string(), Clone::clone);
                    let key = key.map_or_else(|| at.into(), |key| Value::from(key.as_str()));
                    if list.value().is_object() {
                        block.set_local_var("key", key.clone());
                    }
                    enter_round(block, list.context_path(), name, item);
                    name_item(block, helper, list.context_path().is_some(), key, item)?;
                }
                body.render(engine, context, render, out)?;
            }
            Ok::<_, RenderError>(())
        })?;
        render.pop_block();
        Ok(())
    }
}

/// Runs the rounds of a loop. Those of a text that takes long already hold up no other task of the runtime: its worker hands them over to
/// another thread. That costs some ten microseconds, so that a short text does without.
fn aside<T>(rounds: impl FnOnce() -> T) -> T {
    let is_long = ALL.get().saturating_sub(LEFT.get()) >= STEPS_BESIDE_TASKS;
    if !is_long || IS_ASIDE.get() || !has_workers() {
        return rounds();
    }
    IS_ASIDE.set(true);
    let done = tokio::task::block_in_place(rounds);
    IS_ASIDE.set(false);
    done
}

/// Whether the thread is one of a runtime that can hand its tasks over.
fn has_workers() -> bool {
    let runtime = tokio::runtime::Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// The items of a list, or of a map with their keys.
fn items_of(value: &Value) -> impl Iterator<Item = (Option<&String>, &Value)> {
    let list = value.as_array().into_iter().flatten();
    let map = value.as_object().into_iter().flatten();
    list.map(|item| (None, item))
        .chain(map.map(|(key, item)| (Some(key), item)))
}

/// Makes an item what names in a block are looked up in.
fn enter_round(
    block: &mut BlockContext<'_>,
    list: Option<&Vec<String>>,
    name: String,
    item: &Value,
) {
    match list {
        Some(list) => {
            block.base_path_mut().clone_from(list);
            block.base_path_mut().push(name);
        }
        None => block.set_base_value(item.clone()),
    }
}

/// Sets the names of `as |item key|`.
fn name_item<'rc>(
    block: &mut BlockContext<'rc>,
    helper: &Helper<'rc>,
    has_path: bool,
    key: Value,
    item: &Value,
) -> Result<(), RenderError> {
    let pair = helper.block_param_pair();
    let Some(name) = helper.block_param().or(pair.map(|(name, _)| name)) else {
        return Ok(());
    };
    let mut params = BlockParams::new();
    match has_path {
        true => params.add_path(name, Vec::new())?,
        false => params.add_value(name, item.clone())?,
    }
    if let Some((_, name)) = pair {
        params.add_value(name, key)?;
    }
    block.set_block_params(params);
    Ok(())
}

/// `{{lookup}}`, as the engine's own: it copies what it finds.
pub(super) struct CountedLookup;

impl HelperDef for CountedLookup {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let param = |at| {
            let param = helper.param(at).map(|param| param.value());
            param.ok_or(RenderErrorReason::ParamNotFoundForIndex("lookup", at))
        };
        let (list, index) = (param(0)?, param(1)?);
        let found = match list {
            Value::Array(items) => {
                let at = index.as_u64().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| items.get(at))
            }
            Value::Object(items) => index.as_str().and_then(|key| items.get(key)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        let found = found.ok_or_else(|| RenderError::strict_error(None))?;
        spend(weight(found))?;
        Ok(found.clone().into())
    }
}

/// `{{eq}}` and `{{ne}}`, as the engine's own: they read both values to their ends.
pub(super) struct CountedComparison {
    pub(super) wants_equal: bool,
}

impl HelperDef for CountedComparison {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let param = |at| {
            let param = helper.param(at).filter(|param| !param.is_value_missing());
            param.ok_or(RenderErrorReason::ParamNotFoundForIndex("eq", at))
        };
        let (left, right) = (param(0)?.value(), param(1)?.value());
        count_values(helper)?;
        let is_so = (left == right) == self.wants_equal;
        Ok(ScopedJson::Derived(Value::Bool(is_so)))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        engine: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let is_so = self.call_inner(helper, engine, context, render)?;
        let is_so = is_so.as_json().as_bool().unwrap_or_default();
        if !helper.is_block() {
            return Ok(out.write(&is_so.to_string())?);
        }
        let block = if is_so {
            helper.template()
        } else {
            helper.inverse()
        };
        block.map_or(Ok(()), |block| block.render(engine, context, render, out))
    }
}

/// Counts a call of a helper that reads its values to their ends.
pub(super) fn count_values(helper: &Helper<'_>) -> Result<(), RenderError> {
    let values = helper.params().iter().map(|param| param.value());
    let named = helper.hash().values().map(|value| value.value());
    Ok(spend(values.chain(named).map(weight).sum())?)
}

/// How many elements a block renders in one round, both ways of each condition included. Loops within count their own rounds.
fn steps_of(block: &Template) -> u64 {
    let of_element = |element: &TemplateElement| match element {
        TemplateElement::HelperBlock(inner) => {
            let blocks = [&inner.template, &inner.inverse].into_iter().flatten();
            1 + blocks.map(steps_of).sum::<u64>()
        }
        TemplateElement::PartialBlock(inner) | TemplateElement::DecoratorBlock(inner) => {
            1 + inner.template.as_ref().map_or(0, steps_of)
        }
        // What has no block of its own.
        _ => 1,
    };
    block.elements.iter().map(of_element).sum()
}

/// A text takes more steps than it may.
#[derive(Debug, thiserror::Error)]
#[error("it takes more than {MAX_STEPS} steps: look for a loop over the files inside another loop")]
struct TooManySteps;

impl From<TooManySteps> for RenderError {
    fn from(error: TooManySteps) -> Self {
        RenderErrorReason::Other(error.to_string()).into()
    }
}

/// Takes steps from those that are left.
fn spend(steps: u64) -> Result<(), TooManySteps> {
    let left = LEFT.get().checked_sub(steps);
    LEFT.set(left.unwrap_or_default());
    left.map(drop).ok_or(TooManySteps)
}

/// The steps of reading a value to its end.
fn weight(value: &Value) -> u64 {
    1 + match value {
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(map) => map.values().map(weight).sum(),
        Value::String(text) => (text.len() / BYTES_OF_STEP) as u64,
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::helpers;
    use crate::render::strings::Strings;

    /// Fewer than a text may take, so that a build without optimizations reaches them soon.
    const STEPS: u64 = 2_000_000;

    /// Renders a template with `count` files; the text, or the error.
    fn rendered(source: &str, count: usize) -> Result<String, String> {
        let mut engine = Handlebars::new();
        engine.set_strict_mode(true);
        let strings = std::sync::Arc::new(Strings::load(&[]).unwrap());
        helpers::register(&mut engine, &strings);
        let file = |at| json!({"name": format!("file-{at}.pdf"), "parts": {"b": 2, "a": 1}});
        let files: Vec<Value> = (0..count).map(file).collect();
        let all = json!({"files": files});
        let view = json!({"files": files, "all": all, "none": [], "language": {"tag": "en"}});
        let context = Context::wraps(view).unwrap();
        engine.register_template_string("t", source).unwrap();
        within(STEPS, |text| {
            engine.render_with_context_to_write("t", &context, text)
        })
        .map_err(|error| match error.reason() {
            RenderErrorReason::Other(reason) => reason.clone(),
            other => other.to_string(),
        })
    }

    #[test]
    fn loops_in_loops_end_soon_also_if_they_write_nothing() {
        const EACH: &str = "{{#each @root.files}}";
        const END: &str = "{{/each}}";
        for (levels, inside) in [(4, ""), (3, "{{name}}"), (12, "{{#if (eq name 1)}}{{/if}}")] {
            let source = format!("{}{inside}{}", EACH.repeat(levels), END.repeat(levels));
            let error = rendered(&source, 300).unwrap_err();
            assert!(error.contains(" steps: "), "{source}: {error}");
        }
        // Each looks at all files in each round.
        for inside in [
            "{{#with (lookup @root.all \"files\")}}{{/with}}",
            "{{#each (lookup @root.all \"files\")}}{{/each}}",
            "{{#if (eq @root.files @root.files)}}{{/if}}",
            "{{#if (ne @root.files @root.files)}}{{/if}}",
        ] {
            let source = format!("{EACH}{inside}{END}");
            let error = rendered(&source, 3000).unwrap_err();
            assert!(error.contains(" steps: "), "{source}: {error}");
        }
        let long = format!("{EACH}{}{END}", "x".repeat(100_000));
        let error = rendered(&long, 1000).unwrap_err();
        assert!(error.contains("longer than 64 MiB"), "{error}");
    }

    /// With one worker, a task runs beside a text only if the worker hands it over.
    #[test]
    fn a_text_that_takes_long_holds_up_no_other_task() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).build().unwrap();
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (ran, has_run) = std::sync::mpsc::channel();
        let text = runtime.spawn(async move {
            begun.send(()).unwrap();
            let each = "{{#each @root.files}}";
            let source = format!("{}{{{{name}}}}{}", each.repeat(3), "{{/each}}".repeat(3));
            let error = rendered(&source, 300).unwrap_err();
            assert!(error.contains(" steps: "), "{error}");
            // The other task has ended before this one.
            has_run.try_recv().unwrap();
        });
        is_begun.recv().unwrap();
        let other = runtime.spawn(async move { ran.send(()).unwrap() });
        runtime.block_on(async {
            other.await.unwrap();
            text.await.unwrap();
        });
    }

    #[test]
    fn a_loop_is_the_engines_own_in_what_it_writes() {
        for (source, wanted) in [
            (
                "{{#each files}}{{@index}}{{@first}}{{@last}}{{name}},{{/each}}",
                "0truefalsefile-0.pdf,1falsetruefile-1.pdf,",
            ),
            (
                "{{#each files.[0].parts}}{{@key}}={{this}}{{@index}};{{/each}}",
                "a=10;b=21;",
            ),
            (
                "{{#each files as |f i|}}{{i}}{{f.name}}{{#each f.parts as |n k|}}{{k}}{{n}}{{../name}}{{/each}}{{/each}}",
                "0file-0.pdfa1file-0.pdfb2file-0.pdf1file-1.pdfa1file-1.pdfb2file-1.pdf",
            ),
            ("{{#each none}}x{{else}}nothing{{/each}}", "nothing"),
            ("{{#each none}}x{{/each}}", ""),
            (
                "{{#each (lookup @root.all \"files\") as |f|}}{{f.name}}{{@last}}{{/each}}",
                "file-0.pdffalsefile-1.pdftrue",
            ),
            (
                "{{#each files}}{{#with (lookup @root.files @index)}}{{name}}{{/with}}{{/each}}",
                "file-0.pdffile-1.pdf",
            ),
            ("{{#each language.tag}}x{{else}}no list{{/each}}", "no list"),
            (
                "{{#eq 1 1}}same{{else}}differ{{/eq}}{{eq 1 2}}{{#if (ne 1 2)}}ne{{/if}}",
                "samefalsene",
            ),
        ] {
            assert_eq!(rendered(source, 2).as_deref(), Ok(wanted), "{source}");
        }
        assert!(rendered("{{#each language.tag}}x{{/each}}", 1).is_err());
        assert!(rendered("{{lookup files 7}}", 1).is_err());
    }
}
