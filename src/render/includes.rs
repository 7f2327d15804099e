//! Which templates include which: never in a circle, never endlessly.
//!
//! The engine renders an included template inside the call of the other. A circle overflows its stack, and so does a
//! long chain, and that ends the process; ten templates of which each includes the next one twice are rendered a
//! thousand times. <https://github.com/sunng87/handlebars-rust/issues/386>

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::Outline;

/// The deepest that blocks and included templates may stand in each other: four times what ours do.
const MAX_DEPTH: usize = 32;

/// The most templates that one may include, counted each time: twenty times what ours do.
const MAX_INCLUDED: usize = 200;

/// The templates and how they are built, by name.
pub(super) type Outlines<'s> = BTreeMap<&'s str, Outline>;

/// The template at fault, and what is wrong with it.
pub(super) type IncludeError = (String, String);

/// How far a template reaches, with all that it includes.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    depth: usize,
    included: usize,
}

/// Refuses templates that the engine could not carry out.
pub(super) fn check(outlines: &Outlines<'_>) -> Result<(), IncludeError> {
    let mut known = BTreeMap::new();
    for &name in outlines.keys() {
        reach(name, outlines, &mut vec![name], &mut known)?;
    }
    Ok(())
}

/// Follows a template into what it includes; `trail` leads to it, and ends with it.
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
        // That it is not there is told where the names are looked at.
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

/// Goes on to an included template, unless the way has led there before or is too long.
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
    let reason =
        format!("blocks and included templates stand in each other more than {MAX_DEPTH} deep");
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
