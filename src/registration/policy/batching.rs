//! How many registrations go into one transaction, and how long to wait for more.

use std::time::Duration;

/// The protocol's cap on the gas of one transaction (EIP-7825), in force on Base.
pub const TRANSACTION_GAS_CAP: u64 = 1 << 24;
/// Pools refuse larger transactions: geth's `txMaxSize` and reth's `DEFAULT_MAX_TX_INPUT_BYTES` are both 128 KiB. Left below it
/// is room for the envelope and signature.
const CALLDATA_BYTES_CAP: usize = 128 * 1024 - 1024;
/// How long each transaction in flight makes the next one wait for company. With none in flight nothing waits; the more are
/// out, the less a short wait costs, for they fill the next block anyway.
const LINGER_PER_TRANSACTION: Duration = Duration::from_millis(15);

/// Gas and calldata that one registration adds to a batch, at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weight {
    /// Gas.
    pub gas: u64,
    /// Bytes of calldata.
    pub bytes: usize,
}

/// Gas of a batch before its first registration: intrinsic 21,000, calldata of the two array heads, dispatch and access check.
const BATCH_GAS: u64 = 26_500;
/// Gas of a registration before its case id: a fresh storage slot (22,100), the event, hashing and 128 bytes of calldata.
const REGISTRATION_GAS: u64 = 27_200;
/// Gas of each 32-byte word of a case id: calldata (512), event data (256), copying and hashing.
const CASE_WORD_GAS: u64 = 850;
/// Memory is paid for by the square of its size; a full batch stays below this share.
const MEMORY_GAS_DIVISOR: u64 = 50;

/// What a registration with a case id of this many bytes adds to a batch, at most.
pub fn weight(case_id_bytes: usize) -> Weight {
    let words = case_id_bytes.div_ceil(32);
    Weight { gas: REGISTRATION_GAS + CASE_WORD_GAS * words as u64, bytes: 96 + 32 * words }
}

/// The gas limit for a batch of these case id lengths: an upper bound on what it uses.
pub fn gas_limit(case_id_bytes: impl IntoIterator<Item = usize>) -> u64 {
    let gas = BATCH_GAS + case_id_bytes.into_iter().map(|bytes| weight(bytes).gas).sum::<u64>();
    gas + gas / MEMORY_GAS_DIVISOR
}

/// How many of these, from the first on, fit into one transaction of at most `gas_cap` gas. At least one.
pub fn fit(case_id_bytes: impl IntoIterator<Item = usize>, gas_cap: u64) -> usize {
    let cap = gas_cap.min(TRANSACTION_GAS_CAP);
    let usable = cap - cap / MEMORY_GAS_DIVISOR;
    let (mut gas, mut bytes, mut count) = (BATCH_GAS, 4 + 128, 0);
    for length in case_id_bytes {
        let more = weight(length);
        gas += more.gas;
        bytes += more.bytes;
        if gas > usable || bytes > CALLDATA_BYTES_CAP {
            break;
        }
        count += 1;
    }
    count.max(1)
}

/// How long a batch of `queued` waits for company when `in_flight` transactions of the signer are out.
pub fn linger(in_flight: usize, queued: usize, full: usize) -> Duration {
    if queued >= full { Duration::ZERO } else { LINGER_PER_TRANSACTION * u32::try_from(in_flight).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_n;

    #[test]
    fn a_full_batch_stays_under_the_cap_and_one_more_would_not() {
        for length in [1, 13, 32, 33, 64] {
            let count = fit(repeat_n(length, 10_000), u64::MAX);
            assert!(count > 500, "{count} of {length} bytes");
            assert!(gas_limit(repeat_n(length, count)) <= TRANSACTION_GAS_CAP);
            assert!(gas_limit(repeat_n(length, count + 1)) > TRANSACTION_GAS_CAP);
        }
    }

    #[test]
    fn a_smaller_block_makes_smaller_batches_and_one_always_goes() {
        assert!(fit(repeat_n(13, 10_000), 3_000_000) < 110);
        assert_eq!(fit(repeat_n(13, 10), 1), 1);
        assert_eq!(fit(repeat_n(13, 3), u64::MAX), 3);
    }

    #[test]
    fn nothing_in_flight_or_a_full_batch_waits_for_nobody() {
        assert_eq!(linger(0, 1, 600), Duration::ZERO);
        assert_eq!(linger(9, 600, 600), Duration::ZERO);
        assert!(linger(3, 1, 600) > linger(1, 1, 600));
    }
}
