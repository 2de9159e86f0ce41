//! What goes and what stays, as a table.

use super::{REPLACEMENT, Redactor, install, redact, redact_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{borrow::Cow, sync::LazyLock};

const KEY: &str = "0x8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f";
const HASH: &str = "0xc3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a";
/// The last one may be a number, which stays where it is one.
const SECRETS: [&str; 7] =
    [KEY, "k3y-in-path", "p@ss/w:rd \"x\"", "pass%2Fw0rd", "tr1cky\\", "us3r:pa55word", "123456"];

fn redactor() -> &'static Redactor {
    static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(SECRETS));
    &REDACTOR
}

#[test]
fn what_may_be_secret_goes() {
    let digits = &KEY[2..];
    let upper = digits.to_uppercase();
    let cases: Vec<(String, &str)> = [
        // Secrets of the settings, and how other texts show them.
        (KEY.to_owned(), "[redacted]"),
        (format!("key={digits}"), "key=[redacted]"),
        (format!("0x{upper}!"), "[redacted]!"),
        (format!("input 0xa9059cbb{digits}00"), "input 0xa9059cbb[redacted]00"),
        ("[141, 164, 239, 33, 184, 100, 210, 204, 82, 109, 189, 178, 161, 32, 189, 40, 116, 195, 108, 157, 10, 31, 183, \
          248, 198, 61, 127, 122, 139, 65, 222, 143]"
            .to_owned(), "[[redacted]]"),
        ("no such path /v2/k3y-in-path/ here".to_owned(), "no such path /v2/[redacted]/ here"),
        ("K3Y-IN-PATH".to_owned(), "[redacted]"),
        ("k3y%2Din%2dpath".to_owned(), "[redacted]"),
        ("p%40ss%2Fw%3Ard%20%22x%22".to_owned(), "[redacted]"),
        ("p%40ss%2Fw%3Ard+%22x%22".to_owned(), "[redacted]"),
        (r#"{"a":"p@ss/w:rd \"x\""}"#.to_owned(), r#"{"a":"[redacted]"}"#),
        (r#"{"a":"{\"b\":\"p@ss/w:rd \\\"x\\\"\"}"}"#.to_owned(), r#"{"a":"{\"b\":\"[redacted]\"}"}"#),
        ("it is pass/w0rd".to_owned(), "it is [redacted]"),
        ("it is pass%2fw0rd".to_owned(), "it is [redacted]"),
        ("Basic dXMzcjpwYTU1d29yZA== dXMzcjpwYTU1d29yZGFuZG1vcmU".to_owned(), "Basic [redacted] [redacted]ZGFuZG1vcmU"),
        ("pin 123456 is wrong".to_owned(), "pin [redacted] is wrong"),
        (r#"{"a":"tr1cky\\","b":1}"#.to_owned(), r#"{"a":"[redacted]","b":1}"#),
        // URLs.
        ("https://base.example/v2/abc".to_owned(), "https://base.example/[redacted]"),
        ("https://base.example?apikey=abc".to_owned(), "https://base.example/[redacted]"),
        ("https://base.example/#abc".to_owned(), "https://base.example/[redacted]"),
        ("at (https://base.example:8545/v2/abc), twice".to_owned(), "at (https://base.example/[redacted]), twice"),
        ("https://u:p@base.example".to_owned(), "https://base.example/[redacted]"),
        ("HTTPS://U@BASE.example/".to_owned(), "HTTPS://BASE.example/[redacted]"),
        ("wss://u:p@[::1]:8546/x".to_owned(), "wss://[::1]/[redacted]"),
        ("https://0123456789abcdef@o1.ingest.sentry.io/42".to_owned(), "https://o1.ingest.sentry.io/[redacted]"),
        ("http://x@localhost:8969/1".to_owned(), "http://localhost/[redacted]"),
        ("http://127.0.0.1:8545/v2/K".to_owned(), "http://127.0.0.1/[redacted]"),
        ("http://127.0.0.1:8545/metrics?key=x".to_owned(), "http://127.0.0.1/[redacted]"),
        ("postgres://me:p4ss@db.internal:5432/app?sslmode=require".to_owned(), "postgres://db.internal/[redacted]"),
        // A slash, a space or an @ in a password that was not encoded: then nothing of the host is certain.
        ("postgres://me:p4/ss@db/app".to_owned(), "postgres://[redacted]"),
        ("postgres://me:p@4@db/app".to_owned(), "postgres://db/[redacted]"),
        ("postgres://me:p4 ss@db/app".to_owned(), "postgres://[redacted] ss@db/app"),
        ("https://a.example,https://u:p@b.example/k".to_owned(), "https://[redacted]"),
        (format!("https://sepolia.basescan.org/tx/{HASH}?key=x"), "https://sepolia.basescan.org/[redacted]"),
        (r"https:\/\/u:p@base.example\/v2".to_owned(), r"https:\/\/[redacted]"),
        (r#"{"a":"{\"u\":\"https:\\/\\/h\\/k\"}"}"#.to_owned(), r#"{"a":"{\"u\":\"https:\\/\\/[redacted]\"}"}"#),
        ("?to=https%3A%2F%2Fbase.example%2Fv2&x".to_owned(), "?to=https%3A%2F%2F[redacted]"),
        ("https://k3y-in-path.example/abc".to_owned(), "https://[redacted]"),
        (r#"{"a":"https://h.example/k\nnext: 1"}"#.to_owned(), r#"{"a":"https://h.example/[redacted]\nnext: 1"}"#),
        (r#"{"a":"{\"u\":\"https://h.example/k\"}"}"#.to_owned(), r#"{"a":"{\"u\":\"https://h.example/[redacted]\"}"}"#),
        // Headers.
        ("authorization: Basic dXNlcjpwdw==".to_owned(), "authorization: [redacted]"),
        ("Proxy-Authorization=Digest username=\"jo\", response=\"1f\"\nhost: x".to_owned(),
         "Proxy-Authorization=[redacted]\nhost: x"),
        (r#"{"message":"authorization: Basic dXNlcjpwdw==","n":1}"#.to_owned(),
         r#"{"message":"authorization: [redacted]","n":1}"#),
        (r#"{"message":"cookie: a=b; c=d\r\nhost: x","n":1}"#.to_owned(), r#"{"message":"cookie: [redacted]\r\nhost: x","n":1}"#),
        ("Cookie: a=b; c=d".to_owned(), "Cookie: [redacted]"),
        ("set-cookie: sid=1; HttpOnly".to_owned(), "set-cookie: [redacted]"),
        ("x-api-key: abc, x-other: 1".to_owned(), "x-api-key: [redacted], x-other: 1"),
        (r#"{"x-api-key": "abc", "y": "z"}"#.to_owned(), r#"{"x-api-key": "[redacted]", "y": "z"}"#),
        (r#"{"authorization":"Digest r=\"1\", s=\"2\"","y":1}"#.to_owned(), r#"{"authorization":"[redacted]","y":1}"#),
        (r#"{"a":"{\"authorization\":\"Bearer x\"}"}"#.to_owned(), r#"{"a":"{\"authorization\":\"[redacted]\"}"}"#),
        (r#"("authorization", "Bearer x")"#.to_owned(), r#"("authorization", "[redacted]")"#),
        (r#"{"cookie": ["a=b", "c"]}"#.to_owned(), r#"{"cookie": ["[redacted]", "c"]}"#),
        (r#"cookie: Some("a=b")"#.to_owned(), r#"cookie: Some("[redacted]")"#),
        ("{'Authorization': 'Bearer x', 'y': 1}".to_owned(), "{'Authorization': '[redacted]', 'y': 1}"),
        ("host=db user=me password=p4ss dbname=x".to_owned(), "host=db user=me password=[redacted] dbname=x"),
        ("Bearer xyz".to_owned(), "Bearer [redacted]"),
        ("sent bearer eyJhbGci.eyJzdWIi.c2ln, refused".to_owned(), "sent bearer [redacted], refused"),
        // Tokens of callers.
        (
            "unknown key rgs_aB-9_aB-9_aB-9_aB-9_aB-9_aB-9_aB-9_aB-9_aBc in".to_owned(),
            "unknown key [redacted] in",
        ),
        ("id eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln, refused".to_owned(), "id [redacted], refused"),
        // Addresses.
        ("for jo.smith+x@mail.example.".to_owned(), "for [redacted]."),
        ("mailto:jo@mail.example".to_owned(), "[redacted]"),
        ("jo%40mail.example".to_owned(), "[redacted]"),
        ("jö@bücher.example".to_owned(), "[redacted]"),
        ("jo@mail.xn--p1ai".to_owned(), "[redacted]"),
        (r#"{"a":"from:\njo@mail.example"}"#.to_owned(), r#"{"a":"from:\n[redacted]"}"#),
        ("me:p4ss@10.0.0.1:5432".to_owned(), "[redacted]:5432"),
        ("me:p4ss@localhost/db".to_owned(), "[redacted]/db"),
        ("me:p4ss@db:5432/app".to_owned(), "[redacted]:5432/app"),
    ]
    .into();
    for (text, expected) in cases {
        assert_eq!(redactor().redact(&text), expected, "{text}");
        assert_eq!(redactor().redact(expected), expected, "the second time: {text}");
    }
}

#[test]
fn what_is_no_secret_stays_and_costs_no_copy() {
    let explorer = format!("https://sepolia.basescan.org/tx/{HASH}, and on");
    let transaction = HASH.replace("0x", "0X");
    for text in [
        "",
        HASH,
        &HASH[2..],
        &transaction,
        "0x5FbDB2315678afecb367f032d93F642f64180aa3",
        "MED-2024-1234",
        "A.b_c:d/e-f",
        "user_7f3",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "a@b",
        "@handle",
        "oauth:123@tenant",
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "0190b4f6-0000-7000-8000-000000000000",
        "registrar@0.1.0",
        "registrar@0.1.0-rc.1+build.7",
        "registrar@1.2.3-alpha.beta",
        "memcpy@@GLIBC_2.14",
        "1.94.1",
        "registrar::telemetry::redact",
        "/registrar.v1.RegistrarService/RegisterDocument",
        "type.googleapis.com/registrar.v1.RegistrationErrorDetail",
        "src/chain/error.rs:149:22",
        "2026-11-20T10:00:00.123456Z",
        r#"{"total_ms":123456,"list":[123456,1.123456],"n":91234567}"#,
        "127.0.0.1:50051",
        "[::1]:50051",
        "https://sepolia.base.org",
        "is no URL: give one such as https://sepolia.base.org.",
        "https://sepolia.base.org/",
        "https://sepolia.base.org: timed out",
        "(https://sepolia.base.org)",
        "http://127.0.0.1:9464/metrics",
        "http://localhost:50051",
        &explorer,
        "https://sepolia.basescan.org/address/0x5FbDB2315678afecb367f032d93F642f64180aa3",
        "https://sepolia.basescan.org/block/123",
        "base-sepolia",
        "authorization failed",
        "3 cookies",
        "a password is missing",
        "authorization: ",
        r#"{"cookie":""}"#,
        "x-error-reason: INVALID_FIELD",
        "9 000 000 wei per gas, 50%",
        "[redacted]",
        "https://[redacted]",
        "https://base.example/[redacted], twice",
        "Bearer [redacted]",
    ] {
        assert!(matches!(redactor().redact(text), Cow::Borrowed(same) if same == text), "{text}");
    }
}

#[test]
fn a_value_of_json_is_cleaned_to_its_leaves_and_names() {
    let mut value = json!({
        "Authorization": { "scheme": "Basic", "rest": "x" },
        "x_api_key": ["abc"],
        "cookie": null,
        "list": ["k3y-in-path", 7, true, { "jo@mail.example": "Bearer x" }],
        "hash": HASH,
    });
    redactor().redact_json(&mut value);
    assert_eq!(
        value,
        json!({
            "Authorization": REPLACEMENT,
            "x_api_key": REPLACEMENT,
            "cookie": null,
            "list": [REPLACEMENT, 7, true, { REPLACEMENT: "Bearer [redacted]" }],
            "hash": HASH,
        })
    );
}

#[test]
fn what_was_installed_stays_installed() {
    install(["1nstalled-first".to_owned()]);
    install(["1nstalled-second".to_owned()]);
    assert_eq!(redact("1nstalled-first 1nstalled-second"), "[redacted] [redacted]");
    let mut value = json!({ "a": "1nstalled-first" });
    redact_json(&mut value);
    assert_eq!(value, json!({ "a": REPLACEMENT }));
}

/// Pieces that rules and escapes are made of, in any order.
fn awkward_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "https://",
            r":\/\/",
            "%3A%2F%2F",
            "://",
            "@",
            "%40",
            "authorization",
            "cookie",
            "password",
            "bearer ",
            ": ",
            "=",
            "\"",
            "\\",
            "'",
            "\n",
            "\u{1b}",
            "\u{e9}",
            "[redacted]",
            "[",
            "]",
            ",",
            "}",
            "/",
            "?",
            "k3y-in-path",
            "123456",
            "p@ss/w:rd \"x\"",
            "tr1cky\\",
            "mail.example",
            "jo",
            "u",
            "n",
            "\\u00e9",
            KEY,
            HASH,
            "Some(",
            " ",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_secret_is_left_whatever_is_around_it(before in awkward_text(), after in awkward_text(), which in 0..SECRETS.len() - 1) {
        let secret = SECRETS[which];
        let clean = redactor().redact(&format!("{before}{secret}{after}")).into_owned();
        prop_assert!(!clean.contains(secret), "{clean}");
        let json = Value::from(format!("{before}{secret}{after}")).to_string();
        let clean = redactor().redact(&json).into_owned();
        prop_assert!(!clean.contains(Value::from(secret).to_string().trim_matches('"')), "{clean}");
    }

    #[test]
    fn json_stays_json_however_often_it_is_cleaned(text in awkward_text(), name in awkward_text(), number: i64) {
        let line = json!({ "name": name, "message": text, "number": number, "inner": json!({ "text": text }).to_string() });
        let once = redactor().redact(&line.to_string()).into_owned();
        let twice = redactor().redact(&once).into_owned();
        for clean in [once, twice] {
            prop_assert!(serde_json::from_str::<Value>(&clean).is_ok(), "{line}\n{clean}");
        }
    }
}
