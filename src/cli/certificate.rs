//! `registrar certificate`, which gets a certificate from the service, and `registrar verify --certificate`, which needs
//! no service.

use super::{
    Exit,
    args::{CertificateArgs, VerifyCertificateArgs},
    client::Client,
    document::{self, Document},
    error::{CliError, CliResult},
    output::{Output, print, print_line},
    server::Server,
    summary::labelled_row,
    target::{self, Target},
    time,
};
use crate::{
    api::proto::{DocumentKey, Finality, GetCertificateRequest, get_certificate_request::Key},
    app::{self, BlockCheck},
    certificate::{Certificate, InvalidCertificate, MAX_BYTES, Proved},
};
use console::Color;
use prost_types::Timestamp;
use serde_json::{Value, json};
use std::{ffi::OsStr, fs::File, io::Read, path::Path};

/// Standard output instead of a file.
const STANDARD_OUTPUT: &str = "-";

pub(super) async fn fetch(args: CertificateArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    if let (Ok(document), Ok(file)) = (Path::new(&args.target.target).canonicalize(), args.output.canonicalize())
        && document == file
    {
        return Err(CliError::invalid_arguments("the certificate would replace the document; use another --output"));
    }
    let client = Client::connect(server).await?;
    let min_finality = Finality::from(args.min_finality).into();
    let key = Some(certificate_key(&args, &client, output).await?);
    let response = client.certificate(GetCertificateRequest { key, min_finality }).await?;
    let certificate =
        Certificate::parse(&response.certificate).and_then(|read| read.verify().map(|proved| (read, proved)));
    let (certificate, proved) = certificate.map_err(|invalid| {
        CliError::invalid_response(&format!("the server's certificate is not valid, and was not written: {invalid}"))
    })?;
    if args.output == Path::new(STANDARD_OUTPUT) {
        print(&certificate.to_text());
        return Ok(Exit::Done);
    }
    std::fs::write(&args.output, &response.certificate).map_err(|error| {
        CliError::invalid_arguments(format!("`{}` cannot be written: {error}", args.output.display()))
    })?;
    if output.json {
        let mut json = proved_json(&certificate, &proved);
        json["file"] = args.output.to_string_lossy().into();
        json["bytes"] = response.certificate.len().into();
        print_line(&json.to_string());
    } else {
        let file = args.output.display();
        let verify = output.invocation.local_command(&format!("verify --certificate {file} --rpc URL"));
        print_line(&format!(
            "{file}: {} bytes, at block {} ({}); check it with `{verify}`",
            response.certificate.len(),
            proved.block_number,
            certificate.block.finality
        ));
    }
    Ok(Exit::Done)
}

/// A document with its case may be registered by another server.
async fn certificate_key(args: &CertificateArgs, client: &Client, output: &Output) -> CliResult<Key> {
    let (resolved, case) = (Target::resolve(&args.target, output).await?, &args.target.case);
    Ok(match (resolved, case) {
        (Target::Id(id), _) => Key::Id(id.to_string()),
        (Target::Document(document), Some(case)) => {
            Key::Document(DocumentKey { document_hash: document.submitted_as, case_id: case.to_string() })
        }
        (Target::Document(_), None) => Key::Id(target::find_one(&args.target, client, output).await?.id),
    })
}

/// What is known of the block of a certificate.
enum Trust {
    /// And by whom.
    Vouched(String),
    /// And why.
    Unknown(String),
}

pub(super) async fn verify(
    document: Option<&OsStr>,
    case: Option<&str>,
    args: &VerifyCertificateArgs,
    output: &Output,
) -> CliResult<Exit> {
    let path = args.certificate.as_deref().unwrap_or_else(|| Path::new(""));
    let text = read(path)
        .map_err(|error| CliError::invalid_arguments(format!("`{}` cannot be read: {error}", path.display())))?;
    if let Some(url) = &args.rpc {
        app::node_name(url).map_err(|error| CliError::invalid_arguments(format!("--rpc {error}")))?;
    }
    let document = match document {
        Some(document) => Some(document::resolve(document, output.shows_progress).await?),
        None => None,
    };
    let verified = async {
        let certificate = Certificate::parse(&text)?;
        let proved = certificate.verify()?;
        if let Some(document) = &document {
            proved.check_document(document.hash.as_b256())?;
        }
        if let Some(case) = case {
            proved.check_case(case)?;
        }
        let trust = trust(args, &certificate, &proved).await?;
        Ok::<_, InvalidCertificate>((certificate, proved, trust))
    };
    Ok(match verified.await {
        Ok((certificate, proved, trust)) => {
            print_valid(&certificate, &proved, &trust, document.as_ref(), output);
            if matches!(trust, Trust::Vouched(_)) { Exit::Done } else { Exit::Unfinished }
        }
        Err(invalid) => {
            print_invalid(&invalid, output);
            Exit::Failed
        }
    })
}

/// A little more than a certificate may have, so that a larger file is found to be one.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

async fn trust(
    args: &VerifyCertificateArgs,
    certificate: &Certificate,
    proved: &Proved,
) -> Result<Trust, InvalidCertificate> {
    if let Some(trusted) = args.block_hash {
        proved.check_block_hash(trusted)?;
        return Ok(Trust::Vouched("you, with --block-hash".to_owned()));
    }
    let Some(url) = &args.rpc else {
        let how =
            "compare the hash with a source that you trust, and give it with --block-hash, or ask a node with --rpc";
        return Ok(Trust::Unknown(how.to_owned()));
    };
    let name = app::node_name(url).unwrap_or_default();
    let checked = app::check_block(url, certificate.chain.id, proved.block_number, proved.block_hash).await;
    Ok(match checked {
        Ok(BlockCheck::OnChain) => Trust::Vouched(format!("the node at {name}")),
        Ok(BlockCheck::Other(hash)) => {
            return Err(proved
                .check_block_hash(hash)
                .err()
                .unwrap_or(InvalidCertificate::OtherBlock { actual: proved.block_hash, expected: hash }));
        }
        Ok(BlockCheck::Unknown) => Trust::Unknown(format!("the node at {name} does not have the block")),
        Ok(BlockCheck::OtherChain(id)) => Trust::Unknown(format!(
            "the node at {name} is on chain {id}, and the certificate is of chain {}",
            certificate.chain.id
        )),
        Err(error) => Trust::Unknown(error.to_string()),
    })
}

fn print_valid(
    certificate: &Certificate,
    proved: &Proved,
    trust: &Trust,
    document: Option<&Document>,
    output: &Output,
) {
    if output.json {
        let mut json = proved_json(certificate, proved);
        json["documentCompared"] = document.is_some().into();
        let (vouched_by, problem) = match trust {
            Trust::Vouched(by) => (Value::from(by.as_str()), Value::Null),
            Trust::Unknown(why) => (Value::Null, Value::from(why.as_str())),
        };
        json["vouchedBy"] = vouched_by;
        json["problem"] = problem;
        print_line(&json.to_string());
        return;
    }
    let style = &output.stdout_style;
    let (color, head) = match trust {
        Trust::Vouched(_) => (Color::Green, "valid"),
        Trust::Unknown(_) => (Color::Yellow, "valid, if its block is on the chain, which was not checked"),
    };
    let mut text = format!("{}\n", style.clone().fg(color).apply_to(head));
    let mut add = |label, value: &str| text.push_str(&labelled_row(label, value, style));
    let compared = if document.is_some() { "" } else { " (no document was compared: use --document FILE)" };
    add("document", &format!("{}{compared}", proved.pair.document_hash));
    add("case", proved.pair.case_id.as_str());
    add("registrar", &proved.record.registrar.to_string());
    add("registered", &format!("in block {}, {}", proved.record.block_number, format_time(proved.record.time)));
    add("contract", &proved.contract.to_string());
    add("proved by", &format!("block {}, {}", proved.block_number, format_time(proved.block_time)));
    add("block hash", &proved.block_hash.to_string());
    match trust {
        Trust::Vouched(by) => add("vouched by", by),
        Trust::Unknown(why) => add("not checked", why),
    }
    let (chain, block) = (&certificate.chain, &certificate.block);
    add(
        "stated",
        &format!("chain {} ({}), {} at {}", chain.id, chain.name, block.finality, format_time(block.seen_at)),
    );
    if let Some(transaction) = certificate.transaction {
        add("transaction", &format!("{transaction} (stated)"));
    }
    print(&text);
}

fn print_invalid(invalid: &InvalidCertificate, output: &Output) {
    if output.json {
        print_line(&json!({ "valid": false, "problem": invalid.to_string() }).to_string());
    } else {
        let head = output.stdout_style.clone().red().apply_to("invalid certificate");
        print(&format!("{head}: {invalid}\n"));
    }
}

/// What is proved, and apart from it what the issuer states.
fn proved_json(certificate: &Certificate, proved: &Proved) -> Value {
    let (chain, block) = (&certificate.chain, &certificate.block);
    json!({
        "valid": true,
        "documentHash": proved.pair.document_hash.to_string(),
        "caseId": proved.pair.case_id.as_str(),
        "registrar": proved.record.registrar.to_string(),
        "blockNumber": proved.record.block_number,
        "blockTime": format_time(proved.record.time),
        "contractAddress": proved.contract.to_string(),
        "provedBy": {
            "blockNumber": proved.block_number,
            "blockHash": proved.block_hash.to_string(),
            "blockTime": format_time(proved.block_time),
        },
        "stated": {
            "chainId": chain.id,
            "network": chain.name,
            "finality": block.finality.code(),
            "seenBy": block.seen_by,
            "seenAt": format_time(block.seen_at),
            "transactionHash": certificate.transaction.map(|hash| hash.to_string()),
        },
    })
}

fn format_time(seconds: u64) -> String {
    time::format_timestamp(&Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 })
}
