//! An issuer of JSON Web Tokens: its keys, its discovery document, and a web server for both.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// ring cannot make one.
const RSA_KEY: &[u8] = include_bytes!("issuer_rsa.pem");

pub const AUDIENCE: &str = "registrar";
const KEYS_PATH: &str = "/keys";
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// A key, by its algorithm.
pub enum SigningKey {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// What the web server does with a request.
#[derive(Clone)]
pub enum Answers {
    Documents,
    /// This instead of the keys.
    Body(Vec<u8>),
    Status(u16),
    RedirectTo(String),
    /// Nothing, until the client gives up.
    Silence,
}

pub struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: Vec<Value>,
    answers: Answers,
    /// Of the keys.
    fetches: usize,
    /// In the discovery document.
    issuer: String,
}

impl SigningKey {
    pub fn rs256() -> Self {
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY).unwrap();
        Self::Rs256(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap())
    }

    pub fn es256() -> Self {
        let rng = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        Self::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &rng).unwrap())
    }

    pub fn ed_dsa() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    /// Its public half as a JSON Web Key.
    pub fn jwk(&self, id: &str) -> Value {
        let mut jwk = match self {
            Self::Rs256(key) => {
                let public: ring::signature::RsaPublicKeyComponents<Vec<u8>> = key.public().into();
                json!({ "kty": "RSA", "n": encode(&public.n), "e": encode(&public.e) })
            }
            Self::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Self::EdDsa(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref()) }),
        };
        jwk["kid"] = id.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let rng = SystemRandom::new();
        let signature = match self {
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &rng, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Es256(key) => key.sign(&rng, message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::EdDsa(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", encode(&signature))
    }

    /// A token with the header that belongs to the key.
    pub fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "typ": "JWT", "kid": id }), claims)
    }
}

/// A token without a signature.
pub fn unsigned_token(header: &Value, claims: &Value) -> String {
    format!("{}.", message(header, claims))
}

/// A token signed with a public key, as if it were a shared secret.
pub fn hmac_token(secret: &[u8], id: &str, claims: &Value) -> String {
    let message = message(&json!({ "alg": "HS256", "kid": id }), claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encode(tag.as_ref()))
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

impl Issuer {
    pub fn start(keys: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = format!("http://{address}");
        let state = Arc::new(Mutex::new(State { keys, answers: Answers::Documents, fetches: 0, issuer }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                thread::spawn(move || answer(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Its name, and the address of its documents.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn keys_url(&self) -> String {
        format!("{}{KEYS_PATH}", self.url())
    }

    /// Valid for an hour.
    pub fn claims(&self, subject: &str) -> Value {
        json!({ "iss": self.url(), "aud": AUDIENCE, "sub": subject, "exp": unix_now() + 3600 })
    }

    pub fn set_keys(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    pub fn set_answers(&self, answers: Answers) {
        self.state.lock().unwrap().answers = answers;
    }

    /// The issuer that its discovery document names.
    pub fn set_name(&self, issuer: &str) {
        self.state.lock().unwrap().issuer = issuer.to_owned();
    }

    /// How often the keys were asked for.
    pub fn fetches(&self) -> usize {
        self.state.lock().unwrap().fetches
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(1..) => request.extend_from_slice(&buffer),
            Ok(_) | Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, header, body) = {
        let mut state = state.lock().unwrap();
        state.fetches += usize::from(path == KEYS_PATH);
        let keys_url = format!("{}{KEYS_PATH}", request_origin(&request));
        match &state.answers {
            Answers::Documents if path == KEYS_PATH => {
                (200, String::new(), json!({ "keys": state.keys }).to_string().into())
            }
            Answers::Documents if path == DISCOVERY_PATH => {
                (200, String::new(), json!({ "issuer": state.issuer, "jwks_uri": keys_url }).to_string().into())
            }
            Answers::Documents => (404, String::new(), Vec::new()),
            Answers::Body(body) => (200, String::new(), body.clone()),
            Answers::Status(status) => (*status, String::new(), Vec::new()),
            Answers::RedirectTo(url) => (302, format!("location: {url}\r\n"), Vec::new()),
            Answers::Silence => {
                drop(state);
                thread::sleep(Duration::from_secs(60));
                return;
            }
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n");
    // A client that has given up reads no answer.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn request_origin(request: &str) -> String {
    let host = request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
    format!("http://{}", host.unwrap_or_default())
}
