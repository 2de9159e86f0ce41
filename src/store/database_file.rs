//! The file of an SQLite database: who may serve it, and whether it is still the one that was opened.
//!
//! SQLite still reads and writes a file whose name is gone, and does not notice what another program writes into
//! it: its pages are cached. So nothing is acknowledged before the file has been looked at: at each commit its name
//! must lead to it (device and inode), its header must be SQLite's, and its size and time must be those after our last
//! commit. If they are not, as after a checkpoint by a backup program, the content is compared through a new
//! connection, which caches nothing.

use super::{
    OpenError,
    file_problem::{FileProblem, FileProblemKind},
};
use crate::{registration::Timestamp, telemetry::events};
use parking_lot::Mutex;
use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

/// For the database and its lock; SQLite gives its log the mode of the database.
const PRIVATE_MODE: u32 = 0o600;
const READ_BY_OTHERS: u32 = 0o004;
/// <https://www.sqlite.org/fileformat.html#the_database_header>
const HEADER_LENGTH: usize = 100;
const HEADER_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Locked until dropped, or until the process ends in any way.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    /// Absolute, without symbolic links.
    path: PathBuf,
    /// Kept open as long as SQLite has it open: closing any descriptor of a file frees all of a process's POSIX locks
    /// on it, those of SQLite too (<https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>).
    file: File,
    /// Beside the database. Earlier releases take this lock only.
    _lock: File,
    log_path: PathBuf,
    /// Once SQLite has created it. It stays the same file as long as a connection is open.
    log: OnceLock<File>,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// After our latest commit.
    stamp: Option<FileStamp>,
    /// What the latest write probe wrote.
    latest_probe: Option<Timestamp>,
    /// Once the content is wrong, it stays so until the next start.
    damage: Option<FileProblem>,
}

/// Changes with each write. Only commits of this process write, checkpoints included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    log_length: u64,
}

impl FileStamp {
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

impl DatabaseFile {
    /// Opens the file, creates it when absent, and locks it, so that no other process serves it by any name.
    pub(super) fn lock(named: &Path) -> Result<Self, OpenError> {
        let not_writable = |error: io::Error| OpenError::NotWritable { path: named.to_owned(), kind: error.kind() };
        // Checked first, so that no lock is created beside a read-only database.
        if named.metadata().is_ok_and(|existing| existing.permissions().readonly()) {
            return Err(not_writable(ErrorKind::PermissionDenied.into()));
        }
        let file = open_private(named).map_err(not_writable)?;
        let path = named.canonicalize().map_err(not_writable)?;
        // By the file itself for hard links, and by a file beside it for processes of earlier releases.
        try_lock(&file, named)?;
        let lock = open_private(&with_suffix(&path, ".lock")).map_err(not_writable)?;
        try_lock(&lock, named)?;
        let metadata = file.metadata().map_err(not_writable)?;
        if metadata.nlink() > 1 {
            return Err(OpenError::HardLinks { path, links: metadata.nlink() });
        }
        if metadata.mode() & READ_BY_OTHERS != 0 {
            events::exposed_database(&path);
        }
        let log_path = with_suffix(&path, "-wal");
        Ok(Self { path, file, _lock: lock, log_path, log: OnceLock::new(), state: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called when SQLite has opened its log.
    pub(super) fn log_opened(&self) -> Result<(), FileProblem> {
        let log = File::open(&self.log_path).map_err(|error| FileProblem::of(&self.log_path, &error))?;
        self.log.get_or_init(|| log);
        Ok(())
    }

    /// Bytes in the write-ahead log.
    pub(super) fn log_length(&self) -> u64 {
        self.log.get().and_then(|log| log.metadata().ok()).map_or(0, |log| log.len())
    }

    /// Whether the paths still lead to this file and its log, and its content was right when it was last looked at.
    pub(super) fn check_present(&self) -> Result<(), FileProblem> {
        if let Some(damage) = &self.state.lock().damage {
            return Err(damage.clone());
        }
        check_name(&self.file, &self.path)?;
        let Some(log) = self.log.get() else { return Ok(()) };
        check_name(log, &self.log_path)?;
        // Before a new connection is opened: SQLite deletes the log of an empty file.
        let header = self.header().map_err(|error| FileProblem::of(&self.path, &error))?;
        magic_problem(&header).map_or(Ok(()), |kind| Err(self.latch(kind)))
    }

    /// `Some` if the file was written to since our last commit: then its content has to be verified. Only for the
    /// holder of the writer connection.
    pub(super) fn check_unchanged(&self) -> Result<Option<FileStamp>, FileProblem> {
        self.check_present()?;
        let stamp = self.stamp()?;
        Ok((self.state.lock().stamp != Some(stamp)).then_some(stamp))
    }

    pub(super) fn check_header(&self) -> Result<(), FileProblemKind> {
        let header = self.header().map_err(|error| FileProblemKind::of(&error))?;
        let length = self.file.metadata().map_err(|error| FileProblemKind::of(&error))?.len();
        magic_problem(&header).or_else(|| length_problem(&header, length)).map_or(Ok(()), Err)
    }

    /// Shorter than a header if the file is.
    fn header(&self) -> io::Result<Vec<u8>> {
        let mut header = vec![0; HEADER_LENGTH];
        let read = self.file.read_at(&mut header, 0)?;
        header.truncate(read);
        Ok(header)
    }

    /// To be called after a commit, before anything else is written.
    pub(super) fn written(&self) {
        let stamp = self.stamp().ok();
        self.state.lock().stamp = stamp;
    }

    /// The content of the file as of this stamp is right.
    pub(super) fn verified(&self, stamp: FileStamp) {
        self.state.lock().stamp = Some(stamp);
    }

    pub(super) fn probed(&self, at: Timestamp) {
        self.state.lock().latest_probe = Some(at);
    }

    pub(super) fn latest_probe(&self) -> Option<Timestamp> {
        self.state.lock().latest_probe
    }

    /// Records that the content is wrong.
    pub(super) fn latch(&self, kind: FileProblemKind) -> FileProblem {
        self.state.lock().damage.get_or_insert_with(|| FileProblem::new(&self.path, kind)).clone()
    }

    fn stamp(&self) -> Result<FileStamp, FileProblem> {
        let file = self.file.metadata().map_err(|error| FileProblem::of(&self.path, &error))?;
        Ok(FileStamp { length: file.len(), modified: file.modified().ok(), log_length: self.log_length() })
    }
}

/// By device and inode: whether the path leads to the open file.
fn check_name(file: &File, path: &Path) -> Result<(), FileProblem> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let metadata = file.metadata().and_then(|open| Ok((identity(open), identity(fs::metadata(path)?))));
    match metadata {
        Ok((open, named)) if open == named => Ok(()),
        Ok(_) => Err(FileProblem::new(path, FileProblemKind::Replaced)),
        Err(error) => Err(FileProblem::of(path, &error)),
    }
}

fn magic_problem(header: &[u8]) -> Option<FileProblemKind> {
    if header.len() < HEADER_LENGTH {
        return Some(FileProblemKind::Truncated);
    }
    (!header.starts_with(HEADER_MAGIC)).then_some(FileProblemKind::Overwritten)
}

/// The header counts the pages of the file.
fn length_problem(header: &[u8], length: u64) -> Option<FileProblemKind> {
    let number = |at: usize, bytes: usize| {
        header[at..at + bytes].iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
    };
    // 65,536 is stored as 1.
    let page_size = if number(16, 2) == 1 { 65_536 } else { number(16, 2) };
    (length < number(28, 4) * page_size).then_some(FileProblemKind::Truncated)
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE_MODE).open(path)
}

fn try_lock(file: &File, named: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(named.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::NotWritable { path: named.to_owned(), kind: error.kind() }),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_shows_what_happened_to_its_file() {
        let header = |page_size: [u8; 2], pages: u32| {
            let mut header = [0; HEADER_LENGTH];
            header[..16].copy_from_slice(HEADER_MAGIC);
            header[16..18].copy_from_slice(&page_size);
            header[28..32].copy_from_slice(&pages.to_be_bytes());
            header
        };
        assert_eq!(magic_problem(&header([16, 0], 3)), None);
        assert_eq!(magic_problem(&header([16, 0], 3)[..99]), Some(FileProblemKind::Truncated));
        assert_eq!(magic_problem(&[]), Some(FileProblemKind::Truncated));
        assert_eq!(magic_problem(&[0; HEADER_LENGTH]), Some(FileProblemKind::Overwritten));
        for (page_size, pages, length, problem) in [
            ([16, 0], 3, 12_288, None),
            ([16, 0], 3, 16_384, None),
            ([16, 0], 3, 12_287, Some(FileProblemKind::Truncated)),
            ([0, 1], 2, 131_072, None),
            ([0, 1], 2, 131_071, Some(FileProblemKind::Truncated)),
        ] {
            assert_eq!(length_problem(&header(page_size, pages), length), problem, "{page_size:?} {pages} {length}");
        }
    }
}
