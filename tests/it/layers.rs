//! The layers: a module imports from lower ranks alone. The table of ranks is the one in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The place of each module in the table, counted over all rows.
fn places() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, text) = text.split_once("## Layers").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        cells.next()?.parse::<u32>().ok()?;
        cells.next()
    });
    let modules = rows.flat_map(|modules| modules.split(", ").map(ToOwned::to_owned));
    modules
        .enumerate()
        .map(|(at, module)| (module, at))
        .collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    });
    files.collect()
}

/// The module at the top of `src` that a file is a part of.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix(root().join("src")).unwrap();
    let first = below.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a file imports: `use crate::…` and `crate::…` within code, but for tests.
#[derive(Default)]
struct Imports {
    found: BTreeSet<String>,
}

impl Imports {
    fn add(&mut self, module: &syn::Ident) {
        self.found.insert(module.to_string());
    }
}

fn is_of_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|of| of.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_of_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let syn::UseTree::Path(path) = &item.tree else {
            return;
        };
        if is_of_tests(&item.attrs)
            || !matches!(path.ident.to_string().as_str(), "crate" | "handout")
        {
            return;
        }
        let mut trees = vec![&*path.tree];
        while let Some(tree) = trees.pop() {
            match tree {
                syn::UseTree::Path(path) => self.add(&path.ident),
                syn::UseTree::Name(name) => self.add(&name.ident),
                syn::UseTree::Rename(name) => self.add(&name.ident),
                syn::UseTree::Group(group) => trees.extend(&group.items),
                syn::UseTree::Glob(_) => {}
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments = path.segments.iter().map(|segment| &segment.ident);
        if segments.next().is_some_and(|first| first == "crate")
            && let Some(module) = segments.next()
        {
            self.add(module);
        }
        visit::visit_path(self, path);
    }
}

/// Whether a file is of the program: a snapshot test that failed leaves others.
fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "rs")
}

#[test]
fn a_module_imports_from_lower_ranks_alone() {
    let places = places();
    let mut upward = Vec::new();
    for file in files_below(&root().join("src")) {
        let module = module_of(&file);
        if module == "lib" || file.ends_with("tests.rs") || !is_rust(&file) {
            continue;
        }
        let name = file.strip_prefix(root()).unwrap().display();
        let place = places.get(&module);
        let place = place
            .unwrap_or_else(|| panic!("{name} is of no module in the table of ARCHITECTURE.md"));
        let text = fs::read_to_string(&file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut imports = Imports::default();
        imports.visit_file(&parsed);
        for imported in imports.found {
            // What is no module of the table is a macro or an item of the crate itself.
            if let Some(of) = places.get(&imported)
                && of > place
            {
                let path = format!("crate::{imported}");
                let line = text.lines().position(|line| line.contains(&path));
                let line = line.map_or(0, |line| line + 1);
                upward.push(format!(
                    "{name}:{line} imports {imported}, which stands above {module}"
                ));
            }
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn every_module_of_the_table_exists() {
    for module in places().into_keys() {
        let file = root().join("src").join(format!("{module}.rs"));
        assert!(file.is_file(), "{}", file.display());
    }
}

/// The types that a file defines, but for its tests.
#[derive(Default)]
struct Types {
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Types {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_of_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.found.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.found.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.found.push(item.ident.to_string());
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.found.push(item.ident.to_string());
    }
}

/// Functions are not entered: a type within one has no other user.
#[test]
fn no_two_types_share_a_name() {
    let sources = [
        "src",
        "crates/presign/src",
        "crates/localstore/src",
        "crates/directory/src",
    ];
    let mut files_by_type: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in sources
        .iter()
        .flat_map(|dir| files_below(&root().join(dir)))
    {
        if file.ends_with("tests.rs") || !is_rust(&file) {
            continue;
        }
        let parsed = syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap();
        let mut types = Types::default();
        for item in &parsed.items {
            if !matches!(item, syn::Item::Fn(_) | syn::Item::Impl(_)) {
                types.visit_item(item);
            }
        }
        for name in types.found {
            files_by_type.entry(name).or_default().push(file.clone());
        }
    }
    assert!(files_by_type.len() > 500, "the files are read");
    files_by_type.retain(|_, files| files.len() > 1);
    assert!(files_by_type.is_empty(), "{files_by_type:#?}");
}
