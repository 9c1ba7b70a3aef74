//! What one file of an index set tells of the others: their sizes and checksums.
//!
//! In a Release file of apt the fields `MD5Sum`, `SHA1`, `SHA256` and `SHA512` hold one line for each file: checksum,
//! size, path. An InRelease is the same text within a signature (RFC 4880 section 7), whose lines look like none of
//! these. `repomd.xml` of an rpm repository has an element `data` for each.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};

use sha2::digest::DynDigest;

use super::leash::Leash;
use super::{Package, Proof, Version, listed, number, xml};
use crate::preset::Lists;

/// The largest such file read. Those of whole distributions have some 300 KB.
pub(crate) const MOST: usize = 8 << 20;

/// Bytes summed at a time.
const PIECE: usize = 64 * 1024;

/// The files listed, by their paths. A damaged list tells what comes before the damage.
pub(crate) fn read(form: Lists, text: &[u8]) -> HashMap<String, Package> {
    let mut files = HashMap::new();
    match form {
        Lists::Release => release(&String::from_utf8_lossy(text), &mut files),
        Lists::Repomd => {
            let source = Leash::new(BufReader::new(io::Cursor::new(text.to_vec())));
            drop(xml::read("data", source, &mut |file| drop(files.insert(file.name.clone(), file))));
        }
    }
    files
}

fn release(text: &str, files: &mut HashMap<String, Package>) {
    let mut kind = None;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            kind = line.split_once(':').and_then(|(name, _)| Proof::named(name));
        } else if let (Some(kind), Some([sum, size, path])) = (kind, listed(line))
            && let Some(size) = number(size)
        {
            let file = files.entry(path.to_owned()).or_default();
            file.size = Some(size);
            file.note(kind, sum);
        }
    }
}

/// The checksum of all that the reader has. `None`: of this kind none can be made. Blocks.
pub(crate) fn sum(kind: Proof, mut reader: impl Read) -> io::Result<Option<Version>> {
    let Some(mut summed) = summing(kind) else { return Ok(None) };
    let mut piece = vec![0; PIECE];
    loop {
        match reader.read(&mut piece)? {
            0 => break,
            count => summed.update(&piece[..count]),
        }
    }
    let hex =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    Ok(Some(Version { kind, text: summed.finalize().iter().flat_map(hex).collect() }))
}

fn summing(kind: Proof) -> Option<Box<dyn DynDigest>> {
    Some(match kind {
        Proof::Md5 => Box::new(md5::Md5::default()),
        Proof::Sha1 => Box::new(sha1::Sha1::default()),
        Proof::Sha224 => Box::new(sha2::Sha224::default()),
        Proof::Sha256 => Box::new(sha2::Sha256::default()),
        Proof::Sha384 => Box::new(sha2::Sha384::default()),
        Proof::Sha512 => Box::new(sha2::Sha512::default()),
        Proof::BuildDate | Proof::Own => return None,
    })
}

/// Can one of this kind be made?
pub(crate) fn can_be_made(kind: Proof) -> bool {
    !matches!(kind, Proof::BuildDate | Proof::Own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::index::tests::package;
    use proptest::prelude::*;

    #[test]
    fn an_inrelease_file_lists_sizes_and_its_strongest_checksums() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nDate: Sat, 10 Feb 2024 11:07:25 UTC\n\
                    Description: x\n aa 1 no/such\nMD5Sum:\n 00ff 738242 contrib/Contents-all\n 11ff  9 main/only-md5\n\
                    SHA256:\n 3957f28d 738242 contrib/Contents-all\n ab +7 sign\n ab 7 two words\n ab\n\
                    Acquire-By-Hash: yes\n ab 7 after\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE 1 x\n=abc\n";
        let listed = read(Lists::Release, text.as_bytes());
        let file = |size, kind, sum| package("", Some(size), Some((kind, sum)));
        assert_eq!(listed["contrib/Contents-all"], file(738_242, Proof::Sha256, "3957f28d"));
        assert_eq!((&listed["main/only-md5"], listed.len()), (&file(9, Proof::Md5, "11ff"), 2));
    }

    #[test]
    fn a_repomd_file_lists_sizes_and_checksums_as_the_files_are() {
        let text = br#"<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>7</revision>
            <data type="primary"><checksum type="sha256">aa</checksum><open-checksum type="sha256">bb</open-checksum>
            <location href="repodata/aa-primary.xml.gz"/><timestamp>1</timestamp><size>12</size><open-size>99</open-size></data>
            <data type="other"><checksum type="sha">cc</checksum><location href="repodata/other.xml.gz"/></data></repomd>"#;
        let listed = read(Lists::Repomd, text);
        let primary = "repodata/aa-primary.xml.gz";
        assert_eq!(listed[primary], package(primary, Some(12), Some((Proof::Sha256, "aa"))));
        assert_eq!(listed["repodata/other.xml.gz"].version.as_ref().unwrap().kind, Proof::Sha1);
        assert_eq!(listed.len(), 2);
    }

    #[test]
    fn sums_of_every_kind_that_can_be_made() {
        // Of the text "abc": RFC 1321, FIPS 180-4.
        for (kind, expected) in [
            (Proof::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Proof::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Proof::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(sum(kind, &b"abc"[..]).unwrap().unwrap().text, expected);
        }
        for kind in [Proof::Sha224, Proof::Sha384, Proof::Sha512, Proof::Own, Proof::BuildDate] {
            assert_eq!(sum(kind, &b"abc"[..]).unwrap().is_some(), can_be_made(kind));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(SHA256:|MD5Sum:|<data>|</data>|<checksum type=\"md5\">|[a-f0-9 \t\n:]|\\PC){0,60}") {
            for path in read(Lists::Release, text.as_bytes()).into_keys() {
                prop_assert!(text.contains(&path));
            }
            read(Lists::Repomd, text.as_bytes());
        }
    }
}
