//! How many transactions of a signer may be pending at once.

/// Halved when a node rejects a transaction for the signer's pending ones, and raised by one with each accepted
/// transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InFlightLimit(usize);

impl Default for InFlightLimit {
    fn default() -> Self {
        Self(Self::MAX_IN_FLIGHT)
    }
}

impl InFlightLimit {
    /// Nodes cap a sender at 16 pending transactions (reth's `TXPOOL_MAX_ACCOUNT_SLOTS_PER_SENDER`), and at the cap
    /// refuse even replacements.
    pub const MAX_IN_FLIGHT: usize = 15;

    /// How many may be out.
    pub fn get(self) -> usize {
        self.0
    }

    /// A node rejected a transaction for the signer's pending ones.
    pub fn on_sender_limit(&mut self, out: usize) {
        self.0 = (out.min(self.0) / 2).max(1);
    }

    /// A node took another one.
    pub fn on_accepted(&mut self) {
        self.0 = (self.0 + 1).min(Self::MAX_IN_FLIGHT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_when_limited_opens_by_one_and_is_never_shut() {
        let mut window = InFlightLimit::default();
        assert_eq!(window.get(), 15);
        let mut limited = |out| {
            window.on_sender_limit(out);
            window.get()
        };
        assert_eq!([limited(15), limited(15), limited(2), limited(0)], [7, 3, 1, 1]);
        (0..20).for_each(|_| window.on_accepted());
        assert_eq!(window.get(), 15);
    }
}
