//! A module imports only from the floors below its own.

use std::fs;
use std::path::Path;

/// From the ground up; modules of one floor are strangers.
const FLOORS: [&[&str]; 9] = [
    &["error", "rng"],
    &["nn", "config"],
    &["moe"],
    &["attention"],
    &["model", "data", "superclass"],
    &["checkpoint"],
    &["eval", "cost", "report"],
    &["train"],
    &["study"],
];

#[test]
fn modules_import_only_from_lower_floors() {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut offences = Vec::new();
    let mut imports = 0;
    for path in rust_files(src) {
        let inside = path.strip_prefix(src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for import in imported(&text) {
            imports += 1;
            if import != module && floor(&import) >= floor(module) {
                offences.push(format!("{} imports {import}", inside.display()));
            }
        }
    }
    assert!(imports > 0);
    assert!(offences.is_empty(), "{offences:#?}");
}

/// Reexports of the crate's root, `Error` and `Result`, live on the ground.
fn floor(module: &str) -> usize {
    if matches!(module, "Error" | "Result") {
        return 0;
    }
    let floor = FLOORS.iter().position(|modules| modules.contains(&module));
    floor.unwrap_or_else(|| panic!("`{module}` is on no floor: put it on one"))
}

/// What comes after each `crate::` outside of comments, groups in braces opened.
fn imported(text: &str) -> Vec<String> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: String = text.lines().filter(is_code).collect();
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(first_name(rest)),
            Some(group) => names.extend(members(group).into_iter().map(first_name)),
        }
    }
    names
}

/// The members of a group after its opening brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => rust_files(&path),
        false => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|kind| kind == "rs")).collect()
}
