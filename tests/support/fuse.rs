//! A file system of the test's own (FUSE), in memory, of which single calls can be made to hang: as those of a server
//! that dies in between.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, poll};

use super::mounted::{mount, unmount};

/// What is asked of a file system, by the numbers of FUSE (fuse.h of Linux).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub(crate) enum Call {
    LookUp = 1,
    GetAttributes = 3,
    /// Also of a date, or of a size.
    SetAttributes = 4,
    MakeDirectory = 9,
    Unlink = 10,
    RemoveDirectory = 11,
    Open = 14,
    Read = 15,
    Write = 16,
    Status = 17,
    Release = 18,
    Sync = 20,
    SetExtended = 21,
    GetExtended = 22,
    RemoveExtended = 24,
    /// Of each close.
    Flush = 25,
    Begin = 26,
    OpenDirectory = 27,
    ReadDirectory = 28,
    ReleaseDirectory = 29,
    SyncDirectory = 30,
    Create = 35,
    Rename = 12,
}

const CALLS: [Call; 23] = [
    Call::LookUp,
    Call::GetAttributes,
    Call::SetAttributes,
    Call::MakeDirectory,
    Call::Unlink,
    Call::RemoveDirectory,
    Call::Open,
    Call::Read,
    Call::Write,
    Call::Status,
    Call::Release,
    Call::Sync,
    Call::SetExtended,
    Call::GetExtended,
    Call::RemoveExtended,
    Call::Flush,
    Call::Begin,
    Call::OpenDirectory,
    Call::ReadDirectory,
    Call::ReleaseDirectory,
    Call::SyncDirectory,
    Call::Create,
    Call::Rename,
];

const ROOT: u64 = 1;
/// Milliseconds after which its end is looked for.
const LOOK: u8 = 50;
/// Bytes of one write.
const MOST: usize = 128 * 1024;

/// Mounted until it is dropped: then every call that hangs fails.
pub(crate) struct Fuse {
    path: PathBuf,
    tree: Arc<Mutex<Tree>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fuse {
    /// Mounts an empty one; `None`, in words, where that cannot be had.
    pub(crate) fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let channel =
            File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/fuse").ok();
        let channel = channel.filter(|channel| {
            let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
            mount(&["-t", "fuse", "-o", options, "test"], path, channel.try_clone().unwrap().into())
        });
        let Some(channel) = channel else {
            eprintln!("SKIPPED: no FUSE here (that takes root and /dev/fuse)");
            return None;
        };
        let (tree, ended) = (Arc::new(Mutex::new(Tree::new())), Arc::new(AtomicBool::new(false)));
        let (theirs, until) = (Arc::clone(&tree), Arc::clone(&ended));
        let thread = thread::spawn(move || serve(channel, &theirs, &until));
        Some(Self { path: path.to_owned(), tree, ended, thread: Some(thread) })
    }

    /// A file at its top.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut tree = self.tree.lock().unwrap();
        let id = tree.add(ROOT, name, false);
        tree.nodes.get_mut(&id).unwrap().bytes = bytes.to_vec();
    }

    /// The bytes of a file at its top.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let tree = self.tree.lock().unwrap();
        let id = tree.nodes[&ROOT].names.get(name)?;
        Some(tree.nodes[id].bytes.clone())
    }

    /// From now on these calls get no answer.
    pub(crate) fn hang(&self, calls: &[Call]) {
        self.tree.lock().unwrap().hanging.extend(calls);
    }

    /// Does such a call wait for its answer?
    pub(crate) fn hangs(&self) -> bool {
        self.tree.lock().unwrap().hung > 0
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Whoever waits gets an error once the channel is closed.
        drop(self.thread.take().map(JoinHandle::join));
        unmount(&self.path);
    }
}

#[derive(Default)]
struct Node {
    is_directory: bool,
    names: HashMap<String, u64>,
    bytes: Vec<u8>,
    extended: HashMap<String, Vec<u8>>,
    modified: u64,
    is_gone: bool,
}

struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    hanging: HashSet<Call>,
    hung: usize,
}

type Answer = Result<Vec<u8>, i32>;

impl Tree {
    fn new() -> Self {
        let root = Node { is_directory: true, ..Node::default() };
        Self { nodes: HashMap::from([(ROOT, root)]), next: ROOT + 1, hanging: HashSet::new(), hung: 0 }
    }

    fn add(&mut self, parent: u64, name: &str, is_directory: bool) -> u64 {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { is_directory, modified: 1_700_000_000, ..Node::default() });
        self.nodes.get_mut(&parent).unwrap().names.insert(name.to_owned(), id);
        id
    }

    fn attributes(&self, id: u64) -> Vec<u8> {
        let node = &self.nodes[&id];
        let size = node.bytes.len() as u64;
        let mode: u32 = if node.is_directory { 0o40_777 } else { 0o100_666 };
        let mut out = Vec::new();
        for number in [id, size, size.div_ceil(512), node.modified, node.modified, node.modified] {
            out.extend(number.to_le_bytes());
        }
        for number in [0, 0, 0, mode, u32::from(!node.is_gone), 0, 0, 0, 4096, 0] {
            out.extend(number.to_le_bytes());
        }
        out
    }

    /// Nothing of it holds for any time: each look-up is asked.
    fn entry(&self, id: u64) -> Vec<u8> {
        let mut out = [id, 1, 0, 0, 0].map(u64::to_le_bytes).concat();
        out.extend(self.attributes(id));
        out
    }

    fn answer(&mut self, call: Call, id: u64, data: &[u8]) -> Answer {
        match call {
            Call::Begin => Ok(begun()),
            Call::LookUp
            | Call::Create
            | Call::MakeDirectory
            | Call::Unlink
            | Call::RemoveDirectory
            | Call::Rename => self.answer_of_names(call, id, data),
            Call::SetExtended | Call::GetExtended | Call::RemoveExtended => {
                self.answer_of_extended(call, id, data)
            }
            Call::GetAttributes => Ok([vec![0; 16], self.attributes(id)].concat()),
            Call::SetAttributes => {
                const SIZE: usize = 1 << 3;
                const MODIFIED: usize = 1 << 5;
                let node = self.nodes.get_mut(&id).unwrap();
                if half(data, 0) & SIZE != 0 {
                    node.bytes.resize(usize::try_from(number(data, 16)).unwrap(), 0);
                }
                if half(data, 0) & MODIFIED != 0 {
                    node.modified = number(data, 40);
                }
                Ok([vec![0; 16], self.attributes(id)].concat())
            }
            Call::Open | Call::OpenDirectory => Ok(vec![0; 16]),
            Call::Read => {
                let node = &self.nodes[&id];
                let from = usize::try_from(number(data, 8)).unwrap().min(node.bytes.len());
                let end = (from + half(data, 16)).min(node.bytes.len());
                Ok(node.bytes[from..end].to_vec())
            }
            Call::Write => {
                let (at, count) = (usize::try_from(number(data, 8)).unwrap(), half(data, 16));
                let bytes = &mut self.nodes.get_mut(&id).unwrap().bytes;
                bytes.resize(bytes.len().max(at + count), 0);
                bytes[at..at + count].copy_from_slice(&data[40..40 + count]);
                Ok(u64::try_from(count).unwrap().to_le_bytes().to_vec())
            }
            Call::Status => {
                let mut out = [1_u64 << 20; 5].map(u64::to_le_bytes).concat();
                out.extend([4096_u32, 255, 4096, 0, 0, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
                Ok(out)
            }
            Call::ReadDirectory
            | Call::Release
            | Call::ReleaseDirectory
            | Call::Sync
            | Call::SyncDirectory
            | Call::Flush => Ok(Vec::new()),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the caller has sorted them")]
    fn answer_of_names(&mut self, call: Call, id: u64, data: &[u8]) -> Answer {
        match call {
            Call::LookUp => {
                self.nodes[&id].names.get(&text(data, 0)).map(|id| self.entry(*id)).ok_or(libc::ENOENT)
            }
            Call::Create => {
                let id = self.add(id, &text(data, 16), false);
                Ok([self.entry(id), vec![0; 16]].concat())
            }
            Call::MakeDirectory => {
                let id = self.add(id, &text(data, 8), true);
                Ok(self.entry(id))
            }
            Call::Rename => {
                let (to, from_name) = (number(data, 0), text(data, 8));
                let name = text(data, 8 + from_name.len() + 1);
                let moved = self.nodes.get_mut(&id).unwrap().names.remove(&from_name).ok_or(libc::ENOENT)?;
                if let Some(gone) = self.nodes.get_mut(&to).unwrap().names.insert(name, moved) {
                    self.nodes.get_mut(&gone).unwrap().is_gone = true;
                }
                Ok(Vec::new())
            }
            _removal => {
                let names = &mut self.nodes.get_mut(&id).unwrap().names;
                let gone = names.remove(&text(data, 0)).ok_or(libc::ENOENT)?;
                self.nodes.get_mut(&gone).unwrap().is_gone = true;
                Ok(Vec::new())
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the caller has sorted them")]
    fn answer_of_extended(&mut self, call: Call, id: u64, data: &[u8]) -> Answer {
        let extended = &mut self.nodes.get_mut(&id).unwrap().extended;
        match call {
            Call::SetExtended => {
                let (size, name) = (half(data, 0), text(data, 8));
                let value = data[8 + name.len() + 1..][..size].to_vec();
                extended.insert(name, value);
                Ok(Vec::new())
            }
            Call::GetExtended => {
                let value = extended.get(&text(data, 8)).ok_or(libc::ENODATA)?;
                match half(data, 0) {
                    0 => Ok(u64::try_from(value.len()).unwrap().to_le_bytes().to_vec()),
                    room if room < value.len() => Err(libc::ERANGE),
                    _ => Ok(value.clone()),
                }
            }
            _removal => extended.remove(&text(data, 0)).map(|_| Vec::new()).ok_or(libc::ENODATA),
        }
    }
}

fn number(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().unwrap())
}

fn half(data: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_le_bytes(data[at..at + 4].try_into().unwrap())).unwrap()
}

fn text(data: &[u8], at: usize) -> String {
    let bytes = data[at..].split(|byte| *byte == 0).next().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Version 7.31, writes of [`MOST`] bytes.
fn begun() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    let most = u32::try_from(MOST).unwrap();
    let background = 16 << 16 | 32;
    let mut out: Vec<u8> = [7, 31, most, BIG_WRITES, background, most, 1, 32].map(u32::to_le_bytes).concat();
    out.resize(64, 0);
    out
}

fn serve(mut channel: File, tree: &Mutex<Tree>, ended: &AtomicBool) {
    let mut buffer = vec![0; MOST + 64 * 1024];
    while !ended.load(Ordering::Relaxed) {
        let count = match channel.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut waiting = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
                poll(&mut waiting, LOOK).unwrap_or_default();
                continue;
            }
            // One that was given up.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(_) => return,
        };
        let (head, data) = buffer[..count].split_at(40);
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        const NO_ANSWER: [u32; 3] = [2, 36, 42];
        if NO_ANSWER.contains(&number(4)) {
            continue;
        }
        let call = CALLS.into_iter().find(|call| *call as u32 == number(4));
        let mut tree = tree.lock().unwrap();
        if call.is_some_and(|call| tree.hanging.contains(&call)) {
            tree.hung += 1;
            continue;
        }
        let answer = call.ok_or(libc::ENOSYS).and_then(|call| tree.answer(call, long(16), data));
        let (error, bytes) = answer.map_or_else(|error| (-error, Vec::new()), |bytes| (0, bytes));
        let mut out = u32::try_from(16 + bytes.len()).unwrap().to_le_bytes().to_vec();
        out.extend(error.to_le_bytes());
        out.extend(long(8).to_le_bytes());
        out.extend(bytes);
        // Whoever asked may have gone.
        drop(channel.write(&out));
    }
}
