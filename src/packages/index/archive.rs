//! Indexes that are tar archives: Arch's databases, Alpine's APKINDEX.tar.gz, FreeBSD's packagesite and data.

use std::io::{self, BufReader, Read};

use tar::Archive;

use super::leash::{Leash, Left};
use super::{Package, json, records};
use crate::preset::Form;

/// Reads the entries that tell of packages; `found` gets these.
pub(crate) fn read<R: Read>(form: Form, source: Leash<R>, found: &mut dyn FnMut(Package)) -> io::Result<()> {
    let left = source.left();
    let mut archive = Archive::new(source);
    // Alpine's is several archives, one behind the other.
    archive.set_ignore_zeros(true);
    for entry in archive.entries()? {
        let entry = entry?;
        left.renew();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path_bytes();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        drop(path);
        let mut entry = Renewing { source: entry, left: left.clone() };
        match (form, name.as_slice()) {
            (Form::Arch, b"desc") | (Form::Alpine, b"APKINDEX") => {
                records::read(form, BufReader::new(entry), found)?;
            }
            (Form::FreeBsd, b"packagesite.yaml") => json::read(json::Layout::Lines, leashed(entry), found)?,
            (Form::FreeBsd, b"data") => json::read(json::Layout::Data, leashed(entry), found)?,
            _ => drop(io::copy(&mut entry.source, &mut io::sink())?),
        }
    }
    Ok(())
}

fn leashed<R: Read>(source: R) -> Leash<BufReader<R>> {
    Leash::new(BufReader::new(source))
}

/// An entry whose readers hold themselves to the bound.
struct Renewing<R> {
    source: R,
    left: Left,
}

impl<R: Read> Read for Renewing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left.renew();
        self.source.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::index::Proof;
    use crate::packages::index::tests::{package, packages};
    use proptest::prelude::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn a_database_of_arch() {
        let long = format!("{}-1-1", "x".repeat(200));
        let desc = "%FILENAME%\na-1-1-any.pkg.tar.zst\n\n%CSIZE%\n12\n\n%DESC%\n%\nFILENAME\n\n%SHA256SUM%\nabc\n\n%MD5SUM%\ndef\n";
        let bytes = archive(&[
            ("a-1-1/desc", desc),
            ("a-1-1/files", "%FILES%\nusr/\n"),
            (&format!("{long}/desc"), "%FILENAME%\nlong\n%MD5SUM%\n1\n"),
            ("b-1-1/desc", "%NAME%\nb\n"),
        ]);
        let expected = [
            package("a-1-1-any.pkg.tar.zst", Some(12), Some((Proof::Sha256, "abc"))),
            package("long", None, Some((Proof::Md5, "1"))),
        ];
        assert_eq!(packages(Form::Arch, &bytes).unwrap(), expected);
    }

    #[test]
    fn an_index_of_alpine_is_archives_one_behind_the_other() {
        let signed = archive(&[(".SIGN.RSA.x.rsa.pub", "signature")]);
        let index = archive(&[
            ("DESCRIPTION", "v3.20"),
            (
                "APKINDEX",
                "C:Q1abc=\nP:a\nV:1.0-r0\nS:12\np:so:liba=1\nI:99\n\nP:b\nV:2-r1\nC:Q2x=\n\nP:c\n\n",
            ),
        ]);
        let expected = [
            package("a-1.0-r0.apk", Some(12), Some((Proof::Own, "Q1abc="))),
            package("b-2-r1.apk", None, Some((Proof::Own, "Q2x="))),
        ];
        // The first may end without its two empty blocks.
        let cut = signed.len() - 1024;
        for first in [&signed[..], &signed[..cut]] {
            let bytes = [first, &index].concat();
            assert_eq!(packages(Form::Alpine, &bytes).unwrap(), expected);
        }
    }

    #[test]
    fn a_catalogue_of_freebsd() {
        let lines = r#"{"name":"a","sum":"12ab","path":"All/a-1.pkg","repopath":"All/Hashed/a-1~x.pkg","pkgsize":7,"flatsize":9,"deps":{"b":{"path":"no"}}}
{"name":"b","path":"All/b.pkg","sum":"2$2$z"}
"#;
        let expected = [
            package("All/Hashed/a-1~x.pkg", Some(7), Some((Proof::Own, "12ab"))),
            package("All/b.pkg", None, Some((Proof::Own, "2$2$z"))),
        ];
        let bytes = archive(&[("packagesite.yaml.sig", "x"), ("packagesite.yaml", lines)]);
        assert_eq!(packages(Form::FreeBsd, &bytes).unwrap(), expected);
        let data = format!(r#"{{"groups":[{{}}],"packages":[{}]}}"#, lines.trim().replace('\n', ","));
        assert_eq!(packages(Form::FreeBsd, &archive(&[("data", &data)])).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn a_cut_archive_gives_what_is_before_the_cut(cut in 0_usize..4000) {
            let desc = "%FILENAME%\na.pkg.tar.zst\n%CSIZE%\n1\n";
            let whole = archive(&[("a-1-1/desc", desc), ("b-1-1/desc", desc)]);
            let mut count = 0;
            let bytes = whole[..cut.min(whole.len())].to_vec();
            drop(crate::packages::index::read(Form::Arch, io::Cursor::new(bytes), |_| count += 1));
            prop_assert!(count <= 2);
        }
    }
}
