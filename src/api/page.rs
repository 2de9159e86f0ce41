//! A page of registrations, of those that its caller may see.

use super::{access::Access, decode::ListParams};
use crate::{
    pipeline::{Registrar, StoreError},
    registration::{Registration, RegistrationId},
};

/// For a caller that may see a few of very many registrations, a page ends here: it has fewer than were asked for, and
/// the next one continues.
const MAX_READ: usize = 10_000;
const CHUNK: u32 = 500;

pub(super) struct Page {
    /// In the order of the filter.
    pub(super) registrations: Vec<Registration>,
    /// The next page has what comes after this one; `None` on the last.
    pub(super) next: Option<RegistrationId>,
}

/// Reads about as many rows as the page has, if the caller may see all that match the filter.
pub(super) async fn read(registrar: &Registrar, params: &ListParams, access: &Access) -> Result<Page, StoreError> {
    let size = params.page_size as usize;
    let chunk = if access.sees_all_cases() { params.page_size + 1 } else { CHUNK.max(params.page_size + 1) };
    let (mut registrations, mut last, mut read) = (Vec::new(), params.after, 0);
    loop {
        let found = registrar.list(&params.filter, last, chunk).await?;
        read += found.len();
        let is_end = found.len() < chunk as usize;
        for registration in found {
            if registrations.len() == size {
                return Ok(Page { registrations, next: last });
            }
            last = Some(registration.id);
            if access.sees(&registration.request.pair.case_id) {
                registrations.push(registration);
            }
        }
        if is_end || read >= MAX_READ {
            return Ok(Page { registrations, next: last.filter(|_| !is_end) });
        }
    }
}
