//! The map at the top of `src/lib.rs`, checked: which area names which outside library, which areas and files import
//! which, and how long files and functions are.

mod imports;
mod source;

use imports::{Modules, circles};
use source::{CodePath, SourceFile, files};
use std::{collections::BTreeMap, fs, path::Path};

/// Outside libraries by the start of their crates' names, and the areas that may name them.
const LIBRARIES: [(&str, &[&str]); 22] = [
    // The commands are a gRPC client and use the generated one.
    ("tonic", &["api", "cli"]),
    // `config` reads the rules of NO_PROXY.
    ("hyper", &["api", "config"]),
    ("aws", &["chain"]),
    ("alloy_trie", &["certificate"]),
    // `chain` encodes the headers that certificates are made of.
    ("alloy_rlp", &["certificate", "chain"]),
    // `main` installs its cryptography; `telemetry` checks the certificates for the collector, which its library reads.
    ("rustls", &["auth", "chain", "main", "pipeline", "telemetry"]),
    ("tokio_rustls", &["auth"]),
    ("x509_parser", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("ring", &["auth"]),
    ("rusqlite", &["store"]),
    ("sqlx", &["store"]),
    ("opentelemetry", &["telemetry"]),
    ("sentry", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("prometheus_client", &["telemetry"]),
    ("procfs", &["telemetry"]),
    ("governor", &["auth"]),
    ("toml", &["auth"]),
    ("clap", &["cli", "config", "main"]),
    ("askama", &["ui"]),
];

/// Which areas an area may import. `config` imports the areas whose settings it builds.
const AREAS: [(&str, &[&str]); 15] = [
    ("main", &["app", "cli", "config", "telemetry"]),
    ("app", &["api", "auth", "chain", "clock", "config", "pipeline", "registration", "store", "telemetry"]),
    // The development stack runs the service in its own process; everything else speaks gRPC.
    ("cli", &["api", "app", "auth", "certificate", "config", "registration", "telemetry"]),
    ("config", &["api", "auth", "chain", "pipeline", "registration", "store", "telemetry", "ui"]),
    ("api", &["auth", "clock", "pipeline", "registration", "telemetry", "ui"]),
    // It renders what the pipeline reports, and is served by `api`.
    ("ui", &["auth", "clock", "pipeline", "registration", "telemetry"]),
    ("auth", &["clock", "registration", "telemetry"]),
    ("pipeline", &["certificate", "chain", "clock", "registration", "store", "telemetry"]),
    ("chain", &["clock", "registration", "telemetry"]),
    ("store", &["clock", "registration", "telemetry"]),
    // Tests only: the real pipeline, store and endpoint pool on a simulated chain.
    ("simulation", &["chain", "clock", "pipeline", "registration", "store", "telemetry"]),
    ("certificate", &["registration"]),
    ("clock", &["registration"]),
    ("telemetry", &["registration"]),
    ("registration", &[]),
];

/// A file is split on a noun before it is longer than this, without its unit tests.
const MAX_FILE_LINES: usize = 400;
/// A function does one thing in at most this many lines.
const MAX_FUNCTION_LINES: usize = 70;

#[test]
fn each_outside_library_is_named_in_its_area_alone() {
    let mut wrong = Vec::new();
    for (file, area, path) in paths() {
        for (library, areas) in LIBRARIES {
            // A field or a variable may have a library's name.
            if path.len() > 1 && path[0].starts_with(library) && !areas.contains(&area.as_str()) {
                wrong.push(format!("{file}: {} belongs to {areas:?}", path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_chain_area_speaks_to_a_node() {
    let mut wrong = Vec::new();
    for (file, area, path) in paths() {
        // The encodings of the chain's data, which ask no node.
        let is_encoding = ["alloy_trie", "alloy_rlp"].contains(&path[0].as_str());
        let outside = path[0] == "alloy" || path[0].starts_with("alloy_") && !is_encoding;
        let primitive = path[0] == "alloy" && path.get(1).is_some_and(|module| module == "primitives");
        if outside && !primitive && area != "chain" {
            wrong.push(format!("{file}: {}", path.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Areas without await, clock and I/O, and the outside libraries that each may name.
const PURE_AREAS: [(&str, &[&str]); 2] = [
    ("registration", &["alloy", "cid", "proptest", "thiserror", "uuid"]),
    ("certificate", &["alloy", "alloy_rlp", "alloy_trie", "humantime", "proptest", "serde", "serde_json", "thiserror"]),
];

#[test]
fn registration_and_certificate_are_synchronous_and_read_no_clock() {
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for (file, area, path) in paths() {
        let Some((_, libraries)) = PURE_AREAS.iter().find(|(pure, _)| *pure == area) else { continue };
        let segment = |at: usize| path.get(at).map_or("", String::as_str);
        let outside = dependencies.iter().any(|name| name == segment(0)) && path.len() > 1;
        let impure = outside && !libraries.contains(&segment(0));
        let world = segment(0) == "std" && ["env", "fs", "io", "net", "process", "thread"].contains(&segment(1));
        let clock = segment(path.len() - 1) == "now" && path.len() > 1 || segment(2) == "Instant";
        if impure || world || clock {
            wrong.push(format!("{file}: {}", path.join("::")));
        }
    }
    for file in files().iter().filter(|file| PURE_AREAS.iter().any(|(pure, _)| file.area() == *pure)) {
        if file.has_token("await") || file.has_token("async") {
            wrong.push(format!("{}: awaits", file.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn areas_import_only_the_areas_that_the_map_gives_them() {
    let allowed = BTreeMap::from(AREAS);
    let mut wrong = Vec::new();
    for (file, area, path) in paths() {
        // The map itself, in lib.rs, names every area.
        if area == "lib" || (path[0] != "crate" && path[0] != "registrar") {
            continue;
        }
        let Some(other) = path.get(1).filter(|other| allowed.contains_key(other.as_str())) else { continue };
        let areas = allowed.get(area.as_str()).unwrap_or_else(|| panic!("{file} is in an area that is not on the map"));
        if *other != area && !areas.contains(&other.as_str()) {
            wrong.push(format!("{file}: {area} -> {other}, as {}", path.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_files_of_an_area_import_each_other_without_a_circle() {
    let imports = Modules::new(&files()).imports();
    let circles = circles(&imports);
    let name = |module: &CodePath| module.join("::");
    let describe = |circle: &std::collections::BTreeSet<CodePath>| {
        let edges = circle.iter().map(|file| {
            let inside: Vec<_> = imports[file].iter().filter(|other| circle.contains(*other)).map(name).collect();
            format!("  {} imports {}", name(file), inside.join(", "))
        });
        edges.collect::<Vec<_>>().join("\n")
    };
    let described: Vec<_> = circles.iter().map(describe).collect();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), described.join("\n\n"));
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for file in files() {
        let (path, lines) = (file.path.display(), file.lines_before_tests());
        if lines > MAX_FILE_LINES {
            long.push(format!("{path}: {lines} lines before its tests"));
        }
        // The rows of a truth table are data.
        if path.to_string().contains("tests") {
            continue;
        }
        for function in file.functions().iter().filter(|function| function.lines > MAX_FUNCTION_LINES) {
            long.push(format!("{path}:{}: fn {} has {} lines", function.line, function.name, function.lines));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_reader_sees_what_code_names_and_nothing_else() {
    let text = r###"
        //! use tonic::Nothing;
        use crate::{api::{self as rpc}, chain::{Signer, url::EndpointUrl as Url}, store::*};
        pub use alloy::primitives::Address;
        /* sqlx::query /* nested */ */
        fn f<'a>(x: &'a str) -> opentelemetry::Context {
            let _ = "sentry::init // no"; '"'; crate::app::serve(x)
        }
        macro_rules! m { () => { let raw = r##"tonic::"# inside"##; } } // sqlx::Any
        pub(crate) async fn g() {
            sqlx::query!("x");
        }
        #[cfg(test)]
        mod tests { use crate::config::Settings; }
    "###;
    let file = SourceFile::new("example.rs".into(), text.to_owned());
    let joined = |paths: Vec<CodePath>| -> Vec<String> { paths.into_iter().map(|path| path.join("::")).collect() };
    let used = joined(file.names().used);
    for expected in [
        "crate::api",
        "crate::chain::Signer",
        "crate::chain::url::EndpointUrl",
        "crate::store::*",
        "opentelemetry::Context",
        "crate::app::serve",
        "sqlx::query",
        "crate::config::Settings",
    ] {
        assert!(used.iter().any(|path| path == expected), "{expected} is missing in {used:?}");
    }
    for hidden in ["tonic", "sentry", "alloy"] {
        assert!(!used.iter().any(|path| path.starts_with(hidden)), "{hidden} is not used in {used:?}");
    }
    assert_eq!(used.iter().filter(|path| path.starts_with("sqlx")).count(), 1, "{used:?}");
    let reexported = file.names().reexported.into_iter().map(|(name, path)| (name, path.join("::")));
    assert_eq!(reexported.collect::<Vec<_>>(), [("Address".to_owned(), "alloy::primitives::Address".to_owned())]);
    let outside_tests = joined(file.names_outside_tests().used);
    assert!(!outside_tests.contains(&"crate::config::Settings".to_owned()), "{outside_tests:?}");
    assert_eq!(file.test_modules(), Vec::<String>::new());
    assert_eq!(
        file.functions().iter().map(|one| (one.name.as_str(), one.lines)).collect::<Vec<_>>(),
        [("f", 3), ("g", 3)]
    );
}

#[test]
fn a_circle_is_found_through_a_re_export() {
    let file = |path: &str, text: &str| SourceFile::new(path.into(), text.to_owned());
    let circle_of = |leaf: &str| {
        let files = [
            file("area/mod.rs", "mod first; mod second; pub use second::Item; use first::Other;"),
            file("area/first.rs", "use super::Item; pub struct Other;"),
            file("area/second.rs", leaf),
        ];
        circles(&Modules::new(&files).imports()).iter().map(|circle| circle.len()).collect::<Vec<_>>()
    };
    assert_eq!(circle_of("pub struct Item;"), [0_usize; 0]);
    assert_eq!(circle_of("#[cfg(test)] mod tests { use super::super::first::Other; } pub struct Item;"), [0_usize; 0]);
    assert_eq!(circle_of("use super::first::Other; pub struct Item(Other);"), [2]);
}

/// Every path in the source, with its file and area.
fn paths() -> Vec<(String, String, CodePath)> {
    let mut all = Vec::new();
    for file in files() {
        let names = file.names();
        let paths = names.used.into_iter().chain(names.reexported.into_iter().map(|(_, path)| path));
        all.extend(paths.map(|path| (file.path.display().to_string(), file.area(), path)));
    }
    assert!(all.len() > 1000, "only {} paths were read", all.len());
    all
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
