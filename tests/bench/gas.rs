//! Gas per document, from the receipts of real transactions.

use crate::{
    harness::{Anvil, Registry, account},
    report::{Bar, Report, progress},
    stack::{case, pair},
};
use alloy::{
    primitives::{B256, U64},
    rpc::types::TransactionReceipt,
};
use registrar::{
    chain::register_calldata,
    registration::{
        Pair,
        policy::batching::{self, TRANSACTION_GAS_CAP},
    },
};
use serde_json::json;

const MAX_GAS_SINGLE: f64 = 50_800.0;
const MAX_GAS_IN_BATCH: f64 = 27_600.0;

pub async fn measure(report: &mut Report) {
    progress("gas per document");
    let anvil = Anvil::start(&["--gas-limit", "300000000"]).await;
    let registry = Registry::deploy(&anvil, 1).await;
    let case_bytes = case(0).len();
    let largest = batching::max_that_fit(std::iter::repeat_n(case_bytes, 10_000), u64::MAX);
    let mut first = 0;
    for (count, bar) in [(1, MAX_GAS_SINGLE), (100, MAX_GAS_IN_BATCH), (largest, MAX_GAS_IN_BATCH)] {
        let pairs: Vec<Pair> = (first..first + count as u64).map(pair).collect();
        first += count as u64;
        let call = json!({ "from": account(1), "to": registry.address, "input": register_calldata(&pairs),
            "gas": U64::from(TRANSACTION_GAS_CAP) });
        let hash: B256 = anvil.rpc().call("eth_sendTransaction", json!([call])).await;
        let receipt: TransactionReceipt = registry.receipt(hash).await;
        assert!(receipt.status() && receipt.logs().len() == count, "a batch of {count} registers {receipt:?}");
        let each = receipt.gas_used as f64 / count as f64;
        let name =
            if count == 1 { "gas of one document".to_owned() } else { format!("gas per document, batch of {count}") };
        report.bar(name, each, "gas", Bar::AtMost(bar));
    }
}
