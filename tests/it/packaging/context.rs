//! What a builder of the image gets of the project.

use super::{image::buildah, read, root};
use std::{collections::BTreeSet, fs, path::Path, process::Command};
use tempfile::TempDir;

/// Files that the compiler of the library does not list.
const OTHERS: [&str; 5] = ["Cargo.lock", "Cargo.toml", "build.rs", "proto/registrar/v1/registrar.proto", "src/main.rs"];

/// The files that the program is built from, by their path in the project. The compiler lists those of a library beside
/// it, each at the start of a line that ends with a colon.
fn sources() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_BIN_EXE_registrar")).parent().unwrap().join("deps");
    let mut sources: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("registrar-") || !name.ends_with(".d") {
            continue;
        }
        let list = fs::read_to_string(&path).unwrap();
        // Others are of the unit tests, which read files of `tests` too, and of clippy, which builds no library.
        if !list.lines().any(|line| line.contains("/libregistrar-") && line.contains(".rlib:")) {
            continue;
        }
        let paths = list.lines().filter_map(|line| line.strip_suffix(':')).filter(|path| !path.contains(": "));
        let inside = paths.map(|path| path.strip_prefix(&format!("{}/", root().display())).unwrap_or(path));
        // Generated ones are made again, and a list of an earlier build may name what was removed since.
        let kept = inside.filter(|path| !path.starts_with('/') && !path.starts_with("target/"));
        sources.extend(kept.filter(|path| root().join(path).is_file()).map(str::to_owned));
    }
    assert!(sources.len() > 300, "only {} files are listed in {}", sources.len(), folder.display());
    sources
}

#[test]
fn the_build_context_is_what_the_program_is_built_from_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("Containerfile");
    fs::write(&file, "FROM scratch\nCOPY . /\n").unwrap();
    let (file, project) = (file.to_str().unwrap(), root().to_str().unwrap());
    buildah(folder.path(), &["build", "--quiet", "--file", file, "--tag", "localhost/context", project]);
    let container = buildah(folder.path(), &["from", "--pull-never", "localhost/context"]);
    let context = buildah(folder.path(), &["mount", &container]);
    let context = Path::new(&context);

    let mut names: Vec<_> =
        fs::read_dir(context).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["Cargo.lock", "Cargo.toml", "askama.toml", "build.rs", "contracts", "proto", "src"]);
    let missing: Vec<_> = sources().into_iter().filter(|path| !context.join(path).is_file()).collect();
    assert!(missing.is_empty(), "left out by .dockerignore: {missing:?}");
    assert_eq!(fs::read_to_string(context.join("Cargo.lock")).unwrap(), read("Cargo.lock"));

    // The manifest names tests and benchmarks, which are not there.
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]);
    let metadata = metadata.current_dir(context).output().unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
}
