//! A disk in memory that loses power, runs full and fails on request. One seed gives one outcome.
//!
//! # What a power cut leaves
//! - Of each 512-byte block that was written since the file's last sync: the old block, the new one, or the new one's beginning
//!   and the old one's rest. Each block on its own, so that a later write may survive an earlier one.
//! - Of a changed length: the old one, the new one, or one between. Blocks that did not survive below it read as zeros.
//! - Of names created, renamed and removed since the directory's last sync: any subset, in order.
//!
//! # What a failed sync leaves
//! As on Linux: some of the blocks it should have written are taken for written. They read as written until the power is cut,
//! and a later sync succeeds without them. Lengths and names stay unsynced, and no more: where a journaling file system cannot
//! write those, it stops for good.
//!
//! A kill keeps all that was written, since the operating system has it. Both end every open handle and every lock.
//!
//! Deliberately absent: time (a caller's clock has it) and damage at rest (write it with [`SimulatedDisk::corrupt`]).

mod disk;
mod inode;

use crate::{Disk, File, Open};
use disk::State;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Blocks survive a power cut one by one.
pub const BLOCK_BYTES: usize = 512;

/// A call as a fault plan sees it, before it is carried out.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The first call on a disk is number 1.
    pub number: u64,
    /// What is to be done.
    pub action: Action,
    /// To which file or directory.
    pub path: &'a Path,
}

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the methods are")]
pub enum Action {
    MakeDir,
    RemoveDir,
    Open(Open),
    Names,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    SetLen,
    Len,
    Sync,
    Lock,
}

impl Action {
    /// May it change what the disk holds, or is to hold after a power cut?
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(
            self,
            Self::Names | Self::Read | Self::Len | Self::Lock | Self::Open(Open::Read | Open::Write)
        )
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Done,
    /// It fails, and nothing else happens, but that a failed sync loses what it should have written.
    Fails(io::ErrorKind),
    /// A read or write of several bytes does the first half; any other call is carried out.
    Short,
    /// A write or a sync does part of its work and fails; any other call fails.
    Torn,
}

type Plan = Box<dyn FnMut(&Call<'_>) -> Fate + Send>;

/// The disk; clones are the same one. See the module.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    plan: Mutex<Option<Plan>>,
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::of(State::new())
    }

    fn of(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), plan: Mutex::new(None) }) }
    }

    /// As the trait object that logs take.
    #[must_use]
    pub fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// An independent copy as it is now, without open handles and without a fault plan.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.state().fork())
    }

    /// Cuts the power: see the module. The disk can be used again at once.
    pub fn power_loss(&self, seed: u64) {
        self.state().power_loss(seed);
    }

    /// Ends every handle and lock, as the end of the process that has them does.
    pub fn kill(&self) {
        self.state().kill();
    }

    /// Takes no more than so many bytes from now on, in all files together.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Decides over every later call, until replaced. The plan must not use the disk but by [`SimulatedDisk::fork`].
    pub fn set_plan(&self, plan: impl FnMut(&Call<'_>) -> Fate + Send + 'static) {
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(plan));
    }

    /// Every later call is carried out.
    pub fn clear_plan(&self) {
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Changes a file's bytes at rest, durably. `false`: there is no such file.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.state().corrupt(path, change)
    }

    /// Files with their content as a process sees it, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.state().files()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the plan, without the state's lock, so that the plan may fork.
    fn fate(&self, action: Action, path: &Path) -> Fate {
        let number = {
            let mut state = self.state();
            state.calls += 1;
            state.calls
        };
        let mut plan = self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.as_mut().map_or(Fate::Done, |plan| plan(&Call { number, action, path }))
    }

    fn permitted(&self, action: Action, path: &Path) -> io::Result<()> {
        match self.fate(action, path) {
            Fate::Done | Fate::Short => Ok(()),
            Fate::Fails(kind) => Err(kind.into()),
            Fate::Torn => Err(io::Error::other("torn")),
        }
    }
}

impl Disk for SimulatedDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.permitted(Action::MakeDir, dir)?;
        self.state().make_dir(dir);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.permitted(Action::RemoveDir, dir)?;
        self.state().remove_dir(dir);
        Ok(())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.permitted(Action::Open(how), path)?;
        let mut state = self.state();
        let (number, epoch) = (state.open(path, how)?, state.epoch);
        Ok(Arc::new(Handle {
            disk: self.clone(),
            path: path.to_owned(),
            number,
            handle: state.number_handle(),
            epoch,
            reads_only: how == Open::Read,
        }))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.permitted(Action::Names, dir)?;
        self.state().names(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.permitted(Action::Rename, from)?;
        self.state().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.permitted(Action::Remove, path)?;
        self.state().remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.permitted(Action::SyncDir, dir)?;
        self.state().sync_dir(dir)
    }
}

/// An open file.
struct Handle {
    disk: SimulatedDisk,
    path: PathBuf,
    number: u64,
    /// Distinguishes the handles of one file.
    handle: u64,
    epoch: u64,
    reads_only: bool,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.path).finish()
    }
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.epoch == self.epoch {
            Ok(state)
        } else {
            Err(io::Error::other("the process of this handle has ended"))
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.reads_only { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

impl File for Handle {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = match self.disk.fate(Action::Read, &self.path) {
            Fate::Done => into.len(),
            Fate::Short => into.len().div_ceil(2),
            Fate::Fails(kind) => return Err(kind.into()),
            Fate::Torn => return Err(io::Error::other("torn")),
        };
        Ok(self.state()?.inode(self.number)?.read_at(&mut into[..bytes], at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.writable()?;
        let fate = self.disk.fate(Action::Write, &self.path);
        let wanted = match fate {
            Fate::Done => bytes.len(),
            Fate::Short | Fate::Torn => bytes.len().div_ceil(2),
            Fate::Fails(kind) => return Err(kind.into()),
        };
        let written = self.state()?.write_at(self.number, &bytes[..wanted], at)?;
        if fate == Fate::Torn { Err(io::Error::other("torn")) } else { Ok(written) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.permitted(Action::SetLen, &self.path)?;
        self.state()?.set_len(self.number, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.permitted(Action::Len, &self.path)?;
        Ok(self.state()?.inode(self.number)?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let fate = self.disk.fate(Action::Sync, &self.path);
        let mut state = self.state()?;
        match fate {
            Fate::Done | Fate::Short => {
                state.inode_mut(self.number)?.sync();
                Ok(())
            }
            Fate::Fails(kind) => {
                state.fail_sync(self.number)?;
                Err(kind.into())
            }
            Fate::Torn => {
                state.fail_sync(self.number)?;
                Err(io::Error::other("torn"))
            }
        }
    }

    fn try_lock(&self, kind: crate::Lock) -> io::Result<bool> {
        self.disk.permitted(Action::Lock, &self.path)?;
        Ok(self.state()?.inode_mut(self.number)?.try_lock(self.handle, kind))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.close(self.number, self.handle);
        }
    }
}
