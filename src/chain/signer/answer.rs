//! What a remote signer answers is not trusted: it is decoded and compared with what was asked, because the bytes are
//! stored and broadcast without another look.

use alloy::{
    consensus::{TxEip1559, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::{Address, B256, Bytes},
};

/// Why an answer is not the signature that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongAnswer {
    #[error("answered with something else than a transaction")]
    NotATransaction,
    #[error("answered with another {0} than it was asked to sign")]
    Field(&'static str),
    #[error("signed with a high s, which no node accepts (EIP-2)")]
    HighS,
    #[error("signed with the key of {0}")]
    OtherKey(Address),
    #[error("answered with an invalid signature")]
    InvalidSignature,
}

/// Hash and EIP-2718 bytes of the transaction that was asked for, signed by `signer`.
pub(super) fn check_answer(raw: &[u8], asked: &TxEip1559, signer: Address) -> Result<(B256, Bytes), WrongAnswer> {
    let mut rest = raw;
    let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|_| WrongAnswer::NotATransaction)?;
    let signed = envelope.as_eip1559().filter(|_| rest.is_empty()).ok_or(WrongAnswer::NotATransaction)?;
    if let Some(field) = different_field(signed.tx(), asked) {
        return Err(WrongAnswer::Field(field));
    }
    if signed.signature().normalize_s().is_some() {
        return Err(WrongAnswer::HighS);
    }
    match signed.signature().recover_address_from_prehash(&signed.signature_hash()) {
        Ok(address) if address == signer => Ok((*envelope.tx_hash(), Bytes::copy_from_slice(raw))),
        Ok(address) => Err(WrongAnswer::OtherKey(address)),
        Err(_) => Err(WrongAnswer::InvalidSignature),
    }
}

fn different_field(answered: &TxEip1559, asked: &TxEip1559) -> Option<&'static str> {
    // By name, so that a new field of alloy's does not compile unless it is compared.
    let TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        to,
        value,
        access_list,
        input,
    } = answered;
    let equal = [
        ("chain id", *chain_id == asked.chain_id),
        ("nonce", *nonce == asked.nonce),
        ("gas limit", *gas_limit == asked.gas_limit),
        ("max fee per gas", *max_fee_per_gas == asked.max_fee_per_gas),
        ("max priority fee per gas", *max_priority_fee_per_gas == asked.max_priority_fee_per_gas),
        ("recipient", *to == asked.to),
        ("value", *value == asked.value),
        ("access list", *access_list == asked.access_list),
        ("calldata", *input == asked.input),
    ];
    equal.into_iter().find(|(_, is_equal)| !is_equal).map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::UnsignedTransaction, registration::policy::fees::Fees};
    use alloy::{
        consensus::SignableTransaction,
        eips::eip2718::Encodable2718,
        primitives::{Signature, TxKind, U256},
        signers::{SignerSync, local::PrivateKeySigner},
    };

    /// Order of secp256k1 (SEC 2).
    const ORDER: U256 =
        alloy::primitives::uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

    fn asked() -> TxEip1559 {
        UnsignedTransaction {
            chain_id: 84532,
            nonce: 7,
            to: Some(Address::repeat_byte(5)),
            calldata: Bytes::from_static(&[1, 2, 3]),
            gas_limit: 60_000,
            fees: Fees { max_fee_per_gas: 100, max_priority_fee_per_gas: 1 },
        }
        .to_eip1559()
    }

    fn sign(transaction: TxEip1559, key: &PrivateKeySigner, change: fn(Signature) -> Signature) -> Vec<u8> {
        let signature = change(key.sign_hash_sync(&transaction.signature_hash()).unwrap());
        TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
    }

    #[test]
    fn only_the_transaction_that_was_asked_for_is_accepted() {
        let (key, other) = (PrivateKeySigner::random(), PrivateKeySigner::random());
        let same = |signature: Signature| signature;
        let high_s = |signature: Signature| Signature::new(signature.r(), ORDER - signature.s(), !signature.v());
        let right = sign(asked(), &key, same);
        let (hash, raw) = check_answer(&right, &asked(), key.address()).unwrap();
        assert_eq!(raw, right);
        assert_eq!(hash, alloy::primitives::keccak256(&right));

        let longer = [right.as_slice(), &[0]].concat();
        let changed = |change: fn(&mut TxEip1559)| {
            let mut transaction = asked();
            change(&mut transaction);
            sign(transaction, &key, same)
        };
        for (answer, expected) in [
            (sign(asked(), &other, same), WrongAnswer::OtherKey(other.address())),
            (sign(asked(), &key, high_s), WrongAnswer::HighS),
            (longer, WrongAnswer::NotATransaction),
            (right[..right.len() - 1].to_vec(), WrongAnswer::NotATransaction),
            (Vec::new(), WrongAnswer::NotATransaction),
            (vec![0xff; 200], WrongAnswer::NotATransaction),
            (changed(|tx| tx.chain_id = 8453), WrongAnswer::Field("chain id")),
            (changed(|tx| tx.nonce = 8), WrongAnswer::Field("nonce")),
            (changed(|tx| tx.gas_limit += 1), WrongAnswer::Field("gas limit")),
            (changed(|tx| tx.max_fee_per_gas += 1), WrongAnswer::Field("max fee per gas")),
            (changed(|tx| tx.max_priority_fee_per_gas += 1), WrongAnswer::Field("max priority fee per gas")),
            (changed(|tx| tx.to = TxKind::Create), WrongAnswer::Field("recipient")),
            (changed(|tx| tx.value = U256::from(1)), WrongAnswer::Field("value")),
            (changed(|tx| tx.access_list.0.push(Default::default())), WrongAnswer::Field("access list")),
            (changed(|tx| tx.input = Bytes::from_static(&[9])), WrongAnswer::Field("calldata")),
        ] {
            assert_eq!(check_answer(&answer, &asked(), key.address()), Err(expected));
        }
    }
}
