//! The house as its map says: which room names which outside library, and which rooms know which.
//!
//! Read from the paths in the source: `use` lines and paths in the code alike.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A path as the source names it, such as `crate::store::Settings`.
type Named = Vec<String>;

/// Outside libraries by the beginning of their crates' names, and the rooms that may name them.
const LIBRARIES: [(&str, &[&str]); 9] = [
    // The commands are a gRPC client, and use the generated one.
    ("tonic", &["api", "cli"]),
    ("sqlx", &["store"]),
    ("opentelemetry", &["telemetry"]),
    ("sentry", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("prometheus_client", &["telemetry"]),
    ("procfs", &["telemetry"]),
    ("clap", &["cli", "config", "main"]),
];

/// The arrows: which rooms a room may name. `app` and `config` build on all of them, for rooms own their settings.
const ARROWS: [(&str, &[&str]); 11] = [
    ("main", &["app", "cli", "config", "telemetry"]),
    ("app", &["api", "chain", "clock", "config", "pipeline", "registration", "store", "telemetry"]),
    // The development stack runs the service in its own process; everything else speaks gRPC.
    ("cli", &["api", "app", "config", "registration", "telemetry"]),
    ("config", &["api", "chain", "pipeline", "registration", "store", "telemetry"]),
    ("api", &["clock", "pipeline", "registration", "telemetry"]),
    ("pipeline", &["chain", "clock", "registration", "store", "telemetry"]),
    ("chain", &["clock", "registration", "telemetry"]),
    ("store", &["clock", "registration", "telemetry"]),
    ("clock", &["registration"]),
    ("telemetry", &["registration"]),
    ("registration", &[]),
];

#[test]
fn each_outside_library_has_its_room() {
    let mut wrong = Vec::new();
    for (file, room, named) in source() {
        for (library, rooms) in LIBRARIES {
            // A field or a variable may be called as a library is.
            if named.len() > 1 && named[0].starts_with(library) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{file}: {} belongs to {rooms:?}", named.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_chain_room_speaks_to_a_node() {
    let mut wrong = Vec::new();
    for (file, room, named) in source() {
        let outside = named[0] == "alloy" || named[0].starts_with("alloy_");
        let primitive = named[0] == "alloy" && named.get(1).is_some_and(|module| module == "primitives");
        if outside && !primitive && room != "chain" {
            wrong.push(format!("{file}: {}", named.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_domain_awaits_nothing_and_knows_no_clock() {
    let mut wrong = Vec::new();
    for (file, room, named) in source() {
        if room != "registration" {
            continue;
        }
        let module = |at: usize| named.get(at).map_or("", String::as_str);
        let outside = dependencies().iter().any(|name| name == module(0)) && named.len() > 1;
        let impure = outside && !["alloy", "cid", "proptest", "thiserror", "uuid"].contains(&module(0));
        let world = module(0) == "std" && ["env", "fs", "io", "net", "process", "thread"].contains(&module(1));
        let clock = module(named.len() - 1) == "now" && named.len() > 1 || module(2) == "Instant";
        if impure || world || clock {
            wrong.push(format!("{file}: {}", named.join("::")));
        }
    }
    for (file, text) in files() {
        if room_of(&file) == "registration" && tokens(&text).iter().any(|token| token == "await" || token == "async") {
            wrong.push(format!("{}: awaits", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_know_only_the_rooms_that_the_map_gives_them() {
    let arrows = BTreeMap::from(ARROWS);
    let mut wrong = Vec::new();
    for (file, room, named) in source() {
        // The map itself, in lib.rs, names every room.
        if room == "lib" || (named[0] != "crate" && named[0] != "registrar") {
            continue;
        }
        let Some(other) = named.get(1).filter(|other| arrows.contains_key(other.as_str())) else { continue };
        let known = arrows.get(room.as_str()).unwrap_or_else(|| panic!("{file} is in a room that is not on the map"));
        if *other != room && !known.contains(&other.as_str()) {
            wrong.push(format!("{file}: {} -> {other}, as {}", room, named.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_paths_sees_what_is_named_and_nothing_else() {
    let text = r###"
        //! use tonic::Nothing;
        use crate::{api, chain::{Signer, url::EndpointUrl as Url}, store::*};
        pub use alloy::primitives::Address;
        /* sqlx::query /* nested */ */
        fn f<'a>(x: &'a str) -> opentelemetry::Context { let _ = "sentry::init // no"; '"'; crate::app::serve(x) }
        let raw = r##"tonic::"# inside"##; // sqlx::Any
        sqlx::query!("x");
    "###;
    let seen: Vec<String> = paths(text).into_iter().map(|path| path.join("::")).collect();
    for expected in [
        "crate::api",
        "crate::chain::Signer",
        "crate::chain::url::EndpointUrl",
        "crate::store",
        "alloy::primitives::Address",
        "opentelemetry::Context",
        "crate::app::serve",
        "sqlx::query",
    ] {
        assert!(seen.iter().any(|path| path == expected), "{expected} is missing in {seen:?}");
    }
    for hidden in ["tonic", "sentry"] {
        assert!(!seen.iter().any(|path| path.starts_with(hidden)), "{hidden} is only a word in {seen:?}");
    }
    assert_eq!(seen.iter().filter(|path| path.starts_with("sqlx")).count(), 1, "{seen:?}");
}

/// Every path in the source, with its file and room.
fn source() -> Vec<(String, String, Named)> {
    let all: Vec<_> = files()
        .into_iter()
        .flat_map(|(file, text)| {
            let room = room_of(&file);
            let name = file.display().to_string();
            paths(&text).into_iter().map(move |named| (name.clone(), room.clone(), named))
        })
        .collect();
    assert!(all.len() > 1000, "only {} paths were read", all.len());
    all
}

fn files() -> Vec<(PathBuf, String)> {
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
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

/// The room of a file under `src`: its folder, or the file itself.
fn room_of(file: &Path) -> String {
    let first = file.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The crates that `Cargo.toml` names, as code names them.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    manifest
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim().replace('-', "_")))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The paths that a source text names, `use` trees taken apart.
fn paths(text: &str) -> Vec<Named> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) {
            at = read_tree(&tokens, at, &mut Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads a path from its first name on: `a::b::{c, d::e}` gives three. Returns where it ends.
fn read_tree(tokens: &[String], mut at: usize, prefix: &mut Named, found: &mut Vec<Named>) -> usize {
    let depth = prefix.len();
    while at < tokens.len() {
        if is_name(&tokens[at]) {
            prefix.push(tokens[at].clone());
            at += 1;
        } else if tokens[at] == "{" {
            at += 1;
            while at < tokens.len() && tokens[at] != "}" {
                at = if is_name(&tokens[at]) { read_tree(tokens, at, prefix, found) } else { at + 1 };
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
    found.push(prefix.clone());
    prefix.truncate(depth);
    at
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// Names, `::` and braces; comments, texts and characters are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            at = end_of_comment(&chars, at);
        } else if c == '"' {
            at = end_of_text(&chars, at);
        } else if let Some(end) = end_of_raw_text(&chars, at) {
            at = end;
        } else if c == '\'' {
            at = end_of_character(&chars, at);
        } else if c.is_alphanumeric() || c == '_' {
            let from = at;
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            tokens.push(chars[from..at].iter().collect());
        } else if starts(at, "::") {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

fn end_of_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_text(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Where `r"…"` or `r#"…"#` ends, if one begins here.
fn end_of_raw_text(chars: &[char], at: usize) -> Option<usize> {
    let inside_a_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b';
    if chars[at] != 'r' || inside_a_name {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let mut end = at + 1 + hashes;
    (chars.get(end) == Some(&'"')).then_some(())?;
    end += 1;
    while end < chars.len() {
        let closed = chars[end] == '"' && chars[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        end += 1;
        if closed {
            return Some(end + hashes);
        }
    }
    Some(chars.len())
}

/// A character ends with its quote; a lifetime is skipped as a name.
fn end_of_character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let mut end = at + 3;
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            end + 1
        }
        (Some(_), Some('\'')) => at + 3,
        _ => {
            let mut end = at + 1;
            while end < chars.len() && (chars[end].is_alphanumeric() || chars[end] == '_') {
                end += 1;
            }
            end
        }
    }
}
