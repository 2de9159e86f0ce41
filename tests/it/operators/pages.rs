//! The pages: every link has a target, every command is valid, every cause has a section.

use super::{deploy, text};
use crate::harness::cli;
use registrar::registration::Cause;
use std::collections::BTreeSet;

pub const PAGES: [&str; 4] = ["README.md", "RUNBOOK.md", "TRACING.md", "sentry/README.md"];

/// Values for the placeholders in the pages' commands.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("$ID", "01a1fc0c-e7f9-7523-a273-a8f71a7ade20"),
    ("$EARLIER_REGISTRATION_ID", "01a1fc0c-e7f9-7523-a273-a8f71a7ade21"),
    ("$HASH", "0x2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ("$CASE", "CASE-1"),
];

/// The anchors of a page's sections.
pub fn anchors(page: &str) -> BTreeSet<String> {
    let page = text(page);
    let headings =
        outside_code(&page).filter_map(|line| line.strip_prefix('#').map(|line| line.trim_start_matches('#')));
    headings.map(anchor).collect()
}

/// The anchor that GitHub and GitLab derive from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn outside_code(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The lines of all code blocks of this language.
pub fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = line.trim_start_matches('`') == language;
        } else if inside && !line.is_empty() {
            found.push(line);
        }
    }
    found
}

/// The inline code spans.
pub fn code_spans(page: &str) -> Vec<String> {
    let text: String = outside_code(page).collect::<Vec<_>>().join("\n");
    text.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

#[test]
fn every_diagnosis_cause_has_a_complete_section() {
    let runbook = text("RUNBOOK.md");
    let sections: Vec<_> = runbook.split("\n### ").skip(1).collect();
    for (_, cause) in Cause::CODES {
        let section = sections.iter().find(|section| section.lines().next() == Some(cause));
        let section = section.unwrap_or_else(|| panic!("{cause} has no section"));
        for part in ["**Means.**", "**Check.**", "**Do.**"] {
            assert!(section.contains(part), "{cause} has no {part}");
        }
    }
}

#[test]
fn every_link_has_a_target() {
    let mut links = 0;
    for page in PAGES {
        let folder = deploy(page).parent().unwrap().to_owned();
        let text = text(page);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { deploy(page) } else { folder.join(file) };
            assert!(target.exists(), "{page} links to the missing {link}");
            if !anchor.is_empty() {
                let target = target.canonicalize().unwrap();
                let target = target.strip_prefix(deploy("").canonicalize().unwrap()).unwrap();
                assert!(anchors(target.to_str().unwrap()).contains(anchor), "{page} links to the missing {link}");
            }
        }
    }
    assert!(links > 40, "only {links} links found");
}

#[tokio::test]
async fn every_command_in_the_pages_is_valid() {
    let mut commands = BTreeSet::new();
    for page in PAGES {
        let text = text(page);
        commands.extend(blocks(&text, "sh").into_iter().filter_map(command));
        commands.extend(code_spans(&text).iter().filter_map(|span| command(span)));
    }
    for expected in ["explain", "list", "verify", "status", "info", "serve", "dev", "watch"] {
        assert!(commands.iter().any(|words| words[0] == expected), "{expected} is not among {commands:?}");
    }
    for words in commands {
        let words: Vec<_> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let run = cli::run(&words, &[]).await;
        assert_eq!(run.code, 0, "{run:?}");
    }
}

/// The arguments of a `registrar` command, without leading variables and trailing shell syntax.
fn command(line: &str) -> Option<Vec<String>> {
    let mut words = line.split_whitespace().skip_while(|word| word.contains('=') && !word.starts_with('-'));
    (words.next()? == "registrar").then_some(())?;
    let words = words.take_while(|word| !["#", "|", ">", "&&", ";"].contains(word));
    let words = words
        .map(|word| PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == word).map_or(word, |(_, value)| value));
    Some(words.map(str::to_owned).collect::<Vec<_>>()).filter(|words| !words.is_empty())
}
