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

Exit codes: 0 done; 1 failed; 64 invalid arguments or settings; 69 server not
reachable, nothing accepted; 75 accepted but not finished, processing continues;
130 interrupted.";

/// Settings that `serve` and `deploy` share. A macro, because `concat!` takes only literals.
macro_rules! secrets_help {
    () => {
        "\
Secrets are never arguments. Each comes from its variable, or from the file that
the variable with _FILE names, for example REGISTRAR_SIGNER_KEYS_FILE:
  REGISTRAR_SIGNER_KEYS   required: private keys that sign and pay, separated by
                          commas; each account needs some ETH
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

pub(super) const DEPLOY: &str = concat!(
    secrets_help!(),
    "
Prints only the address on standard output. The database is not used.

Example:
  export REGISTRAR_SIGNER_KEYS_FILE=/run/secrets/signer-keys
  export REGISTRAR_CONTRACT_ADDRESS=$(registrar deploy)"
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

Exit codes: 0 reached the level of --wait-for; 1 failed; 64 invalid arguments;
69 server not reachable, nothing accepted; 75 accepted but not finished.";

pub(super) const STATUS: &str = "\
Examples:
  registrar status 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11
  registrar status contract.pdf                  every case of this document
  registrar status contract.pdf --case CASE-1 --json";

pub(super) const WATCH: &str = "\
With --json, prints one registration per line and change.

Exit codes: 0 reached the level of --until; 1 failed; 75 the stream ended early.

Example:
  registrar watch 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11 --until finalized";

pub(super) const LIST: &str = "\
With --json, prints one registration per line. If there are more, standard error
has the token for the next page.

Examples:
  registrar list --state queued,submitted
  registrar list --case CASE-1 --limit 10 --json
  registrar list --hash contract.pdf";

pub(super) const EXPLAIN: &str = "\
Names one of sixteen causes, what the service does about it and what you can do,
with the evidence. All causes are listed in docs/reference/causes.md.

Example:
  registrar explain 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11";

pub(super) const VERIFY: &str = "\
Exit codes: 0 registered on chain; 1 not registered, or the server cannot reach
the chain; 69 server not reachable.

Example:
  registrar verify contract.pdf --case CASE-1";
