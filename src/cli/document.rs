//! A document on the command line: a file that is hashed here, or a hash that is known already.

use crate::registration::{DocumentHash, DocumentHashError};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Below this, hashing takes no time that a person would notice.
const PROGRESS_BAR_MIN_BYTES: u64 = 64 << 20;
const READ_CHUNK_BYTES: usize = 1 << 20;

/// A document whose hash is known.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// What is sent: the hash as it was given, perhaps a CID, or the file's in hex.
    pub submitted_as: String,
    /// Its sha2-256.
    pub hash: DocumentHash,
    /// The file that was hashed, and its length in bytes.
    pub file: Option<(PathBuf, u64)>,
}

/// Why an argument is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// No such file, and no hash either.
    #[error("`{0}` is no file here, and as a hash it {1}")]
    NotFileOrHash(String, DocumentHashError),
    /// A directory.
    #[error("`{0}` is a directory: give one file")]
    IsDirectory(String),
    /// The file cannot be read.
    #[error("`{0}` cannot be read")]
    Unreadable(String, #[source] io::Error),
}

/// What the argument turned out to be.
#[derive(PartialEq, Eq, Debug)]
enum ArgumentKind {
    Hash(DocumentHash),
    File,
}

/// Reads the argument; a file is hashed, with a progress bar if it is large and `progress` allows.
pub(super) async fn resolve(argument: &OsStr, progress: bool) -> Result<Document, DocumentError> {
    let path = PathBuf::from(argument);
    let name = argument.to_string_lossy().into_owned();
    match classify_argument(&name, path.exists(), path.is_dir())? {
        ArgumentKind::Hash(hash) => Ok(Document { submitted_as: name, hash, file: None }),
        ArgumentKind::File => {
            let hashing = path.clone();
            let (hash, length) = tokio::task::spawn_blocking(move || hash_file(&hashing, progress))
                .await
                .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
                .map_err(|error| DocumentError::Unreadable(name, error))?;
            Ok(Document { submitted_as: hash.to_string(), hash, file: Some((path, length)) })
        }
    }
}

/// A file of that name wins: its content is what the name means to whoever typed it.
fn classify_argument(name: &str, exists: bool, directory: bool) -> Result<ArgumentKind, DocumentError> {
    match (exists, name.parse()) {
        (true, _) if directory => Err(DocumentError::IsDirectory(name.to_owned())),
        (true, _) => Ok(ArgumentKind::File),
        (false, Ok(hash)) => Ok(ArgumentKind::Hash(hash)),
        (false, Err(error)) => Err(DocumentError::NotFileOrHash(name.to_owned(), error)),
    }
}

fn hash_file(path: &Path, progress: bool) -> io::Result<(DocumentHash, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let bar = if progress && length > PROGRESS_BAR_MIN_BYTES { hashing_bar(length) } else { ProgressBar::hidden() };
    let mut digest = Sha256::new();
    let mut chunk = vec![0; READ_CHUNK_BYTES];
    let mut read = 0;
    loop {
        let bytes = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&chunk[..bytes]);
        read += bytes as u64;
        bar.inc(bytes as u64);
    }
    bar.finish_and_clear();
    let hash = DocumentHash::new(digest.finalize().into()).map_err(io::Error::other)?;
    Ok((hash, read))
}

fn hashing_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  hashing {wide_bar} {bytes}/{total_bytes} {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_wins_over_a_hash_of_that_name() {
        let hash: DocumentHash = ABC.parse().unwrap();
        assert_eq!(classify_argument(ABC, false, false).unwrap(), ArgumentKind::Hash(hash));
        assert_eq!(classify_argument(ABC, true, false).unwrap(), ArgumentKind::File);
        assert_eq!(classify_argument("a.pdf", true, false).unwrap(), ArgumentKind::File);
        assert!(matches!(classify_argument(".", true, true), Err(DocumentError::IsDirectory(_))));
    }

    #[test]
    fn what_is_neither_is_told_why() {
        assert!(classify_argument("nope.pdf", false, false).unwrap_err().to_string().contains("no file here"));
        assert!(classify_argument(&ABC[1..], false, false).unwrap_err().to_string().contains("63 hex digits"));
    }

    #[tokio::test]
    async fn a_file_is_hashed_as_sha256sum_does() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let document = resolve(file.path().as_os_str(), false).await.unwrap();
        assert_eq!(document.submitted_as, format!("0x{ABC}"));
        assert_eq!(document.file.unwrap().1, 3);
    }
}
