//! The registration that a command is about: by its id, or by its document and case.

use super::{
    args::{self, TargetArgs},
    client::Client,
    document::{self, Document, DocumentError},
    error::{CliError, CliResult},
    invocation::Invocation,
    output::Output,
};
use crate::api::proto::{DocumentKey, ListRegistrationsRequest, Registration, get_registration_request::Key};
use uuid::Uuid;

/// For a file that is not registered.
pub(super) const OTHER_HASH_HINT: &str = "the sha2-256 of the file was looked up; a registration made with a CID of \
                                          `ipfs add` has another hash and is found by that CID alone";
/// Of the cases that an error names.
const MAX_NAMED_CASES: usize = 10;

/// What an argument names.
pub(super) enum Target {
    Id(Uuid),
    Document(Document),
}

impl Target {
    pub(super) async fn resolve(args: &TargetArgs, output: &Output) -> CliResult<Self> {
        if let Some(id) = args.target.to_str().and_then(|text| text.parse::<Uuid>().ok()) {
            return Ok(Self::Id(id));
        }
        match document::resolve(&args.target, output.shows_progress).await {
            Err(error @ DocumentError::NotFileOrHash(..)) => {
                Err(CliError::invalid_arguments(not_id_or_document(&error, &output.invocation)))
            }
            resolved => Ok(Self::Document(resolved?)),
        }
    }
}

/// The only registration that is meant.
///
/// # Errors
/// When there is none, or more than one.
pub(super) async fn find_one(args: &TargetArgs, client: &Client, output: &Output) -> CliResult<Registration> {
    let document = match Target::resolve(args, output).await? {
        Target::Id(id) => return client.get(Key::Id(id.to_string())).await,
        Target::Document(document) => document,
    };
    if let Some(case) = &args.case {
        return client.get(pair_key(&document, case.to_string())).await;
    }
    let mut found = find_all(&document, client, output).await?;
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            found.extend(last);
            let mut cases: Vec<_> = found.iter().map(|registration| registration.case_id.as_str()).collect();
            cases.truncate(MAX_NAMED_CASES);
            let more = if found.len() > cases.len() { " and more" } else { "" };
            let count = found.len();
            Err(CliError::invalid_arguments(format!(
                "{count} registrations match; choose one by its id, or with --case: {}{more}",
                cases.join(", ")
            )))
        }
    }
}

pub(super) fn pair_key(document: &Document, case_id: String) -> Key {
    Key::Document(DocumentKey { document_hash: document.submitted_as.clone(), case_id })
}

/// Every case of the document. A hash that is no document's may be that of a transaction, which carries many.
///
/// # Errors
/// When there is none.
pub(super) async fn find_all(document: &Document, client: &Client, output: &Output) -> CliResult<Vec<Registration>> {
    let of_document = ListRegistrationsRequest { document_hash: document.submitted_as.clone(), ..Default::default() };
    let found = list_all(of_document, client).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    if document.file.is_some() {
        return Err(not_registered(OTHER_HASH_HINT));
    }
    let of_transaction = ListRegistrationsRequest { transaction_hash: document.hash.to_string(), ..Default::default() };
    let found = list_all(of_transaction, client).await?;
    let list = output.invocation.server_command("list");
    if found.is_empty() {
        Err(not_registered(&format!("no transaction of the server has this hash either; `{list}` shows what there is")))
    } else {
        Ok(found)
    }
}

fn not_registered(hint: &str) -> Box<CliError> {
    CliError::not_found(&format!("this document is not registered for any case; {hint}"))
}

async fn list_all(mut request: ListRegistrationsRequest, client: &Client) -> CliResult<Vec<Registration>> {
    let mut found = Vec::new();
    loop {
        let page = client.list(request.clone()).await?;
        found.extend(page.registrations);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(found);
        }
    }
}

fn not_id_or_document(error: &DocumentError, invocation: &Invocation) -> String {
    format!("{error}; also not a {}", args::registration_id_description(invocation))
}
