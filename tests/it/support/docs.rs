//! The pages of the documentation, as a user reads them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A page: its path below the root of the project, and its text.
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One page by its path below the root of the project.
pub(crate) fn page(path: &str) -> Page {
    let text = fs::read_to_string(root().join(path));
    Page {
        text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
        path: path.into(),
    }
}

/// All pages: the book, and those beside the code.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths: Vec<String> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "crates/presign/README.md",
        "templates/README.md",
    ]
    .map(str::to_owned)
    .into();
    book(&root().join("docs"), &mut paths);
    paths.iter().map(|path| page(path)).collect()
}

/// Adds the pages below a folder of the book.
fn book(folder: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            book(&path, paths);
        } else if path.extension().is_some_and(|end| end == "md") {
            let path = path.strip_prefix(root()).unwrap();
            paths.push(path.to_str().unwrap().to_owned());
        }
    }
}

impl Page {
    /// The fenced blocks in order, each with its language.
    pub(crate) fn fences(&self) -> Vec<(String, String)> {
        let mut fences = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let block = lines.by_ref().take_while(|line| *line != "```");
                let block = block.fold(String::new(), |text, line| text + line + "\n");
                fences.push((language.to_owned(), block));
            }
        }
        fences
    }

    /// The blocks in one language.
    pub(crate) fn blocks(&self, language: &str) -> Vec<String> {
        let fences = self.fences().into_iter();
        let blocks = fences.filter(|(of, _)| of == language);
        blocks.map(|(_, block)| block).collect()
    }

    /// The text without fenced blocks.
    pub(crate) fn prose(&self) -> String {
        let mut is_code = false;
        let lines = self.text.lines().filter(|line| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        });
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// The name in messages.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Compares a generated page with the committed one; with `UPDATE=1` in the environment it is written instead.
pub(crate) fn is_up_to_date(path: &str, generated: &str) {
    let file = root().join(path);
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} differs from its source: write it with `UPDATE=1 cargo test --locked reference`"
    );
}
