//! Arguments of `registrar verify`, with a server and without one.

use super::connection_args::ConnectionArgs;
use crate::registration::CaseId;
use alloy::primitives::B256;
use clap::Args;
use std::{ffi::OsString, path::PathBuf};

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The document: a file, its sha2-256, or an IPFS CID with that digest
    #[arg(value_name = "FILE-OR-HASH", required_unless_present = "certificate")]
    pub document: Option<OsString>,
    /// Case id
    #[arg(long, value_name = "ID", required_unless_present = "certificate")]
    pub case: Option<CaseId>,
    #[command(flatten)]
    pub certificate: VerifyCertificateArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Without a server")]
pub struct VerifyCertificateArgs {
    /// Check this certificate, and ask no server
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The document that the certificate is to be about, as its file or hash
    #[arg(long = "document", value_name = "FILE-OR-HASH", requires = "certificate", conflicts_with = "document")]
    pub certified_document: Option<OsString>,
    /// The hash of the certificate's block, from a source that you trust
    #[arg(long, value_name = "HASH", requires = "certificate", value_parser = parse_block_hash)]
    pub block_hash: Option<B256>,
    /// Ask this node of the chain whether it has the certificate's block. A URL with a key is visible to other users of
    /// this machine
    #[arg(long, value_name = "URL", requires = "certificate", conflicts_with = "block_hash")]
    pub rpc: Option<String>,
}

fn parse_block_hash(text: &str) -> Result<B256, &'static str> {
    text.parse().map_err(|_| "is not the hash of a block: 64 hex digits, with or without 0x")
}
