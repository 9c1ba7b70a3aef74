//! Packed files: gzip, bzip2, xz and zstd, told apart by their first bytes and not by their names, since an index may
//! be named by its checksum.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError as Header};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest index read: the largest there are have some 200 MB.
const MOST: u64 = 1 << 30;
/// Memory of one decoder. Indexes are packed for windows of up to 64 MiB, and need a little more.
const MEMORY: u64 = 128 << 20;
/// Bytes at the beginning that tell how a file is packed.
const MAGIC: usize = 6;

/// A file from its beginning, after the first bytes were looked at.
type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Unpacks while it reads. What is not packed comes as it is. More than `MOST` bytes are an error, and so is a
/// file that would take more memory than a decoder may have.
pub(crate) fn reader<R: Read + Send + 'static>(mut source: R) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::with_capacity(MAGIC);
    source.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let source: Source<R> = BufReader::new(Cursor::new(magic.clone()).chain(source));
    let unpacked: Box<dyn Read> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(source)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let kib = u32::try_from(MEMORY / 1024).unwrap_or(u32::MAX);
            Box::new(XzReader::new_mem_limit(source, true, kib))
        }
        // A frame, or one to skip (RFC 8878 sections 3.1.1 and 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(Frames::new(source)),
        _ => Box::new(source),
    };
    Ok(Box::new(Bounded { unpacked, left: MOST }))
}

/// Gives an error instead of a byte too many.
struct Bounded<R> {
    unpacked: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.unpacked.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other("index too large"))?;
        Ok(count)
    }
}

/// The frames of a zstd file, one behind the other.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// Within a frame; else between two.
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MEMORY);
        Self { source, decoder, inside: false }
    }

    /// Begins a frame, or passes over one that holds nothing to read.
    fn begin(&mut self) -> io::Result<()> {
        let length = match self.decoder.init(&mut self.source) {
            Ok(()) => {
                self.inside = true;
                return Ok(());
            }
            Err(FrameDecoderError::ReadFrameHeaderError(Header::SkipFrame { length, .. })) => length.into(),
            Err(error) => return Err(io::Error::other(error)),
        };
        let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.inside {
                let count = self.decoder.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                if self.decoder.is_finished() {
                    self.inside = false;
                } else {
                    self.decoder
                        .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
            } else if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            } else {
                self.begin()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use std::io::Write;

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|line| format!("line {line} of an index\n").into_bytes()).collect()
    }

    fn unpacked(packed: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        reader(Cursor::new(packed))?.read_to_end(&mut out).map(|_| out)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn bzip2(text: &[u8]) -> Vec<u8> {
        let mut out = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// "FILE_NAME=a-1.tgz\nFILE_SIZE=5\n" as `xz` packs it.
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16,
        0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x1d, 0x46, 0x49, 0x4c, 0x45, 0x5f, 0x4e, 0x41,
        0x4d, 0x45, 0x3d, 0x61, 0x2d, 0x31, 0x2e, 0x74, 0x67, 0x7a, 0x0a, 0x46, 0x49, 0x4c, 0x45, 0x5f, 0x53,
        0x49, 0x5a, 0x45, 0x3d, 0x35, 0x0a, 0x00, 0x00, 0x00, 0x32, 0xfe, 0x5a, 0xdd, 0x2a, 0xc3, 0x06, 0x21,
        0x00, 0x01, 0x36, 0x1e, 0x3d, 0x19, 0x95, 0x53, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00,
        0x04, 0x59, 0x5a,
    ];

    #[test]
    fn each_packing_is_told_by_its_first_bytes() {
        let text = text();
        for packed in [text.clone(), gzip(&text), bzip2(&text), zstd(&text)] {
            assert_eq!(unpacked(packed).unwrap(), text);
        }
        assert_eq!(unpacked(XZ.to_vec()).unwrap(), b"FILE_NAME=a-1.tgz\nFILE_SIZE=5\n");
    }

    #[test]
    fn several_parts_in_one_file_are_all_read() {
        let twice = |packed: Vec<u8>| unpacked([packed.clone(), packed].concat()).unwrap();
        let expected = [&b"ab\n"[..], b"ab\n"].concat();
        for packed in [gzip(b"ab\n"), bzip2(b"ab\n"), zstd(b"ab\n")] {
            assert_eq!(twice(packed), expected);
        }
        assert_eq!(twice(XZ.to_vec()).len(), 60);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(b"ab\n")].concat();
        assert_eq!(unpacked(skipped).unwrap(), b"ab\n");
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        for packed in [gzip(&text()), bzip2(&text()), zstd(&text()), XZ.to_vec()] {
            assert!(unpacked(packed[..packed.len() - 9].to_vec()).is_err());
        }
        assert!(unpacked(vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn a_window_that_takes_too_much_memory_is_an_error() {
        // RFC 8878 section 3.1.1.1.2: the exponent 31 is a window of 2 TiB.
        assert!(unpacked(vec![0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3, 1, 0, 0]).is_err());
    }

    #[test]
    fn a_byte_too_many_is_an_error() {
        let mut out = Vec::new();
        assert!(Bounded { unpacked: &[0; 11][..], left: 10 }.read_to_end(&mut out).is_err());
        Bounded { unpacked: &[0; 10][..], left: 10 }.read_to_end(&mut out).unwrap();
    }

    #[test]
    fn files_shorter_than_any_magic_number_come_as_they_are() {
        for text in [&b""[..], b"B", b"BZhx", b"\x28\xb5"] {
            assert_eq!(unpacked(text.to_vec()).unwrap(), text);
        }
    }
}
