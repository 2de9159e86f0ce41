//! URLs: the host is kept; the port and the parts that may contain a key are removed.

use super::redaction::{REPLACEMENT, Redaction, is_plain_word};

/// Trailing characters that belong to the sentence and not to the URL. The brackets of [`REPLACEMENT`] are not
/// included.
const PUNCTUATION: [char; 10] = ['.', ',', ';', ':', '!', '\'', ')', '}', '|', '\\'];

/// What to remove of the URL whose `://` ends at `begin`.
///
/// User and password end with an `@` before the first `/`, `?` or `#`. A later `@` may belong to a password that
/// contains a slash: then the host is uncertain, and everything is removed.
///
/// A SPIFFE id names a service and is no secret; it has neither user nor query.
pub(super) fn find(text: &str, begin: usize) -> Option<Redaction<'_>> {
    let extent = url_extent(text, begin);
    if text[..begin].ends_with("spiffe://") && !extent.contains(['@', '?', '#']) {
        return None;
    }
    let authority = extent.find(['/', '?', '#']).unwrap_or(extent.len());
    let user = extent.rfind('@');
    if user.is_some_and(|at| at > authority) {
        return find_whole(text, begin);
    }
    let host = user.map_or(0, |at| at + 1);
    let host = &extent[host..host + host_length(&extent[host..])];
    let rest = &extent[extent.len().min(user.map_or(0, |at| at + 1) + host.len())..];
    // A port that is not digits may be the beginning of a password.
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
        // Part of the sentence.
        Some(_) => true,
    };
    if harmless && user.is_none() {
        return None;
    }
    Some(Redaction { range: begin..begin + extent.trim_end_matches(PUNCTUATION).len(), kept_host: without_port(host) })
}

/// Everything up to the end of the URL.
pub(super) fn find_whole(text: &str, begin: usize) -> Option<Redaction<'_>> {
    let extent = url_extent(text, begin).trim_end_matches(PUNCTUATION);
    (!extent.is_empty() && extent != REPLACEMENT).then(|| Redaction::new(begin..begin + extent.len()))
}

/// What may belong to a URL, even an invalid one: everything up to white space, a quotation mark or a control
/// character, or up to an escaped line end, unless an `@` behind it shows that it may be part of a password.
fn url_extent(text: &str, begin: usize) -> &str {
    let rest = &text[begin..];
    let end = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '`');
    let extent = &rest[..rest.find(end).unwrap_or(rest.len())];
    let from = extent.rfind('@').unwrap_or(0);
    let line_end = [r"\n", r"\r"].iter().filter_map(|escape| extent[from..].find(escape)).min();
    line_end.map_or(extent, |end| &extent[..from + end])
}

/// The length of host and port; 0 if there is no host.
fn host_length(text: &str) -> usize {
    let name = if text.starts_with('[') {
        let address = text.find(']').filter(|end| text[1..*end].parse::<std::net::Ipv6Addr>().is_ok());
        address.map_or(0, |end| end + 1)
    } else {
        text.find(|c: char| !c.is_alphanumeric() && !"-._".contains(c)).unwrap_or(text.len())
    };
    let port = text[name..].strip_prefix(':').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    // A full stop behind the host belongs to the sentence.
    let name = if port == 0 { text[..name].trim_end_matches('.').len() } else { name };
    if name == 0 || port == 0 { name } else { name + 1 + port }
}

/// Block explorer pages on any host, and paths of plain words on loopback, such as our own admin pages.
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
