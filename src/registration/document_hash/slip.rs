//! Recognizes what was pasted instead of a hash or a CID, to say exactly what is wrong.

use super::error::DocumentHashError as E;
use cid::multibase::Base;

/// Prefixes in front of a digest (OCI digests, Subresource Integrity, `Digest` headers), and the function.
const OTHER_FUNCTIONS: [(&str, &str); 12] = [
    ("md5", "md5"),
    ("sha1", "sha-1"),
    ("sha-1", "sha-1"),
    ("sha", "sha-1"),
    ("sha224", "sha2-224"),
    ("sha384", "sha2-384"),
    ("sha-384", "sha2-384"),
    ("sha512", "sha2-512"),
    ("sha-512", "sha2-512"),
    ("sha3-256", "sha3-256"),
    ("keccak256", "keccak-256"),
    ("blake3", "blake3"),
];
/// How CIDs begin: CID v0, `dag-pb`, `raw` and others in base 32, 58, 16 and 36.
const CID_BEGINNINGS: [&str; 6] = ["qm", "baf", "zdj", "zb2", "f01", "k2"];
const CID_V0_CHARS: usize = 46;
/// Bitswap and libp2p write ed25519 keys in base 58 so.
const PEER_ID_BEGINNING: &str = "12D3Koo";

/// Whether a text is a link or a path. All forms are treated alike: `ipfs://CID`, `/ipfs/CID`, links to gateways by path
/// and by subdomain, and CIDs with a path behind them. (Base 64, in which a CID may be written too, has slashes.)
pub(super) fn is_link(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains("://")
        || lower.starts_with(['/', '.'])
        || lower.starts_with("ipfs:")
        || ["/ipfs/", "/ipns/", ".ipfs.", ".ipns."].iter().any(|part| lower.contains(part))
        || (begins_like_cid(&lower) && lower.contains(['/', '?', '#']))
}

/// The slip in a text that is neither hex nor a CID.
pub(super) fn find(text: &str) -> E {
    let characters = text.chars().count();
    if is_checksum_line(text) {
        return E::ChecksumLine;
    }
    if is_quoted(text) {
        return E::Quoted;
    }
    if let Some(function) = other_function(text) {
        return E::OtherFunction(function);
    }
    if is_base64_digest(text) {
        return E::Base64;
    }
    let without_separators: String = text.chars().filter(|c| !" :-_.,".contains(*c)).collect();
    if without_separators.len() == 64 && without_separators.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return E::Separators;
    }
    let lower = text.to_ascii_lowercase();
    if text.starts_with(PEER_ID_BEGINNING) {
        return E::Key;
    }
    if lower.starts_with("qm") && !text.starts_with("Qm") && characters == CID_V0_CHARS {
        return E::CidCase;
    }
    let odd = |is_odd: fn(char) -> bool| text.chars().enumerate().find(|(_, c)| is_odd(*c));
    if let (Some((position, character)), true) = (odd(|c| !c.is_ascii_hexdigit()), is_mostly_hex(text)) {
        return E::NotHex { position, character };
    }
    if let Some((position, character)) = odd(|c| !c.is_ascii()) {
        return E::NotAscii { position, character };
    }
    if begins_like_cid(&lower) {
        return E::DamagedCid { characters };
    }
    E::NeitherHexNorCid
}

/// A slip in a text that begins with `0x` or `sha256:`, other than a wrong digit or length.
pub(super) fn find_behind_prefix(text: &str) -> Option<E> {
    if is_checksum_line(text) { Some(E::ChecksumLine) } else { is_base64_digest(text).then_some(E::Base64) }
}

fn begins_like_cid(lower: &str) -> bool {
    CID_BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning))
}

/// `<hash>  file`, `<hash> *file`, `\<hash>  file`, `SHA256 (file) = <hash>`, `SHA2-256(file)= <hash>`.
fn is_checksum_line(text: &str) -> bool {
    let digits = text.trim_start_matches('\\');
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let hex = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    let begins_with_hash = hex == 64 && digits[hex..].starts_with([' ', '\t']);
    let lower = text.to_ascii_lowercase();
    begins_with_hash || (lower.starts_with("sha") && lower.contains('(') && lower.contains(')'))
}

fn is_quoted(text: &str) -> bool {
    let marks = [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>'), ('(', ')'), ('[', ']'), ('{', '}')];
    text.len() > 1 && marks.iter().any(|(begin, end)| text.starts_with(*begin) && text.ends_with(*end))
}

fn other_function(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let marked = |prefix: &str| {
        let rest = lower.strip_prefix(prefix)?.strip_prefix([':', '=', '-'])?;
        // `sha-256=…` does not begin with `sha`.
        (rest.len() >= 16 && !rest.starts_with("256")).then_some(())
    };
    OTHER_FUNCTIONS.into_iter().find_map(|(prefix, function)| marked(prefix).map(|()| function))
}

/// 32 bytes in either alphabet of base 64, marked as sha-256 or not.
fn is_base64_digest(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let marks = ["sha256-", "sha256:", "sha256=", "sha-256=", "sha-256:"];
    let mark = marks.iter().find(|mark| lower.starts_with(*mark)).map_or(0, |mark| mark.len());
    let digest = text[mark..].trim_matches(':').trim_end_matches('=');
    [Base::Base64, Base::Base64Url].iter().any(|base| base.decode(digest).is_ok_and(|bytes| bytes.len() == 32))
}

/// Probably 64 hex digits, with a few wrong ones.
fn is_mostly_hex(text: &str) -> bool {
    let all = text.chars().count();
    let hex = text.chars().filter(char::is_ascii_hexdigit).count();
    (56..=72).contains(&all) && hex >= 56
}
