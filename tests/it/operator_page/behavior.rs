//! How the pages behave in a browser.

use super::{Stuck, check, page_of, url};
use crate::harness::{CASE, StackBuilder, WaitFor, browser::Check, register_request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

#[tokio::test]
async fn a_file_is_hashed_in_the_browser_and_never_sent() {
    const CONTENT: &str = "a contract between two parties";
    let stack = StackBuilder::on_demand().start().await;
    let hash = alloy::primitives::hex::encode(Sha256::digest(CONTENT));
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.document_hash = hash.clone();
    let registration = stack.client.register(request).await.unwrap();

    let seen = check(&stack, "file", json!({ "content": CONTENT })).await;

    assert_eq!(seen["path"], page_of(&registration), "{seen:#}");
    let requests = seen["requests"].as_array().unwrap();
    assert!(requests.iter().any(|one| one["url"].as_str().unwrap().ends_with(&format!("/ui/search?q={hash}"))));
    for request in requests {
        assert_eq!((&request["method"], &request["body"]), (&json!("GET"), &Value::Null), "{request}");
        assert!(!request["url"].as_str().unwrap().contains("contract"), "neither content nor name: {request}");
    }
}

#[tokio::test]
async fn the_pages_work_without_javascript() {
    let Stuck { stack, stuck, .. } = Stuck::start(StackBuilder::on_demand()).await;
    let seen = check(&stack, "script", json!({ "text": stuck.document_hash })).await;
    for (page, word) in [("overview", "Needs attention"), ("overview", "case-2"), ("registration", "fee_too_low")] {
        assert!(seen[page].as_str().unwrap().contains(word), "{word}: {seen:#}");
    }
    assert_eq!((&seen["isPauseVisible"], &seen["isFileVisible"]), (&json!(false), &json!(false)));
}

#[tokio::test]
async fn nothing_is_cut_off_on_a_phone_and_axe_finds_nothing() {
    let all = Stuck::start(StackBuilder::on_demand()).await;
    let narrow = check(&all.stack, "narrow", json!({ "paths": all.paths() })).await;
    for (path, seen) in narrow.as_object().unwrap() {
        assert_eq!(seen, &json!({ "scroll": 0, "wide": [] }), "{path}");
    }
    for path in all.paths().as_array().unwrap() {
        for (color_scheme, background) in [("light", "rgb(244, 246, 249)"), ("dark", "rgb(14, 17, 22)")] {
            let given = json!({ "paths": [path], "colorScheme": color_scheme });
            let audited = check(&all.stack, "accessible", given).await;
            let audited = audited.as_array().unwrap();
            assert_eq!(audited.len(), 2, "wide and narrow");
            for page in audited {
                assert_eq!(page["findings"], json!([]), "{page:#}");
                assert!(page["passes"].as_u64().unwrap() > 15, "{page}");
                assert_eq!(page["background"], background, "{page}");
            }
        }
    }
    save_screenshots(&all).await;
}

/// For people: in `target/tmp/operator-page`.
async fn save_screenshots(all: &Stuck) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operator-page");
    fs::create_dir_all(&folder).unwrap();
    for (name, path) in
        [("overview", "/ui/".to_owned()), ("stuck", page_of(&all.stuck)), ("confirmed", page_of(&all.confirmed))]
    {
        check(&all.stack, "screenshots", json!({ "folder": folder, "paths": { name: path } })).await;
    }
}

#[tokio::test]
async fn everything_is_reached_with_the_keyboard() {
    let stack = StackBuilder::on_demand().start().await;
    let registration = stack.client.confirm(1, CASE).await;

    let seen = check(&stack, "keyboard", json!({ "text": registration.id })).await;

    let stops: Vec<_> = seen["stops"].as_array().unwrap().iter().map(|stop| stop["name"].as_str().unwrap()).collect();
    assert_eq!(stops[..2], ["Skip to the content", "Registrar"]);
    assert!(stops[2].starts_with("Document hash, CID"), "{stops:?}");
    assert_eq!(stops[3..], ["Search", "file"]);
    for stop in seen["stops"].as_array().unwrap() {
        assert_eq!(stop["isVisible"], true, "{stop}");
    }
    assert_eq!((&seen["isInMain"], &seen["path"]), (&json!(true), &json!(page_of(&registration))));
}

#[tokio::test]
async fn an_open_page_shows_news_keeps_the_focus_and_stops_when_paused() {
    let stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    let mut open = Check::start("live", &url(&stack), &json!({ "text": "case-news" }));
    open.until_ready().await;
    stack.client.confirm(2, "case-news").await;

    let seen = open.seen().await;

    assert_eq!((&seen["focus"], &seen["isSamePage"]), (&json!("latest"), &json!(true)), "{seen}");
    assert_eq!(seen["whilePaused"], 0, "{seen}");
}

#[tokio::test]
async fn a_hidden_page_asks_for_nothing() {
    let stack = StackBuilder::on_demand().start().await;
    let seen = check(&stack, "hidden", json!({})).await;
    assert_eq!(seen, json!({ "whileHidden": 0 }));
}
