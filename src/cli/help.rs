//! Help texts below the options, examples first. At most 80 columns, where clap wraps.

pub(super) const TOP: &str = "\
Start here:
  registrar dev --once contract.pdf               try it on this machine: needs
                                                  no account, key or network
  registrar dev                                   keep the same stack running
                                                  for your own calls
  registrar register contract.pdf --case CASE-1   register the file's hash and
                                                  wait until it is confirmed
  registrar verify contract.pdf --case CASE-1     look it up on the chain

Only the sha2-256 of the document and the case id are sent, never the file.
Registering the same pair again is safe: it returns the same registration.

A server with https:// and REGISTRAR_TOKEN (or REGISTRAR_TOKEN_FILE), the token
by which it knows the caller, are set once in the environment.

Exit codes: 0 done; 1 failed; 64 invalid arguments or settings; 69 server not
reachable, nothing accepted; 75 accepted but not finished, processing continues;
130 interrupted.";

/// Settings that `serve` and `deploy` share. A macro, because `concat!` takes only literals.
macro_rules! secrets_help {
    () => {
        "\
Secrets are never arguments. Each comes from its variable, or from the file that
the variable with _FILE names, for example REGISTRAR_SIGNER_KEYS_FILE:
  REGISTRAR_SIGNER_KEYS   private keys that sign and pay, separated by commas;
                          each account needs some ETH. Required, unless
                          REGISTRAR_SIGNERS is set
  REGISTRAR_SIGNERS       signers whose keys are elsewhere, separated by commas:
                          keystore:/path/to/file.json,
                          web3signer:https://host:port/#0xADDRESS or
                          aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID
                          [default: none]
  REGISTRAR_KEYSTORE_PASSWORD
                          of every keystore
  REGISTRAR_RPC_URLS      JSON-RPC endpoints in order of preference,
                          separated by commas
                          [default: BASE_SEPOLIA_RPC_PRIMARY, _BACKUP_1 and
                          _BACKUP_2, else https://sepolia.base.org]
  REGISTRAR_DATABASE_URL  sqlite://FILE, created when absent; or
                          postgres://USER:PASSWORD@HOST/DATABASE, which several
                          replicas may share (in its schema `registrar`)
                          [default: sqlite://registrar.db]
"
    };
}

pub(super) const SERVE: &str = concat!(
    secrets_help!(),
    // Not after `\`, which would remove the indentation.
    "  SENTRY_DSN              Sentry project for errors and kept traces
                          [default: none]
  REGISTRAR_USER_ID_SALT  if set, user ids are exported as a keyed hash
                          [default: none]

Every option can also be set by the variable beside it. All invalid settings are
reported at once, with exit code 64, before a port is opened. SIGTERM or Ctrl-C
shuts down gracefully; a second one exits immediately (130).

Example:
  export REGISTRAR_SIGNER_KEYS_FILE=/run/secrets/signer-keys
  export REGISTRAR_RPC_URLS=https://rpc.example/KEY
  export REGISTRAR_CONTRACT_ADDRESS=$(registrar deploy)
  registrar serve"
);

pub(super) const HEALTHCHECK: &str = "\
The same question as HTTP GET /readyz: ready means that the database can be
written, so that registrations are accepted. It is answered within 5 seconds.

Exit codes: 0 ready; 1 not ready; 64 invalid arguments or settings; 69 the
service does not answer.

In a Dockerfile:
  HEALTHCHECK CMD [\"/usr/local/bin/registrar\", \"healthcheck\"]";

pub(super) const TOKEN: &str = "\
The token is a secret of 256 random bits. The callers file of the server holds
its SHA-256 alone: who reads the file cannot call. The caller sends it as
`authorization: Bearer TOKEN`; the commands here take it from REGISTRAR_TOKEN or
REGISTRAR_TOKEN_FILE.

To replace a token: add the hash of a second one, wait 5 seconds, give the
caller the new token, then remove the hash of the old one.

Examples:
  registrar token new billing
  registrar token new billing --json | jq -r .token > /run/secrets/token";

pub(super) const DEPLOY: &str = concat!(
    secrets_help!(),
    "
Prints only the address on standard output. The database is not used.

Example:
  export REGISTRAR_SIGNER_KEYS_FILE=/run/secrets/signer-keys
  export REGISTRAR_CONTRACT_ADDRESS=$(registrar deploy)"
);

pub(super) const SIGNER_NEW: &str = "\
The password comes from REGISTRAR_KEYSTORE_PASSWORD, or from the file that
REGISTRAR_KEYSTORE_PASSWORD_FILE names. The file is encrypted (Web3 Secret
Storage, scrypt) and readable by you alone. Only its address is printed.

Example:
  export REGISTRAR_KEYSTORE_PASSWORD_FILE=/run/secrets/keystore-password
  registrar signer new --keystore /etc/registrar/signer.json";

pub(super) const SIGNER_ADDRESS: &str = "\
Reads REGISTRAR_SIGNER_KEYS and REGISTRAR_SIGNERS. Opens keystores and asks
remote signers, so that it also shows whether they are usable.

Examples:
  registrar signer address
  registrar signer address keystore:/etc/registrar/signer.json";

/// Of the commands that the contract's owner uses.
macro_rules! owner_help {
    () => {
        "\
The owner's key comes from REGISTRAR_SIGNERS or REGISTRAR_SIGNER_KEYS, as for
`registrar serve`. Do not use an account with which a service signs: both would
use the same nonces.
"
    };
}

pub(super) const ALLOW: &str = concat!(
    owner_help!(),
    "
Example:
  export REGISTRAR_SIGNERS=keystore:/secure/owner.json
  export REGISTRAR_KEYSTORE_PASSWORD_FILE=/secure/password
  export REGISTRAR_CONTRACT_ADDRESS=0x5FbDB2315678afecb367f032d93F642f64180aa3
  registrar allow 0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
);

pub(super) const REVOKE: &str = concat!(
    owner_help!(),
    "
Example:
  registrar revoke 0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
);

pub(super) const OWNER: &str = concat!(
    owner_help!(),
    "
Ownership moves in two steps: the owner offers it, the new owner accepts it. Run
the same command once with the key of each, or once with both.

Examples:
  registrar owner
  registrar owner 0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
);

pub(super) const DEV: &str = "\
Needs anvil, which `make demo` or `npm ci --prefix contracts` installs. Uses
REGISTRAR_ANVIL, else contracts/node_modules in the working directory or in a
parent of it, else `anvil` on the PATH.

Each run has a new chain, a database in a temporary directory, and signers whose
keys anvil publishes; your own keys, endpoints and database are not used. Only
warnings and errors are logged unless RUST_LOG is set. Ctrl-C stops everything
and deletes all data.

Every trace is kept, and exported if SENTRY_DSN or OTEL_EXPORTER_OTLP_ENDPOINT
is set. `make watch` runs this with Spotlight, a local Sentry.

Examples:
  registrar dev
  registrar dev --once contract.pdf --case CASE-1
  registrar dev --block-time 5 --listen 127.0.0.1:6000";

pub(super) const REGISTER: &str = "\
A file is hashed locally and only its hash is sent. A terminal shows each step;
at the end a waterfall shows how long each phase took. Ctrl-C stops waiting, not
the registration.

Examples:
  registrar register contract.pdf --case CASE-1
  registrar register contract.pdf --case CASE-1 --wait-for accepted
  registrar register $(sha256sum contract.pdf | cut -c-64) --case CASE-1
  registrar register contract.pdf --case CASE-1 --json | jq -r .transaction.hash

Many documents are sent in calls of up to 1,000, each accepted as a whole or not
at all. What is wrong with single files is named before anything is sent. If the
command ends early, run it again: what is registered already is found, and the
others follow. --wait-timeout is the time for all; without it, the command ends
when no document has advanced for the server's maximum. With --json, each line
is a registration and the `name` of its file.

  registrar register *.pdf --case CASE-1
  registrar register -r archive/ --case-from folder --wait-for accepted
  sha256sum *.pdf | registrar register --from - --case CASE-1
  pg_dump db | registrar register - --case BACKUP-1

Exit codes: 0 all reached the level of --wait-for; 1 one or more failed; 64
invalid arguments; 69 server not reachable, nothing accepted; 75 accepted but
not finished.";

pub(super) const STATUS: &str = "\
Examples:
  registrar status 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11
  registrar status contract.pdf                  every case of this document
  registrar status contract.pdf --case CASE-1 --json";

pub(super) const WATCH: &str = "\
A document that is registered for several cases needs --case.

With --json, prints one registration per line and change.

Exit codes: 0 reached the level of --until; 1 failed; 75 the stream ended early.

Example:
  registrar watch 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11 --until finalized
  registrar watch contract.pdf --case CASE-1";

pub(super) const LIST: &str = "\
With --json, prints one registration per line. If there are more, standard error
has the token for the next page.

Examples:
  registrar list --state queued,submitted
  registrar list --case CASE-1 --limit 10 --json
  registrar list --hash contract.pdf
  registrar list --user user-7 --since 2h --wide
  registrar list --blocked INSUFFICIENT_FUNDS,FEE_CAP --oldest
  registrar list --since 2026-11-01 --until 2026-12-01 --limit 100000 --json";

pub(super) const CHANGES: &str = "\
Prints one line a change, the oldest first: when, which state, id, case and
document. Of a registration that changed several times you see the latest state.
At the end standard error has the cursor from which the next run continues; it
never expires. Without --from and --from-beginning there is nothing to print but
that cursor.

With --json, prints one object a line: {\"cursor\":…,\"registration\":{…}}. Store
the cursor with what you made of the line, and nothing is missed.

Examples:
  registrar changes --follow
  registrar changes --from-beginning --state failed
  registrar changes --from CURSOR --follow --json >> changes.jsonl

Exit codes: 0 printed everything, or ended by Ctrl-C; 1 failed; 64 invalid
arguments, or a cursor of another database; 69 server not reachable.";

pub(super) const EXPLAIN: &str = "\
Names one of sixteen causes, what the service does about it and what you can do,
with the evidence. All causes are listed in docs/reference/causes.md.

Examples:
  registrar explain 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11
  registrar explain contract.pdf --case CASE-1";

pub(super) const VERIFY: &str = "\
Exit codes: 0 registered on chain; 1 not registered; 64 invalid arguments; 69 no
answer: the server is not reachable, refuses the call or cannot reach the chain.

Example:
  registrar verify contract.pdf --case CASE-1

With --certificate no server is asked. Checked are: the document's sha2-256, the
hash of the block's header, the proof of the contract's account in the state of
that block, and the proof of the record in the contract's storage. What remains
is whether that block is on the chain. Compare its hash with a block explorer,
or with a node of your own, and give it with --block-hash; or let --rpc ask a
node that you trust.

Exit codes with --certificate: 0 valid; 1 invalid; 64 invalid arguments; 75
valid, but its block hash was not compared with the chain.

Examples:
  registrar verify --certificate contract.json --document contract.pdf
  registrar verify --certificate contract.json --document contract.pdf \\
      --block-hash 0x6d1f0c7a...
  registrar verify --certificate contract.json --rpc https://sepolia.base.org";

pub(super) const CERTIFICATE: &str = "\
The file proves that the document was registered for the case, when, and by
which account, to anybody, for as long as they can learn the hash of its block.
Neither this service nor its database is needed. Keep it with the document.

A block of Base is final about 20 minutes after it was made. Before that the
command ends with exit code 75 and says when to try again; with --min-finality
unsafe the file is made at once, and proves nothing if a reorg removes its
block. A pair that another service registered needs --case.

Exit codes: 0 written; 1 not registered, or refused; 64 invalid arguments; 69 no
answer: the server is not reachable or cannot make it now; 75 not final yet.

Examples:
  registrar certificate 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11 -o contract.json
  registrar certificate contract.pdf --case CASE-1 -o contract.json
  registrar verify --certificate contract.json --document contract.pdf \\
      --rpc https://sepolia.base.org";

pub(super) const COMPLETIONS: &str = "\
Examples:
  registrar completions bash > /etc/bash_completion.d/registrar
  registrar completions zsh > \"${fpath[1]}/_registrar\"
  registrar completions fish > ~/.config/fish/completions/registrar.fish";

pub(super) const MAN: &str = "\
Examples:
  registrar man | man -l -
  registrar man register > /usr/local/share/man/man1/registrar-register.1";

/// Of commands that call a service, unless their help states others.
pub(super) const CLIENT_EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 64 invalid arguments; 69 server not reachable.";

/// Of the other commands.
pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 64 invalid arguments or settings; 130 interrupted.";
