use super::*;
use alloy::rpc::json_rpc::ErrorPayload;

pub(super) const SEND: &str = "eth_sendRawTransaction";
const CALL: &str = "eth_call";
pub(super) const READ: &str = "eth_getBlockByNumber";
const RECEIPT: &str = "eth_getTransactionReceipt";

/// Client, HTTP status, code, message, expected classification.
type Row = (&'static str, Option<u16>, i64, &'static str, Classification);

pub(super) fn no(reason: RejectReason) -> Classification {
    Classification::Rejected(reason)
}

pub(super) fn failed(fault: EndpointFault) -> Classification {
    Classification::Failed(fault)
}

fn classify_row(method: &str, (_, status, code, message, _): &Row) -> Classification {
    let payload = ErrorPayload { code: *code, message: (*message).into(), data: None };
    classify(method, &RawError { status: *status, retry_after: None, payload: Some(&payload), addressed: true })
}

fn assert_rows(method: &str, rows: &[Row]) {
    for row @ (client, status, code, message, expected) in rows {
        assert_eq!(&classify_row(method, row), expected, "{client} {method} {status:?} {code} {message}");
    }
}

#[rustfmt::skip]
#[test]
fn the_pool_errors_of_each_client_are_classified() {
    use RejectReason::*;
    use table::{BACKEND_FAILURE, TIMED_OUT};
    assert_rows(SEND, &[
        ("geth, reth", None, -32000, "already known", no(AlreadyKnown)),
        ("anvil", None, -32003, "transaction already imported", no(AlreadyKnown)),
        ("nethermind 2025", None, -32010, "AlreadyKnown", no(AlreadyKnown)),
        ("erigon", None, -32000, "ALREADY_EXISTS: already known", no(AlreadyKnown)),
        ("erigon", None, -32000, "INTERNAL_ERROR: existing txn with same hash", no(AlreadyKnown)),
        ("besu", None, -32000, "Known transaction", no(AlreadyKnown)),
        ("hardhat", None, -32000, "Known transaction: 0x7c1d", no(AlreadyKnown)),
        ("a gateway", None, -32000, "Unknown transaction", no(UnknownTransaction)),

        ("geth", None, -32000, "nonce too low: next nonce 5, tx nonce 4", no(NonceTooLow)),
        ("reth", None, -32000, "nonce too low", no(NonceTooLow)),
        ("anvil", None, -32003, "nonce too low", no(NonceTooLow)),
        ("nethermind 2025", None, -32010, "OldNonce, Current nonce: 5, nonce of rejected tx: 4", no(NonceTooLow)),
        ("erigon", None, -32000, "INTERNAL_ERROR: nonce too low", no(NonceTooLow)),
        ("erigon", None, -32000, "INTERNAL_ERROR: mined", no(NonceTooLow)),
        ("besu", None, -32001, "Nonce too low", no(NonceTooLow)),
        ("hardhat", None, -32000,
            "Transaction nonce is too low. Expected nonce to be at least 5 but got 4", no(NonceTooLow)),

        ("geth", None, -32000, "nonce too high", no(NonceGap)),
        ("geth", None, -32000, "gapped-nonce tx from delegated accounts", no(NonceGap)),
        ("geth", None, -32000, "future transaction tries to replace pending", no(NonceGap)),
        ("nethermind 2025", None, -32010, "NonceGap, Future nonce. Expected nonce: 5", no(NonceGap)),
        ("nethermind", None, -32010, "nonce too far in future", no(NonceGap)),
        ("besu", None, -32006, "Nonce too high", no(NonceGap)),
        ("besu", None, -32000, "Transaction nonce is too distant from current sender nonce", no(NonceGap)),
        ("besu", None, -32000, "An invalid transaction with a lower nonce exists", no(NonceGap)),
        ("ganache", None, -32000,
            "the tx doesn't have the correct nonce. account has nonce of: 2 tx has nonce of: 3", no(NonceGap)),

        ("geth, reth", None, -32000, "replacement transaction underpriced", no(ReplacementUnderpriced)),
        ("anvil", None, -32003, "replacement transaction underpriced", no(ReplacementUnderpriced)),
        ("nethermind 2025", None, -32010, "ReplacementNotAllowed, existing tx has higher fee", no(ReplacementUnderpriced)),
        ("erigon", None, -32000, "FEE_TOO_LOW: replacement transaction underpriced", no(ReplacementUnderpriced)),
        ("erigon", None, -32000, "INTERNAL_ERROR: could not replace existing tx", no(ReplacementUnderpriced)),
        ("besu", None, -32000, "Replacement transaction underpriced", no(ReplacementUnderpriced)),
        ("hardhat", None, -32000, "Replacement transaction underpriced. A gasPrice/maxFeePerGas of at least 22 is \
            necessary to replace the existing transaction with nonce 0.", no(ReplacementUnderpriced)),

        ("geth, reth", None, -32000, "transaction underpriced", no(FeeTooLow)),
        ("geth", None, -32000, "transaction gas price below minimum: gas tip cap 1, minimum needed 2", no(FeeTooLow)),
        ("geth", None, -32000,
            "max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 2", no(FeeTooLow)),
        ("reth", None, -32003,
            "transaction priority fee below minimum required priority fee 1000000", no(FeeTooLow)),
        ("anvil", None, -32003, "max fee per gas less than block base fee", no(FeeTooLow)),
        ("nethermind 2025", None, -32010,
            "FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", no(FeeTooLow)),
        ("nethermind 2025", None, -32010, "FeeTooLowToCompete", no(FeeTooLow)),
        ("erigon", None, -32000, "FEE_TOO_LOW: fee too low", no(FeeTooLow)),
        ("erigon", None, -32000, "FEE_TOO_LOW: underpriced", no(FeeTooLow)),
        ("besu", None, -32009, "Gas price below configured minimum gas price", no(FeeTooLow)),
        ("besu", None, -32009, "Gas price below current base fee", no(FeeTooLow)),
        ("hardhat", None, -32000,
            "Transaction maxFeePerGas (1) is too low for the next block, which has a baseFeePerGas of 2", no(FeeTooLow)),

        ("geth, reth", None, -32000, "max priority fee per gas higher than max fee per gas", no(TipAboveFee)),
        ("besu", None, -32000, "Max priority fee per gas exceeds max fee per gas", no(TipAboveFee)),
        ("geth, reth", None, -32000, "tx fee (1.20 ether) exceeds the configured cap (1.00 ether)", no(FeeAboveNodeCap)),
        ("besu", None, -32000, "Transaction fee cap exceeded", no(FeeAboveNodeCap)),

        ("geth", None, -32000,
            "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1", no(InsufficientFunds)),
        ("reth", None, -32003, "insufficient funds for gas * price + value: have 0 want 1", no(InsufficientFunds)),
        ("anvil", None, -32003, "Insufficient funds for gas * price + value", no(InsufficientFunds)),
        ("nethermind 2025", None, -32010, "InsufficientFunds, Account balance: 0, cumulative cost: 21000",
            no(InsufficientFunds)),
        ("erigon", None, -32000, "INTERNAL_ERROR: insufficient funds", no(InsufficientFunds)),
        ("besu", None, -32004, "Upfront cost exceeds account balance", no(InsufficientFunds)),
        ("hardhat", None, -32000, "Sender doesn't have enough funds to send tx. The max upfront cost is: 2 and the \
            sender's balance is: 1.", no(InsufficientFunds)),

        ("geth", None, -32000, "txpool is full", no(SenderLimit)),
        ("reth", None, -32003, "txpool is full", no(SenderLimit)),
        ("geth", None, -32000, "account limit exceeded: pooled 16 txs", no(SenderLimit)),
        ("geth", None, -32000, "address already reserved", no(SenderLimit)),
        ("geth, reth", None, -32000, "in-flight transaction limit reached for delegated accounts", no(SenderLimit)),
        ("erigon", None, -32000, "INTERNAL_ERROR: pending sub-pool is full", no(SenderLimit)),
        ("erigon", None, -32000, "INTERNAL_ERROR: baseFee sub-pool is full", no(SenderLimit)),
        ("erigon", None, -32000, "INTERNAL_ERROR: spammer", no(SenderLimit)),
        ("proxyd", Some(429), -32017, "sender is over rate limit", no(SenderLimit)),

        ("geth, reth", None, -32000, "exceeds block gas limit", no(GasLimit)),
        ("anvil", None, -32000, "intrinsic gas too high -- CallGasCostMoreThanGasLimit", no(GasLimit)),
        ("geth", None, -32000, "transaction gas limit too high (cap: 16777216, tx: 20000000)", no(GasLimit)),
        ("geth", None, -32000, "intrinsic gas too low: gas 1, minimum needed 21000", no(GasLimit)),
        ("geth", None, -32000, "insufficient gas for floor data gas cost: gas 1, minimum needed 2", no(GasLimit)),
        ("geth", None, -32000, "oversized data: transaction size 140000, limit 131072", no(GasLimit)),
        ("reth", None, -32003, "gas limit too high", no(GasLimit)),
        ("reth", None, -32000, "exceeds max transaction gas limit", no(GasLimit)),
        ("Base", None, -32000, "exceeds maximum per-transaction gas limit", no(GasLimit)),
        ("nethermind 2025", None, -32010,
            "GasLimitExceeded, Gas limit: 30000000, gas limit of rejected tx: 40000000", no(GasLimit)),
        ("nethermind", None, -32010, "gas limit reached", no(GasLimit)),
        ("nethermind 2025", None, -32010, "MaxTxSizeExceeded, tx size 140000, max 131072", no(GasLimit)),
        ("erigon", None, -32000, "INTERNAL_ERROR: gas limit is too high", no(GasLimit)),
        ("erigon", None, -32000, "INTERNAL_ERROR: IntrinsicGas", no(GasLimit)),
        ("erigon", None, -32000, "INVALID: RLPTooLong", no(GasLimit)),
        ("besu", None, -32003, "Intrinsic gas exceeds gas limit", no(GasLimit)),
        ("besu", None, -32005, "Transaction gas limit exceeds block gas limit", no(GasLimit)),
        ("besu", None, -32005, "Transaction gas limit cap exceeded", no(GasLimit)),
        ("hardhat", None, -32000, "Transaction gas limit is 9 and exceeds block gas limit of 8", no(GasLimit)),

        ("geth", None, -32000, "invalid sender: invalid chain id for signer: have 1 want 2", no(WrongChainId)),
        ("reth", None, -32000, "invalid chain ID", no(WrongChainId)),
        ("anvil", None, -32003, "invalid chain id for signer", no(WrongChainId)),
        ("hardhat", None, -32000, "Trying to send a raw transaction with an invalid chainId.", no(WrongChainId)),
        ("besu", None, -32000, "Wrong chainId", no(WrongChainId)),

        ("besu", None, -32007, "Sender account not authorized to send transactions", no(Other)),
        ("besu", None, -32002,
            "Transaction pool not enabled. (Either txpool explicitly disabled, or node not yet in sync).",
            BACKEND_FAILURE),
        ("besu 1.5", Some(400), -32000, "Known transaction", no(AlreadyKnown)),
        ("dRPC on Base Sepolia", None, 1, "no available upstreams to process a request. Cause - upstream-80 - No \
            label `flashblocks` with values [true]", BACKEND_FAILURE),
        ("dRPC", None, 1, "no available upstreams to process a request. Cause - node-1 - Upstream height 75651020 is \
            less than 75651022", BACKEND_FAILURE),
        ("dRPC", Some(500), 19, "Temporary internal error. Please retry, trace-id: d13566ef", BACKEND_FAILURE),
        ("dRPC", None, 19, "Temporary internal error. Please retry, trace-id: d13566ef", BACKEND_FAILURE),
        ("dRPC", None, 14, "GRPC Context cancellation", BACKEND_FAILURE),
        ("nodecore", None, 408, "request timeout", TIMED_OUT),
        ("nodecore", None, 500, "internal server error", failed(EndpointFault::Status(500))),
        ("nodecore", None, 400, "client error - no", no(Other)),
        ("eRPC", None, -32603, "gave up retrying on network-level after 625.08259ms: 1 upstream not synced",
            BACKEND_FAILURE),
        ("nethermind", None, -32010, "node is syncing", BACKEND_FAILURE),
        ("besu", None, -32008, "Initial sync is still in progress", BACKEND_FAILURE),
        ("anvil", None, -32603, "Transaction confirmation timeout", TIMED_OUT),
        ("geth, reth", None, 4,
            "The transaction was added to the mempool but wasn't processed in 2s.", TIMED_OUT),
        ("any", None, -32000, "something else", no(Other)),
        ("any", None, 3, "something else", no(Other)),
    ]);
}

#[rustfmt::skip]
#[test]
fn the_read_errors_of_each_client_are_classified() {
    use RejectReason::*;
    use table::{BACKEND_FAILURE, TIMED_OUT};
    assert_rows(READ, &[
        ("geth", None, -32000, "header not found", no(UnknownBlock)),
        ("geth", None, -32000, "safe block not found", no(UnknownBlock)),
        ("reth", None, -32001, "block not found: 0x10", no(UnknownBlock)),
        ("anvil", None, -32602, "BlockOutOfRangeError: block height is 1 but requested was 9", no(UnknownBlock)),
        ("besu", None, -39001, "Unknown block", no(UnknownBlock)),
        ("proxyd", Some(400), -32019, "block is out of range", no(UnknownBlock)),
        ("dRPC", None, 26, "Unknown block", no(UnknownBlock)),
        ("geth", None, -32000, "missing trie node 7c1d (path ) state 0x7c1d is not available", no(Pruned)),
        ("geth, reth, besu", None, 4444, "pruned history unavailable", no(Pruned)),
        ("nethermind", None, -32002, "No state available for block 0x7c1d", no(Pruned)),
        ("besu", None, -32000, "World state unavailable", no(Pruned)),
        ("publicnode", Some(403), -32602, "Archive requests require a personal token", no(Pruned)),
        ("geth", None, -32601, "the method eth_feeHistory does not exist/is not available", no(UnknownMethod)),
        ("besu", None, -32604, "Method not enabled", no(UnknownMethod)),
        ("proxyd", Some(403), -32601, "rpc method is not whitelisted", no(UnknownMethod)),
        ("any", None, -32601, "no", no(UnknownMethod)),
        ("dRPC", None, 30,
            "Request timeout on the free tier, please upgrade your tier to the paid one", TIMED_OUT),
        ("dRPC", Some(408), 30,
            "Request timeout on the free tier, please upgrade your tier to the paid one", TIMED_OUT),
        ("dRPC", None, 12, "Can't route your request to suitable provider", BACKEND_FAILURE),
        ("besu", None, -32603, "Timeout expired", TIMED_OUT),
        ("Cloudflare", None, -32046, "Cannot fulfill request", BACKEND_FAILURE),
        ("proxyd", Some(503), -32011, "no backends available for method", BACKEND_FAILURE),
        ("proxyd", Some(503), -32011, "backend is tired", BACKEND_FAILURE),
        ("proxyd", Some(503), -32018, "backend is currently not healthy to serve traffic", BACKEND_FAILURE),
        ("proxyd", Some(429), -32012, "over capacity", BACKEND_FAILURE),
        ("proxyd", Some(504), -32015, "gateway timeout", TIMED_OUT),
        ("eRPC", None, -32603, "ErrUpstreamsExhausted: all upstream attempts failed", BACKEND_FAILURE),
        ("dRPC", None, 27, "Unknown state. First available state is 14875359", no(Pruned)),
        ("Alchemy", None, -32001, "Unable to complete request at this time.", BACKEND_FAILURE),
        ("Reown", None, -32503, "Errors from the following providers prevented the request from being fulfilled: A.",
            failed(EndpointFault::Status(503))),
        ("a gateway", None, -32401, "authenticated API key required for method", failed(EndpointFault::Status(401))),
        ("any", Some(400), -32602, "invalid params", no(Other)),
        ("Alchemy", Some(401), -32600, "Must be authenticated!", failed(EndpointFault::Status(401))),
        ("Infura", Some(403), -32002, "rejected due to project ID settings", failed(EndpointFault::Status(403))),
        ("publicnode", Some(403), -32602, "Request blocked", failed(EndpointFault::Status(403))),
        ("any", Some(500), -32000, "something", failed(EndpointFault::Status(500))),
        ("any", None, -32603, "something else", BACKEND_FAILURE),
    ]);
    assert_rows(RECEIPT, &[
        ("geth", None, -32000, "transaction indexing is in progress", no(UnknownTransaction)),
        ("besu", None, -32000, "Transaction not found", no(UnknownTransaction)),
        ("geth", None, 4444, "pruned history unavailable", no(Pruned)),
    ]);
    assert_rows(CALL, &[
        ("geth", None, -32000, "execution reverted", no(Reverted(Bytes::new()))),
        ("geth, reth", None, 3, "execution reverted", no(Reverted(Bytes::new()))),
        ("besu", None, -32000, "Execution reverted", no(Reverted(Bytes::new()))),
        ("ganache", None, -32000, "VM Exception while processing transaction: revert", no(Reverted(Bytes::new()))),
        ("any", None, -32000, "state was reverted, try again", no(Other)),
        ("reth", None, -32003, "execution aborted (timeout = 5s)", TIMED_OUT),
    ]);
}

#[rustfmt::skip]
#[test]
fn rates_and_spent_quotas_are_distinguished() {
    let throttled = || THROTTLED;
    assert_rows(READ, &[
        ("proxyd", Some(429), -32016, "over rate limit", throttled()),
        ("Base's nodes", None, -32000,
            r#"429 Too Many Requests: {"jsonrpc":"2.0","error":{"code":-32016}}"#, throttled()),
        ("Alchemy", Some(429), 429, "Your app has exceeded its compute units per second capacity.", throttled()),
        ("Alchemy", None, 429, "hold on", throttled()),
        ("Infura", Some(429), -32005, "project ID request rate exceeded", throttled()),
        ("QuickNode", None, -32007, "100/second request limit reached - reduce calls per second or upgrade your \
            account at quicknode.com", throttled()),
        ("QuickNode", None, -32012, "credits limited to 6000/sec", throttled()),
        ("QuickNode", None, -32009, "requests", throttled()),
        ("eRPC", None, -32005, "ErrNetworkRateLimitRuleExceeded", throttled()),
        ("dRPC", None, 15, "Too many request, try again later", throttled()),
        ("Ankr", None, -32029, "Too many requests, reason: call rate limit exhausted, retry in 10s",
            failed(EndpointFault::Throttled { retry_after: None })),
        ("EIP-1474", None, -32005, "Limit exceeded", throttled()),
        ("SQD", None, -32429, "Please slow your requests", throttled()),
        ("Conduit", Some(403), -32017, "Rate Limit Exceeded. Please get an api key at https://app.conduit.xyz/nodes \
            to increase your rate limit.", throttled()),
        ("Alchemy", Some(429), 429, "Monthly capacity limit exceeded. Visit \
            https://dashboard.alchemy.com/settings/billing to upgrade your scaling policy", QUOTA_SPENT),
        ("Alchemy", Some(403), -32600, "Monthly capacity limit exceeded.", QUOTA_SPENT),
        ("Infura", Some(402), -32005, "daily request count exceeded, request rate limited", QUOTA_SPENT),
        ("QuickNode", None, -32003, "daily request limit reached - upgrade your account at quicknode.com", QUOTA_SPENT),
        ("Ankr", Some(403), -32053, "insufficient credits on your account", QUOTA_SPENT),
        ("dRPC", None, 35, "You've reached the free tier limit", QUOTA_SPENT),
    ]);
}

#[rustfmt::skip]
#[test]
fn the_limits_of_log_ranges_are_neither_throttling_nor_faults() {
    use RejectReason::*;
    assert_rows(LOGS_METHOD, &[
        ("Alchemy", Some(400), -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 \
            block range. Based on your parameters, this block range should work: [0x1, 0xa].", no(LogRange)),
        ("Alchemy", None, -32602, "Log response size exceeded.", no(LogRange)),
        ("Infura", None, -32005, "query returned more than 10000 results", no(LogRange)),
        ("QuickNode", Some(413), -32614, "eth_getLogs is limited to a 10,000 range", no(LogRange)),
        ("besu", None, -32005, "Requested range exceeds maximum RPC range limit", no(LogRange)),
        ("reth", None, -32602, "query exceeds max block range 100000", no(LogRange)),
        ("reth", None, -32602, "query exceeds max results 20000, retry with the range 1-9", no(LogRange)),
        ("publicnode", None, -32701, "exceed maximum block range: 50000", no(LogRange)),
        ("dRPC", None, 35, "ranges over 10000 blocks are not supported on freetier", no(LogRange)),
        ("Chainstack", None, -32000, "Block range limit exceeded.", no(LogRange)),
        ("EIP-1474", None, -32005, "Limit exceeded", no(LogRange)),
        ("Infura", None, -32005, "query timeout exceeded", no(LogRange)),
        ("any", None, -32602, "no", no(LogRange)),
        ("any", Some(413), -32000, "no", failed(EndpointFault::TooLarge)),
        ("geth", None, -32602, "block range extends beyond current head block", no(UnknownBlock)),
        ("reth", None, -32602, "invalid block range params", no(UnknownBlock)),
        ("Alchemy", Some(429), 429, "Your app has exceeded its compute units per second capacity.", THROTTLED),
        ("Infura", Some(429), -32005, "project ID request rate exceeded", THROTTLED),
        ("Infura", Some(402), -32005, "daily request count exceeded, request rate limited", QUOTA_SPENT),
        ("any", None, -32601, "no", no(UnknownMethod)),
    ]);
}

/// Nodes whose words are in no row of the table.
#[rustfmt::skip]
#[test]
fn the_same_words_in_another_order_or_spelling_have_the_same_meaning() {
    use RejectReason::*;
    assert_rows(SEND, &[
        ("ethrex", None, -32000, "Nonce for account too low", no(NonceTooLow)),
        ("ethrex", None, -32000, "Invalid params: Attempted to replace a pooled transaction with an underpriced \
            transaction", no(ReplacementUnderpriced)),
        ("ethrex", None, -32000, "Account does not have enough balance to cover the tx cost", no(InsufficientFunds)),
        ("ethrex", None, -32000, "Transaction gas limit exceeded", no(GasLimit)),
        ("ethrex", None, -32000, "Transaction intrinsic gas cost above gas limit", no(GasLimit)),
        ("ethrex", None, -32000, "Transaction priority fee above gas fee", no(TipAboveFee)),
        ("ethrex", None, -32000, "Transaction chain id mismatch, expected chain id: 84532", no(WrongChainId)),
        ("nimbus", None, -32000, "txErrorAlreadyKnown", no(AlreadyKnown)),
        ("nimbus", None, -32000, "txErrorNonceTooSmall", no(NonceTooLow)),
        ("nimbus", None, -32000, "txErrorNonceGap", no(NonceGap)),
        ("nimbus", None, -32000, "txErrorReplacementGasTooLow", no(ReplacementUnderpriced)),
        ("nimbus", None, -32000, "txErrorPoolIsFull", no(SenderLimit)),
        ("nimbus", None, -32000, "txErrorSenderMaxTxs", no(SenderLimit)),
        ("nimbus", None, -32000, "txErrorChainIdMismatch", no(WrongChainId)),
        ("any", None, -32000, "state was reverted, try again", no(Other)),
        ("any", None, -32005, "request limit exceeded", THROTTLED),
    ]);
}
