//! Keystore files (Web3 Secret Storage, version 3) with a key of the test's choice, weak so that they open at once.

use aes::cipher::{KeyIvInit, StreamCipher};
use alloy::primitives::{hex, keccak256};
use serde_json::json;
use std::{fs, path::Path};

const SALT: [u8; 32] = [7; 32];
const IV: [u8; 16] = [9; 16];

/// Writes a keystore with this private key in hex.
pub fn write(path: &Path, key: &str, password: &str) {
    let mut derived = [0; 32];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), &SALT, 1, &mut derived);
    let mut ciphertext = hex::decode(key).unwrap();
    ctr::Ctr128BE::<aes::Aes128>::new_from_slices(&derived[..16], &IV).unwrap().apply_keystream(&mut ciphertext);
    let mac = keccak256([&derived[16..], &ciphertext].concat());
    let params = json!({ "c": 1, "dklen": 32, "prf": "hmac-sha256", "salt": hex::encode(SALT) });
    let crypto = json!({
        "cipher": "aes-128-ctr", "cipherparams": { "iv": hex::encode(IV) }, "ciphertext": hex::encode(ciphertext),
        "kdf": "pbkdf2", "kdfparams": params, "mac": hex::encode(mac),
    });
    let keystore = json!({ "version": 3, "id": uuid::Uuid::nil(), "crypto": crypto });
    fs::write(path, keystore.to_string()).unwrap();
}
