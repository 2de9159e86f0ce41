//! Keystores made by the command and by other programs.

use crate::harness::{
    CASE, OWNER, Registry, Service, StackBuilder, account, cli::run, document, registry::addRegistrarCall,
};
use alloy::primitives::Address;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse";
const ETHER: u128 = 1_000_000_000_000_000_000;

/// Files of anvil's account 2, made by eth-account 0.13 and cast 1.7.1.
const FOREIGN: [&str; 3] = ["eth-account-pbkdf2.json", "eth-account-scrypt.json", "cast.json"];

fn foreign(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/signers/keystores").join(name)
}

/// A keystore made by the command, its URI and its address.
async fn new_keystore(directory: &Path) -> (PathBuf, String, Address) {
    let path = directory.join("signer.json");
    let made =
        run(&["signer", "new", "--keystore", path.to_str().unwrap()], &[("REGISTRAR_KEYSTORE_PASSWORD", PASSWORD)])
            .await;
    assert_eq!(made.code, 0, "{made:?}");
    let address = made.stdout.trim().parse().unwrap_or_else(|_| panic!("not an address alone: {made:?}"));
    let uri = format!("keystore:{}", path.display());
    assert!(made.stderr.contains(&uri), "{made:?}");
    (path, uri, address)
}

#[tokio::test]
async fn a_new_keystore_signs_for_the_service_and_is_never_overwritten() {
    let directory = TempDir::new().unwrap();
    let (path, uri, address) = new_keystore(directory.path()).await;
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(content.contains("\"n\":131072"), "{content}");
    let again = run(
        &["signer", "new", "--keystore", path.to_str().unwrap(), "--json"],
        &[("REGISTRAR_KEYSTORE_PASSWORD", PASSWORD)],
    )
    .await;
    assert_eq!(again.code, 64, "{again:?}");
    assert!(again.object()["error"]["message"].as_str().unwrap().contains("exists already"), "{again:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);

    let password = directory.path().join("password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    let builder = StackBuilder::on_demand().set("REGISTRAR_SIGNER_KEYS", "").set("REGISTRAR_SIGNERS", &uri);
    let (dependencies, settings) = builder.prepare().await;
    dependencies.anvil.set_balance(address, ETHER).await;
    dependencies.registry.send(account(OWNER), addRegistrarCall { account: address }).await;
    let stack = dependencies.start(settings.set("REGISTRAR_KEYSTORE_PASSWORD_FILE", password.display())).await;
    let confirmed = stack.client.confirm(1, CASE).await;
    assert_eq!(confirmed.transaction.unwrap().from_address, address.to_string());
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
    let log = stack.service.output().join("\n");
    assert!(!log.contains("every user of this machine"), "{log}");
}

#[tokio::test]
async fn keystores_of_other_programs_are_read_and_sign() {
    for name in FOREIGN {
        let uri = format!("keystore:{}", foreign(name).display());
        let shown = run(&["signer", "address", &uri], &[("REGISTRAR_KEYSTORE_PASSWORD", PASSWORD)]).await;
        assert_eq!((shown.code, shown.stdout.trim()), (0, &*account(2).to_string()), "{name}: {shown:?}");
    }
    let uris = format!("keystore:{}", foreign(FOREIGN[0]).display());
    let builder = StackBuilder::on_demand().signers(2).set("REGISTRAR_SIGNER_KEYS", "").set("REGISTRAR_SIGNERS", uris);
    let stack = builder.set("REGISTRAR_KEYSTORE_PASSWORD", PASSWORD).start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    assert_eq!(confirmed.transaction.unwrap().from_address, account(2).to_string());
}

#[tokio::test]
async fn a_wrong_password_or_file_is_named_and_ends_the_start() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        format!("keystore:{}", path.display())
    };
    let right = format!("keystore:{}", foreign("cast.json").display());
    let missing = format!("keystore:{}", directory.path().join("none.json").display());
    let (_dependencies, settings) = StackBuilder::on_demand().set("REGISTRAR_SIGNER_KEYS", "").prepare().await;
    for (uris, password, problem) in [
        (right.clone(), "wrong horse", "cast.json has another password than REGISTRAR_KEYSTORE_PASSWORD"),
        (right.clone(), "", "a keystore needs its password"),
        (missing, PASSWORD, "none.json cannot be read (entity not found)"),
        (file("empty.json", "{}"), PASSWORD, "empty.json is not a keystore"),
        (file("key.json", crate::harness::anvil::KEYS[3]), PASSWORD, "key.json is not a keystore"),
        (format!("{right},{right}"), PASSWORD, "is the same account as keystore"),
        ("keystore:".to_owned(), PASSWORD, "REGISTRAR_SIGNERS: entry 1 has no path"),
        (crate::harness::anvil::KEYS[3].to_owned(), PASSWORD, "REGISTRAR_SIGNERS: entry 1 is not a signer"),
        (
            "aws-kms:arn:aws:kms:eu-central-1:111122223333:alias/a".to_owned(),
            PASSWORD,
            "names a key of AWS KMS by an alias",
        ),
    ] {
        let settings = settings.clone().set("REGISTRAR_SIGNERS", &uris).set("REGISTRAR_KEYSTORE_PASSWORD", password);
        let failed = Service::expect_start_failure(&settings).await;
        assert_eq!(failed.code, 64, "{}", failed.output);
        assert!(failed.output.contains(problem), "{problem} is missing in {}", failed.output);
        assert!(
            !failed.output.contains("wrong horse") && !failed.output.contains(&crate::harness::anvil::KEYS[3][2..])
        );
    }
}

#[tokio::test]
async fn a_keystore_that_others_can_read_is_warned_about() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.json");
    fs::copy(foreign("cast.json"), &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let builder = StackBuilder::on_demand().signers(2).set("REGISTRAR_SIGNER_KEYS", "");
    let builder = builder.set("REGISTRAR_SIGNERS", format!("keystore:{}", path.display()));
    let mut stack = builder.set("REGISTRAR_KEYSTORE_PASSWORD", PASSWORD).start().await;
    let expected = format!("REGISTRAR_SIGNERS (keystore:{})", path.display());
    stack.service.wait_for_log("a warning", |line| line["variable"] == expected.as_str()).await;
}

#[tokio::test]
async fn addresses_of_all_signers_are_shown_without_their_secrets() {
    let remote = crate::harness::remote_signer::RemoteSigner::start(1);
    let uris = format!("keystore:{},{}", foreign("cast.json").display(), remote.uri());
    let variables = [
        ("REGISTRAR_SIGNER_KEYS", crate::harness::anvil::KEYS[3]),
        ("REGISTRAR_SIGNERS", &uris),
        ("REGISTRAR_KEYSTORE_PASSWORD", PASSWORD),
    ];
    let shown = run(&["signer", "address", "--json"], &variables).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    let addresses: Vec<_> = shown.json().iter().map(|line| line["address"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses, [account(3), account(2), account(1)].map(|address| address.to_string()));
    assert!(shown.json()[2]["signer"].as_str().unwrap().starts_with("web3signer at 127.0.0.1"), "{shown:?}");
    assert!(!shown.stdout.contains(&crate::harness::anvil::KEYS[3][2..]), "{shown:?}");
    let failed = run(&["signer", "address"], &[]).await;
    assert!(failed.code == 64 && failed.stderr.contains("REGISTRAR_SIGNERS"), "{failed:?}");
}

/// Runs a command of the contract's owner with these keys.
async fn as_owner(registry: &Registry, url: &str, keys: &str, arguments: &[&str]) -> crate::harness::cli::Run {
    let contract = registry.address.to_string();
    let variables = [
        ("REGISTRAR_RPC_URLS", url),
        ("REGISTRAR_CHAIN_ID", "31337"),
        ("REGISTRAR_CONTRACT_ADDRESS", &contract),
        ("REGISTRAR_SIGNER_KEYS", keys),
    ];
    run(arguments, &variables).await
}

#[tokio::test]
async fn the_owner_allows_and_revokes_accounts_and_a_blocked_signer_continues() {
    let stack = StackBuilder::on_demand().start().await;
    let (signer, owner) = (account(1).to_string(), crate::harness::anvil::KEYS[OWNER]);
    let act =
        async |keys: &str, arguments: &[&str]| as_owner(&stack.registry, stack.anvil.url(), keys, arguments).await;
    let revoked = act(owner, &["revoke", &signer]).await;
    assert!(revoked.code == 0 && revoked.stdout.contains("may not register (transaction 0x"), "{revoked:?}");
    let again = act(owner, &["revoke", &signer, "--json"]).await.object();
    assert_eq!((&again["allowed"], &again["changed"]), (&false.into(), &false.into()), "{again}");
    let id = stack.client.accept(1, CASE).await.id;
    let reason = "SIGNER_NOT_ALLOWED";
    stack.client.wait_until(&id, reason, |registration| registration.blocked_reason == reason).await;

    let outsider = act(crate::harness::anvil::KEYS[5], &["allow", &signer]).await;
    assert_eq!(outsider.code, 64, "{outsider:?}");
    assert!(outsider.stderr.contains(&format!("only its owner {} may change", account(OWNER))), "{outsider:?}");
    let allowed = act(owner, &["allow", &signer, "--json"]).await.object();
    assert_eq!((&allowed["allowed"], &allowed["changed"]), (&true.into(), &true.into()), "{allowed}");
    let hash = allowed["transactionHash"].as_str().unwrap().parse().unwrap();
    assert!(stack.registry.receipt(hash).await.status());
    stack.client.wait_for_state(&id, crate::harness::State::Confirmed).await;
}

#[tokio::test]
async fn the_contract_is_handed_over_in_two_steps_or_in_one_command_with_both_keys() {
    use crate::harness::{
        anvil::KEYS,
        registry::{ownerCall, pendingOwnerCall},
    };
    let (dependencies, _) = StackBuilder::on_demand().prepare().await;
    let registry = &dependencies.registry;
    let act =
        async |keys: &str, arguments: &[&str]| as_owner(registry, dependencies.anvil.url(), keys, arguments).await;
    let new = account(4).to_string();
    let shown = act("", &["owner"]).await;
    assert_eq!((shown.code, shown.stdout.trim()), (0, &*format!("owner {}", account(OWNER))), "{shown:?}");

    let offered = act(KEYS[OWNER], &["owner", &new]).await;
    assert!(offered.code == 0 && offered.stdout.contains(&format!("offered to {new}")), "{offered:?}");
    assert_eq!(registry.read(ownerCall {}).await, account(OWNER));
    assert_eq!(registry.read(pendingOwnerCall {}).await, account(4));
    let outsider = act(KEYS[5], &["owner", &account(5).to_string()]).await;
    assert_eq!(outsider.code, 64, "{outsider:?}");
    let accepted = act(KEYS[4], &["owner", &new, "--json"]).await.object();
    assert_eq!((accepted["owner"].as_str(), accepted["pendingOwner"].is_null()), (Some(&*new), true), "{accepted}");
    assert_eq!(registry.read(ownerCall {}).await, account(4));

    let both = [KEYS[4], KEYS[OWNER]].join(",");
    let back = act(&both, &["owner", &account(OWNER).to_string(), "--json"]).await.object();
    assert_eq!(back["transactionHashes"].as_array().map(Vec::len), Some(2), "{back}");
    assert_eq!(registry.read(ownerCall {}).await, account(OWNER));
    let nothing = act(&both, &["owner", &account(OWNER).to_string(), "--json"]).await.object();
    assert_eq!(nothing["transactionHashes"].as_array().map(Vec::len), Some(0), "{nothing}");
}

#[tokio::test]
async fn commands_name_what_is_wrong_with_their_settings() {
    for (arguments, variables, problem) in [
        (vec!["signer", "new", "--keystore", "/tmp/never"], vec![], "a keystore needs its password"),
        (vec!["allow", "0x12"], vec![], "40 hex digits"),
        (
            vec!["allow", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"],
            vec![],
            "REGISTRAR_CONTRACT_ADDRESS: is required",
        ),
        (vec!["owner"], vec![("REGISTRAR_CONTRACT_ADDRESS", "0x12")], "REGISTRAR_CONTRACT_ADDRESS"),
        (vec!["signer", "address", "vault:x"], vec![], "is not a signer; use keystore:/path/to/file.json"),
    ] {
        let failed = run(&arguments, &variables).await;
        assert_eq!(failed.code, 64, "{failed:?}");
        assert!(failed.stderr.contains(problem), "{problem}: {failed:?}");
    }
}
