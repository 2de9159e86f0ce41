//! The nonce of a signer's next transaction where the chain reports a higher one than the store: another program uses
//! the key, or the endpoint is wrong. A transaction at a nonce that is too high is included only after every nonce
//! below it was paid for, so that one endpoint's word is not enough.

use std::time::Duration;

/// Endpoints that have to report a higher nonce, where that many are configured. Filling a nonce gap needs as many.
pub const NONCE_QUORUM: usize = 2;
/// A jump of at most this many nonces is believed of one endpoint after the short time: filling all of them costs
/// 336,000 gas.
const MAX_SMALL_JUMP: u64 = 16;
/// How long one endpoint has to report a higher nonce without a second one, for a small jump and for any other.
/// Proxies serve wrong answers for seconds: a backend that is replaced, a cache that is too old.
const SMALL_JUMP_GRACE: Duration = Duration::from_secs(15);
const JUMP_GRACE: Duration = Duration::from_secs(60);

/// What is known of a nonce above the store's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NonceJump {
    /// The next nonce by the store.
    pub stored: u64,
    /// The lowest that an endpoint reports, now and since the jump was first seen.
    pub reported: u64,
    /// Endpoints that answered.
    pub answers: usize,
    /// Whether the transaction below `reported` was found in a block, signed by the signer: no node can forge it.
    pub has_signed_transaction: bool,
    /// The nonce at confirmation depth; `None` where no endpoint returns it.
    pub at_depth: Option<u64>,
    /// Since the jump was first seen.
    pub seen_for: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextNonce {
    Use(u64),
    /// Nothing is signed until a second endpoint reports it, or the jump has lasted.
    Unproven,
}

pub fn next_nonce(jump: &NonceJump) -> NextNonce {
    let NonceJump { stored, reported, .. } = *jump;
    if jump.answers == 0 {
        return NextNonce::Unproven;
    }
    if reported <= stored {
        return NextNonce::Use(stored);
    }
    let is_small = reported - stored <= MAX_SMALL_JUMP;
    let grace = if is_small { SMALL_JUMP_GRACE } else { JUMP_GRACE };
    // Some nodes do not keep the state of that block.
    let is_deep = jump.at_depth.map_or(jump.seen_for >= JUMP_GRACE, |at_depth| at_depth >= reported);
    let has_lasted = jump.seen_for >= grace && is_deep;
    match jump.answers >= NONCE_QUORUM || jump.has_signed_transaction || has_lasted {
        true => NextNonce::Use(reported),
        false => NextNonce::Unproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One endpoint reports 45 instead of 5.
    const LONE: NonceJump = NonceJump {
        stored: 5,
        reported: 45,
        answers: 1,
        has_signed_transaction: false,
        at_depth: Some(45),
        seen_for: Duration::ZERO,
    };

    #[test]
    fn one_endpoint_alone_is_not_believed_before_the_jump_has_lasted() {
        let seen = |seconds, jump| NonceJump { seen_for: Duration::from_secs(seconds), ..jump };
        let small = NonceJump { reported: 21, at_depth: Some(21), ..LONE };
        for (what, jump, expected) in [
            ("at first", LONE, NextNonce::Unproven),
            ("within the grace", seen(59, LONE), NextNonce::Unproven),
            ("it has lasted", seen(60, LONE), NextNonce::Use(45)),
            ("a small one at first", small, NextNonce::Unproven),
            ("a small one within the grace", seen(14, small), NextNonce::Unproven),
            ("a small one has lasted", seen(15, small), NextNonce::Use(21)),
            ("one more is not small", seen(59, NonceJump { reported: 22, ..small }), NextNonce::Unproven),
            ("not at depth", seen(600, NonceJump { at_depth: Some(44), ..LONE }), NextNonce::Unproven),
            ("small, its depth unknown", seen(59, NonceJump { at_depth: None, ..small }), NextNonce::Unproven),
            ("its depth unknown for long", seen(60, NonceJump { at_depth: None, ..small }), NextNonce::Use(21)),
            ("two endpoints", NonceJump { answers: 2, at_depth: None, ..LONE }, NextNonce::Use(45)),
            (
                "a signed transaction",
                NonceJump { has_signed_transaction: true, at_depth: None, ..LONE },
                NextNonce::Use(45),
            ),
            ("no answer", NonceJump { answers: 0, ..seen(600, LONE) }, NextNonce::Unproven),
            ("another endpoint denies it", NonceJump { reported: 5, answers: 2, ..LONE }, NextNonce::Use(5)),
            ("the truth again", NonceJump { reported: 4, ..LONE }, NextNonce::Use(5)),
            (
                "the highest value that is read",
                NonceJump { reported: 1 << 40, at_depth: Some(1 << 40), ..LONE },
                NextNonce::Unproven,
            ),
        ] {
            assert_eq!(next_nonce(&jump), expected, "{what}");
        }
    }
}
