//! Imports between files: no circles, and no import against the direction in ARCHITECTURE.md. Checked in the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::harness::repository;

/// The modules of a crate and the imports of each, as paths such as `metrics::closed`.
struct Imports(BTreeMap<String, BTreeSet<String>>);

impl Imports {
    fn of(root: &Path) -> Self {
        let mut sources = BTreeMap::new();
        read(root, "", &mut sources);
        let modules: BTreeSet<_> = sources.keys().cloned().collect();
        let imports = sources.iter().map(|(module, text)| {
            let named = named(module, text);
            let named = named.iter().filter_map(|path| file_of(path, &modules));
            let apart =
                named.filter(|other| !is_within(other, module) && !is_within(module, other));
            (module.clone(), apart.collect())
        });
        Self(imports.collect())
    }

    /// The same, with each folder merged with the file beside it.
    fn rooms(&self) -> Self {
        let mut rooms = BTreeMap::<String, BTreeSet<String>>::new();
        for (module, imports) in &self.0 {
            let own = rooms.entry(room(module)).or_default();
            own.extend(imports.iter().map(|other| room(other)));
        }
        for (name, imports) in &mut rooms {
            imports.remove(name);
        }
        Self(rooms)
    }

    /// Repeatedly removes modules that import nothing that is left. What remains is the circles and the modules that
    /// import them.
    fn circles(mut self) -> BTreeMap<String, BTreeSet<String>> {
        loop {
            let left: BTreeSet<_> = self.0.keys().cloned().collect();
            self.0.retain(|_, imports| {
                imports.retain(|other| left.contains(other));
                !imports.is_empty()
            });
            if self.0.len() == left.len() {
                return self.0;
            }
        }
    }
}

fn read(dir: &Path, above: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = match above {
            "" => name.to_owned(),
            above => format!("{above}::{name}"),
        };
        // Tests may import anything, whether they are a file or a folder.
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            read(&path, &module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["lib", "main"].contains(&&*module)
        {
            sources.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Every path that begins with `crate::`, `self::` or `super::`, as a path from the crate root.
fn named(module: &str, text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    let mut paths = Vec::new();
    for first in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(first) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            leaves(&code[at..], "", &mut paths);
        }
    }
    paths.iter().map(|path| absolute(module, path)).collect()
}

/// Collects the paths of one use tree such as `crate::{a::b, c}`; gives the text behind it.
fn leaves<'t>(text: &'t str, prefix: &str, paths: &mut Vec<String>) -> &'t str {
    let mut path = prefix.to_owned();
    let mut rest = text.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            loop {
                rest = leaves(rest, &path, paths).trim_start();
                match rest.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => return rest.strip_prefix('}').unwrap_or(rest),
                }
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        path.push_str(word);
        match behind.strip_prefix("::") {
            Some(more) => {
                path.push_str("::");
                rest = more;
            }
            None => {
                paths.push(path);
                return behind;
            }
        }
    }
}

fn absolute(module: &str, path: &str) -> String {
    let mut above: Vec<_> = module.split("::").collect();
    let mut words: Vec<_> = path.split("::").collect();
    match words[0] {
        "crate" => above.clear(),
        "self" => {}
        _ => {
            while words[0] == "super" {
                above.pop();
                words.remove(0);
            }
            return [above, words].concat().join("::");
        }
    }
    [&above[..], &words[1..]].concat().join("::")
}

/// The file that a path leads to.
fn file_of(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let words: Vec<_> = path.split("::").collect();
    let paths = (1..=words.len())
        .rev()
        .map(|count| words[..count].join("::"));
    paths.into_iter().find(|path| modules.contains(path))
}

fn is_within(module: &str, folder: &str) -> bool {
    module == folder || module.starts_with(&format!("{folder}::"))
}

fn room(module: &str) -> String {
    module.split("::").next().unwrap().to_owned()
}

fn program() -> Imports {
    Imports::of(&repository().join("src"))
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::{a::{self, b::C}, d};\nuse super::{e, f::G as H};\nfn x() { crate::i::j(); } // crate::k\n#[cfg(test)] use crate::l;";
    let found: BTreeSet<_> = named("m::n", text).into_iter().collect();
    let expected = ["a::self", "a::b::C", "d", "m::e", "m::f::G", "i::j"];
    assert_eq!(found, expected.map(str::to_owned).into());
    let circle = |names: &[(&str, &str)]| {
        let all = names
            .iter()
            .map(|(from, to)| ((*from).into(), [(*to).into()].into()));
        Imports(all.collect()).circles().len()
    };
    assert_eq!(circle(&[("a", "b"), ("b", "c")]), 0);
    assert_eq!(circle(&[("a", "b"), ("b", "c"), ("c", "b")]), 3);
}

#[test]
fn no_rooms_of_the_program_and_no_files_form_a_circle() {
    let files = program();
    assert!(files.0.len() > 60, "{}", files.0.len());
    let rooms = files.rooms().circles();
    assert!(rooms.is_empty(), "{rooms:#?}");
    let crates = ["core", "rules", "filter"];
    let crates = crates.map(|name| Imports::of(&repository().join(format!("crates/{name}/src"))));
    for files in crates.into_iter().chain([files]) {
        let files = files.circles();
        assert!(files.is_empty(), "{files:#?}");
    }
}

/// Rooms, each with the rooms that it must not import.
const ARROWS: [(&str, &[&str]); 5] = [
    (
        "observe",
        &[
            "serve", "admin", "config", "live", "tables", "actions", "doors", "login",
        ],
    ),
    (
        "login",
        &[
            "serve", "admin", "config", "live", "tables", "actions", "doors", "observe",
        ],
    ),
    (
        "tables",
        &["serve", "admin", "config", "live", "actions", "doors"],
    ),
    ("doors", &["serve", "admin", "config", "tables"]),
    ("actions", &["serve", "admin", "config", "doors"]),
];

#[test]
fn arrows_between_rooms_have_one_direction() {
    let rooms = program().rooms().0;
    for (room, forbidden) in ARROWS {
        let imports = rooms.get(room).unwrap_or_else(|| panic!("no room {room}"));
        for other in forbidden {
            assert!(rooms.contains_key(*other), "no room {other}");
            assert!(!imports.contains(*other), "{room} imports {other}");
        }
    }
}
