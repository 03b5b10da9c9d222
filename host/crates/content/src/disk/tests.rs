use std::os::unix::fs::{PermissionsExt, symlink};

use macula_wire::{Digest, Mcid};

use super::*;

/// Every disk does the same as long as nothing goes wrong.
#[test]
fn disks_agree() {
    let folder = tempfile::tempdir().unwrap();
    exercise(&FolderDisk::new(folder.path().join("content")).unwrap());
    exercise(&MemoryDisk::new());
    exercise(&FaultyDisk::default());
}

fn exercise(disk: &dyn Disk) {
    let (draft, data) = (Name::Draft(7), Name::Data(Mcid::of(b"some").digest()));
    assert_eq!(disk.open(&draft).err().unwrap().kind(), io::ErrorKind::NotFound);
    let file = disk.create(&draft).unwrap();
    assert_eq!(disk.create(&draft).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    assert!(file.is_empty().unwrap());
    file.write_at(3, b"some").unwrap();
    file.set_len(9).unwrap();
    file.sync().unwrap();
    disk.rename(&draft, &data).unwrap();
    assert_eq!(disk.list().unwrap(), [(data.clone(), 9)]);
    let mut bytes = [1; 9];
    disk.open(&data).unwrap().read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0\0some\0\0");
    assert_eq!(file.read_at(1, &mut bytes).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(file.read_at(u64::MAX / 4, &mut bytes).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    disk.remove(&data).unwrap();
    assert_eq!(disk.remove(&data).unwrap_err().kind(), io::ErrorKind::NotFound);
    file.read_at(0, &mut bytes).unwrap();
    assert!(disk.free_bytes().unwrap() > 0);
}

#[test]
fn only_our_own_names_are_names() {
    let digest = Mcid::of(b"some").digest();
    let sha = Digest::Sha256([3; 32]);
    for name in [Name::Index, Name::DamagedIndex(3), Name::Data(digest), Name::Tree(sha), Name::Draft(u64::MAX)] {
        assert_eq!(Name::parse(&name.to_string()), Some(name));
    }
    let mcid = Mcid::of(b"some");
    for other in ["", "draft/", "draft/+1", "draft/01", "draft/../index.redb", "data/ab/x.data", "/index.redb"] {
        assert_eq!(Name::parse(other), None, "{other}");
    }
    assert_eq!(Name::parse(&format!("data/zz/{mcid}.data")), None, "another folder");
}

#[test]
fn a_folder_is_private_and_follows_no_links() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("content");
    let disk = FolderDisk::new(&folder).unwrap();
    disk.create(&Name::Draft(1)).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&folder), mode(&folder.join("draft"))], [0o700; 2]);
    assert_eq!(mode(&folder.join("draft/1")), 0o600);
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path().join("secret"), folder.join("draft/2")).unwrap();
    assert_eq!(disk.open(&Name::Draft(2)).err().unwrap().kind(), io::ErrorKind::InvalidInput);
    std::fs::create_dir(folder.join("draft/3")).unwrap();
    assert!(disk.open(&Name::Draft(3)).is_err());
    symlink(outside.path(), folder.join("data")).unwrap();
    let data = Name::Data(Mcid::of(b"some").digest());
    assert!(disk.rename(&Name::Draft(1), &data).is_err());
    assert_eq!(disk.list().unwrap().len(), 1, "links are not listed");
}

#[test]
fn a_folder_is_had_once_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content");
    let disk = FolderDisk::new(&path).unwrap();
    let clone = disk.clone();
    drop(disk);
    assert!(matches!(FolderDisk::new(&path), Err(FolderError::InUse)));
    assert_eq!(clone.list().unwrap(), [], "the lock is none of the store's files");
    drop(clone);
    FolderDisk::new(&path).unwrap();
    std::fs::remove_file(path.join("lock")).unwrap();
    symlink("/dev/null", path.join("lock")).unwrap();
    assert!(matches!(FolderDisk::new(&path), Err(FolderError::Io(_))), "a link is no lock");
}

/// Goal: what was synced outlives every crash, and what was not comes out in parts.
#[test]
fn a_crash_takes_what_was_not_synced() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let disk = FaultyDisk::new(Faults { seed, ..Faults::default() });
        let file = disk.create(&Name::Draft(1)).unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.sync().unwrap();
        disk.rename(&Name::Draft(1), &Name::Index).unwrap();
        file.write_at(1024, &[2; 1024]).unwrap();
        disk.create(&Name::Draft(2)).unwrap();
        disk.restart();
        assert!(file.len().is_err(), "what was open before is closed");
        let bytes = disk.bytes(&Name::Index).unwrap();
        assert_eq!(bytes[..1024], [1; 1024]);
        outcomes.insert((bytes[1024], bytes[1536], disk.list().unwrap().len()));
    }
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
}
