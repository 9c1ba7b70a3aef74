//! What a Release file of apt tells of the other members of its set: their sizes.
//!
//! The fields `MD5Sum`, `SHA1`, `SHA256` and `SHA512` hold one line for each file: checksum, size, path. An InRelease
//! is the same text within a signature (RFC 4880 section 7), whose lines look like none of these.

use std::collections::HashMap;

/// The largest Release file read. Those of whole distributions have some 300 KB.
pub const MOST: usize = 8 << 20;

/// The fields that list files.
const SUMS: [&str; 4] = ["MD5Sum", "SHA1", "SHA256", "SHA512"];

/// The sizes of the files listed, by their paths relative to the Release file.
pub fn sizes(text: &str) -> HashMap<&str, u64> {
    let mut sizes = HashMap::new();
    let mut lists = false;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            let name = line.split_once(':').map_or("", |(name, _)| name);
            lists = SUMS.iter().any(|sum| sum.eq_ignore_ascii_case(name));
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        if let (true, Some(_), Some(size), Some(path), None) =
            (lists, words.next(), words.next(), words.next(), words.next())
            && let Some(size) = super::number(size)
        {
            sizes.insert(path, size);
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_inrelease_file_lists_sizes() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nDate: Sat, 10 Feb 2024 11:07:25 UTC\n\
                    Description: x\n aa 1 no/such\nMD5Sum:\n 00ff 738242 contrib/Contents-all\n 11ff  9 main/only-md5\n\
                    SHA256:\n 3957f28d 738242 contrib/Contents-all\n ab +7 sign\n ab 7 two words\n ab\n\
                    Acquire-By-Hash: yes\n ab 7 after\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE 1 x\n=abc\n";
        let sizes = sizes(text);
        assert_eq!((sizes["contrib/Contents-all"], sizes["main/only-md5"], sizes.len()), (738_242, 9, 2));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(SHA256:|MD5Sum:|[a-f0-9 \t\n:]|\\PC){0,60}") {
            for path in sizes(&text).into_keys() {
                prop_assert!(text.contains(path));
            }
        }
    }
}
