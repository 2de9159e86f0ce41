//! The change feed: every registration in the order of its latest change, for any number of readers.
//!
//! One `tail` per process reads new changes from the store, for all readers, into a `window` in memory. A `reader` that
//! is further behind reads pages of its own until it has reached the window. Without readers nothing is read.

mod feed;
mod reader;
mod tail;
#[cfg(test)]
mod tests;
mod window;

pub(super) use feed::ChangeFeed;
pub use feed::{ChangeStart, FeedError};
pub use reader::{ChangeReader, FeedStep};
pub(super) use tail::Tail;
