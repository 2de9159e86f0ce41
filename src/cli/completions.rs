//! `registrar completions` and `registrar man`, both from the definitions of the commands.

use super::{Exit, parse::command};
use clap_complete::Shell;
use std::io::{self, Write};

/// Prints the script that completes commands and options in this shell.
pub fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "registrar", &mut script);
    print(&script)
}

/// Prints the manual page of the program, or of one of its commands.
pub fn man(words: &[String]) -> Exit {
    let mut program = command();
    // Names the subcommands in full.
    program.build();
    let mut page = Some(&program);
    for word in words {
        page = page.and_then(|page| page.find_subcommand(word));
    }
    let Some(page) = page else {
        eprintln!("error: no such command; `registrar --help` lists the commands");
        return Exit::UsageError;
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page.clone()).render(&mut text) {
        Ok(()) => print(&text),
        Err(_) => Exit::Failed,
    }
}

/// Fails only if standard output is closed, as by a pager.
fn print(text: &[u8]) -> Exit {
    let mut output = io::stdout().lock();
    output.write_all(text).and_then(|()| output.flush()).map_or(Exit::Failed, |()| Exit::Done)
}
