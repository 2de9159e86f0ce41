//! Which file of an area imports which, and the circles among them.
//!
//! A `pub use` is a signpost, not an import: it is followed to the file that holds the item.

use super::source::{CodePath, Names, SourceFile};
use std::collections::{BTreeMap, BTreeSet};

/// How many `pub use` may lie between a path and its item.
const MAX_REEXPORTS: usize = 16;

/// The files of a crate by their modules, without those that exist for tests alone.
pub struct Modules(BTreeMap<CodePath, Names>);

impl Modules {
    pub fn new(files: &[SourceFile]) -> Self {
        let for_tests: BTreeSet<CodePath> = files
            .iter()
            .flat_map(|file| {
                let module = file.module();
                file.test_modules().into_iter().map(move |name| [module.clone(), vec![name]].concat())
            })
            .collect();
        let is_for_tests = |module: &CodePath| for_tests.iter().any(|one| module.starts_with(one));
        let modules = files.iter().filter(|file| !is_for_tests(&file.module()));
        Self(modules.map(|file| (file.module(), file.names_outside_tests())).collect())
    }

    /// For every file, the other files of its area that it imports from.
    pub fn imports(&self) -> BTreeMap<CodePath, BTreeSet<CodePath>> {
        let of_one = |(module, names): (&CodePath, &Names)| {
            let targets = names.used.iter().filter_map(|path| self.resolve(module, path, 0));
            let targets = targets.filter(|target| target != module && target.first() == module.first());
            (module.clone(), targets.filter(|target| !target.is_empty()).collect())
        };
        self.0.iter().map(of_one).collect()
    }

    /// The file that holds what `path` names in `module`; `None` for what is not ours.
    fn resolve(&self, module: &CodePath, path: &[String], depth: usize) -> Option<CodePath> {
        let (first, rest) = path.split_first()?;
        let child = [module.as_slice(), std::slice::from_ref(first)].concat();
        match first.as_str() {
            _ if depth > MAX_REEXPORTS => None,
            "crate" => Some(self.descend(Vec::new(), rest, depth)),
            "self" => Some(self.descend(module.clone(), rest, depth)),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                Some(self.descend(module[..module.len().saturating_sub(ups)].to_vec(), &path[ups..], depth))
            }
            _ if self.0.contains_key(&child) => Some(self.descend(child, rest, depth)),
            _ => None,
        }
    }

    /// Follows the segments through modules and re-exports as far as they lead.
    fn descend(&self, mut module: CodePath, mut rest: &[String], depth: usize) -> CodePath {
        while let Some((segment, after)) = rest.split_first() {
            let child = [module.as_slice(), std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&child) {
                (module, rest) = (child, after);
                continue;
            }
            let Some(names) = self.0.get(&module) else { break };
            let behind = names.reexported.iter().find(|(name, _)| name == segment);
            let Some((_, target)) = behind else { break };
            let full = [target.as_slice(), after].concat();
            return self.resolve(&module, &full, depth + 1).unwrap_or(module);
        }
        module
    }
}

/// The groups of files that reach each other, each with more than one file.
pub fn circles(imports: &BTreeMap<CodePath, BTreeSet<CodePath>>) -> Vec<BTreeSet<CodePath>> {
    let reach: BTreeMap<&CodePath, BTreeSet<&CodePath>> =
        imports.keys().map(|module| (module, reachable(imports, module))).collect();
    let mut found: Vec<BTreeSet<CodePath>> = Vec::new();
    for (module, reached) in &reach {
        let mutual = reached.iter().filter(|other| reach.get(*other).is_some_and(|back| back.contains(module)));
        let circle: BTreeSet<CodePath> = mutual.map(|other| (*other).clone()).collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reachable<'a>(imports: &'a BTreeMap<CodePath, BTreeSet<CodePath>>, from: &CodePath) -> BTreeSet<&'a CodePath> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&CodePath> = imports.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    reached
}
