//! Starts a server and tells how long its first answer took, from the start of the process on.
//!
//! `--connect HOST:PORT`, `--cpu N`: where this tool goes once the server is started (which stays
//! where the tool was started), the options of [`Files`] and [`Requests`], and the command behind
//! `--`. The server is left running; its output goes to standard error.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::args::{Args, Outcome};
use crate::content::Files;
use crate::head::{self, Requests};
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(args: &Args) -> Outcome<()> {
    let address = args.connect()?;
    let requests = Requests::from_args(args, Files::from_args(args)?);
    let (program, words) = args.command().split_first().ok_or("no command behind --")?;
    let mut request = Vec::new();
    requests.write(requests.files().first, &mut request);
    let errors = std::io::stderr().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let started = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::from(errors)).spawn();
    let mut server = started.map_err(|error| format!("{program}: {error}"))?;
    sys::run_on(args.get("cpu", 0)?);
    let mut tries = 0;
    while !answered(address, &request)? {
        tries += 1;
        let ended = server.try_wait().map_err(|error| error.to_string())?;
        if let Some(status) = ended.filter(|status| !status.success()) {
            return Err(format!("the server ended: {status}"));
        }
        if begun.elapsed() > PATIENCE {
            return Err("no answer".into());
        }
        sys::give_way();
    }
    println!(r#"{{"ms": {:.3}, "refused": {tries}}}"#, begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// One try: false if nobody listens yet.
fn answered(address: SocketAddr, request: &[u8]) -> Outcome<bool> {
    let mut stream = match TcpStream::connect(address) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let fail = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
    stream.write_all(request).map_err(fail)?;
    let (mut buffer, mut filled) = ([0; 8192], 0);
    loop {
        match stream.read(&mut buffer[filled..]) {
            // A server that listens but is not ready yet may close.
            Ok(0) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error.to_string()),
            Ok(count) => filled += count,
        }
        match head::response(&buffer[..filled])? {
            None => {}
            Some(response) if response.status == 200 => return Ok(true),
            // Such as a 503 while the origin is not known yet.
            Some(_) => return Ok(false),
        }
    }
}
