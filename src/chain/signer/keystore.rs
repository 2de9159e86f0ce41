//! Keystore files: Web3 Secret Storage, version 3
//! (<https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage>), as geth, `cast` and
//! `eth-account` write them.
//!
//! The crate `eth-keystore` panics on some malformed files, and writes weak ones that every user can read.

use super::{key::Key, spec::Password};
use aes::cipher::{KeyIvInit, StreamCipher};
use alloy::primitives::{Address, B256, hex, keccak256};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use uuid::Uuid;

type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// More is no keystore.
const MAX_FILE: u64 = 64 << 10;
/// Readable by the owner alone.
const FILE_MODE: u32 = 0o600;
/// n = 131072 with r = 8 takes 128 MiB and about 0.3 s to try one password.
const SCRYPT_LOG_N: u8 = 17;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
/// geth's n = 262144 takes half of it.
const MAX_SCRYPT_MEMORY: u64 = 512 << 20;
/// geth's 262144 takes a fortieth of it.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
/// The second half of the derived key authenticates.
const DERIVED_LEN: usize = 32;
const VERSION: u8 = 3;
const CIPHER: &str = "aes-128-ctr";
const PBKDF2_PRF: &str = "hmac-sha256";

#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    #[error("cannot be read ({0})")]
    Read(io::ErrorKind),
    #[error("exists already, and is not overwritten: it may hold the only copy of a key; choose another path")]
    Exists,
    #[error("cannot be written ({0})")]
    Write(io::ErrorKind),
    #[error("is not a keystore (Web3 Secret Storage, version 3)")]
    Malformed,
    #[error("uses {0}, which is not supported")]
    Unsupported(&'static str),
    #[error("has another password than REGISTRAR_KEYSTORE_PASSWORD")]
    WrongPassword,
    #[error("cannot be made: the operating system gives no random bytes")]
    NoRandomness,
    #[error("holds no private key")]
    InvalidKey,
}

#[derive(Serialize, Deserialize)]
struct Keystore {
    version: u8,
    id: Uuid,
    /// Not authenticated, and only for people: the key says which address it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    #[serde(with = "hex_text")]
    ciphertext: Vec<u8>,
    #[serde(flatten)]
    kdf: Kdf,
    #[serde(with = "hex_text")]
    mac: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    #[serde(with = "hex_text")]
    iv: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt {
        dklen: usize,
        n: u32,
        r: u32,
        p: u32,
        #[serde(with = "hex_text")]
        salt: Vec<u8>,
    },
    Pbkdf2 {
        dklen: usize,
        c: u32,
        prf: String,
        #[serde(with = "hex_text")]
        salt: Vec<u8>,
    },
}

/// Takes up to seconds, and much memory.
///
/// # Errors
/// When the file is no keystore, or has another password.
pub(super) fn read_keystore(path: &Path, password: &Password) -> Result<Key, KeystoreError> {
    let read = |error: io::Error| KeystoreError::Read(error.kind());
    if fs::metadata(path).map_err(read)?.len() > MAX_FILE {
        return Err(KeystoreError::Malformed);
    }
    let text = fs::read_to_string(path).map_err(read)?;
    let Keystore { version, crypto, .. } = serde_json::from_str(&text).map_err(|_| KeystoreError::Malformed)?;
    if version != VERSION {
        return Err(KeystoreError::Unsupported("another version than 3"));
    }
    if crypto.cipher != CIPHER {
        return Err(KeystoreError::Unsupported("another cipher than aes-128-ctr"));
    }
    let derived = crypto.kdf.derive(password)?;
    if mac(&derived, &crypto.ciphertext).as_slice() != crypto.mac {
        return Err(KeystoreError::WrongPassword);
    }
    let mut secret = crypto.ciphertext;
    apply_cipher(&derived, &crypto.cipherparams.iv, &mut secret)?;
    Key::from_secret(&secret).map_err(|_| KeystoreError::InvalidKey)
}

/// Makes a new key and writes it to a new file.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create_keystore(path: &Path, password: &Password) -> Result<Address, KeystoreError> {
    let (key, secret) = Key::random();
    let kdf = Kdf::Scrypt {
        dklen: DERIVED_LEN,
        n: 1 << SCRYPT_LOG_N,
        r: SCRYPT_R,
        p: SCRYPT_P,
        salt: random::<32>()?.to_vec(),
    };
    let derived = kdf.derive(password)?;
    let (iv, mut ciphertext) = (random::<16>()?.to_vec(), secret.to_vec());
    apply_cipher(&derived, &iv, &mut ciphertext)?;
    let mac = mac(&derived, &ciphertext).to_vec();
    let crypto = Crypto { cipher: CIPHER.to_owned(), cipherparams: CipherParams { iv }, ciphertext, kdf, mac };
    let address = Some(hex::encode(key.address()));
    let keystore = Keystore { version: VERSION, id: Uuid::new_v4(), address, crypto };
    let text = serde_json::to_vec(&keystore).map_err(|_| KeystoreError::Malformed)?;
    write_new(path, &text).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            KeystoreError::Exists
        } else {
            KeystoreError::Write(error.kind())
        }
    })?;
    Ok(key.address())
}

fn random<const N: usize>() -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeystoreError::NoRandomness)?;
    Ok(bytes)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_directory(path));
    if written.is_err() {
        // Created just now. What remains if this fails too is reported as an existing file.
        let _ = fs::remove_file(path);
    }
    written
}

/// So that the file's name survives a crash too.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

impl Kdf {
    fn derive(&self, password: &Password) -> Result<[u8; DERIVED_LEN], KeystoreError> {
        let mut derived = [0; DERIVED_LEN];
        match self {
            Self::Scrypt { dklen: DERIVED_LEN, n, r, p, salt } => {
                let memory = u64::from(*n).saturating_mul(u64::from(*r)).saturating_mul(128);
                if !n.is_power_of_two() || memory > MAX_SCRYPT_MEMORY || u64::from(*p) > 16 {
                    return Err(KeystoreError::Unsupported("scrypt parameters that take too much memory or time"));
                }
                let log_n = n.trailing_zeros() as u8;
                let params = scrypt::Params::new(log_n, *r, *p).map_err(|_| KeystoreError::Malformed)?;
                scrypt::scrypt(password.as_bytes(), salt, &params, &mut derived)
                    .map_err(|_| KeystoreError::Malformed)?;
            }
            Self::Pbkdf2 { c, .. } if *c > MAX_PBKDF2_ROUNDS => {
                return Err(KeystoreError::Unsupported("PBKDF2 parameters that take too much time"));
            }
            Self::Pbkdf2 { dklen: DERIVED_LEN, c, prf, salt } if prf == PBKDF2_PRF => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, *c, &mut derived);
            }
            Self::Scrypt { .. } | Self::Pbkdf2 { .. } => {
                return Err(KeystoreError::Unsupported("another key derivation than scrypt or PBKDF2 of 32 bytes"));
            }
        }
        Ok(derived)
    }
}

fn mac(derived: &[u8; DERIVED_LEN], ciphertext: &[u8]) -> B256 {
    keccak256([&derived[16..], ciphertext].concat())
}

fn apply_cipher(derived: &[u8; DERIVED_LEN], iv: &[u8], data: &mut [u8]) -> Result<(), KeystoreError> {
    let mut cipher = Aes128Ctr::new_from_slices(&derived[..16], iv).map_err(|_| KeystoreError::Malformed)?;
    cipher.apply_keystream(data);
    Ok(())
}

/// Digits without `0x`.
mod hex_text {
    use alloy::primitives::hex;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// The test vectors of the specification.
    const PASSWORD: &str = "testpassword";
    const SECRET: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
    const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":
        {"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt","kdfparams":
        {"dklen":32,"n":262144,"p":8,"r":1,
        "salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
        "mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    fn read(text: &str, password: &str) -> Result<Address, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read_keystore(file.path(), &Password::new(password.to_owned()))
            .map(|key| key.address())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_specifications_test_vectors_are_read() {
        let address = Key::parse(SECRET).unwrap().address();
        for text in [PBKDF2, SCRYPT, &PBKDF2.replace("\"crypto\"", "\"Crypto\"")] {
            assert_eq!(read(text, PASSWORD), Ok(address));
        }
        assert_eq!(read(PBKDF2, "another"), Err(KeystoreError::WrongPassword.to_string()));
    }

    #[test]
    fn a_malformed_or_expensive_file_is_refused() {
        for (text, problem) in [
            (String::new(), "is not a keystore"),
            ("{}".to_owned(), "is not a keystore"),
            (PBKDF2.replace("\"version\":3", "\"version\":1"), "another version"),
            (PBKDF2.replace("aes-128-ctr", "aes-128-cbc"), "another cipher"),
            (PBKDF2.replace("\"dklen\":32", "\"dklen\":16"), "another key derivation"),
            (PBKDF2.replace("hmac-sha256", "hmac-sha512"), "another key derivation"),
            (PBKDF2.replace("pbkdf2", "argon2id"), "is not a keystore"),
            (PBKDF2.replace("6087dab2f9fdbbfaddc31a909735c1e6", "60"), "is not a keystore"),
            (PBKDF2.replace("5318b4d5", "5318b4"), "another password"),
            (PBKDF2.replace("\"c\":262144", "\"c\":4000000000"), "too much time"),
            (SCRYPT.replace("\"n\":262144", "\"n\":3000000000"), "too much memory"),
            (SCRYPT.replace("\"r\":1", "\"r\":4000000000"), "too much memory"),
            (SCRYPT.replace("\"p\":8", "\"p\":4000000000"), "too much memory"),
            (SCRYPT.replace("\"n\":262144", "\"n\":0"), "too much memory"),
            ("x".repeat(100_000), "is not a keystore"),
        ] {
            let error = read(&text, PASSWORD).unwrap_err();
            assert!(error.contains(problem), "{error}: {text}");
        }
    }

    #[test]
    fn a_new_keystore_is_strong_private_and_never_overwrites() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let password = Password::new(PASSWORD.to_owned());
        let address = create_keystore(&path, &password).unwrap();

        assert_eq!(read_keystore(&path, &password).unwrap().address(), address);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["crypto"]["kdfparams"]["n"], 131_072);
        assert_eq!(json["address"], hex::encode(address));
        assert!(matches!(create_keystore(&path, &password), Err(KeystoreError::Exists)));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let nowhere = directory.path().join("none/a.json");
        assert!(matches!(create_keystore(&nowhere, &password), Err(KeystoreError::Write(io::ErrorKind::NotFound))));
    }
}
