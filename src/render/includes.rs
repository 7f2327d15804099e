//! Checks which templates include which: without cycles, and with bounded depth and count.
//!
//! The engine renders an included template inside the call of the including one. A cycle or a long chain overflows its stack,
//! which aborts the process; ten templates of which each includes the next one twice are rendered a thousand times.
//! <https://github.com/sunng87/handlebars-rust/issues/386>

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::Outline;

/// The maximum nesting depth of blocks and included templates: four times what the built-in templates need.
const MAX_DEPTH: usize = 32;

/// The maximum number of templates that one may include, counted each time: twenty times what the built-in templates need.
const MAX_INCLUDED: usize = 200;

/// The templates and their structure, by name.
pub(super) type Outlines<'s> = BTreeMap<&'s str, Outline>;

/// The template at fault, and the error.
pub(super) type IncludeError = (String, String);

/// The depth and size of a template, with all that it includes.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    depth: usize,
    included: usize,
}

/// Rejects templates that the engine could not render.
pub(super) fn check(outlines: &Outlines<'_>) -> Result<(), IncludeError> {
    let mut known = BTreeMap::new();
    for &name in outlines.keys() {
        reach(name, outlines, &mut vec![name], &mut known)?;
    }
    Ok(())
}

/// Visits a template and its includes; `trail` is the path to it, itself included.
fn reach<'o>(
    name: &'o str,
    outlines: &'o Outlines<'_>,
    trail: &mut Vec<&'o str>,
    known: &mut BTreeMap<&'o str, Reach>,
) -> Result<Reach, IncludeError> {
    if let Some(reach) = known.get(name) {
        return Ok(*reach);
    }
    let Some(outline) = outlines.get(name) else {
        // A missing template is reported where the names are checked.
        return Ok(Reach::default());
    };
    let mut found = Reach {
        depth: outline.depth,
        included: 0,
    };
    for include in &outline.includes {
        step(&include.name, trail)?;
        let inner = reach(&include.name, outlines, trail, known)?;
        trail.pop();
        found.depth = found.depth.max(include.depth + 1 + inner.depth);
        found.included = found.included.saturating_add(1 + inner.included);
    }
    if found.depth > MAX_DEPTH {
        return Err(too_deep(name));
    }
    if found.included > MAX_INCLUDED {
        let reason = format!("includes templates more than {MAX_INCLUDED} times");
        return Err((name.to_owned(), reason));
    }
    known.insert(name, found);
    Ok(found)
}

/// Visits an included template, unless the path contains it already or is too long.
fn step<'o>(name: &'o str, trail: &mut Vec<&'o str>) -> Result<(), IncludeError> {
    let seen = trail.iter().position(|earlier| *earlier == name);
    trail.push(name);
    if let Some(start) = seen {
        let circle = trail[start..].join(" → ");
        return Err((name.to_owned(), format!("includes itself: {circle}")));
    }
    if trail.len() > MAX_DEPTH {
        return Err(too_deep(trail[0]));
    }
    Ok(())
}

fn too_deep(name: &str) -> IncludeError {
    let reason = format!("blocks and includes are nested more than {MAX_DEPTH} deep");
    (name.to_owned(), reason)
}

/// A template and all that it includes, each once.
pub(super) fn with_included<'o>(name: &'o str, outlines: &'o Outlines<'_>) -> BTreeSet<&'o str> {
    let mut found = BTreeSet::from([name]);
    let mut waiting = vec![name];
    while let Some(name) = waiting.pop() {
        let Some(outline) = outlines.get(name) else {
            continue;
        };
        for include in &outline.includes {
            if found.insert(&include.name) {
                waiting.push(&include.name);
            }
        }
    }
    found
}
