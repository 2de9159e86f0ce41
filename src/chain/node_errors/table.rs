//! What the words of clients, gateways and providers mean. In lower case; the first match counts, and a later row may
//! be a substring of an earlier one.
//!
//! Files, so that a row can be checked against its source:
//!
//! | short | file |
//! |---|---|
//! | geth | go-ethereum `core/txpool/errors.go`, `core/error.go`, `core/txpool/validation.go`, `internal/ethapi` |
//! | op-geth | the same files of `ethereum-optimism/op-geth` |
//! | reth | `crates/rpc/rpc-eth-types/src/error/mod.rs`; base-reth-node and op-reth send the same words |
//! | nethermind | `Nethermind.TxPool/AcceptTxResult.cs`, before 2026 the names of its members, since then `TxPoolErrorMessages.cs`; reads: `Nethermind.JsonRpc` |
//! | erigon | `txnprovider/txpool/txpoolcfg/txpoolcfg.go`, behind `ALREADY_EXISTS: `, `FEE_TOO_LOW: `, `INTERNAL_ERROR: ` |
//! | besu | `ethereum/api/…/response/RpcErrorType.java`, from `TransactionInvalidReason.java` |
//! | anvil | foundry `crates/anvil/src/eth/error.rs` |
//! | hardhat | EDR `crates/edr_provider/src/error.rs`, `crates/edr_mem_pool/src/lib.rs` |
//! | ganache | ganache-core `lib/statemanager.js`, and its successors |
//! | proxyd | `ethereum-optimism/infra` `proxyd/backend.go` |
//! | eRPC | `erpc/erpc` `common/errors.go`; its `architecture/evm/error_normalizer.go` lists what providers send |
//! | providers | their documentation and public issues that quote an answer |

use crate::chain::fault::{
    EndpointFault::{self, Backend, QuotaSpent, Throttled, Timeout},
    RejectReason::{
        self, AlreadyKnown, FeeAboveNodeCap, FeeTooLow, GasLimit, InsufficientFunds, LogRange, NonceGap, NonceTooLow,
        Other, Pruned, ReplacementUnderpriced, SenderLimit, TipAboveFee, UnknownBlock, UnknownMethod,
        UnknownTransaction, WrongChainId,
    },
};
use Classification::{Failed, Rejected};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::chain) enum Classification {
    /// The node evaluated the request and rejected it.
    Rejected(RejectReason),
    /// The endpoint did not process the request; another one may.
    Failed(EndpointFault),
}

pub(super) type Rule = (&'static str, Classification);

pub(super) const THROTTLED: Classification = Failed(Throttled { retry_after: None });
pub(super) const QUOTA_SPENT: Classification = Failed(QuotaSpent { retry_after: None });
pub(super) const BACKEND_FAILURE: Classification = Failed(Backend);
pub(super) const TIMED_OUT: Classification = Failed(Timeout);

/// What a pool says of a transaction; also what `eth_call` and `eth_estimateGas` say of one.
#[rustfmt::skip]
pub(super) const POOL_RULES: &[Rule] = &[
    ("unknown transaction", Rejected(UnknownTransaction)),      // gateways; before "known transaction"
    // The node has these bytes.
    ("already known", Rejected(AlreadyKnown)),                  // geth, reth, nethermind, erigon
    ("alreadyknown", Rejected(AlreadyKnown)),                   // nethermind before 2026
    ("already imported", Rejected(AlreadyKnown)),               // anvil
    ("already_exists", Rejected(AlreadyKnown)),                 // erigon: AlreadyKnown, DuplicateHash
    ("with same hash", Rejected(AlreadyKnown)),                 // erigon: DuplicateHash ("existing txn", "existing tx")
    ("known transaction", Rejected(AlreadyKnown)),              // besu, hardhat, old geth
    ("already in mempool", Rejected(AlreadyKnown)),             // gateways that name it themselves
    // The nonce is consumed.
    ("nonce too low", Rejected(NonceTooLow)),                   // geth, reth, anvil, erigon, besu, nethermind, hardhat
    ("nonce is too low", Rejected(NonceTooLow)),                // hardhat, OpenEthereum
    ("oldnonce", Rejected(NonceTooLow)),                        // nethermind before 2026
    ("internal_error: mined", Rejected(NonceTooLow)),           // erigon: Mined
    // A lower nonce is missing there.
    ("nonce too high", Rejected(NonceGap)),                     // geth, reth, nethermind, besu, hardhat
    ("noncegap", Rejected(NonceGap)),                           // nethermind before 2026
    ("gapped-nonce", Rejected(NonceGap)),                       // geth, for delegated accounts
    ("delegation nonce gap", Rejected(NonceGap)),               // nethermind, for delegated accounts
    ("notcurrentnoncefordelegation", Rejected(NonceGap)),       // nethermind before 2026
    ("nonce too far in", Rejected(NonceGap)),                   // nethermind: NonceTooFarInFuture
    ("noncetoofarinfuture", Rejected(NonceGap)),                // nethermind before 2026
    ("nonce is too distant", Rejected(NonceGap)),               // besu: NONCE_TOO_FAR_IN_FUTURE_FOR_SENDER
    ("with a lower nonce exists", Rejected(NonceGap)),          // besu: LOWER_NONCE_INVALID_TRANSACTION_EXISTS
    ("future transaction tries to replace", Rejected(NonceGap)), // geth: ErrFutureReplacePending
    ("doesn't have the correct nonce", Rejected(NonceGap)),     // ganache, too low or too high; consumed ones are found by their number
    // A pending transaction of this nonce pays more, or not enough less.
    ("replacement transaction underpriced", Rejected(ReplacementUnderpriced)), // geth, reth, anvil, nethermind, erigon, besu, hardhat
    ("replacementnotallowed", Rejected(ReplacementUnderpriced)), // nethermind before 2026
    ("could not replace existing", Rejected(ReplacementUnderpriced)), // erigon: NotReplaced
    ("replaced by transaction with higher tip", Rejected(ReplacementUnderpriced)), // erigon: ReplacedByHigherTip
    ("another transaction with same nonce", Rejected(ReplacementUnderpriced)), // OpenEthereum: "There is another transaction with same nonce in the queue"
    // The fee is below what the node asks.
    ("feetoolow", Rejected(FeeTooLow)),                         // nethermind before 2026: FeeTooLow, FeeTooLowToCompete
    ("fee too low", Rejected(FeeTooLow)),                       // erigon: FeeTooLow
    ("fee_too_low", Rejected(FeeTooLow)),                       // erigon: UnderPriced, FeeTooLow
    ("gas price below", Rejected(FeeTooLow)),                   // geth "below minimum", besu "below configured minimum", "below current base fee"
    ("priority fee below minimum", Rejected(FeeTooLow)),        // reth: PriorityFeeBelowMinimum
    ("gas tip cap below minimum", Rejected(FeeTooLow)),         // geth: ErrTxGasPriceTooLow
    ("less than block base fee", Rejected(FeeTooLow)),          // geth, reth, anvil "max fee per gas", old geth "fee cap"
    ("too low for the next block", Rejected(FeeTooLow)),        // hardhat: AutoMineMaxFeePerGasTooLow, AutoMineGasPriceTooLow
    ("gas price supplied is too low", Rejected(FeeTooLow)),     // OpenEthereum
    ("is less than current base fee", Rejected(FeeTooLow)),     // gateways in front of builders
    // Both fees.
    ("higher than max fee per gas", Rejected(TipAboveFee)),     // geth, reth, anvil
    ("exceeds max fee per gas", Rejected(TipAboveFee)),         // besu: MAX_PRIORITY_FEE_PER_GAS_EXCEEDS_MAX_FEE_PER_GAS
    ("tip higher than fee cap", Rejected(TipAboveFee)),         // old geth
    ("exceeds the configured cap", Rejected(FeeAboveNodeCap)),  // geth, reth
    ("transaction fee cap exceeded", Rejected(FeeAboveNodeCap)), // besu: TX_FEECAP_EXCEEDED
    // Money.
    ("insufficient funds", Rejected(InsufficientFunds)),        // geth, reth, anvil, erigon, nethermind
    ("insufficientfunds", Rejected(InsufficientFunds)),         // nethermind before 2026
    ("insufficient balance", Rejected(InsufficientFunds)),      // geth: ErrInsufficientBalance, eRPC's list
    ("upfront cost exceeds", Rejected(InsufficientFunds)),      // besu: TRANSACTION_UPFRONT_COST_EXCEEDS_BALANCE
    ("doesn't have enough funds", Rejected(InsufficientFunds)), // hardhat: "Sender doesn't have enough funds to send tx"
    // Room in the pool.
    ("pool is full", Rejected(SenderLimit)),                    // geth, reth "txpool" (also reth's cap per sender), erigon "sub-pool"
    ("account limit exceeded", Rejected(SenderLimit)),          // geth: ErrAccountLimitExceeded
    ("in-flight transaction limit", Rejected(SenderLimit)),     // geth, reth, for delegated accounts
    ("has pending transaction", Rejected(SenderLimit)),         // nethermind: DelegationAuthorityHasPendingTx
    ("delegatorhaspendingtx", Rejected(SenderLimit)),           // nethermind before 2026
    ("already reserved", Rejected(SenderLimit)),                // geth, reth, erigon: address or authority in another sub-pool
    ("spammer", Rejected(SenderLimit)),                         // erigon: Spammer
    ("sender is over rate limit", Rejected(SenderLimit)),       // proxyd -32017: at the sequencer
    // Gas and size.
    ("exceeds block gas limit", Rejected(GasLimit)),            // geth, reth, besu, hardhat
    ("gas limit too high", Rejected(GasLimit)),                 // geth, reth, anvil
    ("gas limit is too high", Rejected(GasLimit)),              // erigon: GasLimitTooHigh
    ("gaslimitexceeded", Rejected(GasLimit)),                   // nethermind before 2026
    ("gas limit reached", Rejected(GasLimit)),                  // geth: ErrGasLimitReached, nethermind
    ("gas limit cap exceeded", Rejected(GasLimit)),             // besu: EXCEEDS_TRANSACTION_GAS_LIMIT
    ("exceeds current gas limit", Rejected(GasLimit)),          // QuickNode -32010, OpenEthereum
    ("per-transaction gas limit", Rejected(GasLimit)),          // Base
    ("max transaction gas limit", Rejected(GasLimit)),          // reth: MaxTxGasLimitExceeded
    ("intrinsic gas", Rejected(GasLimit)),                      // geth, reth, anvil "too low", "too high", besu "exceeds gas limit"
    ("intrinsicgas", Rejected(GasLimit)),                       // erigon: IntrinsicGas
    ("insufficient gas for floor data", Rejected(GasLimit)),    // geth: ErrFloorDataGas
    ("transaction requires at least", Rejected(GasLimit)),      // hardhat
    ("gas uint64 overflow", Rejected(GasLimit)),                // geth, reth
    ("gasuintoverflow", Rejected(GasLimit)),                    // erigon: GasUintOverflow
    ("oversized data", Rejected(GasLimit)),                     // geth, reth, erigon: more bytes than a pool takes
    ("rlptoolong", Rejected(GasLimit)),                         // erigon: RLPTooLong
    ("transaction too large", Rejected(GasLimit)),              // nethermind: MaxTxSizeExceeded
    ("maxtxsizeexceeded", Rejected(GasLimit)),                  // nethermind before 2026
    ("da size exceeded", Rejected(GasLimit)),                   // Base's builder: TransactionDASizeExceeded
    ("request body too large", Rejected(GasLimit)),             // proxyd -32021, geth: maxRequestContentLength
    ("not authorized to send", Rejected(Other)),                // besu -32007: this node's allowlist
    // Network.
    ("invalid chain id", Rejected(WrongChainId)),               // geth, reth, anvil
    ("invalid chainid", Rejected(WrongChainId)),                // hardhat: InvalidChainId
    ("wrong chainid", Rejected(WrongChainId)),                  // besu: WRONG_CHAIN_ID
    ("invalid tx chain id", Rejected(WrongChainId)),            // nethermind: TxErrorMessages.InvalidTxChainId
    ("invalidtxchainid", Rejected(WrongChainId)),               // nethermind before 2026
];

/// For sends in words that are in no row above: each group has to have one of its words in the message.
#[rustfmt::skip]
pub(super) const POOL_WORDS: &[(&[&[&str]], Classification)] = &[
    (&[&["nonce"], &["low", "lower", "small", "old", "used", "expired"]], Rejected(NonceTooLow)), // ethrex, nimbus
    (&[&["nonce"], &["high", "higher", "gap", "gapped", "future", "distant", "ahead"]], Rejected(NonceGap)), // nimbus
    (&[&["chain", "chainid"], &["mismatch", "invalid", "wrong", "incorrect"]], Rejected(WrongChainId)), // ethrex, nimbus
    (&[&["replacement", "replace"], &["low", "underpriced", "not", "insufficient", "gas", "fee"]],
        Rejected(ReplacementUnderpriced)),                                                        // ethrex, nimbus
    (&[&["underpriced"]], Rejected(FeeTooLow)),                  // geth, reth, nethermind "transaction underpriced"
    (&[&["already"], &["known", "imported", "exists", "pending", "pool", "mempool", "submitted"]],
        Rejected(AlreadyKnown)),                                                                  // nimbus
    (&[&["tip", "priority"], &["above", "exceeds", "higher", "greater"], &["fee", "gas", "cap"]],
        Rejected(TipAboveFee)),                                                                   // ethrex
    (&[&["balance", "funds", "funding"], &["insufficient", "enough", "cover", "low", "lack"]],
        Rejected(InsufficientFunds)),                                                             // ethrex
    (&[&["pool", "mempool"], &["full", "overflow", "capacity"]], Rejected(SenderLimit)),          // nimbus
    (&[&["sender", "account"], &["max", "many", "limit"], &["txs", "transactions", "pending", "queued"]],
        Rejected(SenderLimit)),                                                                   // nimbus
    (&[&["gas"], &["limit", "cost"], &["exceeded", "exceeds", "above", "high", "large", "overflow"]],
        Rejected(GasLimit)),                                                                      // ethrex
    (&[&["fee", "fees", "price", "tip"], &["low", "below", "small", "insufficient", "less"]], Rejected(FeeTooLow)),
];

/// What a node says of a block, state, transaction or method that it does not have.
#[rustfmt::skip]
pub(super) const READ_RULES: &[Rule] = &[
    // The transaction index is behind, or the client has an error where others have null.
    ("indexing is in progress", Rejected(UnknownTransaction)),  // geth: TxIndexingError
    ("transaction not found", Rejected(UnknownTransaction)),    // besu, reth
    ("transaction could not be found", Rejected(UnknownTransaction)), // nethermind
    ("cannot find transaction", Rejected(UnknownTransaction)),  // eRPC's list
    ("receipt not found", Rejected(UnknownTransaction)),        // reth: ReceiptNotFound
    // Once there, and deleted.
    ("pruned", Rejected(Pruned)),                               // geth, reth, besu 4444, publicnode, erigon
    ("pruning", Rejected(Pruned)),                              // OpenEthereum "running with state pruning"
    ("missing trie node", Rejected(Pruned)),                    // geth
    ("state is not available", Rejected(Pruned)),               // geth: "historical state … is not available"
    ("state unavailable", Rejected(Pruned)),                    // besu: WORLD_STATE_UNAVAILABLE
    ("no state available", Rejected(Pruned)),                   // nethermind -32002
    ("state not available", Rejected(Pruned)),                  // eRPC's list
    ("state at block", Rejected(Pruned)),                       // reth: StateAtBlockPruned
    ("unknown state", Rejected(Pruned)),                        // dRPC 27 "Unknown state. First available state is …"
    ("archive", Rejected(Pruned)),                              // publicnode, Infura "project ID does not have access to archive state"
    ("distance to target block", Rejected(Pruned)),             // reth: ExceedsMaxProofWindow
    ("block is too old", Rejected(Pruned)),                     // erigon, of proofs: "requested block is too old"
    ("no historical rpc", Rejected(Pruned)),                    // op-geth, for blocks before Bedrock
    // Not there, or not yet.
    ("header not found", Rejected(UnknownBlock)),               // geth
    ("header for hash not found", Rejected(UnknownBlock)),      // geth
    ("block not found", Rejected(UnknownBlock)),                // reth, besu, geth "safe block not found", "finalized block not found"
    ("unknown block", Rejected(UnknownBlock)),                  // besu, dRPC
    ("could not find block", Rejected(UnknownBlock)),           // erigon
    ("block could not be found", Rejected(UnknownBlock)),       // nethermind
    ("cannot find block", Rejected(UnknownBlock)),              // eRPC's list
    ("blockoutofrange", Rejected(UnknownBlock)),                // anvil
    ("block is out of range", Rejected(UnknownBlock)),          // proxyd -32019
    ("beyond current head", Rejected(UnknownBlock)),            // geth: eth_getLogs past its head
    ("greater than latest", Rejected(UnknownBlock)),            // erigon, eRPC's list
    ("after last accepted block", Rejected(UnknownBlock)),      // coreth
    ("invalid block range", Rejected(UnknownBlock)),            // reth, dRPC: the end is past its head
    ("block tag", Rejected(UnknownBlock)),                      // nodes without `safe` or `finalized`: "unsupported block tag"
    ("hex string without 0x prefix", Rejected(UnknownBlock)),   // geth before the merge, of a tag that it does not know
    ("header range not found", Rejected(UnknownBlock)),         // reth: HeaderRangeNotFound
    // Not offered.
    ("method not found", Rejected(UnknownMethod)),              // JSON-RPC 2.0, besu, nethermind
    ("does not exist/is not available", Rejected(UnknownMethod)), // geth
    ("method not enabled", Rejected(UnknownMethod)),            // besu
    ("method is not available", Rejected(UnknownMethod)),       // gateways, dRPC's free tier
    ("method is not supported", Rejected(UnknownMethod)),       // gateways
    ("unsupported method", Rejected(UnknownMethod)),            // Alchemy
    ("not whitelisted", Rejected(UnknownMethod)),               // proxyd -32601
    ("not included in your current plan", Rejected(UnknownMethod)), // Chainstack
];

/// Refusals of the range or of the number of results of `eth_getLogs`. A spent quota and a rate limit, which use some
/// of the same words, come first.
#[rustfmt::skip]
pub(super) const LOG_RULES: &[Rule] = &[
    ("range", Rejected(LogRange)),             // geth, besu, erigon, Alchemy, QuickNode, Chainstack, dRPC, publicnode
    ("returned more than", Rejected(LogRange)), // Infura -32005 "query returned more than 10000 results"
    ("results", Rejected(LogRange)),           // reth "query exceeds max results", Ankr
    ("response size", Rejected(LogRange)),     // Alchemy "Log response size exceeded"
    ("response too large", Rejected(LogRange)), // proxyd -32020, erigon
    ("response is too", Rejected(LogRange)),   // jsonrpsee "Response is too big"
    ("too many logs", Rejected(LogRange)),     // erigon, Nethermind
    ("exceeds limit", Rejected(LogRange)),     // Alchemy, Cloudflare
    ("limited to", Rejected(LogRange)),        // QuickNode -32614 "eth_getLogs is limited to a 10,000 range"
    ("limit the query to", Rejected(LogRange)), // eRPC's list
    ("limit exceeded", Rejected(LogRange)),    // EIP-1474 -32005
    ("query timeout", Rejected(LogRange)),     // Infura "query timeout exceeded", geth
    ("timed out", Rejected(LogRange)),         // erigon, Ankr
];

/// Codes of `eth_getLogs` for messages that are in no table.
pub(super) const LOG_CODES: [i64; 5] = [-32005, -32012, -32600, -32602, -32614];

/// Words of gateways and providers about the plan, the rate and their own nodes.
#[rustfmt::skip]
pub(super) const GATEWAY_RULES: &[Rule] = &[
    // A rate, although a quota's words follow.
    ("per second", THROTTLED),                 // Alchemy "compute units per second capacity"
    ("/second", THROTTLED),                    // QuickNode -32007 "100/second request limit reached"
    ("/sec", THROTTLED),                       // QuickNode -32012 "credits limited to 6000/sec"
    ("per minute", THROTTLED),                 // several providers
    ("rps", THROTTLED),                        // Chainstack "exceeded the RPS limit available on the current plan"
    // The plan's day or month.
    ("monthly", QUOTA_SPENT),                  // Alchemy "Monthly capacity limit exceeded", 429 or 403
    ("daily", QUOTA_SPENT),                    // Infura "daily request count exceeded", QuickNode "daily request limit"
    ("quota", QUOTA_SPENT),                    // Chainstack, BlockPI, Tenderly "Exceeded the quota usage"
    ("payment required", QUOTA_SPENT),         // Infura 402
    ("insufficient credits", QUOTA_SPENT),     // Ankr
    ("out of credits", QUOTA_SPENT),           // several providers
    ("credits exhausted", QUOTA_SPENT),        // several providers
    ("top up your balance", QUOTA_SPENT),      // Ankr -31999
    ("reached the free tier", QUOTA_SPENT),    // dRPC, eRPC's list
    ("limit for free users", QUOTA_SPENT),     // Ankr
    ("subscription has expired", QUOTA_SPENT), // several providers
    ("billing", QUOTA_SPENT),                  // Alchemy "settings/billing"
    // The rate.
    ("429 too many requests", THROTTLED),      // a node that forwards its proxy's error as -32000
    ("over rate limit", THROTTLED),            // proxyd -32016
    ("rate limit", THROTTLED),                 // most providers
    ("ratelimit", THROTTLED),                  // eRPC: ErrProjectRateLimitRuleExceeded, ErrNetworkRateLimitRuleExceeded
    ("rate exceeded", THROTTLED),              // Infura
    ("too many request", THROTTLED),           // most providers, dRPC "too many request"
    ("exceeded its compute units", THROTTLED), // Alchemy 429
    ("credits limited", THROTTLED),            // QuickNode -32012
    ("request limit reached", THROTTLED),      // QuickNode -32007
    ("requests limited to", THROTTLED),        // Blast
    ("capacity exceeded", THROTTLED),          // Alchemy
    ("concurrent requests", THROTTLED),        // several providers
    ("too many connections", THROTTLED),       // gateways
    ("under too much load", THROTTLED),        // Conduit
    ("endpointcapacityexceeded", THROTTLED),   // eRPC, in its data, also beside "method does not exist"
    ("retry in", THROTTLED),                   // Ankr "call rate limit exhausted, retry in 10s"
    ("slow down", THROTTLED),                  // several providers
    // The gateway's nodes.
    ("no backend is currently healthy", BACKEND_FAILURE),   // proxyd -32011
    ("no backends available", BACKEND_FAILURE),             // proxyd -32011
    ("backend is currently not healthy", BACKEND_FAILURE),  // proxyd -32018
    ("backend offline", BACKEND_FAILURE),                   // proxyd -32010
    ("backend returned an invalid response", BACKEND_FAILURE), // proxyd -32013
    ("over capacity", BACKEND_FAILURE),                     // proxyd -32012
    ("backend response too large", BACKEND_FAILURE),        // proxyd -32020
    ("upstream", BACKEND_FAILURE),                          // eRPC: ErrUpstreamsExhausted; Kong
    ("can't route your request", BACKEND_FAILURE),          // dRPC 12
    ("no available nodes", BACKEND_FAILURE),                // dRPC, Pocket
    ("cannot fulfill request", BACKEND_FAILURE),            // Cloudflare -32046
    ("network error", BACKEND_FAILURE),                     // Cloudflare, Ankr
    ("at this time", BACKEND_FAILURE),                      // Alchemy -32001 "Unable to complete request at this time."
    ("context cancel", BACKEND_FAILURE),                    // dRPC 14, gateways in Go
    ("bad gateway", BACKEND_FAILURE),                       // gateways
    ("service unavailable", BACKEND_FAILURE),               // gateways
    ("is syncing", BACKEND_FAILURE),                        // nethermind: NodeIsSyncing
    ("sync is still in progress", BACKEND_FAILURE),         // besu: CHAIN_HEAD_WORLD_STATE_NOT_AVAILABLE
    ("not yet in sync", BACKEND_FAILURE),                   // besu: TX_POOL_DISABLED
    // Time.
    ("transaction confirmation timeout", TIMED_OUT),        // anvil, the synchronous send
    ("gateway timeout", TIMED_OUT),                         // proxyd -32015
    ("timeout", TIMED_OUT),                                 // dRPC 30 "Request timeout on the free tier", besu "Timeout expired", reth
    ("timed out", TIMED_OUT),                               // several providers, eRPC
    ("deadline exceeded", TIMED_OUT),                       // geth, eRPC, gateways in Go
    // The method's limits; last, because rates and quotas use the word too.
    ("limit exceeded", THROTTLED),                          // EIP-1474 -32005
];

/// Codes for messages that are in no table.
#[rustfmt::skip]
pub(super) const CODE_RULES: &[(i64, Classification)] = &[
    (-32601, Rejected(UnknownMethod)),     // JSON-RPC 2.0
    (-32604, Rejected(UnknownMethod)),     // besu
    (-32612, Rejected(UnknownMethod)),     // QuickNode: custom method off
    (-32613, Rejected(UnknownMethod)),     // QuickNode: not in the plan
    (4444, Rejected(Pruned)),              // EIP-4444: geth, reth, besu
    (-39001, Rejected(UnknownBlock)),      // besu
    (-32017, Rejected(SenderLimit)),       // proxyd
    (-32016, THROTTLED),                   // proxyd
    (-32015, TIMED_OUT),                   // proxyd, eRPC
    (-32012, BACKEND_FAILURE),             // proxyd
    (-32011, BACKEND_FAILURE),             // proxyd
    (-32009, THROTTLED),                   // QuickNode
    (-32007, THROTTLED),                   // QuickNode
    (-32603, BACKEND_FAILURE),             // JSON-RPC 2.0: internal error
    (1008, THROTTLED),                     // websocket gateways
    (1015, THROTTLED),                     // Cloudflare: "You are being rate limited"
    (30, TIMED_OUT),                       // dRPC
    (4, TIMED_OUT),                        // geth, reth: no receipt in time after a synchronous send
];

/// Words of a revert without data.
pub(super) const REVERT_WORDS: [&str; 4] = [
    "execution reverted",   // geth, reth, nethermind, besu, erigon
    "vm exception while",   // hardhat, ganache
    "transaction reverted", // hardhat
    "vm execution error",   // OpenEthereum
];
