//! What one call, one connection and all of them may use. `docs/reference/api.md` lists these limits.

use std::time::Duration;

/// Of one message, also when it is decompressed. A valid one has a few hundred bytes; up to this limit an invalid one
/// is answered with its invalid fields.
pub(super) const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// As [`MAX_REQUEST_BYTES`], of a request with many documents. A valid one with [`MAX_BATCH_DOCUMENTS`] has at most
/// 145 KB, unless there is white space around its hashes.
pub(super) const MAX_BATCH_REQUEST_BYTES: usize = 256 * 1024;
/// Documents of one call.
pub(super) const MAX_BATCH_DOCUMENTS: usize = 1_000;
/// Calls with many documents, from the first byte of their message to the last one of their answer: up to 2 MiB each,
/// with all that is made of them.
pub(super) const MAX_BATCH_CALLS: u64 = 32;
/// As many calls wait this long for one of [`MAX_BATCH_CALLS`]. Their message is not read.
pub(super) const MAX_WAITING_BATCH_CALLS: u64 = 64;
pub(super) const BATCH_CALL_WAIT: Duration = Duration::from_secs(5);
/// A request of reflection is the name of a symbol or a file.
pub(super) const MAX_REFLECTION_REQUEST_BYTES: usize = 4 * 1024;
/// Of all headers of a call, as HTTP/2 counts them.
pub(super) const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Concurrent calls on one connection.
pub(super) const MAX_STREAMS: u32 = 1024;
/// Received on one connection and not yet read. h2 closes a connection whose small DATA frames cost more than half of
/// this, at up to 256 bytes each (`too_many_data_frames`): [`MAX_STREAMS`] messages at once have to fit.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// From the headers of a call to the end of its message.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls whose message is not complete: a few KiB each, for its headers and its task. One connection may hold half of
/// them, which is as many as it may have.
pub(super) const MAX_ARRIVING_CALLS: u64 = 2 * MAX_STREAMS as u64;
/// Of these, the ones of whose message a part was received, without calls with many documents: at most 4 MiB.
pub(super) const MAX_UNFINISHED_MESSAGES: u64 = 64;
/// Streams of health and reflection.
pub(super) const MAX_UTILITY_STREAMS: u64 = 256;
/// Pages of a list that are read from the database, or that their caller has not received: about 0.5 MiB each.
pub(super) const MAX_PAGES: u64 = 32;
/// As many lists wait this long for one of [`MAX_PAGES`].
pub(super) const MAX_WAITING_LISTS: u64 = 128;
pub(super) const PAGE_WAIT: Duration = Duration::from_secs(5);
/// Calls of one connection that are worked on. Others of that connection wait, with their message and little else, so
/// that those of another one do not queue behind them. A call that waits for the chain is not worked on.
pub(super) const MAX_ACTIVE_CALLS: usize = 32;

/// A client that does not answer a ping for this long is disconnected, and its wait slots become free.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Calls that were cancelled before the server saw them. A gateway may cancel all calls of a connection at once; h2
/// closes the connection when there are more, which also bounds a rapid reset (CVE-2023-44487).
pub(super) const MAX_PENDING_RESETS: usize = MAX_STREAMS as usize;
/// DATA frames that h2 takes for an error of the client. A call that is refused before its message has arrived causes
/// up to four, of 16 KiB each.
pub(super) const MAX_ERROR_RESETS: usize = 4 * MAX_STREAMS as usize;
/// Calls that a connection may cancel at once, and per second after that. One that cancels more is closed.
pub(super) const MAX_CANCEL_BURST: u32 = 2 * MAX_STREAMS;
pub(super) const MAX_CANCELS_PER_SECOND: u32 = 200;

/// Of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the connection to its first byte.
    pub(super) first_byte: Duration,
    /// From the connection to its first call.
    pub(super) first_call: Duration,
    /// Without a call.
    pub(super) idle: Duration,
    /// For a client that takes nothing of what is sent to it.
    pub(super) stalled: Duration,
    /// How long a connection is used; with a random difference of at most a tenth, so that connections that were
    /// opened together do not end together.
    pub(super) max_age: Duration,
    /// For calls that are in progress when a connection reaches its age.
    pub(super) age_grace: Duration,
}

impl Timeouts {
    pub(super) const fn new(max_age: Duration, age_grace: Duration) -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            first_call: Duration::from_secs(20),
            idle: Duration::from_secs(300),
            stalled: Duration::from_secs(30),
            max_age,
            age_grace,
        }
    }
}

/// Of a request over HTTP/1.1.
pub(super) const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The admin port: scrapers and probes.
const MAX_ADMIN_CONNECTIONS: u64 = 64;
/// A request of the admin port, from its headers to its answer.
pub(super) const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const ADMIN_CONNECTION_AGE: Duration = Duration::from_secs(3600);
pub(super) const MAX_ADMIN_HEADER_BYTES: usize = 16 * 1024;

/// File descriptors for everything except gRPC connections: database, endpoints, exporters and the admin port.
const RESERVED_DESCRIPTORS: u64 = 256;

/// As many connections as configured, and as the process has descriptors for; `None` is no limit.
pub(super) fn max_connections(configured: u64, descriptors: Option<u64>) -> usize {
    let usable = descriptors.map_or(u64::MAX, |all| all.saturating_sub(RESERVED_DESCRIPTORS).max(all / 4).max(1));
    usize::try_from(configured.min(usable)).unwrap_or(usize::MAX)
}

/// A few, where descriptors are scarce.
pub(super) fn max_admin_connections(descriptors: Option<u64>) -> usize {
    let few = descriptors.map_or(u64::MAX, |all| (all / 8).max(1));
    usize::try_from(MAX_ADMIN_CONNECTIONS.min(few)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        for (configured, descriptors, expected) in [
            (1_000, None, 1_000),
            (1_000, Some(1_048_576), 1_000),
            (1_000, Some(1_024), 768),
            (10, Some(1_024), 10),
            (1_000, Some(256), 64),
            (1_000, Some(2), 1),
        ] {
            assert_eq!(max_connections(configured, descriptors), expected, "{configured} {descriptors:?}");
        }
        assert_eq!([None, Some(1_024), Some(64), Some(2)].map(max_admin_connections), [64, 64, 8, 1]);
    }
}
