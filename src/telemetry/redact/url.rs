//! URLs: the host stays, and what may hold a key goes, the port with it.

use super::{REPLACEMENT, Redaction, is_plain_word};

/// What ends a sentence rather than a URL. No bracket that opens or closes [`REPLACEMENT`] is among them.
const PUNCTUATION: [char; 10] = ['.', ',', ';', ':', '!', '\'', ')', '}', '|', '\\'];

/// What goes of the URL whose scheme and `://` end here.
///
/// A user's name, with or without a password, ends with an `@` before the first `/`, `?` or `#`. One behind it may belong to a
/// password with a slash in it, and then not even the host is certain.
pub(super) fn find(text: &str, begin: usize) -> Option<Redaction<'_>> {
    let run = url_extent(text, begin);
    let authority = run.find(['/', '?', '#']).unwrap_or(run.len());
    let user = run.rfind('@');
    if user.is_some_and(|at| at > authority) {
        return find_whole(text, begin);
    }
    let host = user.map_or(0, |at| at + 1);
    let host = &run[host..host + host_length(&run[host..])];
    let rest = &run[run.len().min(user.map_or(0, |at| at + 1) + host.len())..];
    // A port is digits, and what is none may be a password whose rest is cut off.
    let odd_port = rest.strip_prefix(':').is_some_and(|port| port.contains(char::is_alphanumeric));
    if host.is_empty() || odd_port {
        return find_whole(text, begin);
    }
    let path = rest.trim_end_matches(PUNCTUATION);
    let harmless = match path.chars().next() {
        None => true,
        Some('/' | '?' | '#') => {
            path == "/" || path.strip_prefix('/') == Some(REPLACEMENT) || is_public_page(host, path)
        }
        // The sentence goes on.
        Some(_) => true,
    };
    if harmless && user.is_none() {
        return None;
    }
    Some(Redaction { range: begin..begin + run.trim_end_matches(PUNCTUATION).len(), kept_host: without_port(host) })
}

/// Everything up to the end of the URL.
pub(super) fn find_whole(text: &str, begin: usize) -> Option<Redaction<'_>> {
    let run = url_extent(text, begin).trim_end_matches(PUNCTUATION);
    (!run.is_empty() && run != REPLACEMENT).then(|| Redaction::new(begin..begin + run.len()))
}

/// What can belong to a URL, well written or not: everything up to white space, a quotation mark or a control character; and up to
/// an end of line as JSON writes it, unless an `@` behind it says that it may be a part of a password.
fn url_extent(text: &str, begin: usize) -> &str {
    let rest = &text[begin..];
    let end = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '`');
    let run = &rest[..rest.find(end).unwrap_or(rest.len())];
    let from = run.rfind('@').unwrap_or(0);
    let line_end = [r"\n", r"\r"].iter().filter_map(|escape| run[from..].find(escape)).min();
    line_end.map_or(run, |end| &run[..from + end])
}

/// The length of a host and its port; 0 when there is none.
fn host_length(text: &str) -> usize {
    let name = if text.starts_with('[') {
        let address = text.find(']').filter(|end| text[1..*end].parse::<std::net::Ipv6Addr>().is_ok());
        address.map_or(0, |end| end + 1)
    } else {
        text.find(|c: char| !c.is_alphanumeric() && !"-._".contains(c)).unwrap_or(text.len())
    };
    let port = text[name..].strip_prefix(':').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    // A sentence may end behind the host.
    let name = if port == 0 { text[..name].trim_end_matches('.').len() } else { name };
    if name == 0 || port == 0 { name } else { name + 1 + port }
}

/// Pages of a block explorer, whatever its host; and plain words on loopback, as of our own pages.
fn is_public_page(host: &str, path: &str) -> bool {
    let hex = |text: &str, digits| {
        text.strip_prefix("0x").is_some_and(|hex| hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let segments: Vec<_> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["tx", hash] if hex(hash, 64) => true,
        ["address", address] if hex(address, 40) => true,
        ["block", number] if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => true,
        segments => is_loopback(host) && path.starts_with('/') && segments.iter().all(|segment| is_plain_word(segment)),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    name == "localhost" || name == "[::1]" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name)
}
