//! A static file server on monoio-http, to compare with. For loopback and trusted clients.

use std::error::Error;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Method, StatusCode, Version};
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::io::{AsyncWriteRentExt, OwnedWriteHalf, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use monoio_http::common::request::Request;
use monoio_http::common::response::Response;
use monoio_http::h1::codec::decoder::RequestDecoder;
use monoio_http::h1::codec::encoder::GenericEncoder;
use monoio_http::h1::payload::{FixedPayload, Payload};

/// A static file server on monoio-http, for benchmarks.
#[derive(argh::FromArgs)]
struct Options {
    /// directory to serve
    #[argh(option)]
    dir: PathBuf,
    /// port on 127.0.0.1
    #[argh(option)]
    port: u16,
}

fn main() -> std::io::Result<()> {
    let options: Options = argh::from_env();
    // As the program sets its own ring up: with the defaults, requests cost a third more.
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).build()?.block_on(serve(options))
}

async fn serve(options: Options) -> std::io::Result<()> {
    let root = Rc::new(options.dir);
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let root = root.clone();
        // A connection's error ends that connection only.
        monoio::spawn(async move { drop(converse(stream, &root).await) });
    }
}

/// One connection, to its end.
async fn converse(stream: TcpStream, root: &Path) -> Result<(), Box<dyn Error>> {
    let (read, mut write) = stream.into_split();
    let mut requests = RequestDecoder::new(read);
    while let Some(request) = requests.next().await {
        let request = request?;
        answer(&request, root, &mut write).await?;
        if !keeps_alive(&request) {
            break;
        }
    }
    Ok(())
}

async fn answer(
    request: &Request,
    root: &Path,
    write: &mut OwnedWriteHalf<TcpStream>,
) -> Result<(), Box<dyn Error>> {
    let known = matches!(*request.method(), Method::GET | Method::HEAD);
    let body = if known { read(root, request.uri().path()) } else { None };
    let status = match &body {
        Some(_) => StatusCode::OK,
        None if known => StatusCode::NOT_FOUND,
        None => StatusCode::METHOD_NOT_ALLOWED,
    };
    let body = body.unwrap_or_default();
    let connection = if keeps_alive(request) { "keep-alive" } else { "close" };
    if *request.method() == Method::HEAD {
        // The encoder writes the length of the body it sends, so a HEAD's is beyond it.
        let head = format!(
            "HTTP/1.1 {status}\r\n{CONTENT_LENGTH}: {}\r\n{CONNECTION}: {connection}\r\n\r\n",
            body.len()
        );
        write.write_all(head.into_bytes()).await.0?;
        return Ok(());
    }
    let body = Payload::Fixed(FixedPayload::new(Bytes::from(body)));
    let response: Response<Payload> =
        Response::builder().status(status).header(CONNECTION, connection).body(body)?;
    Ok(GenericEncoder::new(write).send_and_flush(response).await?)
}

/// The regular file that `path` names below `root`; none if there is no such file.
fn read(root: &Path, path: &str) -> Option<Vec<u8>> {
    let path = percent_encoding::percent_decode_str(path.strip_prefix('/')?).decode_utf8().ok()?;
    let path = Path::new(&*path);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    let mut file = File::open(inside.then(|| root.join(path))?).ok()?;
    let found = file.metadata().ok().filter(Metadata::is_file)?;
    let mut body = Vec::with_capacity(usize::try_from(found.len()).ok()?);
    file.read_to_end(&mut body).ok().map(|_| body)
}

fn keeps_alive(request: &Request) -> bool {
    let said = request.headers().get(CONNECTION).map_or("", |value| value.to_str().unwrap_or(""));
    match request.version() {
        Version::HTTP_11 => !said.eq_ignore_ascii_case("close"),
        _ => said.eq_ignore_ascii_case("keep-alive"),
    }
}
