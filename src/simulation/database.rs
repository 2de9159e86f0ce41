//! A scenario's database: empty at first, backed up and restored by events.

use crate::store::{self, Audit, Store};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tempfile::TempDir;

/// An empty database of the current schema, made once and copied for each scenario.
static EMPTY_DATABASE: OnceLock<Vec<u8>> = OnceLock::new();

pub(super) struct ScenarioDatabase {
    pub(super) store: store::Settings,
    pub(super) audit: Audit,
    backup: PathBuf,
    _folder: TempDir,
}

impl ScenarioDatabase {
    /// An empty database for `replicas` processes.
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
        let backup = folder.path().join("copy.db");
        fs::write(&backup, EMPTY_DATABASE.get().map_or(&[][..], Vec::as_slice))?;
        let store = if replicas > 1 { store::Settings::SharedFile(file) } else { store::Settings::Sqlite(file) };
        Ok(Self { store, audit, backup, _folder: folder })
    }

    /// Replaces the earlier backup.
    pub(super) async fn take_backup(&self) -> Result<(), Box<dyn Error>> {
        fs::remove_file(&self.backup)?;
        Ok(self.audit.copy_to(&self.backup).await?)
    }

    /// Restores the last backup, or the empty database. No process may have it open.
    pub(super) async fn restore_backup(&self) -> Result<(), Box<dyn Error>> {
        Ok(self.audit.restore_from(&self.backup).await?)
    }
}
