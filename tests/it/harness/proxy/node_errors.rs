//! Known errors of nodes and gateways, with the text that each client uses.

use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeError {
    pub code: i64,
    pub message: &'static str,
    /// As JSON.
    pub data: Option<&'static str>,
}

impl NodeError {
    const fn new(code: i64, message: &'static str) -> Self {
        Self { code, message, data: None }
    }

    const fn with(mut self, data: &'static str) -> Self {
        self.data = Some(data);
        self
    }

    pub(super) fn answer(&self, call: &Value) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = self.data {
            error["data"] = serde_json::from_str(data).unwrap();
        }
        json!({ "jsonrpc": "2.0", "id": call["id"], "error": error })
    }
}

/// The node already has this transaction.
pub const ALREADY_KNOWN: [NodeError; 3] = [
    NodeError::new(-32000, "already known"),                // geth, reth
    NodeError::new(-32010, "AlreadyKnown"),                 // Nethermind
    NodeError::new(-32003, "transaction already imported"), // anvil
];

/// The nonce is already used.
pub const NONCE_TOO_LOW: [NodeError; 3] = [
    NodeError::new(-32010, "OldNonce, Current nonce: 100000, nonce of rejected tx: 0"), // Nethermind
    NodeError::new(-32000, "nonce too low: next nonce 100000, tx nonce 0"),             // geth, reth
    NodeError::new(-32003, "nonce too low"),                                            // anvil
];

/// The node accepts no more transactions of this sender; another endpoint would not help.
pub const SENDER_LIMIT: [NodeError; 3] = [
    NodeError::new(-32017, "sender is over rate limit"), // proxyd: Base's public endpoints
    NodeError::new(-32003, "txpool is full"),            // reth, also for its cap per sender
    NodeError::new(-32000, "txpool is full"),            // geth
];

/// The endpoint throttles requests.
pub const OVER_RATE_LIMIT: [NodeError; 6] = [
    PROXYD_OVER_RATE_LIMIT,
    // A node behind proxyd that repeats proxyd's message in its own.
    NodeError::new(
        -32000,
        r#"429 Too Many Requests: {"jsonrpc":"2.0","error":{"code":-32016,"message":"over rate limit"},"id":1}"#,
    ),
    NodeError::new(
        429,
        "Your app has exceeded its compute units per second capacity. If you have retries enabled, you can safely \
         ignore this message.",
    ), // Alchemy
    NodeError::new(-32005, "daily request count exceeded, request rate limited")
        .with(r#"{"rate":{"allowed_rps":1,"backoff_seconds":1,"current_rps":9.5}}"#), // Infura
    // QuickNode
    NodeError::new(-32007, "50/second request limit reached - reduce calls per second or upgrade your account"),
    NodeError::new(-32012, "credits limited to 500/second"), // QuickNode
];

/// proxyd, in front of Base's public endpoints.
pub const PROXYD_OVER_RATE_LIMIT: NodeError = NodeError::new(-32016, "over rate limit");

/// The gateway works, but its nodes do not.
pub const NO_BACKEND: [NodeError; 3] = [
    PROXYD_NO_BACKEND,
    NodeError::new(-32012, "backend is over capacity"), // proxyd
    NodeError::new(-32015, "gateway timeout"),          // proxyd
];

/// proxyd without a usable node.
pub const PROXYD_NO_BACKEND: NodeError = NodeError::new(-32011, "no backends available for method");

/// The gateway rejects the API key and repeats it.
pub const BAD_KEY: NodeError = NodeError::new(
    -32600,
    "Must be authenticated! http://us3r:passw0rd@127.0.0.1/v2/k3y-in-path?key=k3y-in-query is not active",
);

/// Errors that the service has no rule for: a pruned node, and gateway policies.
pub const UNKNOWN_ERRORS: [NodeError; 3] = [
    NodeError::new(-32000, "missing trie node 7c1d (path ) state 0x7c1d is not available"), // geth, pruned
    NodeError::new(-32601, "the method is not available on this builder"),
    NodeError::new(-32600, "this network was disabled for your app"),
];

/// The node does not know the requested block.
pub const UNKNOWN_BLOCK: [NodeError; 2] = [
    NodeError::new(-32000, "header not found"),          // geth
    NodeError::new(-32001, "block not found: 0xffffff"), // reth
];

/// The endpoint does not offer the method.
pub const METHOD_NOT_OFFERED: NodeError =
    NodeError::new(-32601, "the method eth_getProof does not exist/is not available"); // geth

/// The node keeps the state of newer blocks only.
pub const PROOF_TOO_OLD: [NodeError; 4] = [
    NodeError::new(-32602, "distance to target block exceeds maximum proof window"), // reth
    NodeError::new(-32000, "missing trie node 7c1d (path ) state 0x7c1d is not available"), // geth
    NodeError::new(
        -32000,
        "requested block is too old, block must be within 100000 blocks of the head block number (currently 9)",
    ), // erigon
    NodeError::new(-32002, "No state available for block 0x7c1d"),                   // Nethermind
];

/// The transaction is signed for another chain id.
pub const OTHER_CHAIN: [NodeError; 3] = [
    NodeError::new(-32000, "invalid sender: invalid chain id for signer: have 84532 want 8453"), // geth
    NodeError::new(-32000, "invalid chain ID"),                                                  // reth
    NodeError::new(-32003, "invalid chain id for signer"),                                       // anvil
];

/// The plan's requests are used up.
pub const MONTH_SPENT: NodeError = NodeError::new(
    429,
    "Monthly capacity limit exceeded. Visit https://dashboard.alchemy.com/settings/billing to upgrade your scaling \
     policy for continued service.",
); // Alchemy

/// The transaction index is behind.
pub const INDEXING: NodeError = NodeError::new(-32000, "transaction indexing is in progress"); // geth

/// The node does not know the block tag.
pub const UNSUPPORTED_TAG: NodeError = NodeError::new(-32602, "unsupported block tag");

/// The range of `eth_getLogs` is too large.
pub const LOG_RANGE: [NodeError; 3] = [
    NodeError::new(-32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range."), // Alchemy
    NodeError::new(-32005, "query returned more than 10000 results"), // Infura
    NodeError::new(-32602, "query exceeds max block range 100000"),   // reth
];

/// A read is refused.
pub const FREE_TIER: NodeError =
    NodeError::new(30, "Request timeout on the free tier, please upgrade your tier to the paid one"); // dRPC
