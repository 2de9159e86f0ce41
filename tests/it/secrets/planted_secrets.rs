//! The planted secrets, random and awkward ones, and the outputs that may contain each of them.

use crate::harness::receivers::DSN_KEY;
use proptest::prelude::*;
use std::fmt;
use url::Url;

/// Values that a simple search or redaction would miss. None contains a comma, which separates list entries.
const AWKWARD: [&str; 12] = [
    "p@ss/w:rd?#[x]",
    "back\\slash\"and'quotes",
    "sp ace d out",
    "ünïcödé-schlüssel",
    "73519264015",
    "tortoise-shell-cat",
    "%41%42%43percent",
    "<b>&amp;</b>tag",
    "$HOME;rm -rf",
    "ALLCAPS_TOKEN_X",
    "trailing-backslash\\",
    "key=value&other=thing",
];

/// The secrets of one run; the caller's are sent with every call.
#[derive(Clone, Debug)]
pub struct Planted {
    pub user: String,
    pub password: String,
    pub path: String,
    pub query: String,
    pub database: String,
    pub signer: String,
    pub otlp_bearer: String,
    pub otlp_team: String,
    pub salt: String,
    pub keystore: Keystore,
    pub caller: Caller,
}

/// A signer whose key is in a file, and one that is elsewhere.
#[derive(Clone, Debug)]
pub struct Keystore {
    pub password: String,
    /// In hex with `0x`.
    pub key: String,
    /// In the URL of a remote signer.
    pub remote_password: String,
}

/// Private data that a caller sends.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token of a caller of the callers file.
    pub token: String,
    /// Of no caller.
    pub jwt: String,
    pub bearer: String,
    pub cookie: String,
    pub api_key: String,
    pub baggage: String,
    pub tracestate: String,
    pub mail: String,
    pub user_id: String,
}

/// A secret, and the outputs that may contain it.
pub struct Needle {
    pub what: &'static str,
    pub text: String,
    pub may_be_in: &'static [&'static str],
}

pub fn planted() -> impl Strategy<Value = Planted> {
    let settings = (awkward(), awkward(), awkward(), awkward(), awkward(), "[0-9a-f]{62}", token(), token(), awkward());
    (settings, keystore(), caller()).prop_map(|(settings, keystore, caller)| {
        let (user, password, path, query, database, signer, otlp_bearer, otlp_team, salt) = settings;
        // Below the order of the curve and not zero.
        let signer = format!("0x1{signer}1");
        Planted { user, password, path, query, database, signer, otlp_bearer, otlp_team, salt, keystore, caller }
    })
}

fn keystore() -> impl Strategy<Value = Keystore> {
    (awkward(), "[0-9a-f]{62}", token()).prop_map(|(password, key, remote_password)| {
        let key = format!("0x2{key}1");
        Keystore { password, key, remote_password }
    })
}

fn caller() -> impl Strategy<Value = Caller> {
    let credentials = ("[A-Za-z0-9_-]{43}", "[A-Za-z0-9_-]{20}", token());
    (credentials, token(), token(), token(), "[a-z0-9]{16}", "[a-z0-9.+]{8,12}x", "[a-z0-9|_-]{12,30}").prop_map(
        |((token, signature, bearer), cookie, api_key, baggage, tracestate, local, user_id)| Caller {
            token: format!("rgs_{token}"),
            jwt: format!("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.{signature}"),
            bearer,
            cookie,
            api_key,
            baggage,
            tracestate,
            mail: format!("x{local}@mail.example"),
            user_id,
        },
    )
}

/// A typical API key, valid in a header.
fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9._~+/-]{14,30}[0-9]"
}

fn awkward() -> impl Strategy<Value = String> {
    let of_list = prop::sample::select(AWKWARD.to_vec()).prop_map(str::to_owned);
    // Equal values of two settings count as one secret.
    let mixed =
        (prop::sample::select(AWKWARD.to_vec()), "[A-Z0-9]{4}").prop_map(|(text, more)| format!("{more}{text}"));
    prop_oneof![token(), of_list, mixed]
}

impl Planted {
    /// An endpoint's URL with a secret in every part that can hold one.
    pub fn endpoint(&self, address: &str) -> Url {
        let mut url: Url = address.parse().unwrap();
        url.set_username(&self.user).unwrap();
        url.set_password(Some(&self.password)).unwrap();
        url.path_segments_mut().unwrap().push("v2").push(&self.path);
        url.query_pairs_mut().append_pair("key", &self.query);
        url
    }

    pub fn needles(&self) -> Vec<Needle> {
        let nowhere = |what, text: &str| Needle { what, text: text.to_owned(), may_be_in: &[] };
        let Caller { token, jwt, bearer, cookie, api_key, baggage, tracestate, mail, user_id } = &self.caller;
        vec![
            nowhere("the user of an endpoint", &self.user),
            nowhere("the password of an endpoint", &self.password),
            nowhere("the path of an endpoint", &self.path),
            nowhere("the query of an endpoint", &self.query),
            nowhere("the query of the database's URL", &self.database),
            nowhere("the signer's key", &self.signer[2..]),
            nowhere("the password of the keystore", &self.keystore.password),
            nowhere("the key in the keystore", &self.keystore.key[2..]),
            nowhere("the password of a remote signer", &self.keystore.remote_password),
            nowhere("a header for the collector", &self.otlp_bearer),
            nowhere("another header for the collector", &self.otlp_team),
            nowhere("the salt of user ids", &self.salt),
            // Part of the dynamic sampling context, which only Sentry reads.
            Needle { what: "the key of the DSN", text: DSN_KEY.into(), may_be_in: &["envelope headers"] },
            nowhere("the token of a caller", token),
            nowhere("a JWT", jwt),
            nowhere("authorization", bearer),
            nowhere("cookie", cookie),
            nowhere("x-api-key", api_key),
            nowhere("baggage", baggage),
            nowhere("an e-mail address", mail),
            // Stored so that the trace continues after a restart.
            Needle { what: "tracestate", text: tracestate.clone(), may_be_in: &["database"] },
            // Stored; with a salt it is in no other output.
            Needle { what: "a user's id", text: user_id.clone(), may_be_in: &["database", "grpc", "commands"] },
        ]
    }

    /// Messages of a node or gateway with everything it knows; each starts with a mark by which it is found.
    pub fn words(&self, endpoint: &Url) -> Vec<String> {
        let Caller { bearer, cookie, mail, .. } = &self.caller;
        let url = endpoint.as_str();
        let json = serde_json::json!({ "url": url, "key": self.query, "user": self.user });
        let encoded: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
        let words = [
            format!("must be authenticated! {url} is not active"),
            format!("key {} of {} is unknown", self.path, self.user),
            format!("not {}, not {}", self.password, self.query),
            format!("the provider said {json}, twice: {}", serde_json::Value::from(json.to_string())),
            format!("seen at {encoded}"),
            format!("signer {} and {:?}", self.signer.to_uppercase(), self.signer),
            format!("salt={} dsn=https://{DSN_KEY}@sentry.example/1", self.salt),
            format!("keystore {} remote {}", self.keystore.password, self.keystore.remote_password),
            format!("collector {} {}", self.otlp_bearer, self.otlp_team),
            format!("authorization: Bearer {bearer}\r\ncookie: a={cookie}; b=2\r\nhost: x"),
            format!("got {{\"authorization\": \"Basic {bearer}\", \"cookie\": \"{cookie}\"}}"),
            format!("write to {mail}\nor <{mail}>"),
        ];
        words.into_iter().enumerate().map(|(number, words)| format!("{} {words}", mark(number))).collect()
    }
}

/// The mark of the message with this number.
pub fn mark(number: usize) -> String {
    format!("words-{number}-of-the-node:")
}

impl fmt::Display for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (`{}`)", self.what, self.text)
    }
}
