//! E-mail addresses, and users with passwords before a host.

use super::redaction::Redaction;
use std::{net::Ipv4Addr, ops::Range};

/// Letters and digits of any script and most punctuation of mailboxes (RFC 5322, section 3.2.3) and passwords. Left
/// out are the characters that end a field or a word in our own texts.
fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "._%+-:!#$*~^".contains(c)
}

/// The address around an `@`. `registrar@0.1.0`, `@handle` and `a@b` are not addresses.
pub(super) fn find(text: &str, at: Range<usize>, floor: usize) -> Option<Redaction<'_>> {
    let before = &text[floor..at.start];
    let local = &before[before.trim_end_matches(is_local).len()..];
    let after = &text[at.end..];
    let domain = &after[..after.find(|c: char| !c.is_alphanumeric() && !".-".contains(c)).unwrap_or(after.len())];
    let domain = domain.trim_end_matches(['.', '-']);
    if !local.contains(char::is_alphanumeric) || domain.is_empty() {
        return None;
    }
    let password = local.contains(':') && is_host(domain, &after[domain.len()..]);
    (password || is_email_domain(domain)).then(|| Redaction::new(at.start - local.len()..at.end + domain.len()))
}

/// A domain with a top level of letters of any script, or `xn--`.
fn is_email_domain(domain: &str) -> bool {
    let Some((rest, top)) = domain.rsplit_once('.') else { return false };
    let letters = top.chars().count() >= 2 && top.chars().all(char::is_alphabetic);
    !rest.is_empty() && (letters || top.starts_with("xn--")) && !is_version(domain)
}

/// A host that may follow a user and a password.
fn is_host(domain: &str, rest: &str) -> bool {
    let port = rest.strip_prefix(':').is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()));
    let dots = domain.contains('.') && !is_version(domain);
    domain == "localhost" || port || rest.starts_with('/') || dots
}

/// `0.1.0`, `0.1.0-rc.one`; not an IPv4 address.
fn is_version(domain: &str) -> bool {
    let numbers = domain.split('.').take_while(|part| part.bytes().all(|b| b.is_ascii_digit()));
    numbers.count() >= 2 && domain.parse::<Ipv4Addr>().is_err()
}
