//! The indexes of an rpm repository: `primary.xml` and `repomd.xml`, read element by element.

use std::io::{self, BufRead};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::leash::Leash;
use super::{Package, Proof, decoded, number};

/// What the text of an element is.
enum Text {
    Sum(Option<Proof>),
    Size,
}

/// Reads all files, each an element of this name; `found` gets these. One that lies elsewhere (`xml:base`) is left out.
pub(crate) fn read<R: BufRead>(
    each: &str,
    source: Leash<R>,
    found: &mut dyn FnMut(Package),
) -> io::Result<()> {
    let left = source.left();
    let mut reader = Reader::from_reader(source);
    let (mut bytes, mut package) = (Vec::new(), Package::default());
    let mut next = None;
    loop {
        bytes.clear();
        match reader.read_event_into(&mut bytes).map_err(io::Error::other)? {
            Event::Start(element) if element.name().as_ref() == each => package = Package::default(),
            Event::Start(element) if element.name().as_ref() == "checksum" => {
                next = Some(Text::Sum(attribute(&element, "type").and_then(|name| Proof::named(&name))));
            }
            Event::Start(element) | Event::Empty(element) => {
                note(&mut package, &element);
                next = (element.name().as_ref() == "size").then_some(Text::Size);
            }
            Event::Text(text) => match next.take() {
                Some(Text::Sum(Some(kind))) => package.note(kind, text.trim_ascii()),
                Some(Text::Size) => package.size = package.size.or(number(text.trim_ascii())),
                Some(Text::Sum(None)) | None => {}
            },
            Event::End(element) if element.name().as_ref() == each => {
                left.renew();
                let package = std::mem::take(&mut package);
                if !package.name.is_empty() {
                    found(package);
                }
            }
            Event::Eof => return Ok(()),
            Event::End(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
}

/// What an element without content of its own tells.
fn note(package: &mut Package, element: &BytesStart<'_>) {
    match element.name().as_ref() {
        "size" => package.size = attribute(element, "package").and_then(|text| number(&text)),
        "location" if attribute(element, "xml:base").is_none() => {
            package.name = attribute(element, "href").map(decoded).unwrap_or_default();
        }
        _ => {}
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.attributes().flatten().find(|attribute| attribute.key.as_ref() == name)?;
    found.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::index::tests::{package, packages};
    use crate::preset::Form;
    use proptest::prelude::*;

    const PRIMARY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="3">
<package type="rpm"><name>a</name><arch>noarch</arch><version epoch="0" ver="1" rel="1"/>
  <checksum type="sha256" pkgid="YES">12ab</checksum>
  <summary>checksum &amp; size</summary><size package="7" installed="9" archive="11"/>
  <location href="Packages/a/a&amp;b-1.rpm"/>
  <format><rpm:size package="1"/><rpm:header-range start="1" end="2"/><file>/etc/a</file></format>
</package>
<package type="rpm"><checksum type="sha">x</checksum><location xml:base="http://else.example.org/" href="e.rpm"/></package>
<package type="rpm"><checksum type="new">y</checksum><location href="c%2B%2b.rpm"></location><size package="+1"/></package>
</metadata>"#;

    #[test]
    fn a_primary_index() {
        let expected = [
            package("Packages/a/a&b-1.rpm", Some(7), Some((Proof::Sha256, "12ab"))),
            package("c++.rpm", None, None),
        ];
        assert_eq!(packages(Form::Rpm, PRIMARY.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn an_entity_that_has_no_end_is_an_error() {
        let endless = [b"<package><name>".to_vec(), vec![b'x'; 20 << 20]].concat();
        assert!(packages(Form::Rpm, &endless).is_err());
    }

    proptest! {
        #[test]
        fn any_piece_of_it_is_read_without_a_panic(from in 0_usize..900, to in 0_usize..900) {
            let bytes = PRIMARY.as_bytes();
            drop(packages(Form::Rpm, bytes.get(from..to.min(bytes.len())).unwrap_or_default()));
        }
    }
}
