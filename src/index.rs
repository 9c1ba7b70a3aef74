//! What package indexes tell of packages: names and sizes, record by record, in memory that does not grow with the
//! index.
//!
//! pkg_summary(5) and deb822(5) are both records of lines between empty lines, and differ in what stands between
//! name and value. Lines that are not asked about are passed over unseen, however long they are.

pub mod release;
pub mod unpack;

use std::io::{self, Read};

use memchr::memchr;

use crate::preset::Form;

/// The longest line that is looked at. Names of packages are far below it.
const LINE: usize = 4096;
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// A package as its index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its file, relative to where the index says names are.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// What is known of the record that is being read.
#[derive(Debug, Default)]
struct Record {
    name: Option<String>,
    /// The package's name, where the file's is that and an extension.
    package: Option<String>,
    size: Option<u64>,
}

/// Reads records out of pieces of an index.
#[derive(Debug)]
pub struct Records {
    form: Form,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// It has become too long.
    too_long: bool,
    record: Record,
}

impl Records {
    /// At the beginning of an index.
    pub fn new(form: Form) -> Self {
        Self { form, line: Vec::new(), too_long: false, record: Record::default() }
    }

    /// Takes the next piece, and hands each record that ends in it and tells both name and size to `found`.
    pub fn take(&mut self, mut piece: &[u8], found: &mut impl FnMut(Package)) {
        while let Some(end) = memchr(b'\n', piece) {
            self.add(&piece[..end]);
            self.end_line(found);
            piece = &piece[end + 1..];
        }
        self.add(piece);
    }

    /// The index ends here; its last record needs no empty line.
    pub fn end(mut self, found: &mut impl FnMut(Package)) {
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

    fn end_line(&mut self, found: &mut impl FnMut(Package)) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if self.too_long {
            // Nothing that is asked about is so long.
        } else if line.iter().all(u8::is_ascii_whitespace) {
            self.end_record(found);
        } else {
            self.record.note(self.form, line);
        }
        self.line.clear();
        self.too_long = false;
    }

    fn end_record(&mut self, found: &mut impl FnMut(Package)) {
        let record = std::mem::take(&mut self.record);
        let named = record.name.or_else(|| record.package.map(|name| name + ".tgz"));
        if let Some((name, size)) = named.zip(record.size) {
            found(Package { name, size });
        }
    }
}

impl Record {
    /// Takes what a line tells. Of a name or size told twice the first counts.
    fn note(&mut self, form: Form, line: &[u8]) {
        let (between, name, size) = match form {
            Form::PkgSummary => (b'=', "FILE_NAME", "FILE_SIZE"),
            Form::AptPackages => (b':', "Filename", "Size"),
        };
        let Some(at) = memchr(between, line) else { return };
        let (key, value) = (&line[..at], line[at + 1..].trim_ascii());
        let text = || std::str::from_utf8(value).ok().filter(|text| !text.is_empty());
        if key.eq_ignore_ascii_case(name.as_bytes()) {
            self.name = self.name.take().or_else(|| text().map(str::to_owned));
        } else if key.eq_ignore_ascii_case(size.as_bytes()) {
            self.size = self.size.or_else(|| text().and_then(number));
        } else if form == Form::PkgSummary && key == b"PKGNAME" {
            self.package = self.package.take().or_else(|| text().map(str::to_owned));
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads a whole index, packed or not, and hands each package to `found`. Blocks.
///
/// An error is the reader's, or tells that what is packed is damaged or larger than any index; packages before that
/// have been handed over.
pub fn read(
    form: Form,
    source: impl Read + Send + 'static,
    mut found: impl FnMut(Package),
) -> io::Result<()> {
    let mut unpacked = unpack::reader(source)?;
    let mut records = Records::new(form);
    let mut piece = vec![0; PIECE];
    loop {
        match unpacked.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => records.take(&piece[..count], &mut found),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    records.end(&mut found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packages(form: Form, text: &[u8]) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        read(form, io::Cursor::new(text.to_vec()), |package| found.push((package.name, package.size)))
            .unwrap();
        found
    }

    fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|&(name, size)| (name.to_owned(), size)).collect()
    }

    #[test]
    fn pkg_summary_5_records() {
        let text = "PKGNAME=watch-3.2.6nb1\nCOMMENT=Size=1\nSIZE_PKG=99\nFILE_NAME=watch-3.2.6nb1.tgz\nFILE_SIZE=12432\n\n\
                    PKGNAME=only-1.0\nFILE_SIZE=7\n\n\
                    PKGNAME=unsized-1.0\nFILE_NAME=unsized-1.0.tgz\n\n\
                    FILE_SIZE=5\n\n\n\
                    FILE_SIZE=+5\nFILE_NAME=sign.tgz\n\n\
                    FILE_NAME=crlf.tgz\r\nFILE_SIZE=3\r\n\r\n\
                    FILE_NAME=last-1.txz\nFILE_SIZE=18446744073709551615";
        let expected =
            [("watch-3.2.6nb1.tgz", 12432), ("only-1.0.tgz", 7), ("crlf.tgz", 3), ("last-1.txz", u64::MAX)];
        assert_eq!(packages(Form::PkgSummary, text.as_bytes()), named(&expected));
    }

    #[test]
    fn deb822_5_records() {
        let text = "Package: apt\nInstalled-Size: 4234\nDescription: manager\n Size: 1\n  Filename: no\n\
                    Filename: pool/main/a/apt/apt_2.6.1_amd64.deb\nSize: 1371748\nSize: 1\n\n\
                    Package: b\nfilename:./b.deb\nsize:\t9 \n \nPackage: c\nFilename:\nSize: 4\n\nSize: x\nFilename: d\n";
        let expected = [("pool/main/a/apt/apt_2.6.1_amd64.deb", 1_371_748), ("./b.deb", 9)];
        assert_eq!(packages(Form::AptPackages, text.as_bytes()), named(&expected));
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
        assert_eq!(found, [Package { name: "a.tgz".into(), size: 1 }]);
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
        fn what_is_written_is_read(packages in proptest::collection::vec(("[a-z0-9+./-]{1,30}", any::<u64>()), 0..20)) {
            let text: String =
                packages.iter().map(|(name, size)| format!("Size: {size}\nX: y\nFilename: {name}\n\n")).collect();
            prop_assert_eq!(tests::packages(Form::AptPackages, text.as_bytes()), packages);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for form in [Form::PkgSummary, Form::AptPackages] {
                // Bytes that look packed and are not are an error; either is fine.
                drop(read(form, io::Cursor::new(bytes.clone()), |_| {}));
            }
        }
    }
}
