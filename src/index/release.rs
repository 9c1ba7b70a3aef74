//! What a Release file of apt tells of the other members of its set: their checksums and sizes.
//!
//! The fields `MD5Sum`, `SHA1`, `SHA256` and `SHA512` hold one line for each file: checksum, size, path. An InRelease
//! is the same text within a signature (RFC 4880 section 7), whose lines look like none of these.

use std::collections::HashMap;

/// The largest Release file read. Those of whole distributions have some 300 KB.
pub const MOST: usize = 8 << 20;

/// A file as the Release file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its bytes.
    pub size: u64,
    /// The SHA-256 checksum, in hexadecimal digits, where it is told.
    pub sha256: Option<&'a str>,
}

/// The files listed, by their paths relative to the Release file.
pub fn files(text: &str) -> HashMap<&str, Listed<'_>> {
    let mut files: HashMap<&str, Listed<'_>> = HashMap::new();
    let mut field = None;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            field = line.split_once(':').map(|(name, _)| name);
            continue;
        }
        let is_sum = field.is_some_and(|field| {
            ["MD5Sum", "SHA1", "SHA256", "SHA512"].iter().any(|sum| sum.eq_ignore_ascii_case(field))
        });
        let mut words = line.split_ascii_whitespace();
        if let (true, Some(sum), Some(size), Some(path), None) =
            (is_sum, words.next(), words.next(), words.next(), words.next())
            && let Some(size) = super::number(size)
        {
            let listed = files.entry(path).or_insert(Listed { size, sha256: None });
            if field.is_some_and(|field| field.eq_ignore_ascii_case("SHA256")) {
                *listed = Listed { size, sha256: Some(sum) };
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_inrelease_file_lists_sizes_and_checksums() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nDate: Sat, 10 Feb 2024 11:07:25 UTC\n\
                    Description: x\n aa 1 no/such\nMD5Sum:\n 00ff 738242 contrib/Contents-all\n 11ff  9 main/only-md5\n\
                    SHA256:\n 3957f28d 738242 contrib/Contents-all\n ab +7 sign\n ab 7 two words\n ab\n\
                    Acquire-By-Hash: yes\n ab 7 after\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE 1 x\n=abc\n";
        let files = files(text);
        assert_eq!(files["contrib/Contents-all"], Listed { size: 738_242, sha256: Some("3957f28d") });
        assert_eq!(files["main/only-md5"], Listed { size: 9, sha256: None });
        assert_eq!(files.len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(SHA256:|MD5Sum:|[a-f0-9 \t\n:]|\\PC){0,60}") {
            for (path, _) in files(&text) {
                prop_assert!(text.contains(path));
            }
        }
    }
}
