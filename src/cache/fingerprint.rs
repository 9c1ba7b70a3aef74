//! A few bytes of a file in progress that are known again later. Other programs keep files under the
//! same names, and one that begins a file anew leaves what we have said of the old one where it is.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::AsFd;

use crate::sys::file;

/// Looked at: so many bytes at the file's beginning, and as many before the mark.
const SAMPLE: usize = 4096;

/// What is said of the bytes before `at`. They never change while the file is ours.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fingerprint {
    /// Bytes of the file that it speaks of; none of them, if it is 0.
    pub at: u64,
    /// Of the samples. A version of the program that counts otherwise begins the file anew.
    pub digest: u64,
}

impl Fingerprint {
    /// Of the first `at` bytes of `file`. Waits for the disk. An error if it is shorter, too.
    pub fn of(file: &impl AsFd, at: u64) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        let count = usize::try_from(at).map_or(SAMPLE, |at| at.min(SAMPLE));
        for from in [0, at - count as u64] {
            let mut sample = [0; SAMPLE];
            file::read_exact_at(file, &mut sample[..count], from)?;
            hasher.write(&sample[..count]);
        }
        Ok(Self { at, digest: hasher.finish() })
    }

    /// Are they in `file` still? Waits for the disk.
    pub fn holds(self, file: &impl AsFd) -> bool {
        self.at == 0 || Self::of(file, self.at).is_ok_and(|found| found == self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_mark_knows_its_bytes_again_and_no_others() {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        let bytes: Vec<u8> = (0..=u8::MAX).flat_map(|n| [n; 79]).collect();
        for at in [1, 100, 4_096, 4_097, 9_000, 20_224] {
            let mark = Fingerprint::of(&file(&bytes), at).unwrap();
            assert!(mark.holds(&file(&bytes)));
            let end = usize::try_from(at).unwrap();
            assert!(mark.holds(&file(&bytes[..end])), "what comes behind is not looked at");
            assert!(!mark.holds(&file(&bytes[..end - 1])), "{at}: shorter");
            for changed in [0, end - 1] {
                let mut other = bytes.clone();
                other[changed] ^= 1;
                assert!(!mark.holds(&file(&other)), "{at}: byte {changed} is another");
            }
        }
        assert!(Fingerprint::default().holds(&file(b"")), "nothing is said");
        assert!(Fingerprint::of(&file(&bytes), 20_225).is_err());
    }
}
