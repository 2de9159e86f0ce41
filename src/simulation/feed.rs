//! A client of the change feed: it reads from whichever replica answers, and ends with the latest revision of every
//! registration.

use crate::{
    pipeline::{ChangeStart, FeedError, PageSize, Registrar},
    registration::RegistrationId,
    store::{Audit, ChangeCursor},
};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct FeedClient {
    cursor: Option<ChangeCursor>,
    revisions: BTreeMap<RegistrationId, i64>,
    /// Whether a backup was restored since the cursor was read.
    may_be_foreign: bool,
}

impl FeedClient {
    pub(super) fn record_restore(&mut self) {
        self.may_be_foreign = true;
    }

    /// Reads what is new. A replica that crashes meanwhile is read from later.
    ///
    /// # Errors
    /// The broken promise.
    pub(super) async fn read(&mut self, registrar: &Registrar) -> Result<(), String> {
        let start = self.cursor.map_or(ChangeStart::Beginning, ChangeStart::After);
        let mut cursor = match registrar.change_start(start).await {
            Ok(cursor) => cursor,
            Err(FeedError::ForeignCursor) if self.may_be_foreign => {
                *self = Self::default();
                return Ok(());
            }
            Err(FeedError::ForeignCursor) => return Err("a cursor of this database is foreign".to_owned()),
            Err(FeedError::Store(_)) => return Ok(()),
        };
        while let Ok(page) = registrar.list_changes(&cursor, PageSize::Large).await {
            for change in page.changes {
                let (id, revision) = (change.registration.id, change.registration.revision);
                let seen = self.revisions.insert(id, revision);
                if seen >= Some(revision) {
                    return Err(format!("revision {revision} of {id} came after {seen:?}"));
                }
                let history = page.history.unwrap_or(cursor.history);
                cursor = ChangeCursor { history, position: change.position };
                self.cursor = Some(cursor);
                self.may_be_foreign = false;
            }
            if !page.is_full {
                break;
            }
        }
        Ok(())
    }

    /// A registration of which the latest revision was not read.
    pub(super) async fn find_unseen(&self, audit: &Audit) -> Result<Option<String>, String> {
        let rows = audit.registrations().await.map_err(|error| error.to_string())?;
        let unseen = rows.iter().find(|row| self.revisions.get(&row.id) != Some(&row.revision));
        Ok(unseen.map(|row| {
            format!("{} has revision {}, the feed said {:?}", row.id, row.revision, self.revisions.get(&row.id))
        }))
    }
}
