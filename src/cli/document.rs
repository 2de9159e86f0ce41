//! A document on the command line: a file that is hashed locally, or a hash.

use crate::registration::{DocumentHash, DocumentHashError, GivenDocument};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Smaller files are hashed without noticeable delay.
const PROGRESS_BAR_MIN_BYTES: u64 = 64 << 20;
const READ_CHUNK_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) struct Document {
    /// What is sent: the hash or CID as given, or the file's hash in hex.
    pub submitted_as: String,
    /// sha2-256.
    pub hash: DocumentHash,
    /// The hashed file and its length in bytes.
    pub file: Option<(PathBuf, u64)>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("`{0}`: no such file, and not a valid hash: it {1}")]
    NotFileOrHash(String, DocumentHashError),
    #[error("`{0}` is a folder; name a file in it, or register all of them with -r")]
    IsDirectory(String),
    #[error("`{0}` cannot be read")]
    Unreadable(String, #[source] io::Error),
    /// A registration is public and permanent, and an empty file is almost always a failed export.
    #[error("{0} is empty (0 bytes); to register it nevertheless, use --allow-empty")]
    Empty(String),
}

#[derive(PartialEq, Eq, Debug)]
enum ArgumentKind {
    Hash(GivenDocument),
    File,
}

impl Document {
    pub(super) fn from_hash(GivenDocument { hash, text, .. }: GivenDocument) -> Self {
        Self { submitted_as: text, hash, file: None }
    }
}

/// As [`resolve`], for a document to register.
pub(super) async fn resolve_to_register(
    argument: &OsStr,
    progress: bool,
    allow_empty: bool,
) -> Result<Document, DocumentError> {
    let document = resolve(argument, progress).await?;
    match &document.file {
        Some((path, 0)) if !allow_empty => Err(DocumentError::Empty(format!("`{}`", path.to_string_lossy()))),
        Some(_) | None => Ok(document),
    }
}

/// Hashes standard input until its end.
pub(super) async fn of_standard_input(allow_empty: bool) -> Result<Document, DocumentError> {
    let hashed = tokio::task::spawn_blocking(|| hash_reader(io::stdin().lock(), &ProgressBar::hidden()));
    let name = || "standard input".to_owned();
    let hashed = hashed.await.unwrap_or_else(|join_error| Err(io::Error::other(join_error)));
    let (hash, length) = hashed.map_err(|error| DocumentError::Unreadable(name(), error))?;
    if length == 0 && !allow_empty {
        return Err(DocumentError::Empty(name()));
    }
    Ok(Document { submitted_as: hash.to_string(), hash, file: Some((PathBuf::from(name()), length)) })
}

/// Hashes a file, with a progress bar if it is large and `progress` allows.
pub(super) async fn resolve(argument: &OsStr, progress: bool) -> Result<Document, DocumentError> {
    let path = PathBuf::from(argument);
    let name = argument.to_string_lossy().into_owned();
    match classify_argument(&name, path.exists(), path.is_dir())? {
        ArgumentKind::Hash(given) => Ok(Document::from_hash(given)),
        ArgumentKind::File => {
            let file = path.clone();
            let (hash, length) = tokio::task::spawn_blocking(move || hash_file(&file, progress))
                .await
                .unwrap_or_else(|join_error| Err(io::Error::other(join_error)))
                .map_err(|error| DocumentError::Unreadable(name, error))?;
            Ok(Document { submitted_as: hash.to_string(), hash, file: Some((path, length)) })
        }
    }
}

/// An existing file takes precedence over a hash of the same name.
fn classify_argument(name: &str, exists: bool, directory: bool) -> Result<ArgumentKind, DocumentError> {
    match (exists, name.parse()) {
        (true, _) if directory => Err(DocumentError::IsDirectory(name.to_owned())),
        (true, _) => Ok(ArgumentKind::File),
        (false, Ok(hash)) => Ok(ArgumentKind::Hash(hash)),
        (false, Err(error)) => Err(DocumentError::NotFileOrHash(name.to_owned(), error)),
    }
}

fn hash_file(path: &Path, progress: bool) -> io::Result<(DocumentHash, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let bar = if progress && length > PROGRESS_BAR_MIN_BYTES { hashing_bar(length) } else { ProgressBar::hidden() };
    hash_reader(file, &bar)
}

fn hash_reader(mut input: impl Read, bar: &ProgressBar) -> io::Result<(DocumentHash, u64)> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; READ_CHUNK_BYTES];
    let mut read = 0;
    loop {
        let bytes = match input.read(&mut chunk) {
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
    fn a_file_takes_precedence_over_a_hash_of_that_name() {
        let given: GivenDocument = ABC.parse().unwrap();
        assert_eq!(classify_argument(&format!("{ABC}\n"), false, false).unwrap(), ArgumentKind::Hash(given.clone()));
        assert_eq!(classify_argument(ABC, false, false).unwrap(), ArgumentKind::Hash(given));
        assert_eq!(classify_argument(ABC, true, false).unwrap(), ArgumentKind::File);
        assert_eq!(classify_argument("a.pdf", true, false).unwrap(), ArgumentKind::File);
        assert!(matches!(classify_argument(".", true, true), Err(DocumentError::IsDirectory(_))));
    }

    #[test]
    fn an_argument_that_is_neither_file_nor_hash_is_explained() {
        assert!(classify_argument("nope.pdf", false, false).unwrap_err().to_string().contains("no such file"));
        assert!(classify_argument(&ABC[1..], false, false).unwrap_err().to_string().contains("63 hex digits"));
    }

    #[tokio::test]
    async fn an_empty_file_is_not_registered_and_can_be_looked_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().as_os_str();
        let error = resolve_to_register(path, false, false).await.unwrap_err().to_string();
        assert!(error.contains("is empty (0 bytes)") && error.contains("--allow-empty"), "{error}");
        let allowed = resolve_to_register(path, false, true).await.unwrap();
        assert_eq!(allowed.hash, resolve(path, false).await.unwrap().hash);
        std::fs::write(path, "abc").unwrap();
        assert!(resolve_to_register(path, false, false).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_is_hashed_with_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let document = resolve(file.path().as_os_str(), false).await.unwrap();
        assert_eq!(document.submitted_as, format!("0x{ABC}"));
        assert_eq!(document.file.unwrap().1, 3);
    }
}
