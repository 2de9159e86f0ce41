//! How many transactions of a signer may be out at once.

/// A window that shrinks by half when a node says that the signer has too much out, and opens again by one for each transaction
/// that is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window(usize);

impl Default for Window {
    fn default() -> Self {
        Self(Self::MOST)
    }
}

impl Window {
    /// Nodes cap a sender at 16 pending transactions (reth's `TXPOOL_MAX_ACCOUNT_SLOTS_PER_SENDER`), and at the cap refuse even
    /// replacements.
    pub const MOST: usize = 15;

    /// How many may be out.
    pub fn size(self) -> usize {
        self.0
    }

    /// A node takes no more from the signer while so many are out.
    pub fn limited(&mut self, out: usize) {
        self.0 = (out.min(self.0) / 2).max(1);
    }

    /// A node took another one.
    pub fn taken(&mut self) {
        self.0 = (self.0 + 1).min(Self::MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_when_limited_opens_by_one_and_is_never_shut() {
        let mut window = Window::default();
        assert_eq!(window.size(), 15);
        let mut limited = |out| {
            window.limited(out);
            window.size()
        };
        assert_eq!([limited(15), limited(15), limited(2), limited(0)], [7, 3, 1, 1]);
        (0..20).for_each(|_| window.taken());
        assert_eq!(window.size(), 15);
    }
}
