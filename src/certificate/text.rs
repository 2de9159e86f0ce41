//! Certificates as text. Each has one form only, so that whatever is changed in a file is found.

use super::{
    Block, Certificate, Chain, InvalidCertificate, Record,
    json::{BlockJson, CertificateJson, ChainJson, DocumentJson, RecordJson, StateJson, TransactionJson, VERSION},
    layout::{MAX_TIME, record_slot},
};
use crate::registration::{DocumentHash, Finality, Pair};
use alloy::primitives::{Address, B256, Bytes, hex};
use std::time::{Duration, UNIX_EPOCH};

/// Of a chain's name.
const MAX_NAME_BYTES: usize = 64;
/// The same in every file: a sentence that an issuer may choose could mislead a reader.
pub(super) const HOW_TO_VERIFY: &str = "Run `registrar verify --certificate FILE --document DOCUMENT --block-hash \
    HASH`, or the program in docs/reference/certificate.md of the Registrar. They check that the sha2-256 of the \
    document is document.sha256, that keccak256(block.header) is block.hash, that state.accountProof leads from the \
    state root in the header to the contract, and that state.storageProof leads from the contract's storage root to \
    the record. The proof is worth as much as your knowledge that block.hash is a block of the chain: take it from a \
    source that you trust. The time is that of the block, which the chain's sequencer sets. chain, block.finality, \
    block.seenBy, block.seenAt and transaction.hash are what the issuer states; they are not proved.";

impl Certificate {
    /// One line of JSON, with a line feed at its end.
    pub fn to_text(&self) -> String {
        self.to_json().to_text()
    }

    /// # Errors
    /// When the text is not a certificate of the known version, or is not in the form of [`Self::to_text`].
    pub fn parse(text: &[u8]) -> Result<Self, InvalidCertificate> {
        let json = CertificateJson::parse(text)?;
        let certificate = Self::from_json(&json)?;
        let slot = hex_of(record_slot(&certificate.pair));
        if json.state.slot != slot {
            return Err(InvalidCertificate::field(
                "state.slot",
                format!("is not the slot of this document and case, {slot}"),
            ));
        }
        if json.how_to_verify != HOW_TO_VERIFY {
            return Err(InvalidCertificate::field("howToVerify", "is not the text that certificates are issued with"));
        }
        let canonical = certificate.to_text();
        match canonical.as_bytes().iter().zip(text).position(|(expected, found)| expected != found) {
            Some(position) => Err(InvalidCertificate::NotCanonical { position }),
            None if canonical.len() != text.len() => {
                Err(InvalidCertificate::NotCanonical { position: canonical.len().min(text.len()) })
            }
            None => Ok(certificate),
        }
    }

    fn to_json(&self) -> CertificateJson {
        CertificateJson {
            version: VERSION,
            chain: ChainJson { id: self.chain.id, name: self.chain.name.clone() },
            contract: hex_of(self.contract),
            document: DocumentJson {
                sha256: self.pair.document_hash.to_string(),
                case_id: self.pair.case_id.to_string(),
            },
            record: RecordJson {
                registrar: hex_of(self.record.registrar),
                block_number: self.record.block_number,
                time: format_time(self.record.time),
            },
            block: BlockJson {
                number: self.block.number,
                hash: hex_of(self.block.hash),
                header: hex_of(&self.block.header),
                finality: self.block.finality.code().to_owned(),
                seen_by: self.block.seen_by,
                seen_at: format_time(self.block.seen_at),
            },
            state: StateJson {
                slot: hex_of(record_slot(&self.pair)),
                account_proof: self.account_proof.iter().map(hex_of).collect(),
                storage_proof: self.storage_proof.iter().map(hex_of).collect(),
            },
            transaction: TransactionJson { hash: self.transaction.map(hex_of) },
            how_to_verify: HOW_TO_VERIFY.to_owned(),
        }
    }

    fn from_json(json: &CertificateJson) -> Result<Self, InvalidCertificate> {
        let CertificateJson { chain, contract, document, record, block, state, transaction, .. } = json;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._ ".contains(c);
        if chain.name.is_empty() || chain.name.len() > MAX_NAME_BYTES || !chain.name.chars().all(is_name) {
            return Err(InvalidCertificate::field("chain.name", "is not the name of a chain"));
        }
        let document_hash = DocumentHash::new(read_bytes("document.sha256", &document.sha256)?)
            .map_err(|error| InvalidCertificate::field("document.sha256", error.to_string()))?;
        let case_id = document.case_id.parse();
        let case_id = case_id.map_err(|error| InvalidCertificate::field("document.caseId", format!("{error}")))?;
        let finality = block
            .finality
            .parse::<Finality>()
            .map_err(|_| InvalidCertificate::field("block.finality", "is not unsafe, safe or finalized"))?;
        Ok(Self {
            chain: Chain { id: chain.id, name: chain.name.clone() },
            contract: Address::new(read_bytes("contract", contract)?),
            pair: Pair { document_hash, case_id },
            record: Record {
                registrar: Address::new(read_bytes("record.registrar", &record.registrar)?),
                block_number: record.block_number,
                time: read_time("record.time", &record.time)?,
            },
            block: Block {
                number: block.number,
                hash: B256::new(read_bytes("block.hash", &block.hash)?),
                header: read_hex("block.header", &block.header)?,
                finality,
                seen_by: block.seen_by,
                seen_at: read_time("block.seenAt", &block.seen_at)?,
            },
            account_proof: read_proof("state.accountProof", &state.account_proof)?,
            storage_proof: read_proof("state.storageProof", &state.storage_proof)?,
            transaction: transaction
                .hash
                .as_ref()
                .map(|hash| read_bytes("transaction.hash", hash).map(B256::new))
                .transpose()?,
        })
    }
}

fn hex_of(bytes: impl AsRef<[u8]>) -> String {
    hex::encode_prefixed(bytes)
}

fn read_hex(field: &'static str, text: &str) -> Result<Bytes, InvalidCertificate> {
    let decoded = text.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
    decoded.map(Bytes::from).ok_or_else(|| InvalidCertificate::field(field, "is not hex digits after 0x"))
}

fn read_bytes<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], InvalidCertificate> {
    let bytes = read_hex(field, text)?;
    <[u8; N]>::try_from(bytes.as_ref())
        .map_err(|_| InvalidCertificate::field(field, format!("has {} bytes instead of {N}", bytes.len())))
}

fn read_proof(field: &'static str, nodes: &[String]) -> Result<Vec<Bytes>, InvalidCertificate> {
    nodes.iter().map(|node| read_hex(field, node)).collect()
}

/// `seconds` is at most [`MAX_TIME`].
pub(super) fn format_time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.min(MAX_TIME))).to_string()
}

fn read_time(field: &'static str, text: &str) -> Result<u64, InvalidCertificate> {
    let time = humantime::parse_rfc3339(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let seconds = time.map(|since| since.as_secs()).filter(|seconds| *seconds <= MAX_TIME);
    seconds.ok_or_else(|| InvalidCertificate::field(field, "is not a time such as 2026-11-30T08:00:00Z"))
}
