//! No circle of modules within a crate: what two files need of each other belongs into a third one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use packages_of::metadata;

#[path = "metadata/mod.rs"]
mod packages_of;

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_import_each_other() {
    let metadata = metadata();
    let mut circles = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let ours = package["source"].is_null() && manifest.to_string_lossy().contains("/crates/");
        let source = manifest.with_file_name("src");
        if ours && source.is_dir() {
            let graph = imports(&source);
            circles.extend(
                graph
                    .keys()
                    .filter(|module| reaches(&graph, module, module))
                    .map(|module| format!("{}: {module}", package["name"].as_str().unwrap())),
            );
        }
    }
    assert!(circles.is_empty(), "modules in a circle: {circles:#?}");
}

#[test]
fn a_circle_is_found() {
    let text = "use crate::{\n    b::{self, Thing},\n    Root,\n};\nuse super::c::Other;\n";
    let modules = ["a", "b", "c"].map(str::to_owned);
    let found = imported(
        text,
        "a",
        &modules,
        &BTreeMap::from([("Root".into(), "c".into())]),
    );
    assert_eq!(found, BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    let graph = Graph::from([
        ("a".to_owned(), BTreeSet::from(["b".to_owned()])),
        ("b".to_owned(), BTreeSet::from(["a".to_owned()])),
    ]);
    assert!(reaches(&graph, "a", "a"));
}

/// Which module imports which, by their paths (`node::pod`); the crate's root is left out, since it declares them all.
fn imports(source: &Path) -> Graph {
    let mut files = BTreeMap::new();
    read(source, "", &mut files);
    let modules: Vec<String> = files
        .keys()
        .filter(|module| !module.is_empty())
        .cloned()
        .collect();
    let root = files.get("").cloned().unwrap_or_default();
    let exported = trees(&root, "use ")
        .into_iter()
        .filter_map(|path| {
            let (module, name) = path.split_once("::")?;
            Some((name.rsplit("::").next()?.to_owned(), module.to_owned()))
        })
        .collect();
    files
        .iter()
        .filter(|(module, _)| !module.is_empty())
        .map(|(module, text)| {
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            (module.clone(), imported(text, module, &modules, &exported))
        })
        .collect()
}

fn read(directory: &Path, above: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let module = if above.is_empty() {
            name.clone()
        } else {
            format!("{above}::{name}")
        };
        if path.is_dir() {
            read(&path, &module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match name.as_str() {
                "lib" | "main" | "mod" => above.to_owned(),
                _ => module,
            };
            files.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The modules of the crate that a text imports from. `exported`: what the crate's root takes from which module.
fn imported(
    text: &str,
    module: &str,
    modules: &[String],
    exported: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let absolute = trees(text, "use crate::");
    let relative = trees(text, "use super::").into_iter().map(|path| {
        if parent.is_empty() {
            path
        } else {
            format!("{parent}::{path}")
        }
    });
    let home = |path: String| {
        let mut at = path.as_str();
        loop {
            if modules.iter().any(|known| known == at) {
                return Some(at.to_owned());
            }
            match at.rsplit_once("::") {
                Some((above, _)) => at = above,
                None => return exported.get(at).cloned(),
            }
        }
    };
    let all = absolute.into_iter().chain(relative).filter_map(home);
    all.filter(|found| found != module).collect()
}

/// The paths of all imports that begin with `prefix`, without it, their braces resolved.
fn trees(text: &str, prefix: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in text.split(prefix).skip(1) {
        if let Some((tree, _)) = part.split_once(';') {
            flatten("", tree, &mut out);
        }
    }
    out
}

fn flatten(above: &str, tree: &str, out: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        out.push(format!("{above}{name}").trim_end_matches("::self").to_owned());
        return;
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let above = format!("{above}{}", head.trim());
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                flatten(&above, &inner[from..at], out);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inner[from..].trim().is_empty() {
        flatten(&above, &inner[from..], out);
    }
}

fn reaches(graph: &Graph, from: &str, to: &str) -> bool {
    let (mut seen, mut stack) = (BTreeSet::new(), vec![from]);
    while let Some(at) = stack.pop() {
        for next in graph.get(at).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                stack.push(next);
            }
        }
    }
    false
}
