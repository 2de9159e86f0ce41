//! Where the DocumentRegistry keeps a record, and how it packs one into a storage slot. `docs/reference/contract.md` has
//! the same; a test compares both with the compiler's storage layout.

use crate::registration::Pair;
use alloy::primitives::{Address, B256, U256, keccak256};

/// The slot of the mapping `_records`.
const RECORDS_SLOT: u64 = 3;
const NUMBER_SHIFT: usize = 160;
const TIME_SHIFT: usize = 208;
const UINT48: u64 = (1 << 48) - 1;
/// The last second of the year 9999 in seconds since the Unix epoch: later times have no text in RFC 3339.
pub(super) const MAX_TIME: u64 = 253_402_300_799;

/// What the contract has recorded of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The account that registered it.
    pub registrar: Address,
    /// The block that holds the registration.
    pub block_number: u64,
    /// That block's time, in seconds since the Unix epoch.
    pub time: u64,
}

/// The storage slot of a pair's record.
pub fn record_slot(pair: &Pair) -> B256 {
    let key = keccak_of_two(pair.document_hash.as_b256(), pair.case_id.keccak());
    keccak_of_two(key, U256::from(RECORDS_SLOT).into())
}

fn keccak_of_two(first: B256, second: B256) -> B256 {
    keccak256([first.0, second.0].concat())
}

impl Record {
    #[cfg(test)]
    pub(super) fn to_word(self) -> U256 {
        let registrar = U256::from_be_slice(self.registrar.as_slice());
        registrar | (U256::from(self.block_number) << NUMBER_SHIFT) | (U256::from(self.time) << TIME_SHIFT)
    }

    /// `None` if the word is no record: without a registrar, or with a time that no calendar has.
    pub(super) fn from_word(word: U256) -> Option<Self> {
        let uint48 = |shift: usize| (word >> shift).as_limbs()[0] & UINT48;
        let (block_number, time) = (uint48(NUMBER_SHIFT), uint48(TIME_SHIFT));
        let registrar = Address::from_word(word.into());
        let is_record = !registrar.is_zero() && time <= MAX_TIME;
        is_record.then_some(Self { registrar, block_number, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{address, b256};
    use serde_json::{Value, json};

    /// What the compiler says; `npm run check --prefix contracts` compares the file with the contract.
    #[test]
    fn the_contract_keeps_records_where_they_are_read() {
        let layout = include_str!("../../contracts/artifact/storage-layout.json");
        let layout: Value = serde_json::from_str(layout).unwrap();
        let variables = layout["storage"].as_array().unwrap();
        let records = variables.iter().find(|variable| variable["label"] == "_records").unwrap();
        assert_eq!((&records["slot"], &records["offset"]), (&json!(RECORDS_SLOT.to_string()), &json!(0)));
        let mapping = &layout["types"][records["type"].as_str().unwrap()];
        assert_eq!((&mapping["encoding"], &mapping["key"]), (&json!("mapping"), &json!("t_bytes32")));
        let record = &layout["types"][mapping["value"].as_str().unwrap()];
        assert_eq!(record["numberOfBytes"], "32", "one slot");
        let members: Vec<_> = record["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|member| {
                let bits = member["offset"].as_u64().unwrap() as usize * 8;
                (member["label"].as_str().unwrap(), member["type"].as_str().unwrap(), bits)
            })
            .collect();
        let expected = [
            ("registrar", "t_address", 0),
            ("blockNumber", "t_uint48", NUMBER_SHIFT),
            ("time", "t_uint48", TIME_SHIFT),
        ];
        assert_eq!(members, expected);
    }

    #[test]
    fn a_record_is_packed_as_the_contract_does() {
        let record = Record {
            registrar: address!("0x70997970c51812dc3a010c7d01b50e0d17dc79c8"),
            block_number: 0x0102_0304_0506,
            time: 1_800_000_000,
        };
        let word = b256!("0x00006b49d20001020304050670997970c51812dc3a010c7d01b50e0d17dc79c8");
        assert_eq!(B256::from(record.to_word()), word);
        assert_eq!(Record::from_word(word.into()), Some(record));
        assert_eq!(Record::from_word(U256::ZERO), None);
        assert_eq!(Record::from_word(U256::MAX), None, "a time after the year 9999");
    }
}
