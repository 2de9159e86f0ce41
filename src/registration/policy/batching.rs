//! How many registrations go into one transaction, and how long to wait for more.

use std::time::Duration;

/// More registrations than fit into any transaction.
pub const MAX_BATCH_REGISTRATIONS: usize = 650;
/// The protocol's cap on the gas of one transaction (EIP-7825), in force on Base.
pub const TRANSACTION_GAS_CAP: u64 = 1 << 24;
/// Mempools reject larger transactions: geth's `txMaxSize` and reth's `DEFAULT_MAX_TX_INPUT_BYTES` are both 128 KiB.
/// The rest is room for the envelope and signature.
const CALLDATA_BYTES_CAP: usize = 128 * 1024 - 1024;
/// Delay of a batch per transaction in flight, to let it grow. With none in flight nothing waits; the more are
/// pending, the less a short wait costs, because they fill the next block anyway.
const BATCH_DELAY_PER_PENDING_TX: Duration = Duration::from_millis(15);

/// Intrinsic gas of a transaction.
const INTRINSIC_GAS: u64 = 21_000;
/// Gas of a call before its first registration: dispatch, access check, loop. Measured on the contract's bytecode, as
/// are the next two; `tests/it/contract.rs` compares them with a real node.
const CALL_GAS: u64 = 3_044;
/// Gas of a new registration besides its calldata: a fresh storage slot (22,100), the event and hashing.
const REGISTRATION_GAS: u64 = 25_255;
/// Gas of each 32-byte word of a case id besides its calldata: event data and copying.
const CASE_WORD_GAS: u64 = 265;
/// Gas of a calldata byte (EIP-2028).
const NONZERO_BYTE_GAS: u64 = 16;
const ZERO_BYTE_GAS: u64 = 4;
/// A gas limit is higher than the expected gas by one part in this many: a network upgrade may change prices.
const GAS_LIMIT_MARGIN_DIVISOR: u64 = 50;

pub(crate) fn max_tx_gas(block_gas: u64) -> u64 {
    block_gas.min(TRANSACTION_GAS_CAP)
}

/// The gas limit for calldata that registers documents with these case id lengths: an upper bound on what it uses.
pub fn gas_limit(calldata: &[u8], case_id_bytes: impl IntoIterator<Item = usize>) -> u64 {
    let nonzero = calldata.iter().filter(|byte| **byte != 0).count() as u64;
    let zero = calldata.len() as u64 - nonzero;
    let registering: u64 = case_id_bytes.into_iter().map(registration_gas).sum();
    let gas = INTRINSIC_GAS + CALL_GAS + nonzero * NONZERO_BYTE_GAS + zero * ZERO_BYTE_GAS + registering;
    gas + gas / GAS_LIMIT_MARGIN_DIVISOR
}

/// How many of these, from the first on, fit into one transaction of at most `gas_cap` gas. At least one.
pub fn max_that_fit(case_id_bytes: impl IntoIterator<Item = usize>, gas_cap: u64) -> usize {
    let cap = max_tx_gas(gas_cap);
    let usable = cap - cap / GAS_LIMIT_MARGIN_DIVISOR;
    // Selector, and offset and length of both arrays.
    let (mut gas, mut bytes) = (INTRINSIC_GAS + CALL_GAS + 4 * NONZERO_BYTE_GAS + 4 * calldata_word_gas(3), 4 + 4 * 32);
    let mut count = 0;
    for length in case_id_bytes {
        let words = length.div_ceil(32);
        let padding = (words * 32 - length) as u64;
        // A hash, the offset and the length of the case id, and the case id itself, padded.
        let calldata = calldata_word_gas(32) + calldata_word_gas(3) + calldata_word_gas(1);
        let case_id = length as u64 * NONZERO_BYTE_GAS + padding * ZERO_BYTE_GAS;
        gas += registration_gas(length) + calldata + case_id;
        bytes += (3 + words) * 32;
        if gas > usable || bytes > CALLDATA_BYTES_CAP {
            break;
        }
        count += 1;
    }
    count.max(1)
}

/// Batches get smaller with each revert, until only a registration that reverts alone is to blame.
pub fn max_batch_after_reverts(reverts: u32) -> usize {
    match reverts {
        0 => MAX_BATCH_REGISTRATIONS,
        1 => 64,
        2 => 8,
        _ => 1,
    }
}

fn registration_gas(case_id_bytes: usize) -> u64 {
    REGISTRATION_GAS + CASE_WORD_GAS * case_id_bytes.div_ceil(32) as u64
}

/// Gas of a 32-byte word of calldata with this many bytes that are not zero.
fn calldata_word_gas(nonzero: u64) -> u64 {
    nonzero * NONZERO_BYTE_GAS + (32 - nonzero) * ZERO_BYTE_GAS
}

/// `full` is the size at which a batch does not wait.
pub fn batch_delay(in_flight: usize, queued: usize, full: usize) -> Duration {
    if queued >= full {
        Duration::ZERO
    } else {
        BATCH_DELAY_PER_PENDING_TX * u32::try_from(in_flight).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_n;

    /// Calldata of a batch with random hashes, as full of nonzero bytes as it can be.
    fn calldata(count: usize, length: usize) -> Vec<u8> {
        let words = length.div_ceil(32);
        let mut bytes = vec![0; 4 + 4 * 32 + count * (3 + words) * 32];
        let nonzero = 4 + 4 * 3 + count * (32 + 3 + 1 + length);
        bytes[..nonzero].fill(1);
        bytes
    }

    #[test]
    fn a_full_batch_stays_under_the_cap_and_is_nearly_full() {
        for length in [1, 13, 32, 33, 64] {
            let count = max_that_fit(repeat_n(length, 10_000), u64::MAX);
            assert!(count > 580, "{count} of {length} bytes");
            let limit = gas_limit(&calldata(count, length), repeat_n(length, count));
            assert!(limit <= TRANSACTION_GAS_CAP && limit > TRANSACTION_GAS_CAP / 100 * 99, "{limit}");
        }
    }

    #[test]
    fn a_smaller_block_makes_smaller_batches_and_one_always_goes() {
        assert!(max_that_fit(repeat_n(13, 10_000), 3_000_000) < 110);
        assert_eq!(max_that_fit(repeat_n(13, 10), 1), 1);
        assert_eq!(max_that_fit(repeat_n(13, 3), u64::MAX), 3);
    }

    #[test]
    fn what_reverted_goes_in_ever_smaller_batches_and_at_last_alone() {
        assert_eq!([0, 1, 2, 3, 4, 100].map(max_batch_after_reverts), [MAX_BATCH_REGISTRATIONS, 64, 8, 1, 1, 1]);
    }

    #[test]
    fn nothing_in_flight_or_a_full_batch_waits_for_nobody() {
        assert_eq!(batch_delay(0, 1, 600), Duration::ZERO);
        assert_eq!(batch_delay(9, 600, 600), Duration::ZERO);
        assert!(batch_delay(3, 1, 600) > batch_delay(1, 1, 600));
    }
}
