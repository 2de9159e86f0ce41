//! The database of a story: empty at its beginning, copied and put back when the story says so.

use crate::store::{self, Audit, Store};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tempfile::TempDir;

/// An empty database of this version, which is copied and not made anew for each story.
static EMPTY_DATABASE: OnceLock<Vec<u8>> = OnceLock::new();

pub(super) struct ScenarioDatabase {
    pub(super) store: store::Settings,
    pub(super) audit: Audit,
    backup: PathBuf,
    _folder: TempDir,
}

impl ScenarioDatabase {
    /// An empty database for so many replicas.
    pub(super) async fn new(replicas: u8) -> Result<Self, Box<dyn Error>> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
        let file = folder.path().join("registrar.db");
        match EMPTY_DATABASE.get() {
            Some(empty) => fs::write(&file, empty)?,
            None => {
                Store::open(&store::Settings::Sqlite(file.clone()), 1).await?.close().await;
                EMPTY_DATABASE.get_or_init(|| fs::read(&file).unwrap_or_default());
            }
        }
        let audit = Audit::open(&file).await?;
        let copy = folder.path().join("copy.db");
        fs::write(&copy, EMPTY_DATABASE.get().map_or(&[][..], Vec::as_slice))?;
        let store = if replicas > 1 { store::Settings::SharedFile(file) } else { store::Settings::Sqlite(file) };
        Ok(Self { store, audit, backup: copy, _folder: folder })
    }

    /// Copies it, in place of an earlier copy.
    pub(super) async fn take_backup(&self) -> Result<(), Box<dyn Error>> {
        fs::remove_file(&self.backup)?;
        Ok(self.audit.copy_to(&self.backup).await?)
    }

    /// Puts it back to the copy, or to how it began. Nobody may have it open.
    pub(super) async fn restore_backup(&self) -> Result<(), Box<dyn Error>> {
        Ok(self.audit.restore_from(&self.backup).await?)
    }
}
