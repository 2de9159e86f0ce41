//! Which registry a database belongs to.

use alloy::primitives::{Address, B256};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registry {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of block 0, by which two anvil chains with the same id differ.
    pub genesis_hash: B256,
    /// Address of the DocumentRegistry.
    pub contract: Address,
    /// Number of the block that deployed it.
    pub deploy_block_number: u64,
    /// Hash of that block.
    pub deploy_block_hash: B256,
}

/// The database belongs to another chain or contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database belongs to another {what}: it was created for {stored}, but this is {actual}. Set \
     REGISTRAR_DATABASE_URL to \
     another database, or configure the previous {what} again{hint}"
)]
pub struct RegistryMismatch {
    what: &'static str,
    stored: String,
    actual: String,
    hint: &'static str,
}

pub(super) fn ensure_same_registry(stored: &Registry, actual: &Registry) -> Result<(), RegistryMismatch> {
    let mismatch = |what, describe: &dyn Fn(&Registry) -> String, hint| {
        Err(RegistryMismatch { what, stored: describe(stored), actual: describe(actual), hint })
    };
    if stored.chain_id != actual.chain_id {
        return mismatch("chain", &|r| format!("chain {}", r.chain_id), "");
    }
    if stored.genesis_hash != actual.genesis_hash {
        return mismatch("chain", &|r| format!("genesis {}", r.genesis_hash), " (a restarted anvil is a new chain)");
    }
    if stored.contract != actual.contract {
        return mismatch("contract", &|r| r.contract.to_string(), "");
    }
    if stored.deploy_block_hash != actual.deploy_block_hash {
        let deployment =
            |r: &Registry| format!("one deployed in block {} ({})", r.deploy_block_number, r.deploy_block_hash);
        return mismatch("contract", &deployment, "");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry {
            chain_id: 31337,
            genesis_hash: B256::repeat_byte(1),
            contract: Address::repeat_byte(2),
            deploy_block_number: 3,
            deploy_block_hash: B256::repeat_byte(4),
        }
    }

    #[test]
    fn a_mismatch_names_what_differs() {
        assert_eq!(ensure_same_registry(&registry(), &registry()), Ok(()));
        for (other, text) in [
            (Registry { chain_id: 1, ..registry() }, "chain 1"),
            (Registry { genesis_hash: B256::ZERO, ..registry() }, "restarted anvil"),
            (Registry { contract: Address::ZERO, ..registry() }, "contract"),
            (Registry { deploy_block_hash: B256::ZERO, ..registry() }, "deployed in block 3"),
        ] {
            let error = ensure_same_registry(&registry(), &other).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("REGISTRAR_DATABASE_URL"), "{error}");
        }
    }
}
