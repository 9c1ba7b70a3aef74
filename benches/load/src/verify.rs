//! Fetches files and compares every byte with what it must be.
//!
//! `--connect HOST:PORT` and the options of [`Files`] and [`Requests`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::args::{Args, Outcome};
use crate::content::{Files, hash, matches};
use crate::head::{self, Requests};

const BUFFER: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &Args) -> Outcome<()> {
    let address = args.connect()?;
    let requests = Requests::from_args(args, Files::from_args(args)?);
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        Ok::<_, String>(stream)
    };
    let mut stream = connect()?;
    let (mut request, mut path, mut bytes) = (Vec::new(), Vec::new(), 0);
    let files = requests.files();
    for serial in files.first..files.first + files.count {
        requests.write(serial, &mut request);
        path.clear();
        files.path(serial, &mut path);
        let answered = ask(&mut stream, &request, &path, files.size(serial));
        let close = answered.map_err(|error| format!("{}: {error}", String::from_utf8_lossy(&path)))?;
        bytes += files.size(serial);
        if close {
            stream = connect()?;
        }
    }
    println!(r#"{{"files": {}, "bytes": {bytes}}}"#, files.count);
    Ok(())
}

/// One request and its answer. Whether the connection closes after it.
fn ask(stream: &mut TcpStream, request: &[u8], path: &[u8], size: u64) -> Outcome<bool> {
    stream.write_all(request).map_err(|error| error.to_string())?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let response = loop {
        if let Some(response) = head::response(&buffer[..filled])? {
            break response;
        }
        filled += read(stream, &mut buffer[filled..])?;
    };
    if response.status != 200 || response.length != Some(size) {
        return Err(format!("{response:?}"));
    }
    let hash = hash(path);
    let (mut from, mut done) = (response.head, 0);
    loop {
        if !matches(hash, done, &buffer[from..filled]) {
            return Err(format!("wrong bytes behind offset {done}"));
        }
        done += (filled - from) as u64;
        if done >= size {
            break;
        }
        (from, filled) = (0, read(stream, &mut buffer)?);
    }
    if done > size { Err("more bytes than were announced".into()) } else { Ok(response.close) }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Outcome<usize> {
    match stream.read(buffer) {
        Ok(0) => Err("closed too early".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}
