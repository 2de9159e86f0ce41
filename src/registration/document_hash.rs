//! The sha2-256 of a document, from hex or an IPFS CID.

use alloy::primitives::{B256, hex};
use cid::Cid;
use std::{fmt, str::FromStr};

/// The multicodec of sha2-256 (<https://github.com/multiformats/multicodec/blob/master/table.csv>).
const SHA2_256: u64 = 0x12;
/// The longest accepted form, a base-2 CIDv1 (multibase `0`), has 1 + 36 × 8 digits.
pub const MAX_DOCUMENT_HASH_TEXT_BYTES: usize = 289;

/// The sha2-256 of a document. Never zero: the contract refuses the zero hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentHash(B256);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentHashError {
    /// Nothing was given.
    #[error("is empty: pass the sha2-256 of the document as 0x and 64 hex digits, or an IPFS CID")]
    Empty,
    /// Hex, of another length.
    #[error("has {digits} hex digits: a sha2-256 has 64")]
    Length {
        /// How many digits there are after an optional `0x`.
        digits: usize,
    },
    /// Starts like hex, but has something else in it.
    #[error("has a character at position {position} that is not a hex digit")]
    NotHex {
        /// Counted in characters from 0, the `0x` included.
        position: usize,
    },
    /// Neither hex nor a CID.
    #[error("is neither 64 hex digits nor an IPFS CID (v0 or v1)")]
    NeitherHexNorCid,
    /// A CID made with another hash function, or a truncated digest.
    #[error("is a CID with another multihash (code {code:#x}, {length} bytes): only sha2-256 of 32 bytes is supported")]
    UnsupportedMultihash {
        /// The multihash code.
        code: u64,
        /// The digest's length in bytes.
        length: u8,
    },
    /// The zero hash.
    #[error("is zero: no document has that hash")]
    Zero,
}

impl DocumentHash {
    /// Takes the 32 bytes of a digest.
    ///
    /// # Errors
    /// [`DocumentHashError::Zero`] when all are zero.
    pub fn new(bytes: [u8; 32]) -> Result<Self, DocumentHashError> {
        if bytes == [0; 32] { Err(DocumentHashError::Zero) } else { Ok(Self(B256::new(bytes))) }
    }

    /// The digest, as the contract takes it.
    pub fn as_b256(&self) -> B256 {
        self.0
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn from_hex(digits: &str, prefix: usize) -> Result<Self, DocumentHashError> {
        if let Some(position) = digits.chars().position(|c| !c.is_ascii_hexdigit()) {
            return Err(DocumentHashError::NotHex { position: position + prefix });
        }
        if digits.len() != 64 {
            return Err(DocumentHashError::Length { digits: digits.len() });
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| DocumentHashError::NeitherHexNorCid)?;
        Self::new(bytes)
    }

    fn from_cid(text: &str) -> Result<Self, DocumentHashError> {
        let cid = Cid::try_from(text).map_err(|_| DocumentHashError::NeitherHexNorCid)?;
        let multihash = cid.hash();
        let other = DocumentHashError::UnsupportedMultihash { code: multihash.code(), length: multihash.size() };
        if multihash.code() != SHA2_256 {
            return Err(other);
        }
        let bytes = <[u8; 32]>::try_from(multihash.digest()).map_err(|_| other)?;
        Self::new(bytes)
    }
}

impl FromStr for DocumentHash {
    type Err = DocumentHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(DocumentHashError::Empty);
        }
        if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            return Self::from_hex(digits, 2);
        }
        if text.bytes().all(|b| b.is_ascii_hexdigit()) && (text.len() == 64 || Cid::try_from(text).is_err()) {
            return Self::from_hex(text, 0);
        }
        if text.len() > MAX_DOCUMENT_HASH_TEXT_BYTES {
            return Err(DocumentHashError::NeitherHexNorCid);
        }
        Self::from_cid(text)
    }
}

impl fmt::Display for DocumentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&hex::encode_prefixed(self.0), f)
    }
}

impl fmt::Debug for DocumentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a";
    /// The same digest as CID v0, CID v1 base32 (dag-pb and raw) and CID v1 base16.
    const CIDS: [&str; 4] = [
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "bafkreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "f01551220c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a",
    ];

    #[test]
    fn every_form_names_the_same_document() {
        let expected: DocumentHash = HEX.parse().unwrap();
        assert_eq!(expected.to_string(), format!("0x{HEX}"));
        let upper = HEX.to_uppercase();
        for text in CIDS.into_iter().map(str::to_owned).chain([format!("0x{HEX}"), upper.clone(), format!("0X{upper}")])
        {
            assert_eq!(text.parse::<DocumentHash>().as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn every_fault_has_its_own_words() {
        use DocumentHashError::*;
        let short = &HEX[1..];
        for (text, fault) in [
            ("", Empty),
            ("0x", Length { digits: 0 }),
            (short, Length { digits: 63 }),
            (&format!("0x{HEX}0"), Length { digits: 65 }),
            (&format!("0x{short}g"), NotHex { position: 65 }),
            (&format!("0x{short} "), NotHex { position: 65 }),
            (&format!(" 0x{HEX}"), NeitherHexNorCid),
            ("hello", NeitherHexNorCid),
            ("\u{0}", NeitherHexNorCid),
            (&"0".repeat(64), Zero),
            (&format!("0x{}", "0".repeat(64)), Zero),
            (&"z".repeat(5000), NeitherHexNorCid),
            // CIDv1 raw with sha2-512 (0x13) and with the identity hash (0x00).
            (&format!("f01551340{}", "ab".repeat(64)), UnsupportedMultihash { code: 0x13, length: 64 }),
            ("f015500050102030405", UnsupportedMultihash { code: 0, length: 5 }),
        ] {
            assert_eq!(text.parse::<DocumentHash>(), Err(fault), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_digest_survives_being_written_and_read(bytes in any::<[u8; 32]>().prop_filter("zero", |b| *b != [0; 32])) {
            let hash = DocumentHash::new(bytes).unwrap();
            prop_assert_eq!(hash.to_string().parse::<DocumentHash>(), Ok(hash));
            prop_assert_eq!(hash.to_string()[2..].parse::<DocumentHash>(), Ok(hash));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,400}") {
            let _ = text.parse::<DocumentHash>();
        }

        #[test]
        fn no_cid_like_text_makes_the_parser_panic(text in "(Qm|b|z|f|0x)[0-9A-Za-z]{0,90}") {
            if let Ok(hash) = text.parse::<DocumentHash>() {
                prop_assert_ne!(hash.as_b256(), B256::ZERO);
            }
        }
    }
}
