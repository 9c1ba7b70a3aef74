//! Opens connections, asks once on each, and holds them until its standard input ends.
//!
//! `--connect HOST:PORT`, `--connections N`, and the options of [`Files`] and [`Requests`].
//! Prints a line when all are open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::args::{Args, Outcome};
use crate::content::Files;
use crate::head::{self, Requests};
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(args: &Args) -> Outcome<()> {
    sys::raise_descriptors();
    let address = args.connect()?;
    let requests = Requests::from_args(args, Files::from_args(args)?);
    let wanted = args.get("connections", 1000)?;
    let serial = requests.files().first;
    let size = requests.files().size(serial) as usize;
    let mut request = Vec::new();
    requests.write(serial, &mut request);
    let mut held = Vec::new();
    for index in 0..wanted {
        let mut stream = sys::connect(address).map_err(|error| format!("connection {index}: {error}"))?;
        ask(&mut stream, &request, size).map_err(|error| format!("connection {index}: {error}"))?;
        held.push(stream);
    }
    println!(r#"{{"connections": {wanted}}}"#);
    // An end or an error of the input both say that it is over.
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
    Ok(())
}

fn ask(stream: &mut TcpStream, request: &[u8], size: usize) -> Outcome<()> {
    let fail = |error: std::io::Error| error.to_string();
    stream.set_nonblocking(false).map_err(fail)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
    stream.write_all(request).map_err(fail)?;
    let (mut buffer, mut filled) = (vec![0; size + (16 << 10)], 0);
    loop {
        match stream.read(&mut buffer[filled..]).map_err(fail)? {
            0 => return Err("closed".into()),
            count => filled += count,
        }
        if let Some(response) = head::response(&buffer[..filled])? {
            if response.status != 200 || response.close {
                return Err(format!("{response:?}"));
            }
            if filled >= response.head + size {
                return Ok(());
            }
        }
    }
}
