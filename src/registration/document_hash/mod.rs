//! The sha2-256 of a document, from hex or an IPFS CID.

mod error;
mod slip;

pub use error::DocumentHashError;

use alloy::primitives::{B256, hex};
use cid::{Cid, Version, multibase};
use error::MAX_DOCUMENT_HASH_TEXT_BYTES;
use std::{fmt, str::FromStr};

/// The multicodec of sha2-256 (<https://github.com/multiformats/multicodec/blob/master/table.csv>).
const SHA2_256: u64 = 0x12;
/// The content is the document's bytes.
const RAW_CODEC: u64 = 0x55;
/// The content is a public key.
const LIBP2P_KEY_CODEC: u64 = 0x72;
/// Digests in container registries are written so.
const SHA256_PREFIX: &str = "sha256:";
/// sha2-256 of nothing.
const EMPTY_INPUT: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The sha2-256 of a document. Never zero: the contract refuses the zero hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentHash(B256);

/// A document as a caller named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenDocument {
    /// The hash.
    pub hash: DocumentHash,
    /// The text, without white space around it.
    pub text: String,
    /// Why the hash may not be that of the file which the caller means.
    pub warning: Option<DocumentWarning>,
}

/// Why a valid hash may not be that of the file which the caller means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DocumentWarning {
    /// The hash of nothing.
    #[error("this is the sha2-256 of empty input; if it was computed from a file, the file was empty")]
    EmptyInput,
    /// A CID of encoded content.
    #[error(
        "this CID has the codec {}: its hash is that of an IPFS block and not the sha2-256 of the file, which is \
         another document here; only a CID with the codec raw names the file itself", codec_name(*codec)
    )]
    IpfsBlock {
        /// The multicodec.
        codec: u64,
    },
}

/// <https://github.com/multiformats/multicodec/blob/master/table.csv>
fn codec_name(codec: u64) -> String {
    let name = match codec {
        0x51 => "cbor",
        0x70 => "dag-pb, which `ipfs add` uses",
        0x71 => "dag-cbor",
        0x78 => "git-raw",
        0x85 => "dag-jose",
        0x0129 => "dag-json",
        0x0200 => "json",
        0x0202 => "car",
        _ => return format!("{codec:#x}"),
    };
    name.to_owned()
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
        if let Some((position, character)) = digits.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
            return Err(DocumentHashError::NotHex { position: position + prefix, character });
        }
        if digits.len() != 64 {
            return Err(DocumentHashError::Length { digits: digits.len() });
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| DocumentHashError::NeitherHexNorCid)?;
        Self::new(bytes)
    }
}

impl GivenDocument {
    /// A hash in a form that has no codec.
    fn plain(hash: DocumentHash, text: &str) -> Self {
        let warning = (hash.as_bytes() == EMPTY_INPUT).then_some(DocumentWarning::EmptyInput);
        Self { hash, text: text.to_owned(), warning }
    }

    fn from_cid(cid: &Cid, text: &str) -> Result<Self, DocumentHashError> {
        if cid.codec() == LIBP2P_KEY_CODEC {
            return Err(DocumentHashError::Key);
        }
        let multihash = cid.hash();
        let other = DocumentHashError::UnsupportedMultihash { code: multihash.code(), length: multihash.size() };
        if multihash.code() != SHA2_256 {
            return Err(other);
        }
        let bytes = <[u8; 32]>::try_from(multihash.digest()).map_err(|_| other)?;
        let plain = Self::plain(DocumentHash::new(bytes)?, text);
        if cid.codec() == RAW_CODEC {
            return Ok(plain);
        }
        Ok(Self { warning: Some(DocumentWarning::IpfsBlock { codec: cid.codec() }), ..plain })
    }
}

/// `0x` or `sha256:` in either case, and what follows.
fn split_prefix(text: &str) -> Option<(&str, &str)> {
    let split =
        |prefix: &str| text.split_at_checked(prefix.len()).filter(|(begin, _)| begin.eq_ignore_ascii_case(prefix));
    split("0x").or_else(|| split(SHA256_PREFIX))
}

/// `None` also if bytes follow the CID, which [`Cid`] would ignore. Does not accept links, unlike [`Cid`].
fn parse_cid(text: &str) -> Option<Cid> {
    let bytes = if Version::is_v0_str(text) {
        multibase::Base::Base58Btc.decode(text).ok()?
    } else {
        multibase::decode(text).ok()?.1
    };
    Cid::try_from(bytes.as_slice()).ok().filter(|cid| cid.to_bytes() == bytes)
}

impl FromStr for GivenDocument {
    type Err = DocumentHashError;

    /// Ignores white space around the text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(DocumentHashError::Empty);
        }
        // Before everything else: a CID in multibase `identity` may consist of control characters, which PostgreSQL
        // cannot store as text.
        if let Some((position, character)) = text.chars().enumerate().find(|(_, c)| c.is_control()) {
            return Err(match character {
                '\n' | '\r' => DocumentHashError::SeveralLines,
                '\t' => slip::find(text),
                _ => DocumentHashError::Control { position, character },
            });
        }
        let hex = |digits, prefix| Ok(Self::plain(DocumentHash::from_hex(digits, prefix)?, text));
        if let Some((prefix, digits)) = split_prefix(text) {
            return hex(digits, prefix.len()).map_err(|error| slip::find_behind_prefix(text).unwrap_or(error));
        }
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_long = text.len() > MAX_DOCUMENT_HASH_TEXT_BYTES;
        if is_hex && (text.len() == 64 || is_long) {
            return hex(text, 0);
        }
        if is_long {
            return Err(DocumentHashError::TooLong { bytes: text.len() });
        }
        if slip::is_link(text) {
            return Err(DocumentHashError::Link);
        }
        match parse_cid(text) {
            Some(cid) => Self::from_cid(&cid, text),
            None if is_hex => hex(text, 0),
            None => Err(slip::find(text)),
        }
    }
}

impl FromStr for DocumentHash {
    type Err = DocumentHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<GivenDocument>().map(|given| given.hash)
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

    fn warning(text: &str) -> Option<DocumentWarning> {
        text.parse::<GivenDocument>().unwrap_or_else(|error| panic!("{text:?} {error}")).warning
    }

    #[test]
    fn white_space_around_it_and_the_prefix_of_container_digests_are_accepted() {
        let expected: DocumentHash = HEX.parse().unwrap();
        for text in [
            format!("{HEX}\n"),
            format!(" \t0x{HEX}\r\n"),
            format!("sha256:{HEX}"),
            format!("SHA256:{}\n", HEX.to_uppercase()),
            format!("\u{a0}{}\u{a0}", CIDS[2]),
        ] {
            let given: GivenDocument = text.parse().unwrap_or_else(|error| panic!("{text:?} {error}"));
            assert_eq!((given.hash, given.text.as_str()), (expected, text.trim()), "{text:?}");
        }
    }

    #[test]
    fn a_cid_that_does_not_name_the_file_itself_has_a_warning() {
        let with_codec = |codec: &str| format!("f01{codec}1220{HEX}");
        let [v0, dag_pb, raw, raw_hex] = CIDS;
        for text in [raw, raw_hex, HEX] {
            assert_eq!(warning(text), None, "{text}");
        }
        for (text, codec) in [
            (v0, 0x70),
            (dag_pb, 0x70),
            (&with_codec("71"), 0x71),
            (&with_codec("a902"), 0x0129),
            (&with_codec("8004"), 0x0200),
            (&with_codec("e001"), 0xe0),
        ] {
            assert_eq!(warning(text), Some(DocumentWarning::IpfsBlock { codec }), "{text}");
        }
        for (text, words) in [(v0, "dag-pb, which `ipfs add` uses:"), (&with_codec("e001"), "the codec 0xe0:")] {
            assert!(warning(text).unwrap().to_string().contains(words), "{text}");
        }
        let empty = format!("0x{}", hex::encode(EMPTY_INPUT));
        assert_eq!(warning(&empty), Some(DocumentWarning::EmptyInput));
        assert_eq!(warning(&format!("f01551220{}", hex::encode(EMPTY_INPUT))), Some(DocumentWarning::EmptyInput));
    }

    #[test]
    fn a_cid_is_accepted_in_every_base_and_nothing_may_follow_it() {
        use multibase::Base::*;
        let expected: DocumentHash = HEX.parse().unwrap();
        let cid = Cid::try_from(CIDS[2]).unwrap();
        for base in [
            Base2,
            Base8,
            Base10,
            Base16Lower,
            Base16Upper,
            Base32Lower,
            Base32Upper,
            Base32PadLower,
            Base32HexLower,
            Base32Z,
            Base36Lower,
            Base36Upper,
            Base58Flickr,
            Base58Btc,
            Base64,
            Base64Url,
            Base64UrlPad,
            Base256Emoji,
        ] {
            let text = cid.to_string_of_base(base).unwrap();
            assert_eq!(text.parse::<DocumentHash>(), Ok(expected), "{base:?} {text}");
        }
        let longer = multibase::encode(Base32Lower, [cid.to_bytes(), vec![1, 2, 3]].concat());
        assert_eq!(longer.parse::<DocumentHash>(), Err(DocumentHashError::DamagedCid { characters: 64 }), "{longer}");
        let control = multibase::encode(Identity, Cid::new_v1(0x55, multihash(&[b'a'; 32])).to_bytes());
        assert!(matches!(control.parse::<DocumentHash>(), Err(DocumentHashError::Control { position: 0, .. })));
    }

    fn multihash(digest: &[u8]) -> cid::multihash::Multihash<64> {
        cid::multihash::Multihash::wrap(SHA2_256, digest).unwrap()
    }

    #[test]
    fn every_link_is_refused_alike() {
        for cid in [CIDS[0], CIDS[2]] {
            for text in [
                format!("ipfs://{cid}"),
                format!("IPFS://{cid}/a.pdf"),
                format!("ipfs:{cid}"),
                format!("ipns://{cid}"),
                format!("/ipfs/{cid}"),
                format!("{cid}/a.pdf"),
                format!("{cid}?filename=a.pdf"),
                format!("https://ipfs.io/ipfs/{cid}"),
                format!("https://{cid}.ipfs.dweb.link/"),
                format!("{cid}.ipfs.dweb.link"),
                format!("gateway.example/ipfs/{cid}"),
                format!("./{cid}"),
            ] {
                assert_eq!(text.parse::<DocumentHash>(), Err(DocumentHashError::Link), "{text}");
            }
        }
    }

    #[test]
    fn every_fault_has_its_own_words() {
        use DocumentHashError::*;
        let short = &HEX[1..];
        let cyrillic = HEX.replacen('a', "\u{430}", 1);
        let first_a = HEX.find('a').unwrap();
        for (text, fault) in [
            ("", Empty),
            (" \n", Empty),
            ("0x", Length { digits: 0 }),
            (short, Length { digits: 63 }),
            (&format!("0x{HEX}0"), Length { digits: 65 }),
            (&format!("sha256:{short}"), Length { digits: 63 }),
            (&format!("0x{short}g"), NotHex { position: 65, character: 'g' }),
            (&format!("{short}g"), NotHex { position: 63, character: 'g' }),
            (&format!("0x{short} {short}"), NotHex { position: 65, character: ' ' }),
            (&cyrillic, NotHex { position: first_a, character: '\u{430}' }),
            (&format!("0x{cyrillic}"), NotHex { position: first_a + 2, character: '\u{430}' }),
            (&format!("\u{200b}{HEX}"), NotHex { position: 0, character: '\u{200b}' }),
            (&format!("{HEX}\u{200b}"), NotHex { position: 64, character: '\u{200b}' }),
            (&CIDS[2].replacen('a', "\u{430}", 1), NotAscii { position: 1, character: '\u{430}' }),
            ("\u{216b}", NotAscii { position: 0, character: '\u{216b}' }),
            ("\u{0}", Control { position: 0, character: '\u{0}' }),
            (&format!("{HEX}\n{HEX}"), SeveralLines),
            (&format!("{HEX}  a.pdf\n"), ChecksumLine),
            (&format!("{HEX} *a.pdf"), ChecksumLine),
            (&format!("0x{HEX}  a.pdf"), ChecksumLine),
            (&format!("{HEX}\ta.pdf"), ChecksumLine),
            (&format!("\\{HEX}  a\\nb.pdf"), ChecksumLine),
            (&format!("SHA256 (a.pdf) = {HEX}"), ChecksumLine),
            (&format!("SHA2-256(a.pdf)= {HEX}"), ChecksumLine),
            (&format!("\"{HEX}\""), Quoted),
            (&format!("<{}>", CIDS[0]), Quoted),
            (
                &HEX.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap()).collect::<Vec<_>>().join(":"),
                Separators,
            ),
            (&format!("sha512:{HEX}{HEX}"), OtherFunction("sha2-512")),
            (&format!("md5:{}", &HEX[..32]), OtherFunction("md5")),
            ("sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC", OtherFunction("sha2-384")),
            ("sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", Base64),
            ("SHA256:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ", Base64),
            ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", Base64),
            ("LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ", Base64),
            (&CIDS[0].to_lowercase(), CidCase),
            (&CIDS[0].to_uppercase(), CidCase),
            (&CIDS[0][..45], DamagedCid { characters: 45 }),
            (&CIDS[2][..40], DamagedCid { characters: 40 }),
            ("k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8", Key),
            ("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", Key),
            ("hello", NeitherHexNorCid),
            (&"0".repeat(64), Zero),
            (&format!("0x{}", "0".repeat(64)), Zero),
            (&"z".repeat(5000), TooLong { bytes: 5000 }),
            (&"f".repeat(5000), Length { digits: 5000 }),
            // CIDv1 raw with sha2-512 (0x13) and with the identity hash (0x00).
            (&format!("f01551340{}", "ab".repeat(64)), UnsupportedMultihash { code: 0x13, length: 64 }),
            ("f015500050102030405", UnsupportedMultihash { code: 0, length: 5 }),
        ] {
            assert_eq!(text.parse::<DocumentHash>(), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn the_words_name_length_character_and_function() {
        let words = |text: &str| text.parse::<DocumentHash>().unwrap_err().to_string();
        for (digits, expected) in [
            (32, "has 32 hex digits, the length of an md5: a sha2-256 has 64"),
            (40, "the length of a sha-1"),
            (96, "the length of a sha2-384"),
            (128, "the length of a sha2-512"),
            (60, "has 60 hex digits, 4 too few"),
            (66, "has 66 hex digits, 2 too many"),
        ] {
            let text = words(&"a".repeat(digits));
            assert!(text.contains(expected), "{text}");
        }
        assert!(words("\u{2160}").contains("the non-ASCII character U+2160 at position 0"));
        assert!(words(&format!("{}g", &HEX[1..])).contains("`g` at position 63, which is not a hex digit"));
        assert!(words(&format!("f01551340{}", "ab".repeat(64))).contains("sha2-512, code 0x13"));
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
