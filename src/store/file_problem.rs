//! What can be wrong with the file of an SQLite database that is in use.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Why nothing may be written to the file any more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{} {kind}; stop the service, restore the file or a backup without its -wal and -shm files, and start again",
    path.display()
)]
pub(super) struct FileProblem {
    path: PathBuf,
    kind: FileProblemKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum FileProblemKind {
    #[error("was deleted or moved while the service uses it")]
    Missing,
    #[error("was replaced by another file while the service uses it")]
    Replaced,
    #[error("cannot be examined ({0})")]
    Unreadable(ErrorKind),
    #[error("was truncated while the service uses it")]
    Truncated,
    #[error("was overwritten while the service uses it: it is no SQLite database any more")]
    Overwritten,
    #[error("was overwritten while the service uses it: it lacks what was written last, or its structure is damaged")]
    OtherContent,
    #[error("is damaged, as SQLite reports")]
    Corrupt,
}

impl FileProblem {
    pub(super) fn new(path: &Path, kind: FileProblemKind) -> Self {
        Self { path: path.to_owned(), kind }
    }

    pub(super) fn of(path: &Path, error: &io::Error) -> Self {
        Self::new(path, FileProblemKind::of(error))
    }
}

impl FileProblemKind {
    pub(super) fn of(error: &io::Error) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::NotFound { Self::Missing } else { Self::Unreadable(kind) }
    }
}

impl From<FileProblem> for sqlx::Error {
    fn from(problem: FileProblem) -> Self {
        Self::Io(io::Error::other(problem))
    }
}
