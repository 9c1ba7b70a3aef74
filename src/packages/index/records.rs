//! Indexes that are lines: pkg_summary(5), deb822(5), Alpine's APKINDEX, and the entries of Arch's databases.
//!
//! The first three are records of lines between empty lines, and differ in what stands between name and value; in the
//! last a line with a name is followed by lines with values. Lines that are not asked about are passed over unseen,
//! however long they are.

use std::io::{self, BufRead, Read};

use super::{Package, Proof, listed, number};
use crate::preset::Form;

/// The longest line that is looked at. Names of packages are far below it.
const LINE: u64 = 4096;

/// Files of one source package that are looked at.
const FILES: usize = 64;

/// What is known of the record that is being read.
#[derive(Debug, Default)]
struct Record {
    package: Package,
    /// The package's name, and its version, where the file's is made of these.
    name: Option<String>,
    version: Option<String>,
    /// The last line that named what follows.
    heading: String,
    /// The files of a source package, and the directory that they are in.
    files: Vec<Package>,
    directory: String,
}

/// What a field of a record is.
enum Field {
    File,
    Size,
    Sum(Proof),
    /// `ALGORITHM CHECKSUM`.
    NamedSum,
    Name,
    Version,
}

impl Field {
    /// Names of fields of deb822(5) count in any case.
    fn of(form: Form, name: &str) -> Option<Self> {
        Some(match (form, name) {
            (Form::PkgSummary, "FILE_NAME") | (Form::Arch, "FILENAME") => Self::File,
            (Form::PkgSummary, "FILE_SIZE") | (Form::Arch, "CSIZE") | (Form::Alpine, "S") => Self::Size,
            (Form::PkgSummary, "BUILD_DATE") => Self::Sum(Proof::BuildDate),
            (Form::PkgSummary, "FILE_CKSUM") => Self::NamedSum,
            (Form::PkgSummary, "PKGNAME") | (Form::Alpine, "P") => Self::Name,
            (Form::Alpine, "V") => Self::Version,
            (Form::Alpine, "C") => Self::Sum(Proof::Own),
            (Form::AptPackages, name) if name.eq_ignore_ascii_case("Filename") => Self::File,
            (Form::AptPackages, name) if name.eq_ignore_ascii_case("Size") => Self::Size,
            (Form::AptPackages | Form::Arch, name) => Self::Sum(Proof::named(name)?),
            _ => return None,
        })
    }
}

/// Reads all records, and hands each package to `found`.
pub(crate) fn read(form: Form, mut source: impl BufRead, found: &mut dyn FnMut(Package)) -> io::Result<()> {
    let (mut line, mut record) = (Vec::new(), Record::default());
    while source.by_ref().take(LINE + 1).read_until(b'\n', &mut line)? > 0 {
        if line.len() as u64 > LINE && !line.ends_with(b"\n") {
            // Nothing that is asked about is so long.
            source.skip_until(b'\n')?;
        } else if let text @ [_, ..] = line.trim_ascii_end() {
            std::str::from_utf8(text).iter().for_each(|text| record.take(form, text));
        } else if form != Form::Arch {
            std::mem::take(&mut record).end(form, found);
        }
        line.clear();
    }
    // The last one needs no empty line.
    record.end(form, found);
    Ok(())
}

impl Record {
    /// Takes what a line tells. Of what is told twice the first counts.
    fn take(&mut self, form: Form, line: &str) {
        let told = match form {
            Form::AptSources => return self.take_of_source(line),
            Form::Arch => match line.trim_ascii().strip_prefix('%').and_then(|line| line.strip_suffix('%')) {
                Some(heading) => return heading.clone_into(&mut self.heading),
                None => Some((&*self.heading, line)),
            },
            Form::PkgSummary => line.split_once('='),
            Form::AptPackages | Form::Alpine | Form::Rpm | Form::FreeBsd | Form::Conda => {
                line.split_once(':')
            }
        };
        let Some((name, value)) = told else { return };
        let (value, package) = (value.trim_ascii(), &mut self.package);
        match Field::of(form, name).filter(|_| !value.is_empty()) {
            Some(Field::File) if package.name.is_empty() => value.clone_into(&mut package.name),
            Some(Field::Size) => package.size = package.size.or_else(|| number(value)),
            Some(Field::Sum(kind)) => package.note(kind, value),
            Some(Field::NamedSum) => {
                let (algorithm, sum) = value.split_once([' ', '\t']).unwrap_or_default();
                Proof::named(algorithm).iter().for_each(|kind| package.note(*kind, sum.trim_ascii()));
            }
            Some(Field::Name) => drop(self.name.get_or_insert_with(|| value.to_owned())),
            Some(Field::Version) => drop(self.version.get_or_insert_with(|| value.to_owned())),
            Some(Field::File) | None => {}
        }
    }

    /// A field, or a line of `CHECKSUM SIZE NAME` beneath one.
    fn take_of_source(&mut self, line: &str) {
        if !line.starts_with([' ', '\t']) {
            let (field, value) = line.split_once(':').unwrap_or_default();
            if field.eq_ignore_ascii_case("Directory") {
                value.trim_ascii().clone_into(&mut self.directory);
            }
            return field.clone_into(&mut self.heading);
        }
        let (Some(kind), Some([sum, size, name])) = (Proof::named(&self.heading), listed(line)) else {
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

    /// Hands over the package, if its file has a name, or the files of a source package.
    fn end(self, form: Form, found: &mut dyn FnMut(Package)) {
        for mut file in self.files {
            if !matches!(&*self.directory, "" | ".") {
                file.name = format!("{}/{}", self.directory, file.name);
            }
            found(file);
        }
        let mut package = self.package;
        if package.name.is_empty() {
            package.name = match (form, self.name, self.version) {
                (Form::PkgSummary, Some(name), _) => name + ".tgz",
                (Form::Alpine, Some(name), Some(version)) => format!("{name}-{version}.apk"),
                _ => return,
            };
        }
        found(package);
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
    fn a_line_without_end_costs_its_record_nothing() {
        let long = io::repeat(b'x').take(100 << 20);
        let source = b"FILE_NAME=a.tgz\nDEPENDS=".chain(long).chain(&b"\nFILE_SIZE=1\n"[..]);
        let mut found = Vec::new();
        read(Form::PkgSummary, io::BufReader::new(source), &mut |package| found.push(package)).unwrap();
        assert_eq!(found, [package("a.tgz", Some(1), None)]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[A-Z_=:\n \r0-9]{0,200}|(FILE_NAME=[a-c]{1,3}\n|FILE_SIZE=[0-9]{1,3}\n|\n){0,20}", cut in 1_usize..50) {
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            read(Form::PkgSummary, text.as_bytes(), &mut |package| whole.push(package)).unwrap();
            let pieces = io::BufReader::with_capacity(cut, text.as_bytes());
            read(Form::PkgSummary, pieces, &mut |package| parts.push(package)).unwrap();
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
