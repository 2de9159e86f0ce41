//! A real node: anvil, the native binary that `make test` installs.

use super::{process::Process, rpc::Rpc};
use alloy::primitives::{Address, U64, U256};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Anvil's published development keys, in order. Each account holds 10,000 ETH.
pub const KEYS: [&str; 10] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "0xdbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
];

/// The addresses of [`KEYS`].
pub const ACCOUNTS: [&str; 10] = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
    "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955",
    "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
    "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
];

/// Anvil's default chain id.
pub const CHAIN_ID: u64 = 31337;

pub fn account(number: usize) -> Address {
    ACCOUNTS[number].parse().unwrap()
}

/// States that anvil keeps, in memory alone. Without a limit it writes each older one to disk: gigabytes in minutes of
/// load, which stay when it is killed.
const KEPT_STATES: &str = "500";

/// A running anvil on a free port; killed when dropped.
pub struct Anvil {
    process: Process,
    rpc: Rpc,
}

impl Anvil {
    /// Without arguments, anvil mines a block for each transaction.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut process = Process::spawn(
            "anvil",
            Command::new(binary()).args(["--port", "0", "--prune-history", KEPT_STATES]).args(arguments),
        );
        let address = process
            .wait_for_line("where it listens", |line| Some(line.strip_prefix("Listening on ")?.trim().to_owned()))
            .await;
        Self { process, rpc: Rpc::new(&format!("http://{address}")) }
    }

    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    pub fn url(&self) -> &str {
        self.rpc.url()
    }

    /// Kills the process; the chain's state is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub async fn mine(&self, blocks: u64) {
        self.rpc.run("anvil_mine", json!([U64::from(blocks)])).await;
    }

    /// Stops automatic mining; blocks come only from [`Self::mine`].
    pub async fn stop_mining(&self) {
        self.rpc.run("evm_setAutomine", json!([false])).await;
        self.rpc.run("evm_setIntervalMining", json!([0])).await;
    }

    /// Switches to one block per transaction and mines the pending ones.
    pub async fn mine_on_demand(&self) {
        self.rpc.run("evm_setAutomine", json!([true])).await;
        self.mine(1).await;
    }

    /// Sets the base fee of the next block; later ones follow the protocol's rules.
    pub async fn set_base_fee(&self, gwei: u64) {
        let wei = U256::from(gwei) * U256::from(1_000_000_000);
        self.rpc.run("anvil_setNextBlockBaseFeePerGas", json!([wei])).await;
    }

    /// Sets the block gas limit.
    pub async fn set_block_gas(&self, gas: u64) {
        self.rpc.run("evm_setBlockGasLimit", json!([U64::from(gas)])).await;
    }

    pub async fn head(&self) -> u64 {
        self.rpc.call::<U64>("eth_blockNumber", json!([])).await.to()
    }

    /// The account's nonce in the newest block.
    pub async fn nonce(&self, account: Address) -> u64 {
        self.rpc.call::<U64>("eth_getTransactionCount", json!([account, "latest"])).await.to()
    }

    /// Number of pending transactions in the node's pool.
    pub async fn pending(&self) -> u64 {
        let status: serde_json::Value = self.rpc.call("txpool_status", json!([])).await;
        serde_json::from_value::<U64>(status["pending"].clone()).unwrap().to()
    }

    /// In wei.
    pub async fn balance(&self, account: Address) -> U256 {
        self.rpc.call("eth_getBalance", json!([account, "latest"])).await
    }

    pub async fn set_balance(&self, account: Address, wei: u128) {
        self.rpc.run("anvil_setBalance", json!([account, U256::from(wei)])).await;
    }
}

/// The native binary. The npm package's own command is a JavaScript shim that leaves anvil running when it is killed.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("REGISTRAR_ANVIL") {
        return path.into();
    }
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let package = format!("contracts/node_modules/@foundry-rs/anvil-{system}-{machine}/bin/anvil");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
    assert!(
        path.is_file(),
        "anvil is not installed at {}: `make test` installs it (or name another one with REGISTRAR_ANVIL)",
        path.display()
    );
    path
}
