//! Writes files with the bytes that the origin would send.
//!
//! `--directory DIR` and the options of [`Files`].

use std::fs::{File, create_dir_all};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::args::{Args, Outcome};
use crate::content::{BLOCK, Files, MARK, hash, mark, page};

pub fn run(args: &Args) -> Outcome<()> {
    let directory = args.text("directory").ok_or("--directory DIR is missing")?;
    let files = Files::from_args(args)?;
    let (mut path, mut made) = (Vec::new(), PathBuf::new());
    for serial in files.first..files.first + files.count {
        path.clear();
        files.path(serial, &mut path);
        let name = String::from_utf8_lossy(&path);
        let place = Path::new(directory).join(name.trim_start_matches('/'));
        let written = write(&place, &mut made, hash(&path), files.size(serial));
        written.map_err(|error| format!("{}: {error}", place.display()))?;
    }
    println!(r#"{{"files": {}}}"#, files.count);
    Ok(())
}

fn write(place: &Path, made: &mut PathBuf, hash: u64, size: u64) -> io::Result<()> {
    if let Some(parent) = place.parent().filter(|parent| *parent != made.as_path()) {
        create_dir_all(parent)?;
        *made = parent.to_path_buf();
    }
    let mut file = File::create(place)?;
    let mut block = page().to_vec();
    for number in 0..size.div_ceil(BLOCK as u64) {
        block[..MARK].copy_from_slice(&mark(hash, number));
        let length = (size - number * BLOCK as u64).min(BLOCK as u64) as usize;
        file.write_all(&block[..length])?;
    }
    Ok(())
}
