//! Options of a command that are written before it: `registrar --json info` is `registrar info --json`.

use std::ffi::{OsStr, OsString};

const FLAGS: [&str; 1] = ["--json"];
const OPTIONS_WITH_VALUE: [&str; 4] = ["--server", "--ca-file", "--client-cert-file", "--client-key-file"];

/// Moves such options to the end of the command. The command refuses those that it does not have.
pub(super) fn move_behind_command(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut rest = arguments.into_iter();
    let mut moved: Vec<OsString> = Vec::new();
    let mut command: Vec<OsString> = rest.next().into_iter().collect();
    let first = loop {
        let Some(argument) = rest.next() else { break None };
        if is_flag(&argument) {
            moved.push(argument);
        } else if OPTIONS_WITH_VALUE.iter().any(|option| argument == *option) {
            moved.push(argument);
            moved.extend(rest.next());
        } else {
            break Some(argument);
        }
    };
    command.extend(first);
    command.extend(rest);
    let end = command.iter().position(|argument| argument == "--").unwrap_or(command.len());
    command.splice(end..end, moved);
    command
}

/// Also an option with its value after `=`.
fn is_flag(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    let named = text.split_once('=').map(|(name, _)| name);
    FLAGS.contains(&text.as_ref()) || named.is_some_and(|name| OPTIONS_WITH_VALUE.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_before_the_command_are_read_as_if_they_followed_it() {
        for (given, expected) in [
            ("registrar --json info", "registrar info --json"),
            ("registrar --server http://a:1 --json status x", "registrar status x --server http://a:1 --json"),
            ("registrar --server=http://a:1 info", "registrar info --server=http://a:1"),
            ("registrar --json register --case a -- -file", "registrar register --case a --json -- -file"),
            ("registrar info --json", "registrar info --json"),
            ("registrar --help", "registrar --help"),
            ("registrar --nonsense --json", "registrar --nonsense --json"),
            ("registrar --json", "registrar --json"),
            ("registrar --server", "registrar --server"),
            ("registrar", "registrar"),
        ] {
            let moved = move_behind_command(given.split(' ').map(OsString::from).collect());
            assert_eq!(moved, expected.split(' ').map(OsString::from).collect::<Vec<_>>(), "{given}");
        }
        assert_eq!(move_behind_command(Vec::new()), Vec::<OsString>::new());
    }
}
