//! The two files of one content.

use std::{io, sync::Arc};

use macula_wire::Mcid;

use super::entry::{data_name, tree_name};
use crate::{
    Geometry, Node, PARENT_BYTES, Parent,
    disk::{Disk, File},
};

/// Its bytes and, if it has more than one group, its outboard.
pub(super) struct Files {
    pub(super) geometry: Geometry,
    data: Arc<dyn File>,
    tree: Option<Arc<dyn File>>,
}

impl Files {
    /// Those that are there.
    pub(super) fn open(disk: &dyn Disk, content: &Mcid, geometry: Geometry) -> io::Result<Self> {
        let data = disk.open(&data_name(content))?;
        let tree = if geometry.parents() > 0 { Some(disk.open(&tree_name(content))?) } else { None };
        Ok(Self { geometry, data, tree })
    }

    /// New ones of their full length, in place of any that nobody knows.
    pub(super) fn create(disk: &dyn Disk, content: &Mcid, geometry: Geometry) -> io::Result<Self> {
        let create = |name: String, bytes| {
            disk.remove(&name)?;
            let file = disk.create(&name)?;
            file.set_len(bytes)?;
            Ok::<_, io::Error>(file)
        };
        let data = create(data_name(content), geometry.size())?;
        let tree =
            if geometry.parents() > 0 { Some(create(tree_name(content), geometry.outboard_bytes())?) } else { None };
        Ok(Self { geometry, data, tree })
    }

    /// What is there of a node.
    pub(super) fn read(&self, node: Node) -> io::Result<Vec<u8>> {
        let (file, range) = match (node, &self.tree) {
            (Node::Group(group), _) => (&self.data, self.geometry.bytes(group)),
            (Node::Parent(index), Some(tree)) => {
                let offset = Geometry::parent_offset(index);
                (tree, offset..offset + PARENT_BYTES)
            }
            (Node::Parent(_), None) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_at(range.start, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.data.write_at(offset, bytes)
    }

    pub(super) fn write_parents(&self, parents: &[Parent]) -> io::Result<()> {
        let Some(tree) = &self.tree else { return Ok(()) };
        parents.iter().try_for_each(|parent| tree.write_at(Geometry::parent_offset(parent.index), &parent.pair))
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.data.sync()?;
        self.tree.as_ref().map_or(Ok(()), |tree| tree.sync())
    }
}
