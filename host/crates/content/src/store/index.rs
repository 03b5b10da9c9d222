//! The index on disk: one record for each content, changed together or not at all.

use std::{fmt, io, sync::Arc};

use macula_wire::Mcid;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::entry::Entry;
use crate::disk::{Disk, File};

const NAME: &str = "index.redb";
/// Where an index is put that cannot be read.
const ASIDE: &str = "index.damaged";
/// By binary MCID; DAG-CBOR.
const CONTENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("contents");
/// Bytes of the index that are kept in memory. All of it that matters is in memory anyway.
const CACHE_BYTES: usize = 1 << 20;

/// See the module.
pub(super) struct Index {
    disk: Arc<dyn Disk>,
    /// Gone after an error: it is opened again for the next change, which repairs it.
    database: Option<Database>,
}

/// What was found.
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) entries: Vec<(Mcid, Entry)>,
    /// The index could not be read, and was set aside.
    pub(super) was_damaged: bool,
}

impl Index {
    /// Opens the index, or makes one. One that cannot be read is set aside, and a new one made.
    pub(super) fn open(disk: &Arc<dyn Disk>) -> io::Result<Loaded> {
        let mut index = Self { disk: Arc::clone(disk), database: None };
        match index.load() {
            Ok(entries) => Ok(Loaded { index, entries, was_damaged: false }),
            Err(error) if is_damage(&error) => {
                index.database = None;
                disk.rename(NAME, ASIDE)?;
                let entries = index.load().map_err(into_io)?;
                Ok(Loaded { index, entries, was_damaged: true })
            }
            Err(error) => Err(into_io(error)),
        }
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        if self.database.is_none() {
            let file = match self.disk.open(NAME) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(NAME),
                other => other,
            };
            let backend = Backend(file.map_err(redb::Error::Io)?);
            self.database = Some(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?);
        }
        Ok(self.database.as_ref().expect("opened above"))
    }

    fn load(&mut self) -> Result<Vec<(Mcid, Entry)>, redb::Error> {
        let database = self.database()?;
        let reading = database.begin_read()?;
        let table = match reading.open_table(CONTENTS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let mut entries = Vec::new();
        for record in table.iter()? {
            let (key, value) = record?;
            // A record of another form is as good as none: its files are removed as nobody's.
            if let (Ok(content), Ok(entry)) =
                (Mcid::from_bytes(key.value()), serde_ipld_dagcbor::from_slice(value.value()))
            {
                entries.push((content, entry));
            }
        }
        Ok(entries)
    }

    /// Makes these records durable, those without an entry as removed. After an error none or all of them may be.
    pub(super) fn commit(&mut self, records: &[(Mcid, Option<Entry>)]) -> io::Result<()> {
        let committed = self.try_commit(records);
        if committed.is_err() {
            self.database = None;
        }
        committed.map_err(into_io)
    }

    fn try_commit(&mut self, records: &[(Mcid, Option<Entry>)]) -> Result<(), redb::Error> {
        let writing = self.database()?.begin_write()?;
        {
            let mut table = writing.open_table(CONTENTS)?;
            for (content, entry) in records {
                let key = content.to_bytes();
                match entry {
                    Some(entry) => {
                        let value = serde_ipld_dagcbor::to_vec(entry).expect("an entry always encodes");
                        table.insert(&key[..], &value[..])?;
                    }
                    None => drop(table.remove(&key[..])?),
                }
            }
        }
        Ok(writing.commit()?)
    }
}

/// Whether the index is at fault, and not the disk.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => true,
        _ => false,
    }
}

fn into_io(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// A file as redb wants it.
struct Backend(Arc<dyn File>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write_at(offset, data)
    }
}
