//! The test of the module ranks: who may import whom.

use std::fs;
use std::path::{Path, PathBuf};

const RANKS: &[(&str, u8)] = &[
    ("model", 0),
    ("oci", 0),
    ("sys", 0),
    ("union", 1),
    ("archive", 1),
    ("sandbox", 1),
    ("layer", 2),
    ("store", 2),
    ("fs", 3),
    ("diff", 3),
    ("image", 3),
    ("registry", 4),
    ("analyze", 4),
    ("fuse", 4),
    ("mount", 5),
    ("commit", 6),
    ("build", 7),
    ("run", 7),
    ("cli", 8),
];

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("source directory") {
        let path = entry.expect("directory entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// Every module named after `crate::` in `text`, comments left out.
fn imported(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => top_level_names(group),
            None => vec![rest],
        };
        for name in names {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            modules.push(name[..end].to_owned());
        }
    }
    modules
}

/// The first path segments of a `use crate::{…}` group, whose opening brace has been consumed.
fn top_level_names(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut start = 0;
    let mut names = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(group[start..at].trim());
                return names;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn modules_import_only_from_lower_ranks() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in files {
        let below = file.strip_prefix(&src).expect("below src");
        let Some(module) = below.iter().next().and_then(|part| part.to_str()) else { continue };
        let Some(own) = rank(module.trim_end_matches(".rs")) else { continue };
        let text = fs::read_to_string(&file).expect("readable source");
        for target in imported(&text) {
            let Some(other) = rank(&target) else { continue };
            checked += 1;
            if target != module && other >= own {
                wrong.push(format!("{}: {module} (rank {own}) imports {target} (rank {other})", below.display()));
            }
        }
    }
    assert!(checked > 0, "the test found only {checked} imports: it is not looking at the source");
    assert!(wrong.is_empty(), "imports against the ranks:\n{}", wrong.join("\n"));
}

#[test]
fn every_top_level_module_has_a_rank() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(&src).expect("source directory") {
        let entry = entry.expect("directory entry");
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().expect("UTF-8 module name");
            assert!(rank(&name).is_some(), "module {name} has no rank");
        }
    }
}

#[test]
fn groups_are_split_at_the_top_level_only() {
    assert_eq!(imported("use crate::{model::{Name, Meta}, sys};"), ["model", "sys"]);
    assert_eq!(imported("fn f(x: crate::oci::Digest) {} // crate::cli"), ["oci"]);
}
