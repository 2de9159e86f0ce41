//! The source of `src` as tokens: which paths a file names, what it re-exports, and how long its functions are.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A path as code names it, such as `crate::store::Settings`, one segment each.
pub type CodePath = Vec<String>;

/// One file under `src`.
pub struct SourceFile {
    /// Its path below `src`.
    pub path: PathBuf,
    pub text: String,
    tokens: TokenStream,
}

/// What one file names.
pub struct Names {
    /// Paths in the code and in private `use` declarations.
    pub used: Vec<CodePath>,
    /// `pub use`: the name that others see (`*` for a glob), and the path behind it.
    pub reexported: Vec<(String, CodePath)>,
}

/// A function with a body, its first line and its length in lines.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// Every file under `src`.
pub fn files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push(SourceFile::new(path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 100, "only {} files were read", files.len());
    files
}

impl SourceFile {
    pub fn new(path: PathBuf, text: String) -> Self {
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text, tokens }
    }

    /// The folder below `src`, or the file itself.
    pub fn area(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The module that the file is, by its segments below the crate.
    pub fn module(&self) -> CodePath {
        let mut segments: CodePath =
            self.path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if segments.last().is_some_and(|last| last == "mod" || last == "lib") {
            segments.pop();
        }
        segments
    }

    /// What the file names, its tests included.
    pub fn names(&self) -> Names {
        names(&flatten(self.tokens.clone()))
    }

    /// What the file names outside of `#[cfg(test)]`.
    pub fn names_outside_tests(&self) -> Names {
        names(&flatten(without_tests(self.tokens.clone())))
    }

    /// The modules that this file declares under `#[cfg(test)]`.
    pub fn test_modules(&self) -> Vec<String> {
        let declared = |stream| {
            let tokens = flatten(stream);
            let names = tokens.windows(3).filter(|three| three[0] == "mod" && three[2] == ";");
            names.map(|three| three[1].clone()).collect::<Vec<_>>()
        };
        let outside = declared(without_tests(self.tokens.clone()));
        declared(self.tokens.clone()).into_iter().filter(|name| !outside.contains(name)).collect()
    }

    pub fn has_token(&self, token: &str) -> bool {
        flatten(self.tokens.clone()).iter().any(|one| one == token)
    }

    /// How many lines stand before the module of unit tests, or in all.
    pub fn lines_before_tests(&self) -> usize {
        self.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
    }

    /// Every function before the module of unit tests that has a body, by its indentation: `cargo fmt` puts the closing
    /// brace below the `fn`.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        let mut open: Option<(usize, Function)> = None;
        for (number, line) in self.text.lines().take(self.lines_before_tests()).enumerate() {
            let indentation = line.len() - line.trim_start().len();
            if let Some(name) = function_name(line) {
                open = Some((indentation, Function { name, line: number + 1, lines: 1 }));
            }
            if line.trim() == "}"
                && let Some((_, mut function)) = open.take_if(|(start, _)| *start == indentation)
            {
                function.lines = number + 2 - function.line;
                found.push(function);
            }
        }
        found
    }
}

/// The name of the function whose first line this is.
fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || word.starts_with("in") || ["const", "async", "crate::pipeline)"].contains(word)
    });
    (words.next()? == "fn").then_some(())?;
    Some(words.next()?.split(['(', '<']).next()?.to_owned())
}

/// The code without items, fields and arms under `#[cfg(test)]`.
fn without_tests(stream: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let is_attribute = matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == '#');
        let is_test = matches!(trees.peek(), Some(TokenTree::Group(group)) if group.to_string().replace(' ', "") == "[cfg(test)]");
        if is_attribute && is_test {
            for skipped in trees.by_ref() {
                match skipped {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(punct) if [';', ','].contains(&punct.as_char()) => break,
                    TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Ident(_) | TokenTree::Literal(_) => {}
                }
            }
            continue;
        }
        kept.push(match tree {
            TokenTree::Group(group) => TokenTree::Group(Group::new(group.delimiter(), without_tests(group.stream()))),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => tree,
        });
    }
    kept.into_iter().collect()
}

/// Names, `::`, brackets and signs in order; literals (documentation among them) are left out.
fn flatten(stream: TokenStream) -> Vec<String> {
    fn push(tokens: &mut Vec<String>, stream: TokenStream) {
        for tree in stream {
            match tree {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    tokens.push(open.to_owned());
                    push(tokens, group.stream());
                    tokens.push(close.to_owned());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && tokens.last().is_some_and(|last| last == ":") => {
                    *tokens.last_mut().unwrap() = "::".to_owned();
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => tokens.push(tree.to_string()),
                TokenTree::Literal(_) => tokens.push("\"\"".to_owned()),
            }
        }
    }
    let mut tokens = Vec::new();
    push(&mut tokens, stream);
    tokens
}

fn names(tokens: &[String]) -> Names {
    let mut names = Names { used: Vec::new(), reexported: Vec::new() };
    let mut at = 0;
    while at < tokens.len() {
        if !is_name(&tokens[at]) {
            at += 1;
            continue;
        }
        let is_use = tokens[at] == "use";
        let public = is_use && is_public(&tokens[..at]);
        let mut found = Vec::new();
        at = read_tree(tokens, if is_use { at + 1 } else { at }, &mut Vec::new(), &mut found);
        for (path, alias) in found.into_iter().filter(|(path, _)| !path.is_empty()) {
            if public {
                names.reexported.push((alias.unwrap_or_else(|| path.last().unwrap().clone()), path));
            } else if is_use || path.len() > 1 {
                names.used.push(path);
            }
        }
    }
    names
}

/// Whether a declaration after these tokens is `pub` or `pub(…)`.
fn is_public(before: &[String]) -> bool {
    let mut before = before.iter().rev().map(String::as_str);
    match before.next() {
        Some("pub") => true,
        Some(")") => before.find(|token| *token == "(").is_some() && before.next() == Some("pub"),
        _ => false,
    }
}

/// Reads a path from its first name on: `a::b::{c, d::e as f}` gives two. Returns where it ends.
fn read_tree(
    tokens: &[String],
    mut at: usize,
    prefix: &mut CodePath,
    found: &mut Vec<(CodePath, Option<String>)>,
) -> usize {
    let depth = prefix.len();
    while at < tokens.len() {
        if is_name(&tokens[at]) || tokens[at] == "*" {
            prefix.push(tokens[at].clone());
            at += 1;
        } else if tokens[at] == "{" {
            at += 1;
            while at < tokens.len() && tokens[at] != "}" {
                let starts_path = is_name(&tokens[at]) || tokens[at] == "*";
                at = if starts_path { read_tree(tokens, at, prefix, found) } else { at + 1 };
            }
            prefix.truncate(depth);
            return at + 1;
        } else {
            break;
        }
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    let alias = (tokens.get(at).is_some_and(|token| token == "as")).then(|| tokens[at + 1].clone());
    at += if alias.is_some() { 2 } else { 0 };
    // `self` in braces is the module before it.
    let ends_in_self = prefix.len() > 1 && prefix.last().is_some_and(|last| last == "self");
    found.push((prefix[..prefix.len() - usize::from(ends_in_self)].to_vec(), alias));
    prefix.truncate(depth);
    at.max(1)
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}
