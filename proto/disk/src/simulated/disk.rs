//! Names, files and what is left of them.

use super::inode::{Inode, Random};
use crate::Open;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone)]
enum Change {
    Link(String, u64),
    Rename(String, String, u64),
    Unlink(String),
}

#[derive(Debug, Clone, Default)]
struct Directory {
    current: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<Change>,
}

impl Directory {
    fn change(&mut self, change: Change) {
        apply(&mut self.current, &change);
        self.unsynced.push(change);
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &Change) {
    match change {
        Change::Link(name, number) => {
            names.insert(name.clone(), *number);
        }
        Change::Rename(from, to, number) => {
            names.remove(from);
            names.insert(to.clone(), *number);
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
    }
}

pub(super) struct State {
    directories: BTreeMap<PathBuf, Directory>,
    inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
    last_handle: u64,
    random: Random,
    /// Handles of an earlier epoch belong to a process that has ended.
    pub(super) epoch: u64,
    pub(super) calls: u64,
    pub(super) capacity_bytes: u64,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            directories: BTreeMap::new(),
            inodes: BTreeMap::new(),
            last_inode: 0,
            last_handle: 0,
            random: Random(0),
            epoch: 0,
            calls: 0,
            capacity_bytes: u64::MAX,
        }
    }

    pub(super) fn fork(&self) -> Self {
        let mut inodes = self.inodes.clone();
        inodes.values_mut().for_each(Inode::orphan);
        Self { directories: self.directories.clone(), inodes, random: self.random.clone(), ..*self }
    }

    pub(super) fn power_loss(&mut self, seed: u64) {
        let mut random = Random(seed);
        for directory in self.directories.values_mut() {
            for change in std::mem::take(&mut directory.unsynced) {
                if random.one_in(2) {
                    apply(&mut directory.durable, &change);
                }
            }
            directory.current.clone_from(&directory.durable);
        }
        for inode in self.inodes.values_mut() {
            inode.power_loss(&mut random);
        }
        self.random = random;
        self.kill();
    }

    pub(super) fn kill(&mut self) {
        self.epoch += 1;
        self.inodes.values_mut().for_each(Inode::orphan);
        self.forget_unnamed();
    }

    fn forget_unnamed(&mut self) {
        let mut named: BTreeSet<u64> = BTreeSet::new();
        for directory in self.directories.values() {
            named.extend(directory.current.values());
            named.extend(directory.durable.values());
            named.extend(directory.unsynced.iter().filter_map(|change| match change {
                Change::Link(_, number) | Change::Rename(_, _, number) => Some(number),
                Change::Unlink(_) => None,
            }));
        }
        self.inodes.retain(|number, inode| inode.open > 0 || named.contains(number));
    }

    pub(super) fn make_dir(&mut self, dir: &Path) {
        for dir in dir.ancestors() {
            self.directories.entry(dir.to_owned()).or_default();
        }
    }

    pub(super) fn remove_dir(&mut self, dir: &Path) {
        self.directories.remove(dir);
        self.forget_unnamed();
    }

    fn directory(&mut self, path: &Path) -> io::Result<(&mut Directory, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = self.directories.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok((directory, name.to_owned()))
    }

    pub(super) fn open(&mut self, path: &Path, how: Open) -> io::Result<u64> {
        let fresh = self.last_inode + 1;
        let (directory, name) = self.directory(path)?;
        let number = match (directory.current.get(&name).copied(), how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), _) => number,
            (None, Open::Read | Open::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                directory.change(Change::Link(name, fresh));
                self.last_inode = fresh;
                fresh
            }
        };
        let inode = self.inodes.entry(number).or_default();
        inode.open += 1;
        if how == Open::Empty {
            inode.resize(0);
        }
        Ok(number)
    }

    /// A number that no other handle of this disk has.
    pub(super) fn number_handle(&mut self) -> u64 {
        self.last_handle += 1;
        self.last_handle
    }

    pub(super) fn close(&mut self, number: u64, handle: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.unlock(handle);
            inode.open = inode.open.saturating_sub(1);
        }
    }

    pub(super) fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let directory = self.directories.get(dir).ok_or(io::ErrorKind::NotFound)?;
        let below = self.directories.keys().filter(|known| known.parent() == Some(dir));
        let mut names: Vec<String> =
            below.filter_map(|known| Some(known.file_name()?.to_str()?.to_owned())).collect();
        names.extend(directory.current.keys().cloned());
        names.sort();
        Ok(names)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let (_, new) = self.directory(to)?;
        let (directory, old) = self.directory(from)?;
        let number = *directory.current.get(&old).ok_or(io::ErrorKind::NotFound)?;
        directory.change(Change::Rename(old, new, number));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.directory(path)?;
        if !directory.current.contains_key(&name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        directory.change(Change::Unlink(name));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let directory = self.directories.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        for change in std::mem::take(&mut directory.unsynced) {
            apply(&mut directory.durable, &change);
        }
        self.forget_unnamed();
        Ok(())
    }

    pub(super) fn inode(&self, number: u64) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or(io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode_mut(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or(io::ErrorKind::NotFound.into())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.inodes.values().map(Inode::len).sum()
    }

    /// How many bytes files may grow by.
    fn room_bytes(&self) -> u64 {
        // An unbounded disk need not be counted.
        match self.capacity_bytes {
            u64::MAX => u64::MAX,
            bytes => bytes.saturating_sub(self.used_bytes()),
        }
    }

    pub(super) fn write_at(&mut self, number: u64, bytes: &[u8], at: u64) -> io::Result<usize> {
        let room = self.room_bytes();
        let inode = self.inode_mut(number)?;
        let bound = inode.len().saturating_add(room).saturating_sub(at);
        let fits = usize::try_from(bound).unwrap_or(usize::MAX).min(bytes.len());
        if fits == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        inode.write_at(&bytes[..fits], at);
        Ok(fits)
    }

    pub(super) fn set_len(&mut self, number: u64, bytes: u64) -> io::Result<()> {
        let room = self.room_bytes();
        let inode = self.inode_mut(number)?;
        if bytes > inode.len().saturating_add(room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inode.resize(usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?);
        Ok(())
    }

    pub(super) fn fail_sync(&mut self, number: u64) -> io::Result<()> {
        let mut random = self.random.clone();
        self.inode_mut(number)?.fail_sync(&mut random);
        self.random = random;
        Ok(())
    }

    pub(super) fn corrupt(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let named = self.directory(path).ok().map(|(directory, name)| directory.current.get(&name).copied());
        let inode = named.flatten().and_then(|number| self.inodes.get_mut(&number));
        inode.map(|inode| inode.settle(change)).is_some()
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let named = self.directories.iter().flat_map(|(dir, directory)| {
            directory.current.iter().map(move |(name, number)| (dir.join(name), number))
        });
        named.filter_map(|(path, number)| Some((path, self.inodes.get(number)?.content().to_vec()))).collect()
    }
}
