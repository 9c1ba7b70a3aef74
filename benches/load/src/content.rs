//! Names and bytes of the files: both follow from a few numbers, so that any process can tell what
//! any body must be, and nobody has to keep it.
//!
//! A name ends in `SIZE-SERIAL` (or `SIZErRATE-SERIAL`, which the origin paces). A body is made of
//! blocks of 64 KiB, each the same random page behind a mark of the path and the block's number.

use std::io::Write;
use std::sync::OnceLock;

use crate::args::{Args, Outcome};

/// Bytes of one block.
pub const BLOCK: usize = 64 << 10;
/// Bytes of the mark at the start of each block.
pub const MARK: usize = 32;
/// Files of one directory, so that no directory gets large.
const PER_DIRECTORY: u64 = 1000;

/// How the paths look.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// `/b/17/1024-17042.tgz`
    Plain,
    /// `/debian/pool/main/b/bench/bench_1024-17042_amd64.deb`, for caches that know Debian alone.
    Debian,
    /// `/b/17/1024-17042.zip`, which the program's default pattern does not keep.
    Pass,
}

/// A numbered set of files.
#[derive(Clone)]
pub struct Files {
    layout: Layout,
    least: u64,
    most: u64,
    rate: u64,
    /// Serial of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// In place of numbered ones: bytes and path of each.
    listed: Vec<(u64, String)>,
}

impl Files {
    /// Reads `--layout plain|debian|pass`, `--size N` or `LOW:HIGH`, `--rate BYTES_PER_SECOND`, `--first`, `--files`;
    /// or `--list FILE` with a line `BYTES PATH` for each, for files that are there already.
    pub fn from_args(args: &Args) -> Outcome<Self> {
        let listed = args.text("list").map_or(Ok(Vec::new()), read_list)?;
        let layout = match args.text("layout").unwrap_or("plain") {
            "plain" => Layout::Plain,
            "debian" => Layout::Debian,
            "pass" => Layout::Pass,
            other => return Err(format!("--layout {other}: plain, debian or pass")),
        };
        let size = args.text("size").unwrap_or("1024");
        let (low, high) = size.split_once(':').unwrap_or((size, size));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("--size {size}: not a size"));
        let (least, most) = (number(low)?, number(high)?);
        if least == 0 || most < least {
            return Err(format!("--size {size}: not a size"));
        }
        let count = if listed.is_empty() { args.get("files", 1)? } else { listed.len() as u64 };
        Ok(Self {
            layout,
            least,
            most,
            rate: args.get("rate", 0)?,
            first: args.get("first", 0)?,
            count,
            listed,
        })
    }

    /// Bytes of one file.
    pub fn size(&self, serial: u64) -> u64 {
        if let Some((size, _)) = self.listed(serial) {
            return *size;
        }
        match self.most - self.least {
            0 => self.least,
            span => self.least + scramble(serial) % (span + 1),
        }
    }

    fn listed(&self, serial: u64) -> Option<&(u64, String)> {
        self.listed.get(usize::try_from(serial - self.first).ok()?)
    }

    /// Appends the path of one file.
    pub fn path(&self, serial: u64, out: &mut Vec<u8>) {
        if let Some((_, path)) = self.listed(serial) {
            return out.extend_from_slice(path.as_bytes());
        }
        let size = self.size(serial);
        let rate = if self.rate == 0 { String::new() } else { format!("r{}", self.rate) };
        let directory = serial / PER_DIRECTORY;
        let written = match self.layout {
            Layout::Plain => write!(out, "/b/{directory}/{size}{rate}-{serial}.tgz"),
            Layout::Pass => write!(out, "/b/{directory}/{size}{rate}-{serial}.zip"),
            Layout::Debian => write!(out, "/debian/pool/main/b/bench/bench_{size}{rate}-{serial}_amd64.deb"),
        };
        debug_assert!(written.is_ok(), "a vector takes everything");
    }
}

/// The files of a list: a line `BYTES PATH` for each.
fn read_list(file: &str) -> Outcome<Vec<(u64, String)>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("--list {file}: {error}"))?;
    parse_list(&text).ok_or(format!("--list {file}: not a list of files"))
}

fn parse_list(text: &str) -> Option<Vec<(u64, String)>> {
    let entry = |line: &str| {
        let (size, path) = line.split_once(' ')?;
        Some((size.parse().ok()?, path.to_owned()))
    };
    let listed: Vec<_> = text.lines().map(entry).collect::<Option<_>>()?;
    (!listed.is_empty()).then_some(listed)
}

/// Size and rate (bytes a second, 0: as fast as it goes) that a path names.
pub fn parse(path: &str) -> Option<(u64, u64)> {
    let name = path.rsplit('/').next()?;
    let name = name.rsplit_once("bench_").map_or(name, |(_, rest)| rest);
    let (numbers, _) = name.split_once('-')?;
    let (size, rate) = numbers.split_once('r').unwrap_or((numbers, "0"));
    Some((size.parse().ok()?, rate.parse().ok()?))
}

/// The page that all blocks share.
pub fn page() -> &'static [u8; BLOCK] {
    static PAGE: OnceLock<Box<[u8; BLOCK]>> = OnceLock::new();
    PAGE.get_or_init(|| {
        let mut page = Box::new([0; BLOCK]);
        for (index, word) in page.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&scramble(index as u64).to_le_bytes());
        }
        page
    })
}

/// A number for the path, which its marks carry.
pub fn hash(path: &[u8]) -> u64 {
    path.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The mark of one block.
pub fn mark(hash: u64, block: u64) -> [u8; MARK] {
    let mut mark = [b'0'; MARK];
    for (digits, value) in mark.chunks_exact_mut(16).zip([hash, block]) {
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(value >> (60 - 4 * index)) as usize & 15];
        }
    }
    mark
}

/// Whether `bytes` is what a file with this hash has at `offset`.
pub fn matches(hash: u64, mut offset: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let (block, inside) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
        let want = if inside < MARK { &mark(hash, block)[inside..] } else { &page()[inside..] };
        let length = want.len().min(bytes.len());
        if bytes[..length] != want[..length] {
            return false;
        }
        bytes = &bytes[length..];
        offset += length as u64;
    }
    true
}

/// A well-mixed function of a number (splitmix64).
pub fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_size_and_rate() {
        assert_eq!(parse("/b/0/1024-17.tgz"), Some((1024, 0)));
        assert_eq!(
            parse("/debian/pool/main/b/bench/bench_70000r1000000-3_amd64.deb"),
            Some((70000, 1_000_000))
        );
        assert_eq!(parse("/favicon.ico"), None);
    }

    #[test]
    fn a_list_has_sizes_and_paths() {
        let listed = vec![(12, "/a%20b".to_owned()), (0, "/c".to_owned())];
        assert_eq!(parse_list("12 /a%20b\n0 /c\n"), Some(listed));
        for bad in ["", "/a", "x /a", "1 /a\n\n"] {
            assert_eq!(parse_list(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_wrong_byte_is_seen_wherever_it_is() {
        let hash = hash(b"/b/0/200000-1.tgz");
        let mut body = Vec::new();
        for block in 0..4 {
            body.extend_from_slice(&mark(hash, block));
            body.extend_from_slice(&page()[MARK..]);
        }
        assert!(matches(hash, 0, &body));
        assert!(matches(hash, 70_001, &body[70_001..]));
        assert!(!matches(hash, 70_000, &body[70_001..]));
        for place in [0, 31, 32, 65_535, 65_537, 262_143] {
            body[place] ^= 1;
            assert!(!matches(hash, 0, &body), "{place}");
            body[place] ^= 1;
        }
    }
}
