//! The index: one row for each content, in a redb database on the store's [`Disk`].
//!
//! A commit that fails leaves it open whether it is on the disk. So the database is then opened anew, and the rows that
//! were concerned are written once more, as they are by then, with the next commit.

use std::{
    collections::BTreeSet,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use macula_wire::{Digest, Mcid};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction};

use super::{StoreError, record::Record};
use crate::disk::{Disk, File, Name};

/// Binary MCID to [`Record`].
const CONTENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("contents");
/// What is said of the index itself.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const VERSION_KEY: &str = "version";
const VERSION: u64 = 1;

/// All rows are in memory besides, and those that change are written: little is read twice.
const CACHE_BYTES: usize = 8 << 20;

pub(super) struct Index {
    disk: Arc<dyn Disk>,
    /// `None` after it failed: it is opened anew.
    database: Option<Database>,
    /// Whose row on the disk may be another than in memory.
    pub(super) unsure: BTreeSet<Digest>,
}

/// A row to write; without a record, to remove.
pub(super) type Row = (Digest, Option<Vec<u8>>);

/// Why an index could not be opened.
pub(super) enum IndexError {
    /// What is there is not an index.
    Damaged,
    Store(StoreError),
}

impl Index {
    /// An index of these rows, in place of the one that is there. `draft` is a name that is free.
    pub(super) fn create(disk: Arc<dyn Disk>, draft: &Name, rows: &[Row]) -> Result<Self, StoreError> {
        let file = disk.create(draft)?;
        let database = open(file).map_err(into_store)?;
        let transaction = database.begin_write().map_err(into_store)?;
        transaction.open_table(ABOUT).map_err(into_store)?.insert(VERSION_KEY, VERSION).map_err(into_store)?;
        write_rows(&transaction, rows).map_err(into_store)?;
        transaction.commit().map_err(into_store)?;
        // Not before it is whole: a crash leaves no index, or a good one.
        disk.rename(draft, &Name::Index)?;
        Ok(Self { disk, database: Some(database), unsure: BTreeSet::new() })
    }

    /// Opens the index that is there, and gives its rows.
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<(Self, Vec<(Digest, Record)>), IndexError> {
        let file = disk.open(&Name::Index).map_err(|error| IndexError::Store(error.into()))?;
        // What is damaged is found by checksums. Should that fail to find something, it must not end the node either.
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let database = open(file).map_err(into_index)?;
            let rows = rows(&database)?;
            Ok((database, rows))
        }));
        let (database, rows) = loaded.unwrap_or(Err(IndexError::Damaged))?;
        Ok((Self { disk, database: Some(database), unsure: BTreeSet::new() }, rows))
    }

    /// Writes rows, all or none, durably.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let written = self.try_write(rows);
        match written {
            Ok(()) => self.unsure.clear(),
            Err(_) => {
                // After a failure it refuses everything.
                self.database = None;
                self.unsure.extend(rows.iter().map(|(digest, _)| *digest));
            }
        }
        written.map_err(into_store)
    }

    fn try_write(&mut self, rows: &[Row]) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(self.disk.open(&Name::Index)?)?,
        };
        let database = self.database.insert(database);
        let transaction = database.begin_write()?;
        write_rows(&transaction, rows)?;
        Ok(transaction.commit()?)
    }
}

fn open(file: Arc<dyn File>) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    // Without it, what is damaged is trusted.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(Backend(file))?)
}

fn write_rows(transaction: &WriteTransaction, rows: &[Row]) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(CONTENTS)?;
    for (digest, record) in rows {
        let key = Mcid::from(*digest).to_bytes();
        match record {
            Some(record) => table.insert(&key[..], &record[..])?,
            None => table.remove(&key[..])?,
        };
    }
    Ok(())
}

fn rows(database: &Database) -> Result<Vec<(Digest, Record)>, IndexError> {
    let transaction = database.begin_read().map_err(into_index)?;
    let about = transaction.open_table(ABOUT).map_err(into_index)?;
    let version = about.get(VERSION_KEY).map_err(into_index)?.ok_or(IndexError::Damaged)?.value();
    if version != VERSION {
        return Err(IndexError::Store(StoreError::Version { version, known: VERSION }));
    }
    let table = transaction.open_table(CONTENTS).map_err(into_index)?;
    let mut rows = Vec::new();
    for row in table.iter().map_err(into_index)? {
        let (key, value) = row.map_err(into_index)?;
        let mcid = Mcid::from_bytes(key.value()).map_err(|_| IndexError::Damaged)?;
        rows.push((mcid.digest(), Record::from_bytes(value.value()).ok_or(IndexError::Damaged)?));
    }
    Ok(rows)
}

fn into_store(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => error.into(),
        error => StoreError::Io(io::Error::other(error)),
    }
}

fn into_index(error: impl Into<redb::Error>) -> IndexError {
    match error.into() {
        // It says so of what is no database, and of one that was cut off.
        redb::Error::Io(error)
            if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            IndexError::Store(error.into())
        }
        _ => IndexError::Damaged,
    }
}

/// A file as redb wants it.
struct Backend(Arc<dyn File>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}
