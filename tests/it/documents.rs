//! The documents match the code: links and paths exist, tables list what the code has, programs run.
//!
//! The metrics' table is compared with a running service in `metrics.rs`, and the pages for operators in `operators`.

mod follow;
mod programs;
mod reference;

use std::{collections::BTreeSet, fs, path::Path};

const MAX_README_LINES: usize = 200;
const MAX_PROSE_CHARS: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files with this extension below a folder, by their path in the repository.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules" && name != ".venv") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every page, by its path in the repository.
pub fn pages() -> Vec<String> {
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    [top.to_vec(), files("docs", "md"), files("deploy", "md")].concat()
}

pub fn outside_code(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

pub fn code_spans(page: &str) -> Vec<String> {
    let text: String = outside_code(page).collect::<Vec<_>>().join("\n");
    text.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// The anchors of a page's headings, as GitHub and GitLab derive them.
pub fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        outside_code(page).filter_map(|line| line.strip_prefix('#').map(|line| line.trim_start_matches('#')));
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The blocks of this language, each as it is written.
pub fn code_blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The text below a heading, up to the next heading of the same or a higher level.
pub fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let rest = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}")).1;
    let level = heading.chars().take_while(|c| *c == '#').count();
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level)))).min();
    &rest[..ends.unwrap_or(rest.len())]
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= MAX_README_LINES, "{lines} lines");
}

#[test]
fn no_line_of_prose_is_longer_than_120_characters() {
    let mut long = Vec::new();
    for page in pages() {
        let text = read(&page);
        let prose = outside_code(&text).filter(|line| !line.trim_start().starts_with('|'));
        long.extend(prose.filter(|line| line.chars().count() > MAX_PROSE_CHARS).map(|line| format!("{page}: {line}")));
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_link_and_anchor_exists() {
    let mut links = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        let text = read(&page);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            let found = target.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{page} links to {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(links > 120, "only {links} links were read");
}

#[test]
fn every_page_is_linked_from_another_one() {
    let mut linked = BTreeSet::new();
    for page in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in read(&page).split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            if let Ok(target) = folder.join(link).canonicalize() {
                linked.insert(target);
            }
        }
    }
    let unlinked: Vec<_> = pages()
        .into_iter()
        .filter(|page| page != "README.md" && !linked.contains(&root().join(page).canonicalize().unwrap()))
        .collect();
    assert!(unlinked.is_empty(), "{unlinked:?}");
}

#[test]
fn every_path_that_a_page_names_exists() {
    let mut missing = Vec::new();
    let folders = ["src/", "tests/", "docs/", "deploy/", "contracts/src/", "proto/"];
    for page in pages() {
        for span in code_spans(&read(&page)) {
            let is_path = folders.iter().any(|folder| span.starts_with(folder)) && !span.contains([' ', '*', '…']);
            // The changelog names what was.
            if is_path && page != "CHANGELOG.md" && !root().join(&span).exists() {
                missing.push(format!("{page} names {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
