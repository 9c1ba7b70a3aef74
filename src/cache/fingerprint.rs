//! A sampled fingerprint of a partial file. Other programs write files of the same names, and one that truncates and
//! rewrites a file leaves our attribute in place.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::AsFd;

use crate::sys::file;

/// Bytes sampled at the beginning of the file, and as many at the end of the fingerprinted part.
const SAMPLE: usize = 4096;

/// The fingerprint of the bytes before `at`. They never change while this process holds the file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fingerprint {
    /// Length of the fingerprinted part in bytes; 0 matches any file.
    pub at: u64,
    /// Digest of the samples. A version of the program with another digest fetches the file again.
    pub digest: u64,
}

impl Fingerprint {
    /// The fingerprint of the first `at` bytes of `file`. Waits for the disk. An error also if the file is shorter.
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

    /// Whether `file` matches it. Waits for the disk.
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
