//! The graph of files: which file uses items of which other, through `use` and through paths that begin with `crate` or `super`.
//! A re-export is looked through: it is the file that defines an item which is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Module = Vec<String>;

pub(super) struct Graph {
    names: BTreeMap<Module, String>,
    /// The names that a module re-exports, and the paths behind them.
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// Returns the graph of these files, given with their code.
    pub(super) fn of(files: &[(PathBuf, String)]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let modules: Vec<(Module, String, &String)> = files
            .iter()
            .filter_map(|(path, code)| {
                let inside = path.strip_prefix(&root).unwrap_or(path);
                Some((module_of(inside)?, inside.display().to_string(), code))
            })
            .collect();
        let names = modules.iter().map(|(module, name, _)| (module.clone(), name.clone())).collect();
        let mut graph = Self { names, exports: BTreeMap::new(), edges: BTreeMap::new() };
        let parsed: Vec<_> = modules.iter().map(|(module, _, code)| (module, Code::parse(code))).collect();
        for (module, code) in &parsed {
            let exports = code.uses.iter().filter(|used| used.public);
            let exports = exports.map(|used| (used.name.clone(), Self::absolute(module, &used.path)));
            let exports = exports.collect();
            graph.exports.insert((*module).clone(), exports);
        }
        for (module, code) in &parsed {
            // A re-export is not a use.
            let used = code.uses.iter().filter(|used| !used.public || code.mentions(&used.name)).map(|used| &used.path);
            let targets: BTreeSet<Module> = used
                .chain(&code.paths)
                .map(|path| graph.resolve(&Self::absolute(module, path), 0))
                .filter(|target| target != *module && !target.is_empty())
                .collect();
            graph.edges.insert((*module).clone(), targets);
        }
        graph
    }

    /// Returns the sets of files that use each other, in one way or another, each as its names with ` <-> ` between them.
    pub(super) fn circles(&self) -> Vec<String> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> = self.edges.keys().map(|from| (from, self.reachable(from))).collect();
        let mut circles = BTreeSet::new();
        for (from, to) in &reach {
            let circle: BTreeSet<&Module> =
                to.iter().filter(|other| reach.get(*other).is_some_and(|back| back.contains(from))).copied().collect();
            if circle.len() > 1 {
                let names: Vec<&str> = circle.iter().map(|module| self.names[*module].as_str()).collect();
                circles.insert(names.join(" <-> "));
            }
        }
        circles.into_iter().collect()
    }

    fn reachable<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut found, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            for next in self.edges.get(module).into_iter().flatten() {
                if found.insert(next) {
                    open.push(next);
                }
            }
        }
        found
    }

    /// Returns a path in `module` as an absolute path of the crate.
    fn absolute(module: &Module, path: &[String]) -> Module {
        let mut base = module.clone();
        let mut rest = path;
        loop {
            match rest.first().map(String::as_str) {
                Some("crate") => (base, rest) = (Vec::new(), &rest[1..]),
                Some("super") => {
                    base.pop();
                    rest = &rest[1..];
                }
                Some("self") => rest = &rest[1..],
                _ => break,
            }
        }
        base.extend(rest.iter().cloned());
        base
    }

    /// Returns the module of the file in which the item at an absolute path is defined.
    fn resolve(&self, path: &[String], depth: usize) -> Module {
        let mut module = Vec::new();
        let mut rest = path;
        while let Some(name) = rest.first() {
            let mut below = module.clone();
            below.push(name.clone());
            if !self.names.contains_key(&below) {
                break;
            }
            (module, rest) = (below, &rest[1..]);
        }
        if let Some(behind) = rest.first().and_then(|name| self.exports.get(&module)?.get(name)).filter(|_| depth < 8) {
            let behind: Module = behind.iter().chain(&rest[1..]).cloned().collect();
            return self.resolve(&behind, depth + 1);
        }
        module
    }
}

/// Returns the module that a file below `src` is; none for `main.rs`.
fn module_of(inside: &Path) -> Option<Module> {
    let mut module: Module = inside.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    match module.last().map(String::as_str) {
        Some("main") if module.len() == 1 => return None,
        Some("mod" | "lib") => drop(module.pop()),
        _ => {}
    }
    Some(module)
}

struct Use {
    public: bool,
    /// The local name of the item.
    name: String,
    path: Module,
}

struct Code {
    uses: Vec<Use>,
    /// Paths in code that begin with `crate` or `super`.
    paths: Vec<Module>,
    /// The code without `use`, as words.
    words: BTreeSet<String>,
}

impl Code {
    fn parse(code: &str) -> Self {
        let code: String = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| {
                [
                    line, "
",
                ]
            })
            .collect();
        let (mut uses, mut body) = (Vec::new(), String::new());
        let mut rest = code.as_str();
        while let Some((at, public)) = next_use(rest) {
            body.push_str(&rest[..at]);
            let statement = &rest[at..];
            let end = statement.find(';').expect("a use ends");
            let tree = statement[..end].split_once("use ").expect("it is a use").1;
            expand(tree, &[], &mut |path: Module| {
                let (mut path, mut name) = (path, None);
                if path.len() > 2 && path[path.len() - 2] == "as" {
                    name = path.pop();
                    path.pop();
                }
                if path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
                uses.push(Use { public, name, path });
            });
            rest = &statement[end + 1..];
        }
        body.push_str(rest);
        let split =
            |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect::<BTreeSet<_>>();
        let mut paths = Vec::new();
        for start in ["crate::", "super::"] {
            for (at, _) in body.match_indices(start) {
                if !body[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    let path = body[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next().unwrap();
                    paths.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
                }
            }
        }
        Self { uses, paths, words: split(&body) }
    }

    fn mentions(&self, name: &str) -> bool {
        self.words.contains(name)
    }
}

/// Returns where the next `use` at the begin of a line is, and whether it re-exports.
fn next_use(code: &str) -> Option<(usize, bool)> {
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let plain = trimmed.starts_with("use ");
        let public = trimmed.starts_with("pub use ") || (trimmed.starts_with("pub(") && trimmed.contains(") use "));
        if plain || public {
            return Some((at, public));
        }
        at += line.len();
    }
    None
}

/// Calls `with` for each path of a `use` tree; `a as b` comes as the last three parts.
fn expand(tree: &str, before: &[String], with: &mut impl FnMut(Module)) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut path = before.to_vec();
        path.extend(parts(&tree[..open]));
        let inside = &tree[open + 1..tree.rfind('}').expect("a tree is closed")];
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inside[start..at].trim().is_empty() {
                        expand(&inside[start..at], &path, with);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
    } else {
        let mut path = before.to_vec();
        path.extend(parts(tree));
        with(path);
    }
}

fn parts(text: &str) -> impl Iterator<Item = String> {
    text.split("::").flat_map(str::split_whitespace).filter(|part| !part.is_empty()).map(str::to_owned)
}

#[test]
fn a_cycle_is_found_through_trees_re_exports_and_plain_paths() {
    let file = |name: &str, code: &str| (PathBuf::from(name), code.to_owned());
    let graph = |a: &str, b: &str| {
        let top = "mod a;\nmod b;\npub use a::Apple;\npub(crate) use b::{Pear, Plum as Prune};\n";
        Graph::of(&[file("fruit.rs", top), file("fruit/a.rs", a), file("fruit/b.rs", b)]).circles()
    };
    let circle = ["fruit/a.rs <-> fruit/b.rs"];
    assert_eq!(graph("use crate::fruit::Pear;", "use crate::fruit::{self, a::{Apple}};"), circle);
    assert_eq!(graph("use crate::fruit::Prune;", "use super::Apple;"), circle);
    assert_eq!(graph("fn f() { crate::fruit::b::g() }", "fn g() { super::a::f() }"), circle);
    assert!(graph("use crate::fruit::Pear;", "use std::fmt;").is_empty());
    assert!(graph("// use crate::fruit::Pear;\n", "use crate::fruit::Apple;").is_empty());
    let parent = Graph::of(&[file("p.rs", "use p::C;\nuse c::C;\npub struct P;"), file("p/c.rs", "use crate::p::P;")]);
    assert_eq!(parent.circles(), ["p.rs <-> p/c.rs"]);
}
