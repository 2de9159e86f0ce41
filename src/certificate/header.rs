//! What a certificate reads of a block's header. Fields that a later fork adds come after these.

use alloy::primitives::B256;
use alloy_rlp::Header as RlpHeader;

const STATE_ROOT: usize = 3;
const NUMBER: usize = 8;
const TIMESTAMP: usize = 11;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeaderFields {
    pub(super) state_root: B256,
    pub(super) number: u64,
    /// In seconds since the Unix epoch.
    pub(super) timestamp: u64,
}

/// `None` if it is not the RLP of a header.
pub(super) fn read_header(rlp: &[u8]) -> Option<HeaderFields> {
    let mut rest = rlp;
    let mut payload = RlpHeader::decode_bytes(&mut rest, true).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut fields = Vec::with_capacity(TIMESTAMP + 1);
    while fields.len() <= TIMESTAMP {
        fields.push(RlpHeader::decode_bytes(&mut payload, false).ok()?);
    }
    Some(HeaderFields {
        state_root: B256::try_from(fields[STATE_ROOT]).ok()?,
        number: read_number(fields[NUMBER])?,
        timestamp: read_number(fields[TIMESTAMP])?,
    })
}

/// Big-endian without leading zeros, as RLP has numbers.
fn read_number(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > size_of::<u64>() || bytes.first() == Some(&0) {
        return None;
    }
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_leading_zeros_and_at_most_eight_bytes() {
        for (bytes, expected) in [
            (&[][..], Some(0)),
            (&[7], Some(7)),
            (&[1, 0], Some(256)),
            (&[0xff; 8], Some(u64::MAX)),
            (&[0], None),
            (&[0, 1], None),
            (&[1; 9], None),
        ] {
            assert_eq!(read_number(bytes), expected, "{bytes:?}");
        }
    }
}
