//! Indexes that are lines: pkg_summary(5), deb822(5), Alpine's APKINDEX, and the entries of Arch's databases.
//!
//! The first three are records of lines between empty lines, and differ in what stands between name and value; in the
//! last a line with a name is followed by lines with values. Lines that are not asked about are passed over unseen,
//! however long they are.

use std::io::{self, Read};

use memchr::memchr;

use super::{PIECE, Package, Proof, number};
use crate::preset::Form;

/// The longest line that is looked at. Names of packages are far below it.
const LINE: usize = 4096;

/// Files of one source package that are looked at.
const FILES: usize = 64;

/// What is known of the record that is being read.
#[derive(Debug, Default)]
struct Record {
    /// Its file name is given whole.
    named: bool,
    package: Package,
    /// The package's name, and its version, where the file's is made of these.
    name: Option<String>,
    version: Option<String>,
    /// The last line that named what follows.
    heading: Option<String>,
    /// The files of a source package, and the directory that they are in.
    files: Vec<Package>,
    directory: String,
}

/// Reads records out of pieces of an index.
#[derive(Debug)]
struct Records {
    form: Form,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// It has become too long.
    too_long: bool,
    record: Record,
}

/// Reads all records, and hands each package to `found`.
pub(crate) fn read(form: Form, mut source: impl Read, found: &mut dyn FnMut(Package)) -> io::Result<()> {
    let mut records = Records::new(form);
    let mut piece = vec![0; PIECE];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => records.take(&piece[..count], found),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    records.end(found);
    Ok(())
}

impl Records {
    /// At the beginning of an index.
    fn new(form: Form) -> Self {
        Self { form, line: Vec::new(), too_long: false, record: Record::default() }
    }

    /// Takes the next piece, and hands each record that ends in it and tells a name to `found`.
    fn take(&mut self, mut piece: &[u8], found: &mut dyn FnMut(Package)) {
        while let Some(end) = memchr(b'\n', piece) {
            self.add(&piece[..end]);
            self.end_line(found);
            piece = &piece[end + 1..];
        }
        self.add(piece);
    }

    /// The index ends here; its last record needs no empty line.
    fn end(mut self, found: &mut dyn FnMut(Package)) {
        self.end_line(found);
        self.end_record(found);
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.too_long || self.line.len() + bytes.len() > LINE {
            self.too_long = true;
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, found: &mut dyn FnMut(Package)) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if self.too_long {
            // Nothing that is asked about is so long.
        } else if !line.iter().all(u8::is_ascii_whitespace) {
            if let Ok(line) = std::str::from_utf8(line) {
                self.record.take(self.form, line);
            }
        } else if self.form != Form::Arch {
            self.end_record(found);
        }
        self.line.clear();
        self.too_long = false;
    }

    fn end_record(&mut self, found: &mut dyn FnMut(Package)) {
        let record = std::mem::take(&mut self.record);
        if self.form == Form::AptSources {
            record.files().for_each(found);
        } else if let Some(package) = record.package(self.form) {
            found(package);
        }
    }
}

impl Record {
    /// Takes what a line tells. Of what is told twice the first counts.
    fn take(&mut self, form: Form, line: &str) {
        if form == Form::Arch {
            return self.take_under_heading(line.trim_ascii());
        }
        if form == Form::AptSources {
            return self.take_of_source(line);
        }
        let between = if form == Form::PkgSummary { '=' } else { ':' };
        let Some((field, value)) = line.split_once(between) else { return };
        let value = value.trim_ascii();
        if value.is_empty() {
            return;
        }
        match form {
            Form::PkgSummary => self.note_summary(field, value),
            Form::Alpine => self.note_alpine(field, value),
            Form::AptPackages | Form::AptSources | Form::Rpm | Form::Arch | Form::FreeBsd | Form::Conda => {
                self.note_apt(field, value);
            }
        }
    }

    fn note_summary(&mut self, field: &str, value: &str) {
        match field {
            "FILE_NAME" => self.file(value),
            "FILE_SIZE" => self.size(value),
            "BUILD_DATE" => self.package.note(Proof::BuildDate, value),
            "FILE_CKSUM" => self.checksum(value),
            "PKGNAME" => self.name = self.name.take().or_else(|| Some(value.to_owned())),
            _ => {}
        }
    }

    /// Names of fields count in any case (deb822(5)).
    fn note_apt(&mut self, field: &str, value: &str) {
        // The last is what opkg calls it.
        const SUMS: [(&str, Proof); 5] = [
            ("MD5sum", Proof::Md5),
            ("SHA1", Proof::Sha1),
            ("SHA256", Proof::Sha256),
            ("SHA256sum", Proof::Sha256),
            ("SHA512", Proof::Sha512),
        ];
        if field.eq_ignore_ascii_case("Filename") {
            self.file(value);
        } else if field.eq_ignore_ascii_case("Size") {
            self.size(value);
        } else if let Some((_, kind)) = SUMS.iter().find(|(name, _)| field.eq_ignore_ascii_case(name)) {
            self.package.note(*kind, value);
        }
    }

    fn note_alpine(&mut self, field: &str, value: &str) {
        match field {
            "P" => self.name = self.name.take().or_else(|| Some(value.to_owned())),
            "V" => self.version = self.version.take().or_else(|| Some(value.to_owned())),
            "S" => self.size(value),
            "C" => self.package.note(Proof::Own, value),
            _ => {}
        }
    }

    fn take_under_heading(&mut self, line: &str) {
        if let Some(heading) = line.strip_prefix('%').and_then(|line| line.strip_suffix('%')) {
            self.heading = Some(heading.to_owned());
            return;
        }
        match self.heading.as_deref() {
            Some("FILENAME") => self.file(line),
            Some("CSIZE") => self.size(line),
            Some("MD5SUM") => self.package.note(Proof::Md5, line),
            Some("SHA256SUM") => self.package.note(Proof::Sha256, line),
            _ => {}
        }
    }

    /// A field, or a line of `CHECKSUM SIZE NAME` beneath one.
    fn take_of_source(&mut self, line: &str) {
        if !line.starts_with([' ', '\t']) {
            let (field, value) = line.split_once(':').unwrap_or_default();
            if field.eq_ignore_ascii_case("Directory") {
                value.trim_ascii().clone_into(&mut self.directory);
            }
            self.heading = Some(field.to_ascii_lowercase());
            return;
        }
        let kind = match self.heading.as_deref() {
            Some("files") => Proof::Md5,
            Some("checksums-sha1") => Proof::Sha1,
            Some("checksums-sha256") => Proof::Sha256,
            Some("checksums-sha512") => Proof::Sha512,
            _ => return,
        };
        let mut words = line.split_ascii_whitespace();
        let (Some(sum), Some(size), Some(name), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return;
        };
        let at = self.files.iter().position(|file| file.name == name).unwrap_or(self.files.len());
        if at == self.files.len() && at < FILES {
            self.files.push(Package { name: name.to_owned(), ..Package::default() });
        }
        if let Some(file) = self.files.get_mut(at) {
            file.size = file.size.or_else(|| number(size));
            file.note(kind, sum);
        }
    }

    /// The files of a source package.
    fn files(self) -> impl Iterator<Item = Package> {
        let directory = self.directory;
        self.files.into_iter().map(move |file| match &*directory {
            "" | "." => file,
            directory => Package { name: format!("{directory}/{}", file.name), ..file },
        })
    }

    /// `ALGORITHM CHECKSUM`; an algorithm that is not known tells nothing.
    fn checksum(&mut self, value: &str) {
        const ALGORITHMS: [(&str, Proof); 6] = [
            ("MD5", Proof::Md5),
            ("SHA1", Proof::Sha1),
            ("SHA224", Proof::Sha224),
            ("SHA256", Proof::Sha256),
            ("SHA384", Proof::Sha384),
            ("SHA512", Proof::Sha512),
        ];
        let Some((algorithm, sum)) = value.split_once([' ', '\t']) else { return };
        if let Some((_, kind)) = ALGORITHMS.iter().find(|(name, _)| algorithm.eq_ignore_ascii_case(name)) {
            self.package.note(*kind, sum.trim_ascii());
        }
    }

    fn file(&mut self, value: &str) {
        if !self.named {
            self.package.name = value.to_owned();
            self.named = true;
        }
    }

    fn size(&mut self, value: &str) {
        self.package.size = self.package.size.or_else(|| number(value));
    }

    /// The package, if its file has a name.
    fn package(self, form: Form) -> Option<Package> {
        let mut package = self.package;
        if !self.named {
            package.name = match (form, self.name, self.version) {
                (Form::PkgSummary, Some(name), _) => name + ".tgz",
                (Form::Alpine, Some(name), Some(version)) => format!("{name}-{version}.apk"),
                _ => return None,
            };
        }
        Some(package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::index::tests::{package, packages};
    use proptest::prelude::*;

    #[test]
    fn pkg_summary_5_records() {
        let text = "PKGNAME=watch-3.2.6nb1\nCOMMENT=Size=1\nSIZE_PKG=99\nFILE_NAME=watch-3.2.6nb1.tgz\nFILE_SIZE=12432\n\
                    BUILD_DATE=2024-01-01 00:00:00 +0000\n\n\
                    PKGNAME=only-1.0\nFILE_SIZE=7\nFILE_CKSUM=RMD160 ff\n\n\
                    PKGNAME=sum-1.0\nFILE_CKSUM=SHA512  ab\nBUILD_DATE=x\n\n\
                    PKGNAME=unsized-1.0\nFILE_NAME=unsized-1.0.txz\n\n\
                    FILE_SIZE=5\n\n\n\
                    FILE_SIZE=+5\nFILE_NAME=sign.tgz\n\n\
                    FILE_NAME=crlf.tgz\r\nFILE_SIZE=3\r\n\r\n\
                    FILE_NAME=last-1.txz\nFILE_SIZE=18446744073709551615";
        let built = Some((Proof::BuildDate, "2024-01-01 00:00:00 +0000"));
        let expected = [
            package("watch-3.2.6nb1.tgz", Some(12432), built),
            package("only-1.0.tgz", Some(7), None),
            package("sum-1.0.tgz", None, Some((Proof::Sha512, "ab"))),
            package("unsized-1.0.txz", None, None),
            package("sign.tgz", None, None),
            package("crlf.tgz", Some(3), None),
            package("last-1.txz", Some(u64::MAX), None),
        ];
        assert_eq!(packages(Form::PkgSummary, text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn deb822_5_records() {
        let text = "Package: apt\nInstalled-Size: 4234\nDescription: manager\n Size: 1\n  Filename: no\n\
                    Filename: pool/main/a/apt/apt_2.6.1_amd64.deb\nSize: 1371748\nSize: 1\nMD5sum: aa\nSHA256: bb\nSHA1: cc\n\n\
                    Package: b\nfilename:./b.deb\nsize:\t9 \nmd5Sum: dd\n \nPackage: c\nFilename:\nSize: 4\n\nSize: x\nFilename: d\n";
        let expected = [
            package("pool/main/a/apt/apt_2.6.1_amd64.deb", Some(1_371_748), Some((Proof::Sha256, "bb"))),
            package("./b.deb", Some(9), Some((Proof::Md5, "dd"))),
            package("d", None, None),
        ];
        assert_eq!(packages(Form::AptPackages, text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn deb822_5_source_records() {
        let text = "Package: a\nFiles:\n m1 10 a_1.dsc\n m2 20 a_1.tar.xz\nChecksums-Sha256:\n s1 10 a_1.dsc\n s2 20 a_1.tar.xz\n\
                    Description: x\n  s3 30 no\nDirectory: pool/a\n\nPackage: b\nDirectory: .\nchecksums-sha1: \n\
                    \tt1 +5 ./b.dsc\n t2 6\n t3 7 x y\n";
        let expected = [
            package("pool/a/a_1.dsc", Some(10), Some((Proof::Sha256, "s1"))),
            package("pool/a/a_1.tar.xz", Some(20), Some((Proof::Sha256, "s2"))),
            package("./b.dsc", None, Some((Proof::Sha1, "t1"))),
        ];
        assert_eq!(packages(Form::AptSources, text.as_bytes()).unwrap(), expected);
        let many: String = (0..999).map(|n| format!(" m 1 f{n}\n")).collect();
        assert_eq!(packages(Form::AptSources, format!("Files:\n{many}").as_bytes()).unwrap().len(), FILES);
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_costs_its_record_nothing() {
        let mut records = Records::new(Form::PkgSummary);
        let mut found = Vec::new();
        records.take(b"FILE_NAME=a.tgz\nDEPENDS=", &mut |package| found.push(package));
        for _ in 0..100 {
            records.take(&[b'x'; PIECE], &mut |package| found.push(package));
            assert!(records.line.capacity() <= 2 * LINE);
        }
        records.take(b"\nFILE_SIZE=1\n", &mut |package| found.push(package));
        records.end(&mut |package| found.push(package));
        assert_eq!(found, [package("a.tgz", Some(1), None)]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[A-Z_=:\n \r0-9]{0,200}|(FILE_NAME=[a-c]{1,3}\n|FILE_SIZE=[0-9]{1,3}\n|\n){0,20}", cut in 1_usize..50) {
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            let mut records = Records::new(Form::PkgSummary);
            records.take(text.as_bytes(), &mut |package| whole.push(package));
            records.end(&mut |package| whole.push(package));
            let mut records = Records::new(Form::PkgSummary);
            for piece in text.as_bytes().chunks(cut) {
                records.take(piece, &mut |package| parts.push(package));
            }
            records.end(&mut |package| parts.push(package));
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn what_is_written_is_read(names in proptest::collection::vec(("[a-z0-9+./-]{1,30}", any::<u64>(), "[0-9a-f]{64}"), 0..20)) {
            let text: String = names
                .iter()
                .map(|(name, size, sum)| format!("Size: {size}\nX: y\nSHA256: {sum}\nFilename: {name}\n\n"))
                .collect();
            let expected: Vec<_> =
                names.iter().map(|(name, size, sum)| package(name, Some(*size), Some((Proof::Sha256, sum)))).collect();
            prop_assert_eq!(packages(Form::AptPackages, text.as_bytes()).unwrap(), expected);
        }
    }
}
