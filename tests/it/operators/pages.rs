//! The pages: every command can be run, every cause has a section.

use super::text;
use crate::{
    documents::{self, code_spans},
    harness::cli,
};
use registrar::registration::Cause;
use std::collections::BTreeSet;

/// The pages for operators, by their path from `deploy/`: every metric that they name is there.
pub const PAGES: [&str; 8] = [
    "README.md",
    "RUNBOOK.md",
    "../docs/guides/operate.md",
    "../docs/guides/rotation.md",
    "../docs/guides/security.md",
    "../docs/guides/signers.md",
    "../docs/guides/tracing.md",
    "sentry/README.md",
];

/// What a command is given in the place of what the pages leave open.
const PLACES: [(&str, &str); 11] = [
    ("NAME", "aaa-service"),
    ("ID", "01a1fc0c-e7f9-7523-a273-a8f71a7ade20"),
    ("$ID", "01a1fc0c-e7f9-7523-a273-a8f71a7ade20"),
    ("$EARLIER_REGISTRATION_ID", "01a1fc0c-e7f9-7523-a273-a8f71a7ade21"),
    ("HASH", "0x2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ("$HASH", "0x2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ("$CASE", "CASE-1"),
    ("SIGNER", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    ("$SIGNER", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    ("$OLD", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    ("$NEW_OWNER", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
];

/// The lines of all blocks of this language.
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

#[tokio::test]
async fn every_command_in_the_pages_is_valid() {
    let mut commands = BTreeSet::new();
    for page in documents::pages() {
        let text = documents::read(&page);
        commands.extend(blocks(&text, "sh").into_iter().filter_map(command));
        commands.extend(code_spans(&text).iter().filter_map(|span| command(span)));
    }
    for expected in
        ["explain", "list", "verify", "status", "info", "serve", "dev", "watch", "signer", "allow", "revoke", "owner"]
    {
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
    (words.next()?.trim_start_matches("target/debug/") == "registrar").then_some(())?;
    let words = words.take_while(|word| !["#", "|", ">", ">>", "&&", ";"].contains(word));
    let words =
        words.map(|word| PLACES.iter().find(|(placeholder, _)| *placeholder == word).map_or(word, |(_, value)| value));
    Some(words.map(str::to_owned).collect::<Vec<_>>()).filter(|words| !words.is_empty())
}
