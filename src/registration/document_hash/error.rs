//! Why a text names no document, and what to pass instead. The text itself is not repeated: it may be a secret that was
//! pasted into the wrong field.

use std::fmt;

/// The longest accepted form, a base-2 CIDv1 (multibase `0`), has 1 + 36 × 8 digits.
pub(super) const MAX_DOCUMENT_HASH_TEXT_BYTES: usize = 289;

/// Why a text is not accepted as a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentHashError {
    /// Nothing was given.
    #[error("is empty: pass the sha2-256 of the document as 64 hex digits, or an IPFS CID")]
    Empty,
    /// The zero hash.
    #[error("is zero: no document has that hash")]
    Zero,
    /// Hex, of another length.
    #[error("has {digits} hex digits{}: a sha2-256 has 64", about_length(*digits))]
    Length {
        /// How many digits there are after an optional `0x`.
        digits: usize,
    },
    /// Hex digits, and something else among them.
    #[error("has {} at position {position}, which is not a hex digit", Named(*character))]
    NotHex {
        /// Counted in characters from 0, a prefix included.
        position: usize,
        /// The first character that is not a hex digit.
        character: char,
    },
    /// Letters that look like ASCII, invisible characters, typographic quotation marks.
    #[error("has {} at position {position}: type it again in plain ASCII", Named(*character))]
    NotAscii {
        /// Counted in characters from 0.
        position: usize,
        /// The first character that is not ASCII.
        character: char,
    },
    /// Control characters.
    #[error("has {} at position {position}: pass the hash alone", Named(*character))]
    Control {
        /// Counted in characters from 0.
        position: usize,
        /// The first control character.
        character: char,
    },
    /// More than one line.
    #[error("has more than one line: pass one hash")]
    SeveralLines,
    /// Output of `sha256sum` or `openssl dgst`.
    #[error("is a line of sha256sum or openssl: pass its 64 hex digits alone, without the file name")]
    ChecksumLine,
    /// In quotation marks or brackets.
    #[error("is in quotation marks or brackets: pass the hash without them")]
    Quoted,
    /// Spaces, colons or the like between the digits.
    #[error("has separators between the digits: pass 64 hex digits in a row")]
    Separators,
    /// Base64, as in Subresource Integrity and `Digest` headers.
    #[error("is a digest in base64: pass its 32 bytes as 64 hex digits (`base64 -d | xxd -p -c 32`)")]
    Base64,
    /// Marked as the hash of another function.
    #[error("is marked as {0}: only sha2-256 is supported")]
    OtherFunction(&'static str),
    /// A link, whatever is behind it.
    #[error("is a link or a path: pass the CID alone, because a link may lead to another file than the CID names")]
    Link,
    /// A CID v0 that lost its capital letters.
    #[error("is an IPFS CID v0 in the wrong case: its capital letters count, so copy it again")]
    CidCase,
    /// Begins like a CID and is none.
    #[error(
        "looks like an IPFS CID and is none ({characters} characters): it is cut off or mistyped, so copy it again"
    )]
    DamagedCid {
        /// Its length.
        characters: usize,
    },
    /// A CID made with another hash function, or a truncated digest.
    #[error(
        "is a CID with another multihash ({}code {code:#x}, {length} bytes): only sha2-256 of 32 bytes is supported",
        multihash_name(*code)
    )]
    UnsupportedMultihash {
        /// The multihash code.
        code: u64,
        /// The digest's length in bytes.
        length: u8,
    },
    /// A CID or peer id that names a key.
    #[error("names a libp2p key (IPNS name or peer id) and not a document: pass the CID of the document")]
    Key,
    /// Longer than any accepted form.
    #[error("has {bytes} bytes: the longest CID has {}", MAX_DOCUMENT_HASH_TEXT_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Nothing that is recognized.
    #[error("is neither 64 hex digits nor an IPFS CID (v0 or v1)")]
    NeitherHexNorCid,
}

/// A character as it can be read in an error.
struct Named(char);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            c if c.is_ascii_graphic() => write!(f, "`{c}`"),
            ' ' => f.write_str("a space"),
            c if c.is_ascii() => write!(f, "the control character U+{:04X}", u32::from(c)),
            c => write!(f, "the non-ASCII character U+{:04X}", u32::from(c)),
        }
    }
}

fn about_length(digits: usize) -> String {
    match digits {
        32 => ", the length of an md5".to_owned(),
        40 => ", the length of a sha-1".to_owned(),
        56 => ", the length of a sha2-224".to_owned(),
        96 => ", the length of a sha2-384".to_owned(),
        128 => ", the length of a sha2-512".to_owned(),
        _ if digits < 64 => format!(", {} too few", 64 - digits),
        _ => format!(", {} too many", digits - 64),
    }
}

/// With a comma behind it; empty for the rest of
/// <https://github.com/multiformats/multicodec/blob/master/table.csv>.
fn multihash_name(code: u64) -> &'static str {
    match code {
        0x00 => "identity, ",
        0x11 => "sha-1, ",
        0x12 => "sha2-256, ",
        0x13 => "sha2-512, ",
        0x14 => "sha3-512, ",
        0x16 => "sha3-256, ",
        0x1b => "keccak-256, ",
        0x1e => "blake3, ",
        0xb220 => "blake2b-256, ",
        _ => "",
    }
}
