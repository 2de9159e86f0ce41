//! What stands below the options: examples first, for somebody who sees this for the first time. At most 80 columns, for clap
//! breaks longer lines where the terminal ends.

pub(super) const TOP: &str = "\
Begin here:
  registrar dev --once contract.pdf               see it work on this machine:
                                                  no account, no key, no network
  registrar dev                                   keep it running, and call it
                                                  from another terminal
  registrar register contract.pdf --case CASE-1   put the file's hash on chain,
                                                  wait until it is confirmed
  registrar verify contract.pdf --case CASE-1     ask the chain for it

Only the document's sha2-256 and the case id leave this machine; the file never
does. The pair of both is the key: sending it again is safe.

Exit codes: 0 done; 1 failed; 64 wrong arguments or settings; 69 server not
reachable, nothing accepted; 75 accepted but not there yet: it goes on by
itself.";

/// The secrets of the service. A macro, because `concat!` takes literals alone.
macro_rules! secrets_help {
    () => {
        "\
Secrets are never arguments. They come from the environment, or from the file
that the same variable with _FILE names, as REGISTRAR_SIGNER_KEYS_FILE:
  REGISTRAR_SIGNER_KEYS   required: private keys that sign and pay, separated by
                          commas; each account needs some ETH
  REGISTRAR_RPC_URLS      the chain's JSON-RPC endpoints, separated by commas;
                          the first is preferred, the others stand in for it
                          [default: BASE_SEPOLIA_RPC_PRIMARY, _BACKUP_1 and
                          _BACKUP_2, else https://sepolia.base.org]
  REGISTRAR_DATABASE_URL  where accepted work is kept: sqlite://FILE, or
                          postgres://USER:PASSWORD@HOST/DATABASE, which several
                          replicas may share (in its schema `registrar`)
                          [default: sqlite://registrar.db, made when absent]
"
    };
}

pub(super) const SERVE: &str = concat!(
    secrets_help!(),
    "
  SENTRY_DSN              where errors and kept traces are reported to
                          [default: nowhere]
  REGISTRAR_USER_ID_SALT  with it, user ids are reported as a keyed hash
                          [default: as given]

Every option can come from the variable beside it. Everything that is wrong is
said at once, with exit code 64, before a port opens. SIGTERM or Ctrl-C drains;
a second one leaves at once (130).

Example:
  export REGISTRAR_SIGNER_KEYS_FILE=/run/secrets/signer-keys
  export REGISTRAR_RPC_URLS=https://rpc.example/KEY
  export REGISTRAR_CONTRACT_ADDRESS=$(registrar deploy)
  registrar serve"
);

pub(super) const DEPLOY: &str = concat!(
    secrets_help!(),
    "
Standard output is the address alone. The database is not used.

Example:
  export REGISTRAR_SIGNER_KEYS_FILE=/run/secrets/signer-keys
  export REGISTRAR_CONTRACT_ADDRESS=$(registrar deploy)"
);

pub(super) const DEV: &str = "\
Needs anvil: `make demo` or `npm ci --prefix contracts` installs it. It is
looked for in $REGISTRAR_ANVIL, in contracts/node_modules from here upward, on
the PATH.

The chain is a new one each time, the database lies in a temporary folder, and
the signers are accounts whose keys anvil publishes; your own keys, endpoints
and database are left alone. Log lines below `warn` are left out unless RUST_LOG
asks for them. Ctrl-C ends everything.

Every trace is kept, and goes where SENTRY_DSN or OTEL_EXPORTER_OTLP_ENDPOINT
say. `make watch` runs this with Spotlight, a local Sentry, to look at them.

Examples:
  registrar dev
  registrar dev --once contract.pdf --case CASE-1
  registrar dev --block-time 5 --listen 127.0.0.1:6000";

pub(super) const REGISTER: &str = "\
A file is hashed here, and only its hash is sent. On a terminal the stages are
shown as they pass, and at the end a waterfall says where the time went. Ctrl-C
ends the waiting, not the work.

Examples:
  registrar register contract.pdf --case CASE-1
  registrar register contract.pdf --case CASE-1 --wait-for accepted
  registrar register $(sha256sum contract.pdf | cut -c-64) --case CASE-1
  registrar register contract.pdf --case CASE-1 --json | jq -r .transaction.hash

Exit codes: 0 as far as asked; 1 failed; 64 wrong arguments; 69 server not
reachable, nothing accepted; 75 accepted but not there yet.";

pub(super) const STATUS: &str = "\
Examples:
  registrar status 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11
  registrar status contract.pdf                  every case of this document
  registrar status contract.pdf --case CASE-1 --json";

pub(super) const WATCH: &str = "\
With --json, one registration a line for each change. Exit codes: 0 there;
1 failed; 75 the stream ended before.

Example:
  registrar watch 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11 --until finalized";

pub(super) const LIST: &str = "\
With --json, one registration a line. When there are more, standard error says
how to go on.

Examples:
  registrar list --state queued,submitted
  registrar list --case CASE-1 --limit 10 --json
  registrar list --hash contract.pdf";

pub(super) const EXPLAIN: &str = "\
Names one of sixteen causes, says what the service does about it and what you
can do, and lists the numbers that prove it. The README has a table of them.

Example:
  registrar explain 0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11";

pub(super) const VERIFY: &str = "\
Exit codes: 0 registered on chain; 1 not registered, or the server cannot reach
the chain now; 69 server not reachable.

Example:
  registrar verify contract.pdf --case CASE-1";
